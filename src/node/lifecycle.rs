//! The life of a process: ready, reloaded, at its end.
//!
//! SIGHUP: the configuration is read again (`reload.rs`). SIGTERM: not ready any more, for `shutdown.delay` as before, then
//! no new connections, answers close theirs, and the process leaves once nothing is in flight. SIGINT: at once.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use nix::sys::signal::SigSet;
use pingora::server::{ExecutionPhase, ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, sleep, timeout};

use super::arrivals::{Arrivals, SETTLE};
use super::notify::{notify, watchdog};
use super::reload::{Ask, Reload};
use super::sockets::Sockets;
use super::succession::{Follows, Predecessor, Successor};
use super::{admin_address, end};
use crate::collect::Outbox;
use crate::config::Snapshot;
use crate::telemetry::metrics::IN_FLIGHT;

/// Watches over a process.
pub(super) struct Lifecycle {
    /// Set when answers are to close their connections.
    pub(super) leaving: Arc<AtomicBool>,
    /// Set while the node takes requests.
    pub(super) ready: Arc<AtomicBool>,
    /// Tells that the services that listen have begun.
    pub(super) begun: mpsc::Receiver<()>,
    /// Who has a connection and may ask for something.
    pub(super) arrivals: Arrivals,
    /// Moves on as long as the edge's threads do.
    pub(super) beat: Arc<AtomicU64>,
    /// Open as long as the process takes connections.
    pub(super) sockets: Arc<Mutex<Sockets>>,
    /// The operator's address, which closes last.
    pub(super) admin: std::net::SocketAddr,
    /// Where the node keeps its data.
    pub(super) data: PathBuf,
    /// Ends the operator's listener.
    pub(super) end_admin: watch::Sender<bool>,
    /// Makes Pingora close its listeners.
    pub(super) closes: Arc<Closes>,
    /// Says when the process is to end by itself, and how.
    pub(super) ending: watch::Sender<Option<Ending>>,
    /// The service manager listens to this process, and to no other.
    pub(super) speaks: Arc<AtomicBool>,
    /// Told when the process is to end with the one before.
    pub(super) leaves: Arc<Notify>,
    /// The process that this one is to follow.
    pub(super) predecessor: Option<Predecessor>,
    /// Events that can still be delivered.
    pub(super) outbox: Arc<Outbox>,
    /// How long the end may take.
    pub(super) snapshot: Arc<ArcSwap<Snapshot>>,
    /// A folder to remove at the end.
    pub(super) remove: Option<PathBuf>,
    /// What Pingora is doing.
    pub(super) phases: broadcast::Receiver<ExecutionPhase>,
    /// Reads the configuration again, where somebody asks for that.
    pub(super) reload: Option<(Reload, mpsc::Receiver<Ask>)>,
    /// Asks for it.
    pub(super) asks: mpsc::Sender<Ask>,
}

/// How a process ends that nobody follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// With what is in flight: a next process that serves already ends so, too.
    Drain,
    /// Now.
    AtOnce,
}

/// How Pingora's part is to end.
#[derive(Default)]
pub(super) struct Closes {
    graceful: Notify,
    at_once: Notify,
}

/// What Pingora is told: signals are the lifecycle's.
pub(super) struct Signals(pub(super) Arc<Closes>);

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        tokio::select! {
            () = self.0.graceful.notified() => ShutdownSignal::GracefulTerminate,
            () = self.0.at_once.notified() => ShutdownSignal::FastShutdown,
        }
    }
}

/// Takes memory in small pages from now on. The allocator asks for large ones (2 MiB), and a start scatters
/// what it needs and gives most of it back: each large page would stay for the little that is left in it.
pub fn use_small_pages() {
    // Where it can't be said, memory is all that it costs.
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_thp_disable(true);
}

/// Lets a hang-up and a quit wait for whoever watches over the process: before that, the system would end it.
pub fn hold_signals() {
    // Where they can't be held, the system does what it always does.
    let _ = held().thread_block();
}

