//! Visitors who ask for much and read little of it.

use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::support::client::Connection;
use crate::support::edge::{Edge, Setup};
use crate::support::eventually;
use crate::support::nginx::Nginx;
use crate::tls;

/// Of long answers three fit into it, and nothing is asked for when there is no room for one more.
const BOUND: &str = "connections: { unread_per_client: 2240KiB }";

async fn origin() -> Nginx {
    Nginx::start("", |root| std::fs::write(root.join("long"), vec![b'x'; 20 << 20]).unwrap()).await
}

/// What is told when three answers of one client are unread.
async fn is_bounded(edge: &Edge) {
    let held = edge.metric("doorstep_unread_bytes", &[]).await;
    assert!(held > 1_000_000.0 && held <= f64::from(2240 << 10), "{held}");
    assert!(edge.metric("doorstep_answers_refused_total", &[("bound", "client")]).await > 0.5);
}

#[tokio::test]
async fn what_one_client_leaves_unread_has_a_bound() {
    let nginx = origin().await;
    let edge = Setup::new(nginx.port).node(BOUND).start().await;
    let mut slow = Vec::new();
    for _ in 0..3 {
        let mut connection = Connection::open(edge.port).await;
        connection.write(edge.request("GET", "/long").bytes()).await;
        assert_eq!(connection.head().await.unwrap().status, 200);
        slow.push(connection);
    }
    // What is refused costs the origin nothing.
    assert_eq!(edge.get("/nothing/there").await.status, 503);
    is_bounded(&edge).await;
    let why = "\"error\":\"too much of earlier answers has not been read\"";
    eventually("why", || async { edge.log().contains(why).then_some(()) }).await;
    drop(slow);
    edge.becomes("doorstep_unread_bytes", &[], 0.0).await;
    assert_eq!(edge.get("/long").await.body.len(), 20 << 20);
}

type Client = h2::client::SendRequest<bytes::Bytes>;

async fn get(client: &mut Client, path: &str) -> http::Response<h2::RecvStream> {
    let uri = format!("https://shop.example{path}");
    let request = http::Request::builder().uri(uri).body(()).unwrap();
    let mut client = client.clone().ready().await.unwrap();
    client.send_request(request, true).unwrap().0.await.unwrap()
}

#[tokio::test]
async fn streams_of_one_connection_share_the_bound() {
    let nginx = origin().await;
    let (edge, secure, roots, _folder) = tls::site_of(Setup::new(nginx.port).node(BOUND)).await;
    let stream: TlsStream<TcpStream> = tls::connect(secure, "shop.example", &roots, b"h2").await;
    let mut windows = h2::client::Builder::new();
    windows.initial_window_size(1000);
    let (mut client, connection) = windows.handshake(stream).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut unread = Vec::new();
    for _ in 0..3 {
        unread.push(get(&mut client, "/long").await);
    }
    assert!(unread.iter().all(|answer| answer.status() == 200));
    assert_eq!(get(&mut client, "/nothing/there").await.status(), 503);
    is_bounded(&edge).await;
    drop((unread, client));
    driver.abort();
    edge.becomes("doorstep_unread_bytes", &[], 0.0).await;
}
