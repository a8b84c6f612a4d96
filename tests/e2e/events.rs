//! Events: taken, enriched, delivered.

use std::io::Write;

use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::support::client::Connection;
use crate::support::edge::{Setup, WRITE_KEY};
use crate::support::server::{Reply, Server};
use crate::support::vendor::Vendor;

fn basic(key: &str) -> String {
    use base64::Engine;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{key}:")))
}

#[tokio::test]
async fn every_method_arrives_with_the_real_key_and_without_the_sites_cookies() {
    let vendor = Vendor::start().await;
    let edge = Setup::new(1).vendor(vendor.port()).start().await;
    for (count, (ours, theirs)) in [
        ("evs/t", "track"),
        ("evs/i", "identify"),
        ("evs/p", "page"),
        ("evs/s", "screen"),
        ("evs/g", "group"),
        ("evs/a", "alias"),
        ("events/track", "track"),
        ("events/identify", "identify"),
    ]
    .into_iter()
    .enumerate()
    {
        let event =
            json!({"type": "x", "writeKey": "REDACTED", "anonymousId": "b", "userId": "john"});
        let request = edge
            .request("POST", &format!("/seg/{ours}"))
            .header("Cookie", "sid=secret; ajs_anonymous_id=b");
        let request =
            request.header("Authorization", &basic("REDACTED")).header("User-Agent", "Browser/1");
        let answer = request.body(event.to_string()).send().await;
        assert_eq!((answer.status, answer.json()), (200, json!({"success": true})), "{ours}");
        let got = vendor.until(count + 1).await.pop().unwrap();
        assert_eq!(got["type"], theirs);
        assert_eq!(got["context"]["ip"], "127.0.0.1");
        assert_eq!(got["context"]["userAgent"], "Browser/1");
        assert_eq!(got.get("writeKey"), None);
    }
    for call in vendor.events() {
        assert_eq!(call.target, "/v1/batch");
        assert_eq!(call.header("authorization"), Some(basic(WRITE_KEY).as_str()));
        assert_eq!(
            (call.header("cookie"), call.header("content-type")),
            (None, Some("application/json"))
        );
        assert!(call.json()["sentAt"].is_string());
    }
    // The SDK's reports about itself go as they are.
    assert_eq!(edge.event("m", &json!({"series": []})).send().await.status, 200);
    vendor.server.until("/v1/m", 1).await;
    edge.becomes("doorstep_events_ended_total", &[("end", "delivered")], 9.0).await;
}

#[tokio::test]
async fn a_batch_arrives_enriched() {
    let vendor = Vendor::start().await;
    let edge = Setup::new(1).vendor(vendor.port()).start().await;
    let batch = json!({"writeKey": "REDACTED", "batch": [{"type": "page"}, {"type": "track", "event": "e"}]});
    let request = edge.event("b", &batch).header("Cookie", "ajs_anonymous_id=b; ajs_user_id=john");
    assert_eq!(request.send().await.status, 200);
    for event in vendor.until(2).await {
        assert_eq!((&event["anonymousId"], &event["userId"]), (&json!("b"), &json!("john")));
    }
    assert_eq!(vendor.events().len(), 1);
    edge.reaches("doorstep_events_accepted_total", &[], 2.0).await;
}

/// An SDK that sends its events together says no less who somebody is.
#[tokio::test]
async fn an_identify_of_a_batch_links_the_browser() {
    let vendor = Vendor::start().await;
    let edge = Setup::new(1).vendor(vendor.port()).start().await;
    let event = |kind: &str, user: &str| json!({"type": kind, "event": "e", "userId": user, "anonymousId": format!("of-{user}")});
    for (batch, linked) in [
        (json!([event("track", "ann"), event("identify", "ann")]), Some("of-ann")),
        (json!([event("track", "bob")]), None),
        (json!([event("identify", "cy"), event("track", "dan")]), None),
    ] {
        let request = edge.event("b", &json!({ "batch": batch }));
        assert_eq!(request.send().await.status, 200);
        for browser in ["of-ann", "of-bob", "of-cy", "of-dan"] {
            let (_, told) = edge.cli(&["profile", "get", &format!("anonymous_id:{browser}")]).await;
            let is = told.contains("user_id:");
            assert_eq!(is, linked == Some(browser) || browser == "of-ann", "{batch} {told}");
        }
    }
}

