//! `POST {prefix}/profiles-webhook`: the vendor pushes what it knows about visitors.
//! `DELETE {prefix}/profiles-webhook?user_id=…`: a person is to be forgotten.

use std::io::Read;
use std::time::Duration;

use http::{Method, StatusCode, header};
use pingora::Result;
use pingora::http::RequestHeader;
use pingora_proxy::Session;
use serde_json::{Value, json};

use super::Edge;
use super::answer::{Answer, read_body};
use crate::profile::store::{LinkedBy, StoreError};
use crate::profile::{ProfileKey, Push, Refused, documents, now_millis, read_webhook};
use crate::site::{Site, WebhookLogin};

/// Most bytes of a call, compressed or not.
const MAX_PUSH_BYTES: usize = 1024 * 1024;
const BODY_DEADLINE: Duration = Duration::from_secs(15);
const X_SIGNATURE: http::HeaderName = http::HeaderName::from_static("x-signature");

/// Why a push was not taken.
struct Refusal {
    outcome: &'static str,
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, message: &(impl ToString + ?Sized)) -> Self {
        Self { outcome: "refused", status, code, message: message.to_string() }
    }

    fn of(error: &StoreError) -> Self {
        match error {
            StoreError::Refused(why) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "malformed", why)
            }
            StoreError::Circle => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "circle", error),
            StoreError::Unavailable(_) => Self {
                outcome: "failed",
                status: StatusCode::SERVICE_UNAVAILABLE,
                code: "try_again",
                message: "the profile store failed".to_owned(),
            },
        }
    }

    fn malformed(why: Refused) -> Self {
        let status = match why {
            Refused::NotIdentify => StatusCode::FORBIDDEN,
            Refused::NotAnObject | Refused::NoSubject | Refused::NoTraits => {
                StatusCode::BAD_REQUEST
            }
        };
        Self::new(status, "malformed", &why)
    }

    fn unauthorized() -> Self {
        Self {
            outcome: "unauthorized",
            status: StatusCode::UNAUTHORIZED,
            code: "unauthorized",
            message: "wrong or no credentials".to_owned(),
        }
    }

    fn answer(&self) -> Answer {
        let answer = Answer::error(self.status, self.code, &self.message);
        match self.status {
            StatusCode::UNAUTHORIZED => {
                answer.with(header::WWW_AUTHENTICATE, "Basic realm=\"profiles\"")
            }
            StatusCode::SERVICE_UNAVAILABLE => answer.with(header::RETRY_AFTER, "10"),
            _ => answer,
        }
    }
}

impl Edge {
    /// Takes pushes. What is acknowledged is stored.
    pub(super) async fn webhook(&self, session: &mut Session, site: &Site) -> Result<bool> {
        let answer = match session.req_header().method {
            Method::POST => self.take_pushes(session, site).await,
            Method::DELETE => self.forget_person(session.req_header(), site).await,
            _ => Ok(Answer::error(
                StatusCode::METHOD_NOT_ALLOWED,
                "method",
                "pushes are sent by POST, deletions by DELETE",
            )
            .with(header::ALLOW, "POST, DELETE")),
        };
        let answer = answer.unwrap_or_else(|refusal| {
            site.metrics.profile_update(refusal.outcome);
            refusal.answer()
        });
        answer.send(session).await
    }

    async fn take_pushes(&self, session: &mut Session, site: &Site) -> Result<Answer, Refusal> {
        let login = site.webhook.as_ref().ok_or_else(Refusal::unauthorized)?;
        if !admits(login, session.req_header()) {
            return Err(Refusal::unauthorized());
        }
        let sent = match read_body(session, MAX_PUSH_BYTES, BODY_DEADLINE).await {
            Ok(body) => body,
            Err(unread) => {
                site.metrics.profile_update("refused");
                return Ok(unread.answer(MAX_PUSH_BYTES));
            }
        };
        let unpacked = unpack(session.req_header(), &sent)?;
        let body = unpacked.as_deref().unwrap_or(&sent);
        if let Some(signature) = &login.signature {
            let given = session.req_header().headers.get(X_SIGNATURE);
            let given = given.and_then(|value| value.to_str().ok()).unwrap_or_default();
            if !signature.admits(given, &[&sent, body]) {
                return Err(Refusal::unauthorized());
            }
        }
        let pushes = documents(body).map_err(|error| {
            Refusal::new(StatusCode::BAD_REQUEST, "malformed", &format!("not JSON: {error}"))
        })?;
        self.take_all(site, &pushes).await
    }

