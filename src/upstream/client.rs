//! Calls of our own to an upstream, with small bodies both ways: events to a tracking API, questions
//! to a profile source.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;

use super::Upstream;

/// Makes calls and keeps idle connections for the next ones.
pub struct Client {
    connector: Connector,
}

/// What an upstream answered.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Seconds or a date, as sent.
    pub retry_after: Option<String>,
    /// Content-Type, as sent.
    pub content_type: Option<String>,
    /// Cache-Control, as sent.
    pub cache_control: Option<String>,
    /// The body, as much of it as the call allows.
    pub body: Bytes,
}

/// What is asked of an upstream.
pub struct Call<'c> {
    /// Method.
    pub method: Method,
    /// Path below the upstream's base path, with query.
    pub path: &'c str,
    /// Headers beside Host and Content-Length.
    pub headers: &'c [(HeaderName, HeaderValue)],
    /// Body, empty for none.
    pub body: Bytes,
    /// Most bytes of the answer's body; more is cut off.
    pub most: usize,
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The name has no address.
    #[error("`{0}` could not be resolved")]
    Unresolved(String),
    /// Nothing came in time.
    #[error("no answer within {0:?}")]
    Deadline(Duration),
    /// The request could not be built.
    #[error("request could not be built")]
    Request(#[source] Box<pingora::Error>),
    /// The connection or the protocol failed.
    #[error("connection failed")]
    Connection(#[source] Box<pingora::Error>),
}

/// How we call ourselves.
pub const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("doorstep/", env!("CARGO_PKG_VERSION")));

/// Value of an Authorization header (RFC 7617). It is marked, so that nobody logs it.
#[must_use]
pub fn basic(username: &str, password: &str) -> HeaderValue {
    use base64::Engine;
    let credentials = format!("{username}:{password}");
    let text = base64::engine::general_purpose::STANDARD.encode(credentials);
    // Base64 is always fit for a header.
    let mut value = HeaderValue::try_from(format!("Basic {text}"))
        .unwrap_or_else(|_| HeaderValue::from_static("Basic"));
    value.set_sensitive(true);
    value
}

impl Default for Client {
    fn default() -> Self {
        Self { connector: Connector::new(None) }
    }
}

impl Client {
    /// Sends `call` and reads the answer, all within `deadline`.
    ///
    /// # Errors
    /// When no answer came. Whether the upstream has seen the request is then not known.
    pub async fn send(
        &self,
        upstream: &Upstream,
        call: Call<'_>,
        deadline: Duration,
    ) -> Result<Answer, CallError> {
        let until = Instant::now() + deadline;
        tokio::time::timeout(deadline, self.send_until(upstream, call, until))
            .await
            .unwrap_or(Err(CallError::Deadline(deadline)))
    }

    async fn send_until(
        &self,
        upstream: &Upstream,
        call: Call<'_>,
        until: Instant,
    ) -> Result<Answer, CallError> {
        let Call { method, path, headers, body, most } = call;
        let endpoint = upstream.endpoint();
        let target = format!("{}{path}", endpoint.base());
        let mut request = RequestHeader::build(method.clone(), target.as_bytes(), Some(8))
            .map_err(CallError::Request)?;
        let set = request.insert_header(header::HOST, endpoint.authority());
        set.map_err(CallError::Request)?;
        if method != Method::GET {
            let set = request.insert_header(header::CONTENT_LENGTH, body.len());
            set.map_err(CallError::Request)?;
        }
        for (name, value) in headers {
            request.insert_header(name, value).map_err(CallError::Request)?;
        }
        let (mut session, peer) = self.connect(upstream, until).await?;
        session.set_read_timeout(peer.options.read_timeout);
        let answer =
            exchange(&mut session, request, body, most).await.map_err(CallError::Connection)?;
        let idle = peer.options.idle_timeout;
        self.connector.release_http_session(session, peer.as_ref(), idle).await;
        Ok(answer)
    }

