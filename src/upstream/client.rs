//! Calls of our own to an upstream, with small bodies both ways: events to a tracking API, questions
//! to a profile source.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;

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
        tokio::time::timeout(deadline, self.send_unbounded(upstream, call))
            .await
            .unwrap_or(Err(CallError::Deadline(deadline)))
    }

    async fn send_unbounded(
        &self,
        upstream: &Upstream,
        call: Call<'_>,
    ) -> Result<Answer, CallError> {
        let Call { method, path, headers, body, most } = call;
        let endpoint = upstream.endpoint();
        let peer =
            upstream.peer().ok_or_else(|| CallError::Unresolved(endpoint.host().to_owned()))?;
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
        let (mut session, _) =
            self.connector.get_http_session(peer.as_ref()).await.map_err(CallError::Connection)?;
        session.set_read_timeout(peer.options.read_timeout);
        let answer =
            exchange(&mut session, request, body, most).await.map_err(CallError::Connection)?;
        let idle = peer.options.idle_timeout;
        self.connector.release_http_session(session, peer.as_ref(), idle).await;
        Ok(answer)
    }
}

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
