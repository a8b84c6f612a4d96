//! What the page's SDK sends and fetches through the site's own host: events on their way to the
//! vendor. In: an enriched event. Out: its delivery, sooner or later, or a dead letter.
//! Knows nothing of Pingora's sessions.

pub mod clock;
mod dead;
mod delivery;
mod forget;
mod lane;
mod object;
mod outbox;
mod pace;
mod parcel;
mod person;
mod reports;
mod schedule;
pub mod spool;
mod stranded;

pub use dead::{DeadLetter, DeadLetters, Reason};
pub use delivery::{Delivery, Timing};
pub use forget::{forget, lanes};
pub use lane::{Lane, STAMP_BYTES};
pub use object::{Object, is_deeper};
pub use outbox::{FOLDER, Keeping, Outbox};
pub use parcel::{Call, Parcel, Way};
pub use person::Person;
pub use spool::{Durability, Event, Limits, Sender, SpoolError};

/// What clients may ask of the events' route. 0 for no bound.
#[derive(Debug, Clone, Copy)]
pub struct EventLimits {
    /// Requests of one address a second.
    pub per_client: usize,
    /// Bytes of one address a second, as they are kept.
    pub bytes_per_client: usize,
    /// Requests at one time.
    pub at_once: usize,
}
