//! Which of a lane's events go to the vendor next, and what follows from its answers.
//!
//! What it refuses for good is cut into pieces until the event that it refuses stands alone. Any other failure may
//! be of the site as a whole (a wrong key, an outage) or of one event (a firewall before the vendor, a gateway with
//! a fault): what else goes through meanwhile tells which. So while everything fails, other events are tried as
//! well; and what fails although others pass is set apart and cut, while the lane goes on.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::pace::Pace;
use super::spool::{Batch, Event};
use crate::upstream::Answer;

/// The work of a lane.
pub(super) struct Schedule {
    work: VecDeque<Work>,
    pace: Pace,
    in_flight: usize,
    /// Calls that the vendor has taken.
    taken: u64,
    /// The last failure was not of the site as a whole for sure.
    in_doubt: bool,
    /// Events that were refused alone, twice, less what passed: the more, the finer a refused piece is cut.
    poison: u32,
    /// The newest event is on its way, ahead of the others.
    scout_flies: bool,
    next_id: u64,
}

/// A batch of the spool on its way, in as many pieces as it took.
pub(super) struct Work {
    /// Without its events, which the pieces have.
    pub(super) batch: Batch,
    pub(super) pieces: Vec<Piece>,
}

/// Events that go in one call.
pub(super) struct Piece {
    pub(super) id: u64,
    pub(super) events: Vec<Event>,
    /// When its events were read.
    pub(super) read: Instant,
    pub(super) flying: bool,
    /// When the first of them was taken.
    since: Option<i64>,
    failures: u32,
    /// What the vendor had taken when this failed last.
    failed_at: Option<u64>,
    /// How often it failed although others passed.
    doubts: u32,
    /// Others pass where it, or what it was cut from, does not: the lane goes on without it.
    apart: bool,
    rests_until: Option<Instant>,
}

/// Where a piece is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    work: usize,
    piece: usize,
}

/// What is to be sent next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Piece(Place),
    /// Something else than what failed before: the newest event that waits, or [`Schedule::scout`].
    Other,
}

/// What became of one call.
pub(super) enum Outcome {
    Delivered,
    /// There was nothing to deliver.
    Nothing,
    /// Not these events.
    Refused(Answer),
    /// Not now.
    Failed {
        fault: Fault,
        told: Option<Duration>,
        answer: Option<Answer>,
    },
}

/// What a failure may be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The site, or too many calls: whatever is sent.
    Site,
    /// What was sent, or the site: a refusal that is seldom by chance.
    Answer,
    /// What was sent, or the vendor, which may be well for one call and not for the next.
    Vendor,
}

/// One event that the vendor will not take.
pub(super) struct Aside {
    pub(super) id: u64,
    pub(super) batch: Batch,
    pub(super) events: Vec<Event>,
    pub(super) answer: Option<Answer>,
}

/// While everything fails: so many failures before something else is tried.
const FAILURES_BEFORE_OTHERS: u32 = 2;
/// Most pieces that single events are taken from to be tried.
const MAX_PIECES_TO_SCOUT: usize = 64;
/// Most batches of which something is set apart, and most bytes of that.
const MAX_APART: usize = 256;
const MAX_APART_BYTES: usize = 4 * 1024 * 1024;
/// Before several events that are set apart are tried again: cutting them costs nothing but calls.
const CUT_AFTER: Duration = Duration::from_millis(250);
/// With that many, each event of a refused piece is sent alone.
const MOST_POISON: u32 = 24;

impl Fault {
    /// How often several events must fail to be cut, once others have passed meanwhile.
    const fn failures_to_cut(self) -> u32 {
        match self {
            Self::Site => u32::MAX,
            Self::Answer => 1,
            Self::Vendor => 3,
        }
    }

    /// How often one event must fail, each time after others have passed, to be put aside.
    const fn doubts_to_end(self) -> u32 {
        match self {
            Self::Site => u32::MAX,
            Self::Answer => 2,
            Self::Vendor => 9,
        }
    }
}

impl Schedule {
    pub(super) fn new(in_flight: usize) -> Self {
        Self {
            work: VecDeque::new(),
            pace: Pace::default(),
            in_flight,
            taken: 0,
            in_doubt: false,
            poison: 0,
            scout_flies: false,
            next_id: 0,
        }
    }

    /// Whether the vendor is given a pause.
    pub(super) fn is_broken(&self) -> bool {
        self.pace.is_broken()
    }

    fn pieces(&self) -> impl Iterator<Item = &Piece> {
        self.work.iter().flat_map(|work| &work.pieces)
    }

    /// Whether another batch is wanted.
    pub(super) fn has_room(&self) -> bool {
        let apart = |work: &&Work| work.pieces.iter().all(|piece| piece.apart);
        let apart_works = self.work.iter().filter(apart).count();
        let normal = self.work.len() - apart_works;
        let most = if self.is_broken() { 1 } else { self.in_flight };
        let apart = self.pieces().filter(|piece| piece.apart).flat_map(|piece| &piece.events);
        let bytes: usize = apart.map(|event| event.parcel.body.len()).sum();
        normal < most && apart_works < MAX_APART && bytes < MAX_APART_BYTES
    }

