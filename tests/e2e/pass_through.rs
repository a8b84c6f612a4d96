//! Everything that is not ours goes through byte for byte.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use serde_json::json;

use crate::support::client::Connection;
use crate::support::edge::Setup;
use crate::support::nginx::Nginx;
use crate::support::port;
use crate::support::server::{Piece, Reply, Server};

/// What stands in an answer's head and can't be so (RFC 9110, 8.6; RFC 9112, 6.1). Of two types the last one counts.
#[tokio::test]
async fn answers_say_what_they_are() {
    let origin = Server::start(|asked| match asked.target.as_str() {
        "/types" => Reply::new(
            200,
            &["Content-Type: text/html", "Content-Type: text/plain"],
            "<head></head>",
        ),
        "/length" => Reply::raw("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"),
        _ => Reply::raw("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"),
    })
    .await;
    let edge = Setup::new(origin.port).start().await;
    for target in ["/length", "/chunked"] {
        let empty = edge.get(target).await;
        assert_eq!((empty.status, empty.header("content-length")), (204, None), "{target}");
        assert_eq!(empty.header("transfer-encoding"), None, "{target}");
    }
    let text = edge.request("GET", "/types").header("Accept", "text/html").send().await;
    assert_eq!(text.text(), "<head></head>", "browsers show it as text");
}

/// What is told before the answer is not for them (RFC 9110, 15.2), and an expectation is none of theirs (10.1.1).
#[tokio::test]
async fn clients_of_http_1_0_get_the_answer_alone() {
    let origin = Server::start(|asked| match asked.method.as_str() {
        "POST" => Reply::new(200, &[], &asked.body),
        _ => Reply::raw(
            "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na",
        ),
    })
    .await;
    let edge = Setup::new(origin.port).start().await;
    let host = "Host: shop.example\r\n";
    for (request, body) in [
        (format!("GET / HTTP/1.0\r\n{host}\r\n"), "a"),
        (
            format!("POST / HTTP/1.0\r\n{host}Expect: 100-continue\r\nContent-Length: 1\r\n\r\nb"),
            "b",
        ),
    ] {
        let answer = edge.raw(request).await.expect("an answer");
        assert_eq!((answer.status, answer.text().as_str()), (200, body));
    }
}

#[tokio::test]
async fn files_of_nginx_come_whole_in_parts_and_confirmed() {
    let bytes: Vec<u8> = (0..300_000u32).map(|n| (n * 31 % 251) as u8).collect();
    let file = bytes.clone();
    let nginx =
        Nginx::start("", move |root| std::fs::write(root.join("a.bin"), file).unwrap()).await;
    let edge = Setup::new(nginx.port).start().await;

    let whole = edge.get("/a.bin").await;
    assert!(whole.body == bytes && whole.header("accept-ranges").is_some());
    let etag = whole.header("etag").unwrap().to_owned();
    let same = edge.request("GET", "/a.bin").header("If-None-Match", &etag).send().await;
    assert_eq!((same.status, same.header("etag")), (304, Some(etag.as_str())));
    let part = edge.request("GET", "/a.bin").header("Range", "bytes=100-199").send().await;
    assert_eq!((part.status, &part.body[..]), (206, &bytes[100..200]));
    assert_eq!(part.header("content-range"), Some("bytes 100-199/300000"));
    let parts = edge.request("GET", "/a.bin").header("Range", "bytes=0-1,5-6").send().await;
    assert!(parts.header("content-type").unwrap().starts_with("multipart/byteranges"));
    let head = edge.request("HEAD", "/a.bin").send().await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("300000")));
    let none = edge.request("GET", "/a.bin").header("Range", "bytes=400000-").send().await;
    assert_eq!(none.status, 416);
}

#[tokio::test]
async fn one_connection_serves_many_and_the_origins_is_kept() {
    let origin = Server::start(|asked| Reply::new(200, &[], &asked.target)).await;
    let edge = Setup::new(origin.port).start().await;
    let mut connection = Connection::open(edge.port).await;
    for n in 0..20 {
        connection.write(edge.request("GET", &format!("/{n}?q=a%20b&c")).bytes()).await;
        let answer = connection.answer("GET").await.unwrap();
        assert_eq!(answer.text(), format!("/{n}?q=a%20b&c"));
    }
    let hop = origin.asked();
    assert!(hop.iter().all(|asked| asked.header("connection").is_none()
        || asked.header("connection") == Some("keep-alive")));
}

