//! Browsers' clocks, which may be wrong by years.

use std::time::{Duration, SystemTime};

/// A clock is taken for right when it differs by less: on its way an event takes some seconds.
const TOLERANCE: Duration = Duration::from_secs(10);

/// `timestamp` by our clock, where the one that says `sent_at` now is wrong. `None` where it is right
/// or says nothing that can be read (RFC 3339, as `Date.toISOString` writes).
#[must_use]
pub fn corrected(timestamp: &str, sent_at: &str, now: SystemTime) -> Option<String> {
    let read = |text: &str| humantime::parse_rfc3339_weak(text).ok();
    let (said, sent) = (read(timestamp)?, read(sent_at)?);
    let right = match now.duration_since(sent) {
        Ok(behind) if behind > TOLERANCE => said.checked_add(behind)?,
        Err(ahead) if ahead.duration() > TOLERANCE => said.checked_sub(ahead.duration())?,
        _ => return None,
    };
    // The format has no years behind 9999, and the clock said one.
    let last = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(253_402_300_799))?;
    let fits = right >= SystemTime::UNIX_EPOCH && right <= last;
    fits.then(|| humantime::format_rfc3339_millis(right).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_clocks_are_corrected_and_right_ones_left_alone() {
        let now = humantime::parse_rfc3339_weak("2026-11-21T12:00:00Z").unwrap();
        let right = |timestamp: &str, sent: &str| corrected(timestamp, sent, now);
        for (timestamp, sent, expected) in [
            ("2026-11-21T11:59:58.000Z", "2026-11-21T11:59:59.000Z", None),
            ("2026-11-21T12:00:04.000Z", "2026-11-21T12:00:05.000Z", None),
            (
                "2026-11-21T11:00:00.000Z",
                "2026-11-21T11:00:01.000Z",
                Some("2026-11-21T11:59:59.000Z"),
            ),
            (
                "2030-01-01T00:00:00.000Z",
                "2030-01-01T00:00:02.000Z",
                Some("2026-11-21T11:59:58.000Z"),
            ),
            // Sent a day after it happened, by a good clock.
            ("2026-11-20T12:00:00.000Z", "2026-11-21T12:00:00.000Z", None),
            ("soon", "2026-11-21T11:00:01.000Z", None),
            ("2026-11-21T11:00:00.000Z", "", None),
            ("9999-12-31T23:59:59Z", "1970-01-01T00:00:00Z", None),
        ] {
            assert_eq!(right(timestamp, sent).as_deref(), expected, "{timestamp} {sent}");
        }
    }
}
