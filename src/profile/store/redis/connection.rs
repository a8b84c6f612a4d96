//! The connection to Redis: made, given up and made again in the background. A page never waits for
//! one to be made: while there is none, the store has failed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use redis::aio::{ConnectionLike, MultiplexedConnection, PubSub};
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, IntoConnectionInfo, Pipeline,
    RedisError, RedisFuture, RedisResult, ServerErrorKind, Value,
};
use tokio::sync::{Mutex, Notify};

use super::{Mode, Options};

/// A connection of either kind.
#[derive(Clone)]
pub(super) enum Connection {
    Plain(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Plain(plain) => plain.req_packed_command(cmd),
            Self::Cluster(cluster) => cluster.req_packed_command(cmd),
        }
    }
    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Plain(plain) => plain.req_packed_commands(pipeline, offset, count),
            Self::Cluster(cluster) => cluster.req_packed_commands(pipeline, offset, count),
        }
    }
    fn get_db(&self) -> i64 {
        match self {
            Self::Plain(plain) => plain.get_db(),
            Self::Cluster(cluster) => cluster.get_db(),
        }
    }
}

/// What is connected at the moment.
pub(super) struct Connected {
    /// To the master, or the cluster.
    pub(super) master: Connection,
    /// To a replica, where reads may go there.
    pub(super) replica: Option<Connection>,
    number: u64,
}

/// Makes connections.
pub(super) struct Connector {
    /// What its connections are for.
    purpose: &'static str,
    options: Arc<ArcSwap<Options>>,
    current: ArcSwapOption<Connected>,
    numbers: AtomicU64,
    /// Told when the current connection is given up, or another one is wanted in its place.
    lost: Notify,
    /// The options have changed since the current connection was made.
    renew: AtomicBool,
    /// Told when that has been made up for.
    renewed: Arc<Notify>,
    sentinel: Mutex<Option<redis::sentinel::Sentinel>>,
    /// Which address of several is tried next.
    turn: AtomicU64,
}

/// Pauses between attempts to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

impl Connector {
    pub(super) fn new(
        purpose: &'static str,
        options: Arc<ArcSwap<Options>>,
        renewed: Arc<Notify>,
    ) -> Self {
        Self {
            purpose,
            options,
            current: ArcSwapOption::empty(),
            numbers: AtomicU64::new(0),
            lost: Notify::new(),
            renew: AtomicBool::new(false),
            renewed,
            sentinel: Mutex::default(),
            turn: AtomicU64::new(0),
        }
    }

    fn options(&self) -> Arc<Options> {
        self.options.load_full()
    }

    /// Connects anew, as the options say by now. What is connected serves until then.
    pub(super) fn renew(&self) {
        self.renew.store(true, Ordering::Relaxed);
        self.lost.notify_one();
    }

    /// What is connected; `None` while there is nothing.
    pub(super) fn current(&self) -> Option<Arc<Connected>> {
        self.current.load_full()
    }

