//! The worked examples of `conf/examples`, each in a real browser with the real SDK.

use serde_json::{Value, json};

use crate::browser::{Visit, visit_with};
use crate::support::edge::{Edge, Setup};
use crate::support::nginx::Nginx;
use crate::support::server::{Reply, Server};
use crate::support::vendor::{Vendor, npm};

const LOADED: &str = "window.analytics && analytics.initialized === true";

fn page(body: &str) -> String {
    format!(
        "<!doctype html><html><head><meta charset=utf-8><title>Shop</title><link rel=icon href=data:,></head><body>{body}</body></html>"
    )
}

/// nginx with these pages.
async fn nginx(pages: &[(&str, &str)]) -> Nginx {
    Nginx::start("try_files $uri $uri.html $uri/index.html =404; default_type text/html;", |root| {
        for (name, body) in pages {
            std::fs::write(root.join(format!("{name}.html")), page(body)).unwrap();
        }
    })
    .await
}

async fn push(edge: &Edge, login: &str, user: &str, traits: Value) {
    use base64::Engine;
    let login = base64::engine::general_purpose::STANDARD.encode(format!("{login}:p"));
    let push = json!({"type": "identify", "userId": user, "traits": traits});
    let pushed = edge
        .request("POST", "/seg/profiles-webhook")
        .header("Host", "www.shop.example")
        .header("Authorization", &format!("Basic {login}"))
        .body(push.to_string());
    assert_eq!(pushed.send().await.status, 200);
}

