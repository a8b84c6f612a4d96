//! A running node: listeners, stores and services put together, from start to end.

mod admin_address;
mod arrivals;
mod connection;
mod crowd;
mod gathered;
mod lifecycle;
mod names;
mod notify;
mod patience;
mod reload;
mod requests;
mod services;
mod sockets;
mod succession;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora::apps::HttpServerOptions;
use pingora::listeners::tls::TlsSettings;
use pingora::listeners::{ListenerConfig, TcpSocketOptions, TlsAccept};
use pingora::protocols::TcpKeepalive;
use pingora::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora::protocols::l4::stream::L4BufferSettings;
use pingora::server::configuration::{Opt, ServerConf};
use pingora::server::{RunArgs, Server, ShutdownWatch};
use pingora::services::ServiceWithDependents;
use pingora::services::background::{BackgroundService, background_service};
use pingora::services::listening::Service;
use pingora_proxy::http_proxy;
use tokio::sync::{mpsc, watch};

use crate::admin::Admin;
use crate::cache::Cache;
use crate::collect::Outbox;
use crate::config::{Config, ListenOn, LiveCertificates, Node, Snapshot, StoreChoice, show_ends};
use crate::decide::Decide;
use crate::edge::{Edge, MAX_HEAD_BYTES};
use crate::geo::{BadDatabase, Geo};
use crate::profile::store::{Embedded, ProfileStore, Redis, StoreError};
use crate::profile::{Memory, Resolver};
use crate::telemetry::{metrics, settle_logs};

use arrivals::Arrivals;
use connection::Gathering;
use crowd::Crowd;
use lifecycle::{Closes, Lifecycle};
use reload::{Binary, Reload};
use services::{Begun, Needed};
use sockets::{Handing, Sockets};

pub use admin_address::running_admin_address;
pub use lifecycle::{hold_signals, use_all_descriptors, use_small_pages};
pub use reload::{Ask, Taken};
pub use sockets::Inherited;
pub use succession::{NoSuccessor, Predecessor};

/// What is done with the profiles before the first request.
pub type Prepare = Box<dyn FnOnce(&Arc<Resolver>) + Send>;

/// How a node is started.
#[derive(Default)]
pub struct Start {
    /// The process that has started this one, to follow it.
    pub predecessor: Option<Predecessor>,
    /// Its sockets.
    pub inherited: Inherited,
    /// The file that the configuration came from: read again at SIGHUP.
    pub config_file: Option<PathBuf>,
    /// A folder to remove at the end.
    pub remove: Option<PathBuf>,
    /// More services of the same process, as the demonstration has them.
    pub beside: Vec<Box<dyn ServiceWithDependents>>,
    /// What is decided about pages behind the configuration's rules.
    pub deciders: Vec<Arc<dyn Decide>>,
    /// What to do with the profile store before the first request.
    pub prepare: Option<Prepare>,
}

