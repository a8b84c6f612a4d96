//! What one client, and all of them together, may ask of the events' route: requests, bytes as they are kept, and
//! requests at one time.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pingora_limits::inflight::{Guard, Inflight};
use pingora_limits::rate::Rate;

use crate::collect::{EventLimits, Sender};
use crate::telemetry::EventRefusal;

/// Counts clients' events, and those that are being taken.
pub(super) struct Limits {
    rate: Rate,
    bytes: Rate,
    /// Bytes by the minute.
    lately: Rate,
    links: Rate,
    open: Inflight,
    /// By site.
    of_sites: Inflight,
    at_once: AtomicUsize,
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
/// Who sends more in a minute leaves the last of the room to others: a visitor's pages send some events of 2 KB.
const MUCH: isize = 128 * 1024;
/// One address has that part of the requests at one time at most.
const PART_OF_ALL: usize = 8;
/// In that time a household, an office or a school links so many browsers at most: more are made up.
const LINKS_IN: Duration = MINUTE;
const MOST_LINKS: isize = 120;
/// A sketch of that many rows and columns: clients are never counted too low, and too high only when
/// very many come at once.
const ROWS: usize = 4;
const COLUMNS: usize = 1 << 15;

impl Default for Limits {
    fn default() -> Self {
        let rate = Rate::new_with_estimator_config(SECOND, ROWS, COLUMNS);
        let bytes = Rate::new_with_estimator_config(SECOND, ROWS, COLUMNS);
        let lately = Rate::new_with_estimator_config(MINUTE, ROWS, COLUMNS);
        let links = Rate::new_with_estimator_config(LINKS_IN, ROWS, COLUMNS / 8);
        let at_once = AtomicUsize::new(0);
        let (open, of_sites) = (Inflight::new(), Inflight::new());
        Self { rate, bytes, lately, links, open, of_sites, at_once }
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
pub(super) struct Taken<'l> {
    at_once: &'l AtomicUsize,
    /// Count for as long as they are kept.
    counts: [Option<Guard>; 2],
}

/// Whose events a request brings.
#[derive(Debug, Clone, Copy)]
pub(super) struct To<'s> {
    /// The site's name.
    pub(super) site: &'s str,
    /// There are others.
    pub(super) has_others: bool,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.at_once.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Limits {
    /// Room for one more request of `client`. A household shares a prefix of IPv6. One site leaves a quarter of all to the
    /// others; and of what it has, and of all, who has a request open already leaves a quarter to those who have none.
    pub(super) fn admit(
        &self,
        client: Option<IpAddr>,
        to: To<'_>,
        limits: EventLimits,
    ) -> Result<Taken<'_>, EventRefusal> {
        let client = client.map(household);
        if let Some(client) = client {
            if limits.per_client > 0 && self.rate.observe(&client, 1) > signed(limits.per_client) {
                return Err(EventRefusal::Rate);
            }
            // Nothing more of it is read in this second.
            if limits.bytes_per_client > 0
                && self.bytes.observe(&client, 0) >= signed(limits.bytes_per_client)
            {
                return Err(EventRefusal::Bytes);
            }
        }
        let all = signed(self.at_once.fetch_add(1, Ordering::Relaxed) + 1);
        let mut taken = Taken { at_once: &self.at_once, counts: [None, None] };
        if limits.at_once == 0 {
            return Ok(taken);
        }
        let most = signed(limits.at_once);
        let most_of_site = if to.has_others { shared(most) } else { most };
        let (guard, of_site) = self.of_sites.incr(to.site, 1);
        taken.counts[0] = Some(guard);
        let mut has_some = false;
        if let Some(client) = client {
            let (guard, open) = self.open.incr(client, 1);
            taken.counts[1] = Some(guard);
            if open > signed(limits.at_once.div_ceil(PART_OF_ALL)) {
                return Err(EventRefusal::Open);
            }
            has_some = open > 1;
        }
        let room = |most: isize| if has_some { shared(most) } else { most };
        if all > room(most) || of_site > room(most_of_site) {
            return Err(EventRefusal::Busy);
        }
        Ok(taken)
    }

    /// Counts what a client has sent, as it is kept: without its coding, with what is added. The last of a second may
    /// go beyond what there is for it, so that each is taken at some time. Tells how much that is of late.
    pub(super) fn charge(
        &self,
        client: Option<IpAddr>,
        bytes: usize,
        limits: EventLimits,
    ) -> Result<Sender, EventRefusal> {
        let Some(client) = client.map(household) else { return Ok(Sender::Light) };
        let before = self.bytes.observe(&client, signed(bytes)) - signed(bytes);
        if limits.bytes_per_client > 0 && before >= signed(limits.bytes_per_client) {
            return Err(EventRefusal::Bytes);
        }
        Ok(self.weigh(client, bytes))
    }

    /// Counts what is added to what a client has sent, and has been taken.
    pub(super) fn add(&self, client: Option<IpAddr>, bytes: usize) -> Sender {
        let Some(client) = client.map(household) else { return Sender::Light };
        self.bytes.observe(&client, signed(bytes));
        self.weigh(client, bytes)
    }

    fn weigh(&self, client: u128, bytes: usize) -> Sender {
        let much = self.lately.observe(&client, signed(bytes)) > MUCH;
        if much { Sender::Heavy } else { Sender::Light }
    }

