//! The end of a process, and its hand-over to the next.
//!
//! SIGTERM: no new connections, answers close theirs, the process leaves once nothing is in flight.
//! SIGHUP: the configuration is checked and the next process started; that one asks this one to
//! hand its listeners over (SIGQUIT) when it has everything it needs. SIGINT: at once.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::getppid;
use pingora::server::{ExecutionPhase, ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::broadcast;
use tokio::time::{Instant, sleep};

use super::notify::notify;
use crate::collect::Outbox;
use crate::telemetry::metrics::IN_FLIGHT;

/// Watches over a process.
pub struct Lifecycle {
    /// Set when answers are to close their connections.
    pub leaving: Arc<AtomicBool>,
    /// Set while the node takes requests.
    pub ready: Arc<AtomicBool>,
    /// Ports that have to listen before.
    pub ports: Vec<u16>,
    /// Events that can still be delivered.
    pub outbox: Arc<Outbox>,
    /// The most that the end may take.
    pub drain: Duration,
    /// Where the configuration of the next process is.
    pub config_file: Option<PathBuf>,
    /// A folder to remove at the end.
    pub remove: Option<PathBuf>,
    /// What Pingora is doing.
    pub phases: broadcast::Receiver<ExecutionPhase>,
}

/// The signals that Pingora is told of.
pub(super) struct Signals;

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let streams = (
            signal(SignalKind::quit()),
            signal(SignalKind::terminate()),
            signal(SignalKind::interrupt()),
        );
        let (Ok(mut quit), Ok(mut terminate), Ok(mut interrupt)) = streams else {
            tracing::error!("signals can't be watched");
            return std::future::pending().await;
        };
        tokio::select! {
            _ = quit.recv() => ShutdownSignal::GracefulUpgrade,
            _ = terminate.recv() => ShutdownSignal::GracefulTerminate,
            _ = interrupt.recv() => ShutdownSignal::FastShutdown,
        }
    }
}

/// Tells the process that started this one to hand over.
pub(super) fn ask_for_hand_over(old: i32) -> nix::Result<()> {
    // It may have ended meanwhile, and its number be somebody else's.
    if getppid().as_raw() != old {
        return Err(nix::Error::ESRCH);
    }
    kill(getppid(), Signal::SIGQUIT)
}

/// Whether something listens on `port`, as the system's tables say: a connection to find out would be a
/// failed handshake in the log of a listener with TLS. True where there are no such tables.
fn listens(port: u16) -> bool {
    let mut tables = 0;
    for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        let Ok(text) = std::fs::read_to_string(table) else { continue };
        tables += 1;
        let local = format!(":{port:04X}");
        let listening = |line: &str| {
            let mut fields = line.split_ascii_whitespace().skip(1);
            let here = fields.next().is_some_and(|address| address.ends_with(&local));
            here && fields.nth(1) == Some("0A")
        };
        if text.lines().any(listening) {
            return true;
        }
    }
    tables == 0
}

/// Takes memory in small pages from now on. The allocator asks for large ones (2 MiB), and a start scatters
/// what it needs and gives most of it back: each large page would stay for the little that is left in it.
pub fn use_small_pages() {
    // Where it can't be said, memory is all that it costs.
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_thp_disable(true);
}

/// How often it is looked whether the node listens, and at its end, whether anything is in flight.
const LOOK: Duration = Duration::from_millis(20);
/// Connections that were accepted just before the listeners closed become requests within this.
const SETTLE: Duration = Duration::from_millis(250);

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
        let Ok(mut hang_up) = signal(SignalKind::hangup()) else {
            tracing::error!("SIGHUP can't be watched");
            return;
        };
        // Where the binary stood at the start: what stands there at a hand-over is the new one.
        let binary = std::env::current_exe().ok();
        let mut next: Option<std::process::Child> = None;
        let mut starting = false;
        loop {
            tokio::select! {
                () = sleep(LOOK), if starting => {
                    if self.ports.iter().all(|port| listens(*port)) {
                        starting = false;
                        self.ready.store(true, Ordering::Relaxed);
                        notify(&format!("MAINPID={}\nREADY=1", std::process::id()));
                        tracing::info!("ready");
                    }
                }
                _ = hang_up.recv() => self.start_next(binary.as_ref(), &mut next),
                phase = self.phases.recv() => match phase {
                    // Services only begin to start then, and the edge waits for names.
                    Ok(ExecutionPhase::Running) => starting = true,
                    Ok(ExecutionPhase::GracefulTerminate) => {
                        starting = false;
                        notify("STOPPING=1");
                        self.leave();
                    }
                    Ok(ExecutionPhase::GracefulUpgradeCloseTimeout) => {
                        starting = false;
                        self.leave();
                    }
                    Ok(ExecutionPhase::ShutdownStarted) => {
                        self.leave();
                        return self.end().await;
                    }
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return,
                },
            }
        }
    }

    fn leave(&self) {
        self.ready.store(false, Ordering::Relaxed);
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Starts the process that takes over, if its configuration is good.
    fn start_next(&self, binary: Option<&PathBuf>, next: &mut Option<std::process::Child>) {
        if let Some(child) = next
            && matches!(child.try_wait(), Ok(None))
        {
            tracing::warn!("the next process is starting already");
            return;
        }
        let (Some(binary), Some(file)) = (binary, &self.config_file) else {
            tracing::warn!("SIGHUP: there is no configuration file to start the next process with");
            return;
        };
        let name = file.display().to_string();
        let checked =
            std::fs::read_to_string(file).map_err(|error| error.to_string()).and_then(|text| {
                let env = |name: &str| std::env::var(name).ok();
                crate::config::load(&name, &text, env).map_err(|problems| problems.to_string())
            });
        if let Err(problems) = checked {
            tracing::error!("the configuration is not taken, this process goes on:\n{problems}");
            return;
        }
        let started = std::process::Command::new(binary)
            .args(["run", "--upgrade", &std::process::id().to_string(), "--config"])
            .arg(file)
            .spawn();
        match started {
            Ok(child) => {
                tracing::info!(pid = child.id(), "the next process is starting");
                *next = Some(child);
            }
            Err(error) => tracing::error!(%error, "the next process can't be started"),
        }
    }

    /// Ends the process as soon as nothing is in flight, or its time is over.
    async fn end(self) {
        let deadline = Instant::now() + self.drain;
        sleep(SETTLE.min(self.drain)).await;
        let busy = || IN_FLIGHT.get() > 0 || self.outbox.is_busy();
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
        std::process::exit(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_found_and_a_connection_is_none() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(listens(port));
        let client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        assert!(!listens(client.local_addr().unwrap().port()));
        let six = std::net::TcpListener::bind("[::]:0").unwrap();
        assert!(listens(six.local_addr().unwrap().port()));
    }
}
