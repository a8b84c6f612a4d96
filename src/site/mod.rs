//! One web site, compiled from its configuration: everything that a request can ask of it is ready.

mod breaker;
mod confirm;
mod hosts;
mod path;
mod prefix;
mod route;
mod sdk_paths;

pub use breaker::{Asking, Breaker};
pub use confirm::{IdentityCheck, UserHash};
pub use hosts::{HostPattern, HostPatternError, Hosts};
pub use path::normal_path;
pub use prefix::{PrefixError, RoutePrefix};
pub use route::Route;
pub use sdk_paths::{SdkPathError, SdkPaths};

use std::sync::Arc;

use crate::collect::Lane;
use crate::config::Secret;
use crate::decide::{ConsentRules, Expression, RoutePattern, Rules};
use crate::identity::{IdentityPolicy, SigningKeys};
use crate::profile::Signature;
use crate::profile::source::ProfileSource;
use crate::telemetry::SiteMetrics;
use crate::upstream::Upstream;
use crate::vendor::{Generic, SdkFile, Snippet, Vendor, WriteKey};

/// One site.
pub struct Site {
    /// Name in metrics and logs.
    pub name: Box<str>,
    /// Tells it from the same site as it was configured before: what is made by its configuration, and kept, has this
    /// in its key.
    pub edition: Box<str>,
    /// Path below which our own routes live.
    pub prefix: RoutePrefix,
    /// The site's own server. `None` where the edge has a host of its own beside the site's.
    pub origin: Option<Arc<Upstream>>,
    /// Host header for the origin; `None` for the visitor's own.
    pub origin_host: Option<Box<str>>,
    /// Headers by which clients say who they are that the origin gets all the same, in lower case.
    pub client_headers: Vec<http::HeaderName>,
    /// Other servers that have pages for some visitors.
    pub other_origins: Vec<Arc<Upstream>>,
    /// Segment, where the site uses it.
    pub segment: Option<Sdk>,
    /// RudderStack, where the site uses it.
    pub rudderstack: Option<Sdk>,
    /// Other vendors, by their rules.
    pub generic: Vec<Generic>,
    /// Who may push profiles.
    pub webhook: Option<WebhookLogin>,
    /// Where profiles come from that no store has.
    pub source: Option<Arc<dyn ProfileSource>>,
    /// Other origins whose pages may use our routes, such as `https://other.example`.
    pub cors: Vec<Box<str>>,
    /// Of the site's domain only pages of its own hosts may.
    pub cors_own_hosts: bool,
    /// The hosts that the site is asked for by.
    pub hosts: Vec<HostPattern>,
    /// What stands before the SDK, where the edge does not see the pages.
    pub leads: Leads,
    /// The snippet; `None` where pages stay without.
    pub snippet: Option<Snippet>,
    /// Path of the script that keeps changes of pages.
    pub keep_path: Box<str>,
    /// What the vendor may know of a visitor beside the event.
    pub enrich: Enrich,
    /// What visitors allow.
    pub consent: ConsentRules,
    /// True of requests that no person makes.
    pub bots: Option<Expression>,
    /// True of pages of which the edge tells that they were seen, and not the browser.
    pub edge_page_views: Option<Expression>,
    /// Pages that are changed even where a script fetches them and says nothing of what for.
    pub shells: Vec<RoutePattern>,
    /// How identity is kept.
    pub identity: IdentityPolicy,
    /// What signs user ids and preview links.
    pub signing_keys: SigningKeys,
    /// What the site's own pages sign an `identify` with.
    pub user_hash: Option<UserHash>,
    /// Who a session of the site's own belongs to.
    pub check: Option<IdentityCheck>,
    /// What visitors see.
    pub rules: Rules,
    /// What the vendor is told of experiments.
    pub exposures: Exposures,
    /// The site's counters.
    pub metrics: Arc<SiteMetrics>,
}

/// A vendor that a site uses.
pub struct Sdk {
    /// The source's write key.
    pub write_key: WriteKey,
    /// Hide the write key from browsers.
    pub redact: bool,
    /// Where it is beside the prefix.
    pub paths: SdkPaths,
    /// Where the SDK's files come from.
    pub cdn: Arc<Upstream>,
    /// Where its configuration comes from, where that is elsewhere.
    pub config_api: Option<Arc<Upstream>>,
    /// Room for fetches of these, at one time.
    pub fetches: Arc<tokio::sync::Semaphore>,
    /// The way of the site's events.
    pub lane: Arc<Lane>,
}

