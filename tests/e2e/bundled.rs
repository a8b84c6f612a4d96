//! SDKs that a site bundles from npm instead of taking the snippet.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::browser::visit;
use crate::support::edge::{Edge, Setup};
use crate::support::nginx::Nginx;
use crate::support::vendor::{Vendor, npm};

/// What a bundler makes of `code`, with npm's packages.
fn bundle(code: &str, to: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let entry = folder.path().join("app.mjs");
    std::fs::write(&entry, code).unwrap();
    let made = Command::new("node")
        .arg(npm().join("esbuild/bin/esbuild"))
        .arg(&entry)
        .args(["--bundle", "--format=esm", "--platform=browser", "--log-level=warning"])
        .arg(format!("--outfile={}", to.display()))
        .env("NODE_PATH", npm())
        .output()
        .expect("make test installs node");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// A shop whose pages load one script that `code` was bundled to.
async fn shop(code: &str, vendor: &str) -> (Edge, Nginx) {
    let nginx = Nginx::start("", |root| {
        let page = "<!doctype html><html><head><title>Shop</title><script type=module src=/app.js></script></head><body><p>x</p></body></html>";
        std::fs::write(root.join("index.html"), page).unwrap();
        std::fs::write(root.join("favicon.ico"), "").unwrap();
        bundle(code, &root.join("app.js"));
    })
    .await;
    let setup = Setup::new(nginx.port).vendor_yaml(&format!("vendor: {{ {vendor} }}"));
    (setup.site("inject: { enabled: false }").start().await, nginx)
}

fn kinds(mut events: Vec<Value>) -> Vec<String> {
    events.sort_by_key(|event| event["originalTimestamp"].as_str().unwrap_or_default().to_owned());
    events.iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_package_stays_on_the_sites_host_with_its_documented_options() {
    let vendor = Vendor::real().await;
    let at = vendor.port();
    let segment = format!(
        "segment: {{ write_key: test-write-key-1234, cdn: 'http://127.0.0.1:{at}', tracking_api: 'http://127.0.0.1:{at}/v1' }}"
    );
    let code = "import { AnalyticsBrowser } from '@segment/analytics-next';
        const cdnURL = location.origin + '/seg';
        window.analytics = AnalyticsBrowser.load({ writeKey: 'public', cdnURL }, { integrations: { 'Segment.io': { protocol: location.protocol.slice(0, -1) } } });
        analytics.page();";
    let (edge, _nginx) = shop(code, &segment).await;
    let loaded = "analytics.instance && analytics.instance.initialized === true";
    let id = "analytics.instance.user().anonymousId()";
    let seen = visit(
        &edge,
        json!([
            { "open": "/", "until": "/seg/evs/p", "when": loaded, "value": id },
            { "run": "analytics.identify('john')", "until": "/seg/evs/i" },
            { "run": "analytics.track('Bought', { price: 7 })", "until": "/seg/evs/t" },
            { "open": "/", "until": "/seg/evs/p", "when": loaded, "quiet": true, "value": id },
        ]),
    )
    .await;
    seen.stayed_first_party(&edge);
    assert_eq!(seen.value(0), seen.value(3));
    assert_eq!(seen.cookie(3, "ajs_user_id").unwrap()["httpOnly"], true);
    let events = vendor.until(4).await;
    assert!(events.iter().all(|event| event["anonymousId"] == *seen.value(0)), "{events:?}");
    assert_eq!(kinds(events), ["page", "identify", "track", "page"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rudderstacks_bundled_package_stays_on_the_sites_host() {
    let vendor = Vendor::rudderstack().await;
    let at = vendor.port();
    let rudder = format!(
        "rudderstack: {{ write_key: test-write-key-1234, cdn: 'http://127.0.0.1:{at}', config_api: 'http://127.0.0.1:{at}', data_plane: 'http://127.0.0.1:{at}' }}"
    );
    let code = "import { RudderAnalytics } from '@rudderstack/analytics-js/bundled';
        window.rudder = new RudderAnalytics();
        const own = location.origin + '/seg';
        rudder.load('public', own, { configUrl: own, pluginsSDKBaseURL: own + '/plugins', destSDKBaseURL: own + '/integrations', storage: { type: 'localStorage' } });
        rudder.ready(() => { window.told = true; });
        rudder.page();";
    let (edge, _nginx) = shop(code, &rudder).await;
    let id = "rudder.getAnonymousId()";
    let seen = visit(&edge, json!([
        { "open": "/", "until": "/seg/v1/page", "when": "window.told === true", "value": id },
        { "run": "rudder.identify('john')", "until": "/seg/v1/identify" },
        { "run": "rudder.track('Bought')", "until": "/seg/v1/track" },
        { "open": "/", "until": "/seg/v1/page", "when": "window.told === true", "quiet": true, "value": id },
    ]))
    .await;
    seen.stayed_first_party(&edge);
    assert_eq!(seen.value(0), seen.value(3));
    assert_eq!(kinds(vendor.until(4).await), ["page", "identify", "track", "page"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_campaigns_link_says_who_comes_and_what_happened() {
    let vendor = Vendor::real().await;
    let nginx = Nginx::start("", |root| {
        let page =
            "<!doctype html><html><head><title>Shop</title></head><body><p>x</p></body></html>";
        std::fs::write(root.join("index.html"), page).unwrap();
        std::fs::write(root.join("favicon.ico"), "").unwrap();
    })
    .await;
    let edge = Setup::new(nginx.port).vendor(vendor.port()).start().await;
    let seen = visit(&edge, json!([
        { "open": "/?ajs_event=Clicked%20Email&ajs_prop_mail=spring&ajs_uid=john&ajs_trait_plan=pro",
          "until": ["/seg/evs/p", "/seg/evs/t", "/seg/evs/i"], "quiet": true },
    ]))
    .await;
    seen.stayed_first_party(&edge);
    let events = vendor.until(3).await;
    let of = |kind: &str| events.iter().find(|event| event["type"] == kind).unwrap();
    assert_eq!(
        (&of("track")["event"], &of("track")["properties"]["mail"]),
        (&json!("Clicked Email"), &json!("spring"))
    );
    assert_eq!(
        (&of("identify")["userId"], &of("identify")["traits"]["plan"]),
        (&json!("john"), &json!("pro"))
    );
}
