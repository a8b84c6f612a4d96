//! A panic costs one step of one request, is counted and named.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::metrics::PANICS;
use super::outcome::Feature;

/// Runs `step`; a panic in it is counted under `feature` and gives `None`.
///
/// What `step` has changed half-way is the caller's to throw away.
pub fn guard<T>(feature: Feature, step: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(step)) {
        Ok(done) => Some(done),
        Err(_) => {
            PANICS.with_label_values(&[feature.label()]).inc();
            tracing::error!(feature = feature.label(), "a step panicked and was left out");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_counted_and_costs_the_step_alone() {
        let before = PANICS.with_label_values(&["asset"]).get();
        assert_eq!(guard(Feature::Asset, || panic!("boom")), None::<()>);
        assert_eq!(guard(Feature::Asset, || 1), Some(1));
        assert_eq!(PANICS.with_label_values(&["asset"]).get(), before + 1);
    }
}
