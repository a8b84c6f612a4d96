//! A visitor's HTTP/1 connection: what is written in pieces leaves in one call to the system.
//!
//! Pingora writes an answer's head and its body one after the other. Its stream keeps the head back until
//! more comes, but then sends the two in a call each, and such a call is the dearest part of a short
//! answer. [`Gathered`] keeps back what the stream would have kept back, no more and no longer, and
//! hands it over together with what comes next.
//!
//! It also bounds the wait for the next request and its head: see [`Patience`].

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use futures::FutureExt;
use pingora::apps::{HttpServerApp, ServerApp};
use pingora::protocols::http::ServerSession;
use pingora::protocols::l4::stream::DEFAULT_L4_WRITE_BUFFER_SIZE;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::{SslDigest, TlsRef};
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    Stream, TimingDigest, UniqueID, UniqueIDType,
};
use pingora::server::ShutdownWatch;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::patience::Patience;

/// An application of HTTP whose HTTP/1 connections are [`Gathered`]. HTTP/2 gathers its frames itself.
pub(super) struct Gathering<A>(pub Arc<A>);

#[async_trait]
impl<A: HttpServerApp + Send + Sync + 'static> ServerApp for Gathering<A> {
    async fn process_new(self: &Arc<Self>, stream: Stream, stop: &ShutdownWatch) -> Option<Stream> {
        if stream.selected_alpn_proto() == Some(ALPN::H2) {
            return self.0.process_new(stream, stop).await;
        }
        let waits = Arc::new(AtomicBool::new(true));
        let stream = Gathered::new(stream, Patience::new(Arc::clone(&waits)));
        let mut session = ServerSession::new_http1(Box::new(stream));
        session.set_keepalive((!*stop.borrow()).then_some(UNBOUNDED));
        let most = self.0.server_options().and_then(|options| options.keepalive_request_limit);
        session.set_keepalive_reuses_remaining(most);
        while let Some(reused) = self.0.process_new_http(session, stop).await {
            let (stream, settings) = reused.consume();
            waits.store(true, Ordering::Relaxed);
            session = ServerSession::new_http1(stream);
            if let Some(settings) = settings {
                settings.apply_to_session(&mut session);
            }
            session.set_keepalive(session.get_keepalive().map(|_| UNBOUNDED));
        }
        None
    }

    async fn cleanup(&self) {
        self.0.http_cleanup().await;
    }
}

/// Pingora sets no timer for the next request: [`Patience`] bounds the wait.
const UNBOUNDED: u64 = 0;
/// How much is kept back at most, in bytes: as much as Pingora's own stream would.
const KEPT: usize = DEFAULT_L4_WRITE_BUFFER_SIZE;
/// How many pieces leave together with what has been kept back. Pingora writes a chunk as three.
const PIECES: usize = 7;

/// A stream that keeps small writes back until a flush, or until more than [`KEPT`] bytes have come
/// together, which then leave in one vectored write.
#[derive(Debug)]
struct Gathered {
    stream: Stream,
    kept: BytesMut,
    patience: Patience,
}

impl Gathered {
    fn new(stream: Stream, patience: Patience) -> Self {
        Self { stream, kept: BytesMut::new(), patience }
    }

