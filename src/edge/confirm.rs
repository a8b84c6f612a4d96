//! Whether a browser is the user that it says it is.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};
use tinyufo::TinyUfo;
use xxhash_rust::xxh3::xxh3_128;

use super::Edge;
use super::context::Context;
use super::response::drop_own;
use crate::identity::{Purpose, USER_SIGNATURE, UserId, Visitor, cookie};
use crate::site::{IdentityCheck, Site};
use crate::upstream::{Call, USER_AGENT};

/// By which the origin says who a visitor is. Nobody else sees it.
const X_DOORSTEP_USER: HeaderName = HeaderName::from_static("x-doorstep-user");

/// A visitor of whom only what is confirmed counts.
pub(super) struct Confirmed {
    pub(super) visitor: Visitor,
    /// A user whom somebody has vouched for just now: the browser is to get the signature.
    pub(super) new: Option<UserId>,
}

/// Who sessions belong to, by a hash of the session's cookie.
pub(super) struct Sessions(LazyLock<TinyUfo<u128, (Instant, Option<UserId>)>>);

/// A check that does not answer is left alone that long: pages must not wait for it one by one.
const PAUSE: Duration = Duration::from_secs(5);
/// About 200 bytes each.
const MAX_SESSIONS: usize = 50_000;
/// Largest answer of a check.
const MAX_ANSWER_BYTES: usize = 4096;

impl Default for Sessions {
    fn default() -> Self {
        // Made at the first use: most nodes ask for no sessions.
        Self(LazyLock::new(|| TinyUfo::new(MAX_SESSIONS, MAX_SESSIONS)))
    }
}

impl Edge {
    /// What of `visitor` counts for what a page shows: all, where the site does not want ids signed.
    pub(super) async fn confirmed(
        &self,
        site: &Site,
        request: &RequestHeader,
        visitor: &Visitor,
    ) -> Confirmed {
        let mut visitor = visitor.clone();
        if !site.identity.signed {
            return Confirmed { visitor, new: None };
        }
        let signed = visitor.user.as_ref().map(|user| is_signed(site, request, user));
        if signed == Some(true) {
            return Confirmed { visitor, new: None };
        }
        let new = match &site.check {
            Some(check) => self.session_user(site, check, request).await,
            None => None,
        };
        if let (None, Some(_)) = (&new, signed) {
            let any = cookie(request.headers.get_all(header::COOKIE), USER_SIGNATURE);
            site.metrics.unsigned_id(if any.is_some() { "wrong" } else { "missing" });
        }
        visitor.user.clone_from(&new);
        Confirmed { visitor, new }
    }

    /// Who the request's session belongs to.
    async fn session_user(
        &self,
        site: &Site,
        check: &IdentityCheck,
        request: &RequestHeader,
    ) -> Option<UserId> {
        let session = cookie(request.headers.get_all(header::COOKIE), &check.cookie)?;
        let key = xxh3_128([site.name.as_bytes(), b"\0", session.as_bytes()].concat().as_slice());
        let known = self.sessions.0.get(&key);
        if let Some((at, user)) = known
            && at.elapsed() < check.fresh_for
        {
            return user;
        }
        let pause = xxh3_128([site.name.as_bytes(), b"\0pause"].concat().as_slice());
        if self.sessions.0.get(&pause).is_some_and(|(at, _)| at.elapsed() < PAUSE) {
            return None;
        }
        match self.ask(check, session).await {
            Some(user) => {
                self.sessions.0.force_put(key, (Instant::now(), user.clone()), 1);
                user
            }
            None => {
                tracing::warn!(site = &*site.name, "`identity.check` does not answer");
                self.sessions.0.force_put(pause, (Instant::now(), None), 1);
                None
            }
        }
    }

    /// Asks the site. `None` where it does not answer.
    async fn ask(&self, check: &IdentityCheck, session: &str) -> Option<Option<UserId>> {
        let cookie = HeaderValue::from_str(&format!("{}={session}", check.cookie)).ok()?;
        let headers = [(header::COOKIE, cookie), (header::USER_AGENT, USER_AGENT)];
        let call = Call {
            method: Method::GET,
            path: "",
            headers: &headers,
            body: Bytes::new(),
            most: MAX_ANSWER_BYTES,
        };
        let answer = self.client.send(&check.upstream, call, check.timeout).await.ok()?;
        if answer.status.is_server_error() {
            return None;
        }
        if answer.status != http::StatusCode::OK {
            return Some(None);
        }
        let json: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
        Some(json.get("user_id").and_then(|id| UserId::parse(id.as_str()?).ok()))
    }
}

/// Whether the edge's signature stands beside the id.
pub(super) fn is_signed(site: &Site, request: &RequestHeader, user: &UserId) -> bool {
    let signature = cookie(request.headers.get_all(header::COOKIE), USER_SIGNATURE);
    let parts = [&*site.name, user.as_str()];
    signature.is_some_and(|signature| site.signing_keys.admits(Purpose::User, &parts, signature))
}

/// Whom the origin's answer names. Headers of the edge's own go no further.
pub(super) fn said_by_origin(site: &Site, response: &mut ResponseHeader) -> Option<Said> {
    let said = response.remove_header(&X_DOORSTEP_USER);
    drop_own(response);
    let said = said?;
    if !site.identity.signed {
        return None;
    }
    // Not ASCII is percent-encoded.
    let text = percent_encoding::percent_decode(said.as_bytes()).decode_utf8().ok()?;
    match UserId::parse(text.trim()) {
        Ok(user) => Some(Said::User(user)),
        Err(_) if text.trim().is_empty() => Some(Said::Nobody),
        Err(_) => None,
    }
}

/// What an origin says of a visitor.
pub(super) enum Said {
    /// It is this user.
    User(UserId),
    /// It is no longer any user.
    Nobody,
}

/// Cookies that say that the browser is `user`.
pub(super) fn vouch(
    site: &Site,
    context: &Context,
    user: &UserId,
    response: &mut ResponseHeader,
) -> Result<()> {
    let (host, secure) = (context.authority.as_str(), context.client.secure);
    let visitor = Visitor { user: Some(user.clone()), ..Visitor::default() };
    for line in site.identity.keep(&visitor, host, secure) {
        response.append_header(header::SET_COOKIE, line)?;
    }
    if let Some(line) = site.identity.vouch(&site.signing_keys, &site.name, user, host, secure) {
        response.append_header(header::SET_COOKIE, line)?;
    }
    Ok(())
}

/// Cookies that say that the browser is no user.
pub(super) fn disown(site: &Site, context: &Context, response: &mut ResponseHeader) -> Result<()> {
    let (host, secure) = (context.authority.as_str(), context.client.secure);
    for line in site.identity.forget_user(host, secure) {
        response.append_header(header::SET_COOKIE, line)?;
    }
    Ok(())
}
