//! Delivers one lane's events: in their order, in batches, several at a time. A vendor that fails
//! gets a pause and then one call at a time until it answers; what it refuses is cut until the
//! event that it refuses stands alone, and that one is put aside ([`super::schedule`]).

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
use super::pace::retry_after;
use super::reports::{EVERY, PATH, Reports};
use super::schedule::{Aside, Fault, Next, Outcome, Schedule, Work};
use super::spool::{Batch, Event, Spool};
use super::{Parcel, Way};
use crate::profile::now_millis;
use crate::telemetry::{EventEnd, Seldom};
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
    /// What the SDKs of pages report about themselves.
    pub reports: Reports,
    /// Set while it waits for the vendor to recover.
    pub paused: AtomicBool,
    /// Calls under way.
    pub flying: AtomicUsize,
    /// Whether it may be said that events can't be read.
    pub unreadable: Seldom,
    /// Whether it may be said that dead letters can't be written.
    pub unwritable: Seldom,
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
        let mut schedule = Schedule::new(self.timing.in_flight);
        let mut calls = FuturesUnordered::new();
        let mut ahead = Ahead::default();
        let mut look = interval(LOOK);
        // Set while everything has been taken from the spool: when the next batch may be taken.
        let mut gathering: Option<Instant> = None;
        loop {
            while schedule.has_room() && gathering.is_none_or(|until| until <= Instant::now()) {
                match self.take(&mut ahead) {
                    Some(batch) => schedule.add(batch),
                    None => {
                        gathering = None;
                        break;
                    }
                }
            }
            while let Some(next) = schedule.choose() {
                let Some((id, batch, events)) = self.launch(&mut schedule, next) else { break };
                calls.push(self.send(id, batch, events));
            }
            self.tell(&schedule);
            let pause = schedule.pause().or(gathering.filter(|until| *until > Instant::now()));
            tokio::select! {
                Some((id, events, outcome)) = calls.next(), if !calls.is_empty() => {
                    self.ended(&mut schedule, &mut ahead, id, events, outcome).await;
                    while let Some(batch) = schedule.done() {
                        self.spool.done(&batch);
                    }
                }
                () = self.spool.news() => {
                    gathering.get_or_insert(Instant::now() + LINGER);
                }
                () = sleep_until(pause.unwrap_or_else(Instant::now)), if pause.is_some() => {}
                _ = look.tick() => self.adopt().await,
            }
        }
    }

    /// Sends what SDKs report about themselves, for as long as the process lives. What fails is not tried again.
    pub async fn report(&self) {
        loop {
            tokio::time::sleep(EVERY).await;
            if !self.paused.load(Ordering::Relaxed)
                && let Some(body) = self.reports.take()
            {
                let call = Event { at: now_millis(), parcel: Parcel::post(PATH, body) };
                self.call(&[call]).await;
            }
        }
    }

    /// Says how it stands.
    fn tell(&self, schedule: &Schedule) {
        let flying = schedule.flying();
        self.flying.store(flying, Ordering::Relaxed);
        // What is set apart and rests can't be delivered at the moment either.
        let rests = flying == 0 && schedule.pause().is_some();
        self.paused.store(schedule.is_broken() || rests, Ordering::Relaxed);
        let lane = self.lane();
        lane.metrics.paused.set(i64::from(schedule.is_broken()));
        lane.metrics.oldest(schedule.oldest());
    }

    /// What is to be sent: the number of a piece and its batch, or neither for an event that goes ahead of the others.
    fn launch(
        &self,
        schedule: &mut Schedule,
        next: Next,
    ) -> Option<(Option<u64>, Option<Batch>, Vec<Event>)> {
        let place = match next {
            Next::Piece(place) => place,
            Next::Newest => {
                if let Some(newest) = self.newest() {
                    schedule.launch_scout();
                    return Some((None, None, vec![newest]));
                }
                schedule.scout()?
            }
            Next::Scout => schedule.scout()?,
        };
        if let Some(work) = schedule.work(place) {
            self.look_again(work);
        }
        let (id, batch, events) = schedule.launch(place)?;
        Some((Some(id), Some(batch), events))
    }

    async fn adopt(&self) {
        let spool = Arc::clone(&self.spool);
        let adopted = tokio::task::spawn_blocking(move || spool.adopt()).await;
        if let Ok(Err(error)) = adopted {
            self.unread(&error);
        }
    }

    /// In place: the thread is delivery's own, and what it reads is in memory most of the time. On other
    /// threads the batches of a backlog would each leave their memory behind.
    fn take(&self, ahead: &mut Ahead) -> Option<Batch> {
        let taken = self.spool.take(self.lane().limits);
        let mut batch = taken.map_err(|error| self.unread(&error)).ok()??;
        batch.events.retain(|event| !ahead.has_gone(&event.parcel));
        Some(batch)
    }

    /// The newest event, where nobody has been given it yet.
    fn newest(&self) -> Option<Event> {
        self.spool.newest().map_err(|error| self.unread(&error)).ok()?
    }

    fn unread(&self, error: &std::io::Error) {
        if let Some(unsaid) = self.unreadable.may_say() {
            tracing::error!(lane = &*self.lane().name, %error, unsaid, "events can't be read");
        }
    }

    /// Takes out of all pieces of a batch that wait, and were read long ago, who has been deleted meanwhile: one look
    /// for all of them.
    fn look_again(&self, Work { batch, pieces }: &mut Work) {
        if !pieces.iter().any(|piece| !piece.flying && piece.read.elapsed() > FRESH) {
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
            Err(error) => self.unread(&error),
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
                self.unread(&error);
                Vec::new()
            }
        }
    }

    async fn send(
        &self,
        id: Option<u64>,
        batch: Option<Batch>,
        mut events: Vec<Event>,
    ) -> (Option<u64>, Vec<Event>, Outcome) {
        if let Some(batch) = batch {
            events = match self.without_expired(&batch, events).await {
                Ok(events) => events,
                Err(events) => {
                    let outcome = Outcome::Failed { fault: Fault::Site, told: None, answer: None };
                    return (id, events, outcome);
                }
            };
        }
        if events.is_empty() {
            return (id, events, Outcome::Nothing);
        }
        let outcome = self.call(&events).await;
        (id, events, outcome)
    }

    async fn call(&self, events: &[Event]) -> Outcome {
        let lane = self.lane();
        let request = lane.request(events);
        let call = Call {
            method: request.method,
            path: &request.path,
            headers: &request.headers,
            body: request.body,
            most: MAX_ANSWER_BYTES,
        };
        let asked = Instant::now();
        let answer = self.client.send(&lane.upstream, call, self.timing.timeout).await;
        match answer {
            Ok(answer) => {
                self.lane().metrics.seconds.observe(asked.elapsed().as_secs_f64());
                let call = matches!(events.first(), Some(Event { parcel, .. }) if parcel.way != Way::Batched);
                judge(answer, call)
            }
            Err(error) => {
                tracing::debug!(lane = &*self.lane().name, %error, "the vendor did not answer");
                Outcome::Failed { fault: Fault::Vendor, told: None, answer: None }
            }
        }
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
                    let lane = &*lane.name;
                    tracing::error!(lane, bytes = gone, "the oldest dead letters had to go");
                }
                let end = match reason {
                    Reason::Refused => EventEnd::Refused,
                    Reason::Expired => EventEnd::Expired,
                };
                self.lane().metrics.ended(end, events.len());
                true
            }
            Ok(Err(error)) => {
                if let Some(unsaid) = self.unwritable.may_say() {
                    let lane = self.lane();
                    tracing::error!(lane = &*lane.name, %error, unsaid, "dead letters can't be written");
                }
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

    /// What comes of a call.
    async fn ended(
        &self,
        schedule: &mut Schedule,
        ahead: &mut Ahead,
        id: Option<u64>,
        events: Vec<Event>,
        outcome: Outcome,
    ) {
        match outcome {
            Outcome::Delivered => self.lane().metrics.ended(EventEnd::Delivered, events.len()),
            Outcome::Failed { .. } => self.lane().metrics.retried.inc(),
            Outcome::Nothing | Outcome::Refused(_) => {}
        }
        let Some(id) = id else {
            if matches!(outcome, Outcome::Delivered) {
                ahead.went(events);
            }
            return schedule.scout_ended(&outcome);
        };
        if let Some(aside) = schedule.ended(id, events, outcome) {
            let Aside { id, batch, events, answer } = aside;
            let buried = self.bury(&batch, &events, Reason::Refused, answer.as_ref()).await;
            schedule.put_aside(id, (!buried).then_some(events));
        }
    }
}

