//! How services run: none of them ends by a panic while the process seems to go on.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::{ServiceReadyNotifier, ServiceWithDependents};
use tokio::sync::mpsc;

use super::end;

/// Exit code of a process whose service has failed: it is to be started again.
const FAILED: i32 = 70;

/// A service without which the process is none: a panic in it ends the process.
pub(super) struct Needed {
    service: Box<dyn ServiceWithDependents>,
    /// What ends it, where that is not the process' own end.
    shutdown: Option<ShutdownWatch>,
    /// Moves on as long as its threads do.
    beat: Option<Arc<AtomicU64>>,
}

/// How often it moves on.
const BEAT: Duration = Duration::from_secs(1);

impl Needed {
    pub(super) fn new(service: impl ServiceWithDependents + 'static) -> Self {
        Self { service: Box::new(service), shutdown: None, beat: None }
    }

    /// Moves `beat` on from its own threads.
    pub(super) fn beating(mut self, beat: Arc<AtomicU64>) -> Self {
        self.beat = Some(beat);
        self
    }

    /// Runs until `shutdown` says so, whatever else ends.
    pub(super) fn until(mut self, shutdown: ShutdownWatch) -> Self {
        self.shutdown = Some(shutdown);
        self
    }
}

#[async_trait]
impl ServiceWithDependents for Needed {
    async fn start_service(
        &mut self,
        sockets: Option<ListenFds>,
        shutdown: ShutdownWatch,
        per_socket: usize,
        ready: ServiceReadyNotifier,
    ) {
        let shutdown = self.shutdown.take().unwrap_or(shutdown);
        if let Some(beat) = self.beat.take() {
            tokio::spawn(async move {
                loop {
                    beat.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(BEAT).await;
                }
            });
        }
        let running = self.service.start_service(sockets, shutdown, per_socket, ready);
        if AssertUnwindSafe(running).catch_unwind().await.is_err() {
            tracing::error!(
                service = self.service.name(),
                "a service has failed: the process ends"
            );
            end(FAILED);
        }
    }

    fn name(&self) -> &str {
        self.service.name()
    }

    fn threads(&self) -> Option<usize> {
        self.service.threads()
    }
}

/// Tells that what it depends on has begun.
pub(super) struct Begun(pub(super) mpsc::Sender<()>);

#[async_trait]
impl ServiceWithDependents for Begun {
    async fn start_service(
        &mut self,
        _: Option<ListenFds>,
        _: ShutdownWatch,
        _: usize,
        ready: ServiceReadyNotifier,
    ) {
        // Nobody hears it where the process is ending already.
        let _ = self.0.send(()).await;
        ready.notify_ready();
    }

    fn name(&self) -> &'static str {
        "begun"
    }

    fn threads(&self) -> Option<usize> {
        Some(1)
    }
}
