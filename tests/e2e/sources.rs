//! Profiles that are asked for where they are: the vendor's API, when a visitor comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::support::edge::{Edge, Setup};
use crate::support::eventually;
use crate::support::server::{Piece, Reply, Server};

async fn origin() -> Server {
    Server::start(|asked| Reply::html(format!("<head></head>{}", asked.target))).await
}

/// A node that waits long enough for a source on this machine, however busy it is.
fn setup(origin: &Server) -> Setup {
    Setup::new(origin.port)
        .node("trusted_proxies: [127.0.0.1]")
        .node("profiles: { wait: 5s, memory: { fresh_for: 100ms, missing_for: 100ms } }")
        .site("client_traits: { red: traits.red, n: traits.n }")
}

async fn traits(edge: &Edge, cookie: &str) -> Value {
    edge.request("GET", "/seg/traits").header("Cookie", cookie).send().await.json()
}

/// The same from another address.
async fn traits_at(edge: &Edge, cookie: &str, host: u8) -> Value {
    let request = edge.request("GET", "/seg/traits").header("Cookie", cookie);
    request.header("X-Forwarded-For", &format!("192.0.2.{host}")).send().await.json()
}

fn json_reply(status: u16, body: &Value) -> Reply {
    Reply::new(status, &["Content-Type: application/json"], body.to_string())
}

fn http_json(port: u16, pull: &str) -> String {
    format!(
        "profile_source: {{ http_json: {{ url: 'http://127.0.0.1:{port}/people/{{id_type}}/{{id}}?v=1', \
         headers: {{ authorization: 'Bearer secret' }}, pointer: /data, pull: {{ {pull} }} }} }}"
    )
}

#[tokio::test]
async fn segments_profiles_api_is_followed_to_its_end() {
    let api = Server::start(|asked| {
        let front = "/v1/spaces/spa_1/collections/users/profiles/user_id:john/traits?limit=200";
        match asked.target.as_str() {
            target if target == front => json_reply(
                200,
                &json!({
                    "traits": {"red": true},
                    "cursor": {"url": "/x", "has_more": true, "next": "abc=", "limit": 200}
                }),
            ),
            target if target == format!("{front}&next=abc%3D") => json_reply(
                200,
                &json!({
                    "traits": {"n": 7}, "cursor": {"has_more": false, "next": ""}
                }),
            ),
            _ => json_reply(404, &json!({"error": {"code": "not_found", "message": "no"}})),
        }
    })
    .await;
    let origin = origin().await;
    let yaml = format!(
        "vendor: {{ segment: {{ write_key: a-write-key-123, profiles_api: {{ space: spa_1, token: tok, address: 'http://127.0.0.1:{}/v1' }} }} }}",
        api.port
    );
    let edge = setup(&origin).vendor_yaml(&yaml).start().await;
    assert_eq!(traits(&edge, "ajs_user_id=john").await, json!({"red": true, "n": 7}));
    let asked = api.asked();
    assert_eq!(asked.len(), 2, "{asked:#?}");
    // printf 'tok:' | base64
    assert!(asked.iter().all(|one| one.header("authorization") == Some("Basic dG9rOg==")));
    assert_eq!(traits(&edge, "ajs_anonymous_id=b").await, json!({}));
    assert!(api.asked()[2].target.contains("/profiles/anonymous_id:b/traits"));
    let lookups = "doorstep_profile_lookups_total";
    edge.becomes(lookups, &[("tier", "source"), ("result", "hit")], 1.0).await;
    edge.becomes(lookups, &[("tier", "source"), ("result", "missing")], 1.0).await;
}

#[tokio::test]
async fn rudderstacks_activation_api_is_asked_as_documented() {
    let api = Server::start(|_| {
        json_reply(200, &json!({"entity": "user", "data": {"p:view": {"red": true, "n": 1}}}))
    })
    .await;
    let origin = origin().await;
    let source = format!(
        "profile_source: {{ rudderstack: {{ destination: d1, token: tok, address: 'http://127.0.0.1:{}/v1' }} }}",
        api.port
    );
    let edge = setup(&origin).site(&source).start().await;
    assert_eq!(traits(&edge, "ajs_user_id=john").await, json!({"red": true, "n": 1}));
    let asked = api.only();
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("POST", "/v1/activation"));
    assert_eq!(asked.header("authorization"), Some("Bearer tok"));
    let id = json!({"type": "user_id", "value": "john"});
    assert_eq!(asked.json(), json!({"entity": "user", "destinationId": "d1", "id": id}));
}

/// A thousand first visits of one visitor, one question; and the answer is stored: another process
/// does not ask again.
#[tokio::test]
async fn a_thousand_first_visits_ask_once_and_the_answer_is_stored() {
    let api = Server::start(|_| json_reply(200, &json!({"data": {"red": true}}))).await;
    let origin = origin().await;
    let edge = setup(&origin).site(&http_json(api.port, "")).start().await;
    let visits = (0..1000).map(|_| traits(&edge, "ajs_user_id=john"));
    let visits: Vec<Value> = {
        use futures::StreamExt;
        futures::stream::iter(visits).buffer_unordered(200).collect().await
    };
    assert!(visits.iter().all(|one| *one == json!({"red": true})));
    let asked = api.only();
    assert_eq!(asked.target, "/people/user_id/john?v=1");
    assert_eq!(asked.header("authorization"), Some("Bearer secret"));
    let edge = edge.restart().await;
    assert_eq!(traits(&edge, "ajs_user_id=john").await, json!({"red": true}));
    assert_eq!(api.asked().len(), 1);
}

