//! What goes to the origin on one connection is one request after the other, and each answer is its own.

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::support::PATIENCE;
use crate::support::client::Connection;
use crate::support::edge::Setup;
use crate::support::server::{Piece, Reply, Server};
use crate::tls;

/// An origin that keeps its connections, tells every byte that it gets, and answers each request once its
/// end, `end`, has come.
async fn listening(end: &'static [u8]) -> (u16, tokio::sync::mpsc::UnboundedReceiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let tell = tell.clone();
            tokio::spawn(async move {
                let (mut came, mut buffer) = (Vec::new(), vec![0; 4096]);
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    came.extend_from_slice(&buffer[..read]);
                    let _ = tell.send(buffer[..read].to_vec());
                    if came.ends_with(end) || came.ends_with(b"last HTTP/1.1\r\n\r\n") {
                        came.clear();
                        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                        if stream.write_all(answer).await.is_err() {
                            break;
                        }
                    }
                }
            });
        }
    });
    (port, told)
}

/// A body over HTTP/2 may end with a frame that has no bytes.
#[tokio::test]
async fn an_upload_without_a_length_ends_once() {
    let (origin, mut told) = listening(b"0\r\n\r\n").await;
    let (_edge, secure, roots, _folder) = tls::site(origin).await;
    let tls = tls::connect(secure, "shop.example", &roots, b"h2").await;
    let (client, connection) = h2::client::handshake(tls).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    for pieces in [&["hello", ""][..], &["", "hello", "", "", ""], &[""], &["", "", "hello"]] {
        let request = http::Request::post("https://shop.example/upload").body(()).unwrap();
        let (response, mut stream) = client.send_request(request, false).unwrap();
        for (index, piece) in pieces.iter().enumerate() {
            stream.send_data(Bytes::from(*piece), index + 1 == pieces.len()).unwrap();
        }
        assert_eq!(response.await.unwrap().status(), 200, "{pieces:?}");
    }
    driver.abort();
    let mut came = Vec::new();
    while let Ok(bytes) = told.try_recv() {
        came.extend(bytes);
    }
    let came = String::from_utf8(came).unwrap();
    assert_eq!(came.matches("POST /upload").count(), 4);
    assert_eq!(came.matches("0\r\n\r\n").count(), 4, "{came}");
    assert!(!came.contains("0\r\n\r\n0\r\n\r\n"), "{came}");
}

/// RFC 9112, 7.1: as other proxies judge it.
#[tokio::test]
async fn chunks_are_read_as_strictly_as_heads() {
    let origin = Server::start(|asked| Reply::new(200, &[], &asked.body)).await;
    let edge = Setup::new(origin.port).start().await;
    let head = |path: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n")
    };
    let inner = "GET /smuggled HTTP/1.1\r\nHost: shop.example\r\n\r\n";
    for body in
        ["\r\n\r\n", " \r\n\r\n", ";x=y\r\n\r\n", "5;a\nhello\r\n0\r\n\r\n", "0\r\nbad\r\n\r\n"]
    {
        for path in ["/", "/seg/evs/t"] {
            for apart in [false, true] {
                let mut connection = Connection::open(edge.port).await;
                if apart {
                    connection.write(head(path)).await;
                    connection.write("2\r\n{}\r\n").await;
                    connection.write(format!("{body}{inner}")).await;
                } else {
                    connection.write(format!("{}{body}{inner}", head(path))).await;
                }
                let answer = connection.answer("POST").await;
                assert_eq!(
                    answer.map(|answer| answer.status),
                    Some(400),
                    "{path} {apart} {body:?}"
                );
                assert!(connection.is_closed().await, "{path} {apart} {body:?}");
            }
        }
    }
    assert!(origin.asked().iter().all(|asked| asked.target == "/"), "{:#?}", origin.asked());
    edge.reaches("doorstep_requests_rejected_total", &[("rule", "chunk")], 10.0).await;
    let fine = format!("{}5;a=\"b\" \r\nhello\r\n000\r\nT: x\r\n\r\n", head("/"));
    assert_eq!(edge.raw(fine).await.unwrap().text(), "hello");
}

#[tokio::test]
async fn a_length_is_a_number_written_as_numbers_are() {
    let origin = Server::start(|asked| Reply::new(200, &[], &asked.body)).await;
    let edge = Setup::new(origin.port).start().await;
    for length in ["010", "10", "0000000010"] {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: {length}\r\n\r\n0123456789"
        );
        assert_eq!(edge.raw(request).await.unwrap().text(), "0123456789");
        assert_eq!(origin.asked().pop().unwrap().header("content-length"), Some("10"));
    }
}

