//! `POST {prefix}/profiles-webhook`: the vendor pushes what it knows about visitors.
//! `DELETE {prefix}/profiles-webhook?user_id=…`: a person is to be forgotten.

use std::io::Read;
use std::net::IpAddr;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesOrdered;
use http::{Method, StatusCode, header};
use pingora::Result;
use pingora::http::RequestHeader;
use pingora_proxy::Session;
use serde_json::{Value, json};

use super::Edge;
use super::answer::{Answer, read_body};
use super::callers::FAILURES_IN;
use crate::profile::store::{LinkedBy, StoreError};
use crate::profile::{ProfileKey, Push, Refused as BadPush, documents, now_millis, read_webhook};
use crate::site::{Site, WebhookLogin};

/// Most bytes of a call, compressed or not.
const MAX_PUSH_BYTES: usize = 1024 * 1024;
const BODY_DEADLINE: Duration = Duration::from_secs(15);
/// Pushes that one call has on their way to the store at one time.
const TOGETHER: usize = 32;
/// Pushes that are on their way at one time, of all calls: pages ask the same store.
pub(super) const PUSHING: usize = 64;
/// Most refused pushes that an answer lists.
const LISTED: usize = 100;
const X_SIGNATURE: http::HeaderName = http::HeaderName::from_static("x-signature");

/// Why a push was not taken.
struct Refusal {
    outcome: &'static str,
    status: StatusCode,
    code: &'static str,
    message: String,
    /// What the operator is told beside.
    detail: Option<String>,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, message: &(impl ToString + ?Sized)) -> Self {
        Self { outcome: "refused", status, code, message: message.to_string(), detail: None }
    }

    fn of(error: &StoreError) -> Self {
        match error {
            StoreError::Refused(why) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "malformed", why)
            }
            StoreError::Circle => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "circle", error),
            StoreError::Unavailable(why) => Self {
                outcome: "failed",
                detail: Some(why.clone()),
                ..Self::busy("the profile store failed")
            },
        }
    }

    fn malformed(why: BadPush) -> Self {
        let status = match why {
            BadPush::NotIdentify => StatusCode::FORBIDDEN,
            BadPush::NotAnObject | BadPush::NoSubject | BadPush::NoTraits => {
                StatusCode::BAD_REQUEST
            }
        };
        Self::new(status, "malformed", &why)
    }

    fn unauthorized() -> Self {
        let (status, why) = (StatusCode::UNAUTHORIZED, "wrong or no credentials");
        Self { outcome: "unauthorized", ..Self::new(status, "unauthorized", why) }
    }

    fn busy(why: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "try_again", why)
    }

    fn too_often() -> Self {
        let why = "too many wrong credentials came from this address";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many", why)
    }

    fn answer(&self) -> Answer {
        let answer = Answer::error(self.status, self.code, &self.message);
        match self.status {
            StatusCode::TOO_MANY_REQUESTS => {
                answer.with(header::RETRY_AFTER, FAILURES_IN.as_secs().to_string()).closing()
            }
            StatusCode::UNAUTHORIZED => {
                answer.with(header::WWW_AUTHENTICATE, "Basic realm=\"profiles\"")
            }
            StatusCode::SERVICE_UNAVAILABLE => answer.with(header::RETRY_AFTER, "10"),
            _ => answer,
        }
    }
}

/// The pushes of one call that are not taken.
#[derive(Default)]
struct Refused {
    count: usize,
    first: Option<Refusal>,
    /// As the answer has them: the first of many.
    listed: Vec<Value>,
}

impl Refused {
    fn add(&mut self, index: usize, why: Refusal) {
        self.count += 1;
        if self.listed.len() < LISTED {
            self.listed.push(json!({ "index": index, "code": why.code, "message": why.message }));
        }
        self.first.get_or_insert(why);
    }
}

impl Edge {
    /// Takes pushes. What is acknowledged is stored.
    pub(super) async fn webhook(
        &self,
        session: &mut Session,
        site: &Site,
        caller: Option<IpAddr>,
    ) -> Result<bool> {
        let answer = match session.req_header().method {
            Method::POST | Method::DELETE if self.callers.has_to_wait(caller) => {
                Err(Refusal::too_often())
            }
            Method::POST => self.take_pushes(session, site, caller).await,
            Method::DELETE => self.forget_person(session.req_header(), site, caller).await,
            _ => Ok(Answer::error(
                StatusCode::METHOD_NOT_ALLOWED,
                "method",
                "pushes are sent by POST, deletions by DELETE",
            )
            .with(header::ALLOW, "POST, DELETE")),
        };
        let answer = answer.unwrap_or_else(|refusal| {
            if refusal.status == StatusCode::UNAUTHORIZED {
                self.callers.failed(caller);
            }
            site.metrics.profile_update(refusal.outcome);
            refusal.answer()
        });
        answer.send(session).await
    }

