//! Events on their way to the vendor: kept in memory until the vendor has taken them.
//! In: an enriched event. Out: how its way ended, if anybody still waits for it.
//! The seam for a durable spool: what [`Outbox::accept`] has taken is delivered by whatever stands
//! behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, header};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

use crate::telemetry::metrics::{EVENTS_BYTES, EVENTS_CAPACITY, EVENTS_WAITING};
use crate::telemetry::{EventEnd, SiteMetrics};
use crate::upstream::{Answer, Call, Client, USER_AGENT, Upstream};

/// All events of a process that wait for a vendor.
pub struct Outbox {
    client: Client,
    capacity: usize,
    waiting_bytes: AtomicUsize,
    retain: Duration,
    timeout: Duration,
}

/// The way of one site's events.
pub struct Lane {
    /// The tracking API.
    pub upstream: Arc<Upstream>,
    /// Value of its Authorization header.
    pub authorization: HeaderValue,
    /// The site's counters.
    pub metrics: Arc<SiteMetrics>,
    /// Calls at one time. Waiting events get their turn in order of arrival.
    pub slots: Semaphore,
    /// The site's name, for the log.
    pub site: Box<str>,
}

/// One call to the tracking API.
#[derive(Debug, Clone)]
pub struct Parcel {
    /// Path below the API's base.
    pub path: &'static str,
    /// JSON.
    pub body: Bytes,
}

/// There is no room for more events at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{waiting} of {capacity} bytes of events wait for the vendor: is the tracking API up?")]
pub struct Full {
    waiting: usize,
    capacity: usize,
}

/// A longer answer is cut: a tracking API answers with a line of JSON.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// What a waiting event takes beside its bytes.
const OVERHEAD_BYTES: usize = 2048;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A vendor that asks for a longer pause is asked again all the same.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(5);

/// What became of one attempt.
enum Attempt {
    End(EventEnd),
    Again(Option<Duration>),
}

impl Outbox {
    /// Room for `capacity` bytes. An event is tried for `retain`, each time for `timeout`.
    #[must_use]
    pub fn new(capacity: usize, retain: Duration, timeout: Duration) -> Self {
        EVENTS_CAPACITY.set(i64::try_from(capacity).unwrap_or(i64::MAX));
        Self {
            client: Client::default(),
            capacity,
            waiting_bytes: AtomicUsize::new(0),
            retain,
            timeout,
        }
    }

    /// Takes `parcel` for delivery over `lane`. What is taken is delivered whether or not anybody
    /// waits for the answer.
    ///
    /// # Errors
    /// When there is no room.
    pub fn accept(
        self: &Arc<Self>,
        lane: &Arc<Lane>,
        parcel: Parcel,
    ) -> Result<oneshot::Receiver<EventEnd>, Full> {
        let place = Place::take(self, parcel.body.len() + OVERHEAD_BYTES)?;
        let (tell, told) = oneshot::channel();
        let (outbox, lane) = (Arc::clone(self), Arc::clone(lane));
        tokio::spawn(async move {
            let end = outbox.deliver(&lane, &parcel).await;
            lane.metrics.event_ended(end);
            drop(place);
            // The browser may have gone; the event has arrived all the same.
            let _ = tell.send(end);
        });
        Ok(told)
    }

