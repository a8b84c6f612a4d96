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

/// What nobody wants any more is not carried on: whoever asks so could hold the origin's connections.
#[tokio::test]
async fn nothing_is_left_of_a_visitor_who_leaves() {
    let never = std::sync::Arc::new(tokio::sync::Notify::new());
    let origin = Server::start(move |asked| {
        let waits = Piece::Wait(std::sync::Arc::clone(&never));
        if asked.target.starts_with("/over") {
            let Reply(mut pieces) = odd("X[]: a\r\n", "hi");
            pieces.push(Piece::Bytes(vec![b'x'; 120_000]));
            pieces.push(waits);
            return Reply(pieces);
        }
        Reply(vec![waits])
    })
    .await;
    let edge = Setup::new(origin.port).start().await;
    let fds = || std::fs::read_dir(format!("/proc/{}/fd", edge.pid())).unwrap().count();
    assert_eq!(edge.get("/over").await.text(), "hi");
    let before = fds();
    for _ in 0..4 {
        assert_eq!(edge.get("/over").await.text(), "hi", "what stands behind it is nobody's");
        let mut leaving = Connection::open(edge.port).await;
        leaving
            .write("POST /up\" HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 9000000\r\n\r\n")
            .await;
        leaving.write(vec![b'y'; 300_000]).await;
    }
    eventually("nothing is left open", || async { (fds() < before + 4).then_some(()) }).await;
}

/// Of what says in two ways how long it is, nobody knows what follows.
#[tokio::test]
async fn an_answer_is_framed_in_one_way() {
    let origin = Server::start(|asked| match asked.target.as_str() {
        "/twice" => Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nhi"),
        "/two" => {
            Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi!")
        }
        "/coding" => {
            Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")
        }
        _ => {
            Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")
        }
    })
    .await;
    let edge = Setup::new(origin.port).start().await;
    for (target, status) in [("/twice", 200), ("/two", 502), ("/coding", 502), ("/chunks", 200)] {
        let answer = edge.get(target).await;
        assert_eq!(answer.status, status, "{target}");
        assert!(
            answer.all("content-length").len() <= 1 && (status == 502 || answer.text() == "hi")
        );
    }
}