    /// Gives `connected` up if `error` says that nothing more is to be expected of it, and tells whether it has.
    pub(super) fn judge(&self, connected: &Connected, error: &RedisError) -> bool {
        // A cluster's connection looks after its parts by itself.
        let broken = match error.kind() {
            ErrorKind::Io
            | ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown) => true,
            _ => error.is_connection_dropped(),
        };
        broken && !matches!(connected.master, Connection::Cluster(_)) && self.give_up(connected)
    }

    /// Gives up what is connected, where there is something.
    pub(super) fn give_up_current(&self) {
        if let Some(connected) = self.current() {
            self.give_up(&connected);
        }
    }

    /// Gives `connected` up: it does not answer. Whether it was still what is connected.
    pub(super) fn give_up(&self, connected: &Connected) -> bool {
        let is_current =
            self.current.load().as_ref().is_some_and(|now| now.number == connected.number);
        if is_current {
            self.current.store(None);
            self.lost.notify_one();
        }
        is_current
    }

    /// Keeps a connection for as long as it is polled.
    pub(super) async fn keep(&self) {
        let mut pause = FIRST_PAUSE;
        let mut told = false;
        loop {
            let renew = self.renew.swap(false, Ordering::Relaxed);
            if renew {
                *self.sentinel.lock().await = None;
            }
            if renew || self.current.load().is_none() {
                match self.connect().await {
                    Ok(()) => {
                        if renew {
                            self.renewed.notify_one();
                        }
                        if told {
                            tracing::info!(
                                purpose = self.purpose,
                                "the profile store is connected again"
                            );
                        }
                        (pause, told) = (FIRST_PAUSE, false);
                    }
                    Err(error) => {
                        self.renew.fetch_or(renew, Ordering::Relaxed);
                        if !told {
                            tracing::warn!(%error, purpose = self.purpose, "the profile store can't be connected");
                            told = true;
                        }
                        tokio::time::sleep(jittered(pause)).await;
                        pause = (pause * 2).min(LONGEST_PAUSE);
                        continue;
                    }
                }
            }
            self.lost.notified().await;
        }
    }

    /// Makes a connection now.
    pub(super) async fn connect(&self) -> RedisResult<()> {
        let made = tokio::time::timeout(self.options().connect_timeout * 2, self.make());
        let (master, replica) = made.await.unwrap_or_else(|_| Err(too_late()))?;
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        self.current.store(Some(Arc::new(Connected { master, replica, number })));
        Ok(())
    }

    async fn make(&self) -> RedisResult<(Connection, Option<Connection>)> {
        match &self.options().mode {
            Mode::Cluster => {
                let nodes = self.addresses()?;
                let mut builder = redis::cluster::ClusterClient::builder(nodes)
                    .connection_timeout(self.options().connect_timeout)
                    .response_timeout(self.options().timeout)
                    .overall_response_timeout(Some(self.options().timeout))
                    .retries(3);
                if let Some(certificates) = self.options().tls.certificates() {
                    builder = builder.certs(certificates);
                }
                if self.options().read_from_replicas {
                    let strategy = redis::cluster_read_routing::RandomReplicaStrategy;
                    builder = builder.read_routing_strategy(strategy);
                }
                let cluster = builder.build()?.get_async_connection().await?;
                Ok((Connection::Cluster(cluster), None))
            }
            Mode::Single | Mode::Sentinel { .. } => {
                let master = self.open(&self.master().await?).await?;
                let replica = if self.options().read_from_replicas {
                    match self.replica().await {
                        Some(client) => self.open(&client).await.ok(),
                        None => None,
                    }
                } else {
                    None
                };
                Ok((master, replica))
            }
        }
    }

    async fn open(&self, client: &Client) -> RedisResult<Connection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.options().connect_timeout))
            // The store has a deadline of its own around each call.
            .set_response_timeout(Some(self.options().connect_timeout));
        let mut made = client.get_multiplexed_async_connection_with_config(&config).await?;
        // A process that is stopped accepts connections all the same.
        redis::cmd("PING").query_async::<()>(&mut made).await?;
        Ok(Connection::Plain(made))
    }

    /// The master, as the sentinels know it, or the first address.
    async fn master(&self) -> RedisResult<Client> {
        match &self.options().mode {
            Mode::Sentinel { master, .. } => {
                let mut sentinel = self.sentinel.lock().await;
                let known = match &mut *sentinel {
                    Some(known) => known,
                    none => none.insert(redis::sentinel::Sentinel::build(self.addresses()?)?),
                };
                let node = self.options().node();
                let client = known.async_master_for(master, Some(&node)).await;
                if client.is_err() {
                    // Its connections to the sentinels may be dead.
                    *sentinel = None;
                }
                client
            }
            Mode::Single => {
                let first = self.addresses()?.into_iter().next().ok_or_else(no_address)?;
                self.client(first)
            }
            Mode::Cluster => {
                let mut nodes = self.addresses()?;
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                let turn = usize::try_from(turn).unwrap_or(0) % nodes.len().max(1);
                nodes.rotate_left(turn);
                self.client(nodes.into_iter().next().ok_or_else(no_address)?)
            }
        }
    }

    async fn replica(&self) -> Option<Client> {
        match &self.options().mode {
            Mode::Sentinel { master, .. } => {
                let mut sentinel = self.sentinel.lock().await;
                let node = self.options().node();
                sentinel.as_mut()?.async_replica_rotate_for(master, Some(&node)).await.ok()
            }
            Mode::Single | Mode::Cluster => {
                let replicas: Vec<_> = self.addresses().ok()?.into_iter().skip(1).collect();
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                let turn = usize::try_from(turn).ok()?.checked_rem(replicas.len())?;
                self.client(replicas.into_iter().nth(turn)?).ok()
            }
        }
    }

    fn client(&self, info: redis::ConnectionInfo) -> RedisResult<Client> {
        match self.options().tls.certificates() {
            Some(certificates) if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) => {
                Client::build_with_tls(info, certificates)
            }
            _ => Client::open(info),
        }
    }

    fn addresses(&self) -> RedisResult<Vec<redis::ConnectionInfo>> {
        self.options().urls.iter().map(|url| url.expose().into_connection_info()).collect()
    }

    /// A connection that hears what is published.
    pub(super) async fn subscribe(&self, channel: &str) -> RedisResult<PubSub> {
        let subscribing = async {
            let mut listening = self.master().await?.get_async_pubsub().await?;
            listening.subscribe(channel).await?;
            Ok(listening)
        };
        let limit = self.options().connect_timeout * 2;
        tokio::time::timeout(limit, subscribing).await.unwrap_or_else(|_| Err(too_late()))
    }

    /// A connection to each server that has keys of its own.
    pub(super) async fn shards(&self) -> RedisResult<Vec<MultiplexedConnection>> {
        let first = self.master().await?;
        if !matches!(self.options().mode, Mode::Cluster) {
            return Ok(vec![first.get_multiplexed_async_connection().await?]);
        }
        let mut asking = first.get_multiplexed_async_connection().await?;
        let slots: Vec<Vec<Value>> =
            redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut asking).await?;
        let mut masters: Vec<(String, u16)> = slots
            .into_iter()
            .filter_map(|range| redis::from_redis_value(range.into_iter().nth(2)?).ok())
            .filter_map(|node: Vec<Value>| {
                let mut parts = node.into_iter();
                let host = redis::from_redis_value(parts.next()?).ok()?;
                Some((host, redis::from_redis_value(parts.next()?).ok()?))
            })
            .collect();
        masters.sort();
        masters.dedup();
        let mut out = Vec::new();
        for (host, port) in masters {
            let info = first.get_connection_info().clone();
            let address = match info.addr() {
                ConnectionAddr::TcpTls { insecure, tls_params, .. } => ConnectionAddr::TcpTls {
                    host,
                    port,
                    insecure: *insecure,
                    tls_params: tls_params.clone(),
                },
                _ => ConnectionAddr::Tcp(host, port),
            };
            let client = Client::open(info.set_addr(address))?;
            out.push(client.get_multiplexed_async_connection().await?);
        }
        Ok(out)
    }
}

fn too_late() -> RedisError {
    RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut))
}

fn no_address() -> RedisError {
    RedisError::from((ErrorKind::InvalidClientConfig, "no address"))
}

/// Up to half longer, so that many nodes do not come back at one moment.
fn jittered(pause: Duration) -> Duration {
    let share = f64::from(uuid::Uuid::new_v4().as_fields().0) / f64::from(u32::MAX);
    pause.mul_f64(1.0 + share / 2.0)
}
