//! Ids in HttpOnly cookies.

use serde_json::json;

use crate::support::client::Answer;
use crate::support::edge::Setup;
use crate::support::server::{Reply, Server};
use crate::support::vendor::Vendor;

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

/// Where the site stands in frames of others, and with cookies of others that live on.
#[tokio::test]
async fn a_site_says_how_its_cookies_are() {
    let origin = Server::start(|asked| match asked.target.as_str() {
        "/sets" => Reply::new(
            200,
            &["Content-Type: text/html", "Set-Cookie: _ga=new; Path=/"],
            "<head></head>",
        ),
        "/file" => Reply::new(200, &["Content-Type: text/plain"], "a"),
        _ => Reply::html("<head></head>"),
    })
    .await;
    let edge = Setup::new(origin.port)
        .site("identity:\n  cookies: { same_site: none, partitioned: true, lives_for: 30d }")
        .site("  prolong: [{ name: _ga }, { name: choice, lives_for: 1d, always: true }]")
        .site("consent: { denied: \"request.cookies.choice == 'no'\" }")
        .start()
        .await;
    let page = |path, cookies| edge.request("GET", path).header("Cookie", cookies).send();
    let ids = page("/", "ajs_anonymous_id=a-1; _ga=GA1.2.3; choice=yes").await;
    let rest = "SameSite=None; Partitioned; Secure; Path=/; Domain=shop.example; Max-Age";
    assert_eq!(
        ids.all("set-cookie"),
        [
            format!("ajs_anonymous_id=a-1; HttpOnly; {rest}=2592000"),
            format!("_ga=GA1.2.3; {rest}=34560000"),
            format!("choice=yes; {rest}=86400"),
        ]
    );
    let denied = page("/", "_ga=GA1.2.3; choice=no").await;
    assert_eq!(denied.all("set-cookie"), [format!("choice=no; {rest}=86400")]);
    let sets = page("/sets", "ajs_anonymous_id=a-1; _ga=GA1.2.3").await;
    assert_eq!(sets.cookie("_ga").as_deref(), Some("new"), "the origin's is newer");
    let file = page("/file", "_ga=GA1.2.3").await;
    assert!(file.all("set-cookie").is_empty(), "pages alone");
}

#[tokio::test]
async fn two_values_of_one_cookie_count_as_none() {
    let origin = Server::start(|_| Reply::html("<head></head>")).await;
    let edge = Setup::new(origin.port).start().await;
    let page =
        edge.request("GET", "/").header("Cookie", "ajs_user_id=john; ajs_user_id=ceo").send().await;
    assert!(!page.text().contains("john") && !page.text().contains("ceo"));
}

