//! A TCP proxy that can be slow, or let nothing through.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What it does at the moment.
#[derive(Default)]
pub struct Line {
    /// Milliseconds that each piece is held back, each way.
    pub delay: AtomicU64,
    /// Nothing passes, and nobody is told.
    pub cut: AtomicBool,
}

/// The proxy.
pub struct Proxy {
    pub port: u16,
    pub line: Arc<Line>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub async fn to(port: u16) -> Self {
        let own = super::port();
        let listener = TcpListener::bind(("127.0.0.1", own)).await.expect("binds");
        let line = Arc::<Line>::default();
        let shared = Arc::clone(&line);
        let task = tokio::spawn(async move {
            let mut passing = tokio::task::JoinSet::new();
            while let Ok((from, _)) = listener.accept().await {
                let line = Arc::clone(&shared);
                passing.spawn(async move {
                    let Ok(to) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                    let (from_read, from_write) = from.into_split();
                    let (to_read, to_write) = to.into_split();
                    tokio::select! {
                        () = pass(from_read, to_write, &line) => {}
                        () = pass(to_read, from_write, &line) => {}
                    }
                });
            }
        });
        Self { port: own, line, task }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    line: &Line,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let delay = line.delay.load(Ordering::SeqCst);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        while line.cut.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
