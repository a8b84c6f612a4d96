//! Sites whose links are followed by scripts: the libraries themselves, in a real browser.

use serde_json::{Value, json};

use crate::browser::visit_with;
use crate::support::edge::Setup;
use crate::support::server::{Reply, Server};
use crate::support::vendor::{Vendor, npm};

/// A page with links to all others.
fn page(text: &str, body: &str, link: &str) -> String {
    let links: String =
        ["/", "/a"].map(|to| format!("<a href={to} id=to{} {link}>x</a>", to.len())).concat();
    format!(
        "<!doctype html><html><head><meta charset=utf-8><title>{text}</title><script src=/lib.js></script></head>\
         <body {body}><main><h1 id=teaser>{text}</h1><p id=hello>Hello</p>{links}</main></body></html>"
    )
}

/// Logged in as John, who is red: every page that he comes to is, whichever way he comes.
async fn walk(library: &str, body: &'static str, link: &'static str) {
    let script = std::fs::read_to_string(npm().join(library)).expect("make test fetches it");
    let origin = Server::start(move |asked| {
        let text = match asked.target.as_str() {
            "/" => "home",
            "/a" => "other",
            "/red" => "red home",
            "/red/a" => "red other",
            "/lib.js" => return Reply::new(200, &["Content-Type: text/javascript"], &script),
            _ => return Reply::new(404, &[], ""),
        };
        Reply::html(page(text, body, link))
    })
    .await;
    let vendor = Vendor::real().await;
    let edge = Setup::new(origin.port)
        .vendor(vendor.port())
        .site(
            "webhook: { username: u, password: p }
variations:
- { route: /, choose: [{ when: traits.red, path: /red }] }
- { route: /a, choose: [{ when: traits.red, path: /red/a }] }
rewrite:
- { select: '#hello', when: has(traits.name), set: { text: 'Hello {{ traits.name }}' } }
client_traits: { red: traits.red }",
        )
        .start()
        .await;
    let push =
        json!({"type": "identify", "userId": "john", "traits": {"red": true, "name": "John"}});
    let request =
        edge.request("POST", "/seg/profiles-webhook").header("Authorization", "Basic dTpw");
    assert_eq!(request.body(push.to_string()).send().await.status, 200);
    let at = |path: &str, text: &str| {
        format!(
            "location.pathname === '{path}' && document.getElementById('teaser').textContent === '{text}' \
             && document.getElementById('hello').textContent === 'Hello John' \
             && !document.querySelector('.htmx-added, .htmx-settling, .htmx-swapping')"
        )
    };
    let click = |id: &str| format!("document.getElementById('{id}').click()");
    let (home, other) = (at("/", "red home"), at("/a", "red other"));
    let cookies =
        json!([{"name": "ajs_user_id", "value": "john", "domain": ".shop.example", "path": "/"}]);
    let url = format!("http://www.shop.example:{}", edge.port);
    let ready = "window.analytics && analytics.initialized === true";
    let steps = json!([
        { "open": "/", "when": &home },
        { "when": ready, "run": "window.kept = true" },
        { "run": click("to2"), "when": &other },
        { "run": click("to1"), "when": &home },
        { "run": click("to2"), "when": &other },
        { "run": "history.back()", "when": &home },
        { "run": "history.forward()", "when": &other },
        { "value": "({ kept: window.kept, traits: analytics.user().traits(), user: analytics.user().id(), \
             ours: [...document.scripts].filter((script) => /REDACTED/.test(script.text)).length })", "quiet": true },
        { "reload": true, "when": &other },
    ]);
    let seen = visit_with(&url, steps, cookies, Value::Null).await;
    // Turbo gives up fetches of pages that it has left.
    seen.without("AbortError").stayed_first_party(&edge);
    let last = seen.value(7);
    assert_eq!(last["kept"], json!(true), "the window has been the same all the time");
    assert_eq!((&last["user"], &last["traits"]["red"]), (&json!("john"), &json!(true)));
    let sdks = seen.requests().iter().filter(|url| url.ends_with("/seg/assets/sdk.js")).count();
    assert_eq!(sdks, 2, "once in the window, and once when it was made anew");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn turbo_shows_everyones_own_pages() {
    walk("@hotwired/turbo/dist/turbo.es2017-umd.js", "", "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn boosted_links_of_htmx_show_everyones_own_pages() {
    walk("htmx.org/dist/htmx.js", "hx-boost=true", "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unpoly_shows_everyones_own_pages() {
    walk("unpoly/unpoly.js", "", "up-follow").await;
}
