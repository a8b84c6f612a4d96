//! What is particular to a vendor: its SDK's paths, its snippet, its payloads, its cookies.
//! A vendor is a folder here. What it needs, so that another one can be added: a file type that reads
//! paths and rewrites files ([`SdkFile`]), a [`Spec`] of its events and the paths that they come by
//! ([`Vendor::event`]), its cookies, and a snippet. Knows nothing of Pingora.

mod event;
mod file;
mod generic;
mod key;
mod own;
pub mod rudderstack;
pub mod segment;
mod snippet;

pub use event::{
    BadEvent, Enriched, Given, Ids, Ip, Kind, KnownProfile, MAX_BATCH_BYTES, MAX_EVENT_BYTES, Spec,
    enrich,
};
pub use file::SdkFile;
pub use generic::{Generic, Rule};
pub use key::{BadWriteKey, REDACTED, WriteKey};
pub use own::Own;
pub use snippet::{Handover, Part, SILENT, Snippet};

pub(crate) use own::replace;

use own::is_safe;

/// A vendor that is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vendor {
    /// Twilio Segment.
    Segment,
    /// RudderStack.
    RudderStack,
}

impl Vendor {
    /// All of them. The first that a site has decides who a visitor is, where their cookies differ.
    pub const ALL: [Self; 2] = [Self::Segment, Self::RudderStack];

    /// Its name in configuration, metrics and files.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Segment => "segment",
            Self::RudderStack => "rudderstack",
        }
    }

    /// What is particular to its events.
    #[must_use]
    pub const fn spec(self) -> &'static Spec {
        match self {
            Self::Segment => &segment::EVENTS,
            Self::RudderStack => &rudderstack::EVENTS,
        }
    }

    /// The event that a path below the prefix takes.
    #[must_use]
    pub fn event(self, path: &str) -> Option<Kind> {
        let path = path.strip_suffix('/').unwrap_or(path);
        match self {
            Self::Segment => ["/evs/", "/events/"]
                .iter()
                .find_map(|family| Kind::parse(path.strip_prefix(family)?)),
            Self::RudderStack => match path.strip_prefix("/v1/") {
                Some(name) if name.len() > 1 => Kind::parse(name),
                _ => (path == "/beacon/v1/batch").then_some(Kind::Batch),
            },
        }
    }
}
