//! The operator's listener: health, readiness, metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use http::{Method, Response, StatusCode, header};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;

use crate::telemetry::metrics;

/// Answers operators and their tools.
pub struct Admin {
    ready: Arc<AtomicBool>,
}

impl Admin {
    /// `ready` tells whether the node takes requests.
    #[must_use]
    pub fn new(ready: Arc<AtomicBool>) -> Self {
        Self { ready }
    }
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let request = session.req_header();
        let head = request.method == Method::HEAD;
        let (status, kind, body) = if request.method != Method::GET && !head {
            (StatusCode::METHOD_NOT_ALLOWED, "text/plain", b"only GET\n".to_vec())
        } else {
            match request.uri.path() {
                "/healthz" => (StatusCode::OK, "text/plain", b"ok\n".to_vec()),
                "/readyz" if self.ready.load(Ordering::Relaxed) => {
                    (StatusCode::OK, "text/plain", b"ready\n".to_vec())
                }
                "/readyz" => {
                    (StatusCode::SERVICE_UNAVAILABLE, "text/plain", b"not ready\n".to_vec())
                }
                "/metrics" => {
                    (StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics::render())
                }
                _ => (
                    StatusCode::NOT_FOUND,
                    "text/plain",
                    b"/healthz, /readyz or /metrics\n".to_vec(),
                ),
            }
        };
        let mut response = Response::new(if head { Vec::new() } else { body.clone() });
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
        headers.insert(header::CONTENT_LENGTH, body.len().into());
        headers.insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
        response
    }
}