/// Why a node can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The embedded store.
    #[error("the profile store can't be opened: check `data.path`")]
    Store(#[source] StoreError),
    /// The spool.
    #[error("events can't be kept in `data.path`: {0}")]
    Events(#[source] std::io::Error),
    /// A database of places.
    #[error(transparent)]
    Geo(#[from] BadDatabase),
    /// TLS.
    #[error("TLS can't be set up for {0}")]
    Tls(std::net::SocketAddr, #[source] Box<pingora::Error>),
    /// An address is taken or not ours.
    #[error("can't listen on {0}: {1}")]
    Listen(std::net::SocketAddr, #[source] std::io::Error),
    /// The sockets can't be copied.
    #[error("there are no more file descriptors: {0}")]
    Sockets(#[source] std::io::Error),
}

/// Runs a node until it is told to end.
///
/// # Errors
/// When it can't start. Nothing has been taken over then: a running process goes on.
pub fn run(config: Config, start: Start) -> Result<(), StartError> {
    metrics::declare();
    let Config { node, snapshot, hash, .. } = config;
    let addresses = node.listeners.iter().map(|on| on.address).chain([node.admin]);
    let sockets = Sockets::open(addresses, start.inherited)?;
    let handing = sockets.handing().map_err(StartError::Sockets)?;
    reload::record(Some(&hash));

    show_ends(node.listeners.iter().filter_map(|on| Some(&on.tls.as_ref()?.0)));
    let Stores { profiles, redis, outbox, geo, cache } =
        Stores::open(&node, &snapshot, start.prepare)?;
    let snapshot = Arc::new(ArcSwap::from_pointee(snapshot));
    let leaving = Arc::<AtomicBool>::default();
    // Of two processes that share the operator's address, one always takes requests.
    let ready = Arc::new(AtomicBool::new(start.predecessor.is_some()));
    let asks = mpsc::channel(MAX_ASKS);

    let mut server = Server::new_with_opt_and_conf(Opt::default(), server_conf(&node));
    work_beside(&mut server, &profiles, &outbox, &geo);
    let admin = Admin::new(
        Arc::clone(&ready),
        Arc::clone(&profiles),
        Arc::clone(&outbox),
        Arc::clone(&snapshot),
        asks.0.clone(),
    );
    let edge = Edge::new(
        Arc::clone(&snapshot),
        profiles,
        Arc::clone(&outbox),
        cache,
        Arc::clone(&geo),
        Arc::clone(&leaving),
    );
    let edge = start.deciders.iter().cloned().fold(edge, Edge::with_decider);
    let addresses = (node.listeners, node.admin);
    let Listening { certificates, begun, beat, arrivals, end_admin } =
        add_listening(&mut server, edge, admin, addresses, handing, &snapshot)?;
    for service in start.beside {
        server.add_boxed_service(service);
    }
    let sockets = Arc::new(Mutex::new(sockets));
    let closes = Arc::<Closes>::default();
    let (ending, ends) = watch::channel(None);
    let remove = start.remove.clone();
    let reload = Reload {
        file: start.config_file,
        fixed: node.fixed,
        snapshot: Arc::clone(&snapshot),
        certificates,
        outbox: Arc::clone(&outbox),
        redis,
        sockets: Arc::clone(&sockets),
        leaving: Arc::clone(&leaving),
        ending: ends,
        binary: Binary::of_this_process(),
    };
    let lifecycle = Lifecycle {
        leaving,
        ready,
        begun,
        arrivals,
        beat,
        sockets,
        admin: node.admin,
        data: node.data,
        end_admin,
        closes: Arc::clone(&closes),
        ending,
        speaks: Arc::new(AtomicBool::new(start.predecessor.is_none())),
        leaves: Arc::default(),
        predecessor: start.predecessor,
        outbox,
        snapshot,
        remove: start.remove,
        phases: server.watch_execution_phase(),
        reload: Some((reload, asks.1)),
        asks: asks.0,
    };
    server.bootstrap();
    lifecycle.start();
    server.run(RunArgs { shutdown_signal: Box::new(lifecycle::Signals(closes)) });
    // Only SIGINT leads here: any other end is the lifecycle's.
    if let Some(folder) = remove {
        // A temporary folder that can't be removed harms nobody.
        let _ = std::fs::remove_dir_all(folder);
    }
    settle_logs();
    Ok(())
}

/// What is to be known of the services that listen.
struct Listening {
    /// Of each listener with TLS, in their order.
    certificates: Vec<Arc<LiveCertificates>>,
    /// Tells that they have begun.
    begun: mpsc::Receiver<()>,
    /// Moves on as long as the edge's threads do.
    beat: Arc<AtomicU64>,
    /// Who has come and not asked yet.
    arrivals: Arrivals,
    /// Ends the operator's.
    end_admin: watch::Sender<bool>,
}

/// Adds the services that listen, for visitors and for the operator.
fn add_listening(
    server: &mut Server,
    edge: Edge,
    admin: Admin,
    (listeners, operators): (Vec<ListenOn>, std::net::SocketAddr),
    handing: Handing,
    snapshot: &Arc<ArcSwap<Snapshot>>,
) -> Result<Listening, StartError> {
    let mut proxy = http_proxy(&server.configuration, edge);
    proxy.server_options = Some(http_options());
    proxy.h2_options = Some(h2_options());
    let crowd = Some(Crowd::new(Arc::clone(snapshot)));
    let arrivals = Arrivals::default();
    let gathering = Gathering { app: Arc::new(proxy), crowd, arrivals: arrivals.clone() };
    let mut proxy = Service::new("edge".to_owned(), gathering);
    let mut certificates = Vec::new();
    for listener in listeners {
        certificates.extend(listen(&mut proxy, listener)?);
    }
    let mut operator = Service::new("admin".to_owned(), admin);
    operator.add_tcp(&operators.to_string());
    operator.threads = Some(1);
    let (end_admin, admin_ends) = watch::channel(false);

    let handing = server.add_service(handing);
    let names = names::Names::new(Arc::clone(snapshot));
    let names = server.add_service(Needed::new(background_service("names", names)));
    let beat = Arc::<AtomicU64>::default();
    let (tell, begun) = mpsc::channel(1);
    let edge = server.add_service(Needed::new(proxy).beating(Arc::clone(&beat)));
    edge.add_dependency(&handing);
    // The first visitor must not be the one who learns that no name has been resolved yet.
    edge.add_dependency(names);
    let admin = server.add_service(Needed::new(operator).until(admin_ends));
    admin.add_dependency(handing);
    let both = server.add_service(Begun(tell));
    both.add_dependency(edge);
    both.add_dependency(admin);
    Ok(Listening { certificates, begun, beat, arrivals, end_admin })
}

/// What a node keeps.
struct Stores {
    profiles: Arc<Resolver>,
    /// Where those are in Redis.
    redis: Option<Arc<Redis>>,
    outbox: Arc<Outbox>,
    geo: Arc<Geo>,
    cache: Arc<Cache>,
}

impl Stores {
    fn open(
        node: &Node,
        snapshot: &Snapshot,
        prepare: Option<Prepare>,
    ) -> Result<Self, StartError> {
        let (store, redis): (Arc<dyn ProfileStore>, _) = match &node.profile_store {
            StoreChoice::Redis(options) => {
                let redis = Arc::new(Redis::new((**options).clone()));
                (Arc::<Redis>::clone(&redis), Some(redis))
            }
            StoreChoice::Embedded => (open_store(node).map_err(StartError::Store)?, None),
        };
        let memory = Memory::new(node.profile_bytes, node.profile_lifetimes);
        let profiles = Arc::new(Resolver::new(memory, store));
        if let Some(prepare) = prepare {
            prepare(&profiles);
        }
        let outbox = Outbox::open(&node.data, snapshot.lanes(), node.events);
        Ok(Self {
            profiles,
            redis,
            outbox: Arc::new(outbox.map_err(StartError::Events)?),
            geo: Arc::new(Geo::open(node.geo.clone())?),
            cache: Arc::new(Cache::leak(node.cache_bytes)),
        })
    }
}

/// What is done beside requests.
fn work_beside(
    server: &mut Server,
    profiles: &Arc<Resolver>,
    outbox: &Arc<Outbox>,
    geo: &Arc<Geo>,
) {
    let follower = background_service("profiles", Follower(Arc::clone(profiles)));
    server.add_service(Needed::new(follower));
    let courier = Courier(Arc::clone(outbox), Arc::clone(profiles));
    let mut courier = background_service("events", courier);
    courier.threads = Some(1);
    server.add_service(Needed::new(courier));
    server.add_service(Needed::new(background_service("places", Places(Arc::clone(geo)))));
}

/// Who may wait for a reload at one time.
const MAX_ASKS: usize = 16;

/// Ends the process with `code`, once its logs have left.
fn end(code: i32) -> ! {
    settle_logs();
    std::process::exit(code)
}

/// Opens the store that the configuration names.
///
/// # Errors
/// When an embedded one can't be opened. Redis is connected later: a node that starts while it is
/// down serves pages all the same.
pub fn open_store(node: &Node) -> Result<Arc<dyn ProfileStore>, StoreError> {
    Ok(match &node.profile_store {
        StoreChoice::Embedded => {
            Arc::new(Embedded::open(&node.data, node.data_bytes, node.profile_expire)?)
        }
        StoreChoice::Redis(options) => Arc::new(Redis::new((**options).clone())),
    })
}

/// Hears of profiles' changes by others, for as long as the process lives.
struct Follower(Arc<Resolver>);

#[async_trait]
impl BackgroundService for Follower {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        tokio::select! {
            () = self.0.follow() => {}
            // What is in flight may still need profiles: they are asked for without memory.
            _ = shutdown.changed() => self.0.deaf(),
        }
    }
}

/// Reads databases of places again when they change.
struct Places(Arc<Geo>);

/// How often it is looked for changes.
const LOOK_AT_PLACES: std::time::Duration = std::time::Duration::from_secs(10);

#[async_trait]
impl BackgroundService for Places {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        if self.0.is_empty() {
            return;
        }
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_AT_PLACES) => {}
                _ = shutdown.changed() => return,
            }
            let geo = Arc::clone(&self.0);
            match tokio::task::spawn_blocking(move || geo.refresh()).await {
                Ok(Ok(true)) => tracing::info!("the databases of places have been read again"),
                Ok(Err(error)) => tracing::error!(%error, "the old database of places goes on"),
                Ok(Ok(false)) | Err(_) => {}
            }
        }
    }
}