#[tokio::test]
async fn identify_sets_cookies_and_links_the_browser() {
    let vendor = Vendor::start().await;
    let origin = Server::start(|asked| Reply::html(format!("<head></head>{}", asked.target))).await;
    let edge = Setup::new(origin.port).vendor(vendor.port())
        .site("webhook: { username: u, password: p }\nvariations:\n- { route: /, choose: [{ when: traits.red, path: /red }] }")
        .start().await;
    let push = json!({"type": "identify", "userId": "john", "traits": {"red": true}});
    let pushed = edge
        .request("POST", "/seg/personas")
        .header("Authorization", "Basic dTpw")
        .body(push.to_string())
        .send()
        .await;
    assert_eq!(pushed.status, 200, "{}", pushed.text());
    let answer = edge
        .event("i", &json!({"type": "identify", "anonymousId": "b", "userId": "john"}))
        .send()
        .await;
    assert_eq!(answer.cookie("ajs_user_id").as_deref(), Some("john"));
    assert_eq!(answer.cookie("ajs_anonymous_id").as_deref(), Some("b"));
    assert!(answer.all("set-cookie").iter().all(|line| line.contains("HttpOnly")));
    // Known by either id from now on.
    for cookie in ["ajs_user_id=john", "ajs_anonymous_id=b"] {
        let page = edge.request("GET", "/?q=1").header("Cookie", cookie).send().await;
        assert!(page.text().ends_with("/red?q=1"), "{cookie}");
    }
    let again = edge
        .event("p", &json!({"anonymousId": "b", "userId": "john"}))
        .header("Cookie", "ajs_anonymous_id=b; ajs_user_id=john");
    assert!(again.send().await.header("set-cookie").is_none(), "nothing new, nothing set");
}

#[tokio::test]
async fn what_is_no_event_gets_a_clear_answer() {
    let vendor = Vendor::start().await;
    let edge = Setup::new(1).vendor(vendor.port()).start().await;
    let post = |target: &str| edge.request("POST", target);
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(40_000));
    for (request, status, code) in [
        (post("/seg/evs/t").body("[]"), 400, "malformed"),
        (post("/seg/evs/t").body("not json"), 400, "malformed"),
        (post("/seg/evs/t").body(""), 400, "malformed"),
        (post("/seg/evs/b").body("{}"), 400, "malformed"),
        (post("/seg/evs/t").body(large), 413, "too_large"),
        (post("/seg/evs/t").header("Content-Type", "image/png").body("{}"), 415, "media_type"),
        (post("/seg/evs/t").header("Content-Encoding", "gzip").body("{}"), 400, "malformed"),
        (post("/seg/evs/t").header("Content-Encoding", "zstd").body("{}"), 415, "media_type"),
        (post("/seg/evs/t").header("Content-Encoding", "gzip").body(bomb()), 400, "malformed"),
        (
            post("/seg/evs/t").body(format!("{}{}", "[".repeat(10_000), "]".repeat(10_000))),
            400,
            "malformed",
        ),
        (
            post("/seg/evs/t").body(format!(
                "{{\"a\":{}1{}}}",
                "[".repeat(10_000),
                "]".repeat(10_000)
            )),
            400,
            "malformed",
        ),
        (
            post("/seg/evs/b")
                .body(format!("{{\"batch\":[{{\"a\":\"{}\"}}]}}", "x".repeat(33_000))),
            400,
            "malformed",
        ),
        (post("/seg/evs/b").body(" ".repeat(501 * 1024)), 413, "too_large"),
        (
            post("/seg/evs/t").header("Origin", "https://evil.test").body("{}"),
            403,
            "foreign_origin",
        ),
        (edge.request("GET", "/seg/evs/t"), 405, "method"),
    ] {
        let answer = request.send().await;
        assert_eq!(
            (answer.status, answer.json()["error"]["code"].as_str()),
            (status, Some(code)),
            "{}",
            answer.text()
        );
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    // A chunked body is counted while it comes.
    let mut connection = Connection::open(edge.port).await;
    connection
        .write(
            "POST /seg/evs/t HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n",
        )
        .await;
    for _ in 0..6 {
        connection.write(format!("2000\r\n{}\r\n", "x".repeat(0x2000))).await;
    }
    assert_eq!(connection.answer("POST").await.unwrap().status, 413);
    assert!(vendor.events().is_empty());
    edge.reaches("doorstep_events_refused_total", &[], 15.0).await;
}

