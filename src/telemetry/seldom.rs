//! A fault that lasts is said at once, and then by the minute.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// When something was said last.
#[derive(Debug, Default)]
pub struct Seldom {
    last: Mutex<Option<Instant>>,
    unsaid: AtomicU64,
}

const PAUSE: Duration = Duration::from_mins(1);

impl Seldom {
    /// Whether it may be said now, and how often it was not since it was said last.
    pub fn may_say(&self) -> Option<u64> {
        self.at(Instant::now())
    }

    fn at(&self, now: Instant) -> Option<u64> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| now.saturating_duration_since(last) < PAUSE) {
            self.unsaid.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        *last = Some(now);
        Some(self.unsaid.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_at_once_and_then_by_the_minute() {
        let (seldom, start) = (Seldom::default(), Instant::now());
        let said: Vec<u64> =
            (0..=150).filter_map(|n| seldom.at(start + Duration::from_secs(n))).collect();
        assert_eq!(said, [0, 59, 59]);
    }
}
