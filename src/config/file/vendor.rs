//! What the file says of a site's vendors.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{ProfilesApi, yes};
use crate::config::secret::Secret;
use crate::config::units::ByteSize;

/// Whose SDK and tracking API: one of them or both.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Vendor {
    /// Twilio Segment.
    #[serde(default)]
    pub segment: Option<Segment>,
    /// RudderStack.
    #[serde(default)]
    pub rudderstack: Option<RudderStack>,
    /// Any other SDK, by rules.
    #[serde(default)]
    pub generic: Vec<Generic>,
}

/// Any other SDK: which paths below the prefix lead where.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Generic {
    /// Name in metrics, logs and files.
    #[schemars(regex(pattern = r"^[a-z0-9_-]{1,32}$"))]
    pub name: String,
    /// Where it is: `https://matomo.shop.example`.
    #[schemars(extend("x-show" = "url"))]
    pub address: String,
    /// Headers of every call, such as a key.
    #[serde(default)]
    pub headers: std::collections::BTreeMap<String, Secret>,
    /// The first rule that matches counts.
    #[schemars(length(min = 1))]
    pub rules: Vec<GenericRule>,
}

/// A path, and where it leads.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GenericRule {
    /// Path below the prefix: `/matomo.js`, or `/plugins/*` for all below.
    #[schemars(regex(pattern = "^/"))]
    pub path: String,
    /// Path at the vendor that takes its place. The query is kept. Default: the same.
    #[serde(default)]
    pub upstream: Option<String>,
    /// Methods that it takes. Default: GET.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Most bytes of a body.
    #[serde(default = "default_generic_body")]
    pub body: ByteSize,
    /// Headers of the browser's that the vendor gets. Never its cookies, unless they are named here.
    #[serde(default)]
    pub forward: Vec<String>,
    /// Keep it and deliver it like an event, answered 204; else the vendor answers the browser.
    #[serde(default)]
    pub spooled: bool,
}

/// A RudderStack source of the kind JavaScript.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RudderStack {
    /// The source's write key. This or `write_key_file`.
    #[serde(default)]
    pub write_key: Option<Secret>,
    /// File that holds the write key and nothing else.
    #[serde(default)]
    pub write_key_file: Option<String>,
    /// Show browsers `REDACTED` in place of the write key; the edge puts the real one in.
    #[serde(default = "yes")]
    pub redact_write_key: bool,
    /// Where events go: the data plane, such as `https://shop.dataplane.rudderstack.com`.
    #[schemars(extend("x-show" = "url"))]
    pub data_plane: String,
    /// Where the SDK comes from.
    #[serde(default = "default_rudder_cdn")]
    #[schemars(extend("x-show" = "url"))]
    pub cdn: String,
    /// Where the source's configuration comes from.
    #[serde(default = "default_rudder_config")]
    #[schemars(extend("x-show" = "url"))]
    pub config_api: String,
}

/// A Segment source of the kind JavaScript.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// The source's write key. This or `write_key_file`.
    #[serde(default)]
    pub write_key: Option<Secret>,
    /// File that holds the write key and nothing else.
    #[serde(default)]
    pub write_key_file: Option<String>,
    /// Show browsers `REDACTED` in place of the write key; the edge puts the real one in.
    #[serde(default = "yes")]
    pub redact_write_key: bool,
    /// Where the SDK comes from.
    #[serde(default = "default_cdn")]
    #[schemars(extend("x-show" = "url"))]
    pub cdn: String,
    /// Where events go. EU: `https://events.eu1.segmentapis.com/v1`.
    #[serde(default = "default_tracking_api")]
    #[schemars(extend("x-show" = "url"))]
    pub tracking_api: String,
    /// Where profiles come from that no store has.
    #[serde(default)]
    pub profiles_api: Option<ProfilesApi>,
    /// Paths of the site that the SDK has beside those below the prefix.
    #[serde(default)]
    pub routes: SegmentRoutes,
}

/// Paths of a site that are its SDK's, and no pages.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SegmentRoutes {
    /// The SDK itself: `/a.js`.
    #[serde(default)]
    pub sdk: Option<String>,
    /// Below this path it sends its events: `/c`.
    #[serde(default)]
    pub events: Option<String>,
}

fn default_generic_body() -> ByteSize {
    ByteSize::kib(64)
}
fn default_rudder_cdn() -> String {
    "https://cdn.rudderlabs.com".into()
}
fn default_rudder_config() -> String {
    "https://api.rudderstack.com".into()
}
fn default_cdn() -> String {
    "https://cdn.segment.com".into()
}
fn default_tracking_api() -> String {
    "https://api.segment.io/v1".into()
}
