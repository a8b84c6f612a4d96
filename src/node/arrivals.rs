//! Connections on which a request may be on its way. Whoever has one open sends the next request no matter that the
//! process ends meanwhile, and many don't send it again: the end waits a little for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How many there are.
#[derive(Debug, Clone, Default)]
pub(super) struct Arrivals(Arc<AtomicUsize>);

/// One connection.
pub(super) struct Arrival(Arc<AtomicUsize>);

/// Connections that were accepted just before the listeners closed are seen within this.
pub(super) const SETTLE: Duration = Duration::from_millis(250);
/// So long a request may be on its way: connections are kept that are not used as well.
const ON_ITS_WAY: Duration = Duration::from_secs(2);
/// How often it is looked whether any is left.
const LOOK: Duration = Duration::from_millis(20);

impl Arrivals {
    /// One more.
    pub(super) fn enter(&self) -> Arrival {
        self.0.fetch_add(1, Ordering::Relaxed);
        Arrival(Arc::clone(&self.0))
    }

    /// Whether somebody may still ask.
    pub(super) fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    /// Waits, once nobody new comes, until nobody is left or has had the time for it.
    pub(super) async fn pass(&self) {
        let until = Instant::now() + ON_ITS_WAY;
        sleep(SETTLE).await;
        while self.any() && Instant::now() < until {
            sleep(LOOK).await;
        }
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_first_requests_and_not_for_ever() {
        let arrivals = Arrivals::default();
        let began = Instant::now();
        arrivals.pass().await;
        assert_eq!(began.elapsed(), SETTLE);
        let (one, two) = (arrivals.enter(), arrivals.enter());
        drop(one);
        let began = Instant::now();
        arrivals.pass().await;
        assert!((ON_ITS_WAY..ON_ITS_WAY + 2 * LOOK).contains(&began.elapsed()));
        assert!(arrivals.any());
        let waiting = arrivals.clone();
        let began = Instant::now();
        let waits = tokio::spawn(async move { waiting.pass().await });
        sleep(Duration::from_secs(1)).await;
        drop(two);
        waits.await.unwrap();
        assert!(began.elapsed() <= Duration::from_secs(1) + 2 * LOOK);
    }
}