/// nginx from 1.21.1 on: a target with a space is none.
#[tokio::test]
async fn a_space_in_the_target_reaches_nobody() {
    let origin = Server::start(|_| Reply::new(200, &[], "")).await;
    let edge = Setup::new(origin.port).start().await;
    for line in ["GET /a b HTTP/1.1", "GET /a  HTTP/1.1", "GET /a HTTP/1.1 x HTTP/1.1"] {
        let answer = edge.raw(format!("{line}\r\nHost: shop.example\r\n\r\n")).await;
        assert_eq!(answer.map(|answer| answer.status), Some(400), "{line}");
    }
    assert!(origin.asked().is_empty(), "{:#?}", origin.asked());
}

/// Frames as they are, for what no client library sends.
async fn http2(
    secure: u16,
    roots: &[rustls::pki_types::CertificateDer<'static>],
    fields: &[(&str, &str)],
) -> u16 {
    let frame = |kind: u8, flags: u8, id: u32, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &id.to_be_bytes(), payload].concat()
    };
    let mut block = Vec::new();
    for (name, value) in fields {
        // A literal without index, names and values as they are (RFC 7541, 6.2.2).
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    let mut stream = tls::connect(secure, "shop.example", roots, b"h2").await;
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    bytes.extend(frame(1, 5, 1, &block));
    stream.write_all(&bytes).await.unwrap();
    stream.flush().await.unwrap();
    let mut came = Vec::new();
    let mut buffer = vec![0; 4096];
    loop {
        // The status of an answer, or 0 where the stream is reset or the connection ended.
        let mut rest = &came[..];
        while rest.len() >= 9 {
            let length = usize::from(rest[1]) << 8 | usize::from(rest[2]);
            if rest.len() < 9 + length {
                break;
            }
            let (kind, payload) = (rest[3], &rest[9..9 + length]);
            match (kind, payload.first()) {
                // Indexed, or a literal with the index of `:status`.
                (1, Some(0x88)) => return 200,
                (1, Some(0x8c)) => return 400,
                (1, Some(_)) => return 1,
                (3 | 7, _) => return 0,
                _ => {}
            }
            rest = &rest[9 + length..];
        }
        let read = timeout(PATIENCE, stream.read(&mut buffer));
        match read.await.expect("an answer") {
            Ok(0) | Err(_) => return 0,
            Ok(read) => came.extend_from_slice(&buffer[..read]),
        }
    }
}

/// RFC 9113, 8.1.1, 8.2.1, 8.3.1.
#[tokio::test]
async fn what_http2_reads_loosely_reaches_nobody() {
    let origin = Server::start(|_| Reply::new(200, &[], "")).await;
    let (_edge, secure, roots, _folder) = tls::site(origin.port).await;
    let usual =
        [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "shop.example")];
    let with = |at: usize, value: &'static str| {
        let mut fields = usual.to_vec();
        fields[at].1 = value;
        fields
    };
    let and = |more: &[(&'static str, &'static str)]| [&usual[..], more].concat();
    let posted = |more: &[(&'static str, &'static str)]| [&with(0, "POST")[..], more].concat();
    assert_eq!(http2(secure, &roots, &usual).await, 200);
    let reached = origin.asked().len();
    for fields in [
        and(&[("x\"y", "1")]),
        and(&[("x(y", "1")]),
        and(&[("x y", "1")]),
        posted(&[("content-length", "0"), ("content-length", "0")]),
        posted(&[("content-length", "+0")]),
        and(&[("transfer-encoding", "chunked")]),
        with(2, "*"),
        with(2, "?a=b"),
        with(2, ""),
        with(2, "a"),
        with(2, "/a b"),
        with(1, ""),
        with(1, "ftp"),
        with(1, "ht tp"),
    ] {
        let status = http2(secure, &roots, &fields).await;
        assert!(status == 400 || status == 0, "{fields:?}: {status}");
    }
    assert_eq!(origin.asked().len(), reached, "{:#?}", origin.asked());
}

