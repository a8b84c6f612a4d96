//! Page views that the edge tells, for browsers that do not.

use serde_json::json;

use crate::support::edge::{Edge, Setup};
use crate::support::server::{Reply, Server};
use crate::support::vendor::Vendor;

async fn origin() -> Server {
    Server::start(|asked| match asked.target.as_str() {
        "/missing" => Reply::new(404, &["Content-Type: text/html"], "<title>none</title>"),
        "/data" => Reply::new(200, &["Content-Type: application/json"], "{}"),
        "/strict" => Reply::new(
            200,
            &["Content-Type: text/html", "Content-Security-Policy: default-src 'self'"],
            "<head><title>Strict</title></head>",
        ),
        _ => Reply::html(
            "<html><head><title>Caf\u{e9} &amp; more</title></head><body>x</body></html>",
        ),
    })
    .await
}

async fn edge(vendor: &Vendor, origin: &Server, more: &str) -> Edge {
    Setup::new(origin.port)
        .vendor(vendor.port())
        .site(&format!("inject: {{ edge_page_views: \"request.headers['user-agent'] == 'Quiet' || request.path == '/strict'\"{more} }}\nconsent: {{ denied: request.cookies.no == '1' }}\nvariations:\n- {{ route: /a, choose: [{{ when: 'true', path: /b }}] }}"))
        .start()
        .await
}

#[tokio::test]
async fn a_delivered_page_is_told_once_by_the_edge_or_by_the_browser() {
    let (vendor, origin) = (Vendor::start().await, origin().await);
    let edge = edge(&vendor, &origin, "").await;
    let get = |path: &str| {
        edge.request("GET", path).header("User-Agent", "Quiet").header("Accept", "text/html")
    };
    let page = get("/a?utm_source=mail").header("Referer", "http://search.test/").send().await;
    assert!(page.text().contains("\"p\":false"), "{}", page.text());
    let event = vendor.until(1).await.pop().unwrap();
    assert_eq!(event["type"], "page");
    assert_eq!(event["properties"]["title"], "Caf\u{e9} & more");
    assert_eq!(event["properties"]["url"], "http://shop.example/a?utm_source=mail");
    assert_eq!(event["properties"]["referrer"], "http://search.test/");
    assert_eq!(event["context"]["campaign"], json!({"source": "mail"}));
    assert_eq!(event["context"]["userAgent"], "Quiet");
    assert_eq!(event["anonymousId"].as_str(), page.cookie("ajs_anonymous_id").as_deref());
    assert!(event["messageId"].is_string() && event["timestamp"].is_string());

    // Compressed, and with the snippet as a file.
    assert_eq!(
        get("/")
            .header("Accept-Encoding", "gzip")
            .header("Cookie", "ajs_user_id=john")
            .send()
            .await
            .status,
        200
    );
    let event = vendor.until(2).await.pop().unwrap();
    assert_eq!(
        (&event["userId"], &event["properties"]["title"]),
        (&json!("john"), &json!("Caf\u{e9} & more"))
    );
    let strict = edge.request("GET", "/strict").header("Accept", "text/html").send().await;
    assert!(strict.text().contains("/seg/snippet.js?page=0"), "{}", strict.text());
    assert!(edge.get("/seg/snippet.js?page=0").await.text().contains("\"p\":false"));
    assert!(edge.get("/seg/snippet.js").await.text().contains("\"p\":true"));
    vendor.until(3).await;

    // None of these is a view that the edge tells.
    for request in [
        get("/missing"),
        get("/data"),
        get("/").header("Sec-Purpose", "prefetch"),
        get("/").header("Cookie", "no=1"),
        edge.request("HEAD", "/").header("User-Agent", "Quiet").header("Accept", "text/html"),
        edge.request("GET", "/").header("Accept", "text/html"),
    ] {
        request.send().await;
    }
    assert_eq!(get("/last").send().await.status, 200);
    let events = vendor.until(4).await;
    assert_eq!(events.len(), 4);
    assert!(events[3]["properties"]["url"].as_str().unwrap().ends_with("/last"));
}

#[tokio::test]
async fn a_site_without_snippet_is_told_of_by_the_edge_alone() {
    let (vendor, origin) = (Vendor::start().await, origin().await);
    let edge = edge(&vendor, &origin, ", enabled: false").await;
    let page = edge
        .request("GET", "/")
        .header("User-Agent", "Quiet")
        .header("Accept", "text/html")
        .send()
        .await;
    assert!(!page.text().contains("<script"), "{}", page.text());
    let event = vendor.until(1).await.pop().unwrap();
    assert_eq!(event["properties"]["title"], "Caf\u{e9} & more");
}

#[tokio::test]
async fn no_page_view_is_told_of_a_robot() {
    let (vendor, origin) = (Vendor::start().await, origin().await);
    let site =
        "inject: { edge_page_views: 'true' }\nbots: request.headers['user-agent'].contains('Bot')";
    let edge = Setup::new(origin.port).vendor(vendor.port()).site(site).start().await;
    for agent in ["Bot/1", "Browser/1"] {
        let page = edge.request("GET", "/").header("User-Agent", agent);
        assert_eq!(page.header("Accept", "text/html").send().await.status, 200);
    }
    let views = vendor.until(1).await;
    assert_eq!(views.len(), 1);
    assert_eq!(views[0]["context"]["userAgent"], "Browser/1");
}