    /// Sends what is kept back by itself.
    fn poll_kept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.kept.is_empty() {
            let n = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.kept))?;
            self.left(n)?;
        }
        Poll::Ready(Ok(()))
    }

    /// That much has left: first of what was kept back. How much of what came after it.
    fn left(&mut self, n: usize) -> io::Result<usize> {
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let of_kept = n.min(self.kept.len());
        self.kept.advance(of_kept);
        Ok(n - of_kept)
    }
}

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
        let this = &mut *self;
        let length: usize = bufs.iter().map(|buf| buf.len()).sum();
        if this.kept.len() + length <= KEPT {
            // The room of what has left is used again.
            this.kept.reserve(KEPT - this.kept.len());
            for buf in bufs {
                this.kept.extend_from_slice(buf);
            }
            return Poll::Ready(Ok(length));
        }
        while !this.kept.is_empty() {
            let mut pieces = [IoSlice::new(&this.kept); PIECES + 1];
            for (piece, buf) in pieces.iter_mut().skip(1).zip(bufs) {
                *piece = *buf;
            }
            let pieces = pieces.get(..=bufs.len()).unwrap_or(&pieces);
            let n = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, pieces))?;
            let n = this.left(n)?;
            if n > 0 {
                return Poll::Ready(Ok(n));
            }
        }
        Pin::new(&mut this.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_kept(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_kept(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncRead for Gathered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.patience.waits() {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        let before = buf.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(cx, buf) {
            this.patience.came(buf.filled().get(before..).unwrap_or_default());
            return Poll::Ready(read);
        }
        this.patience.poll_over(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Drop for Gathered {
    /// As Pingora's stream does it: what can leave at once still leaves.
    fn drop(&mut self) {
        if !self.kept.is_empty() {
            let _ = self.flush().now_or_never();
        }
    }
}

#[async_trait]
impl Shutdown for Gathered {
    async fn shutdown(&mut self) {
        if let Err(error) = AsyncWriteExt::shutdown(self).await {
            tracing::debug!(%error, "a connection could not be ended");
        }
    }
}

impl UniqueID for Gathered {
    fn id(&self) -> UniqueIDType {
        self.stream.id()
    }
}

impl Ssl for Gathered {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.stream.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.stream.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.stream.selected_alpn_proto()
    }
}

impl GetTimingDigest for Gathered {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.stream.get_timing_digest()
    }

    fn get_read_pending_time(&self) -> Duration {
        self.stream.get_read_pending_time()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.stream.get_write_pending_time()
    }
}

impl GetProxyDigest for Gathered {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.stream.get_proxy_digest()
    }

    fn set_proxy_digest(&mut self, digest: ProxyDigest) {
        self.stream.set_proxy_digest(digest);
    }
}

impl GetSocketDigest for Gathered {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.stream.get_socket_digest()
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.stream.set_socket_digest(digest);
    }
}

#[async_trait]
impl Peek for Gathered {
    async fn try_peek(&mut self, buf: &mut [u8]) -> io::Result<bool> {
        self.stream.try_peek(buf).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use pingora::apps::{HttpPersistentSettings, ReusedHttpStream};
    use pingora::http::ResponseHeader;
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt;

    use super::*;

    /// Takes so many bytes a call as it is told, none at times, and remembers each call's.
    #[derive(Debug, Default, Clone)]
    struct Wire {
        calls: Arc<Mutex<Vec<Vec<u8>>>>,
        appetite: Arc<Mutex<Vec<usize>>>,
    }

    impl Wire {
        fn calls(&self) -> Vec<Vec<u8>> {
            self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
        }
    }

    impl AsyncWrite for Wire {
        fn poll_write(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(buf)])
        }
        fn poll_write_vectored(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let most = self.appetite.lock().unwrap().pop().unwrap_or(usize::MAX);
            if most == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let mut all: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
            all.truncate(most);
            let n = all.len();
            self.calls.lock().unwrap().push(all);
            Poll::Ready(Ok(n))
        }
        fn is_write_vectored(&self) -> bool {
            true
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }
    impl AsyncRead for Wire {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }
    #[async_trait]
    impl Shutdown for Wire {
        async fn shutdown(&mut self) {}
    }
    impl UniqueID for Wire {
        fn id(&self) -> UniqueIDType {
            7
        }
    }
    impl Ssl for Wire {}
    impl GetTimingDigest for Wire {
        fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
            vec![]
        }
    }
    impl GetProxyDigest for Wire {
        fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
            None
        }
    }
    impl GetSocketDigest for Wire {
        fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
            None
        }
    }
    impl Peek for Wire {}

    fn open() -> (Wire, Gathered) {
        let wire = Wire::default();
        let patience = Patience::new(Arc::default());
        (wire.clone(), Gathered::new(Box::new(wire), patience))
    }

    #[tokio::test]
    async fn a_head_leaves_with_its_body() {
        let (wire, mut stream) = open();
        stream.write_all(b"head").await.unwrap();
        assert_eq!(wire.calls().len(), 0);
        stream.write_all(&[b'x'; 5000]).await.unwrap();
        assert_eq!(wire.calls().len(), 1, "without waiting for a flush");
        assert_eq!(wire.calls().concat().len(), 5004);
    }

    #[tokio::test]
    async fn nothing_stays_behind() {
        let (wire, mut stream) = open();
        stream.write_all(b"one").await.unwrap();
        stream.flush().await.unwrap();
        assert_eq!(wire.calls().concat(), b"one");
        stream.write_all(b"two").await.unwrap();
        AsyncWriteExt::shutdown(&mut stream).await.unwrap();
        stream.write_all(b"three").await.unwrap();
        drop(stream);
        assert_eq!(wire.calls().concat(), b"onetwothree");
    }

    /// Answers each request ten minutes after it has come.
    struct Slow;

    #[async_trait]
    impl HttpServerApp for Slow {
        async fn process_new_http(
            self: &Arc<Self>,
            mut session: ServerSession,
            _: &ShutdownWatch,
        ) -> Option<ReusedHttpStream> {
            if !session.read_request().await.ok()? {
                return None;
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_mins(10)) => {}
                idle = session.read_body_or_idle(true) => panic!("{idle:?}"),
            }
            let answer = ResponseHeader::build(204, None).unwrap();
            session.write_response_header(Box::new(answer)).await.unwrap();
            let settings = HttpPersistentSettings::for_session(&session);
            let stream = session.finish().await.unwrap()?;
            Some(ReusedHttpStream::from_reusable_stream(stream, settings))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_waits_for_requests_and_not_for_ever() {
        let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        // What comes at once, every ten seconds from then on, and how many answers are due.
        for (at_once, later, answers) in [
            (&b""[..], &b""[..], 0),
            (request, b"", 1),
            (&request[..20], b"", 0),
            (b"\r\n\r\n", b"", 0),
            (b"\r\n\r\nGET /", b"x", 0),
            (b"GET / HTTP/1.1\r\nHost: a\r\n", b"x", 0),
        ] {
            let (mut visitor, stream) = tokio::io::duplex(4096);
            let (_stop, stop) = tokio::sync::watch::channel(false);
            let serving = tokio::spawn(async move {
                Arc::new(Gathering(Arc::new(Slow))).process_new(Box::new(stream), &stop).await
            });
            let began = tokio::time::Instant::now();
            visitor.write_all(at_once).await.unwrap();
            let mut came = Vec::new();
            while began.elapsed() < Duration::from_secs(2000) {
                let read = visitor.read_buf(&mut came);
                match tokio::time::timeout(Duration::from_secs(10), read).await {
                    Ok(Ok(0) | Err(_)) => break,
                    Ok(Ok(_)) => {}
                    // The connection may have ended meanwhile: the next read tells.
                    Err(_) => drop(visitor.write_all(later).await),
                }
            }
            drop(visitor);
            serving.await.unwrap();
            let took = began.elapsed().as_secs();
            let came = String::from_utf8(came).unwrap();
            assert_eq!(came.matches("HTTP/1.1 204").count(), answers, "{came}");
            let waited = took - 600 * u64::try_from(answers).unwrap();
            assert!((60..=90).contains(&waited), "{at_once:?}: {waited}");
        }
    }

    /// What is written: so many bytes in a call, these lengths in a vectored one, or a flush.
    #[derive(Debug, Clone)]
    enum Act {
        Write(Vec<usize>),
        Flush,
    }

    proptest! {
        /// Whatever is written, and however the wire takes it, arrives once and in its order.
        #[test]
        fn bytes_keep_their_order(
            acts in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(prop_oneof![0..40_usize, 0..4000_usize], 1..12).prop_map(Act::Write),
                    Just(Act::Flush),
                ],
                1..20,
            ),
            appetite in prop::collection::vec(prop_oneof![0..3_usize, 0..3000_usize], 0..60),
        ) {
            let (wire, mut stream) = open();
            *wire.appetite.lock().unwrap() = appetite;
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let mut sent = Vec::new();
            for act in acts {
                match act {
                    Act::Write(lengths) => {
                        let pieces: Vec<Vec<u8>> = lengths
                            .iter()
                            .enumerate()
                            .map(|(at, length)| vec![u8::try_from((sent.len() + at) % 251).unwrap(); *length])
                            .collect();
                        let mut left: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
                        let mut left = left.as_mut_slice();
                        sent.extend(pieces.concat());
                        while left.iter().any(|piece| !piece.is_empty()) {
                            let n = runtime.block_on(stream.write_vectored(left)).unwrap();
                            prop_assert!(n > 0);
                            IoSlice::advance_slices(&mut left, n);
                        }
                    }
                    Act::Flush => {
                        runtime.block_on(stream.flush()).unwrap();
                        prop_assert_eq!(&wire.calls().concat(), &sent);
                    }
                }
            }
            prop_assert!(sent.len() - wire.calls().concat().len() <= KEPT);
            runtime.block_on(stream.flush()).unwrap();
            prop_assert_eq!(wire.calls().concat(), sent);
        }
    }
}