/// In all of these a page goes on in time, and the source is left alone after a few of them.
#[tokio::test]
async fn a_source_that_fails_is_left_alone() {
    for (name, reply) in [
        ("garbage", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{nope"),
        ("500", "HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n"),
        ("401", "HTTP/1.1 401 X\r\nContent-Length: 0\r\n\r\n"),
        ("nothing", ""),
        ("not http", "220 smtp ready\r\n"),
    ] {
        let api =
            Server::start(move |_| Reply(vec![Piece::Bytes(reply.into()), Piece::Close])).await;
        let origin = origin().await;
        let edge = setup(&origin).site(&http_json(api.port, "timeout: 1s")).start().await;
        // One visitor's failures say nothing of the others'.
        for n in 0..6 {
            assert_eq!(traits(&edge, &format!("ajs_user_id=own{n}")).await, json!({}), "{name}");
        }
        edge.becomes("doorstep_profile_source_paused", &[], 0.0).await;
        for n in 0..4 {
            assert_eq!(
                traits_at(&edge, &format!("ajs_user_id=u{n}"), n).await,
                json!({}),
                "{name}"
            );
        }
        edge.becomes("doorstep_profile_source_paused", &[], 1.0).await;
        let asked = api.asked().len();
        assert_eq!(traits(&edge, "ajs_user_id=another").await, json!({}), "{name}");
        assert_eq!(api.asked().len(), asked, "{name}: it is given a pause");
        let page = edge.request("GET", "/").header("Cookie", "ajs_user_id=u1").send().await;
        assert_eq!(page.status, 200);
    }
}

#[tokio::test]
async fn a_source_that_asks_for_a_pause_gets_it_and_is_asked_again() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let api = Server::start(move |_| {
        if counted.fetch_add(1, Ordering::SeqCst) < 3 {
            Reply::new(429, &["Retry-After: 3600"], "")
        } else {
            json_reply(200, &json!({"data": {"red": true}}))
        }
    })
    .await;
    let origin = origin().await;
    let edge = setup(&origin).site(&http_json(api.port, "")).start().await;
    // What it says of one visitor says nothing of the others.
    for _ in 0..2 {
        assert_eq!(traits(&edge, "ajs_user_id=john").await, json!({}));
    }
    edge.becomes("doorstep_profile_source_paused", &[], 0.0).await;
    assert_eq!(traits_at(&edge, "ajs_user_id=mary", 2).await, json!({}));
    edge.becomes("doorstep_profile_source_paused", &[], 1.0).await;
    assert_eq!(traits(&edge, "ajs_user_id=john").await, json!({}));
    assert_eq!(count.load(Ordering::SeqCst), 3);
    eventually("asked again", || async {
        (traits(&edge, "ajs_user_id=john").await == json!({"red": true})).then_some(())
    })
    .await;
    edge.becomes("doorstep_profile_source_paused", &[], 0.0).await;
}

/// A source that takes its time is waited for once; its answer serves the next page, and is renewed
/// behind the visitor's back.
#[tokio::test]
async fn a_steady_visitor_never_waits_for_the_source() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let gate = Arc::new(tokio::sync::Notify::new());
    let wait = Arc::clone(&gate);
    let api = Server::start(move |_| {
        let n = counted.fetch_add(1, Ordering::SeqCst) + 1;
        let answer = json_reply(200, &json!({"data": {"n": n}}));
        let mut pieces = vec![Piece::Wait(Arc::clone(&wait))];
        pieces.extend(answer.0);
        Reply(pieces)
    })
    .await;
    let origin = origin().await;
    let edge = Setup::new(origin.port)
        .node("profiles: { wait: 25ms, memory: { fresh_for: 50ms } }")
        .site("client_traits: { n: traits.n }")
        .site(&http_json(api.port, "fresh_for: 500ms, timeout: 20s"))
        .start()
        .await;
    assert_eq!(traits(&edge, "ajs_user_id=john").await, json!({}), "late");
    gate.notify_one();
    eventually("there", || async {
        (traits(&edge, "ajs_user_id=john").await == json!({"n": 1})).then_some(())
    })
    .await;
    // It is asked again before its answer ends, and until it answers the old one serves.
    eventually("asked again", || async {
        assert_eq!(traits(&edge, "ajs_user_id=john").await, json!({"n": 1}));
        (count.load(Ordering::SeqCst) == 2).then_some(())
    })
    .await;
    gate.notify_one();
    eventually("renewed", || async {
        (traits(&edge, "ajs_user_id=john").await == json!({"n": 2})).then_some(())
    })
    .await;
}

/// Ids that are made up ask the source no more than a household does, and never for another resource.
#[tokio::test]
async fn made_up_ids_are_bounded_and_lead_nowhere_else() {
    let api = Server::start(|_| json_reply(200, &json!({"data": {"red": true}}))).await;
    let origin = origin().await;
    let edge = setup(&origin).site(&http_json(api.port, "")).start().await;
    for id in ["..", "."] {
        assert_eq!(traits(&edge, &format!("ajs_user_id={id}")).await, json!({}), "{id}");
    }
    assert!(api.asked().is_empty(), "{:?}", api.asked());
    let ids = (0..300).map(|n| format!("ajs_user_id=made-up-{n}")).collect::<Vec<_>>();
    for some in ids.chunks(20) {
        futures::future::join_all(some.iter().map(|id| traits(&edge, id))).await;
    }
    // Two of its minutes at the most.
    let asked = api.asked().len();
    assert!((100..=240).contains(&asked), "{asked}");
    assert_eq!(traits_at(&edge, "ajs_user_id=john", 7).await, json!({"red": true}));
}
