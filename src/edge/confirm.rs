//! Whether a browser is the user that it says it is.

use http::{HeaderName, header};
use pingora::http::{RequestHeader, ResponseHeader};

use super::Edge;
use super::context::Context;
use super::response::drop_own;
use super::session_check::Owner;
use super::who::Who;
use crate::decide::Consent;
use crate::identity::{Confirmed, USER_SIGNATURE, UserId, Vouch, cookie};
use crate::profile::now_millis;
use crate::site::Site;

/// By which the origin says who a visitor is. Nobody else sees it.
const X_DOORSTEP_USER: HeaderName = HeaderName::from_static("x-doorstep-user");

/// What is confirmed of a visitor, and what its cookies are to become.
#[derive(Default)]
pub(super) struct Confirmation {
    pub(super) known: Confirmed,
    /// The site's check says something other than the cookies do.
    pub(super) verdict: Option<Said>,
    /// Until when the edge's own signature counts, in seconds since 1970.
    pub(super) until: Option<i64>,
}

/// What a site says of a visitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// It is this user.
    User(UserId),
    /// It is no longer any user.
    Nobody,
}

impl Edge {
    /// What of `who` counts for what a page shows, and for what is written and linked.
    pub(super) async fn confirmed(
        &self,
        site: &Site,
        request: &RequestHeader,
        context: &Context,
        who: &Who,
    ) -> Confirmation {
        let visitor = who.visitor.clone();
        if who.consent != Consent::Given {
            // Whoever may only be counted is not looked up.
            return Confirmation { known: Confirmed::withheld(visitor), ..Confirmation::default() };
        }
        if !site.identity.signed {
            return Confirmation { known: Confirmed::believed(visitor), ..Confirmation::default() };
        }
        let confirmation = match &site.check {
            Some(check) => {
                let client = context.client.address;
                let owner = self.session_owner(site, check, &request.headers, client).await;
                by_check(request, owner, who)
            }
            None => by_signature(site, request, who),
        };
        if visitor.user.is_some() && confirmation.known.user() != visitor.user.as_ref() {
            let any = signature(request);
            site.metrics.unsigned_id(if any.is_some() { "wrong" } else { "missing" });
        }
        confirmation
    }
}

/// The check decides as long as there is one, whatever cookies say.
fn by_check(request: &RequestHeader, owner: Owner, who: &Who) -> Confirmation {
    let visitor = who.visitor.clone();
    match owner {
        Owner::User(user) => {
            let other = visitor.user.as_ref() != Some(&user);
            Confirmation {
                verdict: other.then(|| Said::User(user.clone())),
                known: Confirmed::vouched(visitor, user),
                until: None,
            }
        }
        Owner::Nobody => {
            let named = visitor.user.is_some() || signature(request).is_some();
            Confirmation {
                verdict: named.then_some(Said::Nobody),
                known: Confirmed::unconfirmed(visitor),
                until: None,
            }
        }
        Owner::Unknown => {
            Confirmation { known: Confirmed::unconfirmed(visitor), ..Confirmation::default() }
        }
    }
}

/// The edge's own signature counts for this user in this browser.
fn by_signature(site: &Site, request: &RequestHeader, who: &Who) -> Confirmation {
    let visitor = who.visitor.clone();
    let until = match (&visitor.user, &visitor.anonymous, signature(request)) {
        (Some(user), Some(anonymous), Some(text)) => {
            let word = Vouch { site: &site.name, user, anonymous };
            word.holds(&site.signing_keys, text, now_millis() / 1000)
        }
        _ => None,
    };
    let known = match (until, visitor.user.clone()) {
        (Some(_), Some(user)) => Confirmed::vouched(visitor, user),
        _ => Confirmed::unconfirmed(visitor),
    };
    Confirmation { known, verdict: None, until }
}

/// The signature that the browser has.
pub(super) fn signature(request: &RequestHeader) -> Option<&str> {
    cookie(request.headers.get_all(header::COOKIE), USER_SIGNATURE)
}

/// Whom the origin's answer names. Headers of the edge's own go no further.
pub(super) fn said_by_origin(site: &Site, response: &mut ResponseHeader) -> Option<Said> {
    let mut all = response.headers.get_all(X_DOORSTEP_USER).iter();
    let said = all.next().cloned();
    // Two that differ say nothing.
    let is_clear = all.all(|other| Some(other) == said.as_ref());
    drop_own(response);
    let said = said.filter(|_| is_clear)?;
    if !site.identity.server_side_cookies {
        return None;
    }
    // Not ASCII is percent-encoded.
    let text = percent_encoding::percent_decode(said.as_bytes()).decode_utf8().ok()?;
    match UserId::parse(text.trim()) {
        Ok(user) => site.identity.signed.then_some(Said::User(user)),
        Err(_) if text.trim().is_empty() => Some(Said::Nobody),
        Err(_) => None,
    }
}
