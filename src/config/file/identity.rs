//! What the file says of visitors' ids and their cookies.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::secret::Secret;
use crate::config::units::Duration;

/// Visitors' ids and their cookies.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Identity {
    /// Keep ids in HttpOnly cookies. Off: cookies are left as the SDK and the origin set them.
    pub server_side_cookies: bool,
    /// Give a new visitor an anonymous id on the first page.
    pub mint_anonymous_id: bool,
    /// A user id counts for what a page shows only where the edge has signed it: the origin has said who it
    /// is (`X-Doorstep-User`), a check has, or an `identify` with the right `user_hash`. Needs
    /// `signing_keys`.
    pub signed: bool,
    /// How long the edge's signature counts: then the user has to be vouched for again. At most a year. Where there
    /// is a `check`, that decides, and no signature is given.
    pub signed_for: Duration,
    /// Secret of `context.user_hash` in an `identify`: the HMAC-SHA256 of the user id, in hex.
    pub user_hash_secret: Option<Secret>,
    /// File that holds that secret and nothing else.
    pub user_hash_secret_file: Option<String>,
    /// Who a session of the site's own belongs to.
    pub check: Option<IdentityCheck>,
    /// Domain of the cookies: `auto` for the registrable domain of the host (public suffix list),
    /// `host` for this host alone, or a domain.
    pub domain: String,
    /// Their other attributes.
    pub cookies: Cookies,
    /// First-party cookies of others that are set again with each page, so that Safari, which lets a script's live
    /// for seven days, keeps them. At most 16.
    pub prolong: Vec<Prolonged>,
}

/// Attributes of the cookies that the edge sets.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cookies {
    /// Whether browsers send them from frames on other sites' pages.
    pub same_site: SameSite,
    /// The cookies of one framing page are not those of another (CHIPS).
    pub partitioned: bool,
    /// When they are `Secure`.
    pub secure: Secure,
    /// How long ids live from the last page on: `1h` to `400d`, the most that browsers allow.
    pub lives_for: Duration,
}

impl Default for Cookies {
    fn default() -> Self {
        Self {
            same_site: SameSite::Lax,
            partitioned: false,
            secure: Secure::Auto,
            lives_for: Duration::secs(365 * 24 * 3600),
        }
    }
}

/// Whether browsers send a cookie from frames on other sites' pages. There is no `strict`: browsers keep such a cookie
/// from the first page of whoever follows a link, who would be a newcomer each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SameSite {
    /// They don't.
    Lax,
    /// They do, over https.
    None,
}

/// When cookies are `Secure`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Secure {
    /// Where the visitor's connection is known to be.
    Auto,
    /// Always.
    Always,
}

/// A cookie that a script of the page sets, and the server sets again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Prolonged {
    /// Its name.
    pub name: String,
    /// How long it lives from the last page on: `1h` to `400d`.
    #[serde(default = "default_prolonged")]
    pub lives_for: Duration,
    /// Closes it to scripts.
    #[serde(default)]
    pub http_only: bool,
    /// Also of visitors whose consent is `limited` or `denied`: for the cookie that holds their choice.
    #[serde(default)]
    pub always: bool,
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            server_side_cookies: true,
            mint_anonymous_id: true,
            signed: false,
            signed_for: Duration::secs(30 * 24 * 3600),
            user_hash_secret: None,
            user_hash_secret_file: None,
            check: None,
            domain: "auto".into(),
            cookies: Cookies::default(),
            prolong: Vec::new(),
        }
    }
}

/// A URL of the site's own that tells who a session belongs to: it gets the session's cookie, and answers
/// 200 with `{"user_id": "…"}`; anything else means nobody.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentityCheck {
    /// The URL.
    #[schemars(extend("x-show" = "url"))]
    pub url: String,
    /// The session's cookie: without it nobody is asked for.
    pub cookie: String,
    /// How long an answer is believed.
    #[serde(default = "default_check_fresh")]
    pub fresh_for: Duration,
    /// The most that a page waits for it.
    #[serde(default = "default_check_timeout")]
    pub timeout: Duration,
}

fn default_check_fresh() -> Duration {
    Duration::secs(60)
}
fn default_check_timeout() -> Duration {
    Duration::millis(200)
}
fn default_prolonged() -> Duration {
    Duration::secs(400 * 24 * 3600)
}
