//! Who asks and what that visitor allows: decided once, before anything is done for a request. All that is known of
//! a visitor comes from here.

use std::sync::LazyLock;

use http::{HeaderValue, header};
use memchr::memmem::Finder;
use pingora::http::RequestHeader;

use super::Edge;
use super::context::Context;
use crate::decide::Consent;
use crate::identity::{AnonymousId, Conflicts, ENDED, Ended, Visitor, read, values};
use crate::profile::now_millis;
use crate::site::Site;
use crate::telemetry::{Feature, guard};

/// Who asks, as far as the visitor allows anybody to know.
#[derive(Debug, Clone, Default)]
pub(super) struct Who {
    /// Without user, where little is allowed; nobody, where nothing is.
    pub(super) visitor: Visitor,
    /// What is allowed.
    pub(super) consent: Consent,
    /// Identities that have ended in this browser.
    pub(super) ended: Ended,
    /// The browser's own script has ended the last of them just now, and this may be the first that the edge hears of it.
    pub(super) resets: bool,
}

/// Whom a request names, whatever the visitor allows.
#[derive(Debug, Default)]
pub(super) struct Named {
    pub(super) visitor: Visitor,
    /// What has ended in this browser.
    pub(super) ended: Ended,
    /// Its script has ended the last identity just now.
    pub(super) resets: bool,
}

impl Edge {
    /// Who asks.
    pub(super) fn who(&self, site: &Site, request: &RequestHeader, context: &Context) -> Who {
        let Named { visitor: named, ended, resets } = named(site, request);
        let consent = self.consent(site, &named, request, context);
        let visitor = match consent {
            Consent::Given => named,
            Consent::Limited => Visitor { user: None, ..named },
            Consent::Denied => Visitor::default(),
        };
        Who { visitor, consent, ended, resets }
    }
}

impl Who {
    /// Whether an event of `anonymous` that was `made` then is from before the end of the browser's identity.
    pub(super) fn has_ended(&self, anonymous: Option<&AnonymousId>, made: Option<i64>) -> bool {
        if self.resets && self.ended.has_ids() {
            // When that was is not known: only that it was before this request.
            return anonymous.is_some_and(|id| self.ended.has(id));
        }
        self.ended.covers(anonymous, made)
    }

    /// A newcomer gets an id, where the site gives any and the visitor allows it.
    pub(super) fn minted(mut self, site: &Site) -> Self {
        let policy = &site.identity;
        let wanted = policy.server_side_cookies && policy.mint && self.consent != Consent::Denied;
        if wanted && self.visitor.anonymous.is_none() {
            self.visitor.anonymous = Some(AnonymousId::mint());
            self.visitor.minted = true;
        }
        self
    }
}

static MARK: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(ENDED));
/// The cookie by which a page's script says that the identity ends: its call of `{prefix}/reset` may come behind the
/// request for the next page.
pub(super) const RESET: &str = "doorstep_reset";
static RESETS: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(RESET));

/// Whether the script of a page has ended the identity just now.
pub(super) fn resets(request: &RequestHeader) -> bool {
    let all = || request.headers.get_all(header::COOKIE);
    all().iter().any(|line| RESETS.find(line.as_bytes()).is_some())
        && values(all(), RESET).any(|value| value == b"1")
}

/// Whom the request's cookies name, whatever the visitor allows, and what has ended. An id that was ended counts as
/// none, wherever it has come back from.
pub(super) fn named(site: &Site, request: &RequestHeader) -> Named {
    let cookies = request.headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
    let visitor = guard(Feature::Identity, || read(&site.identity.names, cookies));
    let mut visitor = visitor.unwrap_or_default();
    // Hardly any browser has the mark: one look finds out.
    let all = || request.headers.get_all(header::COOKIE);
    let has = |name: &Finder<'_>| all().iter().any(|line| name.find(line.as_bytes()).is_some());
    let mut ended = if has(&MARK) {
        Ended::read_all(values(all(), ENDED), now_millis())
    } else {
        Ended::default()
    };
    // Where the SDK keeps its ids itself, it has ended them.
    let resets = site.identity.server_side_cookies && resets(request);
    if resets {
        ended = ended.with(visitor.anonymous.as_ref(), now_millis());
    }
    if resets || visitor.anonymous.as_ref().is_some_and(|id| ended.has(id)) {
        // So did whoever stands beside it: an answer from before has brought both back, and they go again.
        visitor = Visitor { conflicts: Conflicts::ALL, ..Visitor::default() };
    }
    Named { visitor, ended, resets }
}