#[tokio::test]
async fn odd_paths_reach_the_origin_as_they_were_sent() {
    let origin = Server::start(|asked| Reply::new(200, &[], &asked.target)).await;
    let edge = Setup::new(origin.port).start().await;
    for target in [
        "/a%2Fb",
        "/a//b",
        "/%7Euser",
        "/a;b=c",
        "/ü?ü",
        "/a?b#".trim_end_matches('#'),
        "/segment",
        "/x/./y",
        "/%E2%82%AC",
        // As pasted from a mail, or by a client that escapes nothing.
        "/page%0A",
        "/page%0D%0A%09%7F",
    ] {
        assert_eq!(edge.get(target).await.text(), target);
    }
    // Also where Pingora can't read it.
    let odd = edge.raw("GET /a\"b?q=<b>`\" HTTP/1.1\r\nHost: shop.example\r\n\r\n").await.unwrap();
    assert_eq!(odd.text(), "/a\"b?q=<b>`\"");
    // Whatever room there is for it.
    for (target, cookie) in
        [("`".to_owned(), 8000), ("<".repeat(3000), 0), ("\"".repeat(1365), 4000)]
    {
        let cookie = "x".repeat(cookie);
        let head =
            format!("GET /{target} HTTP/1.1\r\nHost: shop.example\r\nCookie: c={cookie}\r\n\r\n");
        let odd = edge.raw(head).await.unwrap();
        assert_eq!(odd.text(), format!("/{target}"));
    }
    let absolute = edge
        .raw("GET http://shop.example/abs?q HTTP/1.1\r\nHost: shop.example\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(absolute.text(), "/abs?q");
    // Of two hosts the target's counts.
    for (host, status) in [("www.shop.example", 200), ("other.example", 421)] {
        let head = format!("GET http://{host}/abs HTTP/1.1\r\nHost: shop.example\r\n\r\n");
        assert_eq!(edge.raw(head).await.unwrap().status, status, "{host}");
    }
    assert_eq!(origin.asked().last().unwrap().header("host"), Some("www.shop.example"));
}

/// Java's client offers HTTP/2 without TLS with its first request, whatever body that has.
#[tokio::test]
async fn an_offer_of_http_2_without_tls_is_ignored() {
    let origin = Server::start(|asked| Reply::new(200, &[], &asked.body)).await;
    let edge = Setup::new(origin.port).start().await;
    let post = |path: &str| {
        let request = edge.request("POST", path).header("Upgrade", "h2c");
        let request = request.header("Connection", "Upgrade, HTTP2-Settings");
        request.header("HTTP2-Settings", "AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA")
    };
    let form = post("/form").body("a=1").send().await;
    assert_eq!((form.status, form.text()), (200, "a=1".into()));
    let asked = origin.asked().pop().unwrap();
    for name in ["upgrade", "http2-settings"] {
        assert_eq!(asked.header(name), None, "{name}");
    }
    let event = json!({"type": "track", "event": "E", "anonymousId": "a"}).to_string();
    assert_eq!(post("/seg/evs/t").body(event).send().await.status, 200);
}

#[tokio::test]
async fn the_origin_learns_whom_it_answers_and_strangers_can_not_lie() {
    let origin = Server::start(|_| Reply::new(200, &[], "")).await;
    let edge = Setup::new(origin.port).start().await;
    let mut request = edge.request("GET", "/").header("Connection", "x-hop").header("X-Hop", "1");
    for name in [
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "Forwarded",
        "X-Real-IP",
        "X-Original-URL",
        "X-Request-Id",
    ] {
        request = request.header(name, "lie");
    }
    request.header("TE", "trailers").header("Via", "1.1 before").send().await;
    let asked = origin.only();
    for (name, value) in [
        ("x-forwarded-for", Some("127.0.0.1")),
        ("x-forwarded-proto", Some("http")),
        ("x-forwarded-host", Some("shop.example")),
        ("forwarded", Some("for=127.0.0.1;host=\"shop.example\";proto=http")),
        ("x-real-ip", None),
        ("x-original-url", None),
        ("x-hop", None),
        ("via", Some("1.1 before, 1.1 doorstep")),
        ("host", Some("shop.example")),
    ] {
        assert_eq!(asked.header(name), value, "{name}");
    }
    assert_eq!(asked.header("x-request-id").unwrap().len(), 16);

    let trusting = Setup::new(origin.port).node("trusted_proxies: [127.0.0.1]").start().await;
    let request = trusting.request("GET", "/").header("X-Forwarded-For", "6.6.6.6, 192.0.2.9");
    request.header("X-Forwarded-Proto", "https").send().await;
    let asked = origin.asked().pop().unwrap();
    assert_eq!(asked.header("x-forwarded-for"), Some("6.6.6.6, 192.0.2.9, 127.0.0.1"));
    assert_eq!(asked.header("x-forwarded-proto"), Some("https"));
}

#[tokio::test]
async fn the_origin_gets_the_host_it_is_configured_for() {
    let origin = Server::start(|_| Reply::new(200, &[], "")).await;
    let edge = Setup::new(origin.port).origin("host: inside.example").start().await;
    edge.get("/").await;
    assert_eq!(origin.only().header("host"), Some("inside.example"));
    assert_eq!(origin.only().header("x-forwarded-host"), Some("shop.example"));
}

#[tokio::test]
async fn uploads_stream_in_either_framing() {
    let origin = Server::start(|asked| {
        let sum: u64 = asked.body.iter().map(|byte| u64::from(*byte)).sum();
        Reply::new(200, &[], format!("{} {sum}", asked.body.len()))
    })
    .await;
    let edge = Setup::new(origin.port).start().await;
    let body: Vec<u8> = (0..5_000_000u32).map(|n| (n % 253) as u8).collect();
    let expected =
        format!("{} {}", body.len(), body.iter().map(|byte| u64::from(*byte)).sum::<u64>());
    let sent = edge.request("POST", "/upload").body(body.clone()).send().await;
    assert_eq!(sent.text(), expected);

    let mut connection = Connection::open(edge.port).await;
    connection
        .write("POST /upload HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    for chunk in body.chunks(70_000) {
        connection.write(format!("{:x}\r\n", chunk.len())).await;
        connection.write(chunk).await;
        connection.write("\r\n").await;
    }
    connection.write("0\r\n\r\n").await;
    assert_eq!(connection.answer("POST").await.unwrap().text(), expected);
}

#[tokio::test]
async fn a_client_that_waits_to_be_asked_is_asked() {
    let nginx = Nginx::start("location /up { client_body_in_file_only off; proxy_pass http://127.0.0.1:1; } location /put { return 200 ok; }", |_| {}).await;
    let edge = Setup::new(nginx.port).start().await;
    let mut connection = Connection::open(edge.port).await;
    connection.write("POST /up HTTP/1.1\r\nHost: shop.example\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").await;
    assert_eq!(connection.head().await.unwrap().status, 100);
    connection.write("12345").await;
    assert_eq!(connection.answer("POST").await.unwrap().status, 502);
}

#[tokio::test]
async fn chunks_of_the_origin_come_through_and_trailers_end_here() {
    let origin = Server::start(|_| {
        Reply::raw("HTTP/1.1 200 OK\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;ext=1\r\ndefg\r\n0\r\nx-sum: 7\r\n\r\n")
    })
    .await;
    let edge = Setup::new(origin.port).start().await;
    let answer = edge.get("/").await;
    assert_eq!(answer.text(), "abcdefg");
    assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
    // Pingora takes the trailers of HTTP/1 off; then none may be announced.
    assert_eq!((answer.trailers.len(), answer.header("trailer")), (0, None));
}

#[tokio::test]
async fn an_old_origin_is_served_in_our_own_version() {
    let origin = Server::start(|asked| {
        let kind = if asked.target == "/page" { "text/html" } else { "text/plain" };
        let head = format!("HTTP/1.0 200 OK\r\nContent-Type: {kind}\r\n\r\n<head></head>body");
        Reply(vec![Piece::Bytes(head.into_bytes()), Piece::Close])
    })
    .await;
    let edge = Setup::new(origin.port).start().await;
    for (target, begin) in [("/page", "<head><script>"), ("/file", "<head></head>")] {
        let mut connection = Connection::open(edge.port).await;
        connection.write(edge.request("GET", target).bytes()).await;
        assert_eq!(connection.until(b"\r\n").await.unwrap(), b"HTTP/1.1 200 OK\r\n");
        let text = edge.get(target).await.text();
        assert!(text.starts_with(begin) && text.ends_with("</head>body"), "{text}");
    }
}

#[tokio::test]
async fn what_is_about_one_connection_stays_there() {
    let origin = Server::start(|_| {
        Reply::new(
            200,
            &[
                "Connection: keep-alive, X-Hop",
                "X-Hop: 1",
                "Keep-Alive: timeout=5",
                "Proxy-Authenticate: Basic",
                "X-Kept: 1",
            ],
            "x",
        )
    })
    .await;
    let edge = Setup::new(origin.port).start().await;
    let answer = edge.get("/").await;
    for gone in ["x-hop", "keep-alive", "proxy-authenticate"] {
        assert_eq!(answer.header(gone), None, "{gone}");
    }
    assert_eq!(answer.header("x-kept"), Some("1"));
}

#[tokio::test]
async fn a_web_socket_is_a_tunnel() {
    let at = port();
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", at)).await.unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut connection = vec![0; 4096];
                let read = stream.read(&mut connection).await.unwrap();
                let head = String::from_utf8_lossy(&connection[..read]).to_lowercase();
                assert!(head.contains("upgrade: websocket"));
                stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n").await.unwrap();
                let mut frame = [0; 5];
                stream.read_exact(&mut frame).await.unwrap();
                frame.reverse();
                stream.write_all(&frame).await.unwrap();
            });
        }
    });
    let edge = Setup::new(at).start().await;
    // Many, because an origin that agrees at once has raced the end of the request.
    let port = edge.port;
    let visitors = (0..8).map(|_| async move {
        for _ in 0..60 {
            let mut connection = Connection::open(port).await;
            connection.write("GET /ws HTTP/1.1\r\nHost: shop.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n").await;
            assert_eq!(connection.head().await.unwrap().status, 101);
            connection.write("\x01abc\x02").await;
            assert_eq!(connection.until(b"\x01").await.unwrap(), b"\x02cba\x01");
        }
    });
    futures::future::join_all(visitors).await;
}

