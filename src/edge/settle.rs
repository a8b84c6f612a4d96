//! What becomes of a browser's identity by what the site says of it: a user comes, another one, or none any more.

use pingora::http::RequestHeader;

use super::confirm::{Said, signature};
use super::context::Context;
use super::who::Who;
use crate::decide::Consent;
use crate::identity::{AnonymousId, Ended, IdentityPolicy, UserId, Visitor, Vouch};
use crate::profile::now_millis;
use crate::site::Site;

/// A browser's identity from now on.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) visitor: Visitor,
    pub(super) ended: Ended,
    /// Lines of Set-Cookie beside those that keep the visitor's ids.
    pub(super) lines: Vec<String>,
}

/// What becomes of `who`'s identity. `None` where it stays as it is.
pub(super) fn settle(
    site: &Site,
    context: &Context,
    request: &RequestHeader,
    who: &Who,
    said: &Said,
) -> Option<Settled> {
    match said {
        // Where little is allowed, nobody is to be known.
        Said::User(user) => {
            (who.consent == Consent::Given).then(|| comes(site, context, who, user))
        }
        Said::Nobody => {
            let named = who.visitor.user.is_some() || signature(request).is_some();
            named.then(|| goes(site, context, who))
        }
    }
}

/// The browser is `user`. Where it was another one, it becomes another browser too: what is known of it is the
/// other's.
fn comes(site: &Site, context: &Context, who: &Who, user: &UserId) -> Settled {
    let policy = &site.identity;
    let other = who.visitor.user.as_ref().is_some_and(|before| before != user);
    let mut lines = Vec::new();
    let (anonymous, ended) = if other {
        let ended = end(policy, context, who, &mut lines);
        (Some(AnonymousId::mint()), ended)
    } else {
        let known = who.visitor.anonymous.clone();
        (Some(known.unwrap_or_else(AnonymousId::mint)), who.ended.clone())
    };
    let visitor = Visitor { user: Some(user.clone()), anonymous, minted: false };
    if site.check.is_none() {
        lines.extend(signed(site, context, &visitor, None));
    }
    Settled { visitor, ended, lines }
}

/// The browser is nobody's any more, and another browser from now on.
fn goes(site: &Site, context: &Context, who: &Who) -> Settled {
    let policy = &site.identity;
    let (host, secure) = (context.authority.as_str(), context.client.secure);
    let mints = policy.mint && who.consent != Consent::Denied;
    let mut lines =
        if mints { policy.forget_user(host, secure) } else { policy.forget(&[], host, secure) };
    let ended = if who.consent == Consent::Denied {
        who.ended.clone()
    } else {
        end(policy, context, who, &mut lines)
    };
    let anonymous = mints.then(AnonymousId::mint);
    Settled { visitor: Visitor { user: None, anonymous, minted: false }, ended, lines }
}

/// Marks that the browser's identity ends now.
pub(super) fn end(
    policy: &IdentityPolicy,
    context: &Context,
    who: &Who,
    lines: &mut Vec<String>,
) -> Ended {
    let ended = who.ended.with(who.visitor.anonymous.as_ref(), now_millis());
    lines.push(policy.mark(&ended, context.authority.as_str(), context.client.secure));
    ended
}

/// The edge's signature that the browser is its user, as a line of Set-Cookie; until `until`, where an older one is
/// given anew.
pub(super) fn signed(
    site: &Site,
    context: &Context,
    visitor: &Visitor,
    until: Option<i64>,
) -> Option<String> {
    let (user, anonymous) = (visitor.user.as_ref()?, visitor.anonymous.as_ref()?);
    let word = Vouch { site: &site.name, user, anonymous };
    let times = (now_millis() / 1000, until);
    let (host, secure) = (context.authority.as_str(), context.client.secure);
    site.identity.vouch(&site.signing_keys, &word, times, host, secure)
}
