//! The whole story in a real browser with the real SDK.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::support::edge::{Edge, Setup};
use crate::support::nginx::Nginx;
use crate::support::server::{Reply, Server};
use crate::support::vendor::{Vendor, npm};
use crate::tls;

/// What a visit has seen.
pub(crate) struct Visit(Value);

impl Visit {
    pub(crate) fn requests(&self) -> Vec<String> {
        serde_json::from_value(self.0["requests"].clone()).unwrap()
    }
    /// Without errors of this kind in the page.
    pub(crate) fn without(&self, kind: &str) -> Self {
        let mut seen = self.0.clone();
        let errors = seen["console"].as_array_mut().unwrap();
        errors.retain(|error| !error.as_str().unwrap().starts_with(kind));
        Self(seen)
    }
    pub(crate) fn value(&self, step: usize) -> &Value {
        &self.0["steps"][step]["value"]
    }
    pub(crate) fn cookie(&self, step: usize, name: &str) -> Option<Value> {
        let cookies = self.0["steps"][step]["cookies"].as_array().unwrap().clone();
        cookies.into_iter().find(|cookie| cookie["name"] == name)
    }
    /// Fails when any request went to another host.
    pub(crate) fn stayed_first_party(&self, edge: &Edge) {
        let own = format!(" http://www.shop.example:{}/", edge.port);
        let strange: Vec<_> =
            self.requests().into_iter().filter(|url| !url.contains(&own)).collect();
        assert!(strange.is_empty(), "requests left the first-party host: {strange:#?}");
        assert_eq!(self.0["console"], json!([]), "errors in the page");
    }
}

/// Debian 12 has Node 18: what wants a later one would leave its browsers out.
#[test]
fn the_browsers_driver_runs_on_every_debian_that_the_readme_names() {
    let locked: Value = serde_json::from_str(include_str!("browser/package-lock.json")).unwrap();
    let mut judged = 0;
    for (name, package) in locked["packages"].as_object().unwrap() {
        let Some(wanted) = package["engines"]["node"].as_str() else { continue };
        let from = wanted.split("||").filter_map(|one| one.trim().strip_prefix(">="));
        let from = from.filter_map(|version| version.split('.').next()?.trim().parse::<u32>().ok());
        assert!(from.min().is_some_and(|from| from <= 18), "{name} wants Node {wanted}");
        judged += 1;
    }
    assert!(judged > 2, "{judged}");
}

pub(crate) async fn visit(edge: &Edge, steps: Value) -> Visit {
    visit_at(&format!("http://www.shop.example:{}", edge.port), steps).await
}

pub(crate) async fn visit_at(url: &str, steps: Value) -> Visit {
    visit_with(url, steps, Value::Null, Value::Null).await
}

