//! One request's state: everything that the hooks know of it. Nothing else is changed by a request
//! except the named stores.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;

use super::asset_name::{Codings, FileHost};
use super::client::Client;
use super::confirm::Said;
use super::exposure::Sights;
use super::fetches::Fetching;
use super::form::{Data, Form};
use super::origin_connection::OriginConnection;
use super::page_view::View;
use super::preview::Given;
use super::raw_request::RawRequest;
use super::target::Authority;
use super::unread::Held;
use super::who::Who;
use crate::config::Snapshot;
use crate::decide::{Concerned, Consent, Decision, Target};
use crate::html::{Body, Coding, PageKey};
use crate::identity::Confirmed;
use crate::site::Site;
use crate::telemetry::metrics::{IN_FLIGHT, PANICS};
use crate::telemetry::{Feature, Personalization, RouteName};
use crate::vendor::SdkFile;

/// One request.
pub struct Context {
    /// When its head had been read.
    pub(super) started: Instant,
    /// Time that the edge itself has added so far.
    pub(super) added: Duration,
    /// The configuration, taken once.
    pub(super) snapshot: Arc<Snapshot>,
    /// Set by `request_filter`, once the host is known.
    pub(super) site: Option<Arc<Site>>,
    pub(super) client: Client,
    pub(super) authority: Authority,
    pub(super) route: RouteName,
    /// What serves it. Set once, by `request_filter`.
    pub(super) way: Way,
    /// How far the page's body has come. Set by `response_filter`, moved on by
    /// `response_body_filter`.
    pub(super) body: Body,
    /// By what the page is known again, where it can be, and whether its snippet's place was known.
    pub(super) known_by: Option<(PageKey, bool)>,
    /// When the upstream was asked.
    pub(super) asked: Option<Instant>,
    /// When it answered.
    pub(super) answered: Option<Instant>,
    /// How often an upstream could not be reached.
    pub(super) failed_connects: usize,
    /// Identifies the request in our log and the origin's.
    pub(super) id: RequestId,
    /// What the connection's stream has seen of the request, where it looks.
    pub(super) raw: Option<RawRequest>,
    /// The origin is asked over a connection of its own, on which odd heads are read.
    pub(super) bridged: bool,
    /// The connection to the origin that a page's request is on.
    pub(super) origin: OriginConnection,
    /// What has come of the answer and the visitor has not read.
    pub(super) unread: Option<Box<Held>>,
    /// Names a request that was refused before it had a site.
    pub(super) refused: Option<&'static str>,
    /// A copy made in the background to renew a cached file: nobody waits for it.
    pub(super) background: bool,
    logged: bool,
}

/// 16 hex digits.
pub(super) type RequestId = [u8; 16];

/// Random, so that no two nodes and no two processes give the same.
pub(super) fn request_id() -> RequestId {
    let mut id = RequestId::default();
    let bytes = uuid::Uuid::new_v4().into_bytes();
    for (digits, byte) in id.chunks_exact_mut(2).zip(bytes) {
        for (digit, half) in digits.iter_mut().zip([byte >> 4, byte & 15]) {
            *digit = if half < 10 { b'0' + half } else { b'a' + half - 10 };
        }
    }
    id
}

/// What serves a request.
pub(super) enum Way {
    /// We do.
    Here,
    /// The cache, or the vendor's CDN.
    Asset(Box<AssetWay>),
    /// The origin.
    Page(Box<Page>),
}

/// A file of the SDK on its way.
pub(super) struct AssetWay {
    pub(super) file: SdkFile,
    /// The host that it leads browsers to.
    pub(super) host: FileHost,
    /// The codings that the client gets.
    pub(super) codings: Codings,
    /// The coding that the CDN has sent.
    pub(super) from_cdn: Coding,
    /// What has come of it from the CDN.
    pub(super) collected: Vec<u8>,
    /// Room for the fetch, until the file has come.
    pub(super) fetching: Option<Fetching>,
    /// The CDN's answer is to be rewritten.
    pub(super) rewrite: bool,
    /// What stands before it for this visitor, and the cookies that keep who that is.
    pub(super) lead: Option<Lead>,
    /// What has come of the stored file, where the visitor's is made of it.
    pub(super) held: Vec<u8>,
}

/// What a visitor gets in front of the SDK.
pub(super) struct Lead {
    pub(super) script: String,
    pub(super) cookies: Vec<String>,
}