/// CGI, WSGI, Rack and PHP read `X_Real_IP` as `X-Real-IP`.
#[tokio::test]
async fn no_spelling_of_a_proxys_header_reaches_the_origin() {
    let origin = Server::start(|_| Reply::new(200, &[], "")).await;
    let names = [
        "X_Doorstep_Plan",
        "X-Doorstep_Plan",
        "x.doorstep.plan",
        "X_Forwarded_For",
        "X-Forwarded_For",
        "X_Forwarded_Proto",
        "X_Real_IP",
        "X_Original_URL",
        "X_Request_Id",
        "CF-Connecting-IP",
        "Fastly-Client-IP",
        "X-Cluster-Client-IP",
        "X-Envoy-External-Address",
        "Remote-User",
        "X-Remote-User",
        "Proxy",
        "X-Forwarded-Scheme",
        "X-Forwarded-Ssl",
        "Forwarded-For",
        "X-Forwarded",
        "X-Host",
        "X-Scheme",
        "Front-End-Https",
        "X-Original-Forwarded-For",
    ];
    let edge = Setup::new(origin.port).origin("client_headers: [CF-Connecting-IP]").start().await;
    let mut request = edge.request("GET", "/").header("X_Custom", "own");
    for name in names {
        request = request.header(name, "lie");
    }
    request.send().await;
    let head = origin.only().head;
    let lies: Vec<&str> = head.lines().filter(|line| line.ends_with(": lie")).collect();
    assert_eq!(lies, ["CF-Connecting-IP: lie"]);
    assert!(head.contains("X_Custom: own"), "{head}");
}

/// What the origin says to the edge goes no further, whatever answer it stands in.
#[tokio::test]
async fn the_origins_word_to_the_edge_reaches_no_visitor() {
    let origin = Server::start(|asked| match asked.target.as_str() {
        "/hints" => Reply::raw(
            "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nX-Doorstep-User: ceo\r\nX_Doorstep_User: ceo\r\n\r\n\
             HTTP/1.1 200 OK\r\nX-Doorstep-User: ceo\r\nX_Doorstep_User: ceo\r\nX-Doorstep-Other: x\r\nContent-Length: 2\r\n\r\nok",
        ),
        _ => Reply::raw(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\nX-Doorstep-User: ceo\r\n\r\n",
        ),
    })
    .await;
    let edge = Setup::new(origin.port).start().await;
    let mut connection = Connection::open(edge.port).await;
    connection.write(edge.request("GET", "/hints").bytes()).await;
    for status in [103, 200] {
        let head = connection.head().await.unwrap();
        assert_eq!(head.status, status);
        assert!(
            head.headers.iter().all(|(name, _)| !name.to_lowercase().contains("doorstep")),
            "{head:?}"
        );
        assert_eq!(head.header("link").is_some(), status == 103);
    }
    let upgrade =
        edge.request("GET", "/ws").header("Connection", "upgrade").header("Upgrade", "websocket");
    let mut connection = Connection::open(edge.port).await;
    connection.write(upgrade.bytes()).await;
    let head = connection.head().await.unwrap();
    assert_eq!((head.status, head.header("x-doorstep-user")), (101, None));
}

/// RFC 9110, 15.2.2: nobody has asked for another protocol.
#[tokio::test]
async fn a_change_of_protocol_that_nobody_asked_for_is_a_failure() {
    let origin = Server::start(|_| {
        Reply::raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nevil")
    })
    .await;
    let edge = Setup::new(origin.port).start().await;
    let answer = edge.get("/").await;
    assert_eq!(answer.status, 502);
    assert!(!answer.text().contains("evil"));
}

