//! The addresses that an upstream's name has, and which of them can't be connected to at the moment.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use pingora::upstreams::peer::HttpPeer;

/// All addresses of one upstream. The next one to ask is told in turn. One that could not be connected to is
/// left out for a while; then a connection that nobody waits for finds out whether it is back.
pub(super) struct Addresses {
    list: ArcSwap<Vec<Address>>,
    turn: AtomicUsize,
    /// What [`Health`] counts its times from.
    start: Instant,
}

struct Address {
    peer: HttpPeer,
    health: Arc<Health>,
}

/// Whether an address can be connected to.
#[derive(Default)]
struct Health {
    /// Left out until then, in milliseconds; 0 where it is not.
    until: AtomicU64,
    /// Failures since the last connection.
    failures: AtomicU32,
}

/// How long an address is left out at first. It doubles with every failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

impl Health {
    fn is_well(&self) -> bool {
        self.until.load(Ordering::Relaxed) == 0
    }

    /// Leaves it out for the next pause. How many failures in a row this was.
    fn failed(&self, now: u64) -> u32 {
        let before = self.failures.fetch_add(1, Ordering::Relaxed).min(16);
        let pause = FIRST_PAUSE.saturating_mul(1 << before.min(5)).min(LONGEST_PAUSE);
        self.until.store(now.saturating_add(millis(pause)).max(1), Ordering::Relaxed);
        before + 1
    }