/// With cookies that the browser has from before, as Playwright has them, and headers that it sends.
pub(crate) async fn visit_with(url: &str, steps: Value, cookies: Value, headers: Value) -> Visit {
    let chromium = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
    let chromium =
        chromium.iter().find(|file| Path::new(file).exists()).expect("make test installs Chromium");
    let input = json!({
        "chromium": chromium, "modules": npm(), "steps": steps,
        "url": url, "cookies": cookies, "headers": headers,
    });
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/browser/visit.mjs");
    let output = tokio::task::spawn_blocking(move || {
        let mut node = Command::new("node")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("make test installs node");
        node.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
        node.wait_with_output().unwrap()
    })
    .await
    .unwrap();
    let (out, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{errors}\n{out}");
    Visit(serde_json::from_str(&out).unwrap())
}

async fn shop(vendor: &Vendor) -> (Edge, Nginx) {
    let nginx = Nginx::start("location = /login { try_files /login.html =404; default_type text/html; }", |root| {
        let page = |text: &str| format!("<!doctype html><html><head><meta charset=utf-8><title>Shop</title></head><body><p id=teaser>{text}</p><img src=/cup.svg></body></html>");
        for (file, text) in [("index.html", "everyone"), ("red.html", "red")] {
            std::fs::write(root.join(file), page(text)).unwrap();
        }
        std::fs::write(root.join("cup.svg"), "<svg xmlns='http://www.w3.org/2000/svg'/>").unwrap();
        std::fs::write(root.join("favicon.ico"), "").unwrap();
        std::fs::write(root.join("login.html"), "<!doctype html><html><head><title>Log in</title></head><body><form onsubmit=\"analytics.identify(this.name.value,{},{},function(){location.href='/'});return false\"><input name=name><button>Log in</button></form></body></html>").unwrap();
    })
    .await;
    let edge = Setup::new(nginx.port).vendor(vendor.port())
        .site("webhook: { username: u, password: p }\nvariations:\n- { route: /, choose: [{ when: traits.red_group, path: /red.html }] }\nclient_traits: { group: 'traits.red_group ? \"red\" : \"none\"' }")
        .start().await;
    let push = json!({"type": "identify", "userId": "john", "traits": {"red_group": true}});
    let pushed = edge
        .request("POST", "/seg/profiles-webhook")
        .header("Authorization", "Basic dTpw")
        .body(push.to_string())
        .send()
        .await;
    assert_eq!(pushed.status, 200);
    (edge, nginx)
}

const IDS: &str = "({ cookie: document.cookie, teaser: (document.getElementById('teaser') || {}).textContent, \
     user: analytics.user && analytics.user().id(), anonymous: analytics.user && analytics.user().anonymousId(), \
     traits: analytics.user && analytics.user().traits() })";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_story_happens_on_the_first_party_host() {
    let vendor = Vendor::real().await;
    let (edge, _nginx) = shop(&vendor).await;
    let loaded = "window.analytics && analytics.initialized === true";
    let story = visit(&edge, json!([
        { "open": "/", "until": "/seg/evs/p", "when": loaded, "value": IDS },
        { "open": "/login", "until": "/seg/evs/p", "when": loaded },
        { "fill": "john", "submit": "/", "until": ["/seg/evs/i", "/seg/evs/p"], "when": loaded, "value": IDS },
        { "reload": true, "until": "/seg/evs/p", "when": loaded, "value": IDS },
        { "run": "analytics.track('Bought', { price: 7 })", "until": "/seg/evs/t" },
        { "run": "analytics.reset()", "until": "/seg/reset", "value": IDS },
        { "open": "/", "until": "/seg/evs/p", "when": loaded, "quiet": true, "value": IDS },
    ]))
    .await;
    story.stayed_first_party(&edge);

    // A newcomer: an id in a closed cookie, handed over to the SDK.
    let first = story.value(0);
    let cookie = story.cookie(0, "ajs_anonymous_id").unwrap();
    assert_eq!((&cookie["httpOnly"], &cookie["domain"]), (&json!(true), &json!(".shop.example")));
    assert_eq!(first["anonymous"], cookie["value"]);
    assert_eq!((&first["teaser"], &first["user"]), (&json!("everyone"), &Value::Null));

    // Logged in: another page under the same address, known to the SDK with its trait.
    let john = story.value(2);
    assert_eq!((&john["teaser"], &john["user"]), (&json!("red"), &json!("john")));
    assert_eq!(john["anonymous"], first["anonymous"], "identify keeps the browser's id");
    assert_eq!(john["traits"]["group"], "red");
    let cookie = story.cookie(2, "ajs_user_id").unwrap();
    assert_eq!((&cookie["httpOnly"], &cookie["value"]), (&json!(true), &json!("john")));

    // It survives a reload, and ends with a reset.
    let mut again = story.value(3).clone();
    again["traits"] = john["traits"].clone();
    assert_eq!(&again, john);
    let end = story.value(6);
    assert_eq!((&end["teaser"], &end["user"]), (&json!("everyone"), &Value::Null));
    assert_ne!(end["anonymous"], first["anonymous"]);
    assert!(story.cookie(6, "ajs_user_id").is_none());
    for step in [0, 2, 3, 5, 6] {
        assert_eq!(story.value(step)["cookie"], "", "a script sees identity in step {step}");
    }

    // What arrived is what was done: no identify of the edge's own.
    let events = vendor.until(7).await;
    let kinds: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "identify").count(), 1, "{kinds:?}");
    assert_eq!(kinds.iter().filter(|kind| **kind == "page").count(), 5, "{kinds:?}");
    let bought = events.iter().find(|event| event["event"] == "Bought").unwrap();
    assert_eq!((&bought["userId"], &bought["properties"]["price"]), (&json!("john"), &json!(7)));
    assert_eq!(bought["context"]["ip"], "127.0.0.1");
    // Several batches are on their way at a time: what came last was not done last.
    let pages = events.iter().filter(|event| event["type"] == "page");
    let last = pages.max_by_key(|event| event["timestamp"].as_str().unwrap().to_owned()).unwrap();
    assert_eq!(last["userId"], Value::Null, "after the reset nobody is John");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sdk_runs_under_the_pages_own_policy() {
    let vendor = Vendor::real().await;
    let policy = |name: &str, policy: &str| {
        format!(
            "location = /{name} {{ try_files /index.html =404; default_type text/html; add_header Content-Security-Policy \"{policy}\"; }}"
        )
    };
    let locations = [
        policy("self", "default-src 'self'"),
        policy("nonce", "default-src 'self'; script-src 'nonce-r4nd0m' 'strict-dynamic'"),
        policy("based", "default-src 'self'").replace("/index.html", "/based.html"),
    ];
    let nginx = Nginx::start(&locations.join("\n"), |root| {
        std::fs::write(
            root.join("index.html"),
            "<!doctype html><html><head><title>Shop</title></head><body>x</body></html>",
        )
        .unwrap();
        // Its paths are another host's.
        std::fs::write(
            root.join("based.html"),
            "<!doctype html><html><head><base href=//elsewhere.test/><title>Shop</title></head><body>x</body></html>",
        )
        .unwrap();
        std::fs::write(root.join("favicon.ico"), "").unwrap();
    })
    .await;
    let edge = Setup::new(nginx.port).vendor(vendor.port()).start().await;
    let page = "window.analytics && analytics.initialized === true";
    let seen = visit(&edge, json!([
        { "open": "/self", "until": ["/seg/snippet.js", "/seg/evs/p"], "when": page },
        { "open": "/based", "until": ["/seg/snippet.js", "/seg/evs/p"], "when": page },
        { "open": "/nonce", "until": "/seg/evs/p", "when": page, "value": "document.scripts[0].src + document.scripts[1].src" },
    ]))
    .await;
    seen.stayed_first_party(&edge);
    assert!(
        !seen.value(2).as_str().unwrap().contains("snippet.js"),
        "with a nonce it is in the page"
    );
    edge.becomes("doorstep_html_rewrites_total", &[("outcome", "external")], 2.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_everything_stays_on_tls() {
    let vendor = Vendor::real().await;
    let origin = Server::start(|_| Reply::html("<head><title>t</title></head><body>x")).await;
    let (edge, secure, _roots, _folder) =
        tls::site_of(Setup::new(origin.port).vendor(vendor.port())).await;
    let url = format!("https://www.shop.example:{secure}");
    let seen = visit_at(&url, json!([
        { "open": "/", "until": "/seg/evs/p", "when": "window.analytics && analytics.initialized === true", "value": "document.cookie" },
    ]))
    .await;
    let strange: Vec<_> =
        seen.requests().into_iter().filter(|request| !request.contains(&url)).collect();
    assert!(strange.is_empty(), "{strange:#?}");
    let cookie = seen.cookie(0, "ajs_anonymous_id").unwrap();
    assert_eq!((&cookie["secure"], &cookie["httpOnly"]), (&json!(true), &json!(true)));
    assert_eq!(seen.value(0), "");
    assert_eq!(vendor.until(1).await[0]["anonymousId"], cookie["value"]);
    drop(edge);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_leaks_when_a_bundle_is_missing() {
    let vendor = Vendor::real().await;
    vendor.mood.no_bundles.store(true, Ordering::SeqCst);
    let (edge, _nginx) = shop(&vendor).await;
    let seen = visit(
        &edge,
        json!([
            { "open": "/", "quiet": true },
            { "run": "analytics.track('x')", "quiet": true },
        ]),
    )
    .await;
    assert!(
        seen.requests().iter().any(|url| url.contains("/analytics-next/bundles/")),
        "{:?}",
        seen.requests()
    );
    let own = format!(" http://www.shop.example:{}/", edge.port);
    assert!(seen.requests().iter().all(|url| url.contains(&own)), "{:#?}", seen.requests());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_a_page_when_the_cdn_is_down() {
    let vendor = Vendor::real().await;
    vendor.mood.cdn_down.store(true, Ordering::SeqCst);
    let (edge, _nginx) = shop(&vendor).await;
    let seen = visit(&edge, json!([
        { "open": "/", "quiet": true, "value": "({ teaser: document.getElementById('teaser').textContent, queued: analytics.length, cookie: document.cookie })" },
    ]))
    .await;
    seen.stayed_first_party(&edge);
    let page = seen.value(0);
    assert_eq!((&page["teaser"], &page["cookie"]), (&json!("everyone"), &json!("")));
    assert!(page["queued"].as_u64().unwrap() > 0, "calls wait in the queue");
}

/// Notes every event that the SDK sends, across pages.
const NOTE: &str = "analytics.addSourceMiddleware(function (step) { \
     var sent = JSON.parse(localStorage.getItem('sent') || '[]'); sent.push(step.payload.obj.messageId); \
     localStorage.setItem('sent', JSON.stringify(sent)); step.next(step.payload) })";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_sdk_says_it_sent_is_what_the_vendor_gets() {
    let vendor = Vendor::real().await;
    let (edge, _nginx) = shop(&vendor).await;
    let loaded = "window.analytics && analytics.initialized === true";
    // The tracking API is down while all of this happens, and comes back later.
    vendor.mood.api_status.store(503, Ordering::SeqCst);
    let seen = visit(&edge, json!([
        { "open": "/", "until": "/seg/evs/p", "when": loaded },
        { "run": NOTE },
        { "run": "analytics.track('One')", "until": "/seg/evs/t" },
        { "run": "analytics.identify('john', { plan: 'pro' })", "until": "/seg/evs/i" },
        { "run": "analytics.group('g1')", "until": "/seg/evs/g" },
        { "run": "analytics.alias('john2', 'john')", "until": "/seg/evs/a" },
        // Without a network, and with one again: the SDK keeps what it could not send.
        { "offline": true },
        { "run": "analytics.track('Offline')" },
        { "offline": false, "run": "window.dispatchEvent(new Event('online'))", "until": "/seg/evs/t" },
        // On the way out of the page.
        { "run": "window.addEventListener('pagehide', function () { navigator.sendBeacon('/seg/evs/t', JSON.stringify({ type: 'track', event: 'Leaving', messageId: 'beacon' })) })" },
        { "open": "/login", "until": "/seg/evs/p", "when": loaded },
        { "run": NOTE },
        { "run": "analytics.track('Last')", "until": "/seg/evs/t", "quiet": true, "value": "JSON.parse(localStorage.getItem('sent'))" },
        { "run": "analytics.reset()", "until": "/seg/reset" },
    ]))
    .await;
    seen.stayed_first_party(&edge);
    let said: Vec<String> = serde_json::from_value(seen.value(12).clone()).unwrap();
    assert_eq!(said.len(), 6, "{said:?}");
    vendor.mood.api_status.store(200, Ordering::SeqCst);
    // Those, and a page view of each page.
    edge.becomes("doorstep_events_waiting", &[], 0.0).await;
    let delivered = edge.metric("doorstep_events_ended_total", &[("end", "delivered")]).await;
    let calls = vendor.events();
    let good = calls.iter().rev().filter(|call| call.target == "/v1/batch");
    let mut got: Vec<Value> =
        good.flat_map(|call| call.json()["batch"].as_array().unwrap().clone()).collect();
    got.sort_by_key(|event| event["messageId"].to_string());
    got.dedup_by_key(|event| event["messageId"].to_string());
    let pages = got.iter().filter(|event| event["type"] == "page").count();
    let mut others: Vec<&str> = got
        .iter()
        .filter(|event| event["type"] != "page")
        .map(|event| event["messageId"].as_str().unwrap())
        .collect();
    let mut said: Vec<&str> = said.iter().map(String::as_str).chain(["beacon"]).collect();
    said.sort_unstable();
    others.sort_unstable();
    assert_eq!((others, pages), (said, 2));
    assert!(delivered >= 9.0, "{delivered}");
    let offline = got.iter().find(|event| event["event"] == "Offline").unwrap();
    assert_eq!(offline["userId"], "john");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_consent_the_vendor_is_asked_nothing_at_all() {
    let vendor = Vendor::real().await;
    let nginx = Nginx::start("", |root| {
        std::fs::write(
            root.join("index.html"),
            "<!doctype html><html><head><title>Shop</title></head><body>x</body></html>",
        )
        .unwrap();
        std::fs::write(root.join("favicon.ico"), "").unwrap();
    })
    .await;
    let edge = Setup::new(nginx.port)
        .vendor(vendor.port())
        .site("consent: { denied: request.cookies.consent != 'yes', clear_cookies: true }")
        .start()
        .await;
    let beacon =
        "navigator.sendBeacon('/seg/evs/t', JSON.stringify({ type: 'track', event: 'x' }))";
    let seen = visit(&edge, json!([
        { "run": "1" },
        { "open": "/", "quiet": true, "value": "({ sdk: typeof analytics, cookie: document.cookie })" },
        { "run": beacon, "quiet": true },
        { "run": "fetch('/seg/assets/sdk.js')", "quiet": true },
    ]))
    .await;
    seen.stayed_first_party(&edge);
    assert_eq!(seen.value(1), &json!({"sdk": "undefined", "cookie": ""}));
    assert!(seen.cookie(3, "ajs_anonymous_id").is_none());
    assert!(vendor.server.asked().is_empty(), "{:?}", vendor.server.asked().len());
    edge.becomes("doorstep_events_dropped_total", &[("reason", "consent")], 1.0).await;
}

/// Prepared ahead, it is seen when it is shown, once. Playwright's Chromium prerenders nothing: the page says that it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_is_prerendered_is_seen_once_it_is_shown() {
    let vendor = Vendor::real().await;
    let says =
        "Object.defineProperty(document, 'prerendering', { value: true, configurable: true })";
    let page =
        format!("<!doctype html><html><head><script>{says}</script></head><body>x</body></html>");
    let origin = Server::start(move |asked| match asked.target.as_str() {
        "/" => Reply::html(&page),
        _ => Reply::new(404, &[], ""),
    })
    .await;
    let experiment = "experiments: [{ key: price, route: /, variants: [{ name: short }] }]";
    let edge = Setup::new(origin.port).vendor(vendor.port()).site(experiment).start().await;
    let shown = "Object.defineProperty(document, 'prerendering', { value: false }); \
         document.dispatchEvent(new Event('prerenderingchange')); document.dispatchEvent(new Event('prerenderingchange'))";
    let url = format!("http://www.shop.example:{}", edge.port);
    let headers = json!({"Sec-Purpose": "prefetch;prerender"});
    let steps = json!([
        { "open": "/", "when": "window.analytics && analytics.initialized === true", "quiet": true },
        { "run": "analytics.track('Before')", "until": "/seg/evs/t", "quiet": true },
        { "run": shown, "until": ["/seg/evs/p", "/seg/seen"], "quiet": true },
    ]);
    let seen = visit_with(&url, steps, Value::Null, headers).await;
    assert_eq!(seen.cookie(2, "doorstep_experiments").unwrap()["value"], "price:short*");
    let mut events = vendor.until(3).await.into_iter();
    assert_eq!(events.next().unwrap()["event"], "Before", "nothing was seen before it was shown");
    let mut kinds: Vec<String> =
        events.map(|event| format!("{} {}", event["type"], event["event"])).collect();
    kinds.sort();
    assert_eq!(kinds, [r#""page" null"#, r#""track" "Experiment Viewed""#]);
}

/// A page that comes back from the browser's back/forward cache, as its scripts hear of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_comes_back_counts_once_more_where_that_is_wanted() {
    for (restored, pages) in [(true, 2), (false, 1)] {
        let (vendor, origin) =
            (Vendor::real().await, Server::start(|_| Reply::html("<head></head>x")).await);
        let option = format!("inject: {{ restored_pages: {restored} }}");
        let edge = Setup::new(origin.port).vendor(vendor.port()).site(&option).start().await;
        let back = "dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))";
        let steps = json!([
            { "open": "/", "until": "/seg/evs/p", "when": "window.analytics && analytics.initialized === true" },
            { "run": back },
            { "run": "analytics.track('After')", "until": "/seg/evs/t", "quiet": true },
        ]);
        visit(&edge, steps).await;
        let events = vendor.until(pages + 1).await;
        let seen = events.iter().filter(|event| event["type"] == "page").count();
        assert_eq!((seen, events.len()), (pages, pages + 1), "{restored}");
    }
}

/// Nothing of ours fails on a page that demands trusted types.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_demands_trusted_types_gets_no_snippet() {
    let html = "Content-Type: text/html";
    let policy = "require-trusted-types-for 'script'";
    let body = |meta: &str| {
        format!("<!doctype html><html><head>{meta}<title>T</title></head><body>x</body></html>")
    };
    let in_page =
        body(&format!("<meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">"));
    let plain = body("");
    let origin = Server::start(move |asked| match asked.target.as_str() {
        "/header" => Reply::new(
            200,
            &[html, &format!("Content-Security-Policy: {policy}; trusted-types default")],
            &plain,
        ),
        "/meta" => Reply::html(&in_page),
        _ => Reply::new(404, &[], ""),
    })
    .await;
    let edge = Setup::new(origin.port).start().await;
    let seen = visit_at(
        &format!("http://127.0.0.1:{}", edge.port),
        json!([
            { "open": "/header", "value": "typeof window.analytics" },
            { "open": "/meta", "value": "typeof window.analytics" },
        ]),
    )
    .await;
    assert_eq!((seen.value(0), seen.value(1)), (&json!("undefined"), &json!("undefined")));
    assert_eq!(seen.0["console"], json!([]), "errors in the page");
    edge.becomes("doorstep_html_rewrites_total", &[("outcome", "forbidden")], 2.0).await;
}
