//! The operator's listener: health, readiness, metrics, profiles.

mod profiles;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;

use crate::collect::Outbox;
use crate::profile::Resolver;
use crate::telemetry::metrics;

use profiles::{Profiles, Told};

/// Answers operators and their tools.
pub struct Admin {
    ready: Arc<AtomicBool>,
    profiles: Profiles,
}

/// Where the next part of an export begins: to be given as `?from=`.
const X_NEXT: HeaderName = HeaderName::from_static("x-next");
const TEXT: &str = "text/plain";

impl Admin {
    /// `ready` tells whether the node takes requests; `resolver` has the profiles of `sites`,
    /// `outbox` their events.
    #[must_use]
    pub fn new(
        ready: Arc<AtomicBool>,
        resolver: Arc<Resolver>,
        outbox: Arc<Outbox>,
        sites: Vec<Box<str>>,
    ) -> Self {
        Self { ready, profiles: Profiles { resolver, outbox, sites } }
    }

    fn about_the_node(&self, path: &str) -> (StatusCode, &'static str, Vec<u8>) {
        match path {
            "/healthz" => (StatusCode::OK, TEXT, b"ok\n".to_vec()),
            "/readyz" if self.ready.load(Ordering::Relaxed) => {
                (StatusCode::OK, TEXT, b"ready\n".to_vec())
            }
            "/readyz" => (StatusCode::SERVICE_UNAVAILABLE, TEXT, b"not ready\n".to_vec()),
            "/metrics" => {
                (StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics::render())
            }
            _ => {
                let told = b"/healthz, /readyz, /metrics or /sites/{site}/profiles\n".to_vec();
                (StatusCode::NOT_FOUND, TEXT, told)
            }
        }
    }
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let request = session.req_header();
        let head = request.method == Method::HEAD;
        let mut next = None;
        let (status, kind, body) = if request.uri.path().starts_with("/sites/") {
            match self.profiles.answer(session).await {
                Told::Json(status, body) => {
                    (status, "application/json", (body.to_string() + "\n").into_bytes())
                }
                Told::Lines(lines, from) => {
                    let from = from.map(|from| {
                        percent_encoding::utf8_percent_encode(
                            &from,
                            percent_encoding::NON_ALPHANUMERIC,
                        )
                        .to_string()
                    });
                    next = from.and_then(|from| HeaderValue::try_from(from).ok());
                    (StatusCode::OK, "application/x-ndjson", lines.into_bytes())
                }
            }
        } else if request.method != Method::GET && !head {
            (StatusCode::METHOD_NOT_ALLOWED, TEXT, b"only GET\n".to_vec())
        } else {
            self.about_the_node(request.uri.path())
        };
        let length = body.len();
        let mut response = Response::new(if head { Vec::new() } else { body });
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::CONTENT_LENGTH, length.into());
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(next) = next {
            headers.insert(X_NEXT, next);
        }
        response
    }
}
