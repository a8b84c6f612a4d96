//! Profiles over HTTP, for the operator's own tools: what `doorstep profile` does.
//!
//! `GET|PATCH|DELETE /sites/{site}/profiles/{type:id}`, `PUT …/link` with the id that it leads to,
//! `POST /sites/{site}/profiles` takes NDJSON, `GET` of it gives a part of everything.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{Method, StatusCode, header};
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;
use serde_json::{Value, json};

use crate::collect::Outbox;
use crate::config::Snapshot;
use crate::profile::line::{Line, LineError};
use crate::profile::store::{LinkedBy, MAX_HOPS, StoreError, Stored};
use crate::profile::{ProfileKey, Resolver, now_millis};

/// Most bytes of a body: an import is sent in parts.
const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;
const BODY_DEADLINE: std::time::Duration = std::time::Duration::from_secs(30);
/// Most refused lines that an answer names.
const MAX_TOLD: usize = 100;

/// Answers about the profiles of these sites.
pub(super) struct Profiles {
    pub(super) resolver: Arc<Resolver>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) snapshot: Arc<ArcSwap<Snapshot>>,
}

/// Status and JSON, or NDJSON and where it goes on.
pub(super) enum Told {
    Json(StatusCode, Value),
    Lines(String, Option<String>),
}

impl Told {
    fn error(status: StatusCode, code: &str, message: &impl ToString) -> Self {
        let message = message.to_string();
        Self::Json(status, json!({ "error": { "code": code, "message": message } }))
    }

    fn of(error: &StoreError) -> Self {
        match error {
            StoreError::Refused(_) | StoreError::Circle => {
                Self::error(StatusCode::UNPROCESSABLE_ENTITY, "refused", error)
            }
            StoreError::Unavailable(_) => {
                Self::error(StatusCode::SERVICE_UNAVAILABLE, "try_again", error)
            }
        }
    }
}

impl Profiles {
    /// Answers a request below `/sites/`.
    pub(super) async fn answer(&self, session: &mut ServerSession) -> Told {
        let request = session.req_header();
        if !is_a_tool(request) {
            // A page in the operator's browser must not reach it, and it has no login.
            let why =
                "only tools are answered here: without Origin, and by address or as localhost";
            return Told::error(StatusCode::FORBIDDEN, "browser", &why);
        }
        let path = request.uri.path().to_owned();
        let query = request.uri.query().unwrap_or_default().to_owned();
        let method = request.method.clone();
        let not_found = || {
            let why = "expected /sites/{site}/profiles[/{type:id}[/link]]";
            Told::error(StatusCode::NOT_FOUND, "not_found", &why)
        };
        let mut parts = path.trim_start_matches("/sites/").splitn(3, '/');
        let sites = &self.snapshot.load_full().all_sites;
        let site = parts.next().and_then(|name| sites.iter().find(|site| *site.name == *name));
        let (Some(site), Some("profiles")) = (site, parts.next()) else { return not_found() };
        let site = &site.name;
        let body = match body(session).await {
            Ok(body) => body,
            Err(told) => return told,
        };
        let Some(rest) = parts.next() else {
            return match method {
                Method::GET => self.part(site, &query).await,
                Method::POST => self.import(site, &body).await,
                _ => only("GET or POST"),
            };
        };
        let (id, link) = match rest.strip_suffix("/link") {
            Some(id) => (id, true),
            None => (rest, false),
        };
        let decoded = percent_encoding::percent_decode_str(id).decode_utf8_lossy();
        let key = match ProfileKey::parse(site, &decoded) {
            Ok(key) => key,
            Err(why) => return Told::error(StatusCode::BAD_REQUEST, "malformed", &why),
        };
        let done = match (method, link) {
            (Method::GET, false) => return self.get(key).await,
            (Method::PATCH, false) => self.set(site, &key, &body).await,
            (Method::DELETE, false) => {
                Ok(self.outbox.delete_person(&self.resolver, &key, now_millis()).await)
            }
            (Method::PUT, true) => self.link(site, &key, &body).await,
            (_, true) => return only("PUT"),
            (_, false) => return only("GET, PATCH or DELETE"),
        };
        match done {
            Ok(Ok(())) => Told::Json(StatusCode::OK, json!({ "success": true })),
            Ok(Err(error)) => Told::of(&error),
            Err(why) => Told::error(StatusCode::BAD_REQUEST, "malformed", &why),
        }
    }

    async fn get(&self, key: ProfileKey) -> Told {
        let mut key = key;
        for _ in 0..=MAX_HOPS {
            match self.resolver.stored(&key).await {
                Ok(Some(Stored::Linked(to))) => key = to,
                Ok(Some(stored)) => {
                    let line = Line::write(&key, &stored);
                    return match line.and_then(|line| serde_json::from_str(&line).ok()) {
                        Some(profile) => Told::Json(StatusCode::OK, profile),
                        None => nobody(),
                    };
                }
                Ok(None) => return nobody(),
                Err(error) => return Told::of(&error),
            }
        }
        Told::of(&StoreError::Circle)
    }

