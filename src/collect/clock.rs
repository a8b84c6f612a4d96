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

/// When what a browser says happened at `timestamp`, and sends at `sent_at`, was made: milliseconds since 1970 by our
/// clock, however wrong the browser's is. `None` where either can't be read.
#[must_use]
pub fn made_at(timestamp: &str, sent_at: &str, now: SystemTime) -> Option<i64> {
    let read = |text: &str| humantime::parse_rfc3339_weak(text).ok();
    let (said, sent) = (read(timestamp)?, read(sent_at)?);
    // What is said to be made after it was sent was made just now.
    let age = sent.duration_since(said).unwrap_or_default();
    let since = now.checked_sub(age)?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_events_age_needs_no_clock_that_is_right() {
        let now = humantime::parse_rfc3339_weak("2026-11-21T12:00:00Z").unwrap();
        let noon = 1_795_262_400_000;
        for (timestamp, sent, made) in [
            ("2026-11-21T11:59:58.500Z", "2026-11-21T12:00:00.000Z", Some(noon - 1500)),
            ("1999-01-01T00:00:00.000Z", "1999-01-01T00:00:02.000Z", Some(noon - 2000)),
            ("2026-11-21T12:00:04.000Z", "2026-11-21T12:00:00.000Z", Some(noon)),
            ("0001-01-01T00:00:00Z", "2026-11-21T12:00:00.000Z", None),
            ("soon", "2026-11-21T12:00:00.000Z", None),
            ("2026-11-21T12:00:00.000Z", "", None),
        ] {
            assert_eq!(made_at(timestamp, sent, now), made, "{timestamp} {sent}");
        }
    }

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
