//! A running node: listeners, stores and services put together, from start to end.

mod connection;
mod gathered;
mod lifecycle;
mod names;
mod notify;
mod patience;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

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

use crate::admin::Admin;
use crate::cache::Cache;
use crate::collect::Outbox;
use crate::config::{Config, ListenOn, Node, StoreChoice, show_ends};
use crate::decide::Decide;
use crate::edge::{Edge, MAX_HEAD_BYTES};
use crate::geo::{BadDatabase, Geo};
use crate::profile::store::{Embedded, ProfileStore, Redis, StoreError};
use crate::profile::{Memory, Resolver};
use crate::telemetry::metrics;

use connection::Gathering;
pub use lifecycle::{Lifecycle, use_small_pages};

/// What is done with the profiles before the first request.
pub type Prepare = Box<dyn FnOnce(&Arc<Resolver>) + Send>;

/// How a node is started.
#[derive(Default)]
pub struct Start {
    /// Take the listeners over from this process, which has started this one.
    pub upgrade: Option<i32>,
    /// The file that the configuration came from: read again for the next process.
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
    /// The directory of the upgrade socket.
    #[error("`{0}`, the directory of `shutdown.upgrade_socket`, can't be made: {1}")]
    UpgradeSocket(PathBuf, #[source] std::io::Error),
    /// The process that was to hand over.
    #[error("the running process could not be told to hand over: {0}")]
    HandOver(#[source] nix::Error),
}

/// Runs a node until it is told to end.
///
/// # Errors
/// When it can't start. Nothing has been taken over then: a running process goes on.
pub fn run(config: Config, start: Start) -> Result<(), StartError> {
    metrics::declare();
    let Config { node, snapshot, .. } = config;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    metrics::CONFIG_LOADED.set(i64::try_from(now.as_secs()).unwrap_or(0));

    show_ends(node.listeners.iter().filter_map(|on| Some(&*on.tls.as_ref()?.0)));
    let store = open_store(&node).map_err(StartError::Store)?;
    let memory = Memory::new(node.profile_bytes, node.profile_lifetimes);
    let profiles = Arc::new(Resolver::new(memory, store));
    if let Some(prepare) = start.prepare {
        prepare(&profiles);
    }
    let sdks = snapshot.all_sites.iter().flat_map(|site| site.sdks());
    let others = snapshot.all_sites.iter().flat_map(|site| &site.generic);
    let lanes = sdks
        .map(|(_, sdk)| Arc::clone(&sdk.lane))
        .chain(others.map(|vendor| Arc::clone(&vendor.lane)));
    let outbox = Outbox::open(&node.data, lanes, node.events);
    let outbox = Arc::new(outbox.map_err(StartError::Events)?);
    let geo = Arc::new(Geo::open(node.geo.clone()).map_err(StartError::Geo)?);
    let cache = Arc::new(Cache::leak(node.cache_bytes));
    let snapshot = Arc::new(ArcSwap::from_pointee(snapshot));
    let leaving = Arc::new(AtomicBool::new(false));

    make_socket_directory(&node)?;
    if start.upgrade.is_none() {
        check_addresses(&node)?;
    }
    let conf = server_conf(&node);
    let options = Opt { upgrade: start.upgrade.is_some(), ..Opt::default() };
    let mut server = Server::new_with_opt_and_conf(options, conf);

    let follower = background_service("profiles", Follower(Arc::clone(&profiles)));
    server.add_service(follower);
    let mut courier =
        background_service("events", Courier(Arc::clone(&outbox), Arc::clone(&profiles)));
    courier.threads = Some(1);
    server.add_service(courier);
    server.add_service(background_service("places", Places(Arc::clone(&geo))));
    let sites = snapshot.load().all_sites.iter().map(|site| site.name.clone()).collect();
    let ready = Arc::new(AtomicBool::new(false));
    let admin = Admin::new(Arc::clone(&ready), Arc::clone(&profiles), Arc::clone(&outbox), sites);
    let edge = Edge::new(
        Arc::clone(&snapshot),
        profiles,
        Arc::clone(&outbox),
        cache,
        Arc::clone(&geo),
        Arc::clone(&leaving),
    );
    let edge = start.deciders.iter().cloned().fold(edge, Edge::with_decider);
    let mut proxy = http_proxy(&server.configuration, edge);
    proxy.server_options = Some(http_options());
    proxy.h2_options = Some(h2_options());
    let mut proxy = Service::new("edge".to_owned(), Gathering(Arc::new(proxy)));
    for listener in &node.listeners {
        listen(&mut proxy, listener)?;
    }
    let mut admin = Service::new("admin".to_owned(), admin);
    admin.add_tcp(&node.admin.to_string());
    admin.threads = Some(1);

    let names = server.add_service(background_service("names", names::Names::new(snapshot)));
    // The first visitor must not be the one who learns that no name has been resolved yet.
    server.add_service(proxy).add_dependency(names);
    server.add_service(admin);
    for service in start.beside {
        server.add_boxed_service(service);
    }
    let remove = start.remove.clone();
    let lifecycle = Lifecycle {
        leaving,
        ready,
        ports: node
            .listeners
            .iter()
            .map(|on| on.address.port())
            .filter(|port| *port != 0)
            .collect(),
        outbox,
        drain: node.drain,
        config_file: start.config_file,
        remove: start.remove,
        phases: server.watch_execution_phase(),
    };
    if let Some(old) = start.upgrade {
        // From here on nothing of ours can fail any more: the old process may hand over. It tries
        // for five seconds to reach the socket that `bootstrap` opens.
        lifecycle::ask_for_hand_over(old).map_err(StartError::HandOver)?;
    }
    server.bootstrap();
    lifecycle.start();
    server.run(RunArgs { shutdown_signal: Box::new(lifecycle::Signals) });
    // Only SIGINT leads here: any other end is the lifecycle's.
    if let Some(folder) = remove {
        // A temporary folder that can't be removed harms nobody.
        let _ = std::fs::remove_dir_all(folder);
    }
    Ok(())
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
        upgrade_sock: node.upgrade_socket.clone(),
        // The lifecycle ends the process as soon as nothing is in flight; these are the limits.
        grace_period_seconds: Some(node.drain.as_secs().max(1)),
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

/// As many streams at one time as Pingora allows (100), heads as large as HTTP/1 ones.
fn h2_options() -> H2Options {
    let mut options = default_h2_options();
    options.max_header_list_size(MAX_HEAD_BYTES);
    options
}

struct NoCallbacks;
impl TlsAccept for NoCallbacks {}

fn listen<A>(service: &mut Service<A>, on: &ListenOn) -> Result<(), StartError> {
    let mut socket = TcpSocketOptions::default();
    // A phone that has gone away without a word.
    socket.tcp_keepalive = Some(TcpKeepalive {
        idle: std::time::Duration::from_mins(2),
        interval: std::time::Duration::from_secs(30),
        count: 4,
        #[cfg(target_os = "linux")]
        user_timeout: std::time::Duration::ZERO,
    });
    // `[::]` and `0.0.0.0` on one port are two listeners.
    socket.ipv6_only = on.address.is_ipv6().then_some(true);
    let address = on.address.to_string();
    match &on.tls {
        // Heads and bodies are read into buffers of their own, and writes are gathered: more buffers
        // would only cost every idle connection 64 KiB.
        None => service.add_listener(
            ListenerConfig::tcp(address)
                .tcp_socket_options(socket)
                .l4_buffer(L4BufferSettings::unbuffered()),
        ),
        Some((certificates, http2)) => {
            let mut tls = TlsSettings::with_callbacks(Box::new(NoCallbacks))
                .map_err(|error| StartError::Tls(on.address, error))?;
            tls.set_cert_resolver(Arc::<crate::config::Certificates>::clone(certificates));
            if *http2 {
                tls.enable_h2();
            }
            service.add_tls_with_settings(&address, Some(socket), tls);
        }
    }
    Ok(())
}

/// A taken address ends the process with one line, instead of a panic in a service.
fn check_addresses(node: &Node) -> Result<(), StartError> {
    let addresses = node.listeners.iter().map(|on| on.address).chain([node.admin]);
    for address in addresses.filter(|address| address.port() != 0) {
        std::net::TcpListener::bind(address).map_err(|error| StartError::Listen(address, error))?;
    }
    Ok(())
}

fn make_socket_directory(node: &Node) -> Result<(), StartError> {
    use std::os::unix::fs::DirBuilderExt;
    let Some(directory) = std::path::Path::new(&node.upgrade_socket).parent() else {
        return Ok(());
    };
    // Who can reach the socket can take the listeners over.
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| StartError::UpgradeSocket(directory.into(), error))
}
