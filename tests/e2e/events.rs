//! Events: taken, enriched, delivered.

use std::io::Write;
use std::sync::atomic::Ordering;

use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::support::client::Connection;
use crate::support::edge::{Setup, WRITE_KEY};
use crate::support::eventually;
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
    edge.becomes("doorstep_events_ended_total", &[("end", "delivered")], 8.0).await;
}

/// What an SDK reports about itself stands before no event.
#[tokio::test]
async fn reports_go_together_in_few_calls_and_wait_in_no_spool() {
    let vendor = Vendor::start().await;
    let edge = Setup::new(1).vendor(vendor.port()).start().await;
    let report = |n: usize| json!({"series": [{"type": "Counter", "metric": "m", "value": n}]});
    for n in 0..100 {
        assert_eq!(edge.event("m", &report(n)).send().await.status, 200);
    }
    assert_eq!(edge.event("t", &json!({"event": "x"})).send().await.status, 200);
    vendor.until(1).await;
    let values = || {
        let calls = vendor.events().into_iter().filter(|call| call.target == "/v1/m");
        let series = calls.flat_map(|call| call.json()["series"].as_array().unwrap().clone());
        series.map(|one| one["value"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    eventually("all reports", || async { (values().len() == 100).then_some(()) }).await;
    assert_eq!(values(), (0..100).collect::<Vec<_>>());
    let calls = vendor.events().iter().filter(|call| call.target == "/v1/m").count();
    assert!(calls <= 5, "{calls}");
    assert_eq!(edge.event("m", &json!({"metrics": 1})).send().await.status, 400);
    // While the vendor is away they are dropped, and no event is.
    vendor.mood.api_status.store(503, Ordering::SeqCst);
    assert_eq!(edge.event("t", &json!({"event": "y"})).send().await.status, 200);
    edge.becomes("doorstep_events_paused", &[], 1.0).await;
    let large = json!({"series": [{"metric": "x".repeat(20_000)}]});
    for _ in 0..10 {
        assert_eq!(edge.event("m", &large).send().await.status, 200);
    }
    edge.reaches("doorstep_events_dropped_total", &[("reason", "report")], 5.0).await;
    edge.becomes("doorstep_events_waiting", &[], 1.0).await;
}

#[tokio::test]
async fn an_event_of_a_batch_that_can_not_be_taken_costs_no_other_one() {
    let vendor = Vendor::start().await;
    let edge = Setup::new(1).vendor(vendor.port()).start().await;
    let event = |id: &str| json!({"type": "track", "event": "e", "messageId": id});
    let mut large = event("large");
    large["properties"] = json!({"x": "x".repeat(33_000)});
    let batch = json!({"batch": [event("a"), 5, large, event("b")]});
    let answer = edge.event("b", &batch).send().await;
    assert_eq!((answer.status, answer.json()["success"].as_bool()), (200, Some(true)));
    let refused = answer.json()["refused"].clone();
    let places: Vec<_> = refused.as_array().unwrap().iter().map(|one| &one["index"]).collect();
    assert_eq!(places, [1, 2]);
    assert!(refused[1]["message"].as_str().unwrap().contains("32768 bytes"), "{refused}");
    let taken = vendor.until(2).await;
    let ids: Vec<_> = taken.iter().map(|event| &event["messageId"]).collect();
    assert_eq!(ids, ["a", "b"]);
    // None of them: what is wrong with all.
    for (batch, status, code) in [
        (json!([large]), 413, "too_large"),
        (json!([large, 5]), 400, "malformed"),
        (json!([{"type": "delete", "userId": "john"}]), 400, "malformed"),
    ] {
        let answer = edge.event("b", &json!({ "batch": batch })).send().await;
        let told = answer.json();
        assert_eq!((answer.status, told["error"]["code"].as_str()), (status, Some(code)));
        assert_eq!(told["refused"][0]["index"], 0);
    }
    edge.reaches("doorstep_events_refused_total", &[("reason", "too_large")], 3.0).await;
    edge.becomes("doorstep_events_accepted_total", &[], 2.0).await;
}

/// A vendor counts what the edge adds.
#[tokio::test]
async fn an_event_is_refused_before_it_is_too_large_for_the_vendor() {
    let vendor = Vendor::start().await;
    let edge = Setup::new(1).vendor(vendor.port()).start().await;
    let mut statuses = std::collections::BTreeSet::new();
    for bytes in (32_000..32_700).step_by(20) {
        let body = json!({"event": "x", "properties": {"x": "x".repeat(bytes)}}).to_string();
        assert!(body.len() < 32_768);
        statuses.insert(edge.request("POST", "/seg/evs/t").body(body).send().await.status);
    }
    assert_eq!(statuses.into_iter().collect::<Vec<_>>(), [200, 413]);
    edge.becomes("doorstep_events_waiting", &[], 0.0).await;
    for event in vendor.delivered() {
        assert!(event.to_string().len() <= 32 * 1024);
    }
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
        (post("/seg/evs/t").header("Content-Encoding", "gzip").body(bomb()), 413, "too_large"),
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
                .body(json!({"batch": [{"type": "track", "a": "x".repeat(33_000)}]}).to_string()),
            413,
            "too_large",
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
        // What RudderStack's SDK adds to what it sends again, and what no field is called.
        .header(
            "Access-Control-Request-Headers",
            "content-type,rsa-recovered, rsa-retry-attempt,a b,",
        )
        .send()
        .await;
    assert_eq!(
        preflight.header("access-control-allow-headers"),
        Some("content-type, rsa-recovered, rsa-retry-attempt")
    );
    let foreign =
        edge.request("OPTIONS", "/seg/evs/t").header("Origin", "https://elsewhere.example");
    let foreign = foreign.header("Access-Control-Request-Headers", "rsa-recovered").send().await;
    assert_eq!((foreign.status, foreign.header("access-control-allow-headers")), (403, None));
    assert_eq!(
        (preflight.status, preflight.header("access-control-allow-methods")),
        (204, Some("GET, POST"))
    );
    let answer = edge.event("t", &json!({"event": "x"})).header("Origin", origin).send().await;
    for (name, value) in [
        ("access-control-allow-origin", origin),
        ("access-control-allow-credentials", "true"),
        ("access-control-expose-headers", "Retry-After"),
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
        // Shells and editors end what they write with a line feed.
        post()
            .header("Content-Encoding", "gzip")
            .body([gzip(event("feed").as_bytes()), b"\n".to_vec()].concat()),
    ] {
        assert_eq!(request.send().await.status, 200);
    }
    let events = vendor.until(4).await;
    let mut names: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["beacon", "blob", "feed", "gzip"]);
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
            // The disk of a busy machine may not follow: a client comes again.
            answer if answer.status == 503 => {}
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

    // Bodies that do not come take room from those of the same address first, then from one another, not from pages.
    let mut slow = Vec::new();
    for n in 0..2_u8 {
        let mut connection = Connection::open(edge.port).await;
        connection.write(format!("POST /seg/evs/t HTTP/1.1\r\nHost: shop.example\r\nX-Forwarded-For: 198.51.100.{n}\r\nContent-Length: 9\r\n\r\n{{")).await;
        slow.push(connection);
        edge.becomes("doorstep_requests_in_flight", &[], f64::from(n + 1)).await;
        if n == 0 {
            eventually("no room for the same", || async {
                (from("198.51.100.0").send().await.status == 429).then_some(())
            })
            .await;
            assert_eq!(from("192.0.2.3").send().await.status, 200);
            edge.reaches("doorstep_events_refused_total", &[("reason", "open")], 1.0).await;
        }
    }
    eventually("no room", || async {
        (from("192.0.2.3").send().await.status == 503).then_some(())
    })
    .await;
    assert_eq!(edge.get("/").await.status, 200);
    drop(slow);
    eventually("room again", || async {
        (from("192.0.2.4").send().await.status == 200).then_some(())
    })
    .await;
}

/// Gzip makes half a megabyte of some hundred bytes: what is kept counts.
#[tokio::test]
async fn one_address_can_not_fill_the_room_of_others() {
    let vendor = Vendor::start().await;
    vendor.mood.api_status.store(503, Ordering::SeqCst);
    let other = "- name: other\n  hosts: [other.example]\n  origin: { address: '127.0.0.1:1' }\n  vendor: { segment: { write_key: other-write-key, cdn: 'http://127.0.0.1:1', tracking_api: 'http://127.0.0.1:1/v1' } }";
    let edge = Setup::new(1)
        .vendor(vendor.port())
        .node("events: { disk: 8MiB, per_client: 0, bytes_per_client: 100KiB }\ntrusted_proxies: [127.0.0.1]")
        .another_site(other)
        .start()
        .await;
    let event = json!({"type": "track", "properties": {"x": "x".repeat(32_000)}});
    let batch = gzip(json!({ "batch": vec![event; 15] }).to_string().as_bytes());
    assert!(batch.len() < 8000, "{}", batch.len());
    let flood = |address: String| {
        let request = edge.request("POST", "/seg/evs/b").header("X-Forwarded-For", &address);
        request.header("Content-Encoding", "gzip").body(batch.clone())
    };
    // Of one address some of it a second.
    let mut seen = std::collections::BTreeMap::<u16, usize>::new();
    for _ in 0..40 {
        let answer = flood("192.0.2.1".into()).send().await;
        assert!(answer.status != 429 || answer.header("retry-after") == Some("1"));
        *seen.entry(answer.status).or_default() += 1;
    }
    assert!(seen[&429] > seen[&200], "{seen:?}");
    edge.reaches("doorstep_events_refused_total", &[("reason", "bytes")], 1.0).await;
    // Many addresses fill what this site may have of the room, and leave the last of it to visitors.
    for n in 2..60 {
        flood(format!("192.0.2.{n}")).send().await;
    }
    edge.reaches("doorstep_events_refused_total", &[("reason", "full")], 1.0).await;
    let small = |host: &str, n: usize| {
        let body = json!({"event": "x"}).to_string();
        let asked = format!(
            "POST /seg/evs/t HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-For: 198.51.100.{n}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        edge.raw(asked)
    };
    for n in 0..50 {
        for host in ["shop.example", "other.example"] {
            assert_eq!(small(host, n).await.unwrap().status, 200, "{host} {n}");
        }
    }
}
