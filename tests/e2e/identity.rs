//! Ids in HttpOnly cookies.

use crate::support::edge::Setup;
use crate::support::server::{Reply, Server};

#[tokio::test]
async fn a_newcomer_gets_an_id_and_keeps_it() {
    let origin = Server::start(|_| Reply::html("<head></head>")).await;
    let edge = Setup::new(origin.port).start().await;
    let first = edge.request("GET", "/").header("Host", "www.shop.example:81").send().await;
    let id = first.cookie("ajs_anonymous_id").unwrap();
    let line = first.all("set-cookie")[0];
    assert_eq!(
        line,
        format!(
            "ajs_anonymous_id={id}; HttpOnly; SameSite=Lax; Path=/; Domain=shop.example; Max-Age=31536000"
        )
    );
    assert!(first.text().contains(&format!(r#""a":"{id}","m":true"#)));

    let again = edge
        .request("GET", "/")
        .header("Cookie", &format!("x=1; ajs_anonymous_id={id}; ajs_user_id=%22john%22"))
        .send()
        .await;
    assert_eq!(again.cookie("ajs_anonymous_id"), Some(id.clone()));
    assert_eq!(again.cookie("ajs_user_id").as_deref(), Some("john"));
    assert!(again.text().contains(&format!(r#""a":"{id}","u":"john""#)), "{}", again.text());
    // The origin sees the cookies as they were.
    assert!(origin.asked()[1].header("cookie").unwrap().contains("ajs_user_id=%22john%22"));
}

#[tokio::test]
async fn two_values_of_one_cookie_count_as_none() {
    let origin = Server::start(|_| Reply::html("<head></head>")).await;
    let edge = Setup::new(origin.port).start().await;
    let page =
        edge.request("GET", "/").header("Cookie", "ajs_user_id=john; ajs_user_id=ceo").send().await;
    assert!(!page.text().contains("john") && !page.text().contains("ceo"));
}

#[tokio::test]
async fn the_origins_own_identity_cookies_are_closed_to_scripts() {
    let origin = Server::start(|_| {
        Reply::new(
            302,
            &["Location: /", "Set-Cookie: sid=1; Path=/", "Set-Cookie: ajs_user_id=john; Path=/"],
            "",
        )
    })
    .await;
    let edge = Setup::new(origin.port).start().await;
    let answer = edge.request("POST", "/login").body("x").send().await;
    assert_eq!(answer.all("set-cookie"), ["sid=1; Path=/", "ajs_user_id=john; Path=/; HttpOnly"]);

    let plain =
        Setup::new(origin.port).site("identity: { server_side_cookies: false }").start().await;
    let answer = plain.request("POST", "/login").body("x").send().await;
    assert_eq!(answer.all("set-cookie"), ["sid=1; Path=/", "ajs_user_id=john; Path=/"]);
}

#[tokio::test]
async fn reset_ends_both_cookies_for_the_sites_own_pages_alone() {
    let origin = Server::start(|_| Reply::html("")).await;
    let edge = Setup::new(origin.port).start().await;
    for method in ["GET", "POST"] {
        let reset = edge
            .request(method, "/seg/reset")
            .header("Host", "www.shop.example")
            .header("Referer", "http://www.shop.example/account");
        let reset = reset.send().await;
        assert_eq!(reset.status, 200);
        let lines = reset.all("set-cookie");
        let ends = lines.iter().filter(|line| line.contains("Max-Age=0"));
        assert_eq!((lines.len(), ends.count()), (5, 4));
        assert!(lines.iter().all(|line| line.contains("HttpOnly")));
    }
    // A link on another page logs nobody out, also where the browser says little.
    for (name, value) in [
        ("Accept", "text/html"),
        ("Referer", "http://evil.test/"),
        ("Referer", "http://a.shop.example/"),
        ("Sec-Fetch-Site", "none"),
        ("Sec-Fetch-Site", "same-site"),
    ] {
        let link = edge.request("GET", "/seg/reset").header(name, value).send().await;
        assert_eq!((link.status, link.header("set-cookie")), (403, None), "{name}: {value}");
    }
    let foreign =
        edge.request("POST", "/seg/reset").header("Origin", "https://evil.test").send().await;
    assert_eq!((foreign.status, foreign.header("set-cookie")), (403, None));
    let wrong = edge.request("DELETE", "/seg/reset").send().await;
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("GET, POST")));
}
