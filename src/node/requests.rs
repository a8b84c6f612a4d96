//! The requests of a connection of HTTP/1, one after the other: whoever reads one sees nothing of the next. Clients may
//! send several before the first answer (RFC 9112, 9.3.2), and Pingora reads as much as comes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use super::patience::Patience;
use crate::edge::{BadBody, Due, RawRequest};

/// What comes on a connection.
#[derive(Debug)]
pub(super) struct Requests {
    patience: Patience,
    request: RawRequest,
    /// Of a head, what had no room in the read that it came with.
    left: Vec<u8>,
    /// It has been said that the request can't be read.
    told: bool,
}

/// A request that Pingora can't read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unread {
    /// Nobody has been told.
    New,
    Told,
}

/// How much is read where it is only asked whether something comes.
const PROBE: usize = 512;

impl Requests {
    /// Whoever serves the requests asks `request` for what has been seen of them.
    pub(super) fn new(patience: Patience, request: RawRequest) -> Self {
        Self { patience, request, left: Vec::new(), told: false }
    }

    /// Reads more of the request that the connection is at.
    pub(super) fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.left.is_empty() {
            let left = std::mem::take(&mut self.left);
            self.hand_over(&left, buf);
            return Poll::Ready(Ok(()));
        }
        if self.request.is_broken() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, BadBody)));
        }
        if self.patience.waits() {
            return self.poll_head(stream, cx, buf);
        }
        match self.request.due() {
            Due::All => self.poll_all(stream, cx, buf),
            Due::Bytes(most) => self.poll_bytes(stream, cx, buf, most),
            Due::Chunks => self.poll_chunks(stream, cx, buf),
            Due::Nothing => self.poll_gone(stream, cx),
        }
    }

    /// Whether what is written now is an answer to a request that Pingora can't read. The first time it is asked, it is
    /// counted.
    pub(super) fn is_unread(&mut self) -> Option<Unread> {
        if !self.request.is_unread() {
            self.told = false;
            return None;
        }
        Some(if std::mem::replace(&mut self.told, true) { Unread::Told } else { Unread::New })
    }

    fn hand_over(&mut self, bytes: &[u8], buf: &mut ReadBuf<'_>) {
        let (now, later) = bytes.split_at(bytes.len().min(buf.remaining()));
        buf.put_slice(now);
        self.left = later.to_vec();
    }

    fn poll_head<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let waiting = self.request.take_behind();
        if !waiting.is_empty() {
            let head = self.head(&waiting).unwrap_or(waiting);
            self.hand_over(&head, buf);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let read = Pin::new(stream).poll_read(cx, buf);
        if read.is_pending() {
            return self.patience.poll_over(cx).map(|()| Err(io::ErrorKind::TimedOut.into()));
        }
        let came = buf.filled().get(before..).unwrap_or_default();
        if let Some(head) = self.head(came) {
            buf.set_filled(before);
            self.hand_over(&head, buf);
        }
        read
    }

    /// The part of a head that has come, where it is not all of `came` as it is. What stands behind it waits.
    fn head(&mut self, came: &[u8]) -> Option<Vec<u8>> {
        let behind = self.patience.came(came);
        let (head, behind) = came.split_at(came.len() - behind.len());
        self.request.head_came(head, behind, !self.patience.waits())
    }

    /// A body of which `most` bytes are due.
    fn poll_bytes<S: AsyncRead + Unpin>(
        &self,
        stream: &mut S,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        most: u64,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(buf.remaining());
        if !self.request.put_behind(buf, most) {
            if most == buf.remaining() {
                ready!(Pin::new(stream).poll_read(cx, buf))?;
            } else {
                let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
                ready!(Pin::new(stream).poll_read(cx, &mut part))?;
                let came = part.filled().len();
                buf.advance(came);
            }
        }
        self.request.bytes_came(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }

    fn poll_chunks<S: AsyncRead + Unpin>(
        &self,
        stream: &mut S,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if !self.request.put_behind(buf, usize::MAX) {
            ready!(Pin::new(stream).poll_read(cx, buf))?;
        }
        let came = buf.filled().get(before..).unwrap_or_default();
        let own = self.request.chunks_came(came);
        let own = own.map_err(|bad| io::Error::new(io::ErrorKind::InvalidData, bad))?;
        buf.set_filled(before + own);
        Poll::Ready(Ok(()))
    }

    fn poll_all<S: AsyncRead + Unpin>(
        &self,
        stream: &mut S,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.request.put_behind(buf, usize::MAX) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(stream).poll_read(cx, buf)
    }

    /// Nothing is due: ready when the client is gone. What it sends is for the next request, and the rest of it is left to the
    /// system.
    fn poll_gone<S: AsyncRead + Unpin>(
        &self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.request.is_followed() {
            return Poll::Pending;
        }
        let mut space = [0; PROBE];
        let mut probe = ReadBuf::new(&mut space);
        ready!(Pin::new(stream).poll_read(cx, &mut probe))?;
        if probe.filled().is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.request.put_back(probe.filled());
        Poll::Pending
    }
}
