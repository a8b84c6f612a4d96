//! A visitor's HTTP/1 connection: its requests, one after the other, until it ends.
//!
//! What they write is [`Gathered`], and the wait for the next request and its head is bounded: see
//! [`Patience`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use pingora::apps::{HttpServerApp, ServerApp};
use pingora::protocols::http::ServerSession;
use pingora::protocols::{ALPN, Stream};
use pingora::server::ShutdownWatch;

use super::arrivals::Arrivals;
use super::crowd::Crowd;
use super::gathered::{Gathered, Wire};
use super::patience::Patience;
use super::requests::Requests;
use crate::edge::RawRequest;

/// An application of HTTP whose HTTP/1 connections are [`Gathered`]. HTTP/2 gathers its frames itself, and only its
/// beginning is waited for.
pub(super) struct Gathering<A> {
    pub(super) app: Arc<A>,
    /// Who may come. Everybody, where there is none.
    pub(super) crowd: Option<Arc<Crowd>>,
    /// Who has a connection and may ask.
    pub(super) arrivals: Arrivals,
}

#[async_trait]
impl<A: HttpServerApp + Send + Sync + 'static> ServerApp for Gathering<A> {
    async fn process_new(self: &Arc<Self>, stream: Stream, stop: &ShutdownWatch) -> Option<Stream> {
        let _place = match &self.crowd {
            Some(crowd) => Some(crowd.enter(&stream)?),
            None => None,
        };
        let waits = Arc::new(AtomicBool::new(true));
        if stream.selected_alpn_proto() == Some(ALPN::H2) {
            // The preface is a head as well (RFC 9113, 3.4): Pingora would wait for it without an end.
            let patience = Patience::new(waits);
            let requests = Requests::new(patience, RawRequest::unframed());
            let stream = Gathered::new(Wire::new(stream), requests);
            return self.app.process_new(Box::new(stream), stop).await;
        }
        let _open = self.arrivals.enter();
        let wire = Wire::new(stream);
        let request = RawRequest::default();
        let patience = Patience::new(Arc::clone(&waits));
        let stream = Gathered::new(wire.clone(), Requests::new(patience, request.clone()));
        let mut session = ServerSession::new_http1(Box::new(stream));
        session.set_connection_user_context(Some(Box::new(request.clone())));
        session.set_keepalive((!*stop.borrow()).then_some(UNBOUNDED));
        let most = self.app.server_options().and_then(|options| options.keepalive_request_limit);
        session.set_keepalive_reuses_remaining(most);
        while let Some(reused) = wire.at_work(self.app.process_new_http(session, stop)).await {
            let (stream, settings) = reused.consume();
            waits.store(true, Ordering::Relaxed);
            request.begin();
            session = ServerSession::new_http1(stream);
            if let Some(settings) = settings {
                settings.apply_to_session(&mut session);
            }
            session.set_connection_user_context(Some(Box::new(request.clone())));
            session.set_keepalive(session.get_keepalive().map(|_| UNBOUNDED));
        }
        wire.end().await;
        None
    }

    /// The listeners have closed. Pingora ends every connection then that waits for a request.
    async fn cleanup(&self) {
        self.arrivals.pass().await;
        self.app.http_cleanup().await;
    }
}

/// Pingora sets no timer for the next request: [`Patience`] bounds the wait.
const UNBOUNDED: u64 = 0;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pingora::apps::{HttpPersistentSettings, ReusedHttpStream};
    use pingora::http::ResponseHeader;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

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
            let raw = session.take_connection_user_context().unwrap();
            raw.downcast::<RawRequest>().unwrap().judge();
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
                Arc::new(Gathering {
                    app: Arc::new(Slow),
                    crowd: None,
                    arrivals: Arrivals::default(),
                })
                .process_new(Box::new(stream), &stop)
                .await
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
}
