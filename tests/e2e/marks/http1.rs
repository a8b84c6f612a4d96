//! A kept connection of one browser to one edge.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::ask::{Ask, Manner, Response, Upload};
use super::nodes::World;
use crate::support::client::{Answer, Connection};

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A stream of which every byte is kept that was read.
struct RecordedStream {
    stream: Box<dyn Stream>,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl AsyncRead for RecordedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.heard.lock().unwrap().extend_from_slice(&buffer.filled()[before..]);
        polled
    }
}

impl AsyncWrite for RecordedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }
    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }
    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A connection.
pub(super) struct Line {
    connection: Connection<RecordedStream>,
    heard: Arc<Mutex<Vec<u8>>>,
    /// An answer has come on it.
    used: bool,
}

/// So long a client waits to be asked for its body (RFC 9110, 10.1.1: it need not wait for ever).
const ASKED_WITHIN: Duration = Duration::from_millis(300);

impl Line {
    pub(super) async fn open(world: &World, edge: usize, secure: bool, host: &str) -> Self {
        let port = if secure { world.secure[edge] } else { world.edges[edge].port };
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("connects");
        let stream: Box<dyn Stream> = if secure {
            let name = host.to_owned().try_into().expect("a name");
            Box::new(world.http1.connect(name, stream).await.expect("a certificate"))
        } else {
            Box::new(stream)
        };
        let heard = Arc::<Mutex<Vec<u8>>>::default();
        let connection = Connection::over(RecordedStream { stream, heard: Arc::clone(&heard) });
        Self { connection, heard, used: false }
    }

    /// Bytes that nobody has asked for.
    pub(super) fn unread(&self) -> &[u8] {
        self.connection.unread()
    }

    /// Whether the edge may have closed it for its age, without anything being wrong.
    pub(super) fn was_used(&self) -> bool {
        self.used
    }

    /// Sends a request, and reads the answer where there is to be one.
    pub(super) async fn exchange(&mut self, ask: &Ask) -> Response {
        self.heard.lock().unwrap().clear();
        if ask.manner == Manner::Abandoned {
            self.abandon(ask).await;
            sleep(ask.patience()).await;
            return self.response(None);
        }
        self.connection.write(ask.head()).await;
        if ask.manner == Manner::Asked
            && let Ok(head) = timeout(ASKED_WITHIN, self.connection.head()).await
            && head.as_ref().is_none_or(|head| head.status >= 200)
        {
            // Answered without it: nothing more is asked on this connection.
            return self.response(None);
        }
        if ask.manner == Manner::Late {
            self.write_half(&ask.upload, 0).await;
            let response = self.read(ask.method).await;
            // The answer may have closed the connection.
            self.write_half(&ask.upload, 1).await;
            return response;
        }
        self.write_body(&ask.upload).await;
        if ask.manner == Manner::Left {
            self.connection.head().await;
            return self.response(None);
        }
        self.read(ask.method).await
    }

    /// Sends all of several requests before the first answer is read.
    pub(super) async fn pipeline(&mut self, asks: &[Ask]) -> Vec<Response> {
        self.heard.lock().unwrap().clear();
        for ask in asks {
            self.connection.write(ask.head()).await;
            self.write_body(&ask.upload).await;
        }
        let mut all = Vec::new();
        for ask in asks {
            all.push(self.read(ask.method).await);
        }
        all
    }

    pub(super) async fn read(&mut self, method: &str) -> Response {
        let answer = self.connection.answer(method).await;
        self.used |= answer.is_some();
        self.response(answer)
    }

    /// Writes as it is, and reads what comes up to `end`. `None` where the connection ends before.
    pub(super) async fn talk(&mut self, bytes: &[u8], end: &[u8]) -> Option<Vec<u8>> {
        self.connection.write(bytes).await;
        self.connection.until(end).await
    }

    fn response(&self, answer: Option<Answer>) -> Response {
        Response { answer, raw: self.heard.lock().unwrap().clone() }
    }

    async fn write_body(&mut self, upload: &Upload) {
        match upload {
            Upload::Nothing => {}
            Upload::Sized(body) | Upload::Raw(body) => self.connection.write(body).await,
            Upload::Pieces(pieces) => {
                for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
                    self.connection.write(chunk(piece)).await;
                }
                self.connection.write("0\r\n\r\n").await;
            }
        }
    }

    /// One of both halves of a body.
    async fn write_half(&mut self, upload: &Upload, half: usize) {
        match upload {
            Upload::Nothing => {}
            Upload::Sized(body) | Upload::Raw(body) => {
                let (first, second) = body.split_at(body.len() / 2);
                self.connection.write([first, second][half]).await;
            }
            Upload::Pieces(pieces) => {
                let (first, second) = pieces.split_at(pieces.len() / 2);
                for piece in [first, second][half].iter().filter(|piece| !piece.is_empty()) {
                    self.connection.write(chunk(piece)).await;
                }
                if half == 1 {
                    self.connection.write("0\r\n\r\n").await;
                }
            }
        }
    }

    async fn abandon(&mut self, ask: &Ask) {
        self.connection.write(ask.head()).await;
        match &ask.upload {
            Upload::Nothing => {}
            Upload::Sized(body) | Upload::Raw(body) => {
                self.connection.write(&body[..body.len() / 2]).await;
            }
            Upload::Pieces(pieces) => {
                for piece in &pieces[..pieces.len().div_ceil(2)] {
                    let piece = chunk(piece);
                    self.connection.write(&piece[..piece.len() - 1]).await;
                }
            }
        }
    }
}

fn chunk(piece: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()
}

/// Whether nothing more can be asked on the connection.
pub(super) fn ends(response: &Response) -> bool {
    let Some(answer) = &response.answer else { return true };
    let framed = answer.header("content-length").is_some()
        || answer.header("transfer-encoding").is_some()
        || matches!(answer.status, 204 | 304);
    !framed || answer.header("connection").is_some_and(|value| value.contains("close"))
}
