//! Delivers one lane's events: in their order, in batches, several at a time. A vendor that fails
//! gets a pause and then one call at a time until it answers; what it refuses is halved until the
//! event that it refuses stands alone, and that one is put aside.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, interval, sleep_until};

use super::dead::{DeadLetter, DeadLetters, Reason};
use super::lane::Lane;
use super::pace::{Pace, retry_after};
use super::spool::{Batch, Event, Spool};
use super::{Parcel, Way};
use crate::profile::now_millis;
use crate::telemetry::EventEnd;
use crate::upstream::{Answer, Call, Client};

/// What delivery may take.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// One call.
    pub timeout: Duration,
    /// How long an event is tried.
    pub retain: Duration,
    /// Calls at one time.
    pub in_flight: usize,
}

/// Delivers one lane's events.
pub struct Delivery {
    /// Where they go.
    pub lane: ArcSwap<Lane>,
    /// Where they wait.
    pub spool: Arc<Spool>,
    /// Where those go that nobody takes.
    pub dead: DeadLetters,
    /// Makes the calls.
    pub client: Arc<Client>,
    /// Limits.
    pub timing: Timing,
    /// Set while it waits for the vendor to recover.
    pub paused: AtomicBool,
    /// Calls under way.
    pub flying: AtomicUsize,
}

/// A batch of the spool on its way, in as many pieces as it took.
struct Work {
    /// Without its events, which the pieces have.
    batch: Batch,
    pieces: Vec<Piece>,
}

struct Piece {
    id: u64,
    events: Vec<Event>,
    /// When the first of them was taken.
    since: Option<i64>,
    /// When its events were read.
    read: Instant,
    flying: bool,
}

/// What became of one call.
enum Outcome {
    Delivered,
    /// There was nothing to deliver.
    Nothing,
    Refused(Answer),
    Again(Option<Duration>),
}

/// A longer answer is cut: a tracking API answers with a line of JSON.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// So long events are gathered before a batch that has room is sent.
const LINGER: Duration = Duration::from_millis(20);
/// What was read longer ago is looked for again before it is sent: somebody may have been deleted meanwhile.
const FRESH: Duration = Duration::from_millis(100);
/// How often it is looked what other processes have left.
const LOOK: Duration = Duration::from_secs(1);

impl Delivery {
    /// The way that the running configuration says.
    pub(super) fn lane(&self) -> Arc<Lane> {
        self.lane.load_full()
    }

    /// Goes another way from the next call on.
    pub(super) fn take_lane(&self, lane: Arc<Lane>) {
        self.lane.store(lane);
    }

