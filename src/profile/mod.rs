//! What is known about visitors.
//! In: keys and updates. Out: profiles, within a deadline. Knows nothing of HTTP.

mod key;
pub mod line;
mod memory;
mod model;
mod packed;
mod resolver;
pub mod source;
pub mod store;
mod webhook;
mod whose;

use std::time::{SystemTime, UNIX_EPOCH};

pub use key::{IdType, KeyError, MAX_TYPE_BYTES, ProfileKey};
pub use memory::{Entry, Lifetimes, Memory, State};
pub use model::{
    Assignment, MAX_NAME_BYTES, MAX_PROFILE_BYTES, MAX_TRAITS, Profile, Pulled, TooMuch, Trait,
    Update,
};
pub(crate) use packed::Seen;
pub use resolver::{Found, Lookup, Resolver, Source};
pub use webhook::{Push, Refused, Signature, documents, read as read_webhook};
pub use whose::{Reach, Whose, written_by};

/// Milliseconds since 1970: the time that updates are ordered by.
#[must_use]
pub fn now_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
