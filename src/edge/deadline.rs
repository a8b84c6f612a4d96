//! How long a page that was chosen for a visitor is waited for: an origin that takes the request and says nothing would
//! keep everybody's page from them for as long as it may pause.

use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::AbortHandle;

/// Ends a connection on which no answer has begun in time. One that is dropped before does nothing.
#[derive(Debug)]
pub(super) struct Deadline {
    waiting: AbortHandle,
    over: Arc<AtomicBool>,
}

impl Deadline {
    /// Of what is asked on `socket`, `within` that time.
    ///
    /// # Errors
    /// The system's own, when there are no descriptors left.
    #[allow(unsafe_code, reason = "Pingora tells its connection's descriptor as a number")]
    pub(super) fn start(socket: RawFd, within: Duration) -> io::Result<Self> {
        // SAFETY: the caller is a hook of the request that holds the connection open until it returns, and the copy that
        // is made meanwhile is a descriptor of its own.
        let socket = unsafe { BorrowedFd::borrow_raw(socket) }.try_clone_to_owned()?;
        let over = Arc::new(AtomicBool::new(false));
        let rings = Arc::clone(&over);
        let waiting = tokio::spawn(async move {
            tokio::time::sleep(within).await;
            rings.store(true, Ordering::Relaxed);
            // Its reader hears of it as if the origin had hung up. It may have done that by itself.
            let _ = rustix::net::shutdown(&socket, rustix::net::Shutdown::Both);
        });
        Ok(Self { waiting: waiting.abort_handle(), over })
    }

    /// Whether it has ended the connection.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.waiting.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_in_time_is_hung_up_on() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let in_time = Deadline::start(ours.as_raw_fd(), Duration::from_secs(1)).unwrap();
        drop(in_time);
        tokio::time::sleep(Duration::from_secs(2)).await;
        theirs.write_all(b"x").await.unwrap();
        assert_eq!(ours.read(&mut [0]).await.unwrap(), 1);
        let late = Deadline::start(ours.as_raw_fd(), Duration::from_secs(1)).unwrap();
        assert!(!late.is_over());
        assert_eq!(ours.read(&mut [0]).await.unwrap(), 0);
        assert!(late.is_over());
    }
}