/// Delivers events for as long as the process lives: also while it ends.
struct Courier(Arc<Outbox>, Arc<Resolver>);

#[async_trait]
impl BackgroundService for Courier {
    async fn start(&self, _: ShutdownWatch) {
        tokio::join!(self.0.run(), self.0.follow_deletions(&self.1));
    }
}

fn server_conf(node: &Node) -> ServerConf {
    ServerConf {
        threads: node.threads,
        // The lifecycle ends the process, as soon as nothing is in flight or its time is over.
        grace_period_seconds: Some(24 * 3600),
        graceful_shutdown_timeout_seconds: Some(1),
        upstream_keepalive_pool_size: 1024,
        max_retries: 4,
        ..ServerConf::default()
    }
}

/// Idle HTTP/2 connections of browsers are closed after this.
const H2_IDLE: std::time::Duration = std::time::Duration::from_mins(2);
/// A connection is closed after that many requests, to give its memory back.
const REQUESTS_PER_CONNECTION: u32 = 10_000;

fn http_options() -> HttpServerOptions {
    let mut options = HttpServerOptions::default();
    options.h2_idle_timeout = Some(H2_IDLE);
    options.keepalive_request_limit = Some(REQUESTS_PER_CONNECTION);
    options
}

/// Bytes of an answer that wait for a client that does not read: a hundred streams have as many each.
const H2_STREAM_BUFFER: usize = 64 * 1024;

