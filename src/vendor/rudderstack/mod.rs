//! RudderStack: its JavaScript SDK (`@rudderstack/analytics-js`), data plane and Activation API.
//! <https://www.rudderstack.com/docs/sources/event-streams/sdks/rudderstack-javascript-sdk/>

mod activation;
mod asset;
mod cookies;

pub use activation::ActivationApi;
pub use asset::{Asset, rewrite};
pub use cookies::{BadRequest, Wanted, wanted};

use super::Spec;
use crate::collect::{Limits, STAMP_BYTES};
use crate::identity::{CookieForm, CookieNames};

/// What the SDK calls its identity cookies.
pub const COOKIES: CookieNames =
    CookieNames { user: "rl_user_id", anonymous: "rl_anonymous_id", form: CookieForm::RudderStack };

/// What is particular to its events.
pub const EVENTS: Spec = Spec { time: "originalTimestamp", marks: false };

/// What one batch of ours may hold.
pub const LIMITS: Limits = Limits { bytes: 500 * 1024 - 1024, events: 1000, added: STAMP_BYTES };

/// The snippet's function.
pub const SNIPPET: &str =
    concat!("(function (edge) {\n", include_str!("identity.js"), include_str!("snippet.js"), "})");

/// What stands before the SDK where the edge does not see the page, on a host of its own below the site's domain: the
/// ids that HttpOnly cookies hide from scripts. The page's own snippet names the edge's host in its load options.
pub const LEAD: &str = concat!("(function (edge) {\n", include_str!("identity.js"), "})");