/// Events that were delivered ahead of the others, and are still to come out of the spool: the last ones. Of what is
/// not known any more, the vendor knows the `messageId`.
#[derive(Default)]
struct Ahead(VecDeque<Parcel>);

/// One goes ahead when much has failed: more are seldom.
const MAX_AHEAD: usize = 16;

impl Ahead {
    fn went(&mut self, events: Vec<Event>) {
        self.0.extend(events.into_iter().map(|event| event.parcel));
        while self.0.len() > MAX_AHEAD {
            self.0.pop_front();
        }
    }

    /// Whether `parcel` has been delivered. It is asked once.
    fn has_gone(&mut self, parcel: &Parcel) -> bool {
        let at = self.0.iter().position(|gone| gone == parcel);
        at.and_then(|at| self.0.remove(at)).is_some()
    }
}

/// What the vendor's answer means. A batch can be refused for what is in it. Too many calls and a wrong key are of the
/// site as a whole; any other answer can be of either.
fn judge(answer: Answer, call: bool) -> Outcome {
    let told = answer.retry_after.as_deref().and_then(retry_after);
    let fault = match answer.status.as_u16() {
        200..300 => return Outcome::Delivered,
        400 | 413 | 422 => return Outcome::Refused(answer),
        401 | 407 | 408 | 425 | 429 => Fault::Site,
        404..500 if call => return Outcome::Refused(answer),
        300..500 => Fault::Answer,
        _ => Fault::Vendor,
    };
    Outcome::Failed { fault, told, answer: Some(answer) }
}
