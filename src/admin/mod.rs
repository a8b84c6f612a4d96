//! The operator's listener: health, readiness, metrics, profiles.

mod profiles;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use crate::collect::Outbox;
use crate::config::Snapshot;
use crate::node::Ask;
use crate::profile::Resolver;
use crate::telemetry::metrics;

use profiles::{Profiles, Told, is_a_tool};

/// Answers operators and their tools.
pub struct Admin {
    ready: Arc<AtomicBool>,
    profiles: Profiles,
    reloads: mpsc::Sender<Ask>,
}

/// What became of a reload.
enum Reloaded {
    Told(StatusCode, String),
    /// Nothing: why.
    Later(&'static str),
}

/// Where the next part of an export begins: to be given as `?from=`.
const X_NEXT: HeaderName = HeaderName::from_static("x-next");
const TEXT: &str = "text/plain";

impl Admin {
    /// `ready` tells whether the node takes requests; `resolver` has the profiles of the sites in `snapshot`,
    /// `outbox` their events; who is asked over `reloads` reads the configuration again.
    #[must_use]
    pub fn new(
        ready: Arc<AtomicBool>,
        resolver: Arc<Resolver>,
        outbox: Arc<Outbox>,
        snapshot: Arc<ArcSwap<Snapshot>>,
        reloads: mpsc::Sender<Ask>,
    ) -> Self {
        Self { ready, profiles: Profiles { resolver, outbox, snapshot }, reloads }
    }

    /// `POST /reload`: reads the configuration again, and tells what became of that.
    async fn reload(&self) -> Reloaded {
        let (ask, told) = oneshot::channel();
        match self.reloads.try_send(Some(ask)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Reloaded::Later("too many wait for a reload"),
            Err(TrySendError::Closed(_)) => return self.is_over(),
        }
        match told.await {
            Ok(Ok(taken)) => Reloaded::Told(StatusCode::OK, taken.told().to_owned()),
            Ok(Err(why)) => Reloaded::Told(StatusCode::UNPROCESSABLE_ENTITY, why),
            Err(_) => self.is_over(),
        }
    }

    /// Nobody reads a configuration in this process any more.
    fn is_over(&self) -> Reloaded {
        if self.ready.load(Ordering::Relaxed) {
            return Reloaded::Later("the next process takes over");
        }
        Reloaded::Told(StatusCode::SERVICE_UNAVAILABLE, "the process ends".to_owned())
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
                let told = b"/healthz, /readyz, /metrics, POST /reload or /sites/{site}/profiles\n"
                    .to_vec();
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
        let (mut next, mut later) = (None, false);
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
        } else if request.uri.path() == "/reload" && request.method == Method::POST {
            if is_a_tool(request) {
                let (status, told) = match self.reload().await {
                    Reloaded::Told(status, told) => (status, told),
                    Reloaded::Later(why) => {
                        later = true;
                        (StatusCode::SERVICE_UNAVAILABLE, format!("{why}: ask again"))
                    }
                };
                (status, TEXT, (told + "\n").into_bytes())
            } else {
                (StatusCode::FORBIDDEN, TEXT, b"only tools are answered here\n".to_vec())
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
        if later {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
