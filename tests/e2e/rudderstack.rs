//! RudderStack, wholly on the site's own host.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::browser::visit;
use crate::support::edge::{Edge, Setup, WRITE_KEY};
use crate::support::nginx::Nginx;
use crate::support::server::{Reply, Server};
use crate::support::vendor::Vendor;

fn basic(key: &str) -> String {
    use base64::Engine;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{key}:")))
}

fn rudder(vendor: &Vendor) -> String {
    let at = format!("http://127.0.0.1:{}", vendor.port());
    format!(
        "rudderstack: {{ write_key: {WRITE_KEY}, cdn: '{at}', config_api: '{at}', data_plane: '{at}' }}"
    )
}

fn setup(origin: u16, vendor: &Vendor) -> Setup {
    Setup::new(origin).vendor_yaml(&format!("vendor: {{ {} }}", rudder(vendor)))
}

#[tokio::test]
async fn files_and_configuration_come_from_the_sites_own_host() {
    let vendor = Vendor::rudderstack().await;
    let edge = setup(1, &vendor).start().await;
    for path in ["/seg/v3/modern/rsa.min.js", "/seg/assets/rudder.js"] {
        let sdk = edge.get(path).await;
        assert_eq!(sdk.status, 200, "{path}");
        let text = sdk.text();
        assert!(!text.contains("cdn.rudderlabs.com") && !text.contains("api.rudderstack.com"));
        assert!(text.contains("http://shop.example/seg"), "it leads here");
    }
    let config = edge.get("/seg/sourceConfig/?writeKey=REDACTED").await;
    let source = config.json()["source"].clone();
    assert_eq!((&source["id"], &source["writeKey"]), (&json!("s1"), &json!("REDACTED")));
    assert!(
        source.get("dataplanes").is_none() && source["config"].get("statsCollection").is_none()
    );
    let asked = vendor.files().pop().unwrap();
    assert_eq!(asked.header("authorization"), Some(basic(WRITE_KEY).as_str()));
    assert!(asked.target.ends_with(&format!("writeKey={WRITE_KEY}")));
    for path in
        ["/seg/assets/sdk.js", "/seg/evs/t", "/seg/v1/projects/x/settings", "/seg/v3/", "/seg/v1/t"]
    {
        assert_eq!(edge.get(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn events_of_every_way_arrive_in_batches_with_the_real_key() {
    let vendor = Vendor::rudderstack().await;
    let edge = setup(1, &vendor).start().await;
    let event = json!({"type": "x", "userId": "", "anonymousId": "b", "messageId": "m", "originalTimestamp": "2026-11-21T10:00:00.000Z"});
    for kind in ["track", "page", "screen", "identify", "group", "alias"] {
        let request = edge
            .request("POST", &format!("/seg/v1/{kind}"))
            .header("Authorization", &basic("REDACTED"));
        let request =
            request.header("AnonymousId", "Yg==").header("Content-Type", "application/json");
        assert_eq!(request.body(event.to_string()).send().await.status, 200, "{kind}");
    }
    let batch =
        json!({"batch": [{"type": "track", "event": "one"}, {"type": "track", "event": "two"}]});
    for path in ["/seg/v1/batch", "/seg/beacon/v1/batch?writeKey=REDACTED"] {
        assert_eq!(
            edge.request("POST", path).body(batch.to_string()).send().await.status,
            200,
            "{path}"
        );
    }
    let events = vendor.until(10).await;
    let single = events.iter().filter(|event| event["event"].is_null());
    let mut kinds: Vec<_> = single.map(|event| event["type"].as_str().unwrap()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["alias", "group", "identify", "page", "screen", "track"]);
    for event in &events {
        assert!(event["sentAt"].is_string() && event["context"]["ip"] == "127.0.0.1", "{event}");
    }
    for call in vendor.events() {
        assert_eq!(call.header("authorization"), Some(basic(WRITE_KEY).as_str()));
    }
    edge.becomes(
        "doorstep_events_ended_total",
        &[("vendor", "rudderstack"), ("end", "delivered")],
        10.0,
    )
    .await;
}

#[tokio::test]
async fn identity_is_kept_in_the_vendors_own_form() {
    let vendor = Vendor::rudderstack().await;
    let origin = Server::start(|asked| Reply::html(format!("<head></head>{}", asked.target))).await;
    let edge = setup(origin.port, &vendor).start().await;
    let page = edge.get("/").await;
    let cookie = page.cookie("rl_anonymous_id").unwrap();
    assert!(
        cookie.starts_with("RS_ENC_v3_") && page.cookie("ajs_anonymous_id").is_none(),
        "{cookie}"
    );
    assert!(page.all("set-cookie").iter().all(|line| line.contains("HttpOnly")));
    let again = edge
        .request("GET", "/")
        .header("Cookie", &format!("rl_anonymous_id={cookie}"))
        .send()
        .await;
    assert_eq!(again.cookie("rl_anonymous_id"), Some(cookie));
    let old = "rl_anonymous_id=RS_ENC_v3_InRlc3QtZGF0YSI%3D; rl_user_id=%22john%22";
    let event =
        edge.request("POST", "/seg/v1/track").header("Cookie", old).body("{\"userId\":\"\"}");
    assert_eq!(event.send().await.status, 200);
    let event = vendor.until(1).await.pop().unwrap();
    assert_eq!((&event["anonymousId"], &event["userId"]), (&json!("test-data"), &json!("john")));
}

#[tokio::test]
async fn the_sdks_cookies_are_set_by_the_server() {
    let vendor = Vendor::rudderstack().await;
    let edge = setup(1, &vendor).start().await;
    let asked = json!({"reqType": "setCookies", "workspaceId": "w1", "data": {
        "options": {"maxAge": 31_536_000_000_u64, "path": "/", "sameSite": "Lax"},
        "cookies": [{"name": "rl_session", "value": "RS_ENC_v3_e30%3D"}, {"name": "rl_user_id", "value": "RS_ENC_v3_x"}]}});
    let request = || edge.request("POST", "/seg/rsaRequest").body(asked.to_string());
    let answer = request().send().await;
    assert_eq!(answer.status, 200);
    let lines = answer.all("set-cookie");
    assert_eq!(lines.len(), 1, "identity is the edge's own: {lines:?}");
    assert!(
        lines[0].starts_with("rl_session=RS_ENC_v3_e30%3D; SameSite=Lax; Path=/;")
            && lines[0].ends_with("Max-Age=31536000"),
        "{lines:?}"
    );
    assert_eq!(request().header("Origin", "https://evil.test").send().await.status, 403);
    let wrong = edge.request("POST", "/seg/rsaRequest").body("{\"reqType\":\"x\"}").send().await;
    assert_eq!((wrong.status, wrong.json()["error"]["code"].as_str().unwrap()), (400, "malformed"));
}

async fn shop(vendor: &str) -> (Edge, Nginx) {
    let nginx = Nginx::start("", |root| {
        let page = "<!doctype html><html><head><meta charset=utf-8><title>Shop</title></head><body><p>x</p></body></html>";
        std::fs::write(root.join("index.html"), page).unwrap();
        std::fs::write(root.join("favicon.ico"), "").unwrap();
    })
    .await;
    let edge = Setup::new(nginx.port).vendor_yaml(&format!("vendor: {{ {vendor} }}")).start().await;
    (edge, nginx)
}

const IDS: &str = "({ cookie: document.cookie, user: rudderanalytics.getUserId(), anonymous: rudderanalytics.getAnonymousId() })";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_sdk_runs_on_the_first_party_host() {
    let vendor = Vendor::rudderstack().await;
    let (edge, _nginx) = shop(&rudder(&vendor)).await;
    let loaded = "window.rudderanalytics && !Array.isArray(rudderanalytics) && !!rudderanalytics.getAnonymousId()";
    let seen = visit(&edge, json!([
        { "open": "/", "until": "/seg/v1/page", "when": loaded, "value": IDS },
        { "run": "rudderanalytics.identify('john', { plan: 'pro' })", "until": "/seg/v1/identify" },
        { "run": "rudderanalytics.track('Bought', { price: 7 })", "until": "/seg/v1/track" },
        { "run": "rudderanalytics.group('g1')", "until": "/seg/v1/group" },
        { "run": "rudderanalytics.alias('john2', 'john')", "until": "/seg/v1/alias" },
        { "reload": true, "until": "/seg/v1/page", "when": loaded, "value": IDS },
        { "run": "rudderanalytics.reset(true)", "until": "/seg/reset" },
        { "open": "/", "until": "/seg/v1/page", "when": loaded, "quiet": true, "value": IDS },
    ]))
    .await;
    seen.stayed_first_party(&edge);
    let first = seen.value(0);
    let cookie = seen.cookie(0, "rl_anonymous_id").unwrap();
    assert_eq!(cookie["httpOnly"], true);
    assert!(cookie["value"].as_str().unwrap().starts_with("RS_ENC_v3_"));
    let john = seen.value(5);
    // The SDK takes the alias for the user from then on.
    assert_eq!((&john["user"], &john["anonymous"]), (&json!("john2"), &first["anonymous"]));
    let end = seen.value(7);
    assert_eq!(end["user"], "");
    assert_ne!(end["anonymous"], first["anonymous"]);
    for step in [0, 5, 7] {
        assert_eq!(seen.value(step)["cookie"], "", "a script sees identity in step {step}");
    }
    let mut events = vendor.until(7).await;
    // Batches are sent in order, but several are on their way at a time.
    events.sort_by_key(|event| event["originalTimestamp"].as_str().unwrap().to_owned());
    let kinds: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["page", "identify", "track", "group", "alias", "page", "page"]);
    assert_eq!(events[2]["userId"], "john");
    assert_eq!(events[0]["anonymousId"], first["anonymous"]);
    assert_eq!(events[6]["userId"], "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_offline_on_the_way_out_or_while_the_data_plane_is_down() {
    let vendor = Vendor::rudderstack().await;
    let (edge, _nginx) = shop(&rudder(&vendor)).await;
    vendor.mood.api_status.store(503, Ordering::SeqCst);
    let loaded = "window.rudderanalytics && !Array.isArray(rudderanalytics) && !!rudderanalytics.getAnonymousId()";
    let beacon = "window.addEventListener('pagehide', function () { navigator.sendBeacon('/seg/beacon/v1/batch?writeKey=REDACTED', JSON.stringify({ batch: [{ type: 'track', event: 'Leaving', messageId: 'beacon' }] })) })";
    let seen = visit(&edge, json!([
        { "open": "/", "until": "/seg/v1/page", "when": loaded },
        { "run": "rudderanalytics.track('One')", "until": "/seg/v1/track" },
        { "offline": true },
        { "run": "rudderanalytics.track('Offline')" },
        { "offline": false, "run": "window.dispatchEvent(new Event('online'))", "until": "/seg/v1/track" },
        { "run": beacon },
        { "reload": true, "until": "/seg/v1/page", "when": loaded },
        { "run": "rudderanalytics.track('Last')", "until": "/seg/v1/track", "quiet": true },
    ]))
    .await;
    seen.stayed_first_party(&edge);
    let before = vendor.events().len();
    vendor.mood.api_status.store(200, Ordering::SeqCst);
    edge.becomes("doorstep_events_ended_total", &[("end", "delivered")], 6.0).await;
    let mut names: Vec<String> = vendor
        .delivered_since(before)
        .iter()
        .map(|event| event.get("event").unwrap_or(&event["type"]).as_str().unwrap().to_owned())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["Last", "Leaving", "Offline", "One", "page", "page"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_vendors_share_a_site_and_its_visitors() {
    let (segment, vendor) = (Vendor::real().await, Vendor::rudderstack().await);
    let port = segment.port();
    let both = format!(
        "segment: {{ write_key: {WRITE_KEY}, cdn: 'http://127.0.0.1:{port}', tracking_api: 'http://127.0.0.1:{port}/v1' }}, {}",
        rudder(&vendor)
    );
    let (edge, _nginx) = shop(&both).await;
    let loaded =
        "window.analytics && analytics.initialized === true && !Array.isArray(rudderanalytics)";
    let ids =
        "({ segment: analytics.user().anonymousId(), rudder: rudderanalytics.getAnonymousId() })";
    let seen = visit(
        &edge,
        json!([
            { "open": "/", "until": ["/seg/evs/p", "/seg/v1/page"], "when": loaded, "value": ids },
        ]),
    )
    .await;
    seen.stayed_first_party(&edge);
    assert_eq!(seen.value(0)["segment"], seen.value(0)["rudder"]);
    assert_eq!(segment.until(1).await[0]["anonymousId"], vendor.until(1).await[0]["anonymousId"]);
    // One that is down holds nobody else up.
    segment.mood.api_status.store(503, Ordering::SeqCst);
    for path in ["/seg/evs/t", "/seg/v1/track"] {
        let event: Value = json!({"event": "x", "anonymousId": "b"});
        assert_eq!(edge.request("POST", path).body(event.to_string()).send().await.status, 200);
    }
    vendor.until(2).await;
    edge.becomes("doorstep_events_paused", &[("vendor", "segment")], 1.0).await;
    edge.becomes("doorstep_events_paused", &[("vendor", "rudderstack")], 0.0).await;
}
