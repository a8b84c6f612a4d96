//! Profiles: pushed, found, and the page that they choose.

use serde_json::json;

use crate::support::edge::{Edge, Setup};
use crate::support::server::{Reply, Server};
use crate::support::vendor::Vendor;

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
    assert_eq!(page.header("cache-control"), Some("private, no-cache"));
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
    // The alert on this says that changes are not heard of; here there is nothing to hear.
    again.becomes("doorstep_profile_channel_up", &[], 1.0).await;
    let page = again.request("GET", "/").header("Cookie", "ajs_user_id=john").send().await;
    assert!(page.text().ends_with("</head>/red"), "{}", page.text());
    drop(origin);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

#[tokio::test]
async fn a_push_gives_both_secrets_where_both_are_set() {
    use ring::hmac;
    let origin = Server::start(|_| Reply::html("<head></head>")).await;
    let edge = Setup::new(origin.port)
        .site("webhook: { username: u, password: p, signing_secret: s3cret }")
        .start()
        .await;
    let body = json!({"type": "identify", "userId": "john", "traits": {"a": 1}}).to_string();
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"s3cret");
    let signature = hex(hmac::sign(&key, body.as_bytes()).as_ref());
    for (basic, signed, status) in
        [(true, true, 200), (true, false, 401), (false, true, 401), (false, false, 401)]
    {
        let mut push = edge.request("POST", "/seg/profiles-webhook").body(body.clone());
        if basic {
            push = push.header("Authorization", "Basic dTpw");
        }
        if signed {
            push = push.header("X-Signature", &signature);
        }
        assert_eq!(push.send().await.status, status, "{basic} {signed}");
    }
}

#[tokio::test]
async fn signed_and_compressed_batches_are_taken_and_told_apart() {
    use ring::hmac;
    let origin = Server::start(|_| Reply::html("<head></head>")).await;
    let edge = Setup::new(origin.port)
        .site("webhook: { signing_secret: s3cret }\nclient_traits: { a: traits.a, b: traits.b }")
        .start()
        .await;
    let lines = [
        json!({"type": "identify", "userId": "john", "traits": {"a": 1}}),
        json!({"type": "track", "event": "Order Completed", "userId": "john"}),
        json!({"type": "track", "event": "Audience Entered", "userId": "john", "properties": {"audience_key": "b"}}),
        json!({"type": "identify", "userId": "mary", "traits": {"a": "x".repeat(70_000)}}),
    ]
    .map(|line| line.to_string())
    .join("\n");
    let gzipped = {
        use std::io::Write;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(lines.as_bytes()).unwrap();
        gzip.finish().unwrap()
    };
    let sign = |algorithm, body: &[u8]| {
        hex(hmac::sign(&hmac::Key::new(algorithm, b"s3cret"), body).as_ref())
    };
    let post = |signature: &str| {
        edge.request("POST", "/seg/profiles-webhook").header("X-Signature", signature)
    };
    let wrong = sign(hmac::HMAC_SHA256, b"another body");
    assert_eq!(post(&wrong).body(lines.clone()).send().await.status, 401);
    assert_eq!(edge.request("POST", "/seg/personas").body(lines.clone()).send().await.status, 401);
    let sha1 = sign(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &gzipped);
    let taken = post(&sha1).header("Content-Encoding", "gzip").body(gzipped).send().await;
    assert_eq!(taken.status, 200, "{}", taken.text());
    let told = taken.json();
    assert_eq!(told["taken"], 2);
    let refused = told["refused"].as_array().unwrap();
    assert_eq!((&refused[0]["index"], &refused[1]["index"]), (&json!(1), &json!(3)));
    let traits = edge.request("GET", "/seg/traits").header("Cookie", "ajs_user_id=john");
    assert_eq!(traits.send().await.json(), json!({"a": 1, "b": true}));
    // There is nothing that could be signed.
    let delete = edge.request("DELETE", "/seg/profiles-webhook?user_id=john");
    assert_eq!(delete.header("X-Signature", &sha1).send().await.status, 401);
    // A megabyte, however small it came.
    let bomb = {
        use std::io::Write;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(&vec![b' '; 50 << 20]).unwrap();
        gzip.finish().unwrap()
    };
    let signature = sign(hmac::HMAC_SHA256, &bomb);
    let answer = post(&signature).header("Content-Encoding", "gzip").body(bomb).send().await;
    assert_eq!(answer.status, 413);
}

