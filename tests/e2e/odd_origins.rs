//! Answers with heads that are not as they should be, and targets that clients send as they are.

use crate::support::client::Connection;
use crate::support::edge::Setup;
use crate::support::eventually;
use crate::support::server::{Piece, Reply, Server};

const PAGE: &str = "<head></head>Hello";

/// An answer with this in its head.
fn odd(fields: &str, body: &str) -> Reply {
    let length = body.len();
    Reply::raw(format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
    ))
}

/// As nginx has it: the page without the field.
#[tokio::test]
async fn an_odd_field_costs_no_page() {
    let many: String = (0..300).map(|n| format!("X-H{n}: 1\r\n")).collect::<Vec<_>>().concat();
    let origin = Server::start(move |asked| match (asked.method.as_str(), asked.target.as_str()) {
        ("POST", _) => odd("X-Foo[]: a\r\nX-Taken: yes\r\n", ""),
        (_, "/name") => odd("X-Foo[]: a\r\nSet-Cookie: sid=1\r\n", PAGE),
        (_, "/value") => odd("X-Note: a\u{1}b\r\nX-More: c\r\n", PAGE),
        (_, "/many") => odd(&many, PAGE),
        (_, "/ahead") => Reply::raw(
            "HTTP/1.1 103 Early Hints\r\nX[]: a\r\n\r\nHTTP/1.1 200 OK\r\nX[]: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        ),
        (_, "/framed") => odd("Content-Length : 5\r\n", PAGE),
        (_, "/closed") => {
            let head = b"HTTP/1.1 200 OK\r\nX[]: a\r\n\r\nto the end".to_vec();
            Reply(vec![Piece::Bytes(head), Piece::Close])
        }
        _ => odd("", PAGE),
    })
    .await;
    let edge = Setup::new(origin.port).start().await;
    let page = |path| edge.request("GET", path).header("Accept", "text/html").send();
    for _ in 0..3 {
        for path in ["/name", "/value", "/many"] {
            let page = page(path).await;
            assert_eq!(page.status, 200, "{path}");
            assert!(
                page.text().ends_with("</head>Hello") && page.text().contains("<script"),
                "{path}"
            );
        }
    }
    assert!(page("/name").await.all("set-cookie").contains(&"sid=1"));
    assert_eq!(page("/value").await.header("x-more"), Some("c"));
    assert!(page("/value").await.header("x-note").is_none());
    assert_eq!(page("/closed").await.text(), "to the end");
    let mut connection = Connection::open(edge.port).await;
    for _ in 0..2 {
        connection.write(edge.request("GET", "/ahead").bytes()).await;
        assert_eq!(connection.head().await.unwrap().status, 103);
        let answer = connection.answer("GET").await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
    }
    assert_eq!(page("/framed").await.status, 502, "nobody knows what follows");
    // What changes something is not asked twice: it is known from then on.
    let post = || edge.request("POST", "/form").body("a=b").send();
    assert_eq!(post().await.status, 502);
    assert_eq!(post().await.header("x-taken"), Some("yes"));
    let posts = origin.asked().into_iter().filter(|asked| asked.method == "POST").count();
    assert_eq!(posts, 2);
    assert!(page("/plain").await.text().ends_with("</head>Hello"));
    let fds = || std::fs::read_dir(format!("/proc/{}/fd", edge.pid())).unwrap().count();
    let before = fds();
    for _ in 0..50 {
        page("/name").await;
    }
    eventually("nothing is left open", || async { (fds() < before + 10).then_some(()) }).await;
}

/// Servers take them, and so did the client mean them.
#[tokio::test]
async fn a_target_is_asked_for_as_it_came() {
    let origin = Server::start(|asked| Reply::new(200, &[], &asked.body)).await;
    let edge = Setup::new(origin.port).start().await;
    let targets: [&[u8]; 7] = [
        b"/a?q=\"x\"",
        b"/a?q=<b>",
        b"/a`b",
        b"/caf\xe9",
        "/caf\u{e9}".as_bytes(),
        b"/a%0Ab",
        b"/a%7F",
    ];
    for target in targets {
        let request =
            [b"POST ", target, b" HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 2\r\n\r\nab"];
        let answer = edge.raw(request.concat()).await.expect("an answer");
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, "ab"),
            "{}",
            target.escape_ascii()
        );
    }
    let asked: Vec<String> = origin.asked().into_iter().map(|asked| asked.target).collect();
    let expected: Vec<_> = targets.iter().map(|target| String::from_utf8_lossy(target)).collect();
    assert_eq!(asked, expected);
}
