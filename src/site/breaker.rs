//! Keeps pages from waiting one by one for something that does not answer.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::shares::Shares;

/// Passes questions as long as they are answered. It opens, and passes none, after several failures in a row
/// of different askers, so that none of them can open it alone; then one question at a time finds out whether
/// answers have come back. An asker is a network, not a visitor: whoever comes from one may have any number of
/// sessions.
#[derive(Debug)]
pub struct Breaker {
    state: Mutex<State>,
    pause: Duration,
}

#[derive(Debug)]
struct State {
    gate: Gate,
    /// Who has failed since the last answer.
    failed: SmallVec<[u128; FAILURES]>,
    /// Questions under way.
    asking: Shares,
}

#[derive(Debug)]
enum Gate {
    /// Answers come.
    Closed,
    /// No answers come: nobody is asked before.
    Open(Instant),
    /// One question is under way.
    Probing,
}

/// A question that has been passed.
#[derive(Debug)]
pub struct Asking<'b> {
    breaker: &'b Breaker,
    asker: u128,
    ended: bool,
}

/// Different askers in a row that open it.
const FAILURES: usize = 5;
/// Most questions at one time: more would only wait for the same server.
const MOST: usize = 256;
/// Most of them of one asker.
const MOST_OF_ONE: usize = 32;

impl Breaker {
    /// Closed. It stays open for `pause` each time.
    #[must_use]
    pub fn new(pause: Duration) -> Self {
        let state =
            State { gate: Gate::Closed, failed: SmallVec::new(), asking: Shares::default() };
        Self { state: Mutex::new(state), pause }
    }

    /// How long it stays open.
    #[must_use]
    pub fn pause(&self) -> Duration {
        self.pause
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a question of `asker` pass. `None` where it has to be left.
    pub fn enter(&self, asker: u128) -> Option<Asking<'_>> {
        let mut state = self.state();
        let mut probing = false;
        match state.gate {
            Gate::Closed => {}
            Gate::Open(until) => {
                // Who has failed finds out only where nobody else comes for as long again.
                let tried = state.failed.contains(&asker);
                let from = if tried { until + self.pause } else { until };
                if Instant::now() < from {
                    return None;
                }
                probing = true;
            }
            Gate::Probing => return None,
        }
        state.asking.take(Some(asker), MOST, MOST_OF_ONE).ok()?;
        if probing {
            state.gate = Gate::Probing;
        }
        Some(Asking { breaker: self, asker, ended: false })
    }

    fn settle(&self, asker: u128, answered: bool) -> bool {
        let mut state = self.state();
        if answered {
            state.gate = Gate::Closed;
            state.failed.clear();
            return false;
        }
        if !state.failed.contains(&asker) {
            if state.failed.len() >= FAILURES {
                state.failed.remove(0);
            }
            state.failed.push(asker);
        }
        let open = Gate::Open(Instant::now() + self.pause);
        match state.gate {
            Gate::Closed if state.failed.len() >= FAILURES => {
                state.gate = open;
                return true;
            }
            Gate::Probing => state.gate = open,
            Gate::Closed | Gate::Open(_) => {}
        }
        false
    }
}

impl Asking<'_> {
    /// The question has been answered, or not. `true` where it was the one that opened the breaker.
    #[must_use]
    pub fn ended(mut self, answered: bool) -> bool {
        self.ended = true;
        self.breaker.settle(self.asker, answered)
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut state = self.breaker.state();
        state.asking.give_back(Some(self.asker));
        // Nobody waited for the answer: the next one finds out.
        if !self.ended && matches!(state.gate, Gate::Probing) {
            state.gate = Gate::Open(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it passes a question of `asker`, which fails.
    fn fails(breaker: &Breaker, asker: u128) -> bool {
        breaker.enter(asker).map(|asking| asking.ended(false)).is_some()
    }

    #[test]
    fn one_asker_opens_nothing_and_several_do() {
        let breaker = Breaker::new(Duration::ZERO);
        for _ in 0..100 {
            assert!(!breaker.enter(1).unwrap().ended(false));
        }
        for asker in 2..FAILURES as u128 {
            assert!(!breaker.enter(asker).unwrap().ended(false));
        }
        assert!(breaker.enter(99).unwrap().ended(false), "that one opens it");
        // The pause is over at once: one question finds out, and no second one beside it.
        let probe = breaker.enter(100).unwrap();
        assert!(breaker.enter(101).is_none());
        drop(probe);
        assert!(!breaker.enter(3).unwrap().ended(false));
        assert!(!breaker.enter(102).unwrap().ended(true), "closed again");
        for asker in 0..FAILURES as u128 - 1 {
            assert!(!breaker.enter(asker).unwrap().ended(false));
        }
        assert!(breaker.enter(5).is_some(), "an answer forgives what was before");
    }

    #[test]
    fn an_open_one_passes_nothing() {
        let breaker = Breaker::new(Duration::from_hours(1));
        let passed: Vec<bool> = (0..8).map(|asker| fails(&breaker, asker)).collect();
        assert_eq!(passed, [true, true, true, true, true, false, false, false]);
    }

    #[test]
    fn who_has_failed_does_not_take_the_next_question() {
        let breaker = Breaker::new(Duration::from_hours(1));
        assert!((0..5).all(|asker| fails(&breaker, asker)));
        // As if the pause were over just now.
        breaker.state().gate = Gate::Open(Instant::now());
        assert!(!fails(&breaker, 0), "it would only fail again");
        assert!(!breaker.enter(7).unwrap().ended(true));
        assert!(fails(&breaker, 0), "all are asked again");
    }

    #[test]
    fn one_asker_has_a_share_of_the_questions() {
        let breaker = Breaker::new(Duration::ZERO);
        let own: Vec<_> = (0..MOST).map_while(|_| breaker.enter(1)).collect();
        assert_eq!(own.len(), MOST_OF_ONE);
        let others: Vec<_> = (2..).map_while(|asker| breaker.enter(asker)).collect();
        assert_eq!(own.len() + others.len(), MOST);
        drop((own, others));
        assert!(breaker.enter(1).is_some() && breaker.state().asking.is_empty());
    }
}
