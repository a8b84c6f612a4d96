//! The least that may be read of an answer, or sent of a body: who is slower holds memory and connections of others.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// Whoever sends or reads may do it as slowly as they want to for so long (as Apache's `mod_reqtimeout`).
const PATIENCE: Duration = Duration::from_secs(20);
/// From then on it has to be so many bytes a second.
const BYTES_A_SECOND: u64 = 500;

/// How long so many bytes may take to come.
pub(super) fn longest(bytes: u64) -> Duration {
    PATIENCE + Duration::from_secs(bytes / BYTES_A_SECOND)
}

/// How often it is looked what has been read of an answer: systems tell of that in steps of up to 64 KiB.
pub(crate) const LOOK: Duration = Duration::from_mins(1);

/// How an answer leaves that waits for its visitor to read.
#[derive(Debug, Default)]
pub(crate) struct Pace(Option<Box<Waiting>>);

#[derive(Debug)]
struct Waiting {
    /// How much had been read when it was looked last.
    read: u64,
    look: Pin<Box<Sleep>>,
}

impl Pace {
    /// Something leaves: nothing waits.
    pub(crate) fn moves(&mut self) {
        self.0 = None;
    }

    /// Nothing leaves. Ready when too little has been read meanwhile: `read` tells how much it is by now, in all. What
    /// the system holds for the visitor is read long before there is room for more.
    pub(crate) fn poll_too_slow(
        &mut self,
        cx: &mut Context<'_>,
        read: impl Fn() -> u64,
    ) -> Poll<()> {
        let waiting = self
            .0
            .get_or_insert_with(|| Box::new(Waiting { read: read(), look: Box::pin(sleep(LOOK)) }));
        loop {
            ready!(waiting.look.as_mut().poll(cx));
            let by_now = read();
            if by_now.saturating_sub(waiting.read) < LOOK.as_secs() * BYTES_A_SECOND {
                return Poll::Ready(());
            }
            waiting.read = by_now;
            waiting.look.as_mut().reset(Instant::now() + LOOK);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// When it is too slow to read `bytes` in each second from `after` on.
    async fn over(pace: &mut Pace, bytes: u64, until: Duration) -> Duration {
        let began = Instant::now();
        let read = || began.elapsed().min(until).as_secs() * bytes;
        poll_fn(|cx| pace.poll_too_slow(cx, read)).await;
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_slowly_may_and_who_hardly_reads_may_not() {
        let mut pace = Pace::default();
        let ever = Duration::MAX;
        assert_eq!(over(&mut pace, 0, ever).await, LOOK);
        pace.moves();
        assert_eq!(over(&mut pace, BYTES_A_SECOND - 1, ever).await, LOOK);
        pace.moves();
        let hour = Duration::from_hours(1);
        assert_eq!(over(&mut pace, BYTES_A_SECOND, hour).await, hour + LOOK);
    }

    #[tokio::test(start_paused = true)]
    async fn what_moves_begins_anew() {
        let mut pace = Pace::default();
        for _ in 0..5 {
            let waits = poll_fn(|cx| pace.poll_too_slow(cx, || 0));
            assert!(tokio::time::timeout(LOOK / 2, waits).await.is_err());
            pace.moves();
        }
    }
}
