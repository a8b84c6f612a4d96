//! Keeps the addresses of all upstreams fresh.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::ServiceReadyNotifier;
use pingora::services::background::BackgroundService;

use crate::config::Snapshot;

/// Resolves the names of all upstreams, first before the listeners open, then again and again.
pub(super) struct Names {
    snapshot: Arc<ArcSwap<Snapshot>>,
    /// Hosts that had no address the last time: the log tells it once.
    unknown: Mutex<HashSet<String>>,
}

/// The system's resolver does not tell how long an answer holds.
const EVERY: Duration = Duration::from_secs(30);
/// A resolver that does not answer must not keep the listeners closed.
const FIRST: Duration = Duration::from_secs(3);
const EVERY_WHILE_UNKNOWN: Duration = Duration::from_secs(2);

impl Names {
    pub(super) fn new(snapshot: Arc<ArcSwap<Snapshot>>) -> Self {
        Self { snapshot, unknown: Mutex::default() }
    }

    /// Whether every upstream has an address.
    async fn resolve_all(&self) -> bool {
        let snapshot = self.snapshot.load_full();
        resolve(&snapshot, |name, failed| self.tell(name, failed)).await
    }
}

/// Asks for the addresses of all upstreams of `snapshot`, and tells of each name how that went. Whether every one has an
/// address.
pub(super) async fn resolve(
    snapshot: &Snapshot,
    tell: impl Fn(&str, Option<std::io::Error>),
) -> bool {
    let tell = &tell;
    let resolving = snapshot.upstreams().map(|upstream| async move {
        let (name, resolved) = (upstream.endpoint().host(), upstream.resolve().await);
        tell(name, resolved.err());
        upstream.addresses() > 0
    });
    futures::future::join_all(resolving).await.into_iter().all(|known| known)
}

impl Names {
    fn tell(&self, name: &str, failed: Option<std::io::Error>) {
        let mut unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        match failed {
            Some(error) if unknown.insert(name.to_owned()) => {
                tracing::warn!(name, %error, "an upstream's name could not be resolved");
            }
            None if unknown.remove(name) => {
                tracing::info!(name, "an upstream's name is resolved again");
            }
            _ => {}
        }
    }
}

#[async_trait]
impl BackgroundService for Names {
    async fn start_with_ready_notifier(
        &self,
        mut shutdown: ShutdownWatch,
        ready: ServiceReadyNotifier,
    ) {
        let first = tokio::time::timeout(FIRST, self.resolve_all()).await;
        let mut all = first.unwrap_or(false);
        ready.notify_ready();
        loop {
            let pause = if all { EVERY } else { EVERY_WHILE_UNKNOWN };
            tokio::select! {
                () = tokio::time::sleep(pause) => all = self.resolve_all().await,
                _ = shutdown.changed() => return,
            }
        }
    }
}
