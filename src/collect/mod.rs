//! What the page's SDK sends and fetches through the site's own host: events on their way to the
//! tracking API. Knows nothing of Pingora's sessions.

mod object;
mod outbox;

pub use object::Object;
pub use outbox::{Full, Lane, Outbox, Parcel};
