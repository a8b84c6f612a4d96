//! How long a visitor's HTTP/1 connection may wait for its next request, and take to send its head.
//!
//! A timer for each wait costs more than all that a request asks of the clock, and nearly every one is
//! given up again. A connection has one that is set at most every [`STEP`], and counts how often it has rung
//! since something came: without asking the clock, and without other connections.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use memchr::memmem::Finder;
use tokio::time::{Instant, Sleep, sleep};

/// How exact the waits are.
const STEP: Duration = Duration::from_secs(15);
/// That many steps are too many: the first may have been nearly over when the wait began, so that a wait
/// ends after 60 to 75 s.
const STEPS: u8 = 5;

/// The wait of one connection.
#[derive(Debug)]
pub(super) struct Patience {
    /// The next request, or the rest of its head, has to come. Set by who asks for the next request.
    waits: Arc<AtomicBool>,
    /// How many bytes of the end of a head, `\r\n\r\n`, have come.
    of_end: u8,
    /// Something of the head has come.
    begun: bool,
    rung: u8,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    pub(super) fn new(waits: Arc<AtomicBool>) -> Self {
        Self { waits, of_end: 0, begun: false, rung: 0, timer: None }
    }

    /// Whether a request or the rest of its head has to come.
    pub(super) fn waits(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }

    /// Nothing has come yet. Ready when it is too late.
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(STEP)));
        while self.rung < STEPS {
            ready!(timer.as_mut().poll(cx));
            self.rung += 1;
            timer.as_mut().reset(Instant::now() + STEP);
        }
        Poll::Ready(())
    }

    /// Something has come. A head's first bytes begin a wait of its own, its last one ends it. What stands
    /// behind the head's end: nothing as long as it has none.
    pub(super) fn came<'b>(&mut self, mut bytes: &'b [u8]) -> &'b [u8] {
        // Empty lines before a head are none of it (RFC 9112, 2.2): they neither begin nor end one.
        while let (false, Some((b'\r' | b'\n', rest))) = (self.begun, bytes.split_first()) {
            bytes = rest;
        }
        if bytes.is_empty() {
            return bytes;
        }
        if !self.begun {
            (self.begun, self.rung) = (true, 0);
        }
        let Some(behind) = self.behind_end(bytes) else { return &[] };
        self.waits.store(false, Ordering::Relaxed);
        (self.of_end, self.begun, self.rung) = (0, false, 0);
        behind
    }

    /// What stands behind the end of a head, where that is in `bytes` or began before them.
    fn behind_end<'b>(&mut self, bytes: &'b [u8]) -> Option<&'b [u8]> {
        let mut from = 0;
        if self.of_end == 0 {
            // Nearly every head comes whole.
            if let Some(end) = END.find(bytes) {
                return bytes.get(end + END.needle().len()..);
            }
            from = bytes.len().saturating_sub(END.needle().len() - 1);
        }
        let end = bytes.iter().skip(from).position(|byte| {
            self.of_end = match (self.of_end, byte) {
                (2, b'\r') => 3,
                (_, b'\r') => 1,
                (1, b'\n') => 2,
                (3, b'\n') => 4,
                _ => 0,
            };
            self.of_end == 4
        })?;
        bytes.get(from + end + 1..)
    }
}

/// What ends a head (RFC 9112, 2.1).
static END: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\r\n\r\n"));

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    fn waiting() -> (Arc<AtomicBool>, Patience) {
        let waits = Arc::new(AtomicBool::new(true));
        (Arc::clone(&waits), Patience::new(waits))
    }

    async fn over(patience: &mut Patience) -> u64 {
        let began = Instant::now();
        poll_fn(|cx| patience.poll_over(cx)).await;
        began.elapsed().as_secs()
    }

    #[test]
    fn a_head_ends_wherever_it_is_cut() {
        let head = b"\r\nGET / HTTP/1.1\r\nA: \r\r\n\r\n";
        for size in 1..=head.len() {
            let (waits, mut patience) = waiting();
            let mut chunks = head.chunks(size).peekable();
            while let Some(chunk) = chunks.next() {
                assert!(waits.load(Ordering::Relaxed));
                patience.came(chunk);
                assert_eq!(patience.waits(), chunks.peek().is_some(), "{size}");
            }
        }
        let (_, mut patience) = waiting();
        assert_eq!(patience.came(b"POST / HTTP/1.1\r\n\r\nbody"), b"body");
        assert!(!patience.waits());
        // HTTP/2 begins with one.
        let (_, mut patience) = waiting();
        patience.came(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
        assert!(!patience.waits());
        let (_, mut patience) = waiting();
        patience.came(b"\r\n\r\n");
        assert!(patience.waits(), "empty lines are no head");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_after_a_minute_or_a_little_more() {
        let (waits, mut patience) = waiting();
        assert!((60..=75).contains(&over(&mut patience).await));
        assert_eq!(over(&mut patience).await, 0, "and stays over");

        let (_, mut fresh) = waiting();
        let early = tokio::time::timeout(STEP / 2, poll_fn(|cx| fresh.poll_over(cx))).await;
        assert!(early.is_err());
        fresh.came(b"GET / HTTP/1.1\r\n\r\n");
        // A request that takes long is no wait, and does not count as a part of the next.
        tokio::time::sleep(STEP * 20).await;
        fresh.waits.store(true, Ordering::Relaxed);
        assert!((60..=75).contains(&over(&mut fresh).await));
        drop(waits);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_trickles_does_not_last() {
        let (_, mut patience) = waiting();
        let began = Instant::now();
        loop {
            let pause = tokio::time::timeout(STEP / 2, poll_fn(|cx| patience.poll_over(cx)));
            if pause.await.is_ok() {
                break;
            }
            patience.came(b"a");
        }
        assert!((60..=90).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    }
}
