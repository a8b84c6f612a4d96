//! Calls of our own to an upstream, with small bodies both ways: events to a tracking API.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode};
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
    /// The body, at most its first 64 KiB.
    pub body: Bytes,
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

/// An answer longer than this is cut: vendors answer with a line of JSON.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

impl Default for Client {
    fn default() -> Self {
        Self { connector: Connector::new(None) }
    }
}

impl Client {
    /// POSTs `body` to `path` below the upstream's base path and reads the answer, all within
    /// `deadline`.
    ///
    /// # Errors
    /// When no answer came. Whether the upstream has seen the request is then not known.
    pub async fn post(
        &self,
        upstream: &Upstream,
        path: &str,
        headers: &[(&'static str, String)],
        body: Bytes,
        deadline: Duration,
    ) -> Result<Answer, CallError> {
        tokio::time::timeout(deadline, self.post_unbounded(upstream, path, headers, body))
            .await
            .unwrap_or(Err(CallError::Deadline(deadline)))
    }

    async fn post_unbounded(
        &self,
        upstream: &Upstream,
        path: &str,
        headers: &[(&'static str, String)],
        body: Bytes,
    ) -> Result<Answer, CallError> {
        let endpoint = upstream.endpoint();
        let peer =
            upstream.peer().ok_or_else(|| CallError::Unresolved(endpoint.host().to_owned()))?;
        let target = format!("{}{path}", endpoint.base());
        let mut request = RequestHeader::build(Method::POST, target.as_bytes(), Some(8))
            .map_err(CallError::Request)?;
        let mut set = |name: &'static str, value: &str| request.insert_header(name, value);
        set("host", &endpoint.authority()).map_err(CallError::Request)?;
        set("content-length", &body.len().to_string()).map_err(CallError::Request)?;
        for (name, value) in headers {
            set(name, value).map_err(CallError::Request)?;
        }
        let (mut session, _) =
            self.connector.get_http_session(peer.as_ref()).await.map_err(CallError::Connection)?;
        session.set_read_timeout(peer.options.read_timeout);
        let answer = exchange(&mut session, request, body).await.map_err(CallError::Connection)?;
        let idle = peer.options.idle_timeout;
        self.connector.release_http_session(session, peer.as_ref(), idle).await;
        Ok(answer)
    }
}

async fn exchange(
    session: &mut HttpSession,
    request: RequestHeader,
    body: Bytes,
) -> pingora::Result<Answer> {
    session.write_request_header(Box::new(request)).await?;
    session.write_request_body(body, true).await?;
    session.finish_request_body().await?;
    session.read_response_header().await?;
    let header = session.response_header();
    let status = header.map_or(StatusCode::BAD_GATEWAY, |header| header.status);
    let retry_after = header
        .and_then(|header| header.headers.get(http::header::RETRY_AFTER))
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let mut kept = BytesMut::new();
    while let Some(chunk) = session.read_response_body().await? {
        let room = MAX_ANSWER_BYTES.saturating_sub(kept.len()).min(chunk.len());
        kept.extend_from_slice(chunk.get(..room).unwrap_or_default());
    }
    Ok(Answer { status, retry_after, body: kept.freeze() })
}