/// An origin that answers without waiting for the rest may take it for the next request.
#[tokio::test]
async fn a_connection_whose_answer_came_before_the_requests_end_is_not_used_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (connections, mut made) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = connections.send(());
            tokio::spawn(async move {
                let (mut came, mut buffer) = (Vec::new(), vec![0; 4096]);
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    came.extend_from_slice(&buffer[..read]);
                    while let Some(end) = memchr::memmem::find(&came, b"\r\n\r\n") {
                        // The head is all that it waits for.
                        let head = String::from_utf8_lossy(&came[..end]).into_owned();
                        came.drain(..end + 4);
                        let answer = if head.contains("/none") {
                            "HTTP/1.1 204 No Content\r\n\r\n".to_owned()
                        } else {
                            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned()
                        };
                        if stream.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    let edge = Setup::new(port).start().await;
    assert_eq!(edge.get("/first").await.text(), "ok");
    assert_eq!(timeout(PATIENCE, made.recv()).await, Ok(Some(())));
    for path in ["/ok", "/none"] {
        // It goes out on the connection that is there.
        let mut connection = Connection::open(edge.port).await;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 30\r\n\r\n0123456789"
        );
        connection.write(head).await;
        let answer = connection.answer("POST").await.unwrap();
        assert!(matches!(answer.status, 200 | 204), "{path}");
        // The rest would be the beginning of the next request.
        connection.write("GET /x HTTP/1.1\r\nA: ").await;
        for _ in 0..3 {
            assert_eq!(edge.get("/next").await.text(), "ok");
        }
        let another = timeout(PATIENCE, made.recv()).await;
        assert_eq!(another, Ok(Some(())), "{path}: another connection");
    }
}

/// What stands behind an answer is nobody's.
#[tokio::test]
async fn bytes_behind_an_answer_reach_nobody() {
    let stray = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nSTRAY";
    let origin = Server::start(move |asked| {
        let head = match asked.target.as_str() {
            "/length" => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            "/chunks" => {
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
            }
            "/none" => "HTTP/1.1 204 No Content\r\n\r\n",
            "/same" => "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
            "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            _ => return Reply::new(200, &[], "own"),
        };
        Reply(vec![Piece::Bytes(format!("{head}{stray}").into_bytes())])
    })
    .await;
    let edge = Setup::new(origin.port).start().await;
    for (method, path) in [
        ("GET", "/length"),
        ("GET", "/chunks"),
        ("GET", "/none"),
        ("GET", "/same"),
        ("HEAD", "/head"),
    ] {
        for _ in 0..5 {
            let answer = edge.request(method, path).send().await;
            assert!(!answer.text().contains("STRAY"), "{path}");
            assert_eq!(edge.get("/own").await.text(), "own", "{path}");
        }
    }
}

/// The same where the answer has only begun by then: what follows is the rest for the edge, and the next request
/// for an origin that did not wait for it.
#[tokio::test]
async fn a_connection_whose_answer_began_before_the_requests_end_is_not_used_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (connections, mut made) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = connections.send(());
            tokio::spawn(async move {
                let (mut came, mut buffer, mut begun) = (Vec::new(), vec![0; 4096], false);
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    came.extend_from_slice(&buffer[..read]);
                    if begun && came.ends_with(b"A: ") {
                        // The answer ends now, and the next request has begun for this origin.
                        begun = false;
                        let _ = stream.write_all(b"2\r\nok\r\n0\r\n\r\n").await;
                    }
                    while let Some(end) = memchr::memmem::find(&came, b"\r\n\r\n") {
                        let head = String::from_utf8_lossy(&came[..end]).into_owned();
                        came.drain(..end + 4);
                        let answer = if head.contains("POST /slow") {
                            begun = true;
                            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned()
                        } else {
                            let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
                            format!(
                                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}",
                                target.len()
                            )
                        };
                        let _ = stream.write_all(answer.as_bytes()).await;
                    }
                }
            });
        }
    });
    let edge = Setup::new(port).start().await;
    assert_eq!(edge.get("/first").await.text(), "/first");
    assert_eq!(timeout(PATIENCE, made.recv()).await, Ok(Some(())));
    let rest = "GET /stolen HTTP/1.1\r\nA: ";
    let head = format!(
        "POST /slow HTTP/1.1\r\nHost: shop.example\r\nContent-Length: {}\r\n\r\n",
        rest.len()
    );
    let mut connection = Connection::open(edge.port).await;
    connection.write(head).await;
    assert_eq!(connection.head().await.unwrap().status, 200);
    connection.write(rest).await;
    assert!(connection.until(b"0\r\n\r\n").await.is_some());
    // Another visitor.
    assert_eq!(edge.get("/next").await.text(), "/next");
}

/// HTTP/1.0 knows no chunks (RFC 9112, 6.1): the end of the connection ends a body whose length nobody knows.
#[tokio::test]
async fn a_client_of_http_1_0_gets_no_chunks() {
    let origin = Server::start(|asked| {
        let (kind, body) = match asked.target.as_str() {
            "/page" => ("text/html", "<head></head>Hello"),
            _ => ("text/plain", "Hello"),
        };
        let (one, two) = body.split_at(3);
        Reply::raw(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{one}\r\n\
             {:x}\r\n{two}\r\n0\r\n\r\n",
            two.len()
        ))
    })
    .await;
    let edge = Setup::new(origin.port).start().await;
    for target in ["/feed", "/page"] {
        for connection in ["", "Connection: keep-alive\r\n"] {
            let mut stream =
                tokio::net::TcpStream::connect(("127.0.0.1", edge.port)).await.unwrap();
            let asked = format!("GET {target} HTTP/1.0\r\nHost: shop.example\r\n{connection}\r\n");
            stream.write_all(asked.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            let head = head.to_ascii_lowercase();
            assert!(
                !head.contains("transfer-encoding") && !head.contains("keep-alive"),
                "{answer}"
            );
            let whole = if target == "/feed" { body == "Hello" } else { body.ends_with("Hello") };
            assert!(whole && body.starts_with(['H', '<']), "{answer}");
        }
    }
}
