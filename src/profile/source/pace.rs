//! How fast a source is asked: no more than it takes, and no less because of what one visitor asks for.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pingora_limits::rate::Rate;
use smallvec::SmallVec;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::{Asker, PullError};

/// The pace of one source. It is left alone for a while after failures in a row that different visitors have met, or
/// when it asks for that; then one question finds out whether it answers. One that asked for a pause is asked less
/// at one time from then on, and more with each answer.
pub(super) struct Pace {
    most: usize,
    slots: Semaphore,
    /// Of those the ones that anybody may take.
    open_slots: Semaphore,
    strangers: Rate,
    state: Mutex<State>,
}

struct State {
    /// Who has failed since the last answer. Strangers of one network count once.
    failed: SmallVec<[Asker; FAILURES]>,
    /// Failures behind those.
    more: u32,
    /// For whom it has asked for a pause since the last answer.
    slowed: Option<Asker>,
    until: Option<Instant>,
    under_way: usize,
    /// Most at one time for now.
    window: usize,
}

/// So many failures in a row, and it is left alone.
const FAILURES: usize = 5;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause, whatever it asks for: one question in that time does no harm, and finds out that it is well.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long one that asks waits for its turn.
const TURN: Duration = Duration::from_millis(100);
/// In that time one network makes a source asked so often at most for ids that nobody has vouched for: more are made
/// up.
const STRANGERS_IN: Duration = Duration::from_mins(1);
const STRANGERS: isize = 120;
const ROWS: usize = 4;
const COLUMNS: usize = 1 << 10;

/// A question that may be asked.
pub(super) struct Turn<'p> {
    pace: &'p Pace,
    _slot: SemaphorePermit<'p>,
    _open: Option<SemaphorePermit<'p>>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.pace.state().under_way -= 1;
    }
}