/// A page on its way: all that was decided, before the origin was asked.
#[derive(Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Page {
    /// In which form it is asked for.
    pub(super) form: Form,
    /// It is a framework's data of a page: `path` is the page's.
    pub(super) data: Option<Data>,
    /// It only reads.
    pub(super) safe: bool,
    /// Its path, normalised, where there are rules about it.
    pub(super) path: Box<str>,
    /// The rules about it.
    pub(super) concerned: Concerned,
    /// Who asks. Decided before the origin is asked, where anything depends on it; else when its answer does.
    pub(super) who: Option<Who>,
    /// How far it counts who that is, once the page has been decided.
    pub(super) known: Confirmed,
    /// It is known what there is of the visitor, if anything.
    pub(super) is_known: bool,
    /// What the site's check says of the visitor, where cookies say something else.
    pub(super) verdict: Option<Said>,
    /// What the origin has said of the visitor with an answer that was not the last: the page that was chosen had
    /// moved, or failed.
    pub(super) said: Option<Said>,
    /// Cookies of such an answer.
    pub(super) brought: Vec<HeaderValue>,
    /// What the request brings of earlier pages.
    pub(super) given: Option<Box<Given>>,
    /// What was decided, where there was something to decide.
    pub(super) decision: Option<Box<Decision>>,
    /// Where the page that was chosen has moved to, with its query: it is asked for there, once.
    pub(super) followed: Option<Box<str>>,
    /// The page that was chosen has failed: this is the one that everybody gets.
    pub(super) fell_back: bool,
    /// Why the page is as it is, for those who may know.
    pub(super) explained: Option<String>,
    /// What became of personalisation.
    pub(super) outcome: Option<Personalization>,
    /// The edge tells that it was seen, and not the browser.
    pub(super) tells_view: bool,
    /// Who has seen it, once that is certain.
    pub(super) view: Option<Box<View>>,
    /// Variants that the visitor sees, once that is certain.
    pub(super) sights: Option<Box<Sights>>,
    /// It was decided with a profile older than it should be.
    pub(super) stale: bool,
}

impl Page {
    /// What the visitor allows, as far as it was asked.
    pub(super) fn consent(&self) -> Consent {
        self.who.as_ref().map(|who| who.consent).unwrap_or_default()
    }

    /// The page that was chosen for the visitor.
    pub(super) fn target(&self) -> Option<&Target> {
        self.decision.as_ref().filter(|_| !self.fell_back)?.target.as_ref()
    }

    /// Which of the site's other origins has it.
    pub(super) fn other_origin(&self) -> Option<usize> {
        match self.target() {
            Some(Target::Other { origin, .. }) => *origin,
            _ => None,
        }
    }

    /// Whether who asks may have a say in the answer, whatever became of it this time.
    pub(super) fn may_be_personal(&self, site: &Site) -> bool {
        self.concerned.varies
            || self.concerned.changes
            || !site.consent.is_empty()
            || site.identity.server_side_cookies
            || !site.rules.cookies.is_empty()
    }

    /// Whether HTML is changed in the form that it is asked for: where nothing else is known of the request, only
    /// because rules are about it.
    pub(super) fn is_changed(&self) -> bool {
        self.form.is_document() || self.is_edited()
    }

    /// Whether its elements are changed.
    pub(super) fn is_edited(&self) -> bool {
        self.form.can_change()
            && self.decision.as_ref().is_some_and(|decision| !decision.edits.is_empty())
    }

    /// Whether the page that everybody gets can stand in for the one that was chosen.
    pub(super) fn can_fall_back(&self) -> bool {
        // What has a body, or changes something, is not asked twice.
        self.safe && matches!(self.target(), Some(Target::Other { fallback: true, .. }))
    }

    /// Gives the page that was chosen up for the one that everybody gets, once. `false` where that is what
    /// failed.
    pub(super) fn fall_back(&mut self) -> bool {
        let falls = self.can_fall_back();
        if falls {
            self.fell_back = true;
        }
        falls
    }
}

impl Context {
    pub(super) fn new(snapshot: Arc<Snapshot>) -> Self {
        IN_FLIGHT.inc();
        Self {
            started: Instant::now(),
            added: Duration::ZERO,
            snapshot,
            site: None,
            client: Client::default(),
            authority: Authority::default(),
            route: RouteName::Other,
            way: Way::Here,
            body: Body::default(),
            known_by: None,
            asked: None,
            answered: None,
            failed_connects: 0,
            id: RequestId::default(),
            raw: None,
            bridged: false,
            origin: OriginConnection::default(),
            unread: None,
            refused: None,
            background: false,
            logged: false,
        }
    }

    /// Everything that is counted has been counted.
    pub(super) fn finish(&mut self) {
        self.logged = true;
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        IN_FLIGHT.dec();
        // A panic in a hook ends the request without the hook that counts.
        if !self.logged && std::thread::panicking() {
            PANICS.with_label_values(&[Feature::Request.label()]).inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_small() {
        assert!(size_of::<Context>() <= 352, "{}", size_of::<Context>());
    }
}
