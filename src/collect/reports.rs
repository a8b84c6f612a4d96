//! What SDKs report about themselves: counters that go together in few calls. Nobody misses one: they are kept in
//! memory alone, tried once, and never stand before an event.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::value::RawValue;

/// Where they go, below the API's base.
pub(super) const PATH: &str = "/m";
/// A call of them is sent that often at most.
pub(super) const EVERY: Duration = Duration::from_secs(5);
/// Most bytes of one call, which is all that waits.
const MAX_BYTES: usize = 31 * 1024;

/// Those of one lane that wait.
#[derive(Debug, Default)]
pub struct Reports(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    series: Vec<Box<RawValue>>,
    bytes: usize,
}

impl Reports {
    /// Adds `series`, as far as there is room. Tells how many had none.
    pub fn add(&self, series: Vec<Box<RawValue>>) -> usize {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left_out = 0;
        for one in series {
            let bytes = waiting.bytes + one.get().len() + 1;
            if bytes > MAX_BYTES {
                left_out += 1;
                continue;
            }
            waiting.bytes = bytes;
            waiting.series.push(one);
        }
        left_out
    }

    /// All that wait, in one body.
    pub(super) fn take(&self) -> Option<Vec<u8>> {
        let waiting = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if waiting.series.is_empty() {
            return None;
        }
        serde_json::to_vec(&BTreeMap::from([("series", waiting.series)])).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_go_together_and_take_no_room_without_bound() {
        let reports = Reports::default();
        assert!(reports.take().is_none());
        let one = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        assert_eq!(reports.add(vec![one("{\"a\":1.50}"), one("2")]), 0);
        assert_eq!(reports.add(vec![one("[]")]), 0);
        assert_eq!(reports.take().unwrap(), br#"{"series":[{"a":1.50},2,[]]}"#);
        assert!(reports.take().is_none());
        let large = format!("\"{}\"", "x".repeat(1000));
        let left_out: usize = (0..1000).map(|_| reports.add(vec![one(&large)])).sum();
        assert!(left_out > 960, "{left_out}");
        assert!(reports.take().unwrap().len() <= 32 * 1024);
    }
}
