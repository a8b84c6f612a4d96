//! TLS, several certificates, HTTP/2, redirects to https.

use std::sync::Arc;

use bytes::Bytes;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::client::Connection;
use crate::support::edge::{Edge, Setup};
use crate::support::port;
use crate::support::server::{Reply, Server};

/// Writes a certificate for `names` and gives it.
pub(crate) fn certificate(
    folder: &std::path::Path,
    file: &str,
    names: &[&str],
) -> CertificateDer<'static> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    std::fs::write(folder.join(format!("{file}.pem")), made.cert.pem()).unwrap();
    std::fs::write(folder.join(format!("{file}.key")), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

/// What trusts `roots` and asks for one protocol.
pub(crate) fn connector(roots: &[CertificateDer<'static>], alpn: &[u8]) -> TlsConnector {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    TlsConnector::from(Arc::new(config))
}

pub(crate) async fn connect(
    port: u16,
    name: &str,
    roots: &[CertificateDer<'static>],
    alpn: &[u8],
) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    connector(roots, alpn).connect(name, stream).await.expect("a certificate for the name")
}

pub(crate) async fn site(
    origin: u16,
) -> (Edge, u16, Vec<CertificateDer<'static>>, tempfile::TempDir) {
    site_of(Setup::new(origin)).await
}

/// A site with certificates, of what `setup` says of it.
pub(crate) async fn site_of(
    setup: Setup,
) -> (Edge, u16, Vec<CertificateDer<'static>>, tempfile::TempDir) {
    let (folder, secure) = (tempfile::tempdir().unwrap(), port());
    let first = certificate(folder.path(), "shop", &["shop.example", "www.shop.example"]);
    let second = certificate(folder.path(), "wild", &["*.more.example"]);
    let at = folder.path().display();
    let edge = setup
        .hosts("[shop.example, '*.shop.example', '*.more.example']")
        .listeners(&format!(
            "[{{ address: '127.0.0.1:PORT', redirect_to_https: true }}, {{ address: '127.0.0.1:{secure}', tls: {{ certificate: {at}/shop.pem, key: {at}/shop.key, \
             certificates: [{{ certificate: {at}/wild.pem, key: {at}/wild.key }}] }} }}]"
        ))
        .start()
        .await;
    (edge, secure, vec![first, second], folder)
}

#[tokio::test]
async fn the_name_asked_for_chooses_the_certificate() {
    let origin = Server::start(|asked| {
        Reply::html(format!("<head></head>{}", asked.header("x-forwarded-proto").unwrap()))
    })
    .await;
    let (_edge, secure, roots, _folder) = site(origin.port).await;
    for host in ["shop.example", "www.shop.example", "a.more.example"] {
        let mut connection = Connection::over(connect(secure, host, &roots, b"http/1.1").await);
        connection.write(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        let page = connection.answer("GET").await.unwrap();
        assert!(page.text().ends_with("</head>https"), "{}", page.text());
        assert!(page.all("set-cookie")[0].contains("; Secure;"));
    }
}

#[tokio::test]
async fn plain_requests_are_sent_to_https() {
    let (edge, _secure, _roots, _folder) = site(1).await;
    let moved = edge.get("/a?b=c").await;
    assert_eq!((moved.status, moved.header("location")), (308, Some("https://shop.example/a?b=c")));
    let strange = edge.request("GET", "/").header("Host", "evil.test").send().await;
    assert_eq!((strange.status, strange.header("location")), (421, None));
}

#[tokio::test]
async fn http2_serves_pages_events_and_streams() {
    let origin = Server::start(|asked| match asked.method.as_str() {
        "POST" => Reply::new(200, &[], format!("{}", asked.body.len())),
        _ => {
            Reply::html(format!("<head></head>{} {}", asked.header("host").unwrap(), asked.target))
        }
    })
    .await;
    let (_edge, secure, roots, _folder) = site(origin.port).await;
    let tls = connect(secure, "shop.example", &roots, b"h2").await;
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (client, connection) = h2::client::handshake(tls).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let mut exchange = async |method: &str, path: &str, body: Option<Vec<u8>>| {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("https://shop.example{path}"))
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .body(())
            .unwrap();
        let (response, mut stream) = client.send_request(request, body.is_none()).unwrap();
        if let Some(body) = body {
            stream.send_data(Bytes::from(body), true).unwrap();
        }
        let mut response = response.await.unwrap();
        let mut text = Vec::new();
        while let Some(chunk) = response.body_mut().data().await {
            let chunk = chunk.unwrap();
            let _ = response.body_mut().flow_control().release_capacity(chunk.len());
            text.extend_from_slice(&chunk);
        }
        (response.status().as_u16(), String::from_utf8(text).unwrap())
    };
    let (status, page) = exchange("GET", "/page?q", None).await;
    assert!(
        status == 200
            && page.contains("(function (edge)")
            && page.ends_with("shop.example /page?q"),
        "{page}"
    );
    assert_eq!(exchange("POST", "/upload", Some(vec![b'x'; 50_000])).await, (200, "50000".into()));
    assert_eq!(exchange("POST", "/seg/evs/t", Some(b"[]".to_vec())).await.0, 400);
    assert_eq!(exchange("GET", "/seg/nothing", None).await.0, 404);
    assert_eq!(exchange("GET", "/%2e%2e/x", None).await.0, 400);
    drop(client);
    driver.abort();
    // HTTP/2 may cut a Cookie header into pieces, HTTP/1 may not (RFC 9113, 8.2.3).
    for asked in origin.asked() {
        assert_eq!(asked.header("cookie"), Some("a=1; b=2"), "{}", asked.head);
    }
}

/// Browsers keep up to 180 cookies for a domain, and send each as a field of its own.
#[tokio::test]
async fn many_cookies_over_http2_are_one_field_for_the_origin() {
    let origin =
        Server::start(|asked| Reply::html(asked.header("cookie").unwrap_or_default())).await;
    let (_edge, secure, roots, _folder) = site(origin.port).await;
    let tls = connect(secure, "shop.example", &roots, b"h2").await;
    let (client, connection) = h2::client::handshake(tls).await.unwrap();
    let driver = tokio::spawn(connection);
    for (count, length, status) in [(60, 1, 200), (180, 1, 200), (180, 150, 200), (180, 200, 431)] {
        let cookies: Vec<String> =
            (0..count).map(|n| format!("c{n}={}", "v".repeat(length))).collect();
        let mut request = http::Request::builder().uri("https://shop.example/");
        for cookie in &cookies {
            request = request.header("cookie", cookie);
        }
        let mut client = client.clone().ready().await.unwrap();
        let (answer, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
        assert_eq!(answer.await.unwrap().status().as_u16(), status, "{count} {length}");
        if status == 200 {
            let asked = origin.asked();
            assert_eq!(asked.last().unwrap().header("cookie"), Some(&*cookies.join("; ")));
        }
    }
    driver.abort();
}
