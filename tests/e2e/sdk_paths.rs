//! An SDK with paths of its own beside the prefix.

use serde_json::json;

use crate::browser::visit;
use crate::support::edge::{Edge, Setup};
use crate::support::server::{Reply, Server};
use crate::support::vendor::Vendor;

async fn shop(vendor: &Vendor, origin: &Server, more: &str) -> Edge {
    let at = vendor.port();
    let segment = format!(
        "vendor: {{ segment: {{ write_key: test-write-key-1234, cdn: 'http://127.0.0.1:{at}', tracking_api: 'http://127.0.0.1:{at}/v1', routes: {{ sdk: /js/a.js, events: /c }} }} }}"
    );
    Setup::new(origin.port).vendor_yaml(&segment).site(more).start().await
}

async fn origin() -> Server {
    Server::start(|asked| match asked.target.as_str() {
        "/favicon.ico" => Reply::new(200, &["Content-Type: image/x-icon"], ""),
        _ => Reply::html(
            "<!doctype html><html><head><title>Shop</title></head><body><p>x</p></body></html>",
        ),
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sdk_comes_and_tells_by_the_paths_that_the_site_gives_it() {
    let (vendor, origin) = (Vendor::real().await, origin().await);
    let edge = shop(&vendor, &origin, "").await;
    let loaded = "window.analytics && analytics.initialized === true";
    let seen = visit(
        &edge,
        json!([
            { "open": "/", "until": "/c/p", "when": loaded },
            { "run": "analytics.identify('john')", "until": "/c/i" },
            { "run": "analytics.track('Bought', { price: 7 })", "until": "/c/t", "quiet": true },
        ]),
    )
    .await;
    seen.stayed_first_party(&edge);
    assert_eq!(seen.cookie(1, "ajs_user_id").unwrap()["httpOnly"], true);
    let requests = seen.requests();
    assert!(requests.iter().any(|request| request.contains("/js/a.js")), "{requests:#?}");
    assert!(
        requests.iter().any(|request| request.contains("/seg/assets/bundles/")),
        "{requests:#?}"
    );
    for name in ["analytics", "segment", "sdk.js", "/evs", "/events"] {
        let named: Vec<_> = requests.iter().filter(|request| request.contains(name)).collect();
        assert!(named.is_empty(), "{named:#?}");
    }
    assert_eq!(vendor.until(3).await.len(), 3);
}

#[tokio::test]
async fn paths_that_a_site_gives_an_sdk_are_no_pages_and_obey_consent() {
    let (vendor, origin) = (Vendor::start().await, origin().await);
    let edge =
        shop(&vendor, &origin, "consent: { denied: \"request.headers['sec-gpc'] == '1'\" }").await;
    let event = json!({"event": "Bought", "userId": "john"}).to_string();
    let post = |path: &str| {
        edge.request("POST", path).header("Content-Type", "text/plain").body(event.clone())
    };

    // What the prefix has stays there as well.
    assert_eq!(edge.get("/js/a.js").await.text(), edge.get("/seg/assets/sdk.js").await.text());
    for path in ["/c/t", "/c/track/", "/seg/evs/t"] {
        assert_eq!(post(path).send().await.status, 200, "{path}");
    }
    assert_eq!(vendor.until(3).await.len(), 3);

    assert_eq!(edge.request("GET", "/js/a.js").header("Sec-GPC", "1").send().await.status, 204);
    let of_prefix = post("/seg/evs/t").header("Sec-GPC", "1").send().await;
    let of_path = post("/c/t").header("Sec-GPC", "1").send().await;
    assert_eq!((of_path.status, of_path.text()), (of_prefix.status, of_prefix.text()));
    edge.becomes("doorstep_events_dropped_total", &[("reason", "consent")], 2.0).await;

    for path in ["/c", "/c/", "/c/nothing", "/c/t/x", "/c/..%2fx"] {
        let answer = edge.get(path).await;
        assert!([400, 404].contains(&answer.status), "{path} {}", answer.status);
    }
    assert_eq!(
        edge.request("GET", "/c/t").send().await.status,
        edge.request("GET", "/seg/evs/t").send().await.status
    );
    assert!(origin.asked().is_empty());
    assert_eq!(edge.get("/cart").await.status, 200);
    assert_eq!(origin.asked().len(), 1);
}
