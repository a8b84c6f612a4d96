//! The log of requests: one JSON object a line on standard output. All that were not answered
//! 2xx or 304, and a sample of the rest. No ids, traits, cookies, queries or bodies.

use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

use super::lines::Lines;
use super::metrics::LOG_LINES_LOST;

/// One answered request.
#[derive(Serialize)]
pub struct Record<'r> {
    /// RFC 3339.
    pub time: String,
    /// Site, `-` when none was found.
    pub site: &'r str,
    /// Route.
    pub route: &'static str,
    /// Method.
    pub method: &'r str,
    /// Path without query.
    pub path: &'r str,
    /// Status; 0 when nothing could be answered.
    pub status: u16,
    /// Time in milliseconds.
    pub ms: f64,
    /// Bytes of the answer's body.
    pub bytes: usize,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// Identifies the request in the origin's log: `X-Request-Id`.
    pub request: &'r str,
    /// What became of the page's personalisation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub personalization: Option<&'static str>,
    /// It was made with a profile older than it should be, because the store can't be asked.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stale_profile: bool,
    /// What failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Decides what is logged, and hands lines to a thread that writes them.
pub struct AccessLog {
    /// Every how many good answers one is logged; 0 for none.
    every: u64,
    counted: AtomicU64,
}

impl AccessLog {
    /// Logs `sample` (0 to 1) of the good answers.
    #[must_use]
    pub fn new(sample: f64) -> Self {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "1 over a share that the configuration bounds to 0 to 1"
        )]
        let every = if sample <= 0.0 { 0 } else { (1.0 / sample).round().max(1.0) as u64 };
        Self { every, counted: AtomicU64::new(0) }
    }

    /// Whether an answer with `status` is to be logged.
    #[must_use]
    pub fn wants(&self, status: u16) -> bool {
        if !(200..300).contains(&status) && status != 304 {
            return true;
        }
        self.every > 0 && self.counted.fetch_add(1, Ordering::Relaxed).is_multiple_of(self.every)
    }

    /// Writes `record`, without waiting.
    pub fn write(record: &Record<'_>) {
        let Ok(mut line) = serde_json::to_vec(record) else { return };
        line.push(b'\n');
        lines().write(line);
    }
}

fn lines() -> &'static Lines {
    LINES.get_or_init(|| {
        Lines::to("access-log", std::io::stdout(), LOG_LINES_LOST.with_label_values(&["access"]))
    })
}

static LINES: OnceLock<Lines> = OnceLock::new();

/// Lets what has been logged leave.
pub(super) fn settle(most: Duration) {
    if let Some(lines) = LINES.get() {
        lines.settle(most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_failures_and_a_sample_are_wanted() {
        let log = AccessLog::new(0.25);
        assert!((0..100).all(|_| log.wants(404) && log.wants(301)));
        assert_eq!((0..100).filter(|_| log.wants(304)).count(), 25);
        assert_eq!((0..100).filter(|_| log.wants(200)).count(), 25);
        assert!(!AccessLog::new(0.0).wants(200) && AccessLog::new(1.0).wants(200));
    }
}
