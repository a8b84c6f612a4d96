//! One test for each advisory about what Doorstep stands on, so that an update can't bring it back.
//! CVE-2025-4366 (bodies that nobody reads) is in `hostile.rs`, on every route of our own.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::PATIENCE;
use crate::support::client::Connection;
use crate::support::edge::Setup;
use crate::support::server::{Reply, Server};
use crate::support::vendor::Vendor;
use crate::tls;

/// CVE-2026-2833: bytes behind an upgrade request reached the origin although it had not agreed.
#[tokio::test]
async fn an_upgrade_that_is_not_agreed_to_smuggles_nothing() {
    let origin = Server::start(|_| Reply::new(200, &[], "no upgrade")).await;
    let edge = Setup::new(origin.port).start().await;
    for protocol in ["websocket", "foo"] {
        let mut connection = Connection::open(edge.port).await;
        connection
            .write(format!(
                "GET /ws HTTP/1.1\r\nHost: shop.example\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n\
                 GET /smuggled HTTP/1.1\r\nHost: shop.example\r\n\r\n"
            ))
            .await;
        connection.answer("GET").await;
        // Whatever becomes of this connection, others get their own answers.
        assert_eq!(edge.get("/after").await.text(), "no upgrade");
    }
    let reached: Vec<_> = origin.asked().into_iter().map(|asked| asked.target).collect();
    assert!(!reached.contains(&"/smuggled".to_owned()), "{reached:?}");
}

/// CVE-2026-2835: HTTP/1.0 and lists of codings were framed in another way than the origin's.
#[tokio::test]
async fn framing_that_two_servers_read_differently_reaches_nobody() {
    let origin = Server::start(|_| Reply::new(200, &[], "")).await;
    let edge = Setup::new(origin.port).start().await;
    for head in [
        "POST / HTTP/1.0\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n",
        "POST / HTTP/1.0\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "POST / HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: identity, chunked\r\n",
        "POST / HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked, identity\r\n",
        "POST / HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: gzip, chunked\r\n",
        "POST / HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "POST / HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: \x0bchunked\r\n",
    ] {
        let raw =
            format!("{head}\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: shop.example\r\n\r\n");
        let mut connection = Connection::open(edge.port).await;
        connection.write(raw).await;
        assert_eq!(
            connection.answer("POST").await.map(|answer| answer.status),
            Some(400),
            "{head:?}"
        );
    }
    assert!(origin.asked().is_empty(), "{:#?}", origin.asked());
}

/// CVE-2026-2836: the default cache key left the host out.
#[tokio::test]
async fn what_is_cached_for_one_host_is_not_served_to_another() {
    let vendor = Vendor::start().await;
    let edge = Setup::new(1).vendor(vendor.port()).start().await;
    for host in ["shop.example", "www.shop.example", "shop.example:81", "www.shop.example"] {
        let sdk = edge.request("GET", "/seg/assets/sdk.js").header("Host", host).send().await;
        assert!(sdk.text().contains(&format!("cdn=\"http://{host}/seg\"")), "{}", sdk.text());
    }
}

/// CVE-2025-8671 (MadeYouReset): streams that a client made the server reset were free.
#[tokio::test]
async fn a_client_that_has_its_streams_reset_is_sent_away() {
    let origin = Server::start(|_| Reply::new(200, &[], "")).await;
    let (_edge, secure, roots, _folder) = tls::site(origin.port).await;
    let mut stream = tls::connect(secure, "shop.example", &roots, b"h2").await;
    let frame = |kind: u8, flags: u8, id: u32, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &id.to_be_bytes(), payload].concat()
    };
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    // :method GET, :scheme https, :path /, :authority shop.example
    let headers = [&[0x82, 0x87, 0x84, 0x41, 12][..], b"shop.example"].concat();
    let (mut read, mut write) = tokio::io::split(&mut stream);
    let sent = async {
        // What is answered before its error comes is none of these: on and on, until the edge hangs up.
        for id in (1..i32::MAX.unsigned_abs()).step_by(2) {
            bytes.extend(frame(1, 4, id, &headers));
            // A window that grows by nothing is an error of the stream.
            bytes.extend(frame(8, 0, id, &[0; 4]));
            if bytes.len() > 10_000 {
                if write.write_all(&bytes).await.is_err() || write.flush().await.is_err() {
                    break;
                }
                bytes.clear();
            }
        }
    };
    let ended = async {
        let mut buffer = vec![0; 16 * 1024];
        while !matches!(read.read(&mut buffer).await, Ok(0) | Err(_)) {}
    };
    tokio::time::timeout(PATIENCE, async { tokio::join!(sent, ended) })
        .await
        .expect("the edge hangs up");
}
