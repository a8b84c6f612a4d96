//! A connection of its own for one request, behind which stands what Pingora can't write or read: a target that it escapes,
//! a head of an answer that it refuses. It talks to a task that talks to the server, which costs as much as the connection
//! itself: it is for what is odd.

use std::io;
use std::pin::pin;
use std::time::Duration;

use async_trait::async_trait;
use pingora::connectors::L4Connect;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::{Error, ErrorType, OrErr, Result};
use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::unix::OwnedReadHalf;
use tokio::net::{TcpStream, UnixStream};

use super::head::readable;

/// A request's target that Pingora can't write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OddTarget {
    /// As it writes it.
    pub written: Box<[u8]>,
    /// As it came.
    pub came: Box<[u8]>,
}

/// What stands between this node and a server.
#[derive(Debug)]
pub(super) struct Bridge {
    /// How long the server may take to agree to a connection.
    pub(super) connect: Duration,
    /// What is asked for, where Pingora can't write it.
    pub(super) target: Option<OddTarget>,
}

/// The longest head, either way.
const MAX_HEAD: usize = 256 * 1024;
/// What is carried at one time.
const PIECE: usize = 16 * 1024;
/// How often it is looked whether the edge is still there, where the server takes nothing.
const LOOK: Duration = Duration::from_secs(1);

#[async_trait]
impl L4Connect for Bridge {
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        let address = address.as_inet().ok_or_else(|| Error::new(ErrorType::ConnectError))?;
        let connecting = tokio::time::timeout(self.connect, TcpStream::connect(address)).await;
        let server = connecting
            .or_err(ErrorType::ConnectTimedout, "connecting to a server with odd answers")?
            .or_err(ErrorType::ConnectError, "connecting to a server with odd answers")?;
        // A page that waits for the next piece waits in vain.
        let _ = server.set_nodelay(true);
        let (ours, theirs) =
            UnixStream::pair().or_err(ErrorType::InternalError, "no descriptors")?;
        let target = self.target.clone();
        tokio::spawn(async move {
            if let Err(error) = carry(server, ours, target).await {
                tracing::debug!(%error, "a connection to a server with odd answers has ended");
            }
        });
        Ok(Stream::from(theirs))
    }
}

/// Carries one request there and its answer back, for as long as the edge wants either.
async fn carry(server: TcpStream, edge: UnixStream, target: Option<OddTarget>) -> io::Result<()> {
    let (mut from_server, mut to_server) = server.into_split();
    let (mut from_edge, mut to_edge) = edge.into_split();
    tokio::select! {
        gone = ask(&mut from_edge, &mut to_server, target) => gone,
        answered = answer(&mut from_server, &mut to_edge) => answered,
    }
}

/// Ends once the edge is gone. A server that takes no more may still answer.
async fn ask(
    edge: &mut OwnedReadHalf,
    server: &mut OwnedWriteHalf,
    target: Option<OddTarget>,
) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    let mut takes = true;
    if let Some(target) = target {
        let mut head = Vec::new();
        let end = loop {
            if let Some(end) = memchr::memchr(b'\n', &head) {
                break end;
            }
            if edge.read_buf(&mut head).await? == 0 || head.len() > MAX_HEAD {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let (line, rest) = head.split_at_checked(end).unwrap_or_default();
        takes = give(edge, server, &[&target.put_into(line), rest].concat()).await?;
    }
    loop {
        let came = edge.read(&mut piece).await?;
        if came == 0 {
            return Ok(());
        }
        let bytes = piece.get(..came).unwrap_or_default();
        takes = takes && give(edge, server, bytes).await?;
    }
}

/// Gives `bytes` to the server. Whether it takes them; an error where the edge is gone before it does.
async fn give(edge: &OwnedReadHalf, server: &mut OwnedWriteHalf, bytes: &[u8]) -> io::Result<bool> {
    let mut giving = pin!(server.write_all(bytes));
    loop {
        match tokio::time::timeout(LOOK, &mut giving).await {
            Ok(given) => return Ok(given.is_ok()),
            Err(_) if is_gone(edge.as_ref())? => return Err(io::ErrorKind::BrokenPipe.into()),
            Err(_) => {}
        }
    }
}

/// Whether nobody is at the other end, whatever has come from there and has not been read.
fn is_gone(edge: &UnixStream) -> io::Result<bool> {
    let mut polled = [PollFd::new(edge, PollFlags::empty())];
    rustix::event::poll(&mut polled, Some(&Timespec::default()))?;
    Ok(polled.iter().any(|one| one.revents().contains(PollFlags::HUP)))
}

impl OddTarget {
    /// A request line with the target as it came.
    fn put_into(&self, line: &[u8]) -> Vec<u8> {
        let mut words = line.splitn(3, |byte| *byte == b' ');
        match (words.next(), words.next(), words.next()) {
            (Some(method), Some(target), Some(version)) if *target == *self.written => {
                [method, &self.came, version].join(&b' ')
            }
            _ => line.to_vec(),
        }
    }
}

async fn answer(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut came = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = end_of_head(&came) {
                break end;
            }
            if from.read_buf(&mut came).await? == 0 || came.len() > MAX_HEAD {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let rest = came.split_off(end);
        let odd =
            || io::Error::new(io::ErrorKind::InvalidData, "the head of an answer can't be read");
        let head = readable(&came).ok_or_else(odd)?;
        to.write_all(&head.bytes).await?;
        came = rest;
        if !head.is_ahead {
            break;
        }
    }
    to.write_all(&came).await?;
    copy(from, to).await?;
    to.shutdown().await
}

/// Where the head ends: behind its empty line.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let mut lines = memchr::memchr_iter(b'\n', bytes);
    lines.find_map(|at| match bytes.get(at + 1..) {
        Some([b'\n', ..]) => Some(at + 2),
        Some([b'\r', b'\n', ..]) => Some(at + 3),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_with_an_empty_line() {
        for (head, end) in [
            (&b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody\r\n\r\n"[..], Some(25)),
            (b"HTTP/1.1 200 OK\nA: b\n\nbody", Some(22)),
            (b"HTTP/1.1 200 OK\r\nA: b\r\n\r", None),
            (b"", None),
        ] {
            assert_eq!(end_of_head(head), end, "{}", head.escape_ascii());
        }
    }

    #[test]
    fn a_target_is_as_it_came() {
        let target = OddTarget { written: b"/a%22"[..].into(), came: b"/a\""[..].into() };
        let line = |line: &[u8]| target.put_into(line).escape_ascii().to_string();
        assert_eq!(line(b"GET /a%22 HTTP/1.1\r"), "GET /a\\\" HTTP/1.1\\r");
        assert_eq!(line(b"GET /b%22 HTTP/1.1\r"), "GET /b%22 HTTP/1.1\\r", "another page");
    }
}
