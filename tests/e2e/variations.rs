//! Other pages under the same URL: routes, targets, and what happens when the chosen page fails.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::Notify;

use crate::support::client::Connection;
use crate::support::edge::{Edge, Setup};
use crate::support::server::{Piece, Reply, Server};

async fn origin() -> Server {
    Server::start(|asked| match asked.target.split('?').next().unwrap_or_default() {
        "/gone" => Reply::new(404, &["Content-Type: text/html"], "gone"),
        "/broken" => Reply::new(503, &["Content-Type: text/html"], "broken"),
        "/nothing" => Reply::new(404, &["Content-Type: text/html"], "nothing here"),
        "/deep/links" => Reply::html(
            "<head></head><a href=next>n</a><img src='./a.png' srcset='b.png 2x'><a href='#top'>t</a><a href='/abs'>a</a>",
        ),
        _ => Reply::html(format!("<head></head>{} {}", asked.method, asked.target)),
    })
    .await
}

async fn edge(origin: &Server, other: &Server) -> Edge {
    let other = other.port;
    Setup::new(origin.port)
        .site(&format!(
            "inject: {{ enabled: false }}
variations:
- {{ route: '/products/{{id}}', choose: [{{ when: 'request.query.v == \"1\"', path: '/dealer/{{id}}/x' }}] }}
- {{ route: '/docs/{{rest=**}}', choose: [{{ path: '/manual/{{rest}}' }}] }}
- {{ route: /a/*, choose: [{{ when: 'request.query.v == \"1\"', origin: '127.0.0.1:{other}' }}, {{ when: 'request.query.v == \"2\"', origin: '127.0.0.1:{other}', path: /b }}, {{ when: 'request.query.v == \"3\"', origin: '127.0.0.1:1' }}] }}
- route: [/old, /older]
  choose: [{{ redirect: /new, status: 307 }}]
- {{ route: /abroad, choose: [{{ redirect: 'https://other.example/x', allow_other_site: true }}] }}
- {{ route: /post, choose: [{{ path: /changed }}] }}
- {{ route: /post-too, methods: all, choose: [{{ path: /changed }}] }}
- {{ route: /fails, choose: [{{ path: /gone }}] }}
- {{ route: /breaks, choose: [{{ path: /broken }}] }}
- {{ route: /stays, choose: [{{ path: /gone, fallback: false }}] }}
- {{ route: /nothing, choose: [{{ path: /gone }}] }}
- {{ route: /links, choose: [{{ path: /deep/links, links: path }}] }}
- {{ route: /same-links, choose: [{{ path: /deep/links }}] }}
- {{ route: /share, choose: [{{ share: 30%, path: /shared }}] }}"
        ))
        .start()
        .await
}

#[tokio::test]
async fn routes_lead_where_they_say_and_the_address_stays() {
    let (origin, other) = (
        origin().await,
        Server::start(|asked| Reply::html(format!("other {}", asked.target))).await,
    );
    let edge = edge(&origin, &other).await;
    for (target, page) in [
        ("/products/7?v=1", "GET /dealer/7/x?v=1"),
        ("/products/a%20b%2f?v=1", "GET /products/a%20b%2f?v=1"),
        ("/products/a%20b%3f?v=1", "GET /dealer/a%20b%3F/x?v=1"),
        ("/products/7/more?v=1", "GET /products/7/more?v=1"),
        ("/docs", "GET /manual/"),
        ("/docs/a/b?x=1", "GET /manual/a/b?x=1"),
        ("/docs/../docs/a", "GET /manual/a"),
        ("/a/x?v=1", "other /a/x?v=1"),
        ("/a/x?v=2", "other /b?v=2"),
        ("/a/x", "GET /a/x"),
        // Nobody listens there.
        ("/a/x?v=3", "GET /a/x?v=3"),
    ] {
        let page_is = edge.get(target).await;
        assert_eq!(
            (page_is.status, page_is.text().replace("<head></head>", "")),
            (200, page.to_owned()),
            "{target}"
        );
        assert_eq!(page_is.header("cache-control"), Some("private, no-cache"), "{target}");
    }
    let moved = edge.get("/older?a=1").await;
    assert_eq!((moved.status, moved.header("location")), (307, Some("/new?a=1")));
    assert_eq!(moved.header("cache-control"), Some("private, no-store"));
    let abroad = edge.get("/abroad").await;
    assert_eq!((abroad.status, abroad.header("location")), (302, Some("https://other.example/x")));
    let head = edge.request("HEAD", "/docs/a").send().await;
    assert_eq!(head.status, 200);
    assert_eq!(origin.until("/manual/a", 2).await[1].method, "HEAD");
    for (method, target, page) in [
        ("POST", "/post", "/post"),
        ("POST", "/post-too", "/changed"),
        ("GET", "/post", "/changed"),
    ] {
        let got = edge.request(method, target).body("x").send().await.text();
        assert!(got.ends_with(&format!("{method} {page}")), "{got}");
    }
    // Who is asked for twice in advance is decided the same.
    let prefetch = edge.request("GET", "/docs/p").header("Sec-Purpose", "prefetch").send().await;
    assert!(prefetch.text().ends_with("/manual/p"));
}

#[tokio::test]
async fn a_chosen_page_that_fails_is_replaced_once() {
    let (origin, other) = (origin().await, Server::start(|_| Reply::html("x")).await);
    let edge = edge(&origin, &other).await;
    for (target, status, page, asked) in [
        ("/fails?q=1", 200, "GET /fails?q=1", vec!["/gone?q=1", "/fails?q=1"]),
        ("/breaks", 200, "GET /breaks", vec!["/broken", "/breaks"]),
        ("/stays", 404, "gone", vec!["/gone"]),
        ("/nothing", 404, "nothing here", vec!["/gone", "/nothing"]),
    ] {
        let before = origin.asked().len();
        let got = edge.get(target).await;
        assert_eq!(
            (got.status, got.text().replace("<head></head>", "")),
            (status, page.to_owned()),
            "{target}"
        );
        let all: Vec<_> =
            origin.asked().into_iter().skip(before).map(|asked| asked.target).collect();
        assert_eq!(all, asked, "{target}");
    }
    edge.becomes("doorstep_variation_fallbacks_total", &[], 3.0).await;
    let head = edge.request("HEAD", "/fails").send().await;
    assert_eq!(head.status, 200);
}

#[tokio::test]
async fn a_chosen_page_that_does_not_begin_is_replaced_in_time() {
    let (never, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (goes, speak) = (Arc::clone(&go), Arc::new(Notify::new()));
    let speaks = Arc::clone(&speak);
    let origin = Server::start(move |asked| match asked.target.as_str() {
        "/silent" => Reply(vec![Piece::Wait(Arc::clone(&never))]),
        "/hints" => {
            let hints = Piece::Bytes(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n".into());
            Reply(vec![hints, Piece::Wait(Arc::clone(&never))])
        }
        "/socket" => {
            let agrees = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
            let agrees = Piece::Bytes(agrees.into());
            Reply(vec![agrees, Piece::Wait(Arc::clone(&speaks)), Piece::Bytes(b"later".into())])
        }
        "/paused" => {
            let begins =
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n";
            let begins = Piece::Bytes(begins.into());
            Reply(vec![begins, Piece::Wait(Arc::clone(&goes)), Piece::Bytes(b"4\r\n end\r\n0\r\n\r\n".into())])
        }
        _ => Reply::html(format!("everybody's {}", asked.target)),
    })
    .await;
    let edge = Setup::new(origin.port)
        .origin("fallback_after: 300ms")
        .site(
            "inject: { enabled: false }
variations:
- { route: /hangs, choose: [{ path: /silent }] }
- { route: /hints-and-hangs, choose: [{ path: /hints }] }
- { route: /pauses, choose: [{ path: /paused }] }
- { route: /tunnel, applies_to: everything, choose: [{ path: /socket }] }",
        )
        .start()
        .await;
    // The first connection is new, later ones have been used before.
    let mut pausing = Connection::open(edge.port).await;
    pausing.write(edge.request("GET", "/pauses").bytes()).await;
    assert!(pausing.until(b"begun").await.is_some());
    let mut tunnel = Connection::open(edge.port).await;
    let asks = edge.request("GET", "/tunnel").header("Connection", "Upgrade");
    tunnel.write(asks.header("Upgrade", "websocket").bytes()).await;
    assert!(tunnel.until(b"101 Switching Protocols").await.is_some());
    for _ in 0..3 {
        assert_eq!(edge.get("/hangs").await.text(), "everybody's /hangs");
    }
    let mut hinted = Connection::open(edge.port).await;
    hinted.write(edge.request("GET", "/hints-and-hangs").bytes()).await;
    assert_eq!(hinted.head().await.unwrap().status, 103);
    assert_eq!(hinted.answer("GET").await.unwrap().text(), "everybody's /hints-and-hangs");
    edge.becomes("doorstep_variation_fallbacks_total", &[], 4.0).await;
    go.notify_one();
    speak.notify_one();
    assert!(tunnel.until(b"later").await.is_some(), "a tunnel may be silent");
    assert!(pausing.until(b" end").await.is_some(), "what has begun may pause");
    let asked = origin.asked();
    assert_eq!(asked.iter().filter(|asked| asked.target == "/silent").count(), 3);
}

#[tokio::test]
async fn relative_links_lead_where_the_page_means() {
    let (origin, other) = (origin().await, Server::start(|_| Reply::html("x")).await);
    let edge = edge(&origin, &other).await;
    let own = edge.get("/links").await.text();
    for part in [
        "href=\"/deep/next\"",
        "src=\"/deep/./a.png\"",
        "srcset=\"/deep/b.png 2x\"",
        "'#top'",
        "'/abs'",
    ] {
        assert!(own.contains(part), "{part}: {own}");
    }
    assert!(edge.get("/same-links").await.text().contains("<a href=next>"));
}

#[tokio::test]
async fn a_share_of_the_visitors_is_always_the_same_one() {
    let (origin, other) = (origin().await, Server::start(|_| Reply::html("x")).await);
    let edge = edge(&origin, &other).await;
    let mut among = 0;
    for n in 0..200 {
        let cookie = format!("ajs_anonymous_id=visitor-{n}");
        let get = || {
            edge.request("GET", "/share")
                .header("Accept", "text/html")
                .header("Cookie", &cookie)
                .send()
        };
        let first = get().await.text().contains("/shared");
        among += usize::from(first);
        if n < 20 {
            assert_eq!(get().await.text().contains("/shared"), first);
        }
    }
    // The draw is fixed: this is what FNV-1a makes of these 200 ids.
    assert!((45..=75).contains(&among), "{among}");
}

#[tokio::test]
async fn traits_leave_as_cookies_and_headers_where_they_may() {
    let origin = Server::start(|_| Reply::html("<head></head>x")).await;
    let edge = Setup::new(origin.port)
        .site(
            "webhook: { username: u, password: p }
trait_cookies:
- { name: signed_up, value: string(traits.signed_up == 1), max_age: 1h, readable: true }
- { name: city, value: traits.city }
request_headers: { X-Doorstep-Plan: traits.plan, X-Doorstep-Odd: 'traits.odd' }",
        )
        .start()
        .await;
    let push = json!({"type": "identify", "userId": "john", "traits": {"signed_up": 1, "city": "Z\u{fc}rich; a=b\r\nSet-Cookie: x=y", "plan": "pr\u{e9}mium\r\nx: y", "odd": [1]}});
    let pushed =
        edge.request("POST", "/seg/profiles-webhook").header("Authorization", "Basic dTpw");
    assert_eq!(pushed.body(push.to_string()).send().await.status, 200);
    let page = edge
        .request("GET", "/john")
        .header("Accept", "text/html")
        .header("X-Doorstep-Plan", "mine")
        .header("x-doorstep-Other", "mine")
        .header("Cookie", "ajs_user_id=john")
        .send()
        .await;
    let lines = page.all("set-cookie").join("\n");
    assert!(
        lines.contains("signed_up=true; SameSite=Lax; Path=/; Domain=shop.example; Max-Age=3600"),
        "{lines}"
    );
    assert!(
        lines.contains(
            "city=Z%C3%BCrich%3B%20a%3Db%0D%0ASet-Cookie:%20x%3Dy; HttpOnly; SameSite=Lax; Path=/"
        ),
        "{lines}"
    );
    let asked = &origin.until("/john", 1).await[0];
    assert_eq!(asked.header("x-doorstep-plan"), Some("pr%C3%A9mium%0D%0Ax: y"));
    assert_eq!((asked.header("x-doorstep-other"), asked.header("x-doorstep-odd")), (None, None));
    // A value of no form is a failure, and a cookie without its trait goes.
    edge.becomes("doorstep_rule_failures_total", &[], 1.0).await;
    let nobody = edge
        .request("GET", "/nobody")
        .header("Accept", "text/html")
        .header("Cookie", "signed_up=true; city=x")
        .send()
        .await;
    let lines = nobody.all("set-cookie").join("\n");
    assert!(
        lines.contains("signed_up=; ") && lines.contains("city=; ") && lines.contains("Max-Age=0"),
        "{lines}"
    );
    assert_eq!(origin.until("/nobody", 1).await[0].header("x-doorstep-plan"), None);
}

/// Whoever asks for a page, in whichever form, gets the visitor's; what is no page stays everybody's, unless told.
#[tokio::test]
async fn a_variation_holds_for_every_form_of_its_page() {
    let origin = Server::start(|asked| {
        let kind = if asked.target.contains(".css") { "text/css" } else { "text/html" };
        Reply::new(200, &[&format!("Content-Type: {kind}")], format!("<html>{}", asked.target))
    })
    .await;
    let edge = Setup::new(origin.port)
        .site(
            "inject: { enabled: false }
request_headers: { x-doorstep-plan: '\"gold\"' }
variations:
- { route: /, choose: [{ path: /red }] }
- { route: /old, choose: [{ redirect: /new }] }
- { route: /theme/*, applies_to: everything, choose: [{ path: /red.css }] }
- { route: /pages/*, choose: [{ path: /red/page }] }",
        )
        .start()
        .await;
    let (html, any) = (("Accept", "text/html"), ("Accept", "*/*"));
    let fetched = ("Sec-Fetch-Dest", "empty");
    let forms: [&[(&str, &str)]; 9] = [
        &[html],
        &[any],
        &[],
        &[any, fetched],
        &[html, fetched, ("Turbo-Frame", "a")],
        &[any, ("HX-Request", "true")],
        &[any, fetched, ("RSC", "1")],
        &[any, ("X-Up-Version", "3")],
        &[html, ("X-PJAX", "true"), ("X-Requested-With", "XMLHttpRequest")],
    ];
    let send = |method: &'static str, path: &str, headers: &[(&str, &str)]| {
        let request = edge.request(method, path);
        headers.iter().fold(request, |request, (name, value)| request.header(name, value)).send()
    };
    for headers in forms {
        let page = send("GET", "/?q=1", headers).await;
        assert_eq!(page.text(), "<html>/red?q=1", "{headers:?}");
        assert_eq!(page.header("cache-control"), Some("private, no-cache"), "{headers:?}");
        assert_eq!(
            origin.asked().last().unwrap().header("x-doorstep-plan"),
            Some("gold"),
            "{headers:?}"
        );
        assert_eq!(send("HEAD", "/", headers).await.status, 200);
        assert_eq!(origin.asked().last().unwrap().target, "/red");
        let moved = send("GET", "/old", headers).await;
        assert_eq!((moved.status, moved.header("location")), (302, Some("/new")), "{headers:?}");
    }
    let (image, style) = (("Sec-Fetch-Dest", "image"), ("Sec-Fetch-Dest", "style"));
    for (path, headers, got) in [
        ("/pages/a", &[image][..], "/pages/a"),
        ("/pages/a", &[("Accept", "image/webp,*/*;q=0.8")], "/pages/a"),
        ("/pages/a", &[("Accept", "application/json"), fetched], "/pages/a"),
        ("/pages/a", &[any, fetched], "/red/page"),
        ("/theme/a.css", &[style], "/red.css"),
        // A framework's data of a page.
        ("/__data.json?x=1", &[any, fetched], "/red/__data.json?x=1"),
        ("/_root.data", &[any, fetched], "/red.data"),
        ("/pages/a.data", &[any, fetched], "/red/page.data"),
        ("/pages/...data", &[any, fetched], "/red/page"),
        ("/old.data", &[any, fetched], "/old.data"),
    ] {
        assert_eq!(
            send("GET", path, headers).await.text(),
            format!("<html>{got}"),
            "{path} {headers:?}"
        );
    }
    let image =
        origin.asked().into_iter().find(|asked| asked.header("sec-fetch-dest") == Some("image"));
    assert_eq!(image.unwrap().header("x-doorstep-plan"), None);
}

/// A tunnel is no page, whatever page stands at its path; octets that are no text are no part of another path.
#[tokio::test]
async fn what_is_no_page_is_not_chosen() {
    let origin = Server::start(|asked| {
        if asked.header("upgrade").is_some() {
            return Reply::raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n");
        }
        Reply::html(format!("<head></head>{}", asked.target))
    })
    .await;
    let edge = Setup::new(origin.port)
        .site(
            "variations:\n- { route: /live, choose: [{ when: 'true', redirect: /login }] }\n\
             - { route: '/p/{id}', choose: [{ when: 'true', path: '/red/{id}' }] }",
        )
        .start()
        .await;
    let upgrade = edge.request("GET", "/live").header("Connection", "Upgrade");
    let upgrade = upgrade.header("Upgrade", "websocket").header("Sec-WebSocket-Version", "13");
    let mut connection = Connection::open(edge.port).await;
    connection.write(upgrade.bytes()).await;
    assert_eq!(connection.head().await.expect("an answer").status, 101);
    let get = |path| edge.request("GET", path).header("Accept", "text/html").send();
    assert_eq!(get("/live").await.status, 302);
    assert!(get("/p/caf%C3%A9").await.text().ends_with("/red/caf%C3%A9"));
    assert!(get("/p/caf%E9").await.text().ends_with("/p/caf%E9"), "no other page has its name");
}
