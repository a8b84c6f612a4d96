//! A link as it stands in the LMDB files: which key, since when, who says so, and until when.

use crate::profile::ProfileKey;
use crate::profile::store::{CLAIM_FOR, LinkedBy};

/// First byte of a link, where a profile has its own format.
const LINK: u8 = 0;
/// First byte of a link that only an event says.
const CLAIM: u8 = 255;

/// A link that is to be made.
pub(super) struct Link<'l> {
    pub(super) from: &'l ProfileKey,
    pub(super) to: &'l ProfileKey,
    /// Milliseconds since 1970.
    pub(super) at: i64,
    pub(super) by: LinkedBy,
}

/// A link that there is.
pub(super) struct StoredLink {
    pub(super) to: ProfileKey,
    pub(super) at: i64,
    pub(super) by: LinkedBy,
}

impl Link<'_> {
    /// As it is stored.
    pub(super) fn record(&self, by: LinkedBy) -> Vec<u8> {
        let mut record = vec![match by {
            LinkedBy::Site => LINK,
            LinkedBy::Claim => CLAIM,
        }];
        record.extend_from_slice(&self.at.to_be_bytes());
        record.extend_from_slice(self.to.as_bytes());
        record
    }
}

impl StoredLink {
    /// Reads what [`Link::record`] wrote. `None` for what is no link.
    pub(super) fn read(record: &[u8]) -> Option<Self> {
        let (kind, rest) = record.split_first()?;
        let by = match *kind {
            LINK => LinkedBy::Site,
            CLAIM => LinkedBy::Claim,
            _ => return None,
        };
        let (at, to) = rest.split_first_chunk::<8>()?;
        Some(Self { to: ProfileKey::from_bytes(to)?, at: i64::from_be_bytes(*at), by })
    }

    /// Whether it does not count any more at `now`.
    pub(super) fn is_over(&self, now: i64) -> bool {
        let lives = i64::try_from(CLAIM_FOR.as_millis()).unwrap_or(i64::MAX);
        self.by == LinkedBy::Claim && self.at.saturating_add(lives) < now
    }
}
