//! Which of a lane's events go to the vendor next, and what follows from its answers.
//!
//! What it refuses for good is cut into pieces until the event that it refuses stands alone. Any other failure may
//! be of the site as a whole (a wrong key, an outage) or of one event (a firewall before the vendor, a gateway with
//! a fault): what else goes through meanwhile tells which. So while everything fails, other events are tried as
//! well; and what fails although others pass is set apart and cut, while the lane goes on. As long as much has passed
//! of late, what fails for the first time is set apart at once: else each event of a stream of such events would
//! stop the others for a pause of its own. That trust is used up within a few failures where nothing passes.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::pace::{LONGEST_RETRY_AFTER, Pace};
use super::spool::{Batch, Event};
use crate::upstream::Answer;

/// The work of a lane.
pub(super) struct Schedule {
    work: VecDeque<Work>,
    pace: Pace,
    in_flight: usize,
    /// Calls that the vendor has taken.
    taken: u64,
    /// How many failures of pieces that have not failed since something passed are taken for the pieces' own.
    trust: u32,
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
    /// What the vendor had taken when this, or what it was cut from, failed last.
    failed_at: Option<u64>,
    /// What the vendor had taken when this itself failed last.
    tried_at: Option<u64>,
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
    /// Something else than what failed before: the newest event that waits, or [`Schedule::scout`] where there is none.
    Newest,
    /// Something else than what failed before: [`Schedule::scout`]. The newest may be refused as well.
    Scout,
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

/// Most pieces that single events are taken from to be tried.
const MAX_PIECES_TO_SCOUT: usize = 64;
/// Most batches of which something is set apart, and most bytes of that.
const MAX_APART: usize = 4096;
const MAX_APART_BYTES: usize = 4 * 1024 * 1024;
/// Most batches of which several events are set apart together: what is in them is to be known before more fails.
const MAX_UNCUT: usize = 16;
/// What a call that passed adds to the trust, and the most of it.
const TRUST_OF_A_PASS: u32 = 8;
const MOST_TRUST: u32 = 16;
/// Into so many parts what failed is cut, at least: each cut takes a rest. What is refused for good is cut without,
/// so that two save calls.
const PARTS_OF_FAILED: usize = 8;
const PARTS_OF_REFUSED: usize = 2;
/// Before several events that are set apart are tried again: cutting them costs nothing but calls.
const CUT_AFTER: Duration = Duration::from_millis(250);
/// With that many, each event of a refused piece is sent alone.
const MOST_POISON: u32 = 24;

impl Fault {
    /// How often one piece must fail, each time after others have passed, to be known for the one that fails.
    const fn doubts_to_know(self) -> u32 {
        match self {
            Self::Site => 3,
            Self::Answer | Self::Vendor => 1,
        }
    }

    /// How often several events must fail to be cut, once others pass where they don't.
    const fn failures_to_cut(self) -> u32 {
        match self {
            Self::Site | Self::Vendor => 3,
            Self::Answer => 1,
        }
    }

