//! How any source is asked: within a deadline, at its [`Pace`].

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderName, HeaderValue, StatusCode};
use prometheus::IntGauge;

use super::pace::Pace;
use super::{Api, Asker, ProfileSource, PullError, Traits};
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
    pace: Pace,
    paused: IntGauge,
}

/// Where a source asks for a pause and does not say how long.
const A_PAUSE: Duration = Duration::from_secs(1);
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
        let paused = PROFILE_SOURCE_PAUSED.with_label_values(&[site]);
        let (client, pace) = (Client::default(), Pace::new(terms.in_flight));
        Self { api, upstream, headers, terms, client, pace, paused }
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
                        return Err(PullError::SlowDown(retry_after(&told).unwrap_or(A_PAUSE)));
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

impl PullError {
    /// Whether what was asked for is refused, which says nothing of the next question.
    fn is_of_the_id(&self) -> bool {
        let of_the_id = [400, 405, 406, 410, 414, 422, 451];
        matches!(self, Self::Status(status) if of_the_id.contains(&status.as_u16()))
    }
}

#[async_trait]
impl ProfileSource for Pulling {
    /// Nobody is called `..`, and in a path that would ask for something else.
    fn serves(&self, key: &ProfileKey) -> bool {
        if matches!(key.id(), "." | "..") {
            return false;
        }
        self.terms.ids.iter().any(|kind| kind.as_str() == key.id_type())
    }

    async fn pull(&self, key: &ProfileKey, asker: Asker) -> Result<Option<Traits>, PullError> {
        let deadline = self.terms.timeout;
        let turn = self.pace.enter(asker, deadline).await?;
        let late = || crate::upstream::CallError::Deadline(deadline).into();
        let pulled = tokio::time::timeout(deadline, self.pull_all(key)).await;
        let pulled = pulled.unwrap_or_else(|_| Err(late()));
        drop(turn);
        match &pulled {
            Err(PullError::Paused) => {}
            Err(PullError::SlowDown(told)) => {
                if self.pace.slow_down(asker, *told) {
                    self.paused.set(1);
                }
            }
            Err(error) if !error.is_of_the_id() => {
                tracing::debug!(site = key.site(), %error, "a profile source failed");
                if self.pace.failed(asker) {
                    self.paused.set(1);
                }
            }
            _ => {
                self.pace.worked();
                self.paused.set(0);
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
