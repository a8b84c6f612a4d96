//! Who a session of the site's own belongs to, asked of the site (`identity.check`).

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderValue, Method, header};
use tinyufo::TinyUfo;
use xxhash_rust::xxh3::xxh3_128;

use super::Edge;
use crate::identity::UserId;
use crate::site::{IdentityCheck, Site};
use crate::upstream::{Call, USER_AGENT};

/// What is known of sessions, by a hash of the session's cookie.
pub(super) struct Sessions {
    known: LazyLock<TinyUfo<u128, KnownSession>>,
    /// One writer at a time: two threads that replace one entry break the cache's count of weights.
    writing: Mutex<()>,
}

/// What is known of one.
#[derive(Clone)]
struct KnownSession {
    since: Instant,
    owner: Owner,
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
    fn remember(&self, key: u128, owner: Owner) {
        let session = KnownSession { since: Instant::now(), owner };
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.known.force_put(key, session, 1);
    }
}

impl Edge {
    /// Who the session that `cookie` names belongs to.
    pub(super) async fn session_owner(
        &self,
        site: &Site,
        check: &IdentityCheck,
        cookie: Option<&str>,
    ) -> Owner {
        let Some(session) = cookie else { return Owner::Nobody };
        let key = session_key(&site.name, session);
        if let Some(known) = self.sessions.known.get(&key) {
            let lives = match known.owner {
                Owner::User(_) | Owner::Nobody => check.fresh_for,
                // Whoever has such a session does not wait for it on every page.
                Owner::Unknown => check.breaker.pause(),
            };
            if known.since.elapsed() < lives {
                return known.owner;
            }
        }
        let Some(asking) = check.breaker.enter() else { return Owner::Unknown };
        let owner = self.ask(check, session).await;
        if asking.ended(key, owner != Owner::Unknown) {
            tracing::warn!(site = &*site.name, "`identity.check` does not answer");
        }
        self.sessions.remember(key, owner.clone());
        owner
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
        if answer.status.is_server_error() {
            return Owner::Unknown;
        }
        if answer.status != http::StatusCode::OK {
            return Owner::Nobody;
        }
        let Ok(json) = serde_json::from_slice::<serde_json::Value>(&answer.body) else {
            return Owner::Unknown;
        };
        let id = json.get("user_id").and_then(|id| UserId::parse(id.as_str()?).ok());
        id.map_or(Owner::Nobody, Owner::User)
    }
}

/// No two sites' sessions have one key: a name holds no NUL.
fn session_key(site: &str, session: &str) -> u128 {
    xxh3_128([site.as_bytes(), b"\0", session.as_bytes()].concat().as_slice())
}