/// A cookie of the host alone beside the domain's: one of both ends, so that the browser has one id from then on.
#[tokio::test]
async fn of_two_cookies_of_one_name_one_stays() {
    let origin = Server::start(|_| Reply::html("<head></head>")).await;
    let edge = Setup::new(origin.port).start().await;
    let mut jar = std::collections::BTreeMap::from(
        [("host", "of-the-host"), ("domain", "other")]
            .map(|(scope, id)| (scope.to_owned(), id.to_owned())),
    );
    let mut ids = Vec::new();
    for _ in 0..3 {
        let cookies: Vec<_> = jar.values().map(|id| format!("ajs_anonymous_id={id}")).collect();
        let page = edge.request("GET", "/").header("Host", "www.shop.example");
        let page = page.header("Cookie", &cookies.join("; ")).send().await;
        for line in page.all("set-cookie") {
            let value = line.split(['=', ';']).nth(1).unwrap();
            let scope = if line.contains("Domain=") { "domain" } else { "host" };
            if line.contains("Max-Age=0") {
                jar.remove(scope);
            } else {
                jar.insert(scope.to_owned(), value.to_owned());
            }
        }
        ids.push(jar.values().cloned().collect::<Vec<_>>());
    }
    assert!(ids[0].len() == 1 && ids[0] == ids[1] && ids[1] == ids[2], "{ids:?}");
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
        assert_eq!((lines.len(), ends.count()), (7, 6));
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

/// Segment's usual order: `track('Logged Out')`, then `reset()`. The event arrives behind the reset.
#[tokio::test]
async fn an_event_from_before_the_end_brings_nobody_back() {
    let (origin, vendor) =
        (Server::start(|_| Reply::html("<head></head>")).await, Vendor::start().await);
    let edge = Setup::new(origin.port).vendor(vendor.port()).start().await;
    let before = "ajs_user_id=john; ajs_anonymous_id=old";
    let reset = edge.request("POST", "/seg/reset").header("Cookie", before).send().await;
    let mark = format!("doorstep_ended={}", reset.cookie("doorstep_ended").unwrap());
    let ids = |answer: &Answer| {
        [answer.cookie("ajs_user_id"), answer.cookie("ajs_anonymous_id")]
            .map(Option::unwrap_or_default)
    };
    let now = std::time::SystemTime::now();
    let stamp = |ago: u64| {
        humantime::format_rfc3339_millis(now - std::time::Duration::from_secs(ago)).to_string()
    };
    for (method, event) in [
        // By the id that has ended, whatever is said of the time.
        ("t", json!({"event": "Logged Out", "userId": "john", "anonymousId": "old"})),
        ("i", json!({"userId": "john", "anonymousId": "old"})),
        (
            "b",
            json!({"batch": [{"type": "track", "event": "x", "userId": "john", "anonymousId": "old"}]}),
        ),
        // What stands behind it in a batch is another browser's.
        (
            "b",
            json!({"batch": [
                {"type": "identify", "userId": "john", "anonymousId": "old"},
                {"type": "identify", "userId": "john", "anonymousId": "new", "timestamp": stamp(60), "sentAt": stamp(0)},
            ]}),
        ),
        // By its age, whatever the browser's clock says: a minute old.
        (
            "i",
            json!({"userId": "john", "anonymousId": "new", "timestamp": stamp(60), "sentAt": stamp(0)}),
        ),
        (
            "i",
            json!({"userId": "john", "anonymousId": "new", "timestamp": "1999-01-01T00:00:00Z", "sentAt": "1999-01-01T00:01:00Z"}),
        ),
    ] {
        let answer = edge.event(method, &event).header("Cookie", &mark).send().await;
        assert_eq!((answer.status, ids(&answer)), (200, [String::new(), String::new()]), "{event}");
    }
    let batch = json!({"batch": [
        {"type": "identify", "userId": "john", "anonymousId": "old"},
        {"type": "track", "event": "x", "anonymousId": "new"},
    ]});
    let answer = edge.event("b", &batch).header("Cookie", &mark).send().await;
    assert_eq!(ids(&answer), [String::new(), "new".into()]);
    // The next login counts at once.
    for event in [
        json!({"userId": "mary", "anonymousId": "new"}),
        json!({"userId": "mary", "anonymousId": "new", "timestamp": stamp(0), "sentAt": stamp(0)}),
    ] {
        let answer = edge.event("i", &event).header("Cookie", &mark).send().await;
        assert_eq!(ids(&answer), ["mary", "new"]);
    }
    // All of it reaches the vendor all the same.
    assert_eq!(vendor.until(11).await.len(), 11);
    // An id that has ended is not taken from a cookie either.
    let cookie = format!("{mark}; ajs_anonymous_id=old");
    let page = edge
        .request("GET", "/")
        .header("Accept", "text/html")
        .header("Cookie", &cookie)
        .send()
        .await;
    assert!(page.cookie("ajs_anonymous_id").is_some_and(|id| id != "old"));
    assert!(page.text().contains(r#""e":"#), "{}", page.text());
}

/// The site's own logout: its cookie, or its word, without any call to the edge.
#[tokio::test]
async fn the_sites_own_logout_ends_the_identity() {
    let origin = Server::start(|asked| match asked.target.as_str() {
        "/out" => Reply::new(302, &["Location: /", "X-Doorstep-User:"], ""),
        "/expire" => Reply::new(
            200,
            &[
                "Content-Type: text/html",
                "Set-Cookie: ajs_user_id=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
            ],
            "<head></head>bye",
        ),
        "/change" => Reply::new(
            200,
            &["Set-Cookie: ajs_user_id=; Max-Age=0", "Set-Cookie: ajs_user_id=mary; Path=/"],
            "",
        ),
        _ => Reply::html("<head></head>"),
    })
    .await;
    let edge = Setup::new(origin.port).start().await;
    let john = "ajs_user_id=john; ajs_anonymous_id=old";
    for path in ["/out", "/expire"] {
        let request =
            edge.request("GET", path).header("Accept", "text/html").header("Cookie", john);
        let out = request.send().await;
        let lines = out.all("set-cookie").join("\n");
        assert!(lines.contains("ajs_user_id=; "), "{path}: {lines}");
        assert!(out.cookie("doorstep_ended").is_some(), "{path}: {lines}");
        assert!(out.cookie("ajs_anonymous_id").is_some_and(|id| id != "old"), "{path}: {lines}");
        assert!(!out.text().contains("john"), "{path}: {}", out.text());
        // Nobody has logged in: nobody logs out.
        let request = edge.request("GET", path).header("Cookie", "ajs_anonymous_id=kept");
        assert_eq!(request.send().await.cookie("doorstep_ended"), None, "{path}");
    }
    let change = edge.request("GET", "/change").header("Cookie", john).send().await;
    assert_eq!(change.cookie("doorstep_ended"), None);
    // What has to go goes, whatever the visitor allows.
    let strict = Setup::new(origin.port)
        .site("consent: { limited: request.cookies.c == 'counted', denied: request.cookies.c == 'none' }")
        .start()
        .await;
    for c in ["counted", "none"] {
        let cookie = format!("{john}; c={c}");
        let out = strict.request("GET", "/out").header("Cookie", &cookie).send().await;
        let lines = out.all("set-cookie").join("\n");
        assert!(lines.contains("ajs_user_id=; "), "{c}: {lines}");
    }
}