    /// Adds a batch.
    pub(super) fn add(&mut self, mut batch: Batch) {
        let events = std::mem::take(&mut batch.events);
        self.next_id += 1;
        let piece = Piece::new(self.next_id, events);
        self.work.push_back(Work { batch, pieces: vec![piece] });
    }

    /// What is to be sent now.
    pub(super) fn choose(&self) -> Option<Next> {
        if self.pace.until().is_some() {
            return None;
        }
        let flying = self.flying();
        if self.is_broken() {
            // One at a time finds out whether it is over.
            let failures = self.pace.failures();
            let others = failures >= FAILURES_BEFORE_OTHERS && failures.is_multiple_of(2);
            return match flying {
                0 if self.in_doubt && others => Some(Next::Other),
                0 => self.find(|piece| !piece.apart).or_else(|| self.find(|_| true)),
                _ => None,
            };
        }
        if flying >= self.in_flight {
            return None;
        }
        // What is set apart may take long each time.
        let apart = self.pieces().filter(|piece| piece.apart && piece.flying).count();
        let may = apart < (self.in_flight / 2).max(1);
        let one = if may { self.find(|piece| piece.apart) } else { None };
        one.or_else(|| self.find(|piece| !piece.apart))
    }

    fn find(&self, wanted: impl Fn(&Piece) -> bool) -> Option<Next> {
        let now = Instant::now();
        self.work.iter().enumerate().find_map(|(work, of)| {
            let ready = |piece: &Piece| piece.is_ready(now) && wanted(piece);
            let piece = of.pieces.iter().position(ready)?;
            Some(Next::Piece(Place { work, piece }))
        })
    }

    /// Something else than what failed before, where nothing newer waits: the last event of several, or what was
    /// tried least.
    pub(super) fn scout(&mut self) -> Option<Place> {
        let now = Instant::now();
        if self.pieces().count() < MAX_PIECES_TO_SCOUT {
            for (number, work) in self.work.iter_mut().enumerate().rev() {
                let several = |piece: &Piece| piece.is_ready(now) && piece.events.len() > 1;
                let Some(at) = work.pieces.iter().rposition(several) else { continue };
                let Some(piece) = work.pieces.get_mut(at) else { continue };
                let last = piece.events.split_off(piece.events.len() - 1);
                self.next_id += 1;
                let alone = piece.part(self.next_id, last);
                work.pieces.insert(at + 1, alone);
                return Some(Place { work: number, piece: at + 1 });
            }
        }
        let all = self.work.iter().enumerate().flat_map(|(work, of)| {
            of.pieces.iter().enumerate().map(move |(piece, one)| (Place { work, piece }, one))
        });
        let ready = all.filter(|(_, piece)| piece.is_ready(now));
        ready.min_by_key(|(_, piece)| piece.failures).map(|(place, _)| place)
    }

    /// The batch of a piece, with all pieces that are left of it.
    pub(super) fn work(&mut self, place: Place) -> Option<&mut Work> {
        self.work.get_mut(place.work)
    }

    /// Sends a piece off: its number, its batch, its events.
    pub(super) fn launch(&mut self, place: Place) -> Option<(u64, Batch, Vec<Event>)> {
        let work = self.work.get_mut(place.work)?;
        let piece = work.pieces.get_mut(place.piece)?;
        piece.flying = true;
        Some((piece.id, work.batch.clone(), std::mem::take(&mut piece.events)))
    }

    /// The newest event goes ahead.
    pub(super) fn launch_scout(&mut self) {
        self.scout_flies = true;
    }

    /// What comes of the newest event, which went ahead.
    pub(super) fn scout_ended(&mut self, outcome: &Outcome) {
        self.scout_flies = false;
        match outcome {
            Outcome::Delivered => self.passed(),
            Outcome::Refused(_) | Outcome::Nothing => self.pace.succeeded(),
            Outcome::Failed { fault, told, .. } => self.fail(*fault, *told),
        }
    }

    /// What comes of the call for piece `id`, which had `events`. An event that is to be put aside stays until
    /// [`Self::put_aside`].
    pub(super) fn ended(&mut self, id: u64, events: Vec<Event>, outcome: Outcome) -> Option<Aside> {
        match outcome {
            Outcome::Delivered => {
                self.passed();
                self.replace(id, |_| Vec::new());
            }
            Outcome::Nothing => self.replace(id, |_| Vec::new()),
            Outcome::Refused(answer) => {
                // It answers: whatever it was asked, it is there.
                self.pace.succeeded();
                if events.len() == 1 {
                    return self.aside(id, events, Some(answer));
                }
                self.cut(id, events);
            }
            Outcome::Failed { fault, told, answer } => {
                return self.failed(id, events, fault, told, answer);
            }
        }
        None
    }

