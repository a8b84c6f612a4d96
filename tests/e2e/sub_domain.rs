//! An edge that has a host of its own below the site's domain, and does not see the pages.

use std::io::Read;

use serde_json::json;

use crate::browser::visit_at;
use crate::support::client::Answer;
use crate::support::edge::{Edge, Setup, WRITE_KEY};
use crate::support::nginx::Nginx;
use crate::support::vendor::Vendor;

async fn edge(vendor: &Vendor) -> Edge {
    Setup::beside()
        .vendor(vendor.port())
        .site("cors: [https://partner.test]\nclient_traits: { red: traits.red }\nwebhook: { username: u, password: p }")
        .start()
        .await
}

fn unpacked(answer: &Answer) -> String {
    let mut text = String::new();
    match answer.header("content-encoding") {
        Some("gzip") => {
            flate2::read::GzDecoder::new(&answer.body[..]).read_to_string(&mut text).unwrap();
        }
        other => {
            assert_eq!(other, None);
            text = answer.text();
        }
    }
    text
}

#[tokio::test]
async fn the_sdk_carries_who_asks_and_only_the_site_learns_it() {
    let vendor = Vendor::start().await;
    let edge = edge(&vendor).await;
    let push = json!({"type": "identify", "userId": "john", "traits": {"red": true}});
    let push = edge
        .request("POST", "/seg/personas")
        .header("Authorization", "Basic dTpw")
        .body(push.to_string());
    assert_eq!(push.send().await.status, 200);
    let sdk = || edge.request("GET", "/seg/ajs/x").header("Host", "cdn.shop.example");
    for accept in ["", "gzip, br", "br"] {
        let answer = sdk()
            .header("Sec-Fetch-Site", "same-site")
            .header("Accept-Encoding", accept)
            .header("If-None-Match", "*")
            .header("Cookie", "ajs_user_id=john; ajs_anonymous_id=b")
            .send()
            .await;
        let text = unpacked(&answer);
        let (lead, file) = text.split_once(");key=").unwrap();
        assert!(lead.contains(r#""b":"http://cdn.shop.example/seg""#), "{lead}");
        assert!(
            lead.contains(r#""a":"b""#)
                && lead.contains(r#""u":"john""#)
                && lead.contains(r#""t":{"red":true}"#)
        );
        assert!(file.contains("REDACTED") && !text.contains(WRITE_KEY));
        assert_eq!((answer.status, answer.header("etag")), (200, None));
        assert_eq!(answer.header("cache-control"), Some("private, no-cache"));
        assert!(
            answer
                .all("set-cookie")
                .iter()
                .all(|line| line.contains("Domain=shop.example") && line.contains("HttpOnly"))
        );
    }
    // One file in the cache, whoever asks.
    assert_eq!(vendor.files().len(), 1, "for all names below the pattern");
    // A newcomer gets an id; so does one whose browser only says where it is.
    let answer = sdk().header("Referer", "http://www.shop.example/page?x").send().await;
    let minted = answer.cookie("ajs_anonymous_id").unwrap();
    assert!(unpacked(&answer).contains(&format!(r#""a":"{minted}","m":true"#)));
    // Scripts of other sites learn nothing.
    for (name, value) in [
        ("Sec-Fetch-Site", "cross-site"),
        ("Referer", "http://evil.test/"),
        ("Referer", "http://shop.example.evil.test/"),
        ("Accept", "*/*"),
    ] {
        let answer = sdk().header(name, value).header("Cookie", "ajs_user_id=john").send().await;
        let text = unpacked(&answer);
        assert!(!text.contains("john") && text.contains("key="), "{name}: {value}");
        assert!(answer.all("set-cookie").is_empty());
    }
}

#[tokio::test]
async fn only_routes_of_ours_are_served_with_cors_for_the_site_and_its_partners() {
    let vendor = Vendor::start().await;
    let edge = edge(&vendor).await;
    assert_eq!(edge.get("/").await.status, 404);
    let settings = edge.get(&format!("/seg/v1/projects/{WRITE_KEY}/settings")).await.json();
    assert_eq!(
        settings["integrations"]["Segment.io"]["deliveryStrategy"]["config"]["credentials"],
        "include"
    );
    for (origin, allowed) in [
        ("https://www.shop.example", true),
        ("https://partner.test", true),
        ("https://evil.test", false),
        ("https://partner.test:81", false),
    ] {
        for path in ["/seg/evs/t", "/seg/reset", "/seg/traits"] {
            let method = if path == "/seg/traits" { "GET" } else { "POST" };
            let request = |method: &str| {
                edge.request(method, path)
                    .header("Host", "cdn.shop.example")
                    .header("Origin", origin)
            };
            let (asked, answer) =
                (request("OPTIONS").send().await, request(method).body("{}").send().await);
            assert_eq!(asked.status == 204, allowed, "{path} {origin}: {}", asked.status);
            assert_eq!(answer.status == 200, allowed, "{path} {origin}: {}", answer.status);
            let told = allowed.then_some(origin);
            assert_eq!(answer.header("access-control-allow-origin"), told, "{path}");
            if allowed {
                assert_eq!(asked.header("access-control-max-age"), Some("86400"));
                assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_with_the_vendors_own_snippet_stays_first_party() {
    let vendor = Vendor::real().await;
    let edge = edge(&vendor).await;
    let port = edge.port;
    // The vendor's snippet, as a site has it in its pages, pointed to the edge's host.
    let page = format!(
        r#"<!doctype html><html><head><meta charset=utf-8><title>Shop</title><script>
!function(){{var analytics=window.analytics=window.analytics||[];analytics.invoked=!0;analytics.methods=["identify","reset","group","track","ready","alias","page","on","once","off","setAnonymousId"];
analytics.factory=function(e){{return function(){{if(window.analytics.initialized)return window.analytics[e].apply(window.analytics,arguments);var i=Array.prototype.slice.call(arguments);i.unshift(e);analytics.push(i);return analytics}}}};
for(var i=0;i<analytics.methods.length;i++){{var key=analytics.methods[i];analytics[key]=analytics.factory(key)}}
analytics.load=function(key){{var t=document.createElement("script");t.async=!0;t.setAttribute("data-global-segment-analytics-key","analytics");t.src="http://cdn.shop.example:{port}/seg/analytics.js/v1/"+key+"/analytics.min.js";document.head.appendChild(t)}};
analytics._writeKey="REDACTED";analytics.SNIPPET_VERSION="5.2.1";analytics.load("REDACTED");analytics.page()}}();
</script></head><body>x</body></html>"#
    );
    let nginx = Nginx::start("", |root| {
        std::fs::write(root.join("index.html"), &page).unwrap();
        std::fs::write(root.join("favicon.ico"), "").unwrap();
    })
    .await;
    let site = format!("http://www.shop.example:{}", nginx.port);
    let loaded = "window.analytics && analytics.initialized === true";
    let ids = "({ user: analytics.user().id(), anonymous: analytics.user().anonymousId() })";
    let seen = visit_at(
        &site,
        json!([
            { "open": "/", "until": "/seg/evs/p", "when": loaded, "value": ids },
            { "run": "analytics.identify('john')", "until": "/seg/evs/i" },
            // What scripts keep goes: only the closed cookies are left.
            { "run": "localStorage.clear()" },
            { "reload": true, "until": "/seg/evs/p", "when": loaded, "quiet": true, "value": ids },
            { "run": "analytics.reset()", "until": "/seg/reset" },
        ]),
    )
    .await;
    let own = format!(" http://cdn.shop.example:{port}/");
    let strange: Vec<_> = seen
        .requests()
        .into_iter()
        .filter(|url| !url.contains(&own) && !url.contains(&format!(" {site}/")))
        .collect();
    assert!(strange.is_empty(), "{strange:#?}");
    let cookie = seen.cookie(0, "ajs_anonymous_id").unwrap();
    assert_eq!((&cookie["httpOnly"], &cookie["domain"]), (&json!(true), &json!(".shop.example")));
    assert_eq!(seen.value(0)["anonymous"], cookie["value"]);
    assert_eq!(seen.value(3), &json!({"user": "john", "anonymous": cookie["value"]}));
    assert!(seen.cookie(4, "ajs_user_id").is_none());
    let events = vendor.until(3).await;
    assert_eq!((&events[2]["type"], &events[2]["userId"]), (&json!("page"), &json!("john")));
}