/// As many streams at one time as Pingora allows (100), heads as large as HTTP/1 ones.
fn h2_options() -> H2Options {
    let mut options = default_h2_options();
    // HTTP/2 counts 32 bytes more for each field, of which cookies are many: what HTTP/1 would count is looked at later.
    options.max_header_list_size(2 * MAX_HEAD_BYTES);
    options.max_send_buffer_size(H2_STREAM_BUFFER);
    options
}

struct NoCallbacks;
impl TlsAccept for NoCallbacks {}

fn listen<A>(
    service: &mut Service<A>,
    on: ListenOn,
) -> Result<Option<Arc<LiveCertificates>>, StartError> {
    let mut socket = TcpSocketOptions::default();
    // A phone that has gone away without a word.
    socket.tcp_keepalive = Some(TcpKeepalive {
        idle: std::time::Duration::from_mins(2),
        interval: std::time::Duration::from_secs(30),
        count: 4,
        #[cfg(target_os = "linux")]
        user_timeout: std::time::Duration::ZERO,
    });
    let address = on.address.to_string();
    let Some((certificates, http2)) = on.tls else {
        // Heads and bodies are read into buffers of their own, and writes are gathered: more buffers
        // would only cost every idle connection 64 KiB.
        service.add_listener(
            ListenerConfig::tcp(address)
                .tcp_socket_options(socket)
                .l4_buffer(L4BufferSettings::unbuffered()),
        );
        return Ok(None);
    };
    let mut tls = TlsSettings::with_callbacks(Box::new(NoCallbacks))
        .map_err(|error| StartError::Tls(on.address, error))?;
    let certificates = Arc::new(LiveCertificates::new(certificates));
    tls.set_cert_resolver(Arc::<LiveCertificates>::clone(&certificates));
    if http2 {
        tls.enable_h2();
    }
    service.add_listener(
        ListenerConfig::tcp(address)
            .tcp_socket_options(socket)
            .l4_buffer(L4BufferSettings::unbuffered())
            .tls(tls),
    );
    Ok(Some(certificates))
}