    /// The body is a line without its id.
    async fn set(
        &self,
        site: &str,
        key: &ProfileKey,
        body: &[u8],
    ) -> Result<Result<(), StoreError>, LineError> {
        let mut line: Value = serde_json::from_slice(body)?;
        if let Some(line) = line.as_object_mut() {
            line.insert("id".into(), key.text().into());
        }
        match Line::parse(line.to_string().as_bytes(), site, now_millis())? {
            Line::Traits(key, update) => Ok(self.resolver.merge(&key, &update).await),
            Line::Link(..) => Err(LineError::Nothing),
        }
    }

    /// The body is `{"to": "user_id:john"}`.
    async fn link(
        &self,
        site: &str,
        from: &ProfileKey,
        body: &[u8],
    ) -> Result<Result<(), StoreError>, LineError> {
        let body: Value = serde_json::from_slice(body)?;
        let to = body.get("to").and_then(Value::as_str).ok_or(LineError::Nothing)?;
        let to = ProfileKey::parse(site, to)?;
        Ok(self.resolver.link(from, &to, now_millis(), LinkedBy::Site).await)
    }

    async fn import(&self, site: &str, body: &[u8]) -> Told {
        let now = now_millis();
        let lines = body.split(|byte| *byte == b'\n').enumerate();
        let lines = lines.filter(|(_, line)| !line.trim_ascii().is_empty());
        let taking = lines.map(async |(number, line)| {
            let taken = match Line::parse(line, site, now) {
                Ok(Line::Traits(key, update)) => {
                    self.resolver.merge(&key, &update).await.map_err(LineError::from)
                }
                Ok(Line::Link(from, to)) => self
                    .resolver
                    .link(&from, &to, now, LinkedBy::Site)
                    .await
                    .map_err(LineError::from),
                Err(why) => Err(why),
            };
            (number + 1, taken)
        });
        let outcomes = futures::future::join_all(taking).await;
        let (mut taken, mut refused) = (0, Vec::new());
        for (number, outcome) in outcomes {
            match outcome {
                Ok(()) => taken += 1,
                Err(LineError::Store(error @ StoreError::Unavailable(_))) => {
                    return Told::of(&error);
                }
                Err(why) => refused.push((number, why)),
            }
        }
        let count = refused.len();
        let told = refused
            .into_iter()
            .take(MAX_TOLD)
            .map(|(number, why)| json!({ "line": number, "message": why.to_string() }));
        let told: Vec<Value> = told.collect();
        let told = json!({ "taken": taken, "refused": count, "reasons": told });
        Told::Json(StatusCode::OK, told)
    }

    async fn part(&self, site: &str, query: &str) -> Told {
        let from = query.strip_prefix("from=").map(|from| {
            percent_encoding::percent_decode_str(from).decode_utf8_lossy().into_owned()
        });
        match self.resolver.part(site, from.as_deref()).await {
            Ok(part) => {
                let lines = part.records.iter().filter_map(|(key, one)| Line::write(key, one));
                let lines = lines.map(|line| line + "\n").collect();
                Told::Lines(lines, part.next)
            }
            Err(error) => Told::of(&error),
        }
    }
}

fn only(methods: &str) -> Told {
    Told::error(StatusCode::METHOD_NOT_ALLOWED, "method", &format!("only {methods}"))
}

fn nobody() -> Told {
    Told::error(StatusCode::NOT_FOUND, "unknown", &"nobody is known under this id")
}

/// Whether it is none of what a browser sends on behalf of a page: of another origin, or of a name
/// that leads here by trickery (DNS rebinding).
pub(super) fn is_a_tool(request: &RequestHeader) -> bool {
    let host = request.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.unwrap_or_default();
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let here = name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok();
    here && !request.headers.contains_key(header::ORIGIN)
        && !request.headers.contains_key("sec-fetch-site")
}

async fn body(session: &mut ServerSession) -> Result<Vec<u8>, Told> {
    let reading = async {
        let mut body = Vec::new();
        loop {
            match session.read_request_body().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > MAX_BODY_BYTES => {
                    let why = format!("a body has at most {MAX_BODY_BYTES} bytes: send several");
                    return Err(Told::error(StatusCode::PAYLOAD_TOO_LARGE, "too_large", &why));
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => return Ok(body),
                Err(error) => {
                    return Err(Told::error(StatusCode::BAD_REQUEST, "broken_body", &error));
                }
            }
        }
    };
    let late = || Told::error(StatusCode::REQUEST_TIMEOUT, "too_slow", &"the body did not come");
    tokio::time::timeout(BODY_DEADLINE, reading).await.unwrap_or_else(|_| Err(late()))
}