/// A visit by somebody whose browser has these cookies, from this address.
async fn visit(edge: &Edge, cookies: &[(&str, &str)], address: &str, steps: Value) -> Visit {
    let url = format!("http://www.shop.example:{}", edge.port);
    let cookies: Vec<Value> = cookies
        .iter()
        .map(|(name, value)| {
            json!({"name": name, "value": value, "domain": ".shop.example", "path": "/", "httpOnly": true})
        })
        .collect();
    let headers = json!({"X-Forwarded-For": address});
    let visit = visit_with(&url, steps, json!(cookies), headers).await;
    visit.stayed_first_party(edge);
    visit
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn red_and_green_home_pages() {
    let vendor = Vendor::real().await;
    let nginx =
        nginx(&[("index", "<p id=p>everyone"), ("red", "<p id=p>red"), ("green", "<p id=p>green")])
            .await;
    let edge = Setup::example("red-green.yaml", nginx.port, vendor.port()).await;
    push(&edge, "segment", "ruby", json!({"red_group": true, "vancouver_crew": true})).await;
    push(&edge, "segment", "olive", json!({"green_group": true})).await;
    let seen =
        "[document.getElementById('p').textContent, location.pathname, analytics.user().traits()]";
    for (user, expected) in [
        ("ruby", json!(["red", "/", {"vancouver_crew": true}])),
        ("olive", json!(["green", "/", {}])),
        ("nobody", json!(["everyone", "/", {}])),
    ] {
        let steps = json!([{ "open": "/", "until": "/seg/evs/p", "when": LOADED, "value": seen }]);
        let visit = visit(&edge, &[("ajs_user_id", user)], "127.0.0.1", steps).await;
        assert_eq!(visit.value(0), &expected, "{user}");
    }
    // The traits are handed over without an event of their own.
    let told = vendor.until(3).await;
    assert!(told.iter().all(|event| event["type"] == "page"), "{told:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consent_section_by_place() {
    let vendor = Vendor::real().await;
    let nginx =
        nginx(&[("index", "<section id=consent><button>Agree</button></section><p>Shop")]).await;
    let edge = Setup::example("consent-section.yaml", nginx.port, vendor.port()).await;
    let seen = "[!!document.getElementById('consent'), analytics.user().traits().country || null]";
    for (address, expected) in [
        // An address of Berlin's university, one of Google's, one of nobody's.
        ("130.133.1.1", json!([true, "DE"])),
        ("8.8.8.8", json!([false, "US"])),
        ("127.0.0.1", json!([true, null])),
    ] {
        let steps = json!([{ "open": "/", "until": "/seg/evs/p", "when": LOADED, "value": seen }]);
        assert_eq!(visit(&edge, &[], address, steps).await.value(0), &expected, "{address}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_in_the_favourite_colour() {
    let vendor = Vendor::real().await;
    let nginx = nginx(&[("index", "<p id=colour>We do not know your colour.")]).await;
    let edge = Setup::example("favourite-colour.yaml", nginx.port, vendor.port()).await;
    push(&edge, "segment", "ann", json!({"favorite_color": "rgb(1, 2, 3)"})).await;
    let evil = "red; background: url(//evil.test)</style></p><script>window.evil = 1</script>";
    push(&edge, "segment", "mallory", json!({"favorite_color": evil})).await;
    let seen = "[getComputedStyle(document.body).backgroundColor, document.getElementById('colour').textContent, window.evil || null]";
    for (user, expected) in [
        ("ann", json!(["rgb(1, 2, 3)", "Your colour is rgb(1, 2, 3).", null])),
        ("mallory", json!(["rgba(0, 0, 0, 0)", format!("Your colour is {evil}."), null])),
        ("nobody", json!(["rgba(0, 0, 0, 0)", "We do not know your colour.", null])),
    ] {
        let steps = json!([{ "open": "/", "until": "/seg/evs/p", "when": LOADED, "value": seen }]);
        assert_eq!(
            visit(&edge, &[("ajs_user_id", user)], "127.0.0.1", steps).await.value(0),
            &expected
        );
    }
    edge.reaches("doorstep_rule_refusals_total", &[], 1.0).await;
}

/// A page that React makes anew in the browser, and once more a little later.
fn react() -> String {
    let mut modules = String::new();
    for (name, file) in [
        ("react", "react/cjs/react.production.js"),
        ("scheduler", "scheduler/cjs/scheduler.production.js"),
        ("react-dom", "react-dom/cjs/react-dom.production.js"),
        ("react-dom/client", "react-dom/cjs/react-dom-client.production.js"),
    ] {
        let path = npm().join(file);
        let code = std::fs::read_to_string(&path)
            .unwrap_or_else(|_| panic!("{}: make test installs it", path.display()));
        modules.push_str(&format!(
            "modules['{name}'] = function (require, module, exports) {{{code}\n}};\n"
        ));
    }
    // Every frame that is drawn is looked at.
    page(&format!(
        "<div id=root><main><a class=\"cta-primary\" href=\"/try\">Try for free</a><p id=count>0</p></main></div>\
         <script>window.drawn = []; (function look() {{ var a = document.querySelector('a.cta-primary'); \
         drawn.push(a ? a.textContent : '-'); requestAnimationFrame(look); }})();\n\
         var modules = {{}}, loaded = {{}}; window.process = {{ env: {{ NODE_ENV: 'production' }} }};\n\
         function require(name) {{ if (!loaded[name]) {{ var m = loaded[name] = {{ exports: {{}} }}; modules[name](require, m, m.exports); }} return loaded[name].exports; }}\n\
         {modules}</script><script>window.complaints = 0;\n\
         var h = require('react').createElement, React = require('react');\n\
         function App() {{ var s = React.useState(0); React.useEffect(function () {{ if (s[0] < 3) setTimeout(function () {{ s[1](s[0] + 1); }}, 100); }});\n\
         return h('main', null, h('a', {{ className: 'cta-primary', href: '/try' }}, 'Try for free'), h('p', {{ id: 'count' }}, String(s[0]))); }}\n\
         setTimeout(function () {{ require('react-dom/client').hydrateRoot(document.getElementById('root'), h(App), {{ onRecoverableError: function () {{ complaints++; }} }}); window.hydrated = true; }}, 200);</script>"
    ))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn request_demo_stays_on_a_page_that_react_makes_anew() {
    let vendor = Vendor::rudderstack().await;
    let react = react();
    let origin = Server::start(move |asked| match asked.target.as_str() {
        "/" => Reply::html(react.clone()),
        "/strict" => Reply::new(
            200,
            &["Content-Type: text/html", "Content-Security-Policy: script-src 'self' 'nonce-abc'"],
            react.replace("<script>", "<script nonce=abc>"),
        ),
        "/files" => Reply::new(
            200,
            &["Content-Type: text/html", "Content-Security-Policy: script-src 'self'"],
            page("<a class=cta-primary href=/try>Try for free</a><script src=/undo.js></script>"),
        ),
        "/undo.js" => Reply::new(
            200,
            &["Content-Type: text/javascript"],
            "setTimeout(function () { document.querySelector('a').outerHTML = '<a class=cta-primary href=/try>Try for free</a>'; window.count = 1; }, 100)",
        ),
        _ => Reply::new(404, &[], ""),
    })
    .await;
    let edge = Setup::example("request-demo.yaml", origin.port, vendor.port()).await;
    push(&edge, "rudderstack", "ann", json!({"user_app_sign_up": 1})).await;
    let counted = "document.getElementById('count').textContent === '3'";
    let seen = "(function () { var a = document.querySelector('a.cta-primary'); return { text: a.textContent, href: a.getAttribute('href'), \
                signed: a.classList.contains('signed-up'), cookie: document.cookie.indexOf('rs_activation_signed_up=true') >= 0, \
                complaints: complaints, drawn: drawn.filter(function (text, at) { return text !== drawn[at - 1]; }) }; })()";
    for path in ["/", "/strict"] {
        let steps = json!([{ "open": path, "when": counted, "value": seen }]);
        let ann = visit(&edge, &[("rl_user_id", "ann")], "127.0.0.1", steps.clone()).await;
        let got = ann.value(0);
        assert_eq!(
            (&got["text"], &got["href"], &got["signed"], &got["cookie"]),
            (&json!("Request Demo"), &json!("/request-demo"), &json!(true), &json!(true)),
            "{path}"
        );
        // React has found the difference and made the page anew, and nobody has seen it.
        assert_eq!(
            (&got["complaints"], &got["drawn"]),
            (&json!(1), &json!(["Request Demo"])),
            "{path}"
        );
        let nobody = visit(&edge, &[], "127.0.0.1", steps).await;
        let got = nobody.value(0);
        assert_eq!(
            (&got["text"], &got["complaints"], &got["cookie"]),
            (&json!("Try for free"), &json!(0), &json!(false)),
            "{path}"
        );
    }
    // Where no inline script may run, the change is kept by a file.
    let steps = json!([{ "open": "/files", "when": "window.count === 1", "value": "document.querySelector('a').textContent" }]);
    let ann = visit(&edge, &[("rl_user_id", "ann")], "127.0.0.1", steps).await;
    assert_eq!(ann.value(0), "Request Demo");

    // Without `persist` React undoes it, and `explain` says so beforehand.
    let url = format!("http://www.shop.example:{}/", edge.port);
    let (_, told) = edge.cli(&["explain", "--fetch", "--user-id", "ann", &url]).await;
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(
        told["page_as_it_is"]["matches"][0],
        json!({"select": "a.cta-primary", "elements": 1})
    );
    assert_eq!(told["page_as_it_is"]["warning"], Value::Null);
    let text = std::fs::read_to_string(&edge.file).unwrap();
    let file = edge.folder.path().join("undone.yaml");
    std::fs::write(&file, text.replace("persist: true", "persist: false")).unwrap();
    let (_, told) = edge.cli_with(&file, &["explain", "--fetch", "--user-id", "ann", &url]).await;
    assert!(
        told.contains(
            "React makes this page anew in the browser and undoes changes of a.cta-primary"
        ),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pricing_page_is_tested() {
    let vendor = Vendor::real().await;
    let nginx = nginx(&[
        ("pricing", "<h1>Prices</h1><p id=p>long"),
        ("pricing-short", "<h1>Prices</h1><p id=p>short"),
        ("index", "home"),
    ])
    .await;
    let edge = Setup::example("pricing-test.yaml", nginx.port, vendor.port()).await;
    // Who gets what is known beforehand, as the draw is.
    let mut ids = std::collections::BTreeMap::new();
    for n in 0..200 {
        let id = format!("visitor-{n}");
        let (_, told) =
            edge.cli(&["explain", "--anonymous-id", &id, "http://www.shop.example/pricing"]).await;
        let told: Value = serde_json::from_str(&told).unwrap();
        let rule = &told["decisions"]["rules"][0];
        let variant = rule["variant"].as_str().unwrap_or("holdout").to_owned();
        ids.entry(variant).or_insert(id);
        if ids.len() == 4 {
            break;
        }
    }
    let seen = "[document.querySelector('h1').textContent, document.getElementById('p').textContent, window.doorstep ? doorstep.experiments : null, analytics.user().traits(), document.cookie]";
    for (variant, expected) in [
        ("control", json!(["Prices", "long", {"pricing-2026": "control"}, {}, ""])),
        ("short", json!(["Prices", "short", {"pricing-2026": "short"}, {}, ""])),
        (
            "bold",
            json!(["One price for all", "long", {"pricing-2026": "bold"}, {"pricing": "bold"}, ""]),
        ),
        ("holdout", json!(["Prices", "long", null, {}, ""])),
    ] {
        let before = vendor.events().len();
        let id = &ids[variant];
        let steps = json!([
            { "open": "/pricing", "until": "/seg/evs/p", "when": LOADED, "value": seen },
            { "reload": true, "until": "/seg/evs/p", "when": LOADED, "value": seen },
            { "open": "/", "until": "/seg/evs/p", "when": LOADED },
        ]);
        let visit = visit(&edge, &[("ajs_anonymous_id", id)], "127.0.0.1", steps).await;
        assert_eq!((visit.value(0), visit.value(1)), (&expected, &expected), "{variant}");
        let viewed = vendor
            .told(before, "three pages and the experiment", |events| {
                let pages = events.iter().filter(|event| event["type"] == "page").count();
                let viewed = events.iter().filter(|event| event["event"] == "Experiment Viewed");
                let viewed: Vec<_> = viewed.cloned().collect();
                (pages == 3 && !viewed.is_empty()).then_some(viewed)
            })
            .await;
        assert_eq!(viewed.len(), 1, "{viewed:#?}");
        assert_eq!(viewed[0]["properties"]["variation_id"], variant);
        assert_eq!(viewed[0]["anonymousId"], json!(id));
        let cookie = visit.cookie(1, "doorstep_experiments").unwrap();
        assert_eq!(
            (&cookie["value"], &cookie["httpOnly"]),
            (&json!(format!("pricing-2026:{variant}*")), &json!(true))
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn navigation_for_those_who_are_logged_in() {
    let vendor = Vendor::real().await;
    let origin = Server::start(|asked| {
        let body = page("<nav><a class=login href=/login>Log in</a></nav>");
        if asked.target == "/login" {
            return Reply::new(200, &["Content-Type: text/html", "X-Doorstep-User: ann"], body);
        }
        Reply::html(body)
    })
    .await;
    let edge = Setup::example("navigation.yaml", origin.port, vendor.port()).await;
    push(&edge, "segment", "ann", json!({"first_name": "Ann <b>", "plan": "pro"})).await;
    let seen = "[document.querySelector('nav').textContent, document.querySelector('.login').getAttribute('href')]";
    let steps = json!([
        { "open": "/", "until": "/seg/evs/p", "when": LOADED, "value": seen },
        { "open": "/login", "until": "/seg/evs/p", "when": LOADED },
        { "open": "/", "until": "/seg/evs/p", "when": LOADED, "value": seen },
    ]);
    // Saying a name shows nothing.
    let liar = visit(&edge, &[("ajs_user_id", "ann")], "127.0.0.1", steps).await;
    assert_eq!(liar.value(0), &json!(["Log in", "/login"]));
    assert_eq!(liar.value(2), &json!(["Hello Ann <b>Priority support", "/account"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_banner_by_place() {
    let vendor = Vendor::real().await;
    let nginx = nginx(&[("index", "<p>Shop")]).await;
    let edge = Setup::example("geo-banner.yaml", nginx.port, vendor.port()).await;
    let seen = "(document.getElementById('banner') || {}).textContent || null";
    for (address, expected) in [
        ("130.133.1.1", json!("Versand nach DE in zwei Tagen.")),
        ("8.8.8.8", json!("We ship to US within a week.")),
        ("127.0.0.1", json!(null)),
    ] {
        let steps = json!([{ "open": "/", "until": "/seg/evs/p", "when": LOADED, "value": seen }]);
        assert_eq!(visit(&edge, &[], address, steps).await.value(0), &expected, "{address}");
    }
}
