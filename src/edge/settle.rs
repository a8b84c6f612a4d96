//! What becomes of a browser's identity by what the site says of it: a user comes, another one, or none any more.

use pingora::http::RequestHeader;

use super::confirm::{Said, signature};
use super::context::Context;
use super::who::{RESET, Who, named};
use crate::decide::{Consent, KEPT};
use crate::identity::{AnonymousId, Ended, UserId, Visitor, Vouch};
use crate::profile::now_millis;
use crate::site::Site;

/// A browser's identity from now on.
#[derive(Debug)]
pub(super) struct NewIdentity {
    pub(super) visitor: Visitor,
    pub(super) ended: Ended,
    /// Lines of Set-Cookie beside those that keep the visitor's ids.
    pub(super) lines: Vec<String>,
}

/// What becomes of `who`'s identity by what is said of it, and, where a page says it, by the id that the browser has
/// for itself by now. `None` where it stays as it is.
pub(super) fn settle(
    site: &Site,
    context: &Context,
    request: &RequestHeader,
    who: &Who,
    (said, browser): (&Said, Option<&AnonymousId>),
) -> Option<NewIdentity> {
    match said {
        // Where little is allowed, nobody is to be known.
        Said::User(user) => {
            (who.consent == Consent::Given).then(|| comes(site, context, who, user, browser))
        }
        // What has to go does not depend on what is allowed.
        Said::Nobody => {
            let named = named(site, request).visitor.user.is_some() || signature(request).is_some();
            named.then(|| goes(site, context, who))
        }
    }
}

/// The browser is `user`. Where it was another one, it becomes another browser too: what is known of it is the
/// other's.
fn comes(
    site: &Site,
    context: &Context,
    who: &Who,
    user: &UserId,
    browser: Option<&AnonymousId>,
) -> NewIdentity {
    let before = who.visitor.anonymous.as_ref();
    let other = who.visitor.user.as_ref().is_some_and(|before| before != user);
    let mut lines = Vec::new();
    let (anonymous, ended) = if other {
        let ended = end(site, context, who, &mut lines);
        let fresh = browser.filter(|id| !ended.has(id)).cloned();
        (fresh.unwrap_or_else(AnonymousId::mint), ended)
    } else {
        let known = browser.or(before).cloned();
        (known.unwrap_or_else(AnonymousId::mint), who.ended.clone())
    };
    let visitor = Visitor {
        user: Some(user.clone()),
        anonymous: Some(anonymous),
        minted: false,
        conflicts: who.visitor.conflicts,
    };
    if site.check.is_none() {
        lines.extend(signed(site, context, &visitor, None));
    }
    NewIdentity { visitor, ended, lines }
}

/// The browser is nobody's any more, and another browser from now on.
fn goes(site: &Site, context: &Context, who: &Who) -> NewIdentity {
    let policy = &site.identity;
    let (host, secure) = (context.authority.as_str(), context.client.secure);
    let mints = policy.mint && who.consent != Consent::Denied;
    let mut lines =
        if mints { policy.forget_user(host, secure) } else { policy.forget(&[], host, secure) };
    let ended = if who.consent == Consent::Denied {
        lines.extend(end_traits(site, context));
        who.ended.clone()
    } else {
        end(site, context, who, &mut lines)
    };
    let anonymous = mints.then(AnonymousId::mint);
    NewIdentity {
        visitor: Visitor { user: None, anonymous, minted: false, conflicts: who.visitor.conflicts },
        ended,
        lines,
    }
}

/// Set-Cookie values that take the user's traits away.
pub(super) fn end_traits(site: &Site, context: &Context) -> Vec<String> {
    let names = site.rules.cookies.iter().map(|cookie| &*cookie.name);
    site.identity.end(names, context.authority.as_str(), context.client.secure)
}

/// Ends the browser's identity now, with the traits that its cookies carry and the variants that it has kept.
pub(super) fn end(site: &Site, context: &Context, who: &Who, lines: &mut Vec<String>) -> Ended {
    let (host, secure) = (context.authority.as_str(), context.client.secure);
    let ended = who.ended.with(who.visitor.anonymous.as_ref(), now_millis());
    lines.push(site.identity.mark(&ended, host, secure));
    lines.extend(end_traits(site, context));
    if !site.rules.experiments.is_empty() {
        lines.extend(site.identity.end([KEPT].into_iter(), host, secure));
    }
    ended
}

/// Set-Cookie values that end the identity which the browser's own script has ended, if it has just now. They stand in
/// front of all others: whoever comes in the same answer stays.
pub(super) fn end_reset(site: &Site, context: &Context, who: &Who) -> Vec<String> {
    if !who.resets {
        return Vec::new();
    }
    let (host, secure) = (context.authority.as_str(), context.client.secure);
    let mut lines = site.identity.forget(&[RESET], host, secure);
    if who.consent != Consent::Denied {
        lines.push(site.identity.mark(&who.ended, host, secure));
    }
    lines.extend(end_traits(site, context));
    if !site.rules.experiments.is_empty() {
        lines.extend(site.identity.end([KEPT].into_iter(), host, secure));
    }
    lines
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
