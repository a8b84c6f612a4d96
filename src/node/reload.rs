//! A configuration is taken while a node runs: by this process where it can be, else by the next one.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot, watch};

use super::lifecycle::Ending;
use super::names::resolve;
use super::sockets::Sockets;
use super::succession::{NoSuccessor, Successor};
use crate::collect::Outbox;
use crate::config::{
    Config, Fixed, LiveCertificates, LoadError, Snapshot, StoreChoice, load_file, show_ends,
};
use crate::profile::store::Redis;
use crate::telemetry::metrics;

/// Somebody who wants the configuration to be read again, and may want to know what became of that.
pub type Ask = Option<oneshot::Sender<Result<Taken, String>>>;

/// How a configuration was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// By the process that runs.
    Here,
    /// By the next process: this one leaves.
    ByTheNext,
}

impl Taken {
    /// As people read it.
    #[must_use]
    pub fn told(self) -> &'static str {
        match self {
            Self::Here => "taken, by the process that runs",
            Self::ByTheNext => "taken, by the next process",
        }
    }
}

/// Why one was not taken.
#[derive(Debug, thiserror::Error)]
enum NotTaken {
    #[error("the configuration is not taken, this process goes on:\n{0}")]
    Configuration(#[from] LoadError),
    #[error("{0}\nthis process goes on")]
    NoSuccessor(#[from] NoSuccessor),
    #[error("there is no configuration file to read again")]
    NoFile,
    #[error("events can't be kept in `data.path`: {0}")]
    Events(#[source] std::io::Error),
}

/// Reads the configuration again.
pub(super) struct Reload {
    /// Where it is.
    pub(super) file: Option<PathBuf>,
    /// What this process can't change.
    pub(super) fixed: Fixed,
    /// What it can.
    pub(super) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(super) certificates: Vec<Arc<LiveCertificates>>,
    pub(super) outbox: Arc<Outbox>,
    /// Where profiles are kept in Redis.
    pub(super) redis: Option<Arc<Redis>>,
    /// What the next process gets.
    pub(super) sockets: Arc<Mutex<Sockets>>,
    /// Set while answers close their connections.
    pub(super) leaving: Arc<AtomicBool>,
    /// Set once the process is to end: nothing is to follow it then.
    pub(super) ending: watch::Receiver<Option<Ending>>,
    /// The binary that runs: what stands there later may be another one.
    pub(super) binary: Binary,
}

/// A binary as it was when the process started.
#[derive(Debug, Clone, Default)]
pub(super) struct Binary {
    path: Option<PathBuf>,
    identity: Option<(u64, u64, SystemTime)>,
}

impl Binary {
    /// The one that runs.
    pub(super) fn of_this_process() -> Self {
        let path = std::env::current_exe().ok();
        let identity = path.as_deref().and_then(|path| identity(&std::fs::metadata(path).ok()?));
        Self { path, identity }
    }

    /// Whether another one stands in its place.
    fn is_another(&self) -> bool {
        let now = self.path.as_deref().and_then(|path| std::fs::metadata(path).ok());
        now.is_some_and(|now| identity(&now) != self.identity)
    }
}

fn identity(file: &Metadata) -> Option<(u64, u64, SystemTime)> {
    Some((file.dev(), file.ino(), file.modified().ok()?))
}

/// Names that are new may take so long to be resolved, before a configuration is taken without.
const NAMES_WITHIN: Duration = Duration::from_millis(800);

impl Reload {
    /// Does what is asked for, one after the other, until there is a next process: that one, and whether it is to read
    /// the configuration again, goes to `successors`.
    pub(super) async fn run(
        mut self,
        mut asks: mpsc::Receiver<Ask>,
        successors: mpsc::Sender<(Successor, bool)>,
    ) {
        let mut ending = self.ending.clone();
        loop {
            let ask = tokio::select! {
                Some(ask) = asks.recv() => ask,
                _ = ending.wait_for(Option::is_some) => return,
            };
            // Whoever has asked by now is content with the same file.
            let mut asking: Vec<Ask> = vec![ask];
            while let Ok(more) = asks.try_recv() {
                asking.push(more);
            }
            let taken = self.reload().await;
            record(taken.as_ref().map(|(_, hash)| &**hash).ok());
            let told = match &taken {
                Ok((None, _)) => Ok(Taken::Here),
                Ok((Some(_), _)) => Ok(Taken::ByTheNext),
                Err(why) => Err(why.to_string()),
            };
            match &told {
                Ok(taken) => tracing::info!("the configuration is {}", taken.told()),
                Err(why) => tracing::error!("{why}"),
            }
            for ask in asking.into_iter().flatten() {
                // Whoever has asked may be gone.
                let _ = ask.send(told.clone());
            }
            if let Ok((Some(successor), _)) = taken {
                // What has been asked for meanwhile, the next process does.
                let again = asks.try_recv().is_ok();
                let _ = successors.send((successor, again)).await;
                return;
            }
        }
    }

    /// The next process, where it takes it, and the configuration's hash.
    async fn reload(&mut self) -> Result<(Option<Successor>, Box<str>), NotTaken> {
        let file = self.file.as_deref().ok_or(NotTaken::NoFile)?;
        let config = load_file(file)?;
        for warning in config.warnings.list() {
            tracing::warn!(at = warning.pointer(), "{}", warning.message());
        }
        let hash = config.hash.clone();
        if config.node.fixed == self.fixed && !self.binary.is_another() {
            self.take(config).await?;
            return Ok((None, hash));
        }
        let binary = self.binary.path.as_deref().ok_or(NotTaken::NoFile)?;
        let started = {
            let sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
            Successor::start(binary, file, &sockets)
        };
        let mut successor = started.map_err(NoSuccessor::Start)?;
        tracing::info!("the next process is starting");
        match self.hand_over(&mut successor).await {
            Ok(()) => Ok((Some(successor), hash)),
            Err(why) => {
                // Nothing has been let go.
                let ending = *self.ending.borrow();
                self.leaving.store(ending.is_some(), Ordering::Relaxed);
                if ending == Some(Ending::Drain) {
                    successor.leave_as_well().await;
                } else {
                    successor.stop().await;
                }
                Err(why.into())
            }
        }
    }

    /// Lets clients go over to the next process, as long as it serves: both take connections.
    async fn hand_over(&self, successor: &mut Successor) -> Result<(), NoSuccessor> {
        let mut ending = self.ending.clone();
        let proving = async {
            successor.get_ready().await?;
            self.leaving.store(true, Ordering::Relaxed);
            successor.prove_itself().await
        };
        tokio::select! {
            proved = proving => proved,
            _ = ending.wait_for(Option::is_some) => Err(NoSuccessor::Unwanted),
        }
    }

    /// Takes a configuration that differs in what a running process can change.
    async fn take(&self, config: Config) -> Result<(), NotTaken> {
        let Config { node, snapshot, .. } = config;
        self.outbox.take_lanes(snapshot.lanes()).map_err(NotTaken::Events)?;
        if let (Some(redis), StoreChoice::Redis(options)) = (&self.redis, node.profile_store) {
            redis.take(*options);
        }
        let before = self.snapshot.load_full();
        snapshot.adopt_addresses(&before);
        // What is not known by then is looked for as at any time.
        let _ = tokio::time::timeout(NAMES_WITHIN, resolve(&snapshot, |_, _| {})).await;
        show_ends(node.listeners.iter().filter_map(|on| Some(&on.tls.as_ref()?.0)));
        let fresh = node.listeners.into_iter().filter_map(|on| on.tls);
        for (running, (fresh, _)) in self.certificates.iter().zip(fresh) {
            running.take(fresh);
        }
        self.snapshot.store(Arc::new(snapshot));
        Ok(())
    }
}

/// Tells operators what became of a configuration; `hash`: of one that was taken.
pub(super) fn record(hash: Option<&str>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(now.as_secs()).unwrap_or(0);
    metrics::RELOAD_SECONDS.set(now);
    metrics::RELOAD_SUCCESSFUL.set(i64::from(hash.is_some()));
    if let Some(hash) = hash {
        metrics::CONFIG_LOADED.set(now);
        metrics::CONFIG_INFO.reset();
        metrics::CONFIG_INFO.with_label_values(&[hash]).set(1);
    }
}
