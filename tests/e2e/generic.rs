//! Vendors that are known by rules alone.

use serde_json::json;

use crate::support::edge::{Edge, Setup};
use crate::support::eventually;
use crate::support::server::{Asked, Reply, Server};

async fn vendor() -> Server {
    Server::start(|asked| match asked.target.split('?').next().unwrap_or_default() {
        "/base/js/matomo.js" => Reply::new(
            200,
            &["Content-Type: text/javascript", "Cache-Control: max-age=60", "Set-Cookie: vendor=1"],
            "matomo()",
        ),
        "/base/js/away.js" => Reply::new(302, &["Location: https://vendor.test/"], ""),
        "/base/track" => Reply::new(204, &[], ""),
        "/base/refuses" => Reply::new(404, &[], "no"),
        other => {
            Reply::new(200, &["Content-Type: text/plain"], format!("{} {other}", asked.method))
        }
    })
    .await
}

async fn edge(vendor: &Server) -> Edge {
    edge_with(vendor, "").await
}

async fn edge_with(vendor: &Server, node: &str) -> Edge {
    let rules = "rules: [\
        { path: /matomo.js, upstream: /js/matomo.js },\
        { path: '/plugins/*', upstream: '/js/*', methods: [GET, POST], body: 1KiB },\
        { path: /matomo.php, upstream: /track, methods: [POST], forward: [content-type, user-agent], body: 1KiB, spooled: true },\
        { path: /refuses, methods: [POST], spooled: true }]";
    Setup::new(1)
        .vendor_yaml(&format!(
            "vendor: {{ generic: [{{ name: matomo, address: 'http://127.0.0.1:{}/base', headers: {{ x-key: s3cret }}, {rules} }}] }}",
            vendor.port
        ))
        .site("consent: { limited: request.cookies.no == '1' }")
        .node(node)
        .start()
        .await
}

fn last(vendor: &Server, target: &str) -> Asked {
    vendor.asked().into_iter().rfind(|asked| asked.target.starts_with(target)).unwrap()
}

#[tokio::test]
async fn files_are_fetched_in_line_without_the_visitors_own() {
    let vendor = vendor().await;
    let edge = edge(&vendor).await;
    let file = edge
        .request("GET", "/seg/matomo.js?v=1")
        .header("Cookie", "sid=1")
        .header("User-Agent", "B/1")
        .send()
        .await;
    assert_eq!((file.status, file.text().as_str()), (200, "matomo()"));
    assert_eq!(
        (file.header("content-type"), file.header("cache-control")),
        (Some("text/javascript"), Some("max-age=60"))
    );
    assert!(file.all("set-cookie").is_empty());
    let asked = last(&vendor, "/base/js/matomo.js");
    assert_eq!(asked.target, "/base/js/matomo.js?v=1");
    assert_eq!((asked.header("cookie"), asked.header("x-key")), (None, Some("s3cret")));
    assert_eq!(asked.header("x-forwarded-for"), Some("127.0.0.1"));
    let posted = edge.request("POST", "/seg/plugins/a/b").body("x").send().await;
    assert_eq!(posted.text(), "POST /base/js/a/b");
    for (request, status) in [
        (edge.request("GET", "/seg/plugins/away.js"), 502),
        (edge.request("DELETE", "/seg/plugins/a"), 405),
        (edge.request("POST", "/seg/plugins/a").body("x".repeat(2000)), 413),
        (edge.request("GET", "/seg/plugins/../a"), 404),
        (edge.request("GET", "/seg/other"), 404),
        (edge.request("GET", "/seg/matomo.js").header("Origin", "https://evil.test"), 403),
    ] {
        let answer = request.send().await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
}

#[tokio::test]
async fn what_is_spooled_is_delivered_as_it_came() {
    let vendor = vendor().await;
    let edge = edge(&vendor).await;
    let hit = || {
        edge.request("POST", "/seg/matomo.php?idsite=1")
            .header("User-Agent", "B/1")
            .header("Content-Type", "text/plain")
            .body("hit=1")
    };
    assert_eq!(hit().send().await.status, 204);
    edge.becomes("doorstep_events_ended_total", &[("vendor", "matomo"), ("end", "delivered")], 1.0)
        .await;
    let asked = last(&vendor, "/base/track");
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("POST", "/base/track?idsite=1"));
    assert_eq!(asked.body, b"hit=1");
    assert_eq!(
        (asked.header("user-agent"), asked.header("content-type")),
        (Some("B/1"), Some("text/plain"))
    );
    assert_eq!(asked.header("x-forwarded-for"), Some("127.0.0.1"));
    // A header is bytes.
    let odd = [&b"POST /seg/matomo.php HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: M \xe9\xff\r\nContent-Length: 1\r\n\r\n"[..], b"x"];
    assert_eq!(edge.raw(odd.concat()).await.unwrap().status, 204);
    edge.becomes("doorstep_events_ended_total", &[("end", "delivered")], 2.0).await;
    assert_eq!(last(&vendor, "/base/track").body, b"x");
    assert!(edge.metric("doorstep_events_spool_damaged_bytes_total", &[]).await < 1.0);
    // What is not known can't be limited: it is not sent at all.
    assert_eq!(hit().header("Cookie", "no=1").send().await.status, 204);
    edge.becomes("doorstep_events_dropped_total", &[("reason", "consent")], 1.0).await;
    // What the vendor refuses is put aside as it was.
    assert_eq!(edge.request("POST", "/seg/refuses").body("x").send().await.status, 204);
    edge.becomes("doorstep_events_ended_total", &[("vendor", "matomo"), ("end", "refused")], 1.0)
        .await;
    let letters = edge.folder.path().join("data/events/shop.matomo/dead.ndjson");
    let letter = eventually("a dead letter", || async { std::fs::read(&letters).ok() }).await;
    let letter: serde_json::Value = serde_json::from_slice(&letter).unwrap();
    assert_eq!((&letter["status"], letter["call"].is_string()), (&json!(404), true));
}

/// What is kept of a call is its query and its headers as well.
#[tokio::test]
async fn a_long_query_counts_as_a_body_does() {
    let vendor = vendor().await;
    let edge = edge_with(&vendor, "events: { per_client: 0, bytes_per_client: 20KiB }").await;
    let query = "q".repeat(7000);
    let mut seen = std::collections::BTreeMap::<u16, usize>::new();
    for _ in 0..40 {
        let asked = edge.request("POST", &format!("/seg/matomo.php?{query}")).body("x");
        *seen.entry(asked.send().await.status).or_default() += 1;
    }
    assert!(seen[&204] >= 3 && seen[&429] > seen[&204], "{seen:?}");
    edge.reaches("doorstep_events_refused_total", &[("reason", "bytes")], 1.0).await;
}
