//! `POST {prefix}/profiles-webhook`: the vendor pushes what it knows about visitors.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{Method, StatusCode, header};
use pingora::Result;
use pingora_proxy::Session;
use serde_json::json;

use super::Edge;
use super::answer::{Answer, read_body};
use crate::profile::store::StoreError;
use crate::profile::{ProfileKey, Refused, Subject, Update, read_webhook};
use crate::site::Site;

/// Most bytes of a push.
const MAX_PUSH_BYTES: usize = 1024 * 1024;
const BODY_DEADLINE: Duration = Duration::from_secs(15);

impl Edge {
    /// Takes a push. What is acknowledged is stored.
    pub(super) async fn webhook(&self, session: &mut Session, site: &Site) -> Result<bool> {
        let answer = match self.take_push(session, site).await {
            Ok(()) => {
                site.metrics.profile_update("merged");
                Answer::json(StatusCode::OK, &json!({ "message": "audience updated" }))
            }
            Err((outcome, answer)) => {
                site.metrics.profile_update(outcome);
                answer
            }
        };
        answer.send(session).await
    }

    async fn take_push(
        &self,
        session: &mut Session,
        site: &Site,
    ) -> Result<(), (&'static str, Answer)> {
        if session.req_header().method != Method::POST {
            let answer =
                Answer::error(StatusCode::METHOD_NOT_ALLOWED, "method", "pushes are sent by POST")
                    .with(header::ALLOW, "POST");
            return Err(("refused", answer));
        }
        let given = session.req_header().headers.get(header::AUTHORIZATION);
        let given = given.map(http::HeaderValue::as_bytes);
        if !site.webhook.as_ref().is_some_and(|login| login.admits(given)) {
            let answer =
                Answer::error(StatusCode::UNAUTHORIZED, "unauthorized", "wrong or no credentials")
                    .with(header::WWW_AUTHENTICATE, "Basic realm=\"profiles\"");
            return Err(("unauthorized", answer));
        }
        let body = read_body(session, MAX_PUSH_BYTES, BODY_DEADLINE)
            .await
            .map_err(|unread| ("refused", unread.answer(MAX_PUSH_BYTES)))?;
        let refuse = |status, why: &dyn std::fmt::Display| {
            ("refused", Answer::error(status, "malformed", &why.to_string()))
        };
        let push = serde_json::from_slice(&body)
            .map_err(|error| refuse(StatusCode::BAD_REQUEST, &format!("not JSON: {error}")))?;
        let (subject, update) = read_webhook(&push, now_millis()).map_err(|why| {
            let status = match why {
                Refused::NotIdentify => StatusCode::FORBIDDEN,
                Refused::NotAnObject | Refused::NoSubject | Refused::NoTraits => {
                    StatusCode::BAD_REQUEST
                }
            };
            refuse(status, &why)
        })?;
        self.merge(site, subject, update).await.map_err(|error| match error {
            StoreError::Refused(why) => refuse(StatusCode::UNPROCESSABLE_ENTITY, &why),
            StoreError::Unavailable(why) => {
                tracing::error!(site = &*site.name, why, "a pushed profile could not be stored");
                let answer = Answer::error(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "try_again",
                    "the profile store failed",
                );
                ("failed", answer.with(header::RETRY_AFTER, "10"))
            }
        })
    }

    async fn merge(&self, site: &Site, subject: Subject, update: Update) -> Result<(), StoreError> {
        match subject {
            Subject::User(user, browser) => {
                let key = ProfileKey::user(&site.name, user.clone());
                self.profiles.merge(&key, update).await?;
                if let Some(id) = browser {
                    let browser = ProfileKey::anonymous(&site.name, id);
                    self.profiles.link(&browser, &user).await?;
                }
                Ok(())
            }
            Subject::Anonymous(id) => {
                self.profiles.merge(&ProfileKey::anonymous(&site.name, id), update).await
            }
        }
    }
}

/// Milliseconds since 1970.
fn now_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