/// Who knows no password is slowed down, and holds no room that others need.
#[tokio::test]
async fn strangers_at_the_webhook_are_bounded() {
    use ring::hmac;
    let origin = Server::start(|_| Reply::html("<head></head>")).await;
    let edge = Setup::new(origin.port)
        .site("webhook: { signing_secret: s3cret }")
        .node("trusted_proxies: [127.0.0.1]")
        .start()
        .await;
    let body = json!({"type": "identify", "userId": "john", "traits": {"a": 1}}).to_string();
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"s3cret");
    let signature = hex(hmac::sign(&key, body.as_bytes()).as_ref());
    let post = async |host: &str, signature: &str| {
        let request = edge.request("POST", "/seg/profiles-webhook");
        let request = request.header("X-Forwarded-For", host).header("X-Signature", signature);
        request.body(body.clone()).send().await
    };
    // Bodies that nobody vouches for yet, and that do not end.
    let mut open = Vec::new();
    for _ in 0..4 {
        let head = "POST /seg/profiles-webhook HTTP/1.1\r\nHost: shop.example\r\n\
                    X-Forwarded-For: 192.0.2.1\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n";
        let mut connection = crate::support::client::Connection::open(edge.port).await;
        connection.write(head.as_bytes()).await;
        // It is being read once it is asked for.
        assert!(connection.until(b"100 Continue").await.is_some());
        open.push(connection);
    }
    assert_eq!(post("192.0.2.1", &signature).await.status, 503);
    assert_eq!(post("192.0.2.2", &signature).await.status, 200);
    drop(open);
    for _ in 0..10 {
        assert!(matches!(post("2001:db8::1", "00").await.status, 401 | 429));
    }
    let slowed = async || {
        for _ in 0..20 {
            let answer = post("2001:db8::2", "00").await;
            if answer.status == 429 {
                return answer;
            }
        }
        panic!("never slowed down");
    };
    assert_eq!(slowed().await.header("retry-after"), Some("60"));
    assert_eq!(post("2001:db8:0:1::1", &signature).await.status, 200);
    // Where somebody is known, others don't keep that sender out.
    for _ in 0..30 {
        assert_eq!(post("192.0.2.2", "00").await.status, 401);
    }
    assert_eq!(post("192.0.2.2", &signature).await.status, 200);
}

#[tokio::test]
async fn people_can_be_deleted_by_push_and_by_call() {
    let (edge, _origin) = shop().await;
    let get = |cookie: &'static str| edge.request("GET", "/").header("Cookie", cookie).send();
    for call in [true, false] {
        let red = json!({"type": "identify", "userId": "john", "anonymousId": "b", "traits": {"red": true}});
        assert_eq!(push(&edge, &red).await.status, 200);
        assert!(get("ajs_anonymous_id=b").await.text().ends_with("</head>/red"));
        if call {
            let target = "/seg/profiles-webhook?user_id=john";
            assert_eq!(edge.request("DELETE", target).send().await.status, 401);
            let delete = edge.request("DELETE", target).header("Authorization", LOGIN);
            assert_eq!(delete.send().await.status, 200);
        } else {
            let delete = json!({"type": "delete", "userId": "john"});
            assert_eq!(push(&edge, &delete).await.status, 200);
        }
        for cookie in ["ajs_user_id=john", "ajs_anonymous_id=b"] {
            assert!(get(cookie).await.text().ends_with("</head>/"), "{cookie}");
        }
        let late = json!({"type": "identify", "userId": "john", "timestamp": "2026-01-01T00:00:00Z", "traits": {"red": true}});
        assert_eq!(push(&edge, &late).await.status, 200);
        assert!(get("ajs_user_id=john").await.text().ends_with("</head>/"));
    }
    for target in ["", "?john", "?user_id=", "?user_id=a&x=b", "?User=a"] {
        let delete = edge.request("DELETE", &format!("/seg/profiles-webhook{target}"));
        assert_eq!(delete.header("Authorization", LOGIN).send().await.status, 400, "{target}");
    }
    edge.becomes("doorstep_profile_updates_total", &[("outcome", "deleted")], 2.0).await;
}

/// Killed in the middle of pushes, again and again: what was acknowledged is there.
#[tokio::test]
async fn what_was_acknowledged_survives_kills() {
    let (mut edge, _origin) = shop().await;
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let pushing = {
            let port = edge.port;
            tokio::spawn(async move {
                let mut done = Vec::new();
                for n in 0..10_000 {
                    let user = format!("u{round}-{n}");
                    let push = json!({"type": "identify", "userId": user, "traits": {"red": true}});
                    let Ok(stream) = tokio::net::TcpStream::connect(("127.0.0.1", port)).await
                    else {
                        break;
                    };
                    let mut connection = crate::support::client::Connection::over(stream);
                    let request =
                        crate::support::client::Request::new(port, "POST", "/seg/profiles-webhook")
                            .header("Authorization", LOGIN)
                            .body(push.to_string());
                    connection.write(request.bytes()).await;
                    match connection.answer("POST").await {
                        Some(answer) if answer.status == 200 => done.push(user),
                        _ => break,
                    }
                }
                done
            })
        };
        edge.reaches("doorstep_profile_updates_total", &[("outcome", "merged")], 50.0).await;
        edge.signal(nix::sys::signal::Signal::SIGKILL);
        edge.ended().await;
        let done = pushing.await.unwrap();
        assert!(done.len() >= 50, "{}", done.len());
        acknowledged.extend(done);
        edge = edge.restart().await;
    }
    for user in &acknowledged {
        let page = edge.request("GET", "/").header("Cookie", &format!("ajs_user_id={user}"));
        assert!(page.send().await.text().ends_with("</head>/red"), "{user}");
    }
}

