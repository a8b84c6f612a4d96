//! What is malformed, too large or a trick gets an answer or a clean close, and reaches nobody.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::client::Connection;
use crate::support::edge::Setup;
use crate::support::server::{Reply, Server};
use crate::support::vendor::Vendor;
use crate::tls;

/// Raw requests that a strict server refuses.
const REFUSED: &[(&str, u16)] = &[
    ("GET / HTTP/1.1\nHost: shop.example\n\n", 400),
    ("GET / HTTP/1.1\r\nHost: shop.example\r\nX: a\nY: b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: shop.example\r\nHost: shop.example\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: shop.example@evil.test\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: shop.example/x\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: shop.example:http\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: shop.example, evil.test\r\n\r\n", 400),
    ("GET @foreign/ HTTP/1.1\r\nHost: shop.example\r\n\r\n", 400),
    ("GET foreign:80/ HTTP/1.1\r\nHost: shop.example\r\n\r\n", 400),
    ("GET http://evil.test/ HTTP/1.1\r\nHost: shop.example\r\n\r\n", 421),
    ("GET /../etc HTTP/1.1\r\nHost: shop.example\r\n\r\n", 400),
    ("GET /%2e%2e/etc HTTP/1.1\r\nHost: shop.example\r\n\r\n", 400),
    ("GET /%00 HTTP/1.1\r\nHost: shop.example\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: shop.example\r\nX : y\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: shop.example\r\nX: y\r\n folded\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: shop.example\r\nX: a\x01b\r\n\r\n", 400),
    (
        "POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "POST / HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "POST / HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    ("POST / HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    ("POST / HTTP/1.0\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (
        "POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        400,
    ),
    ("POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 3, 3\r\n\r\nabc", 400),
    (
        "POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        400,
    ),
    ("POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: -3\r\n\r\nabc", 400),
    (
        "GET / HTTP/1.1\r\nHost: shop.example\r\nUpgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 3\r\n\r\nabc",
        400,
    ),
    ("CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: other.example\r\n\r\n", 421),
    ("TRACE / HTTP/1.1\r\nHost: shop.example\r\n\r\n", 405),
];

#[tokio::test]
async fn what_can_be_read_in_two_ways_is_refused_and_the_connection_closed() {
    let origin = Server::start(|_| Reply::new(200, &[], "reached")).await;
    let edge = Setup::new(origin.port).start().await;
    for (raw, status) in REFUSED {
        let mut connection = Connection::open(edge.port).await;
        connection.write(raw).await;
        let answer = connection.answer("GET").await;
        let got = answer.as_ref().map(|answer| answer.status);
        assert!(
            got == Some(*status) || (got == Some(405) && raw.starts_with("CONNECT")),
            "{raw:?}: {answer:?}"
        );
        let why = answer.map(|answer| answer.text()).unwrap_or_default();
        assert!(why.contains("message") || why.contains("<h1>"), "{raw:?} is not told why: {why}");
        if *status == 400 {
            assert!(connection.is_closed().await, "{raw:?} must close the connection");
        }
    }
    let large =
        format!("GET / HTTP/1.1\r\nHost: shop.example\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    assert_eq!(edge.raw(large).await.unwrap().status, 431);
    let many = format!("GET / HTTP/1.1\r\nHost: shop.example\r\n{}\r\n", "X: y\r\n".repeat(101));
    assert_eq!(edge.raw(many).await.unwrap().status, 431);
    assert!(origin.asked().is_empty(), "{:#?}", origin.asked());
    edge.reaches("doorstep_requests_rejected_total", &[], 8.0).await;
    assert_eq!(edge.get("/").await.text(), "reached");
}

#[tokio::test]
async fn no_trick_below_the_prefix_reaches_another_upstream() {
    let vendor = Vendor::start().await;
    let origin = Server::start(|_| Reply::new(200, &[], "origin")).await;
    let edge = Setup::new(origin.port).vendor(vendor.port()).start().await;
    for path in [
        "/seg",
        "/seg/",
        "/seg/x",
        "/%73eg/x",
        "//seg/x",
        "/a/../seg/x",
        "/a/%2e%2e/seg/x",
        "/seg%2fx",
        "/./seg/x",
        "/seg/v1/t",
        "/seg/evs/",
        "/seg/evs/x",
        "/seg/assets/",
        "/seg/v1/projects/other/key/settings",
        "/seg/v1/projects/..%252f..%252fx/settings",
        "/seg/next-integrations/%2e%2e/x",
    ] {
        assert_eq!(edge.get(path).await.status, 404, "{path}");
    }
    // Servers would not agree where that leads.
    for path in [
        "/a\\..\\seg\\x",
        "/seg/analytics-next/bundles/..%2f..%2fv1%2fprojects%2fx",
        "/seg/p/..%2F..%2fadmin",
        "/pages/..%5cadmin",
    ] {
        assert_eq!(edge.get(path).await.status, 400, "{path}");
    }
    assert!(origin.asked().is_empty() && vendor.files().is_empty());
    // Whatever key is asked for, the site's own is.
    assert_eq!(edge.get("/seg/v1/projects/other-key-123/settings").await.status, 200);
    let asked: Vec<String> = vendor.files().into_iter().map(|asked| asked.target).collect();
    assert!(
        !asked.is_empty() && asked.iter().all(|target| !target.contains("other-key")),
        "{asked:?}"
    );
    // Empty lines in front of a request are none of it.
    let answer = edge.raw("\r\n\r\nGET /own HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
    assert_eq!(answer.unwrap().text(), "origin");
    // Out of the prefix again: the site's own.
    assert_eq!(edge.get("/seg/../x").await.text(), "origin");
    assert_eq!(edge.get("/segment").await.text(), "origin");
}

#[tokio::test]
async fn a_body_that_nobody_reads_is_never_the_next_request() {
    let vendor = Vendor::start().await;
    let origin = Server::start(|_| Reply::new(200, &[], "origin")).await;
    let edge = Setup::new(origin.port).vendor(vendor.port()).start().await;
    let inner = "GET /smuggled HTTP/1.1\r\nHost: shop.example\r\n\r\n";
    assert_eq!(edge.get("/seg/assets/sdk.js").await.status, 200);
    for (method, path) in [
        ("GET", "/seg/assets/sdk.js"),
        ("GET", "/seg/analytics-next/bundles/missing.js"),
        ("POST", "/seg/assets/sdk.js"),
        ("GET", "/seg/traits"),
        ("GET", "/seg/snippet.js"),
        ("POST", "/seg/reset"),
        ("GET", "/seg/nothing"),
        ("POST", "/seg/evs/t"),
        ("GET", "/seg/evs/t"),
        ("POST", "/seg/profiles-webhook"),
    ] {
        let raw = format!(
            "{method} {path} HTTP/1.1\r\nHost: shop.example\r\nContent-Length: {}\r\n\r\n{inner}",
            inner.len()
        );
        let mut connection = Connection::open(edge.port).await;
        connection.write(raw).await;
        assert!(connection.answer(method).await.is_some(), "{method} {path}");
        connection.write(edge.request("GET", "/after").bytes()).await;
        if let Some(answer) = connection.answer("GET").await {
            assert_eq!(answer.text(), "origin", "{method} {path}");
        }
    }
    assert!(origin.asked().iter().all(|asked| asked.target == "/after"), "{:#?}", origin.asked());
}

#[tokio::test]
async fn cookies_of_any_size_and_form_are_survived() {
    let origin = Server::start(|_| Reply::html("<head></head>")).await;
    let edge = Setup::new(origin.port).start().await;
    let long = format!("ajs_user_id={}", "x".repeat(8000));
    let many = (0..200).map(|n| format!("c{n}=v")).collect::<Vec<_>>().join("; ");
    for cookie in [
        &long,
        &many,
        "ajs_user_id=%ff%fe",
        "ajs_user_id=%00",
        "ajs_user_id=%0d%0aSet-Cookie:%20x=y",
        ";;;=;=;",
        "ajs_anonymous_id=\"",
    ] {
        let page = edge.request("GET", "/").header("Cookie", cookie).send().await;
        assert_eq!(page.status, 200, "{cookie}");
        assert!(!page.text().contains(r#""u":"#), "{cookie}");
        assert!(page.cookie("ajs_anonymous_id").is_some());
    }
}

/// RFC 9112, 9.3.2: however they come. An empty line behind a body, which old browsers send, is none of the next
/// request (2.2).
#[tokio::test]
async fn requests_that_come_together_are_answered_in_order() {
    let origin = Server::start(|asked| {
        Reply::new(200, &[], [asked.target.as_bytes(), b" ", &asked.body].concat())
    })
    .await;
    let vendor = Vendor::start().await;
    let edge = Setup::new(origin.port).vendor(vendor.port()).start().await;
    let host = "Host: shop.example\r\n";
    let long = "x".repeat(70_000);
    let sized = |target: &str, body: &str| {
        let length = body.len();
        format!("POST {target} HTTP/1.1\r\n{host}Content-Length: {length}\r\n\r\n{body}")
    };
    let chunked = |target: &str, body: &str, trailer: &str| {
        let length = body.len();
        format!(
            "POST {target} HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n{trailer}\r\n"
        )
    };
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\n{host}\r\n");
    let event = r#"{"event":"a","anonymousId":"b"}"#;
    let all = [
        (get("/1"), "/1 ".to_owned()),
        (sized("/2", "hello"), "/2 hello".to_owned()),
        (chunked("/3", "hello", ""), "/3 hello".to_owned()),
        (
            format!("{}\r\n", sized("/4", "with a line behind it")),
            "/4 with a line behind it".into(),
        ),
        (chunked("/seg/evs/t", event, "X-T: 1\r\n"), r#"{"success":true}"#.to_owned()),
        (sized("/seg/evs/t", event), r#"{"success":true}"#.to_owned()),
        (
            sized("/seg/nothing", "hello"),
            r#"{"error":{"code":"not_found","message":"no such route"}}"#.to_owned(),
        ),
        (get("/a\"b"), "/a\"b ".to_owned()),
        (chunked("/5", &long, "X-T: 1\r\n"), format!("/5 {long}")),
        (sized("/6", &long), format!("/6 {long}")),
        (get("/7"), "/7 ".to_owned()),
    ];
    let (sent, expected): (Vec<_>, Vec<_>) = all.into_iter().unzip();
    for size in [usize::MAX, 100_000, 4096, 61] {
        let mut connection = Connection::open(edge.port).await;
        // A long body in small pieces tells no more.
        let few = |text: &&String| size > 61 || text.len() < 1000;
        let bytes: String = sent.iter().filter(few).map(String::as_str).collect();
        for part in bytes.as_bytes().chunks(size) {
            connection.write(part).await;
            tokio::task::yield_now().await;
        }
        for expected in expected.iter().filter(few) {
            let answer = connection.answer("GET").await.expect("an answer");
            assert_eq!(&answer.text(), expected, "in parts of {size}");
        }
    }
}

/// What is refused ends the connection, and a client of HTTP/1.0 that does not keep it hears its end (RFC 9112, 9.3).
#[tokio::test]
async fn a_connection_that_is_not_kept_ends() {
    let origin = Server::start(|_| Reply::new(200, &[], "reached")).await;
    let edge = Setup::new(origin.port).start().await;
    let host = "Host: shop.example\r\n";
    for (request, status) in [
        (
            format!("POST / HTTP/1.1\r\n{host}Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
            400,
        ),
        (format!("POST /a b HTTP/1.1\r\n{host}Content-Length: 5\r\n\r\nhello"), 400),
        (
            format!(
                "POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n"
            ),
            400,
        ),
        (format!("GET /a\rb HTTP/1.1\r\n{host}\r\n"), 400),
        (format!("GET / HTTP/1.0\r\n{host}\r\n"), 200),
    ] {
        let mut connection = Connection::open(edge.port).await;
        connection.write(&request).await;
        assert_eq!(
            connection.answer("POST").await.expect("an answer").status,
            status,
            "{request:?}"
        );
        assert!(connection.is_closed().await, "{request:?}");
    }
    let mut kept = Connection::open(edge.port).await;
    for _ in 0..2 {
        kept.write(format!("GET / HTTP/1.0\r\n{host}Connection: keep-alive\r\n\r\n")).await;
        assert_eq!(kept.answer("GET").await.expect("an answer").text(), "reached");
    }
}

/// Who holds more connections than one client may is closed at once, and nobody else is.
#[tokio::test]
async fn one_client_does_not_hold_all_connections() {
    let origin = Server::start(|_| Reply::new(200, &[], "origin")).await;
    let edge = Setup::new(origin.port).node("connections: { per_client: 3 }").start().await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut connection = Connection::open(edge.port).await;
        connection.write(edge.request("GET", "/").bytes()).await;
        assert_eq!(connection.answer("GET").await.unwrap().text(), "origin");
        held.push(connection);
    }
    assert!((edge.metric("doorstep_connections", &[]).await - 3.0).abs() < 0.1);
    let mut more = Connection::open(edge.port).await;
    assert!(more.is_closed().await);
    edge.reaches("doorstep_connections_refused_total", &[("bound", "client")], 1.0).await;
    drop(held);
    edge.becomes("doorstep_connections", &[], 0.0).await;
    assert_eq!(edge.get("/").await.text(), "origin");
}

/// The preface is waited for as long as a head is: a minute and a quarter at most.
#[tokio::test]
async fn http2_that_does_not_begin_is_given_up() {
    let (_edge, secure, roots, _folder) = tls::site(1).await;
    let waits = [&b""[..], b"PRI * HTTP"].map(async |begins| {
        let mut stream = tls::connect(secure, "shop.example", &roots, b"h2").await;
        stream.write_all(begins).await.unwrap();
        stream.flush().await.unwrap();
        // Settings may come, and then the end.
        let mut came = Vec::new();
        let _ = stream.read_to_end(&mut came).await;
    });
    let all = futures::future::join_all(waits);
    tokio::time::timeout(Duration::from_mins(3), all).await.expect("the edge hangs up");
}