    /// Bytes that wait.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes.load(Ordering::Relaxed)
    }

    async fn deliver(&self, lane: &Lane, parcel: &Parcel) -> EventEnd {
        let deadline = Instant::now() + self.retain;
        let mut pause = FIRST_PAUSE;
        // Held through all attempts: while the vendor is down, as many calls as there are slots
        // ask for it, and the rest wait in order.
        let Ok(_slot) = lane.slots.acquire().await else { return EventEnd::Abandoned };
        loop {
            let after = match self.attempt(lane, parcel).await {
                Attempt::End(end) => return end,
                Attempt::Again(after) => after,
            };
            let wait = after.map_or_else(|| jittered(pause), |told| told.min(LONGEST_RETRY_AFTER));
            if Instant::now() + wait >= deadline {
                tracing::warn!(site = &*lane.site, "an event was tried until its time was over");
                return EventEnd::Expired;
            }
            lane.metrics.events_retried.inc();
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn attempt(&self, lane: &Lane, parcel: &Parcel) -> Attempt {
        let headers = [
            (header::AUTHORIZATION, lane.authorization.clone()),
            (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (header::USER_AGENT, USER_AGENT),
        ];
        let call = Call {
            method: Method::POST,
            path: parcel.path,
            headers: &headers,
            body: parcel.body.clone(),
            most: MAX_ANSWER_BYTES,
        };
        let asked = Instant::now();
        let answer = self.client.send(&lane.upstream, call, self.timeout).await;
        match answer {
            Ok(answer) => {
                lane.metrics.tracking_api.observe(asked.elapsed().as_secs_f64());
                judge(lane, &answer)
            }
            Err(error) => {
                tracing::debug!(site = &*lane.site, %error, "the tracking API did not answer");
                Attempt::Again(None)
            }
        }
    }
}

/// As the SDK judges: 429 and 5xx are worth another try, other refusals are for good.
fn judge(lane: &Lane, answer: &Answer) -> Attempt {
    match answer.status.as_u16() {
        ..400 => Attempt::End(EventEnd::Delivered),
        408 | 429 | 500.. => Attempt::Again(answer.retry_after.as_deref().and_then(seconds)),
        status => {
            tracing::warn!(site = &*lane.site, status, "the tracking API refused an event");
            Attempt::End(EventEnd::Refused)
        }
    }
}

/// `Retry-After` (RFC 9110, 10.2.3): seconds or a date.
fn seconds(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    httpdate::parse_http_date(value).ok()?.duration_since(std::time::SystemTime::now()).ok()
}

/// Between half and all of `pause`, so that calls that failed together don't return together.
fn jittered(pause: Duration) -> Duration {
    let [random, ..] = *uuid::Uuid::new_v4().as_bytes();
    pause / 2 + pause * u32::from(random) / 510
}

/// Room that one event takes, given back when it is dropped.
struct Place {
    outbox: Arc<Outbox>,
    bytes: usize,
}

impl Place {
    fn take(outbox: &Arc<Outbox>, bytes: usize) -> Result<Self, Full> {
        let fits =
            |waiting: usize| waiting.checked_add(bytes).filter(|total| *total <= outbox.capacity);
        outbox
            .waiting_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .map_err(|waiting| Full { waiting, capacity: outbox.capacity })?;
        EVENTS_WAITING.inc();
        EVENTS_BYTES.add(i64::try_from(bytes).unwrap_or(0));
        Ok(Self { outbox: Arc::clone(outbox), bytes })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.outbox.waiting_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        EVENTS_WAITING.dec();
        EVENTS_BYTES.sub(i64::try_from(self.bytes).unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_bounded_and_comes_back() {
        let outbox = Arc::new(Outbox::new(10_000, Duration::from_secs(1), Duration::from_secs(1)));
        let first = Place::take(&outbox, 6000).unwrap();
        let full = Place::take(&outbox, 6000).err().unwrap();
        assert_eq!(full, Full { waiting: 6000, capacity: 10_000 });
        drop(first);
        assert!(Place::take(&outbox, 10_000).is_ok());
        assert_eq!(outbox.waiting_bytes(), 0);
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        assert_eq!(seconds("7"), Some(Duration::from_secs(7)));
        assert_eq!(seconds("soon"), None);
        let date = std::time::SystemTime::now() + Duration::from_secs(100);
        let read = seconds(&httpdate::fmt_http_date(date)).unwrap();
        assert!((95..=100).contains(&read.as_secs()));
        for _ in 0..100 {
            let pause = jittered(Duration::from_secs(2));
            assert!((Duration::from_secs(1)..=Duration::from_secs(2)).contains(&pause));
        }
    }
}
