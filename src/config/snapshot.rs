//! The compiled configuration: no optional that loading could have filled, nothing left to parse.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::certificate::Certificates;
use super::problem::Problems;
use crate::collect::{EventLimits, Keeping};
use crate::profile::Lifetimes;
use crate::profile::store::RedisOptions;
use crate::site::{Hosts, Site};
use crate::telemetry::AccessLog;

/// A configuration that has been checked.
pub struct Config {
    /// What a process takes once, at its start.
    pub node: Node,
    /// What a request takes.
    pub snapshot: Snapshot,
    /// What is allowed, and mostly not meant.
    pub warnings: Problems,
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
    /// How long the end of a process may take.
    pub drain: Duration,
    /// Where a new process takes the listeners over.
    pub upgrade_socket: String,
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
    pub tls: Option<(Arc<Certificates>, bool)>,
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
}
