//! Answers that the edge gives by itself.

use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, header};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;

use crate::telemetry::EventRefusal;

/// An answer, complete.
#[derive(Debug)]
pub(super) struct Answer {
    status: StatusCode,
    headers: Vec<(http::HeaderName, String)>,
    body: Bytes,
    /// What the client still sends is not read.
    closes: bool,
}

/// How long the rest of a body that nobody reads may take, so that the connection can be kept.
const DRAIN: Duration = Duration::from_secs(2);

impl Answer {
    /// JSON that belongs to one visitor: never stored.
    pub(super) fn json(status: StatusCode, body: &serde_json::Value) -> Self {
        Self::new(status, "application/json", body.to_string())
    }

    /// A refusal: what a program reads, and a person who looks.
    pub(super) fn error(status: StatusCode, code: &str, message: &str) -> Self {
        Self::json(status, &serde_json::json!({ "error": { "code": code, "message": message } }))
    }

    /// Nothing but a status.
    pub(super) fn empty(status: StatusCode) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::new(), closes: false }
    }

    /// Any text.
    pub(super) fn new(status: StatusCode, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            headers: vec![
                (header::CONTENT_TYPE, content_type.to_owned()),
                (header::CACHE_CONTROL, "private, no-store".to_owned()),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
            ],
            body: body.into(),
            closes: false,
        }
    }

    /// Adds a header.
    #[must_use]
    pub(super) fn with(mut self, name: http::HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Closes the connection, without reading what the client still sends.
    #[must_use]
    pub(super) fn closing(mut self) -> Self {
        self.closes = true;
        self
    }

    /// Lets the page of `origin`, where there is another, read it and send cookies for it.
    #[must_use]
    pub(super) fn with_cors(self, origin: Option<String>) -> Self {
        let Some(origin) = origin else { return self };
        self.with(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin)
            .with(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true")
            // When to send again: SDKs ask for it.
            .with(header::ACCESS_CONTROL_EXPOSE_HEADERS, "Retry-After")
            .with(header::VARY, "origin")
    }

    /// May be stored as `control` says.
    #[must_use]
    pub(super) fn with_caching(mut self, control: &str) -> Self {
        self.headers.retain(|(name, _)| name != header::CACHE_CONTROL);
        self.with(header::CACHE_CONTROL, control)
    }

    /// Adds Set-Cookie headers.
    #[must_use]
    pub(super) fn with_cookies(mut self, lines: Vec<String>) -> Self {
        self.headers.extend(lines.into_iter().map(|line| (header::SET_COOKIE, line)));
        self
    }

    /// The same in front of those that it has: what is said last counts.
    #[must_use]
    pub(super) fn with_cookies_first(mut self, lines: Vec<String>) -> Self {
        self.headers.splice(0..0, lines.into_iter().map(|line| (header::SET_COOKIE, line)));
        self
    }

    /// Sends it. A body that nobody has read is read to its end or the connection closed: its bytes
    /// must never be taken for the next request (CVE-2025-4366).
    pub(super) async fn send(self, session: &mut Session) -> Result<bool> {
        let head = session.req_header().method == http::Method::HEAD;
        // A client that waits to be asked for its body would not send it now.
        let waits = session.req_header().headers.contains_key(header::EXPECT);
        if self.closes
            || waits
            || !matches!(tokio::time::timeout(DRAIN, drain(session)).await, Ok(Ok(())))
        {
            session.set_keepalive(None);
        }
        let mut response = ResponseHeader::build(self.status, Some(self.headers.len() + 2))?;
        for (name, value) in self.headers {
            response.append_header(name, value)?;
        }
        if self.status != StatusCode::NO_CONTENT {
            response.insert_header(header::CONTENT_LENGTH, self.body.len())?;
        }
        let empty = head || self.body.is_empty();
        session.write_response_header(Box::new(response), empty).await?;
        if !empty {
            session.write_response_body(Some(self.body), true).await?;
        }
        Ok(true)
    }
}

/// Most bytes read only to keep a connection.
const MAX_DRAINED_BYTES: usize = 64 * 1024;

async fn drain(session: &mut Session) -> Result<()> {
    let mut drained = 0;
    while let Some(chunk) = session.read_request_body().await? {
        drained += chunk.len();
        if drained > MAX_DRAINED_BYTES {
            return Error::e_explain(ErrorType::InternalError, "too much to drain");
        }
    }
    Ok(())
}

/// Why a request's body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unread {
    /// It has more bytes than it may have.
    TooLarge,
    /// It did not come in time.
    TooSlow,
    /// The connection ended, or its framing is broken.
    Broken,
}

impl Unread {
    /// The answer to it.
    pub(super) fn answer(self, limit: usize) -> Answer {
        match self {
            Self::TooLarge => Answer::error(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_large",
                &format!("the body may have {limit} bytes"),
            ),
            Self::TooSlow => Answer::error(
                StatusCode::REQUEST_TIMEOUT,
                "too_slow",
                "the body did not come in time",
            ),
            Self::Broken => {
                Answer::error(StatusCode::BAD_REQUEST, "broken_body", "the body is not complete")
            }
        }
    }

    /// How it is counted where it was an event.
    pub(super) const fn refusal(self) -> EventRefusal {
        match self {
            Self::TooLarge => EventRefusal::TooLarge,
            Self::TooSlow => EventRefusal::TooSlow,
            Self::Broken => EventRefusal::Broken,
        }
    }
}

/// Reads a body of at most `limit` bytes within `deadline`. It is counted while it is read.
pub(super) async fn read_body(
    session: &mut Session,
    limit: usize,
    deadline: Duration,
) -> Result<Vec<u8>, Unread> {
    let length = session
        .req_header()
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > limit) {
        return Err(Unread::TooLarge);
    }
    expect_continue(session).await.map_err(|_| Unread::Broken)?;
    let read = async {
        let mut body = Vec::with_capacity(length.unwrap_or(4096));
        while let Some(chunk) = session.read_request_body().await.map_err(|_| Unread::Broken)? {
            if body.len() + chunk.len() > limit {
                return Err(Unread::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    };
    tokio::time::timeout(deadline, read).await.unwrap_or(Err(Unread::TooSlow))
}

/// A client that waits to be asked for its body (RFC 9110, 10.1.1).
async fn expect_continue(session: &mut Session) -> Result<()> {
    let waits = session
        .req_header()
        .headers
        .get(header::EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let downstream: &mut ServerSession = session.as_downstream_mut();
    if waits && downstream.as_http1().is_some() {
        downstream.write_continue_response().await?;
    }
    Ok(())
}
