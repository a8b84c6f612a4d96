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
}

impl Edge {
    /// Who asks.
    pub(super) fn who(&self, site: &Site, request: &RequestHeader, context: &Context) -> Who {
        let (named, ended) = named(site, request);
        let consent = self.consent(site, &named, request, context);
        let visitor = match consent {
            Consent::Given => named,
            Consent::Limited => Visitor { user: None, ..named },
            Consent::Denied => Visitor::default(),
        };
        Who { visitor, consent, ended }
    }
}

impl Who {
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

/// Whom the request's cookies name, whatever the visitor allows, and what has ended. An id that was ended counts as
/// none, wherever it has come back from.
pub(super) fn named(site: &Site, request: &RequestHeader) -> (Visitor, Ended) {
    let cookies = request.headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
    let visitor = guard(Feature::Identity, || read(&site.identity.names, cookies));
    let mut visitor = visitor.unwrap_or_default();
    // Hardly any browser has the mark: one look finds out.
    let cookies = request.headers.get_all(header::COOKIE);
    let marked = cookies.iter().any(|line| MARK.find(line.as_bytes()).is_some());
    let ended = if marked {
        Ended::read_all(values(cookies, ENDED), now_millis())
    } else {
        Ended::default()
    };
    if visitor.anonymous.as_ref().is_some_and(|id| ended.has(id)) {
        // So did whoever stands beside it: an answer from before has brought both back, and they go again.
        visitor = Visitor { conflicts: Conflicts::ALL, ..Visitor::default() };
    }
    (visitor, ended)
}