#[tokio::test]
async fn pages_of_a_sub_domain_may_send_events_with_credentials() {
    let vendor = Vendor::start().await;
    let edge = Setup::new(1).vendor(vendor.port()).start().await;
    let origin = "https://blog.shop.example";
    let preflight = edge
        .request("OPTIONS", "/seg/evs/t")
        .header("Origin", origin)
        .header("Access-Control-Request-Method", "POST")
        .send()
        .await;
    assert_eq!(
        (preflight.status, preflight.header("access-control-allow-methods")),
        (204, Some("GET, POST"))
    );
    let answer = edge.event("t", &json!({"event": "x"})).header("Origin", origin).send().await;
    for (name, value) in [
        ("access-control-allow-origin", origin),
        ("access-control-allow-credentials", "true"),
        ("vary", "origin"),
    ] {
        assert_eq!(
            (preflight.header(name), answer.header(name)),
            (Some(value), Some(value)),
            "{name}"
        );
    }
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_browser_that_leaves_has_its_event_taken() {
    let vendor = Vendor::start().await;
    let edge = Setup::new(1).vendor(vendor.port()).start().await;
    // Gone at once.
    let mut gone = Connection::open(edge.port).await;
    gone.write(edge.event("t", &json!({"event": "gone"})).bytes()).await;
    drop(gone);
    // Half-closed: nothing more to send, still listening.
    let mut half = Connection::open(edge.port).await;
    half.write(edge.event("t", &json!({"event": "half"})).bytes()).await;
    half.stream.shutdown().await.unwrap();
    assert_eq!(half.answer("POST").await.unwrap().status, 200);
    let events = vendor.until(2).await;
    let mut names: Vec<_> = events.iter().map(|event| event["event"].to_string()).collect();
    names.sort();
    assert_eq!(names, ["\"gone\"", "\"half\""]);
}

#[tokio::test]
async fn a_client_that_waits_to_be_asked_is_asked() {
    let vendor = Vendor::start().await;
    let edge = Setup::new(1).vendor(vendor.port()).start().await;
    let mut connection = Connection::open(edge.port).await;
    connection.write("POST /seg/evs/t HTTP/1.1\r\nHost: shop.example\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n").await;
    assert_eq!(connection.head().await.unwrap().status, 100);
    connection.write("{}").await;
    assert_eq!(connection.answer("POST").await.unwrap().status, 200);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

/// Small on the wire, and a megabyte of spaces.
fn bomb() -> Vec<u8> {
    gzip(&vec![b' '; 1024 * 1024])
}

#[tokio::test]
async fn beacons_and_packed_bodies_are_taken() {
    let vendor = Vendor::start().await;
    let edge = Setup::new(1).vendor(vendor.port()).start().await;
    let event = |name: &str| json!({ "event": name }).to_string();
    let post = || edge.request("POST", "/seg/evs/t");
    for request in [
        post().header("Content-Type", "text/plain;charset=UTF-8").body(event("beacon")),
        post().body(event("blob")),
        post().header("Content-Encoding", "gzip").body(gzip(event("gzip").as_bytes())),
    ] {
        assert_eq!(request.send().await.status, 200);
    }
    let events = vendor.until(3).await;
    let mut names: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["beacon", "blob", "gzip"]);
}

#[tokio::test]
async fn a_flood_is_stopped_and_others_are_served() {
    let vendor = Vendor::start().await;
    let origin = Server::start(|_| Reply::html("<head></head>")).await;
    let edge = Setup::new(origin.port)
        .vendor(vendor.port())
        .node("events: { per_client: 20, at_once: 2 }\ntrusted_proxies: [127.0.0.1]")
        .start()
        .await;
    let from =
        |address: &str| edge.event("t", &json!({"event": "x"})).header("X-Forwarded-For", address);
    let (mut taken, mut stopped) = (0, 0);
    for _ in 0..100 {
        match from("192.0.2.1").send().await {
            answer if answer.status == 200 => taken += 1,
            answer => {
                assert_eq!((answer.status, answer.header("retry-after")), (429, Some("1")));
                assert_eq!(answer.header("connection"), Some("close"));
                stopped += 1;
            }
        }
    }
    assert!(taken >= 20 && stopped > 0, "{taken} {stopped}");
    assert_eq!(from("192.0.2.2").send().await.status, 200);
    assert_eq!(edge.get("/").await.status, 200);
    edge.reaches("doorstep_events_refused_total", &[("reason", "rate")], 1.0).await;

    // Bodies that do not come take room from one another, not from pages.
    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut connection = Connection::open(edge.port).await;
        connection.write("POST /seg/evs/t HTTP/1.1\r\nHost: shop.example\r\nX-Forwarded-For: 192.0.2.9\r\nContent-Length: 9\r\n\r\n{").await;
        slow.push(connection);
    }
    edge.becomes("doorstep_requests_in_flight", &[], 2.0).await;
    crate::support::eventually("no room", || async {
        (from("192.0.2.3").send().await.status == 503).then_some(())
    })
    .await;
    assert_eq!(edge.get("/").await.status, 200);
    drop(slow);
    crate::support::eventually("room again", || async {
        (from("192.0.2.4").send().await.status == 200).then_some(())
    })
    .await;
}
