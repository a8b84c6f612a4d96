//! How any source is asked: within a deadline, a few at one time, and not at all for a while after
//! it failed or asked for a pause.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderName, HeaderValue, StatusCode};
use prometheus::IntGauge;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{Api, ProfileSource, PullError, Traits};
use crate::profile::{IdType, MAX_TRAITS, ProfileKey};
use crate::telemetry::metrics::PROFILE_SOURCE_PAUSED;
use crate::upstream::{Answer, Call, Client, Upstream};

/// How a source may be asked.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Types of ids that it is asked for.
    pub ids: Vec<IdType>,
    /// The most that an answer may take, all its parts together.
    pub timeout: Duration,
    /// Most profiles that are asked for at one time.
    pub in_flight: usize,
    /// For how long an answer holds.
    pub fresh_for: Duration,
    /// For how long it holds that nobody is known.
    pub missing_for: Duration,
}

/// One site's source.
pub struct Pulling {
    api: Box<dyn Api>,
    upstream: Arc<Upstream>,
    headers: Vec<(HeaderName, HeaderValue)>,
    terms: Terms,
    client: Client,
    slots: Semaphore,
    pause: Mutex<Pause>,
    paused: IntGauge,
}

/// Whether it is asked at the moment.
#[derive(Default)]
struct Pause {
    failures: u32,
    until: Option<Instant>,
}

/// So many failures in a row, and it is left alone.
const FAILURES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// What a source may ask for by `Retry-After`.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(5);
/// How long one that asks waits for its turn.
const TURN: Duration = Duration::from_millis(100);
/// Most bytes of one part, and most parts.
const MAX_PART_BYTES: usize = 1024 * 1024;
const MAX_PARTS: usize = 8;

impl Pulling {
    /// Asks `api` at `upstream` for profiles of `site`.
    #[must_use]
    pub fn new(
        site: &str,
        api: Box<dyn Api>,
        upstream: Arc<Upstream>,
        headers: Vec<(HeaderName, HeaderValue)>,
        terms: Terms,
    ) -> Self {
        let slots = Semaphore::new(terms.in_flight);
        let paused = PROFILE_SOURCE_PAUSED.with_label_values(&[site]);
        let (client, pause) = (Client::default(), Mutex::default());
        Self { api, upstream, headers, terms, client, slots, pause, paused }
    }

    /// Whether it may be asked now. After a pause one may try; the others wait for the outcome.
    fn may_ask(&self) -> bool {
        let mut pause = self.pause.lock().unwrap_or_else(PoisonError::into_inner);
        match pause.until {
            Some(until) if Instant::now() < until => false,
            Some(_) => {
                pause.until = Some(Instant::now() + self.terms.timeout);
                true
            }
            None => true,
        }
    }

    fn worked(&self) {
        *self.pause.lock().unwrap_or_else(PoisonError::into_inner) = Pause::default();
        self.paused.set(0);
    }

    fn failed(&self, retry_after: Option<Duration>) {
        let mut pause = self.pause.lock().unwrap_or_else(PoisonError::into_inner);
        pause.failures = pause.failures.saturating_add(1);
        let doubled = pause.failures.saturating_sub(FAILURES).min(8);
        let wait = match retry_after {
            Some(told) => told.min(LONGEST_RETRY_AFTER),
            None if pause.failures < FAILURES => return,
            None => (FIRST_PAUSE * 2_u32.pow(doubled)).min(LONGEST_PAUSE),
        };
        pause.until = Some(Instant::now() + wait);
        self.paused.set(1);
    }

    async fn ask(&self, key: &ProfileKey, next: Option<&str>) -> Result<Answer, PullError> {
        let asking = self.api.ask(key, next);
        let call = Call {
            method: asking.method,
            path: &asking.path,
            headers: &self.headers,
            body: asking.body,
            most: MAX_PART_BYTES,
        };
        Ok(self.client.send(&self.upstream, call, self.terms.timeout).await?)
    }

    async fn pull_all(&self, key: &ProfileKey) -> Result<Option<Traits>, PullError> {
        let mut traits = Traits::new();
        let mut next: Option<String> = None;
        for _ in 0..MAX_PARTS {
            let answer = self.ask(key, next.as_deref()).await?;
            match answer.status {
                StatusCode::OK => {}
                StatusCode::NOT_FOUND => return Ok(None),
                status => {
                    let slow_down = matches!(
                        status,
                        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
                    );
                    if let Some(told) = answer.retry_after.filter(|_| slow_down) {
                        self.failed(Some(retry_after(&told).unwrap_or(FIRST_PAUSE)));
                        return Err(PullError::Paused);
                    }
                    return Err(PullError::Status(status));
                }
            }
            let page = self.api.read(&answer.body).map_err(PullError::Malformed)?;
            if page.nobody && traits.is_empty() {
                return Ok(None);
            }
            traits.extend(page.traits);
            next = page.next;
            if next.is_none() || traits.len() > MAX_TRAITS {
                return Ok(Some(traits));
            }
        }
        Err(PullError::Malformed("it never ends"))
    }
}

/// Seconds, or a date (RFC 9110, 10.2.3).
fn retry_after(told: &str) -> Option<Duration> {
    if let Ok(seconds) = told.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(told.trim()).ok()?;
    date.duration_since(std::time::SystemTime::now()).ok()
}

#[async_trait]
impl ProfileSource for Pulling {
    fn serves(&self, key: &ProfileKey) -> bool {
        self.terms.ids.iter().any(|kind| kind.as_str() == key.id_type())
    }

    async fn pull(&self, key: &ProfileKey) -> Result<Option<Traits>, PullError> {
        if !self.may_ask() {
            return Err(PullError::Paused);
        }
        let turn = tokio::time::timeout(TURN, self.slots.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(PullError::Busy) };
        let deadline = self.terms.timeout;
        let late = || crate::upstream::CallError::Deadline(deadline).into();
        let pulled = tokio::time::timeout(deadline, self.pull_all(key)).await;
        let pulled = pulled.unwrap_or_else(|_| Err(late()));
        match &pulled {
            Ok(_) => self.worked(),
            Err(PullError::Paused) => {}
            Err(error) => {
                tracing::debug!(site = key.site(), %error, "a profile source failed");
                self.failed(None);
            }
        }
        pulled
    }

    fn holds(&self, known: bool) -> Duration {
        if known {
            return self.terms.fresh_for;
        }
        let share = f64::from(uuid::Uuid::new_v4().as_fields().0) / f64::from(u32::MAX);
        self.terms.missing_for.mul_f64(1.0 - share / 5.0)
    }

    fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }
}
