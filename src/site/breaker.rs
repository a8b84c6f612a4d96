//! Keeps pages from waiting one by one for something that does not answer.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use smallvec::SmallVec;

/// Passes questions as long as they are answered. It opens, and passes none, after several failures in a row
/// of different askers, so that none of them can open it alone; then one question at a time finds out whether
/// answers have come back.
#[derive(Debug)]
pub struct Breaker {
    state: Mutex<State>,
    asking: AtomicUsize,
    pause: Duration,
}

#[derive(Debug)]
enum State {
    /// Answers come. Who has failed since the last one.
    Closed(SmallVec<[u128; FAILURES]>),
    /// No answers come: nobody is asked before.
    Open(Instant),
    /// One question is under way.
    Probing,
}

/// A question that has been passed.
#[derive(Debug)]
pub struct Asking<'b> {
    breaker: &'b Breaker,
    ended: bool,
}

/// Different askers in a row that open it.
const FAILURES: usize = 5;
/// Most questions at one time: more would only wait for the same server.
const MOST: usize = 256;

impl Breaker {
    /// Closed. It stays open for `pause` each time.
    #[must_use]
    pub fn new(pause: Duration) -> Self {
        let state = Mutex::new(State::Closed(SmallVec::new()));
        Self { state, asking: AtomicUsize::new(0), pause }
    }

    /// How long it stays open.
    #[must_use]
    pub fn pause(&self) -> Duration {
        self.pause
    }

    /// Lets a question pass. `None` where it has to be left.
    pub fn enter(&self) -> Option<Asking<'_>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &*state {
            State::Closed(_) => {}
            State::Open(until) if Instant::now() >= *until => *state = State::Probing,
            State::Open(_) | State::Probing => return None,
        }
        if self.asking.fetch_add(1, Ordering::Relaxed) >= MOST {
            self.asking.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Asking { breaker: self, ended: false })
    }

    fn settle(&self, asker: u128, answered: bool) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let open = State::Open(Instant::now() + self.pause);
        match &mut *state {
            _ if answered => *state = State::Closed(SmallVec::new()),
            State::Closed(failed) => {
                if !failed.contains(&asker) {
                    failed.push(asker);
                }
                if failed.len() < FAILURES {
                    return false;
                }
                *state = open;
                return true;
            }
            State::Probing => *state = open,
            State::Open(_) => {}
        }
        false
    }
}

impl Asking<'_> {
    /// The question of `asker` has been answered, or not. `true` where it was the one that opened the breaker.
    #[must_use]
    pub fn ended(mut self, asker: u128, answered: bool) -> bool {
        self.ended = true;
        self.breaker.settle(asker, answered)
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.breaker.asking.fetch_sub(1, Ordering::Relaxed);
        if self.ended {
            return;
        }
        // Nobody waited for the answer: the next one finds out.
        let mut state = self.breaker.state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Probing) {
            *state = State::Open(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_asker_opens_nothing_and_several_do() {
        let breaker = Breaker::new(Duration::ZERO);
        for _ in 0..100 {
            assert!(!breaker.enter().unwrap().ended(1, false));
        }
        for asker in 2..FAILURES as u128 {
            assert!(!breaker.enter().unwrap().ended(asker, false));
        }
        assert!(breaker.enter().unwrap().ended(99, false), "that one opens it");
        // The pause is over at once: one question finds out, and no second one beside it.
        let probe = breaker.enter().unwrap();
        assert!(breaker.enter().is_none());
        drop(probe);
        let probe = breaker.enter().unwrap();
        assert!(!probe.ended(3, false));
        assert!(!breaker.enter().unwrap().ended(3, true), "closed again");
        for asker in 0..FAILURES as u128 - 1 {
            assert!(!breaker.enter().unwrap().ended(asker, false));
        }
        assert!(breaker.enter().is_some(), "an answer forgives what was before");
    }

    #[test]
    fn an_open_one_passes_nothing() {
        let breaker = Breaker::new(Duration::from_hours(1));
        let passed: Vec<bool> = (0..8)
            .map(|asker| breaker.enter().map(|asking| asking.ended(asker, false)).is_some())
            .collect();
        assert_eq!(passed, [true, true, true, true, true, false, false, false]);
    }
}