#[tokio::test]
async fn each_side_hears_the_other_while_both_still_talk() {
    let at = port();
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", at)).await.unwrap();
    let origin = tokio::spawn(async move {
        let mut visitor = Connection::over(listener.accept().await.unwrap().0);
        visitor.until(b"\r\n\r\n").await.unwrap();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        visitor.write(head).await;
        for (heard, said) in [("one;", "1\r\n1\r\n"), ("two;", "1\r\n2\r\n"), ("end;", "0\r\n\r\n")]
        {
            visitor.until(heard.as_bytes()).await.unwrap();
            visitor.write(said).await;
        }
        visitor.until(b"0\r\n\r\n").await.unwrap();
    });
    let edge = Setup::new(at).start().await;
    let mut visitor = Connection::open(edge.port).await;
    let head = "POST /talk HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n";
    visitor.write(head).await;
    // The head alone, before there is anything to hear, and each word before the next is said.
    assert_eq!(visitor.head().await.unwrap().status, 200);
    for (said, heard) in [("one;", "1\r\n1\r\n"), ("two;", "1\r\n2\r\n"), ("end;", "0\r\n\r\n")] {
        visitor.write(format!("4\r\n{said}\r\n")).await;
        assert_eq!(visitor.until(heard.as_bytes()).await.unwrap(), heard.as_bytes());
    }
    visitor.write("0\r\n\r\n").await;
    origin.await.unwrap();
}

#[tokio::test]
async fn a_slow_origin_is_given_up_after_its_time() {
    let never = Arc::new(Notify::new());
    let origin = Server::start(move |_| Reply(vec![Piece::Wait(Arc::clone(&never))])).await;
    let edge = Setup::new(origin.port).origin("read_timeout: 300ms").start().await;
    assert_eq!(edge.get("/").await.status, 504);
}

/// As servers do that keep a connection for a few seconds: the request and its end cross.
#[tokio::test]
async fn a_connection_that_the_origin_closes_just_then_costs_no_page() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().port();
    // Each of its connections answers once, and closes when it is asked again.
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = [0; 8192];
                if connection.read(&mut bytes).await.is_ok_and(|read| read > 0) {
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                    connection.write_all(answer).await.unwrap();
                    let _ = connection.read(&mut bytes).await;
                }
            });
        }
    });
    let edge = Setup::new(at).start().await;
    for _ in 0..4 {
        let page = edge.get("/").await;
        assert_eq!((page.status, &*page.text()), (200, "ok"));
    }
    assert_eq!(edge.request("POST", "/").body("x").send().await.status, 502);
    assert_eq!(edge.request("POST", "/").body("x").send().await.status, 200);
}