    fn failed(
        &mut self,
        id: u64,
        events: Vec<Event>,
        fault: Fault,
        told: Option<Duration>,
        answer: Option<Answer>,
    ) -> Option<Aside> {
        let taken = self.taken;
        let piece = self.piece(id)?;
        piece.failures += 1;
        if fault != Fault::Site {
            piece.doubts += u32::from(piece.failed_at.is_some_and(|before| before < taken));
            piece.failed_at = Some(taken);
        }
        let doubts = piece.doubts;
        piece.apart |= doubts > 0;
        let is_cut = piece.apart && piece.failures >= fault.failures_to_cut();
        if doubts > 0 && fault != Fault::Site {
            let pause =
                if events.len() > 1 { CUT_AFTER } else { Pace::backoff(piece.failures - 1) };
            piece.rests_until = Some(Instant::now() + told.unwrap_or(pause));
        } else {
            self.fail(fault, told);
        }
        match events.len() {
            1 if doubts >= fault.doubts_to_end() => return self.aside(id, events, answer),
            2.. if is_cut => self.cut(id, events),
            _ => self.back(id, events),
        }
        None
    }

    /// What was not taken comes again.
    fn back(&mut self, id: u64, events: Vec<Event>) {
        if let Some(piece) = self.piece(id) {
            piece.events = events;
            piece.flying = false;
        }
    }

    /// An event could be put aside, or not: then it is `back`.
    pub(super) fn put_aside(&mut self, id: u64, back: Option<Vec<Event>>) {
        let Some(events) = back else {
            self.poison = (self.poison + 2).min(MOST_POISON);
            return self.replace(id, |_| Vec::new());
        };
        self.pace.failed(None);
        self.back(id, events);
    }

    fn aside(&mut self, id: u64, events: Vec<Event>, answer: Option<Answer>) -> Option<Aside> {
        let batch = self.work.iter().find(|work| work.pieces.iter().any(|piece| piece.id == id));
        let batch = batch.map(|work| work.batch.clone())?;
        Some(Aside { id, batch, events, answer })
    }

    fn passed(&mut self) {
        self.pace.succeeded();
        self.taken += 1;
        self.poison = self.poison.saturating_sub(1);
    }

    fn fail(&mut self, fault: Fault, told: Option<Duration>) {
        self.in_doubt = fault != Fault::Site;
        self.pace.failed(told);
    }

    /// Cuts what was refused: into halves, and finer where much is refused at the moment, because each event of it
    /// costs a call of its own in the end.
    fn cut(&mut self, id: u64, events: Vec<Event>) {
        let parts = (2 << (self.poison / 2)).min(events.len().max(1));
        let most = events.len().div_ceil(parts).max(1);
        let mut next_id = self.next_id;
        self.replace(id, |piece| {
            let mut rest = events;
            let mut cut = Vec::with_capacity(parts);
            while !rest.is_empty() {
                let behind = rest.split_off(most.min(rest.len()));
                next_id += 1;
                cut.push(piece.part(next_id, rest));
                rest = behind;
            }
            cut
        });
        self.next_id = next_id;
    }

    fn piece(&mut self, id: u64) -> Option<&mut Piece> {
        self.work.iter_mut().flat_map(|work| &mut work.pieces).find(|piece| piece.id == id)
    }

    fn replace(&mut self, id: u64, by: impl FnOnce(&Piece) -> Vec<Piece>) {
        for work in &mut self.work {
            let at = work.pieces.iter().position(|piece| piece.id == id);
            let Some((at, piece)) = at.and_then(|at| Some((at, work.pieces.get(at)?))) else {
                continue;
            };
            let by = by(piece);
            work.pieces.splice(at..=at, by);
            return;
        }
    }

    /// The first batch, where nothing of it is left.
    pub(super) fn done(&mut self) -> Option<Batch> {
        self.work.front().filter(|first| first.pieces.is_empty())?;
        self.work.pop_front().map(|work| work.batch)
    }

    /// Calls under way.
    pub(super) fn flying(&self) -> usize {
        self.pieces().filter(|piece| piece.flying).count() + usize::from(self.scout_flies)
    }

    /// When the oldest event on its way was taken.
    pub(super) fn oldest(&self) -> Option<i64> {
        self.pieces().filter_map(|piece| piece.since).min()
    }

    /// When there may be something to send again, where that is not now.
    pub(super) fn pause(&self) -> Option<Instant> {
        let now = Instant::now();
        let rests = self.pieces().filter(|piece| !piece.flying);
        let rests = rests.filter_map(|piece| piece.rests_until).filter(|until| *until > now);
        self.pace.until().or_else(|| rests.min())
    }
}

impl Piece {
    fn new(id: u64, events: Vec<Event>) -> Self {
        Self {
            id,
            since: events.first().map(|event| event.at),
            events,
            read: Instant::now(),
            flying: false,
            failures: 0,
            failed_at: None,
            doubts: 0,
            apart: false,
            rests_until: None,
        }
    }

    /// A part of this one.
    fn part(&self, id: u64, events: Vec<Event>) -> Self {
        Self {
            read: self.read,
            failed_at: self.failed_at,
            apart: self.apart,
            ..Self::new(id, events)
        }
    }

    fn is_ready(&self, now: Instant) -> bool {
        !self.flying && self.rests_until.is_none_or(|until| until <= now)
    }
}

#[cfg(test)]
mod tests;
