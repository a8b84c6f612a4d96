//! A server that answers what a test says and remembers what it was asked, byte for byte.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// What was asked.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    pub target: String,
    /// The head as it came, with its last empty line.
    pub head: String,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

/// A part of an answer.
pub enum Piece {
    Bytes(Vec<u8>),
    /// Nothing more before the test says so.
    Wait(Arc<Notify>),
    /// Tells the test that it has come so far.
    Tell(Arc<Notify>),
    /// The connection ends here.
    Close,
}

/// An answer, in pieces.
pub struct Reply(pub Vec<Piece>);

impl Reply {
    /// `headers` are lines without their ends.
    pub fn new(status: u16, headers: &[&str], body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let mut out = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n", body.len());
        for line in headers {
            out.push_str(line);
            out.push_str("\r\n");
        }
        let mut out = (out + "\r\n").into_bytes();
        out.extend_from_slice(body);
        Self(vec![Piece::Bytes(out)])
    }
    pub fn html(body: impl AsRef<[u8]>) -> Self {
        Self::new(200, &["Content-Type: text/html; charset=utf-8"], body)
    }
    pub fn raw(bytes: impl AsRef<[u8]>) -> Self {
        Self(vec![Piece::Bytes(bytes.as_ref().to_vec())])
    }
}

type Handler = dyn Fn(&Asked) -> Reply + Send + Sync;

/// The server.
pub struct Server {
    pub port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub async fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at(0, answer).await
    }

    /// At a port of the caller's; 0 for any.
    pub async fn start_at(
        port: u16,
        answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("binds");
        let port = listener.local_addr().expect("bound").port();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (log, answer): (_, Arc<Handler>) = (Arc::clone(&asked), Arc::new(answer));
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&log), Arc::clone(&answer)));
            }
        });
        Self { port, asked, task }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The only request so far.
    pub fn only(&self) -> Asked {
        let asked = self.asked();
        assert_eq!(asked.len(), 1, "{asked:#?}");
        asked.into_iter().next().unwrap()
    }

    /// Requests for `target`, once there are `count` of them.
    pub async fn until(&self, target: &str, count: usize) -> Vec<Asked> {
        super::eventually(&format!("{count} requests for {target}"), || async {
            let found: Vec<_> = self.asked().into_iter().filter(|a| a.target == target).collect();
            (found.len() >= count).then_some(found)
        })
        .await
    }
}

async fn serve(mut stream: TcpStream, log: Arc<Mutex<Vec<Asked>>>, answer: Arc<Handler>) {
    let mut rest: Vec<u8> = Vec::new();
    while let Some(asked) = read(&mut stream, &mut rest).await {
        log.lock().unwrap().push(asked.clone());
        for piece in answer(&asked).0 {
            match piece {
                Piece::Bytes(bytes) => {
                    if stream.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                Piece::Wait(until) => until.notified().await,
                Piece::Tell(so_far) => so_far.notify_one(),
                Piece::Close => return,
            }
        }
    }
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

async fn read(stream: &mut TcpStream, rest: &mut Vec<u8>) -> Option<Asked> {
    let head = until(stream, rest, b"\r\n\r\n").await?;
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut line = head.lines().next()?.split(' ');
    let (method, target) = (line.next()?.to_owned(), line.next()?.to_owned());
    let mut asked = Asked { method, target, head, body: Vec::new() };
    if asked.header("transfer-encoding").is_some() {
        loop {
            let size = until(stream, rest, b"\r\n").await?;
            let size = usize::from_str_radix(String::from_utf8_lossy(&size).trim(), 16).ok()?;
            while rest.len() < size + 2 {
                more(stream, rest).await?;
            }
            asked.body.extend(rest.drain(..size));
            rest.drain(..2);
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = asked.header("content-length").map(str::to_owned) {
        let length: usize = length.parse().ok()?;
        while rest.len() < length {
            more(stream, rest).await?;
        }
        asked.body = rest.drain(..length).collect();
    }
    Some(asked)
}