/// A store or a disk that is full is an error to the sender, and costs nothing that is there.
#[tokio::test]
async fn a_full_store_tells_the_sender_to_wait_and_keeps_what_it_has() {
    // The tests' stores have room for 64 MiB.
    for file_kib in [None, Some(8 * 1024)] {
        let origin = Server::start(|_| Reply::html("<head></head>")).await;
        let mut setup = Setup::new(origin.port)
            .site("webhook: { username: user, password: pass }\nclient_traits: { n: traits.n }");
        if let Some(most) = file_kib {
            setup = setup.file_kib(most);
        }
        let edge = setup.start().await;
        let large = "x".repeat(60_000);
        let mut stored = 0;
        loop {
            let user = format!("u{stored}");
            let one =
                json!({"type": "identify", "userId": user, "traits": {"n": stored, "x": large}});
            match push(&edge, &one).await.status {
                200 => stored += 1,
                503 => break,
                other => panic!("{other}"),
            }
            assert!(stored < 2000);
        }
        edge.becomes("doorstep_profile_updates_total", &[("outcome", "failed")], 1.0).await;
        // Here, and in a process that has room again.
        let edge = {
            all_there(&edge, stored).await;
            edge.restart().await
        };
        all_there(&edge, stored).await;
        if file_kib.is_some() {
            let one = json!({"type": "identify", "userId": "late", "traits": {"n": 1}});
            assert_eq!(push(&edge, &one).await.status, 200);
        }
    }
}

async fn all_there(edge: &Edge, stored: i32) {
    for n in [0, stored / 2, stored - 1] {
        let get = edge.request("GET", "/seg/traits").header("Cookie", &format!("ajs_user_id=u{n}"));
        assert_eq!(get.send().await.json(), json!({"n": n}));
    }
}

/// At one computer: what a push names beside the person may be somebody else's by now.
#[tokio::test]
async fn a_pushed_deletion_deletes_nobody_else() {
    let origin = Server::start(|_| Reply::html("<head></head>")).await;
    let edge =
        Setup::new(origin.port).site("webhook: { username: user, password: pass }").start().await;
    for (user, browser) in [("john", "shared"), ("john", "johns"), ("mary", "shared")] {
        let identify = json!({"type": "identify", "userId": user, "anonymousId": browser, "traits": {"name": user}});
        assert_eq!(push(&edge, &identify).await.status, 200);
    }
    let own = json!({"type": "identify", "anonymousId": "alone", "traits": {"a": 1}});
    assert_eq!(push(&edge, &own).await.status, 200);
    let delete = json!({"type": "delete", "userId": "john", "anonymousId": "shared",
        "context": {"externalIds": [{"type": "anonymous", "id": "x"}]}});
    assert_eq!(push(&edge, &delete).await.status, 200);
    let delete = json!({"type": "delete", "userId": 404, "anonymousId": "alone"});
    assert_eq!(push(&edge, &delete).await.status, 200);
    let has = async |id: &str, text: &str| edge.cli(&["profile", "get", id]).await.1.contains(text);
    assert!(!has("user_id:john", "\"name\"").await && !has("anonymous_id:alone", "\"a\"").await);
    assert!(has("user_id:mary", "\"name\"").await && has("anonymous_id:shared", "mary").await);
}

/// What is known of one is not said of another.
#[tokio::test]
async fn an_event_carries_its_own_users_profile_alone() {
    let (origin, vendor) =
        (Server::start(|_| Reply::html("<head></head>")).await, Vendor::start().await);
    let edge = Setup::new(origin.port)
        .vendor(vendor.port())
        .site("webhook: { username: user, password: pass }\nenrich: { profile: [plan] }")
        .start()
        .await;
    let push_ann = json!({"type": "identify", "userId": "ann", "traits": {"plan": "gold"}});
    assert_eq!(push(&edge, &push_ann).await.status, 200);
    let ann = "ajs_user_id=ann; ajs_anonymous_id=b";
    for event in [
        json!({"event": "own"}),
        json!({"event": "own", "userId": "ann", "anonymousId": "b"}),
        json!({"event": "other", "userId": "bob", "anonymousId": "b"}),
        json!({"event": "other", "anonymousId": "c"}),
    ] {
        assert_eq!(edge.event("t", &event).header("Cookie", ann).send().await.status, 200);
    }
    for event in vendor.until(4).await {
        let told = event["context"].get("profile").is_some();
        assert_eq!(told, event["event"] == "own", "{event}");
    }
}