    /// Takes what can be taken. A store that fails fails the call: what is sent again does no harm.
    async fn take_all(&self, site: &Site, pushes: &[Value]) -> Result<Answer, Refusal> {
        let now = now_millis();
        let taking = pushes.iter().map(async |push| {
            let push = read_webhook(push, &site.name, now).map_err(Refusal::malformed)?;
            let outcome = if push.update.is_some() { "merged" } else { "deleted" };
            self.take(push).await.map_err(|error| {
                if let StoreError::Unavailable(why) = &error {
                    tracing::error!(
                        site = &*site.name,
                        why,
                        "a pushed profile could not be stored"
                    );
                }
                Refusal::of(&error)
            })?;
            site.metrics.profile_update(outcome);
            Ok(())
        });
        let taken: Vec<Result<(), Refusal>> = futures::future::join_all(taking).await;
        let count = taken.iter().filter(|one| one.is_ok()).count();
        let refused = taken
            .into_iter()
            .enumerate()
            .filter_map(|(index, outcome)| Some((index, outcome.err()?)))
            .collect::<Vec<_>>();
        if let Some(at) = refused.iter().position(|(_, why)| why.outcome == "failed" || count == 0)
        {
            return Err(refused
                .into_iter()
                .nth(at)
                .map_or_else(Refusal::unauthorized, |one| one.1));
        }
        if pushes.is_empty() {
            return Err(Refusal::malformed(Refused::NotAnObject));
        }
        let message = "audience updated";
        if pushes.len() == 1 {
            return Ok(Answer::json(StatusCode::OK, &json!({ "message": message })));
        }
        let refused = refused.iter().map(|(index, why)| {
            site.metrics.profile_update(why.outcome);
            json!({ "index": index, "code": why.code, "message": why.message })
        });
        let refused: Vec<Value> = refused.collect();
        let told = json!({ "message": message, "taken": count, "refused": refused });
        Ok(Answer::json(StatusCode::OK, &told))
    }

    async fn take(&self, push: Push) -> Result<(), StoreError> {
        match &push.update {
            None => {
                // What the push names beside is the person's too, but where it leads to somebody else by now.
                let whole = self.profiles.end_of(&push.key).await?;
                let mut keys = vec![push.key.clone()];
                for other in &push.linked {
                    let end = self.profiles.end_of(other).await?;
                    if end == *other && end != whole {
                        keys.push(end);
                    }
                }
                self.outbox.delete_people(&self.profiles, &keys, push.at).await
            }
            Some(update) => {
                if !update.traits.is_empty() || push.linked.is_empty() {
                    self.profiles.merge(&push.key, update).await?;
                }
                for other in &push.linked {
                    match self.profiles.link(other, &push.key, push.at, LinkedBy::Site).await {
                        // A person whose ids are linked the other way round already.
                        Err(StoreError::Circle) => {}
                        done => done?,
                    }
                }
                Ok(())
            }
        }
    }

    /// `?user_id=john`, `?email=…`: the type of id and the id.
    async fn forget_person(&self, request: &RequestHeader, site: &Site) -> Result<Answer, Refusal> {
        let login = site.webhook.as_ref().ok_or_else(Refusal::unauthorized)?;
        // There is no body that a signature could vouch for.
        if login.basic.is_none() || !admits(login, request) {
            return Err(Refusal::unauthorized());
        }
        let query = request.uri.query().unwrap_or_default();
        let key = query.split_once('=').filter(|_| !query.contains('&')).and_then(|(kind, id)| {
            let id = percent_encoding::percent_decode_str(id).decode_utf8().ok()?;
            ProfileKey::parse(&site.name, &format!("{kind}:{id}")).ok()
        });
        let key = key.ok_or_else(|| {
            let expected =
                "expected one id, such as `?user_id=john` or `?email=john%40shop.example`";
            Refusal::new(StatusCode::BAD_REQUEST, "malformed", expected)
        })?;
        let deleted = self.outbox.delete_person(&self.profiles, &key, now_millis()).await;
        deleted.map_err(|error| {
            tracing::error!(site = &*site.name, %error, "a person could not be deleted");
            Refusal::of(&error)
        })?;
        site.metrics.profile_update("deleted");
        Ok(Answer::json(StatusCode::OK, &json!({ "message": "deleted" })))
    }
}

fn admits(login: &WebhookLogin, request: &RequestHeader) -> bool {
    let given = request.headers.get(header::AUTHORIZATION).map(http::HeaderValue::as_bytes);
    login.admits(given)
}

/// The body as it was before it was compressed, if it was.
fn unpack(request: &RequestHeader, body: &[u8]) -> Result<Option<Vec<u8>>, Refusal> {
    let coding = request.headers.get(header::CONTENT_ENCODING).map(http::HeaderValue::as_bytes);
    match coding {
        None | Some(b"identity" | b"") => Ok(None),
        Some(coding) if coding.eq_ignore_ascii_case(b"gzip") => {
            let mut out = Vec::new();
            // One byte more than allowed tells that there is more.
            let limit = MAX_PUSH_BYTES as u64 + 1;
            flate2::read::MultiGzDecoder::new(body).take(limit).read_to_end(&mut out).map_err(
                |_| Refusal::new(StatusCode::BAD_REQUEST, "malformed", "the gzip body is broken"),
            )?;
            if out.len() > MAX_PUSH_BYTES {
                let told = format!("a push has at most {MAX_PUSH_BYTES} bytes, unpacked");
                return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", &told));
            }
            Ok(Some(out))
        }
        Some(_) => {
            let told = "only gzip is read";
            Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", told))
        }
    }
}
