//! What operators see: health, metrics, the log of requests.

use crate::support::edge::Setup;
use crate::support::eventually;
use crate::support::server::{Reply, Server};

#[tokio::test]
async fn the_admin_listener_answers_operators_alone() {
    let edge = Setup::new(1).start().await;
    for (path, status) in [("/healthz", 200), ("/readyz", 200), ("/metrics", 200), ("/", 404)] {
        assert_eq!(edge.operator(path).await.status, status, "{path}");
    }
    let metrics = edge.operator("/metrics").await;
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    assert!(metrics.text().contains("doorstep_build_info{version="));
    assert!(metrics.text().contains("process_resident_memory_bytes"));
    // Visitors find none of it.
    assert_eq!(edge.get("/metrics").await.status, 502);
}

#[tokio::test]
async fn the_log_tells_of_requests_and_nothing_of_visitors() {
    let origin = Server::start(|asked| match asked.target.as_str() {
        "/fine" => Reply::html("<head></head>"),
        _ => Reply::new(404, &[], ""),
    })
    .await;
    let edge = Setup::new(origin.port).node("access_log: { sample: 0 }").start().await;
    edge.get("/fine").await;
    let missing =
        edge.request("GET", "/missing?token=hidden").header("Cookie", "ajs_user_id=hidden");
    assert_eq!(missing.send().await.status, 404);
    edge.raw("GET / HTTP/1.1\nHost: hidden.example\n\n").await;
    let line = |path: &'static str, status: u64| {
        let log = edge.log();
        let records =
            log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        records.into_iter().find(|record| record["path"] == path && record["status"] == status)
    };
    let record = eventually("the record", || async { line("/missing", 404) }).await;
    for (key, value) in
        [("site", "shop"), ("route", "page"), ("method", "GET"), ("client", "127.0.0.1")]
    {
        assert_eq!(record[key], value, "{record}");
    }
    assert_eq!(record["request"], origin.asked()[1].header("x-request-id").unwrap());
    let refused = eventually("the refusal", || async { line("/", 400) }).await;
    assert_eq!((&refused["error"], &refused["site"]), (&"refused: line_end".into(), &"-".into()));
    assert!(line("/fine", 200).is_none(), "good answers are a sample, and it is 0");
    assert!(!edge.log().contains("hidden"), "{}", edge.log());
}
