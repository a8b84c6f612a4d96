//! What browsers may keep of pages that depend on who asks.

use serde_json::json;

use crate::support::client::Answer;
use crate::support::edge::{Edge, Setup};
use crate::support::server::{Reply, Server};

const KEPT: [&str; 7] = [
    "Cache-Control: public, max-age=600, s-maxage=60",
    "Expires: Thu, 01 Jan 2099 00:00:00 GMT",
    "X-Accel-Expires: 600",
    "Edge-Control: max-age=1d",
    "Surrogate-Control: max-age=600",
    "CDN-Cache-Control: max-age=600",
    "Vercel-CDN-Cache-Control: max-age=600",
];

async fn origin() -> Server {
    Server::start(|asked| {
        let path = asked.target.split('?').next().unwrap_or_default();
        let status = match path {
            "/missing" => 404,
            "/broken" => 500,
            _ => 200,
        };
        let html = [&["Content-Type: text/html"][..], &KEPT].concat();
        match path {
            "/moves" => Reply::new(301, &[&["Location: /elsewhere"][..], &KEPT].concat(), ""),
            // A folder of a static server.
            "/red" => Reply::new(301, &["Location: /red/"], ""),
            "/host" => Reply::new(308, &["Location: http://shop.example/red/?kept=1"], ""),
            "/round" => Reply::new(301, &["Location: /round"], ""),
            // Not for good: a login, mostly.
            "/login" => Reply::new(302, &["Location: /red/"], ""),
            "/own" => Reply::new(301, &["Location: /seg/traits"], ""),
            "/same" => Reply::new(304, &KEPT, ""),
            "/part" => Reply::new(206, &html, "<h1>"),
            "/away" => Reply::new(301, &["Location: https://other.example/red"], ""),
            "/file" => Reply::new(200, &[&["Content-Type: text/css"][..], &KEPT].concat(), "a{}"),
            _ => Reply::new(status, &html, format!("<head></head>{}", asked.target)),
        }
    })
    .await
}

async fn edge(origin: &Server, more: &str) -> Edge {
    let routes = [
        "/", "/missing", "/broken", "/moves", "/hosted", "/rounds", "/leaves", "/member", "/inner",
    ];
    let paths =
        ["/red", "/missing", "/broken", "/moves", "/host", "/round", "/away", "/login", "/own"];
    let variations: Vec<String> = routes
        .iter()
        .zip(paths)
        .map(|(route, path)| {
            format!("- {{ route: {route}, choose: [{{ when: traits.red, path: {path} }}] }}\n")
        })
        .collect();
    let edge = Setup::new(origin.port)
        .site(&format!(
            "webhook: {{ username: u, password: p }}\n{more}\nvariations:\n{}",
            variations.concat()
        ))
        .start()
        .await;
    let push = json!({"type": "identify", "userId": "john", "traits": {"red": true}});
    let request =
        edge.request("POST", "/seg/profiles-webhook").header("Authorization", "Basic dTpw");
    assert_eq!(request.body(push.to_string()).send().await.status, 200);
    edge
}

async fn get(edge: &Edge, path: &str, cookie: &str) -> Answer {
    let request = edge.request("GET", path).header("Accept", "text/html");
    request.header("Sec-Fetch-Dest", "document").header("Cookie", cookie).send().await
}

/// Nothing may show it again without asking.
fn is_asked_for_each_time(answer: &Answer) -> bool {
    let left = KEPT.iter().filter_map(|line| line.split_once(':')).skip(1);
    left.clone().all(|(name, _)| answer.header(name).is_none())
        && answer.all("cache-control") == ["private, no-cache"]
}

/// Logged in, the page of before must not be shown again; logged out, nor must the personal one.
#[tokio::test]
async fn a_page_that_depends_on_who_asks_is_asked_for_each_time() {
    let origin = origin().await;
    let edge = edge(&origin, "").await;
    for path in ["/", "/missing", "/broken", "/moves", "/plain"] {
        for cookie in ["", "ajs_user_id=john", "ajs_anonymous_id=b"] {
            let page = get(&edge, path, cookie).await;
            assert!(is_asked_for_each_time(&page), "{path} {cookie}: {page:?}");
        }
    }
    let file = get(&edge, "/file", "ajs_user_id=john").await;
    assert_eq!(file.header("cache-control"), Some("public, max-age=600, s-maxage=60"));
    assert_eq!(file.header("x-accel-expires"), Some("600"));
}

