//! How fast a vendor is asked: backing off with jitter when it fails, and for as long as it says.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A vendor that asks for a longer pause is asked again all the same.
pub(super) const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(5);

/// Whether a vendor may be asked.
#[derive(Debug, Default)]
pub(super) struct Pace {
    failures: u32,
    until: Option<Instant>,
}

impl Pace {
    /// It answered as it should.
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// It failed, and asked for a pause of `told`, or for none. Calls that were under way at the
    /// same time fail together: that counts once.
    pub(super) fn failed(&mut self, told: Option<Duration>) {
        let now = Instant::now();
        if self.until.is_some_and(|until| until > now) && told.is_none() {
            return;
        }
        let backoff = Self::backoff(self.failures);
        self.failures += 1;
        let pause = told.map_or(backoff, |told| told.min(LONGEST_RETRY_AFTER));
        self.until = Some(self.until.map_or(now + pause, |until| until.max(now + pause)));
    }

    /// The pause after so many failures before.
    pub(super) fn backoff(failures: u32) -> Duration {
        jittered((FIRST_PAUSE * 2_u32.pow(failures.min(10))).min(LONGEST_PAUSE))
    }

    /// How often it has failed since it last answered as it should.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// The last call failed: one at a time finds out whether it is over.
    pub(super) fn is_broken(&self) -> bool {
        self.until.is_some()
    }

    /// When it may be asked again, where that is not now.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until.filter(|until| *until > Instant::now())
    }
}

/// Between half and all of `pause`, so that nodes that failed together don't return together.
fn jittered(pause: Duration) -> Duration {
    let [random, ..] = *uuid::Uuid::new_v4().as_bytes();
    pause / 2 + pause * u32::from(random) / 510
}

/// `Retry-After` (RFC 9110, 10.2.3): seconds or a date.
pub(super) fn retry_after(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    httpdate::parse_http_date(value).ok()?.duration_since(SystemTime::now()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_in_both_forms() {
        assert_eq!(retry_after("7"), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("soon"), None);
        let date = SystemTime::now() + Duration::from_secs(100);
        let read = retry_after(&httpdate::fmt_http_date(date)).unwrap();
        assert!((95..=100).contains(&read.as_secs()));
        for _ in 0..100 {
            let pause = jittered(Duration::from_secs(2));
            assert!((Duration::from_secs(1)..=Duration::from_secs(2)).contains(&pause));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_hold_and_end() {
        let mut pace = Pace::default();
        let mut last = Duration::ZERO;
        for round in 0..12 {
            pace.failed(None);
            let until = pace.until().unwrap();
            // Others that were under way change nothing.
            pace.failed(None);
            assert_eq!(pace.until(), Some(until));
            let pause = until - Instant::now();
            assert!(pause >= last / 2 && pause <= LONGEST_PAUSE, "{round}: {pause:?}");
            last = pause;
            tokio::time::sleep_until(until).await;
            assert!(pace.until().is_none() && pace.is_broken());
        }
        assert!(last >= LONGEST_PAUSE / 2);
        pace.failed(Some(Duration::from_hours(5)));
        assert_eq!(pace.until().unwrap() - Instant::now(), LONGEST_RETRY_AFTER);
        pace.succeeded();
        assert!(!pace.is_broken());
    }
}
