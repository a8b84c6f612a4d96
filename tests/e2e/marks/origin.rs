//! An origin that answers whatever it reads, and tells in each answer what that was. What it does is said by the
//! words in a request's `X-Plan`; what it hears has to belong to whoever asks.

mod answers;
mod request;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::ledger::Ledger;
use answers::answer;
use request::OriginRequest;

/// A step of an answer.
enum Step {
    Bytes(Vec<u8>),
    Pause(Duration),
    Close,
}

/// What all connections of it know.
pub(super) struct Hall {
    ledger: Arc<Ledger>,
    /// Users by their session.
    sessions: Mutex<HashMap<String, String>>,
}

pub(super) struct Origin {
    pub(super) port: u16,
    task: JoinHandle<()>,
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Origin {
    pub(super) async fn start(ledger: Arc<Ledger>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let hall = Arc::new(Hall { ledger, sessions: Mutex::default() });
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&hall)));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { port, task }
    }
}

/// One connection, for as long as both keep it.
async fn serve(mut stream: TcpStream, hall: Arc<Hall>) -> Option<()> {
    let mut rest = Vec::new();
    // The request that was answered before its end: what follows is taken for requests.
    let mut early: Option<OriginRequest> = None;
    loop {
        let head = until(&mut stream, &mut rest, b"\r\n\r\n").await?;
        let mut request = OriginRequest::of(&head);
        let answers_first = request.has("early");
        if answers_first {
            request.judge(&hall.ledger, early.as_ref());
        } else {
            if request.has("continue") {
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.ok()?;
            }
            request.body = body(&mut stream, &mut rest, &request).await?;
            request.judge(&hall.ledger, early.as_ref());
        }
        for step in answer(&request, &hall) {
            match step {
                Step::Bytes(bytes) => stream.write_all(&bytes).await.ok()?,
                Step::Pause(time) => tokio::time::sleep(time).await,
                Step::Close => return Some(()),
            }
        }
        if request.has("tunnel") {
            return echo(stream, rest).await;
        }
        if request.has("rude") {
            early = early.or(Some(request));
        } else if answers_first {
            body(&mut stream, &mut rest, &request).await?;
        }
    }
}

/// Frames of a web socket, or what is in their place: each byte comes back.
async fn echo(mut stream: TcpStream, rest: Vec<u8>) -> Option<()> {
    stream.write_all(&rest).await.ok()?;
    let mut buffer = vec![0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        stream.write_all(&buffer[..read]).await.ok()?;
    }
    Some(())
}

async fn more(stream: &mut TcpStream, rest: &mut Vec<u8>) -> Option<()> {
    let mut buffer = vec![0; 16 * 1024];
    let read = stream.read(&mut buffer).await.ok()?;
    rest.extend_from_slice(&buffer[..read]);
    (read > 0).then_some(())
}

async fn until(stream: &mut TcpStream, rest: &mut Vec<u8>, mark: &[u8]) -> Option<Vec<u8>> {
    loop {
        if let Some(at) = memchr::memmem::find(rest, mark) {
            return Some(rest.drain(..at + mark.len()).collect());
        }
        more(stream, rest).await?;
    }
}

async fn exactly(stream: &mut TcpStream, rest: &mut Vec<u8>, count: usize) -> Option<Vec<u8>> {
    while rest.len() < count {
        more(stream, rest).await?;
    }
    Some(rest.drain(..count).collect())
}

/// The body that the head announces. `None` where it does not come.
async fn body(
    stream: &mut TcpStream,
    rest: &mut Vec<u8>,
    request: &OriginRequest,
) -> Option<Vec<u8>> {
    if let Some(length) = request.header("content-length") {
        return exactly(stream, rest, length.parse().ok()?).await;
    }
    let mut body = Vec::new();
    if request.header("transfer-encoding").is_some() {
        loop {
            let line = until(stream, rest, b"\r\n").await?;
            let size = std::str::from_utf8(&line).ok()?.trim().split(';').next()?.to_owned();
            let size = usize::from_str_radix(&size, 16).ok()?;
            let piece = exactly(stream, rest, size + 2).await?;
            body.extend_from_slice(&piece[..size]);
            if size == 0 {
                break;
            }
        }
    }
    Some(body)
}