/// What stands before each vendor's SDK.
pub struct Leads {
    /// Segment's.
    pub segment: Snippet,
    /// RudderStack's.
    pub rudderstack: Snippet,
}

impl Sdk {
    /// Most files of one SDK that are fetched at one time.
    pub const FETCHES_AT_ONCE: usize = 16;

    /// Where `file` comes from.
    #[must_use]
    pub fn source(&self, file: &SdkFile) -> &Arc<Upstream> {
        self.config_api.as_ref().filter(|_| file.is_configuration()).unwrap_or(&self.cdn)
    }
}

impl Site {
    /// What the site has of `vendor`.
    #[must_use]
    pub fn sdk(&self, vendor: Vendor) -> Option<&Sdk> {
        match vendor {
            Vendor::Segment => self.segment.as_ref(),
            Vendor::RudderStack => self.rudderstack.as_ref(),
        }
    }

    /// What stands before the SDK of `vendor`.
    #[must_use]
    pub fn lead(&self, vendor: Vendor) -> &Snippet {
        match vendor {
            Vendor::Segment => &self.leads.segment,
            Vendor::RudderStack => &self.leads.rudderstack,
        }
    }

    /// Whether a page of it may be another one where a browser shows it than where a script fetches it.
    #[must_use]
    pub fn has_pages_of_its_own(&self) -> bool {
        self.snippet.is_some() || self.rules.has_pages()
    }

    /// Whether `host` (without port, lower case) is one of the site's own.
    #[must_use]
    pub fn has_host(&self, host: &str) -> bool {
        self.hosts.iter().any(|pattern| pattern.matches(host))
    }

    /// The vendors that the site uses.
    pub fn sdks(&self) -> impl Iterator<Item = (Vendor, &Sdk)> {
        Vendor::ALL.into_iter().filter_map(|vendor| Some((vendor, self.sdk(vendor)?)))
    }
}

/// What the vendor is told of who saw which variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposures {
    /// An event `Experiment Viewed`.
    Track,
    /// A trait of the visitor.
    Identify,
    /// Nothing.
    None,
}

/// What an event says beside what the page has said.
#[derive(Debug)]
pub struct Enrich {
    /// How much of the visitor's address.
    pub ip: IpDetail,
    /// Traits of the profile.
    pub profile: Vec<Box<str>>,
}

/// How much of an address a vendor may know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpDetail {
    /// All.
    Full,
    /// Without what names one household.
    Anonymised,
    /// Nothing.
    None,
}

/// Credentials of the profile webhook. Those that are set are needed, all of them.
#[derive(Debug)]
pub struct WebhookLogin {
    /// Basic authentication.
    pub basic: Option<BasicLogin>,
    /// Signatures of bodies.
    pub signature: Option<Signature>,
}

/// User name and password of Basic authentication.
#[derive(Debug)]
pub struct BasicLogin {
    /// User name.
    pub username: Secret,
    /// Password.
    pub password: Secret,
}

impl WebhookLogin {
    /// Whether an Authorization header (RFC 7617) has these credentials, where any are set. Takes the same time
    /// whichever part is wrong.
    #[must_use]
    pub fn admits(&self, authorization: Option<&[u8]>) -> bool {
        use base64::Engine;
        let Some(basic) = &self.basic else { return true };
        let given = authorization
            .and_then(|value| value.split_at_checked(6))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"basic "))
            .and_then(|(_, rest)| {
                base64::engine::general_purpose::STANDARD.decode(rest.trim_ascii()).ok()
            })
            .unwrap_or_default();
        let colon = memchr::memchr(b':', &given).unwrap_or(given.len());
        let (user, password) = given.split_at(colon);
        let user = basic.username.matches(user);
        let password = basic.password.matches(password.get(1..).unwrap_or_default());
        user & password
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_credentials_are_admitted() {
        use base64::Engine;
        let login = WebhookLogin {
            basic: Some(BasicLogin { username: Secret::new("u"), password: Secret::new("p:1") }),
            signature: None,
        };
        let basic = |text: &str| {
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
        };
        for wrong in [
            "",
            "Basic",
            "Basic ",
            "Basic !!",
            "Bearer dTpwOjE=",
            &basic("u"),
            &basic("u:p"),
            &basic(":"),
            &basic("x:p:1"),
        ] {
            assert!(!login.admits(Some(wrong.as_bytes())), "{wrong}");
        }
        assert!(!login.admits(None));
        assert!(login.admits(Some(basic("u:p:1").as_bytes())));
        assert!(login.admits(Some(basic("u:p:1").replace("Basic", "bASIC").as_bytes())));
    }
}
