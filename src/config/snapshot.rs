//! The compiled configuration: no optional that loading could have filled, nothing left to parse.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::certificate::Certificates;
use super::fixed::Fixed;
use super::problem::Problems;
use crate::collect::{EventLimits, Keeping, Lane};
use crate::profile::Lifetimes;
use crate::profile::store::RedisOptions;
use crate::site::{Hosts, Site};
use crate::telemetry::AccessLog;
use crate::upstream::Upstream;

/// A configuration that has been checked.
pub struct Config {
    /// What a process takes once, at its start.
    pub node: Node,
    /// What a request takes.
    pub snapshot: Snapshot,
    /// What is allowed, and mostly not meant.
    pub warnings: Problems,
    /// Tells one file's text from another's.
    pub hash: Box<str>,
}

/// What a process takes once.
pub struct Node {
    /// Where to listen.
    pub listeners: Vec<ListenOn>,
    /// Where the operator's listener is.
    pub admin: SocketAddr,
    /// Worker threads.
    pub threads: usize,
    /// Directory of the embedded store.
    pub data: PathBuf,
    /// Most bytes of the embedded store.
    pub data_bytes: usize,
    /// Most bytes of profiles in memory.
    pub profile_bytes: usize,
    /// How long profiles in memory are believed.
    pub profile_lifetimes: Lifetimes,
    /// Where profiles are kept.
    pub profile_store: StoreChoice,
    /// How long a profile is kept that nobody writes.
    pub profile_expire: Option<Duration>,
    /// Most bytes of SDK files in memory.
    pub cache_bytes: usize,
    /// How events are kept until they are delivered.
    pub events: Keeping,
    /// Databases of places.
    pub geo: Vec<PathBuf>,
    /// What of the file a running process can't change.
    pub fixed: Fixed,
}

/// Where profiles are kept.
#[derive(Debug, Clone)]
pub enum StoreChoice {
    /// In [`Node::data`].
    Embedded,
    /// In Redis.
    Redis(Box<RedisOptions>),
}

/// One address to listen on.
pub struct ListenOn {
    /// Address and port.
    pub address: SocketAddr,
    /// TLS with these certificates, and whether HTTP/2 is offered.
    pub tls: Option<(Certificates, bool)>,
}

/// What a request takes, once, at its beginning.
pub struct Snapshot {
    /// Sites by host.
    pub sites: Hosts<Arc<Site>>,
    /// All sites, in the order of the file.
    pub all_sites: Vec<Arc<Site>>,
    /// Networks whose `X-Forwarded-*` are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Ports of listeners that redirect to https.
    pub redirect_ports: Vec<u16>,
    /// The most that a page waits for its profile.
    pub profile_wait: Duration,
    /// The most that a call to a vendor may take while a browser waits.
    pub vendor_timeout: Duration,
    /// What clients may ask of the events' route.
    pub event_limits: EventLimits,
    /// The log of requests.
    pub access_log: AccessLog,
    /// How many connections visitors may hold.
    pub connections: ConnectionBounds,
    /// What they may leave unread.
    pub unread: UnreadBounds,
    /// The end of a process.
    pub shutdown: End,
}

/// How many connections visitors may hold at one time.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionBounds {
    /// All together.
    pub most: usize,
    /// One address; of IPv6, one /64.
    pub per_client: usize,
}

/// What visitors may leave unread of their answers, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct UnreadBounds {
    /// All together.
    pub most: usize,
    /// One address; of IPv6, one /64.
    pub per_client: usize,
}

/// The end of a process.
#[derive(Debug, Clone, Copy)]
pub struct End {
    /// How long it goes on as before, while `/readyz` says that it ends.
    pub delay: Duration,
    /// The most that it may take from then on.
    pub drain: Duration,
}

impl Snapshot {
    /// The ways of all sites' events.
    pub fn lanes(&self) -> impl Iterator<Item = Arc<Lane>> {
        let sdks = self.all_sites.iter().flat_map(|site| site.sdks());
        let others = self.all_sites.iter().flat_map(|site| &site.generic);
        sdks.map(|(_, sdk)| Arc::clone(&sdk.lane))
            .chain(others.map(|vendor| Arc::clone(&vendor.lane)))
    }

    /// All servers that may be asked.
    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.all_sites.iter().flat_map(|site| {
            let source = site.source.as_ref().map(|source| source.upstream());
            let sdks = site.sdks().flat_map(|(_, sdk)| {
                [&sdk.cdn, &sdk.lane.upstream].into_iter().chain(&sdk.config_api)
            });
            let others = site.generic.iter().map(|vendor| &vendor.upstream);
            let check = site.check.as_ref().map(|check| &check.upstream);
            let origins = site.origin.iter().chain(&site.other_origins).chain(check);
            origins.chain(sdks).chain(others).chain(source)
        })
    }

    /// Knows at once what `before` knows of the names that both have.
    pub fn adopt_addresses(&self, before: &Self) {
        let mut known: HashMap<(&str, u16), &Arc<Upstream>> = HashMap::new();
        for upstream in before.upstreams() {
            let endpoint = upstream.endpoint();
            known.entry((endpoint.host(), endpoint.port())).or_insert(upstream);
        }
        for upstream in self.upstreams() {
            let endpoint = upstream.endpoint();
            if let Some(known) = known.get(&(endpoint.host(), endpoint.port())) {
                upstream.adopt_addresses(known);
            }
        }
    }
}
