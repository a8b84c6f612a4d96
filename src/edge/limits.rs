//! What one client, and all of them together, may ask of the events' route.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pingora_limits::rate::Rate;

use crate::collect::EventLimits;

/// Counts clients' events, and those that are being taken.
pub(super) struct Limits {
    rate: Rate,
    links: Rate,
    at_once: AtomicUsize,
}

const SECOND: Duration = Duration::from_secs(1);
/// In that time a household, an office or a school links so many browsers at most: more are made up.
const LINKS_IN: Duration = Duration::from_mins(1);
const MOST_LINKS: isize = 120;
/// A sketch of that many rows and columns: clients are never counted too low, and too high only when
/// very many come at once.
const ROWS: usize = 4;
const COLUMNS: usize = 1 << 15;

impl Default for Limits {
    fn default() -> Self {
        let rate = Rate::new_with_estimator_config(SECOND, ROWS, COLUMNS);
        let links = Rate::new_with_estimator_config(LINKS_IN, ROWS, COLUMNS / 8);
        Self { rate, links, at_once: AtomicUsize::new(0) }
    }
}

/// An address, or the prefix of IPv6 that a household shares.
pub(crate) fn household(client: IpAddr) -> u128 {
    match client {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address) >> 64 << 64,
    }
}

/// The network that a client is in: of IPv6 what one customer may have of it.
pub(super) fn network(client: Option<IpAddr>) -> u128 {
    match client {
        Some(IpAddr::V6(address)) => u128::from(address) >> 80 << 80,
        Some(address) => household(address),
        None => 0,
    }
}

/// Room that one request takes, given back when it is dropped.
pub(super) struct Taken<'l>(&'l AtomicUsize);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Limits {
    /// Whether `client` has sent too much in this second. A household shares a prefix of IPv6.
    pub(super) fn is_too_fast(&self, client: Option<IpAddr>, limits: EventLimits) -> bool {
        let Some(client) = client.filter(|_| limits.per_client > 0) else { return false };
        let most = isize::try_from(limits.per_client).unwrap_or(isize::MAX);
        self.rate.observe(&household(client), 1) > most
    }

    /// Whether one more link of ids that nobody vouches for is taken of `client`: each is kept.
    pub(super) fn may_link(&self, client: Option<IpAddr>) -> bool {
        client.is_none_or(|client| self.links.observe(&household(client), 1) <= MOST_LINKS)
    }

    /// Room for one more. `None` where there is none.
    pub(super) fn take(&self, limits: EventLimits) -> Option<Taken<'_>> {
        let before = self.at_once.fetch_add(1, Ordering::Relaxed);
        let taken = Taken(&self.at_once);
        (limits.at_once == 0 || before < limits.at_once).then_some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_stopped_and_others_are_not() {
        let limits = Limits::default();
        let bounds = EventLimits { per_client: 5, at_once: 2 };
        let address = |text: &str| Some(text.parse().unwrap());
        let fast = (0..20).filter(|_| limits.is_too_fast(address("192.0.2.1"), bounds)).count();
        assert!(fast >= 10, "{fast}");
        assert!(!limits.is_too_fast(address("192.0.2.2"), bounds));
        let household = ["2001:db8::1", "2001:db8::2"].into_iter().cycle().take(20);
        assert!(household.filter(|one| limits.is_too_fast(address(one), bounds)).count() >= 10);
        assert!(!limits.is_too_fast(address("2001:db8:0:1::1"), bounds));
        let none = EventLimits { per_client: 0, at_once: 0 };
        assert!((0..100).all(|_| !limits.is_too_fast(address("192.0.2.3"), none)));

        let first = limits.take(bounds);
        let second = limits.take(bounds);
        assert!(first.is_some() && second.is_some() && limits.take(bounds).is_none());
        drop(first);
        assert!(limits.take(bounds).is_some());
    }
}