    /// Whether one more link of ids that nobody vouches for is taken of `client`: each is kept.
    pub(super) fn may_link(&self, client: Option<IpAddr>) -> bool {
        client.is_none_or(|client| self.links.observe(&household(client), 1) <= MOST_LINKS)
    }
}

/// Three quarters of `most`.
fn shared(most: isize) -> isize {
    most - most / 4
}

fn signed(count: usize) -> isize {
    isize::try_from(count).unwrap_or(isize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: EventLimits = EventLimits { per_client: 0, bytes_per_client: 0, at_once: 0 };

    const ALONE: To<'static> = To { site: "shop", has_others: false };

    fn address(text: &str) -> Option<IpAddr> {
        text.parse().ok()
    }

    #[test]
    fn a_client_is_stopped_and_others_are_not() {
        let limits = Limits::default();
        let bounds = EventLimits { per_client: 5, ..NONE };
        let is_fast = |text: &str| {
            matches!(limits.admit(address(text), ALONE, bounds), Err(EventRefusal::Rate))
        };
        let fast = (0..20).filter(|_| is_fast("192.0.2.1")).count();
        assert!(fast >= 10, "{fast}");
        assert!(!is_fast("192.0.2.2"));
        let household = ["2001:db8::1", "2001:db8::2"].into_iter().cycle().take(20);
        assert!(household.filter(|one| is_fast(one)).count() >= 10);
        assert!(!is_fast("2001:db8:0:1::1"));
        assert!((0..100).all(|_| limits.admit(address("192.0.2.3"), ALONE, NONE).is_ok()));
    }

    #[test]
    fn what_a_client_has_open_is_a_part_of_all() {
        let limits = Limits::default();
        let bounds = EventLimits { at_once: 20, ..NONE };
        let admit = |text: &str| limits.admit(address(text), ALONE, bounds);
        let mut open: Vec<_> = (0..3).map(|_| admit("192.0.2.1").ok().unwrap()).collect();
        assert_eq!(admit("192.0.2.1").err(), Some(EventRefusal::Open));
        open.push(admit("2001:db8::1").ok().unwrap());
        open.extend((0..2).map(|_| admit("2001:db8::2").ok().unwrap()));
        assert_eq!(admit("2001:db8::3").err(), Some(EventRefusal::Open), "a household is one");
        // What was refused takes no room.
        for n in 0..14 {
            open.push(admit(&format!("192.0.2.{}", 10 + n)).ok().unwrap());
        }
        assert_eq!(admit("192.0.2.99").err(), Some(EventRefusal::Busy));
        drop(open);
        assert!(admit("192.0.2.1").is_ok());
    }

    #[test]
    fn a_site_leaves_room_to_the_others_and_each_client_to_the_next() {
        let limits = Limits::default();
        let bounds = EventLimits { at_once: 64, ..NONE };
        let to = |site| To { site, has_others: true };
        let admit =
            |n: usize, site| limits.admit(address(&format!("192.0.2.{n}")), to(site), bounds);
        // Six clients ask for as much as each may have.
        let asked = (0..6).flat_map(|n| std::iter::repeat_n(n, 8));
        let mut open: Vec<_> = asked.filter_map(|n| admit(n, "shop").ok()).collect();
        assert_eq!(open.len(), 37, "of 48, a quarter is for others: the sixth has one");
        open.push(admit(100, "shop").ok().unwrap());
        open.extend((101..200).filter_map(|n| admit(n, "shop").ok()));
        assert_eq!(open.len(), 48, "three quarters are the site's");
        assert_eq!(admit(200, "shop").err(), Some(EventRefusal::Busy));
        open.extend((0..16).filter_map(|n| admit(200 + n, "cafe").ok()));
        assert_eq!(open.len(), 64);
        assert_eq!(admit(250, "cafe").err(), Some(EventRefusal::Busy));
        drop(open);
        assert!(admit(0, "shop").is_ok());
    }

    #[test]
    fn an_address_says_so_many_links_at_most() {
        let limits = Limits::default();
        let (client, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let may = (0..2 * MOST_LINKS).filter(|_| limits.may_link(client)).count();
        assert_eq!(may, usize::try_from(MOST_LINKS).unwrap());
        assert!(limits.may_link(other));
    }

    #[test]
    fn bytes_of_a_client_are_bounded_and_who_sends_much_is_known() {
        let limits = Limits::default();
        let bounds = EventLimits { bytes_per_client: 1_000_000, ..NONE };
        let one = address("192.0.2.1");
        assert_eq!(limits.charge(one, 1000, bounds), Ok(Sender::Light));
        // A second may end meanwhile, and a minute.
        let told: Vec<_> = (0..40).map(|_| limits.charge(one, 100_000, bounds)).collect();
        assert!(told.contains(&Ok(Sender::Heavy)), "{told:?}");
        assert!(told.contains(&Err(EventRefusal::Bytes)), "{told:?}");
        assert_eq!(limits.charge(address("192.0.2.2"), 1000, bounds), Ok(Sender::Light));
        assert_eq!(limits.charge(None, 5_000_000, bounds), Ok(Sender::Light));
        assert!((0..40).all(|_| limits.charge(one, 100_000, NONE).is_ok()));
    }
}