    /// Whether something can be delivered at the moment.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.flying.load(Ordering::Relaxed) > 0
            || (!self.paused.load(Ordering::Relaxed) && self.spool.waiting() > 0)
    }

    /// Delivers for as long as the process lives.
    pub async fn run(self: Arc<Self>) {
        let mut work: VecDeque<Work> = VecDeque::new();
        let mut calls = FuturesUnordered::new();
        let (mut pace, mut next_id) = (Pace::default(), 0);
        let mut look = interval(LOOK);
        // Set while everything has been taken from the spool: when the next batch may be taken.
        let mut gathering: Option<Instant> = None;
        loop {
            self.paused.store(pace.is_broken(), Ordering::Relaxed);
            self.lane().metrics.paused.set(i64::from(pace.is_broken()));
            // While the vendor fails, one batch is enough to find out when that is over.
            while (!pace.is_broken() || work.is_empty())
                && work.len() < self.timing.in_flight
                && gathering.is_none_or(|until| until <= Instant::now())
            {
                match self.take() {
                    Some(batch) => work.push_back(Work::new(batch, &mut next_id)),
                    None => {
                        gathering = None;
                        break;
                    }
                }
            }
            if pace.until().is_none() {
                let most = if pace.is_broken() { 1 } else { self.timing.in_flight };
                for Work { batch, pieces } in &mut work {
                    self.look_again(batch, pieces);
                    for piece in pieces.iter_mut().filter(|piece| !piece.flying) {
                        if calls.len() >= most {
                            break;
                        }
                        let events = std::mem::take(&mut piece.events);
                        piece.flying = true;
                        calls.push(self.send(piece.id, batch.clone(), events));
                    }
                }
            }
            self.flying.store(calls.len(), Ordering::Relaxed);
            let oldest = work.iter().flat_map(|work| &work.pieces).filter_map(|piece| piece.since);
            self.lane().metrics.oldest(oldest.min());
            let pause = pace.until().or(gathering.filter(|until| *until > Instant::now()));
            tokio::select! {
                Some((id, events, outcome)) = calls.next(), if !calls.is_empty() => {
                    self.ended(&mut work, &mut pace, &mut next_id, id, events, outcome).await;
                    self.advance(&mut work);
                }
                () = self.spool.news() => {
                    gathering.get_or_insert(Instant::now() + LINGER);
                }
                () = sleep_until(pause.unwrap_or_else(Instant::now)), if pause.is_some() => {}
                _ = look.tick() => self.adopt().await,
            }
        }
    }

    async fn adopt(&self) {
        let spool = Arc::clone(&self.spool);
        let adopted = tokio::task::spawn_blocking(move || spool.adopt()).await;
        if let Ok(Err(error)) = adopted {
            tracing::error!(lane = &*self.lane().name, %error, "left events can't be looked for");
        }
    }

    /// In place: the thread is delivery's own, and what it reads is in memory most of the time. On other
    /// threads the batches of a backlog would each leave their memory behind.
    fn take(&self) -> Option<Batch> {
        self.spool
            .take(self.lane().limits)
            .map_err(|error| {
                tracing::error!(lane = &*self.lane().name, %error, "events can't be read");
            })
            .ok()?
    }

    /// Takes out of all pieces of `batch` that wait, and were read long ago, who has been deleted meanwhile: one look
    /// for all of them.
    fn look_again(&self, batch: &Batch, pieces: &mut [Piece]) {
        let old = |piece: &Piece| !piece.flying && piece.read.elapsed() > FRESH;
        if !pieces.iter().any(old) {
            return;
        }
        let now = Instant::now();
        match self.spool.again(batch) {
            Ok(kept) => {
                let kept: HashSet<&Parcel> = kept.iter().map(|event| &event.parcel).collect();
                for piece in pieces.iter_mut().filter(|piece| !piece.flying) {
                    piece.events.retain(|event| kept.contains(&event.parcel));
                    piece.read = now;
                }
            }
            Err(error) => {
                tracing::error!(lane = &*self.lane().name, %error, "events can't be read again");
            }
        }
    }

    /// A person may have been deleted while `events` of `batch` waited for the vendor: tells which of them
    /// went.
    fn without_erased(&self, batch: &Batch, events: &mut Vec<Event>) -> Vec<Event> {
        match self.spool.again(batch) {
            Ok(kept) => {
                let kept: HashSet<&Parcel> = kept.iter().map(|event| &event.parcel).collect();
                events.extract_if(.., |event| !kept.contains(&event.parcel)).collect()
            }
            Err(error) => {
                tracing::error!(lane = &*self.lane().name, %error, "events can't be read again");
                Vec::new()
            }
        }
    }

    /// Tells the spool of what has wholly ended, in order.
    fn advance(&self, work: &mut VecDeque<Work>) {
        while work.front().is_some_and(|first| first.pieces.is_empty()) {
            let Some(ended) = work.pop_front() else { return };
            self.spool.done(&ended.batch);
        }
    }

    async fn send(&self, id: u64, batch: Batch, events: Vec<Event>) -> (u64, Vec<Event>, Outcome) {
        let events = match self.without_expired(&batch, events).await {
            Ok(events) => events,
            Err(events) => return (id, events, Outcome::Again(None)),
        };
        if events.is_empty() {
            return (id, events, Outcome::Nothing);
        }
        let lane = self.lane();
        let request = lane.request(&events);
        let call = Call {
            method: request.method,
            path: &request.path,
            headers: &request.headers,
            body: request.body,
            most: MAX_ANSWER_BYTES,
        };
        let asked = Instant::now();
        let answer = self.client.send(&lane.upstream, call, self.timing.timeout).await;
        let outcome = match answer {
            Ok(answer) => {
                self.lane().metrics.seconds.observe(asked.elapsed().as_secs_f64());
                let call = matches!(events.first(), Some(Event { parcel, .. }) if parcel.way != Way::Batched);
                judge(answer, call)
            }
            Err(error) => {
                tracing::debug!(lane = &*self.lane().name, %error, "the vendor did not answer");
                Outcome::Again(None)
            }
        };
        (id, events, outcome)
    }

    /// Puts aside what has been tried for too long. All of `events`, when that fails.
    async fn without_expired(
        &self,
        batch: &Batch,
        events: Vec<Event>,
    ) -> Result<Vec<Event>, Vec<Event>> {
        let retain = i64::try_from(self.timing.retain.as_millis()).unwrap_or(i64::MAX);
        let oldest = now_millis().saturating_sub(retain);
        if events.iter().all(|event| event.at >= oldest) {
            return Ok(events);
        }
        let (young, old): (Vec<Event>, Vec<Event>) =
            events.into_iter().partition(|event| event.at >= oldest);
        if self.bury(batch, &old, Reason::Expired, None).await {
            return Ok(young);
        }
        Err(old.into_iter().chain(young).collect())
    }

    /// Whether `events` of `batch` are safe in the dead letters.
    async fn bury(
        &self,
        batch: &Batch,
        events: &[Event],
        reason: Reason,
        answer: Option<&Answer>,
    ) -> bool {
        let answer = answer.map(|answer| (answer.status.as_u16(), &*answer.body));
        let letters: Vec<DeadLetter> =
            events.iter().map(|event| DeadLetter::new(event, reason, answer)).collect();
        let dead = self.dead.clone();
        let added = tokio::task::spawn_blocking(move || dead.add(&letters)).await;
        // Behind the writing: a deletion looks through the spool first and through the dead letters then, so that
        // one of both finds what it erases while this goes on.
        let erased = self.without_erased(batch, &mut events.to_vec());
        if !erased.is_empty() {
            self.unbury(erased).await;
        }
        match added {
            Ok(Ok(gone)) => {
                let (lane, status) = (self.lane(), answer.map(|(status, _)| status));
                tracing::warn!(
                    lane = &*lane.name,
                    ?reason,
                    status,
                    events = events.len(),
                    "events are put aside"
                );
                if gone > 0 {
                    tracing::error!(
                        lane = &*lane.name,
                        bytes = gone,
                        "the oldest dead letters had to go"
                    );
                }
                let end = match reason {
                    Reason::Refused => EventEnd::Refused,
                    Reason::Expired => EventEnd::Expired,
                };
                self.lane().metrics.ended(end, events.len());
                true
            }
            Ok(Err(error)) => {
                tracing::error!(lane = &*self.lane().name, %error, "dead letters can't be written");
                false
            }
            Err(_) => false,
        }
    }

    /// Erases dead letters whose events have been erased.
    async fn unbury(&self, events: Vec<Event>) {
        let dead = self.dead.clone();
        let erased = move || {
            dead.erase(|letter| {
                let is_it = |event: &Event| {
                    event.at == letter.accepted && Some(&event.parcel) == letter.parcel().as_ref()
                };
                events.iter().any(is_it)
            })
        };
        let erased = tokio::task::spawn_blocking(erased).await.map_err(std::io::Error::other);
        if let Err(error) = erased.flatten() {
            let lane = self.lane();
            tracing::error!(lane = &*lane.name, %error, "dead letters of a deleted person are still there");
        }
    }

    /// What comes of the call for piece `id`.
    async fn ended(
        &self,
        work: &mut VecDeque<Work>,
        pace: &mut Pace,
        next_id: &mut u64,
        id: u64,
        events: Vec<Event>,
        outcome: Outcome,
    ) {
        let holds = |work: &&mut Work| work.pieces.iter().any(|piece| piece.id == id);
        let Some(work) = work.iter_mut().find(holds) else { return };
        let Some(at) = work.pieces.iter().position(|piece| piece.id == id) else { return };
        let mut rest = Vec::new();
        match outcome {
            Outcome::Delivered => {
                pace.succeeded();
                self.lane().metrics.ended(EventEnd::Delivered, events.len());
            }
            Outcome::Nothing => {}
            Outcome::Again(told) => {
                pace.failed(told);
                self.lane().metrics.retried.inc();
                rest.push(events);
            }
            Outcome::Refused(answer) => {
                // It answers: whatever it was asked, it is there.
                pace.succeeded();
                if let [_] = &*events {
                    if !self.bury(&work.batch, &events, Reason::Refused, Some(&answer)).await {
                        pace.failed(None);
                        rest.push(events);
                    }
                } else {
                    let mut first = events;
                    let second = first.split_off(first.len() / 2);
                    rest.extend([first, second]);
                }
            }
        }
        let read = work.pieces.get(at).map_or_else(Instant::now, |piece| piece.read);
        let rest = rest.into_iter().map(|events| Piece::new(events, read, next_id));
        work.pieces.splice(at..=at, rest);
    }
}

/// What the vendor's answer means. A batch can be refused for what is in it; any other refusal is of
/// the site as a whole (a wrong key, a wrong address) and waits for somebody to mend it.
fn judge(answer: Answer, call: bool) -> Outcome {
    match answer.status.as_u16() {
        200..300 => Outcome::Delivered,
        400 | 413 | 422 => Outcome::Refused(answer),
        401 | 403 | 407 | 408 | 425 | 429 => Outcome::Again(after(&answer)),
        400..500 if call => Outcome::Refused(answer),
        _ => Outcome::Again(after(&answer)),
    }
}

fn after(answer: &Answer) -> Option<Duration> {
    answer.retry_after.as_deref().and_then(retry_after)
}

impl Work {
    fn new(mut batch: Batch, next_id: &mut u64) -> Self {
        let events = std::mem::take(&mut batch.events);
        Self { batch, pieces: vec![Piece::new(events, Instant::now(), next_id)] }
    }
}

impl Piece {
    fn new(events: Vec<Event>, read: Instant, next_id: &mut u64) -> Self {
        *next_id += 1;
        let since = events.first().map(|event| event.at);
        Self { id: *next_id, events, since, read, flying: false }
    }
}
