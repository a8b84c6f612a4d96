//! Callers of the webhook who have not shown yet that they may call: what they send is bounded, and who tries
//! passwords is slowed down.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pingora_limits::rate::Rate;

use super::limits::household;
use crate::shares::Shares;

/// What is known of callers.
pub(super) struct Callers {
    failures: Rate,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Bodies that are read before their signature can be judged, of strangers.
    reading: Shares,
    /// The same of callers who have had the right credentials: strangers don't take their places.
    reading_proven: Shares,
    /// Who has called with the right credentials, and when the last time.
    proven: HashMap<u128, Instant>,
}

/// Most wrong credentials of one address (IPv6: one /64) in that time. Where somebody calls with the right ones
/// they don't count: a vendor sends for many from one address, and any of them could keep the others out.
const FAILURES: isize = 10;
pub(super) const FAILURES_IN: Duration = Duration::from_mins(1);
const PROVEN_FOR: Duration = Duration::from_hours(24);
const MOST_PROVEN: usize = 1024;
/// Most bodies that are read at one time before anything says that they may be: in all, and of one address.
const READING: usize = 16;
const READING_OF_ONE: usize = 4;

impl Default for Callers {
    fn default() -> Self {
        let failures = Rate::new_with_estimator_config(FAILURES_IN, 4, 1 << 12);
        Self { failures, state: Mutex::default() }
    }
}

/// Room for a body, given back when it is dropped.
pub(super) struct Reading<'c> {
    callers: &'c Callers,
    caller: u128,
    proven: bool,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.callers.state().reading(self.proven).give_back(Some(self.caller));
    }
}

impl State {
    fn is_proven(&self, caller: u128) -> bool {
        self.proven.get(&caller).is_some_and(|at| at.elapsed() <= PROVEN_FOR)
    }

    fn reading(&mut self, proven: bool) -> &mut Shares {
        if proven { &mut self.reading_proven } else { &mut self.reading }
    }
}

fn key(caller: Option<IpAddr>) -> u128 {
    caller.map(household).unwrap_or_default()
}

impl Callers {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `caller` has tried so often that it has to wait.
    pub(super) fn has_to_wait(&self, caller: Option<IpAddr>) -> bool {
        let caller = key(caller);
        self.failures.observe(&caller, 0) >= FAILURES && !self.state().is_proven(caller)
    }

    /// `caller` had the wrong credentials.
    pub(super) fn failed(&self, caller: Option<IpAddr>) {
        self.failures.observe(&key(caller), 1);
    }

    /// `caller` had the right credentials.
    pub(super) fn proved(&self, caller: Option<IpAddr>) {
        let mut state = self.state();
        let caller = key(caller);
        if state.proven.len() >= MOST_PROVEN
            && !state.proven.contains_key(&caller)
            && let Some(oldest) = state.proven.iter().min_by_key(|(_, at)| **at).map(|one| *one.0)
        {
            state.proven.remove(&oldest);
        }
        state.proven.insert(caller, Instant::now());
    }

    /// Room for a body of `caller`, which nothing but itself can vouch for. `None` where there is none.
    pub(super) fn read(&self, caller: Option<IpAddr>) -> Option<Reading<'_>> {
        let caller = key(caller);
        let mut state = self.state();
        let proven = state.is_proven(caller);
        state.reading(proven).take(Some(caller), READING, READING_OF_ONE).ok()?;
        drop(state);
        Some(Reading { callers: self, caller, proven })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn who_tries_has_to_wait_and_who_knows_does_not() {
        let callers = Callers::default();
        for _ in 0..FAILURES {
            assert!(!callers.has_to_wait(Some(address("2001:db8::1"))));
            callers.failed(Some(address("2001:db8::1")));
        }
        assert!(callers.has_to_wait(Some(address("2001:db8::2"))), "a household");
        assert!(!callers.has_to_wait(Some(address("2001:db8:1::1"))) && !callers.has_to_wait(None));
        // Somebody else there, before or meanwhile, knew.
        callers.proved(Some(address("2001:db8::3")));
        assert!(!callers.has_to_wait(Some(address("2001:db8::1"))));
        (0..2 * MOST_PROVEN).for_each(|number| {
            let number = u32::try_from(number).unwrap();
            callers.proved(Some(IpAddr::V4(number.into())));
        });
        assert_eq!(callers.state().proven.len(), MOST_PROVEN);
    }

    #[test]
    fn bodies_are_few_in_all_and_fewer_of_one_address() {
        let callers = Callers::default();
        let own: Vec<_> =
            (0..READING).map_while(|_| callers.read(Some(address("192.0.2.1")))).collect();
        assert_eq!(own.len(), READING_OF_ONE);
        let others: Vec<_> = (2..200)
            .map_while(|last| callers.read(Some(address(&format!("192.0.2.{last}")))))
            .collect();
        assert_eq!(own.len() + others.len(), READING);
        let vendor = Some(address("203.0.113.1"));
        assert!(callers.read(vendor).is_none());
        callers.proved(vendor);
        assert!(callers.read(vendor).is_some(), "who is known has places of its own");
        drop((own, others));
        assert!(callers.read(Some(address("192.0.2.1"))).is_some());
        assert!(callers.state().reading.is_empty());
    }
}