fn held() -> SigSet {
    let mut held = SigSet::empty();
    held.add(nix::sys::signal::SIGHUP);
    held.add(nix::sys::signal::SIGQUIT);
    held
}

/// Takes as many file descriptors as the process may have.
pub fn use_all_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, all) {
        tracing::warn!(%error, "the bound of file descriptors can't be raised");
    }
    if let Some(few) = limit.maximum.filter(|most| *most < FEW_DESCRIPTORS) {
        tracing::warn!(
            limit = few,
            "few file descriptors: each visitor needs up to two (see LimitNOFILE= of the service)"
        );
    }
}

/// A node that has fewer holds few visitors.
const FEW_DESCRIPTORS: u64 = 4096;

/// How often it is looked at the end whether anything is in flight.
const LOOK: Duration = Duration::from_millis(20);

/// A reload may take so long to give up.
const UNFOLLOWED: Duration = Duration::from_secs(2);

/// The signals of a process that runs.
struct Watched {
    hang_up: Signal,
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
}

impl Watched {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            hang_up: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
        })
    }
}

impl Lifecycle {
    /// Watches from a thread of its own, which outlives Pingora's runtimes.
    pub(super) fn start(self) {
        let watch = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => runtime.block_on(self.watch()),
                Err(error) => tracing::error!(%error, "nobody watches over the process"),
            }
        };
        if let Err(error) = std::thread::Builder::new().name("lifecycle".into()).spawn(watch) {
            tracing::error!(%error, "nobody watches over the process");
        }
    }

    async fn watch(mut self) {
        let mut signals = match Watched::new() {
            Ok(signals) => signals,
            Err(error) => return tracing::error!(%error, "signals can't be watched"),
        };
        // What has come meanwhile is heard now.
        let _ = held().thread_unblock();
        let (told, mut successors) = mpsc::channel(1);
        let Some((reload, asks)) = self.reload.take() else { return };
        let reloads = tokio::spawn(reload.run(asks, told));
        tokio::spawn(keep_alive(Arc::clone(&self.beat), Arc::clone(&self.speaks)));
        loop {
            tokio::select! {
                Some(()) = self.begun.recv() => self.begin(),
                // Where as many wait already, one of them takes what is there by then.
                _ = signals.hang_up.recv() => drop(self.asks.try_send(None)),
                _ = signals.quit.recv() => {
                    tracing::warn!("SIGQUIT is not used: SIGHUP reloads, SIGTERM ends");
                }
                () = self.leaves.notified() => {
                    let next = self.follow_no_more(Ending::Drain, reloads).await;
                    return self.stop(next).await;
                }
                _ = signals.terminate.recv() => {
                    let next = self.follow_no_more(Ending::Drain, reloads).await;
                    return self.stop(next).await;
                }
                _ = signals.interrupt.recv() => {
                    self.follow_no_more(Ending::AtOnce, reloads).await;
                    return self.closes.at_once.notify_one();
                }
                Some((successor, again)) = successors.recv() => {
                    return self.retire(successor, again).await;
                }
                phase = self.phases.recv() => {
                    if matches!(phase, Err(broadcast::error::RecvError::Closed)) {
                        return;
                    }
                }
            }
        }
    }

    /// The node takes requests.
    fn begin(&mut self) {
        self.ready.store(true, Ordering::Relaxed);
        tracing::info!("ready");
        let (data, admin) = (self.data.clone(), self.admin);
        let Some(mut predecessor) = self.predecessor.take() else {
            admin_address::tell(&data, admin);
            return notify("READY=1");
        };
        // Until the other process has let go, this one is one of two.
        let speaks = Arc::clone(&self.speaks);
        let leaves = self.leaves.clone();
        std::thread::spawn(move || match predecessor.answer() {
            Follows::Takes => {
                admin_address::tell(&data, admin);
                speaks.store(true, Ordering::Relaxed);
                notify("READY=1");
            }
            Follows::Stops => {
                tracing::error!("the process before goes on: this one ends");
                end(0);
            }
            Follows::Leaves => {
                tracing::info!("the process before ends: this one as well");
                leaves.notify_one();
                // It waits for as long as this end of the channel is open.
                loop {
                    std::thread::park();
                }
            }
        });
    }

    /// A next process that is just starting ends: else it would go on in the place of one that is to end. One that serves
    /// already is given back, as long as it has something to do.
    async fn follow_no_more(
        &self,
        ending: Ending,
        mut reloads: JoinHandle<()>,
    ) -> Option<JoinHandle<()>> {
        // Who comes again goes elsewhere.
        self.ready.store(false, Ordering::Relaxed);
        self.leaving.store(true, Ordering::Relaxed);
        self.ending.send_replace(Some(ending));
        timeout(UNFOLLOWED, &mut reloads).await.is_err().then_some(reloads)
    }

    fn sockets(&self) -> std::sync::MutexGuard<'_, Sockets> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// SIGTERM: what stands in front is told first, and the operator's listener closes last.
    async fn stop(self, next: Option<JoinHandle<()>>) {
        notify("STOPPING=1");
        sleep(self.snapshot.load().shutdown.delay).await;
        admin_address::forget(&self.data);
        self.sockets().keep_only(self.admin);
        self.leave(next).await;
    }

    /// The next process serves. `again`: it is to read the configuration once more.
    async fn retire(self, successor: Successor, again: bool) {
        self.speaks.store(false, Ordering::Relaxed);
        if let Some(pid) = successor.pid() {
            // The last that it hears from this process.
            notify(&format!("MAINPID={pid}"));
        }
        successor.hand_over(again).await;
        *self.sockets() = Sockets::default();
        // The next one's answers are the ones that count.
        self.end_admin.send_replace(true);
        self.leave(None).await;
    }

    async fn leave(self, next: Option<JoinHandle<()>>) {
        self.leaving.store(true, Ordering::Relaxed);
        self.closes.graceful.notify_one();
        self.end(next).await;
    }

    /// Ends the process as soon as nothing is in flight, here or in the `next` one that was to follow, or its time is over.
    async fn end(self, next: Option<JoinHandle<()>>) {
        let drain = self.snapshot.load().shutdown.drain;
        let deadline = Instant::now() + drain;
        sleep(SETTLE.min(drain)).await;
        let next_is_busy = || next.as_ref().is_some_and(|next| !next.is_finished());
        let busy = || {
            IN_FLIGHT.get() > 0 || self.arrivals.any() || self.outbox.is_busy() || next_is_busy()
        };
        while busy() && Instant::now() < deadline {
            sleep(LOOK).await;
        }
        if busy() {
            tracing::warn!(
                requests = IN_FLIGHT.get(),
                "the time to drain is over: these requests end here"
            );
        }
        if self.outbox.waiting() > 0 {
            let events = self.outbox.waiting();
            tracing::info!(events, "events are left for the next process");
        }
        if let Some(folder) = &self.remove {
            // A temporary folder that can't be removed harms nobody.
            let _ = std::fs::remove_dir_all(folder);
        }
        tracing::info!("ended");
        end(0);
    }
}

/// Tells the service manager that the edge's threads are alive, where it wants to know.
async fn keep_alive(beat: Arc<AtomicU64>, speaks: Arc<AtomicBool>) {
    let Some(every) = watchdog() else { return };
    let mut ticks = tokio::time::interval(every / 2);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = None;
    loop {
        ticks.tick().await;
        let now = beat.load(Ordering::Relaxed);
        // Nothing has begun yet at 0.
        let moves = now == 0 || before != Some(now);
        if moves && speaks.load(Ordering::Relaxed) {
            notify("WATCHDOG=1");
        }
        before = Some(now);
    }
}
