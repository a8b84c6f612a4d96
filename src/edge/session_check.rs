//! Who a session of the site's own belongs to, asked of the site (`identity.check`).

use std::net::IpAddr;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use tinyufo::TinyUfo;
use xxhash_rust::xxh3::xxh3_128;

use super::Edge;
use super::limits::network;
use crate::identity::{CookieSent, UserId, sent, value_as_id};
use crate::site::{IdentityCheck, Site};
use crate::upstream::{Call, USER_AGENT};

/// What is known of sessions, by a hash of the session's cookie.
pub(super) struct Sessions {
    known: LazyLock<TinyUfo<u128, KnownSession>>,
    /// One writer at a time: two threads that replace one entry break the cache's count of weights.
    writing: Mutex<()>,
}

/// What is known of one.
#[derive(Clone, Default)]
struct KnownSession {
    /// What was answered last, and when.
    answered: Option<(Instant, Owner)>,
    /// Since when there is no answer.
    silent: Option<Instant>,
}

/// Who a session belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Owner {
    /// This user.
    User(UserId),
    /// Nobody: there is no session, or it has ended.
    Nobody,
    /// The site has not said so.
    Unknown,
}

/// While no answer comes, the last one counts for as many times `fresh_for`.
const LAST_COUNTS: u32 = 2;
/// About 200 bytes each.
const MAX_SESSIONS: usize = 50_000;
/// Largest answer of a check.
const MAX_ANSWER_BYTES: usize = 4096;

impl Default for Sessions {
    fn default() -> Self {
        // Made at the first use: most nodes ask for no sessions.
        Self {
            known: LazyLock::new(|| TinyUfo::new(MAX_SESSIONS, MAX_SESSIONS)),
            writing: Mutex::new(()),
        }
    }
}

impl Sessions {
    fn remember(&self, key: u128, session: KnownSession) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.known.force_put(key, session, 1);
    }
}

impl KnownSession {
    /// The last answer, where it is not older than `lives`.
    fn within(&self, lives: Duration) -> Option<&Owner> {
        let (when, owner) = self.answered.as_ref()?;
        (when.elapsed() < lives).then_some(owner)
    }
}

impl Edge {
    /// Who the session of a request from `client` belongs to, by the cookies in `headers`.
    pub(super) async fn session_owner(
        &self,
        site: &Site,
        check: &IdentityCheck,
        headers: &HeaderMap,
        client: Option<IpAddr>,
    ) -> Owner {
        let session = match sent(headers.get_all(header::COOKIE), &check.cookie) {
            CookieSent::None => return Owner::Nobody,
            CookieSent::One(session) => session,
            // Somebody has put a second one beside the visitor's: it may not end what the site has said.
            CookieSent::Unclear => return Owner::Unknown,
        };
        let key = session_key(&site.edition, session);
        let mut known = self.sessions.known.get(&key).unwrap_or_default();
        if let Some(owner) = known.within(check.fresh_for) {
            return owner.clone();
        }
        let last = known
            .within(check.fresh_for.saturating_mul(LAST_COUNTS))
            .cloned()
            .unwrap_or(Owner::Unknown);
        // Whoever has a session without an answer does not wait for it on every page.
        if known.silent.is_some_and(|since| since.elapsed() < check.breaker.pause()) {
            return last;
        }
        let Some(asking) = check.breaker.enter(network(client)) else { return last };
        let owner = self.ask(check, session).await;
        let answered = owner != Owner::Unknown;
        if asking.ended(answered) {
            tracing::warn!(site = &*site.name, "`identity.check` does not answer");
        }
        let now = Instant::now();
        known.silent = (!answered).then_some(now);
        if answered {
            known.answered = Some((now, owner.clone()));
        }
        self.sessions.remember(key, known);
        if answered { owner } else { last }
    }

    /// Asks the site.
    async fn ask(&self, check: &IdentityCheck, session: &str) -> Owner {
        let Ok(cookie) = HeaderValue::from_str(&format!("{}={session}", check.cookie)) else {
            // No server can have given such a session.
            return Owner::Nobody;
        };
        let headers = [(header::COOKIE, cookie), (header::USER_AGENT, USER_AGENT)];
        let call = Call {
            method: Method::GET,
            path: "",
            headers: &headers,
            body: Bytes::new(),
            most: MAX_ANSWER_BYTES,
        };
        let Ok(answer) = self.client.send(&check.upstream, call, check.timeout).await else {
            return Owner::Unknown;
        };
        match answer.status {
            http::StatusCode::OK => {}
            http::StatusCode::UNAUTHORIZED => return Owner::Nobody,
            // A limit, a wrong path, a move: nothing that is said of the session.
            _ => return Owner::Unknown,
        }
        let Ok(json) = serde_json::from_slice::<serde_json::Value>(&answer.body) else {
            return Owner::Unknown;
        };
        let Some(id) = json.get("user_id").filter(|id| !id.is_null()) else { return Owner::Nobody };
        let id = value_as_id(id).and_then(|id| UserId::parse(&id).ok());
        id.map_or(Owner::Unknown, Owner::User)
    }
}

/// No two sites' sessions have one key, nor has one that was asked for in another way: an edition holds no NUL.
fn session_key(edition: &str, session: &str) -> u128 {
    xxh3_128([edition.as_bytes(), b"\0", session.as_bytes()].concat().as_slice())
}