    /// A connection to one of the addresses. Where there are several, none of them takes the time of the others.
    async fn connect(
        &self,
        upstream: &Upstream,
        until: Instant,
    ) -> Result<(HttpSession, Box<HttpPeer>), CallError> {
        let addresses = upstream.addresses();
        let mut last = CallError::Unresolved(upstream.endpoint().host().to_owned());
        for _ in 0..addresses.min(MOST_TRIES) {
            let Some(peer) = upstream.peer() else { break };
            let left = until.saturating_duration_since(Instant::now());
            // A part of it is left for the next one.
            let share = if addresses > 1 { left / 4 * 3 } else { left };
            let connecting = self.connector.get_http_session(peer.as_ref());
            match tokio::time::timeout(share, connecting).await {
                Ok(Ok((session, reused))) => {
                    if !reused {
                        upstream.worked(&peer);
                    }
                    return Ok((session, peer));
                }
                Ok(Err(error)) => last = CallError::Connection(error),
                Err(_) => last = CallError::Deadline(share),
            }
            upstream.failed(&peer);
        }
        Err(last)
    }
}

/// Most addresses that are tried for one call.
const MOST_TRIES: usize = 3;

async fn exchange(
    session: &mut HttpSession,
    request: RequestHeader,
    body: Bytes,
    most: usize,
) -> pingora::Result<Answer> {
    session.write_request_header(Box::new(request)).await?;
    if !body.is_empty() {
        session.write_request_body(body, true).await?;
    }
    session.finish_request_body().await?;
    session.read_response_header().await?;
    let header = session.response_header();
    let status = header.map_or(StatusCode::BAD_GATEWAY, |header| header.status);
    let said = |name: HeaderName| {
        let value = header.and_then(|header| header.headers.get(name));
        value.and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    let retry_after = said(http::header::RETRY_AFTER);
    let content_type = said(http::header::CONTENT_TYPE);
    let cache_control = said(http::header::CACHE_CONTROL);
    let mut kept = BytesMut::new();
    while let Some(chunk) = session.read_response_body().await? {
        let room = most.saturating_sub(kept.len()).min(chunk.len());
        kept.extend_from_slice(chunk.get(..room).unwrap_or_default());
    }
    Ok(Answer { status, retry_after, content_type, cache_control, body: kept.freeze() })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpSocket, TcpStream};

    use super::super::{Endpoint, Timeouts};
    use super::*;

    /// An address that swallows packets: nobody takes connections from a queue that is full.
    async fn black_hole() -> (TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listening = socket.listen(1).unwrap();
        let address = listening.local_addr().unwrap();
        let mut waiting = Vec::new();
        loop {
            let connecting = TcpStream::connect(address);
            match tokio::time::timeout(Duration::from_millis(200), connecting).await {
                Ok(connected) => waiting.push(connected.unwrap()),
                Err(_) => return (listening, waiting),
            }
        }
    }

    async fn answer_all(listening: TcpListener) {
        loop {
            let (mut client, _) = listening.accept().await.unwrap();
            tokio::spawn(async move {
                let mut request = [0; 1024];
                while matches!(client.read(&mut request).await, Ok(1..)) {
                    let _ =
                        client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                }
            });
        }
    }

    #[tokio::test]
    async fn a_dead_address_costs_one_call_a_part_of_its_time_and_no_other_call_any() {
        let (hole, _waiting) = black_hole().await;
        let living = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint::parse("http://a.example:80").unwrap();
        let upstream = Upstream::new(endpoint, Timeouts::default(), None, true);
        upstream.set_addresses(&[hole.local_addr().unwrap(), living.local_addr().unwrap()]);
        tokio::spawn(answer_all(living));
        let client = Client::default();
        for _ in 0..20 {
            let call =
                Call { method: Method::GET, path: "/", headers: &[], body: Bytes::new(), most: 64 };
            let answer = client.send(&upstream, call, Duration::from_secs(2)).await.unwrap();
            assert_eq!(&*answer.body, b"ok");
            let next = upstream.peer().unwrap()._address.to_string();
            assert_ne!(next, hole.local_addr().unwrap().to_string(), "it is remembered");
        }
    }
}