    async fn take_pushes(
        &self,
        session: &mut Session,
        site: &Site,
        caller: Option<IpAddr>,
    ) -> Result<Answer, Refusal> {
        let login = site.webhook.as_ref().ok_or_else(Refusal::unauthorized)?;
        if !admits(login, session.req_header()) {
            return Err(Refusal::unauthorized());
        }
        // Where a signature alone vouches for a body, anybody can send one.
        let room = match login.basic {
            Some(_) => None,
            None => Some(self.callers.read(caller).ok_or_else(|| {
                Refusal::busy("too many bodies come at one time that nobody vouches for yet")
            })?),
        };
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
        drop(room);
        self.callers.proved(caller);
        let pushes = documents(body).map_err(|error| {
            Refusal::new(StatusCode::BAD_REQUEST, "malformed", &format!("not JSON: {error}"))
        })?;
        self.take_all(site, &pushes).await
    }

    /// Takes what can be taken, some of it at one time. A store that fails fails the call, and what is left is not
    /// tried: what is sent again does no harm.
    async fn take_all(&self, site: &Site, pushes: &[Value]) -> Result<Answer, Refusal> {
        let now = now_millis();
        let (mut waiting, mut taking) = (pushes.iter(), FuturesOrdered::new());
        let (mut index, mut taken, mut refused) = (0, 0, Refused::default());
        loop {
            while taking.len() < TOGETHER
                && let Some(push) = waiting.next()
            {
                taking.push_back(self.take_one(site, push, now));
            }
            let Some(outcome) = taking.next().await else { break };
            match outcome {
                Ok(()) => taken += 1,
                Err(failure) if failure.outcome == "failed" => {
                    let (site, why) = (&*site.name, failure.detail.as_deref());
                    tracing::error!(site, why, "pushed profiles could not be stored");
                    return Err(failure);
                }
                Err(why) => refused.add(index, why),
            }
            index += 1;
        }
        if taken == 0 {
            let nothing = || Refusal::malformed(BadPush::NotAnObject);
            return Err(refused.first.unwrap_or_else(nothing));
        }
        (0..refused.count).for_each(|_| site.metrics.profile_update("refused"));
        let message = "audience updated";
        if pushes.len() == 1 {
            return Ok(Answer::json(StatusCode::OK, &json!({ "message": message })));
        }
        let (count, listed) = (refused.count, refused.listed);
        let told = json!({
            "message": message, "taken": taken, "refused": listed, "refused_count": count,
        });
        Ok(Answer::json(StatusCode::OK, &told))
    }

    async fn take_one(&self, site: &Site, push: &Value, now: i64) -> Result<(), Refusal> {
        let push = read_webhook(push, &site.name, now).map_err(Refusal::malformed)?;
        let outcome = if push.update.is_some() { "merged" } else { "deleted" };
        // Nobody closes it.
        let _room = self.pushing.acquire().await;
        let taken = self.take(push, site.identity.signed).await;
        taken.map_err(|error| Refusal::of(&error))?;
        site.metrics.profile_update(outcome);
        Ok(())
    }

    /// `signed`: pages and vendors are not believed who somebody is.
    async fn take(&self, push: Push, signed: bool) -> Result<(), StoreError> {
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
                    if signed && !self.is_free(other).await? {
                        continue;
                    }
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

    /// Whether a push may let `key` lead to another person. What a vendor pushes is what anybody can have sent to it:
    /// where ids are signed, it hands over no user, and no id that leads to somebody already.
    async fn is_free(&self, key: &ProfileKey) -> Result<bool, StoreError> {
        Ok(key.id_type() != "user_id" && self.profiles.end_of(key).await? == *key)
    }

    /// `?user_id=john`, `?email=…`: the type of id and the id.
    async fn forget_person(
        &self,
        request: &RequestHeader,
        site: &Site,
        caller: Option<IpAddr>,
    ) -> Result<Answer, Refusal> {
        let login = site.webhook.as_ref().ok_or_else(Refusal::unauthorized)?;
        // There is no body that a signature could vouch for.
        if login.basic.is_none() || !admits(login, request) {
            return Err(Refusal::unauthorized());
        }
        self.callers.proved(caller);
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
