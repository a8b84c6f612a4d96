//! Servers that Doorstep asks: a site's origin, a vendor's CDN and tracking API.
//! In: an address from the configuration. Out: a peer for Pingora's connector, without waiting.
//! Names are resolved in the background, because Pingora resolves blocking and panics on failure.

mod addresses;
mod bridge;
mod client;
mod endpoint;
mod head;
mod odd;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pingora::upstreams::peer::HttpPeer;

use addresses::Addresses;
use bridge::Bridge;
use odd::OddPages;

pub use bridge::OddTarget;
pub use client::{Answer, Call, CallError, Client, USER_AGENT, basic};
pub use endpoint::{Endpoint, EndpointError};

/// How long one upstream may take for what.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// To make a connection, TLS included.
    pub connect: Duration,
    /// Longest pause while it answers.
    pub read: Duration,
    /// Longest pause while it takes a request.
    pub write: Duration,
    /// Idle connections are kept that long.
    pub idle: Duration,
    /// Until a page that everybody's can stand in for has begun.
    pub fallback: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let minute = Duration::from_mins(1);
        let (connect, fallback) = (Duration::from_secs(5), Duration::from_secs(5));
        Self { connect, read: minute, write: minute, idle: minute, fallback }
    }
}

/// Connections of one request are no others': each has a group of its own.
static BRIDGED: AtomicU64 = AtomicU64::new(1);

/// One upstream and the addresses that its name has at the moment.
pub struct Upstream {
    endpoint: Endpoint,
    timeouts: Timeouts,
    server_name: String,
    verify: bool,
    addresses: Addresses,
    odd: OddPages,
}

impl Upstream {
    /// An upstream at `endpoint`. `server_name` is asked for and checked over TLS; `None` means
    /// the endpoint's host. A host that is an address is ready at once, a name after
    /// [`Upstream::resolve`].
    #[must_use]
    pub fn new(
        endpoint: Endpoint,
        timeouts: Timeouts,
        server_name: Option<String>,
        verify: bool,
    ) -> Self {
        // Only TLS names a server; without it there is nothing to copy for each request.
        let server_name = if endpoint.is_tls() {
            server_name.unwrap_or_else(|| endpoint.host().to_owned())
        } else {
            String::new()
        };
        let upstream = Self {
            endpoint,
            timeouts,
            server_name,
            verify,
            addresses: Addresses::default(),
            odd: OddPages::default(),
        };
        if let Ok(ip) = upstream.endpoint.host().parse::<IpAddr>() {
            upstream.set_addresses(&[SocketAddr::new(ip, upstream.endpoint.port())]);
        }
        upstream
    }

    /// Where it is, as configured.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The next address to ask, in turn: one that could not be connected to is left out for a while. `None` as
    /// long as the name has none.
    #[must_use]
    pub fn peer(&self) -> Option<Box<HttpPeer>> {
        self.addresses.next()
    }

    /// Whether the head of what `path` has can't be read as it is.
    pub fn is_odd(&self, path: &str) -> bool {
        self.odd.has(path)
    }

    /// The head of what `path` has could not be read. Whether there is a way to read it: not over TLS.
    pub fn found_odd(&self, path: &str) -> bool {
        self.odd.add(path);
        !self.endpoint.is_tls()
    }

    /// Lets a request have a connection of its own to `peer`, on which odd heads are read and odd targets written.
    pub fn bridge(&self, peer: &mut HttpPeer, target: Option<OddTarget>) {
        if self.endpoint.is_tls() {
            return;
        }
        let bridge = Bridge { connect: self.timeouts.connect, target };
        peer.options.custom_l4 = Some(Arc::new(bridge));
        peer.options.idle_timeout = Some(Duration::ZERO);
        // Whatever is kept of it is nobody's.
        peer.group_key = BRIDGED.fetch_add(1, Ordering::Relaxed);
    }

    /// How many addresses the name has: as many are worth trying.
    #[must_use]
    pub fn addresses(&self) -> usize {
        self.addresses.len()
    }

    /// `peer` could not be connected to: the others are asked before it.
    pub fn failed(&self, peer: &HttpPeer) {
        self.addresses.failed(peer);
    }

    /// How long a page is waited for that everybody's can stand in for.
    pub fn fallback_after(&self) -> Duration {
        self.timeouts.fallback
    }

    /// `peer` has been connected to.
    pub fn worked(&self, peer: &HttpPeer) {
        self.addresses.worked(peer);
    }

    /// Asks the system for the name's addresses. What was known stays when that fails.
    ///
    /// # Errors
    /// The resolver's own.
    pub async fn resolve(&self) -> std::io::Result<()> {
        if self.endpoint.host().parse::<IpAddr>().is_ok() {
            return Ok(());
        }
        let name = (self.endpoint.host(), self.endpoint.port());
        let found: Vec<SocketAddr> = tokio::net::lookup_host(name).await?.collect();
        if !found.is_empty() {
            self.set_addresses(&found);
        }
        Ok(())
    }

    /// Knows what `other`, of the same name, knows.
    pub fn adopt_addresses(&self, other: &Self) {
        let known = other.addresses.all();
        if !known.is_empty() {
            self.set_addresses(&known);
        }
    }

    fn set_addresses(&self, addresses: &[SocketAddr]) {
        self.addresses.set(addresses.iter().map(|address| self.peer_at(*address)).collect());
    }

    fn peer_at(&self, address: SocketAddr) -> HttpPeer {
        let mut peer = HttpPeer::new(address, self.endpoint.is_tls(), self.server_name.clone());
        let options = &mut peer.options;
        options.connection_timeout = Some(self.timeouts.connect);
        options.total_connection_timeout = Some(self.timeouts.connect);
        options.read_timeout = Some(self.timeouts.read);
        options.write_timeout = Some(self.timeouts.write);
        options.idle_timeout = Some(self.timeouts.idle);
        options.verify_cert = self.verify;
        options.verify_hostname = self.verify;
        peer
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}
