//! One file for each real part. Everything is on a port of its own and gone when it is dropped.

pub mod client;
pub mod edge;
pub mod nginx;
pub mod proxy;
pub mod redis;
pub mod server;
pub mod vendor;

use std::future::Future;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// The most that a condition may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A port that nobody has: below those that the system gives out, so that no connection of another
/// test takes it in between, and never the same one twice in a process.
pub fn port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 9000).unwrap_or(0);
    loop {
        let port = 21_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 11_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Waits until `probe` gives something; says `what` did not come otherwise.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, probe: impl Fn() -> F) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