/// A page that was fetched ahead or by a script is another one than what is shown.
#[tokio::test]
async fn the_other_form_of_a_page_is_not_shown_in_its_place() {
    let origin = origin().await;
    let edge = edge(&origin, "").await;
    for (path, dest) in
        [("/", "empty"), ("/plain", "empty"), ("/moves", "empty"), ("/plain", "image")]
    {
        for accept in ["*/*", "text/html,*/*;q=0.8"] {
            let request = edge.request("GET", path).header("Sec-Fetch-Dest", dest);
            let other = request.header("Accept", accept).send().await;
            let varies = other.all("vary").join(", ").to_lowercase();
            assert!(varies.contains("sec-fetch-dest"), "{path} {dest} {accept}");
            // Who says that it wants HTML may show it.
            let shows = dest == "empty" && accept != "*/*" && other.status == 200;
            assert_eq!(other.text().contains("<script>"), shows, "{path} {dest} {accept}");
            assert!(!shows || is_asked_for_each_time(&other), "{path}");
        }
    }
    let file = edge.request("GET", "/file").header("Sec-Fetch-Dest", "style").send().await;
    assert_eq!(file.header("vary"), None);
    // A site whose pages have one form says nothing.
    let plain = Setup::new(origin.port).site("inject: { enabled: false }").start().await;
    let page = plain.request("GET", "/plain").header("Sec-Fetch-Dest", "empty").send().await;
    assert_eq!(page.header("vary"), None);
}

/// A variation keeps the URL that the visitor sees, also where its path has moved.
#[tokio::test]
async fn a_chosen_page_that_moves_is_followed_or_given_up() {
    let origin = origin().await;
    let edge = edge(&origin, "").await;
    for (path, page) in [
        ("/", "/red/"),
        ("/?a=b", "/red/"),
        ("/hosted", "/red/?kept=1"),
        // Followed once, and never to somebody else.
        ("/rounds", "/rounds"),
        ("/leaves", "/leaves"),
        ("/member", "/member"),
        ("/inner", "/inner"),
    ] {
        let answer = get(&edge, path, "ajs_user_id=john").await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert!(answer.text().ends_with(&format!("</head>{page}")), "{path}: {}", answer.text());
        assert!(is_asked_for_each_time(&answer), "{path}");
    }
    edge.becomes("doorstep_variation_fallbacks_total", &[], 4.0).await;
    // Everybody's page may lead elsewhere.
    let moved = get(&edge, "/moves", "").await;
    assert_eq!((moved.status, moved.header("location")), (301, Some("/elsewhere")));
}

/// A confirmation, or a part, of a page that depends on who asks does not make it everybody's.
#[tokio::test]
async fn what_confirms_a_page_keeps_it_private() {
    let origin = origin().await;
    let plain = "inject: { enabled: false }\nidentity: { server_side_cookies: false }";
    for more in [
        "trait_cookies: [{ name: red, value: string(traits.red) }]",
        "consent: { denied: 'request.cookies.no == \"1\"' }",
    ] {
        let edge = Setup::new(origin.port).site(&format!("{plain}\n{more}")).start().await;
        for path in ["/", "/same", "/part"] {
            let request = edge.request("GET", path).header("Accept", "text/html");
            let request = request.header("If-None-Match", "\"a\"").header("Range", "bytes=0-3");
            let answer = request.header("Sec-Fetch-Dest", "document").send().await;
            assert!(is_asked_for_each_time(&answer), "{more} {path}: {answer:?}");
        }
        let asked = origin.asked();
        let own = asked.last().unwrap();
        assert!(own.header("if-none-match").is_none());
    }
    let edge = Setup::new(origin.port).site(plain).start().await;
    for (path, status) in [("/same", 304), ("/part", 206)] {
        let request = edge.request("GET", path).header("Accept", "text/html");
        let answer = request.header("If-None-Match", "\"a\"").send().await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("cache-control"), Some("public, max-age=600, s-maxage=60"));
        assert!(origin.asked().last().unwrap().header("if-none-match").is_some());
    }
}
