//! An HTTP/1 client that sends what it is told, byte for byte, and hides nothing of the answer.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::PATIENCE;

/// A connection and what has been read of it too early.
pub struct Connection<S = TcpStream> {
    pub stream: S,
    rest: Vec<u8>,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Chunked bodies: what came behind the last chunk.
    pub trailers: Vec<(String, String)>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
    pub fn all(&self, name: &str) -> Vec<&str> {
        let all = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        all.map(|(_, value)| value.as_str()).collect()
    }
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }
    /// The value of a cookie that the answer sets, without attributes.
    pub fn cookie(&self, name: &str) -> Option<String> {
        // What is said last counts.
        self.all("set-cookie").iter().rev().find_map(|line| {
            let (pair, _) = line.split_once(';')?;
            let (key, value) = pair.split_once('=')?;
            (key == name).then(|| value.to_owned())
        })
    }
}

impl Connection {
    pub async fn open(port: u16) -> Self {
        Self::try_open(port).await.expect("connects")
    }
    /// A connection, where somebody listens.
    pub async fn try_open(port: u16) -> Option<Self> {
        TcpStream::connect(("127.0.0.1", port)).await.ok().map(Self::over)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub fn over(stream: S) -> Self {
        Self { stream, rest: Vec::new() }
    }

    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        // The other side may have answered and closed already: what it said is what counts.
        let _ = self.stream.write_all(bytes.as_ref()).await;
        let _ = self.stream.flush().await;
    }

    /// Whether it could be written.
    pub async fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok() && self.stream.flush().await.is_ok()
    }

    /// One more piece, or `None` at the end.
    async fn more(&mut self) -> Option<usize> {
        let mut buffer = vec![0; 16 * 1024];
        let read =
            timeout(PATIENCE, self.stream.read(&mut buffer)).await.expect("the edge is silent");
        let read = read.unwrap_or(0);
        self.rest.extend_from_slice(&buffer[..read]);
        (read > 0).then_some(read)
    }

    /// Everything up to `mark`, with it.
    pub async fn until(&mut self, mark: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.rest, mark) {
                return Some(self.rest.drain(..at + mark.len()).collect());
            }
            self.more().await?;
        }
    }

    async fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.rest.len() < count {
            self.more().await?;
        }
        Some(self.rest.drain(..count).collect())
    }

    /// What has come and belongs to no answer that was read.
    pub fn unread(&self) -> &[u8] {
        &self.rest
    }

    /// Whether the other side has closed, with nothing more to say.
    pub async fn is_closed(&mut self) -> bool {
        self.rest.is_empty() && self.more().await.is_none()
    }

    /// The head of the next answer.
    pub async fn head(&mut self) -> Option<Answer> {
        let head = self.until(b"\r\n\r\n").await?;
        let head = String::from_utf8(head).expect("a head is text");
        let mut lines = head.lines();
        let mut first = lines.next()?.splitn(3, ' ');
        first.next()?;
        let status = first.next()?.parse().ok()?;
        Some(Answer { status, headers: fields(lines), body: Vec::new(), trailers: Vec::new() })
    }

    /// The next answer to a request with `method`; interim answers are skipped.
    pub async fn answer(&mut self, method: &str) -> Option<Answer> {
        let mut answer = self.head().await?;
        while answer.status < 200 && answer.status != 101 {
            answer = self.head().await?;
        }
        if method == "HEAD" || matches!(answer.status, 101 | 204 | 304) {
            return Some(answer);
        }
        if answer.header("transfer-encoding").is_some() {
            loop {
                let line = self.until(b"\r\n").await?;
                let size = String::from_utf8_lossy(&line);
                let size = size.trim().split(';').next().unwrap_or_default();
                let size = usize::from_str_radix(size, 16).expect("a chunk's size");
                if size == 0 {
                    break;
                }
                let chunk = self.exactly(size + 2).await?;
                answer.body.extend_from_slice(&chunk[..size]);
            }
            let mut trailers = self.until(b"\r\n").await?;
            while !trailers.ends_with(b"\r\n\r\n") && trailers != b"\r\n" {
                trailers.extend(self.until(b"\r\n").await?);
            }
            answer.trailers = fields(String::from_utf8_lossy(&trailers).lines());
        } else if let Some(length) = answer.header("content-length") {
            answer.body = self.exactly(length.parse().expect("a length")).await?;
        } else {
            while self.more().await.is_some() {}
            answer.body = std::mem::take(&mut self.rest);
        }
        Some(answer)
    }
}

fn fields<'l>(lines: impl Iterator<Item = &'l str>) -> Vec<(String, String)> {
    lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

/// A request that is put together piece by piece.
pub struct Request {
    port: u16,
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl Request {
    pub fn new(port: u16, method: &str, target: &str) -> Self {
        let headers = vec![("Host".to_owned(), "shop.example".to_owned())];
        Self { port, method: method.into(), target: target.into(), headers, body: None }
    }
    /// Sets a header, in the place of one of the same name.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
        self.headers.push((name.into(), value.into()));
        self
    }
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }
    pub fn port(&self) -> u16 {
        self.port
    }
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = &self.body {
            out.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        let mut out = (out + "\r\n").into_bytes();
        out.extend(self.body.as_deref().unwrap_or_default());
        out
    }
    pub async fn send(self) -> Answer {
        let mut connection = Connection::open(self.port).await;
        connection.write(self.bytes()).await;
        connection.answer(&self.method).await.expect("an answer")
    }
}
