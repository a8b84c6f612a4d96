//! Connections that many browsers share, as those of a CDN in front of the edge.

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream, SendStream};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::ask::{Ask, Manner, Response, Upload};
use super::nodes::World;
use crate::support::client::Answer;

/// Of each node so many.
pub(super) const SHARED: usize = 2;

/// One connection, made anew where it has ended.
#[derive(Default)]
pub(super) struct SharedConnection(Mutex<Option<SendRequest<Bytes>>>);

/// Why there is no answer.
enum Failure {
    /// The connection has ended, or ends: the request may go out on another.
    Connection,
    /// The stream was reset.
    Stream,
}

impl From<h2::Error> for Failure {
    fn from(error: h2::Error) -> Self {
        let again =
            error.is_go_away() || error.is_io() || error.reason() == Some(Reason::REFUSED_STREAM);
        if again { Self::Connection } else { Self::Stream }
    }
}

impl SharedConnection {
    /// A way to send one more request.
    async fn sender(&self, world: &World, edge: usize) -> SendRequest<Bytes> {
        let mut shared = self.0.lock().await;
        if let Some(sender) = &*shared
            && let Ok(sender) = sender.clone().ready().await
        {
            return sender;
        }
        let stream = TcpStream::connect(("127.0.0.1", world.secure[edge])).await.expect("connects");
        let name = super::nodes::Site::Signed.host().try_into().expect("a name");
        let stream = world.http2.connect(name, stream).await.expect("a certificate");
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(1 << 20)
            .initial_connection_window_size(1 << 24)
            .handshake(stream)
            .await
            .expect("HTTP/2");
        tokio::spawn(connection);
        world.ledger.saw("connections of HTTP/2");
        *shared = Some(sender.clone());
        sender.ready().await.expect("a new connection")
    }

    /// Sends a request, and reads the answer where there is to be one.
    pub(super) async fn exchange(&self, world: &World, edge: usize, ask: &Ask) -> Response {
        let mut response = Response { answer: None, raw: Vec::new() };
        for _ in 0..3 {
            let sender = self.sender(world, edge).await;
            match once(sender, ask, &mut response.raw).await {
                Ok(answer) => {
                    response.answer = answer;
                    return response;
                }
                Err(Failure::Connection) if response.raw.is_empty() => {
                    self.0.lock().await.take();
                }
                Err(_) => return response,
            }
        }
        response
    }
}

async fn once(
    mut sender: SendRequest<Bytes>,
    ask: &Ask,
    raw: &mut Vec<u8>,
) -> Result<Option<Answer>, Failure> {
    let nothing = matches!(ask.upload, Upload::Nothing);
    let (mut response, mut stream) = sender.send_request(request(ask), nothing)?;
    let pieces = pieces(&ask.upload);
    let (first, second) = pieces.split_at(pieces.len() / 2);
    send(&mut stream, first, false);
    if ask.manner == Manner::Abandoned {
        // Some of it has gone by then, or all that there is of it.
        let _ = timeout(ask.patience(), &mut response).await;
        stream.send_reset(Reason::CANCEL);
        return Ok(None);
    }
    let late = ask.manner == Manner::Late;
    if !late {
        send(&mut stream, second, true);
    }
    let response = response.await?;
    if late {
        // The answer has begun; the origin's end of it may be on its way.
        send(&mut stream, second, true);
    }
    if ask.manner == Manner::Left {
        return Ok(None);
    }
    let (head, mut body) = response.into_parts();
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers: Vec<(String, String)> =
        head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    raw.extend(headers.iter().flat_map(|(name, value)| format!("{name}: {value}\n").into_bytes()));
    let status = head.status.as_u16();
    let mut answer = Answer { status, headers, body: Vec::new(), trailers: Vec::new() };
    read_body(&mut body, &mut answer.body, raw).await?;
    Ok(Some(answer))
}

async fn read_body(
    stream: &mut RecvStream,
    body: &mut Vec<u8>,
    raw: &mut Vec<u8>,
) -> Result<(), Failure> {
    while let Some(piece) = stream.data().await {
        let piece = piece?;
        let _ = stream.flow_control().release_capacity(piece.len());
        raw.extend_from_slice(&piece);
        body.extend_from_slice(&piece);
    }
    Ok(())
}

fn request(ask: &Ask) -> http::Request<()> {
    let uri = format!("https://{}{}", ask.site.host(), ask.target);
    let mut request = http::Request::builder().method(ask.method).uri(uri);
    for (name, value) in ask.headers.iter().filter(|(name, _)| *name != "Host") {
        // As browsers send them (RFC 9113, 8.2.3).
        let pieces: Vec<&str> =
            if *name == "Cookie" { value.split("; ").collect() } else { vec![value.as_str()] };
        for piece in pieces {
            request = request.header(name.to_ascii_lowercase(), piece);
        }
    }
    if let Upload::Sized(body) = &ask.upload {
        request = request.header("content-length", body.len());
    }
    request.body(()).expect("a request")
}

/// The body in the pieces that it is sent in.
fn pieces(upload: &Upload) -> Vec<Bytes> {
    match upload {
        Upload::Nothing => Vec::new(),
        Upload::Sized(body) | Upload::Raw(body) => {
            let (first, second) = body.split_at(body.len() / 2);
            vec![Bytes::copy_from_slice(first), Bytes::copy_from_slice(second)]
        }
        Upload::Pieces(pieces) => pieces.iter().map(|piece| piece.clone().into()).collect(),
    }
}

/// What can't be sent any more has been answered already.
fn send(stream: &mut SendStream<Bytes>, pieces: &[Bytes], ends: bool) {
    for (index, piece) in pieces.iter().enumerate() {
        let last = ends && index + 1 == pieces.len();
        if stream.send_data(piece.clone(), last).is_err() {
            return;
        }
    }
}
