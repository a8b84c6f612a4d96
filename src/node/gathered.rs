//! The stream of a visitor's HTTP/1 connection: what is written in pieces leaves in one call to the system.
//!
//! Pingora writes an answer's head, each chunk of its body and the end of it one after the other, and flushes
//! after each, or its stream keeps the head back until more comes and then sends the two in a call each.
//! Such a call is the dearest part of a short answer. [`Gathered`] puts a flush off for as long as the
//! connection's task is at work: see [`Wire::at_work`]. When the task has to wait for something, or
//! is done, all that it has flushed leaves at once, and waits for nothing that is yet to come.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::poll_fn;
use pingora::protocols::l4::stream::DEFAULT_L4_WRITE_BUFFER_SIZE;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::SslDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    Stream, TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::requests::{Requests, Unread};
use crate::edge::{Pace, count_unread};
use crate::spare::Spare;

/// How much is kept back without a flush at most, in bytes: as much as Pingora's own stream would.
const KEPT: usize = DEFAULT_L4_WRITE_BUFFER_SIZE;
/// How much is kept back of what has been flushed, in bytes: a page that comes whole leaves whole. A long one
/// comes in parts of about this size, which leave as they are.
const FLUSHED: usize = 64 << 10;
/// How many pieces leave together with what has been kept back. Pingora writes a chunk as three.
const PIECES: usize = 7;

/// The stream of a connection and what is kept back of it, for whoever reads and writes and for whoever
/// drives them.
#[derive(Debug, Clone)]
pub(super) struct Wire(Arc<Mutex<Kept>>);

#[derive(Debug)]
struct Kept {
    stream: Stream,
    bytes: Spare,
    /// How many of them have left.
    gone: usize,
    /// The connection's task is at work, and will flush when it rests.
    at_work: bool,
    /// A flush has been put off.
    flush: bool,
    /// How what leaves is read.
    pace: Pace,
}

impl Wire {
    pub(super) fn new(stream: Stream) -> Self {
        let (bytes, gone, pace) = (Spare::default(), 0, Pace::default());
        let (at_work, flush) = (false, false);
        Self(Arc::new(Mutex::new(Kept { stream, bytes, gone, at_work, flush, pace })))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does the connection's work. Flushes put off meanwhile are made up for whenever it rests.
    pub(super) async fn at_work<F: Future>(&self, work: F) -> F::Output {
        let mut work = pin!(work);
        poll_fn(|cx| {
            self.kept().at_work = true;
            let done = work.as_mut().poll(cx);
            let mut kept = self.kept();
            kept.at_work = false;
            if kept.flush {
                // An error shows when the work goes on: its next read or write has it, too.
                let _ = kept.poll_flush(cx);
            }
            done
        })
        .await
    }

    /// Sends what has been left, when the connection's work is done.
    pub(super) async fn end(&self) {
        if self.kept().bytes.is_empty() {
            return;
        }
        let sent = poll_fn(|cx| self.kept().poll_flush(cx));
        self.settle(sent.await);
    }

    /// Gives up what can't leave: who has written it believes that it has left.
    fn settle(&self, sent: io::Result<()>) {
        if let Err(error) = sent {
            tracing::debug!(%error, "the end of an answer did not leave");
            let mut kept = self.kept();
            (kept.bytes, kept.gone, kept.flush) = (Spare::default(), 0, false);
        }
    }
}

impl Kept {
    /// What is kept back.
    fn waiting(&self) -> &[u8] {
        self.bytes.get(self.gone..).unwrap_or_default()
    }

    /// How much may be kept back.
    fn room(&self) -> usize {
        if self.flush { FLUSHED } else { KEPT }
    }

    /// Keeps all of `bufs` back where there is room, or sends them after what has been kept back.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length: usize = bufs.iter().map(|buf| buf.len()).sum();
        if self.waiting().len() + length <= self.room() {
            if self.bytes.capacity() - self.bytes.len() < length {
                // There is room for the end of a chunk.
                let mut room = Spare::with_capacity(self.waiting().len() + length + KEPT);
                room.extend_from_slice(self.waiting());
                (self.bytes, self.gone) = (room, 0);
            }
            for buf in bufs {
                self.bytes.extend_from_slice(buf);
            }
            return Poll::Ready(Ok(length));
        }
        while !self.bytes.is_empty() {
            let mut pieces =
                [IoSlice::new(self.bytes.get(self.gone..).unwrap_or_default()); PIECES + 1];
            for (piece, buf) in pieces.iter_mut().skip(1).zip(bufs) {
                *piece = *buf;
            }
            let pieces = pieces.get(..=bufs.len()).unwrap_or(&pieces);
            let sent = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
            let n = ready!(self.paced(cx, sent))?;
            let n = self.left(n)?;
            if n > 0 {
                return Poll::Ready(Ok(n));
            }
        }
        let sent = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.paced(cx, sent)
    }