impl Pace {
    /// At most `most` questions at one time. A quarter of them is for those whom somebody vouches for.
    pub(super) fn new(most: usize) -> Self {
        let state = State {
            failed: SmallVec::new(),
            more: 0,
            slowed: None,
            until: None,
            under_way: 0,
            window: most,
        };
        Self {
            most,
            slots: Semaphore::new(most),
            open_slots: Semaphore::new(open(most)),
            strangers: Rate::new_with_estimator_config(STRANGERS_IN, ROWS, COLUMNS),
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a question pass that takes `takes` at most.
    pub(super) async fn enter(&self, asker: Asker, takes: Duration) -> Result<Turn<'_>, PullError> {
        self.is_open()?;
        if let Asker::Stranger(network) = asker
            && self.strangers.observe(&network, 1) > STRANGERS
        {
            return Err(PullError::Busy);
        }
        let waiting = async {
            let open = match asker {
                Asker::Stranger(_) => Some(self.open_slots.acquire().await.ok()?),
                Asker::Vouched => None,
            };
            Some((self.slots.acquire().await.ok()?, open))
        };
        let waited = tokio::time::timeout(TURN, waiting).await.ok().flatten();
        let (slot, open) = waited.ok_or(PullError::Busy)?;
        self.begin(asker, takes)?;
        Ok(Turn { pace: self, _slot: slot, _open: open })
    }

    fn is_open(&self) -> Result<(), PullError> {
        let paused = self.state().until.is_some_and(|until| Instant::now() < until);
        if paused { Err(PullError::Paused) } else { Ok(()) }
    }

    /// After a pause one may try; the others wait for the outcome.
    fn begin(&self, asker: Asker, takes: Duration) -> Result<(), PullError> {
        let mut state = self.state();
        let window = match asker {
            Asker::Stranger(_) => open(state.window),
            Asker::Vouched => state.window,
        };
        if state.under_way >= window {
            return Err(PullError::Busy);
        }
        let now = Instant::now();
        match state.until {
            Some(until) if now < until => return Err(PullError::Paused),
            Some(_) => state.until = Some(now + takes),
            None => {}
        }
        state.under_way += 1;
        Ok(())
    }

    /// It has answered.
    pub(super) fn worked(&self) {
        let mut state = self.state();
        state.failed.clear();
        (state.more, state.slowed, state.until) = (0, None, None);
        state.window = (state.window + 1).min(self.most);
    }

    /// It has failed for `asker`. Whether it is left alone now.
    pub(super) fn failed(&self, asker: Asker) -> bool {
        let mut state = self.state();
        if state.failed.len() >= FAILURES {
            state.more = state.more.saturating_add(1);
        } else if asker == Asker::Vouched || !state.failed.contains(&asker) {
            state.failed.push(asker);
        }
        if state.failed.len() < FAILURES {
            return false;
        }
        let doubled = FIRST_PAUSE.saturating_mul(1 << state.more.min(8));
        state.until = Some(Instant::now() + doubled.min(LONGEST_PAUSE));
        true
    }

    /// It asks for a pause where it was asked for `asker`. Whether it is left alone now: it takes another one to know that
    /// this is not of what one visitor asks for.
    pub(super) fn slow_down(&self, asker: Asker, told: Duration) -> bool {
        let mut state = self.state();
        let of_one = |before| before == asker && asker != Asker::Vouched;
        if state.slowed.is_none_or(of_one) {
            (state.slowed, state.until) = (Some(asker), None);
            return false;
        }
        state.slowed = Some(asker);
        state.window = (state.window / 2).max(1);
        state.until = Some(Instant::now() + told.min(LONGEST_PAUSE));
        true
    }
}

/// What of so many anybody may have.
fn open(all: usize) -> usize {
    (all - all / 4).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAKES: Duration = Duration::from_secs(2);

    async fn passes(pace: &Pace, asker: Asker) -> bool {
        pace.enter(asker, TAKES).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn one_network_asks_so_often_and_others_go_on() {
        let pace = Pace::new(8);
        let mut passed = 0;
        for _ in 0..300 {
            passed += isize::from(passes(&pace, Asker::Stranger(1)).await);
        }
        assert_eq!(passed, STRANGERS);
        assert!(passes(&pace, Asker::Stranger(2)).await && passes(&pace, Asker::Vouched).await);
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_leave_room_for_those_who_are_vouched_for() {
        let pace = Pace::new(8);
        let mut turns = Vec::new();
        for network in 0..6 {
            turns.push(pace.enter(Asker::Stranger(network), TAKES).await.unwrap());
        }
        assert!(!passes(&pace, Asker::Stranger(9)).await);
        for _ in 0..2 {
            turns.push(pace.enter(Asker::Vouched, TAKES).await.unwrap());
        }
        assert!(!passes(&pace, Asker::Vouched).await);
        turns.clear();
        assert!(passes(&pace, Asker::Stranger(9)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_that_it_asks_for_is_bounded_and_it_is_asked_less_behind_it() {
        let pace = Pace::new(8);
        let slow_down = |asker| pace.slow_down(asker, Duration::from_hours(1));
        assert!((0..9).all(|_| !slow_down(Asker::Stranger(1))), "one visitor alone");
        assert!(passes(&pace, Asker::Vouched).await);
        assert!(slow_down(Asker::Stranger(2)));
        assert!(!passes(&pace, Asker::Vouched).await);
        tokio::time::advance(LONGEST_PAUSE).await;
        let probe = pace.enter(Asker::Stranger(1), TAKES).await.unwrap();
        assert!(!passes(&pace, Asker::Vouched).await, "one finds out");
        assert!(!slow_down(Asker::Stranger(2)));
        assert!(passes(&pace, Asker::Vouched).await, "that was of the one again");
        pace.worked();
        drop(probe);
        let mut turns = Vec::new();
        while let Ok(turn) = pace.enter(Asker::Vouched, TAKES).await {
            turns.push(turn);
        }
        assert_eq!(turns.len(), 5, "half, and one more for the answer");
        turns.clear();
        (0..8).for_each(|_| pace.worked());
        while let Ok(turn) = pace.enter(Asker::Vouched, TAKES).await {
            turns.push(turn);
        }
        assert_eq!(turns.len(), 8);
    }

    #[tokio::test(start_paused = true)]
    async fn it_takes_several_to_find_that_it_fails_and_one_to_find_that_it_is_well() {
        let pace = Pace::new(8);
        assert!((0..100).all(|_| !pace.failed(Asker::Stranger(1))), "one network alone");
        assert!((2..5).all(|network| !pace.failed(Asker::Stranger(network))));
        assert!(pace.failed(Asker::Vouched));
        for _ in 0..20 {
            assert!(!passes(&pace, Asker::Vouched).await);
            tokio::time::advance(LONGEST_PAUSE).await;
            assert!(passes(&pace, Asker::Vouched).await);
            assert!(pace.failed(Asker::Vouched));
        }
        tokio::time::advance(LONGEST_PAUSE).await;
        assert!(passes(&pace, Asker::Stranger(1)).await);
        pace.worked();
        assert!(passes(&pace, Asker::Stranger(1)).await && passes(&pace, Asker::Vouched).await);
    }
}