    /// How often one event must fail, each time after others have passed, to be put aside. Fewer where there is no
    /// room for more that is set apart.
    const fn doubts_to_end(self, has_room: bool) -> u32 {
        match (self, has_room) {
            (Self::Site, true) => 60,
            (Self::Site, false) | (Self::Vendor, true) => 9,
            (Self::Answer, true) => 5,
            (Self::Vendor | Self::Answer, false) => 2,
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
            trust: 0,
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
        let normal = self.work.iter().filter(|work| !work.is_apart()).count();
        let most = if self.is_broken() { 1 } else { self.in_flight };
        let several = |piece: &Piece| piece.apart && piece.events.len() > 1;
        let uncut = self.work.iter().filter(|work| work.pieces.iter().any(several)).count();
        normal < most && uncut < MAX_UNCUT && self.has_room_apart()
    }

    /// Whether more may be set apart.
    fn has_room_apart(&self) -> bool {
        let works = self.work.iter().filter(|work| work.is_apart()).count();
        let apart = self.pieces().filter(|piece| piece.apart).flat_map(|piece| &piece.events);
        let bytes: usize = apart.map(|event| event.parcel.body.len()).sum();
        works < MAX_APART && bytes < MAX_APART_BYTES
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
        let (now, taken) = (Instant::now(), self.taken);
        let normal = || self.find(|piece| piece.is_ready(now) && !piece.apart);
        let apart = || self.find(|piece| piece.is_ready(now) && piece.apart);
        if self.is_broken() {
            // One at a time finds out whether it is over.
            return match (flying, self.pace.failures() % 4) {
                (0, 2) => Some(Next::Newest),
                (0, 0) => Some(Next::Scout),
                (0, _) => normal().or_else(apart),
                _ => None,
            };
        }
        if flying >= self.in_flight {
            return None;
        }
        // What is set apart may take long each time. It goes first where its failure would say something.
        let flying_apart = self.pieces().filter(|piece| piece.apart && piece.flying).count();
        if flying_apart >= (self.in_flight / 2).max(1) {
            return normal();
        }
        let telling = |piece: &Piece| piece.apart && piece.tried_at != Some(taken);
        let first = self.find(|piece| piece.is_ready(now) && telling(piece));
        let first = first.or_else(|| {
            // Without room nothing that could be put aside now rests.
            let waits = |piece: &Piece| !piece.flying && piece.doubts > 0 && telling(piece);
            if self.has_room_apart() { None } else { self.find(waits) }
        });
        first.or_else(normal).or_else(apart)
    }

    fn find(&self, wanted: impl Fn(&Piece) -> bool) -> Option<Next> {
        self.work.iter().enumerate().find_map(|(work, of)| {
            let piece = of.pieces.iter().position(&wanted)?;
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
            Outcome::Failed { told, .. } => self.fail(*told),
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
                self.cut(id, events, PARTS_OF_REFUSED);
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
        let (taken, trust, has_room) = (self.taken, self.trust, self.has_room_apart());
        let piece = self.piece(id)?;
        piece.failures += 1;
        piece.doubts += u32::from(piece.failed_at.is_some_and(|before| before < taken));
        let is_known = piece.doubts >= fault.doubts_to_know();
        // One event that fails twice while nothing passes may as well be the site's. So is a pause that is asked for.
        let is_news = events.len() > 1 || piece.tried_at != Some(taken);
        let is_trusted = fault != Fault::Site && told.is_none() && trust > 0 && is_news;
        piece.failed_at = Some(taken);
        piece.tried_at = Some(taken);
        let is_own = is_known || is_trusted;
        piece.apart |= is_own;
        let (failures, doubts) = (piece.failures, piece.doubts);
        if is_own {
            let pause = if events.len() > 1 { CUT_AFTER } else { Pace::backoff(failures - 1) };
            let pause = told.map_or(pause, |told| told.min(LONGEST_RETRY_AFTER));
            piece.rests_until = Some(Instant::now() + pause);
            self.trust -= u32::from(!is_known);
        } else {
            self.fail(told);
        }
        match events.len() {
            1 if doubts >= fault.doubts_to_end(has_room) => return self.aside(id, events, answer),
            2.. if is_own && failures >= fault.failures_to_cut() => {
                self.cut(id, events, PARTS_OF_FAILED);
            }
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
        self.trust = (self.trust + TRUST_OF_A_PASS).min(MOST_TRUST);
        self.poison = self.poison.saturating_sub(1);
    }

    /// Something failed that says nothing of what was sent: the site may be out.
    fn fail(&mut self, told: Option<Duration>) {
        self.trust = 0;
        self.pace.failed(told);
    }

    /// Cuts what was refused: into `least` parts, and finer where much is refused at the moment, because each event
    /// of it costs a call of its own in the end.
    fn cut(&mut self, id: u64, events: Vec<Event>, least: usize) {
        let parts = (least << (self.poison / 2)).min(events.len().max(1));
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

impl Work {
    /// All that is left of it is set apart.
    fn is_apart(&self) -> bool {
        self.pieces.iter().all(|piece| piece.apart)
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
            tried_at: None,
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
