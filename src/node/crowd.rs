//! How many connections visitors may hold at one time: all together, and from one network each.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use pingora::protocols::Stream;

use crate::config::Snapshot;
use crate::edge::household;
use crate::shares::Shares;
use crate::telemetry::metrics::{CONNECTIONS, CONNECTIONS_REFUSED};

/// The connections that there are.
pub(super) struct Crowd {
    snapshot: Arc<ArcSwap<Snapshot>>,
    held: Mutex<Shares>,
}

/// One connection's place, given back when it is dropped.
pub(super) struct Place {
    crowd: Arc<Crowd>,
    network: Option<u128>,
}

impl Crowd {
    pub(super) fn new(snapshot: Arc<ArcSwap<Snapshot>>) -> Arc<Self> {
        Arc::new(Self { snapshot, held: Mutex::default() })
    }

    fn held(&self) -> MutexGuard<'_, Shares> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for the connection of `stream`. `None` where there is none left.
    pub(super) fn enter(self: &Arc<Self>, stream: &Stream) -> Option<Place> {
        let digest = stream.get_socket_digest();
        let address = digest.as_ref().and_then(|digest| Some(digest.peer_addr()?.as_inet()?.ip()));
        self.enter_from(address)
    }

    fn enter_from(self: &Arc<Self>, address: Option<IpAddr>) -> Option<Place> {
        let snapshot = self.snapshot.load();
        let bounds = snapshot.connections;
        // Behind a proxy of one's own are all of its visitors.
        let own = |ip: &IpAddr| !snapshot.trusted_proxies.iter().any(|net| net.contains(ip));
        let network = address.filter(own).map(household);
        let taken = self.held().take(network, bounds.most, bounds.per_client);
        if let Err(why) = taken {
            CONNECTIONS_REFUSED.with_label_values(&[why.label()]).inc();
            return None;
        }
        CONNECTIONS.inc();
        Some(Place { crowd: Arc::clone(self), network })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.held().give_back(self.network);
        CONNECTIONS.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_network_has_its_share_and_all_have_a_bound() {
        let yaml = "listeners: [{ address: '127.0.0.1:1' }]\nconnections: { most: 4, per_client: 2 }\n\
                    trusted_proxies: [10.0.0.0/8]\nsites: [{ name: a, hosts: [a.example], \
                    origin: { address: '127.0.0.1:1' }, vendor: { segment: { write_key: a-good-key-1 } } }]";
        let config = crate::config::load("d.yaml", yaml, |_| None).unwrap();
        let crowd = Crowd::new(Arc::new(ArcSwap::from_pointee(config.snapshot)));
        let enter = |address: &str| crowd.enter_from(address.parse().ok());
        let first = enter("2001:db8::1");
        let second = enter("2001:db8::2");
        assert!(first.is_some() && second.is_some());
        assert!(enter("2001:db8::3").is_none(), "one household");
        let proxy: Vec<_> = (0..2).map(|_| enter("10.1.2.3")).collect();
        assert!(proxy.iter().all(Option::is_some));
        assert!(enter("192.0.2.1").is_none(), "no more in all");
        drop((first, proxy));
        assert!(enter("2001:db8::3").is_some());
        drop(second);
        assert!(crowd.held().is_empty());
    }
}