    /// Lets one caller find out, once the pause is over: nobody else does for as long as that may take.
    fn may_probe(&self, now: u64, takes: Duration) -> bool {
        let until = self.until.load(Ordering::Relaxed);
        let later = now.saturating_add(millis(takes + FIRST_PAUSE));
        let order = Ordering::Relaxed;
        until != 0
            && until <= now
            && self.until.compare_exchange(until, later, order, order).is_ok()
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Default for Addresses {
    fn default() -> Self {
        Self { list: ArcSwap::default(), turn: AtomicUsize::new(0), start: Instant::now() }
    }
}

impl Addresses {
    pub(super) fn len(&self) -> usize {
        self.list.load().len()
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<SocketAddr> {
        let list = self.list.load();
        list.iter().filter_map(|address| address.peer._address.as_inet().copied()).collect()
    }

    /// Takes these in place of those before. What is known of an address stays.
    pub(super) fn set(&self, peers: Vec<HttpPeer>) {
        let old = self.list.load();
        let health = |peer: &HttpPeer| {
            let known = old.iter().find(|address| address.peer._address == peer._address);
            known.map(|address| Arc::clone(&address.health)).unwrap_or_default()
        };
        let list = peers.into_iter().map(|peer| Address { health: health(&peer), peer }).collect();
        self.list.store(Arc::new(list));
    }

    /// The next one to ask. Where all are left out, the one that has failed the longest ago.
    pub(super) fn next(&self) -> Option<Box<HttpPeer>> {
        let list = self.list.load();
        if let [only] = list.as_slice() {
            return Some(Box::new(only.peer.clone()));
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed).checked_rem(list.len())?;
        let (behind, first) = list.split_at_checked(turn)?;
        let in_turn = || first.iter().chain(behind);
        for address in in_turn().filter(|address| !address.health.is_well()) {
            self.probe(address);
        }
        let well = in_turn().find(|address| address.health.is_well());
        let chosen = well.or_else(|| {
            in_turn().min_by_key(|address| address.health.until.load(Ordering::Relaxed))
        })?;
        Some(Box::new(chosen.peer.clone()))
    }

    /// `peer` could not be connected to.
    pub(super) fn failed(&self, peer: &HttpPeer) {
        let list = self.list.load();
        if list.len() < 2 {
            return;
        }
        let failed = list.iter().find(|address| address.peer._address == peer._address);
        if failed.is_some_and(|address| address.health.failed(self.now()) == 1) {
            let address = peer._address.to_string();
            tracing::warn!(
                address,
                "an upstream's address can't be connected to: others are asked"
            );
        }
    }

    /// `peer` has been connected to.
    pub(super) fn worked(&self, peer: &HttpPeer) {
        let list = self.list.load();
        if list.len() < 2 {
            return;
        }
        let Some(address) = list.iter().find(|address| address.peer._address == peer._address)
        else {
            return;
        };
        address.health.until.store(0, Ordering::Relaxed);
        if address.health.failures.swap(0, Ordering::Relaxed) > 0 {
            let address = peer._address.to_string();
            tracing::info!(address, "an upstream's address is connected to again");
        }
    }

    fn now(&self) -> u64 {
        millis(self.start.elapsed()).max(1)
    }

    /// Finds out whether an address that is left out is back, where it is time for that. No request waits for it.
    fn probe(&self, address: &Address) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let takes = address.peer.options.connection_timeout.unwrap_or(FIRST_PAUSE);
        let Some(to) = address.peer._address.as_inet().copied() else { return };
        if !address.health.may_probe(self.now(), takes) {
            return;
        }
        let (health, start) = (Arc::clone(&address.health), self.start);
        runtime.spawn(async move {
            if connects(to, takes).await {
                // Whether it does more than that, the next request finds out: until then its failures count.
                health.until.store(0, Ordering::Relaxed);
            } else {
                health.failed(millis(start.elapsed()).max(1));
            }
        });
    }
}

async fn connects(to: SocketAddr, within: Duration) -> bool {
    let connecting = tokio::net::TcpStream::connect(to);
    matches!(tokio::time::timeout(within, connecting).await, Ok(Ok(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str) -> HttpPeer {
        let mut peer = HttpPeer::new(address, false, String::new());
        peer.options.connection_timeout = Some(Duration::from_secs(5));
        peer
    }

    fn asked(addresses: &Addresses) -> String {
        addresses.next().unwrap()._address.to_string()
    }

    #[test]
    fn an_address_that_fails_is_left_out_and_kept_in_mind() {
        let addresses = Addresses::default();
        assert!(Addresses::default().next().is_none());
        let (a, b) = ("192.0.2.1:80", "192.0.2.2:80");
        addresses.set(vec![peer(a), peer(b)]);
        let turns: Vec<String> = (0..4).map(|_| asked(&addresses)).collect();
        assert_eq!(turns, [a, b, a, b]);
        addresses.failed(&peer(a));
        assert!((0..4).all(|_| asked(&addresses) == b));
        // The name is resolved again, in another order.
        addresses.set(vec![peer(b), peer("192.0.2.3:80"), peer(a)]);
        assert!((0..6).all(|_| asked(&addresses) != a));
        addresses.worked(&peer(a));
        assert!((0..3).any(|_| asked(&addresses) == a));
    }

    #[test]
    fn where_all_fail_the_one_that_failed_first_is_tried() {
        let addresses = Addresses::default();
        let (a, b) = ("192.0.2.1:80", "192.0.2.2:80");
        addresses.set(vec![peer(a), peer(b)]);
        let health = |index: usize| Arc::clone(&addresses.list.load()[index].health);
        health(0).until.store(50, Ordering::Relaxed);
        health(1).until.store(40, Ordering::Relaxed);
        assert_eq!((asked(&addresses), asked(&addresses)), (b.to_owned(), b.to_owned()));
        // A single one is always asked.
        addresses.set(vec![peer(a)]);
        addresses.failed(&peer(a));
        assert_eq!(asked(&addresses), a);
    }

    #[test]
    fn pauses_grow_up_to_a_bound_and_one_finds_out_behind_each() {
        let health = Health::default();
        assert!(!health.may_probe(1, FIRST_PAUSE), "it is well");
        for (failure, pause) in
            [(1, 1000), (2, 2000), (3, 4000), (4, 8000), (5, 16_000), (6, 30_000), (7, 30_000)]
        {
            assert_eq!(health.failed(100), failure);
            assert!(!health.may_probe(100 + pause - 1, FIRST_PAUSE));
            assert_eq!(health.until.load(Ordering::Relaxed), 100 + pause);
        }
        assert!(health.may_probe(40_000, FIRST_PAUSE) && !health.may_probe(40_001, FIRST_PAUSE));
    }

    #[tokio::test]
    async fn an_address_that_is_back_is_asked_again() {
        let listening = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (a, b) = (listening.local_addr().unwrap().to_string(), "192.0.2.2:80");
        let addresses = Addresses::default();
        addresses.set(vec![peer(&a), peer(b)]);
        addresses.failed(&peer(&a));
        let health = Arc::clone(&addresses.list.load()[0].health);
        // As if the pause were over just now.
        health.until.store(1, Ordering::Relaxed);
        assert_eq!(asked(&addresses), b, "no request finds it out");
        listening.accept().await.unwrap();
        while !health.is_well() {
            tokio::task::yield_now().await;
        }
        assert_eq!(health.failures.load(Ordering::Relaxed), 1, "until a request has worked");
        assert!((0..2).any(|_| asked(&addresses) == a));
    }
}
