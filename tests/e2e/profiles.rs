//! Profiles: pushed, found, and the page that they choose.

use serde_json::json;

use crate::support::edge::{Edge, Setup};
use crate::support::server::{Reply, Server};

const LOGIN: &str = "Basic dXNlcjpwYXNz"; // user:pass

async fn shop() -> (Edge, Server) {
    let origin = Server::start(|asked| Reply::html(format!("<head></head>{}", asked.target))).await;
    let edge = Setup::new(origin.port)
        .site("webhook: { username: user, password: pass }")
        .site("variations:\n- route: /\n  choose:\n  - { when: traits.red, path: /red }\n  - { when: 'traits.age > 40', path: /old }")
        .site("client_traits: { group: 'traits.red ? \"red\" : \"none\"', age: traits.age }")
        .start()
        .await;
    (edge, origin)
}

async fn push(edge: &Edge, push: &serde_json::Value) -> crate::support::client::Answer {
    let request = edge.request("POST", "/seg/profiles-webhook").header("Authorization", LOGIN);
    request.body(push.to_string()).send().await
}

#[tokio::test]
async fn a_profile_changes_the_page_under_the_same_address() {
    let (edge, _origin) = shop().await;
    let get = |cookie: &'static str| {
        edge.request("GET", "/?q=1").header("Accept", "text/html").header("Cookie", cookie).send()
    };
    assert!(get("ajs_user_id=john").await.text().ends_with("</head>/?q=1"));
    let pushed =
        push(&edge, &json!({"type": "identify", "userId": "john", "traits": {"red": true}})).await;
    assert_eq!(pushed.status, 200);
    // What is acknowledged shows on the very next page.
    let page = get("ajs_user_id=john").await;
    assert!(page.text().ends_with("</head>/red?q=1"), "{}", page.text());
    assert!(page.text().contains(r#""t":{"group":"red"}"#));
    assert_eq!(page.header("cache-control"), Some("private"));
    let exited = json!({"type": "track", "event": "Audience Exited", "userId": "john", "properties": {"audience_key": "red"}});
    assert_eq!(push(&edge, &exited).await.status, 200);
    assert!(get("ajs_user_id=john").await.text().ends_with("</head>/?q=1"));
    for (outcome, count) in [("unknown", 1.0), ("personalized", 2.0)] {
        edge.becomes("doorstep_personalization_total", &[("outcome", outcome)], count).await;
    }
    assert!(get("").await.text().ends_with("</head>/?q=1"));
    edge.becomes("doorstep_personalization_total", &[("outcome", "anonymous")], 1.0).await;
    edge.reaches("doorstep_profile_lookups_total", &[("tier", "store")], 3.0).await;
}

#[tokio::test]
async fn a_rule_that_fails_is_counted_and_the_page_goes_on() {
    let (edge, _origin) = shop().await;
    push(&edge, &json!({"type": "identify", "userId": "ann", "traits": {"age": "old"}})).await;
    let page = edge.request("GET", "/").header("Cookie", "ajs_user_id=ann").send().await;
    assert!(page.status == 200 && page.text().ends_with("</head>/"));
    edge.becomes("doorstep_rule_failures_total", &[], 1.0).await;
}

#[tokio::test]
async fn the_webhook_tells_what_it_will_not_take() {
    let (edge, _origin) = shop().await;
    let post = || edge.request("POST", "/seg/profiles-webhook").header("Authorization", LOGIN);
    let good = json!({"type": "identify", "userId": "a", "traits": {}}).to_string();
    for (request, status) in [
        (edge.request("POST", "/seg/profiles-webhook").body(good.clone()), 401),
        (post().header("Authorization", "Basic dXNlcjp4").body(good.clone()), 401),
        (post().body("[]"), 400),
        (post().body("x"), 400),
        (post().body(json!({"type": "page", "userId": "a"}).to_string()), 403),
        (post().body(json!({"type": "identify", "traits": {}}).to_string()), 400),
        (
            post().body(
                json!({"type": "identify", "userId": "a", "traits": {"x": "y".repeat(70_000)}})
                    .to_string(),
            ),
            422,
        ),
        (post().body(" ".repeat(1024 * 1024 + 1)), 413),
        (edge.request("GET", "/seg/profiles-webhook"), 405),
        (post().body(good), 200),
    ] {
        let answer = request.send().await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    let closed = Setup::new(1).start().await;
    let answer = closed
        .request("POST", "/seg/personas")
        .header("Authorization", LOGIN)
        .body("{}")
        .send()
        .await;
    assert_eq!(answer.status, 401, "a site without credentials takes nothing");
}

#[tokio::test]
async fn a_visitor_sees_its_own_traits_and_strangers_none() {
    let (edge, _origin) = shop().await;
    push(&edge, &json!({"type": "identify", "userId": "john", "traits": {"red": true, "age": 7, "secret": 1}})).await;
    let get = || edge.request("GET", "/seg/traits").header("Cookie", "ajs_user_id=john");
    let traits = get().send().await;
    assert_eq!(
        (traits.json(), traits.header("cache-control")),
        (json!({"age": 7, "group": "red"}), Some("private, no-store"))
    );
    let foreign = get().header("Origin", "https://evil.test").send().await;
    assert!(foreign.status == 403 && !foreign.text().contains("red"));
    assert_eq!(edge.get("/seg/traits").await.json(), json!({}));
}

#[tokio::test]
async fn profiles_survive_the_process() {
    let (mut edge, origin) = shop().await;
    push(&edge, &json!({"type": "identify", "userId": "john", "traits": {"red": true}})).await;
    edge.signal(nix::sys::signal::Signal::SIGKILL);
    edge.ended().await;
    let again = edge.restart().await;
    let page = again.request("GET", "/").header("Cookie", "ajs_user_id=john").send().await;
    assert!(page.text().ends_with("</head>/red"), "{}", page.text());
    drop(origin);
}
