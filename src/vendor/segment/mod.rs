//! Twilio Segment: analytics.js (`@segment/analytics-next`) and the HTTP Tracking API.
//! <https://segment.com/docs/connections/sources/catalog/libraries/>

mod asset;
mod path;
mod profiles;

pub use asset::{BadAsset, rewrite};
pub use path::Asset;
pub use profiles::ProfilesApi;

use super::Spec;
use crate::collect::Limits;
use crate::identity::{CookieForm, CookieNames};

/// What the SDK calls its identity cookies.
pub const COOKIES: CookieNames =
    CookieNames { user: "ajs_user_id", anonymous: "ajs_anonymous_id", form: CookieForm::Plain };

/// What is particular to its events.
pub const EVENTS: Spec = Spec { time: "timestamp", marks: true };

/// What one batch of ours may hold (Tracking API's limits).
pub const LIMITS: Limits = Limits { bytes: 500 * 1024 - 1024, events: 2500, added: 0 };

/// The snippet's function.
pub const SNIPPET: &str =
    concat!("(function (edge) {\n", include_str!("identity.js"), include_str!("snippet.js"), "})");

/// What stands before the SDK where the edge does not see the page.
pub const LEAD: &str =
    concat!("(function (edge) {\n", include_str!("identity.js"), include_str!("lead.js"), "})");