    /// What a call to the system came to, or an error when the visitor reads too slowly for it to come to anything.
    fn paced<T>(&mut self, cx: &mut Context<'_>, sent: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if sent.is_ready() {
            self.pace.moves();
            return sent;
        }
        let stream = &self.stream;
        let read = || {
            let digest = stream.get_socket_digest();
            digest.and_then(|digest| digest.tcp_info()).map_or(0, |tcp| tcp.tcpi_bytes_acked)
        };
        ready!(self.pace.poll_too_slow(cx, read));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the visitor reads too slowly")))
    }

    /// Sends what is kept back by itself.
    fn poll_kept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.bytes.is_empty() {
            let kept = self.bytes.get(self.gone..).unwrap_or_default();
            let sent = Pin::new(&mut self.stream).poll_write(cx, kept);
            let n = ready!(self.paced(cx, sent))?;
            self.left(n)?;
        }
        if self.bytes.capacity() > 2 * KEPT {
            self.bytes = Spare::default();
        }
        Poll::Ready(Ok(()))
    }

    /// Sends everything. What could not leave is still due.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_kept(cx))?;
        let sent = Pin::new(&mut self.stream).poll_flush(cx);
        ready!(self.paced(cx, sent))?;
        self.flush = false;
        Poll::Ready(Ok(()))
    }

    /// That much has left: first of what was kept back. How much of what came after it.
    fn left(&mut self, n: usize) -> io::Result<usize> {
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let of_kept = n.min(self.waiting().len());
        self.gone += of_kept;
        if self.gone == self.bytes.len() {
            self.bytes.clear();
            self.gone = 0;
        }
        Ok(n - of_kept)
    }
}

/// A stream that keeps small writes back until a flush, or until more than there is room for has come
/// together, which then leaves in one vectored write.
#[derive(Debug)]
pub(super) struct Gathered {
    wire: Wire,
    requests: Requests,
}

impl Gathered {
    /// Whose reader sees of `requests` the one that it is at.
    pub(super) fn new(wire: Wire, requests: Requests) -> Self {
        Self { wire, requests }
    }
}

/// What is said where Pingora would say nothing of why.
const UNREAD: &str = "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nCache-Control: private, no-store\r\n\
    Content-Length: 82\r\nConnection: close\r\n\r\n\
    {\"error\":{\"code\":\"malformed\",\"message\":\"the head of the request can't be read\"}}\r\n";

impl AsyncWrite for Gathered {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = bufs.iter().map(|buf| buf.len()).sum();
        match self.requests.is_unread() {
            None => self.wire.kept().poll_write(cx, bufs),
            Some(Unread::Told) => Poll::Ready(Ok(length)),
            Some(Unread::New) => {
                count_unread();
                // All of it is kept back: nothing else is.
                let told = self.wire.kept().poll_write(cx, &[IoSlice::new(UNREAD.as_bytes())]);
                told.map_ok(|_| length)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut kept = self.wire.kept();
        if kept.at_work {
            kept.flush = true;
            return Poll::Ready(Ok(()));
        }
        kept.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut kept = self.wire.kept();
        ready!(kept.poll_kept(cx))?;
        let sent = Pin::new(&mut kept.stream).poll_shutdown(cx);
        kept.paced(cx, sent)
    }
}

impl AsyncRead for Gathered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { wire, requests } = &mut *self;
        requests.poll_read(&mut wire.kept().stream, cx, buf)
    }
}

#[async_trait]
impl Shutdown for Gathered {
    async fn shutdown(&mut self) {
        let sent = AsyncWriteExt::shutdown(self).await;
        self.wire.settle(sent);
    }
}

impl UniqueID for Gathered {
    fn id(&self) -> UniqueIDType {
        self.wire.kept().stream.id()
    }
}

impl Ssl for Gathered {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.wire.kept().stream.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.wire.kept().stream.selected_alpn_proto()
    }
}

impl GetTimingDigest for Gathered {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.wire.kept().stream.get_timing_digest()
    }

    fn get_read_pending_time(&self) -> Duration {
        self.wire.kept().stream.get_read_pending_time()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.wire.kept().stream.get_write_pending_time()
    }
}

impl GetProxyDigest for Gathered {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.wire.kept().stream.get_proxy_digest()
    }

    fn set_proxy_digest(&mut self, digest: ProxyDigest) {
        self.wire.kept().stream.set_proxy_digest(digest);
    }
}

impl GetSocketDigest for Gathered {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.wire.kept().stream.get_socket_digest()
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.wire.kept().stream.set_socket_digest(digest);
    }
}

impl Peek for Gathered {}

#[cfg(test)]
mod tests;
