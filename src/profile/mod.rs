//! What is known about visitors.
//! In: keys and updates. Out: profiles, within a deadline. Knows nothing of HTTP.

mod key;
mod memory;
mod model;
mod resolver;
pub mod store;
mod webhook;

pub use key::ProfileKey;
pub use memory::{Known, Memory};
pub use model::{MAX_NAME_BYTES, MAX_PROFILE_BYTES, MAX_TRAITS, Profile, TooMuch, Update};
pub use resolver::{Lookup, Resolver};
pub use webhook::{Refused, Subject, read as read_webhook};
