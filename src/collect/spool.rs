//! Events on disk until the vendor has them: what is acknowledged survives a crash.
//!
//! Files that are only ever added to, each written and delivered by the process that has it locked.
//! One thread writes: all events that wait go to the disk with one sync. A file whose sync has
//! failed gets no more events, because the system may take its lost pages for written: another is
//! made, and only when that stands on the disk is anything acknowledged again.

mod frame;
mod look;
mod room;
mod segment;
mod writer;

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};

pub use frame::Event;
pub use look::{Waiting, erase, status};
pub use room::{Room, Sender, Share};

use super::{Parcel, Way};
use crate::private;
use crate::profile::now_millis;
use crate::telemetry::Seldom;
use crate::telemetry::metrics::{EVENTS_DAMAGED, EVENTS_WAITING};
use frame::{Step, Walk};
use segment::{SUFFIX, Segment, keep_cursor, read_part};

/// When an event counts as taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Once it is on the disk.
    Sync,
    /// Once the system has it: a loss of power may cost the last second.
    Relaxed,
}

/// Why an event was not taken. It is the sender's again.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SpoolError {
    /// No room on the disk that the configuration gives, or none for this site and sender.
    #[error(
        "{used} of {capacity} bytes of `events.disk` are in use: is the tracking API up, or does it refuse?"
    )]
    Full {
        /// Bytes in use.
        used: u64,
        /// Bytes that may be.
        capacity: u64,
    },
    /// One event has more bytes than any may have.
    #[error("an event has more than {} bytes", frame::MAX_BODY_BYTES)]
    TooLarge,
    /// Events come faster than the disk takes them.
    #[error("the disk does not keep up with the events")]
    Busy,
    /// The disk.
    #[error("the spool can't be written: {0}")]
    Failed(String),
}

/// How much may be sent at one time.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most bytes of all events of a batch.
    pub bytes: usize,
    /// Most events of a batch.
    pub events: usize,
    /// Bytes that each event gets on the way.
    pub added: usize,
}

/// Events of one file that stand one behind the other: a batch, or one call.
#[derive(Debug, Clone)]
pub struct Batch {
    segment: Box<str>,
    from: u64,
    to: u64,
    /// Frames, with those that have been erased.
    frames: usize,
    /// What is to be sent.
    pub events: Vec<Event>,
}

#[cfg(test)]
impl Batch {
    /// One that is in no file.
    pub(super) fn of(events: Vec<Event>) -> Self {
        Self { segment: "".into(), from: 0, to: 0, frames: events.len(), events }
    }
}

/// One lane's events.
pub struct Spool {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Append>,
}

struct Shared {
    folder: PathBuf,
    durability: Durability,
    room: Share,
    segment_bytes: u64,
    /// A file that is wholly delivered is removed early when it is larger.
    small_bytes: u64,
    state: Mutex<State>,
    news: Notify,
    sync: fn(&File) -> io::Result<()>,
    unreadable: Seldom,
    unwritable: Seldom,
}

#[derive(Default)]
struct State {
    /// By age.
    segments: VecDeque<Segment>,
    /// The writer is adding to the last one that is not sealed.
    writing: bool,
}

struct Append {
    frames: Vec<u8>,
    events: usize,
    reply: oneshot::Sender<Result<(), SpoolError>>,
}

/// Appends that may wait for the writer.
const MAX_WAITING: usize = 2048;
const MAX_SEGMENT_BYTES: u64 = 16 * 1024 * 1024;
/// As much is read to find the newest event.
const MAX_NEWEST_BYTES: usize = 1024 * 1024;
/// One of that size is not removed early.
const SMALL_BYTES: u64 = 1024 * 1024;
/// The longest that a sender waits for the disk.
const DEADLINE: Duration = Duration::from_secs(10);

impl Spool {
    /// Opens the spool in `folder`, which is made when missing, and starts its writer.
    ///
    /// # Errors
    /// When the folder can't be made.
    pub fn open(folder: &Path, durability: Durability, room: Share) -> io::Result<Self> {
        Self::open_with(folder, durability, room, File::sync_data)
    }

    fn open_with(
        folder: &Path,
        durability: Durability,
        room: Share,
        sync: fn(&File) -> io::Result<()>,
    ) -> io::Result<Self> {
        private::make_folder(folder)?;
        for parent in folder.ancestors().skip(1).take(2) {
            File::open(parent)?.sync_all()?;
        }
        let shared = Arc::new(Shared {
            folder: folder.to_owned(),
            durability,
            // Room comes back a file at a time.
            segment_bytes: (room.own() / 4).min(MAX_SEGMENT_BYTES),
            small_bytes: (room.own() / 8).min(SMALL_BYTES),
            room,
            state: Mutex::default(),
            news: Notify::new(),
            sync,
            unreadable: Seldom::default(),
            unwritable: Seldom::default(),
        });
        let (queue, waiting) = mpsc::channel(MAX_WAITING);
        let for_writer = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("event-writer".into())
            .spawn(move || for_writer.write_groups(waiting))?;
        Ok(Self { shared, queue })
    }

    /// Keeps `parcels`, all or none of them. They are kept when this returns `Ok`.
    ///
    /// # Errors
    /// When there is no room, or the disk fails: nothing is promised then.
    pub async fn append(&self, parcels: &[Parcel], sender: Sender) -> Result<(), SpoolError> {
        let told = self.append_later(parcels, sender)?;
        let ended = || SpoolError::Failed("its writer has ended".into());
        match tokio::time::timeout(DEADLINE, told).await {
            Ok(told) => told.map_err(|_| ended())?,
            Err(_) => Err(SpoolError::Busy),
        }
    }

    /// Gives `parcels` to the writer. The receiver tells how it went.
    ///
    /// # Errors
    /// When there is no room for them.
    pub fn append_later(
        &self,
        parcels: &[Parcel],
        sender: Sender,
    ) -> Result<oneshot::Receiver<Result<(), SpoolError>>, SpoolError> {
        let at = now_millis();
        let bytes = parcels.iter().map(|parcel| parcel.body.len() + 128).sum();
        let mut frames = Vec::with_capacity(bytes);
        for parcel in parcels {
            frame::write(parcel, at, &mut frames).ok_or(SpoolError::TooLarge)?;
        }
        let taken = frames.len() as u64;
        self.shared.room.take(taken, sender)?;
        let (reply, told) = oneshot::channel();
        let append = Append { frames, events: parcels.len(), reply };
        self.queue.try_send(append).map_err(|_| {
            self.shared.room.give_back(taken);
            SpoolError::Busy
        })?;
        Ok(told)
    }

    /// Waits until all that this process has taken so far stands in a file, where any process finds it.
    ///
    /// # Errors
    /// When the disk does not keep up.
    pub async fn settle(&self) -> Result<(), SpoolError> {
        let (reply, told) = oneshot::channel();
        let nothing = Append { frames: Vec::new(), events: 0, reply };
        let settled = async {
            self.queue.send(nothing).await.ok()?;
            told.await.ok()
        };
        match tokio::time::timeout(DEADLINE, settled).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(SpoolError::Failed("its writer has ended".into())),
            Err(_) => Err(SpoolError::Busy),
        }
    }

    /// Waits until there may be something new to deliver.
    pub async fn news(&self) {
        self.shared.news.notified().await;
    }

    /// Takes over what processes that have ended have left. Waits for the disk.
    ///
    /// # Errors
    /// The folder's.
    pub fn adopt(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.shared.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if !name.ends_with(SUFFIX) || self.shared.lock().find(&name).is_some() {
                continue;
            }
            match Segment::adopt(&entry.path()) {
                Ok(Some((segment, _))) if name.starts_with('.') => {
                    // Its process ended while it was made: there is nothing in it.
                    std::fs::remove_file(segment.path)?;
                }
                Ok(Some((segment, found))) => self.shared.take_over(segment, &found),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    if let Some(unsaid) = self.shared.unreadable.may_say() {
                        let file = entry.path();
                        tracing::error!(file = %file.display(), %error, unsaid, "events can't be read");
                    }
                }
            }
        }
        Ok(())
    }

    /// The next events that nobody has been given. Waits for the disk.
    ///
    /// # Errors
    /// The disk's.
    pub fn take(&self, limits: Limits) -> io::Result<Option<Batch>> {
        let Some((name, file, from, end)) = self.shared.lock().unread() else { return Ok(None) };
        let mut batch = Batch { segment: name, from, to: from, frames: 0, events: Vec::new() };
        let left = usize::try_from(end - from).unwrap_or(usize::MAX);
        let mut most = left.min(limits.bytes + limits.bytes / 8);
        loop {
            let mut walk = Walk::over(read_part(&file, from, most)?);
            let (mut bytes, mut lost, mut needed) = (0, 0, 0);
            loop {
                let before = walk.at();
                match walk.step() {
                    None => break,
                    Some(Step::Short(whole)) if most < left => {
                        needed = before + whole;
                        break;
                    }
                    Some(Step::Short(_)) => {
                        lost += most - before;
                        batch.to = end;
                        break;
                    }
                    Some(Step::Lost(some)) => lost += some,
                    Some(Step::Erased) => batch.frames += 1,
                    Some(Step::Event(event)) => {
                        let size = event.parcel.body.len() + 1 + limits.added;
                        let alone = matches!(event.parcel.way, Way::Call(_));
                        let full =
                            bytes + size > limits.bytes || batch.events.len() >= limits.events;
                        if (alone || full) && !batch.events.is_empty() {
                            break;
                        }
                        bytes += size;
                        batch.frames += 1;
                        batch.events.push(event);
                        if alone {
                            batch.to = from + walk.at() as u64;
                            break;
                        }
                    }
                }
                batch.to = from + walk.at() as u64;
            }
            if batch.to == from && needed > most {
                most = needed.min(left);
                continue;
            }
            if batch.to == from {
                // The file is shorter than it was: what is missing can't be delivered.
                lost = left;
                batch.to = end;
            }
            if self.shared.lock().hand_out(&batch.segment, batch.to) && lost > 0 {
                self.shared.damaged(&batch.segment, lost as u64);
            }
            return Ok(Some(batch));
        }
    }

    /// The newest event, or one of those that came with it, where nobody has been given it. It comes in its turn all
    /// the same. Waits for the disk.
    ///
    /// # Errors
    /// The disk's.
    pub fn newest(&self) -> io::Result<Option<Event>> {
        let state = self.shared.lock();
        let newest = state.segments.iter().rev().find(|segment| segment.end > segment.newest);
        let Some(segment) = newest.filter(|segment| segment.newest >= segment.handed_out) else {
            return Ok(None);
        };
        let (file, from, end) = (Arc::clone(&segment.file), segment.newest, segment.end);
        drop(state);
        let most = usize::try_from(end - from).unwrap_or(usize::MAX).min(MAX_NEWEST_BYTES);
        let mut walk = Walk::over(read_part(&file, from, most)?);
        while let Some(step) = walk.step() {
            match step {
                Step::Event(event) => return Ok(Some(event)),
                Step::Short(_) => break,
                Step::Erased | Step::Lost(_) => {}
            }
        }
        Ok(None)
    }

    /// What is still to be sent of `batch`: some of it may have been erased since it was handed out.
    /// Waits for the disk.
    ///
    /// # Errors
    /// The disk's.
    pub fn again(&self, batch: &Batch) -> io::Result<Vec<Event>> {
        let state = self.shared.lock();
        let segment = state.find(&batch.segment).and_then(|at| state.segments.get(at));
        let Some(file) = segment.map(|segment| Arc::clone(&segment.file)) else {
            return Err(io::Error::other("the file has gone"));
        };
        drop(state);
        let bytes = usize::try_from(batch.to.saturating_sub(batch.from)).unwrap_or(0);
        let mut walk = Walk::over(read_part(&file, batch.from, bytes)?);
        let mut events = Vec::new();
        while let Some(step) = walk.step() {
            match step {
                Step::Event(event) => events.push(event),
                Step::Erased => {}
                // What was handed out is better than what is there now.
                Step::Lost(_) | Step::Short(_) => {
                    return Err(io::Error::other("the file is damaged"));
                }
            }
        }
        Ok(events)
    }

    /// `batch` need not be delivered again, and nothing before it. Waits for the disk.
    pub fn done(&self, batch: &Batch) {
        let mut state = self.shared.lock();
        let writing = state.writing;
        let Some(at) = state.find(&batch.segment) else { return };
        let Some(segment) = state.segments.get_mut(at) else { return };
        segment.cursor = batch.to;
        let gone = batch.frames.min(segment.waiting);
        segment.waiting -= gone;
        EVENTS_WAITING.sub(i64::try_from(gone).unwrap_or(0));
        let file = Arc::clone(&segment.file);
        let all = segment.cursor >= segment.end;
        segment.sealed |= all && !writing && segment.end > self.shared.small_bytes;
        let removed = if all && segment.sealed { state.segments.remove(at) } else { None };
        drop(state);
        match removed {
            Some(segment) => self.shared.remove(&segment),
            // Not written down, some events are delivered twice: nothing is lost.
            None => drop(keep_cursor(&file, batch.to)),
        }
    }

    /// Hands out again what is not done.
    pub fn rewind(&self) {
        for segment in &mut self.shared.lock().segments {
            segment.handed_out = segment.cursor;
        }
    }

    /// How many events wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared.lock().segments.iter().map(|segment| segment.waiting).sum()
    }
}

impl State {
    fn find(&self, name: &str) -> Option<usize> {
        self.segments.iter().position(|segment| *segment.name == *name)
    }

    fn unread(&self) -> Option<(Box<str>, Arc<File>, u64, u64)> {
        let unread = |segment: &&Segment| segment.handed_out < segment.end;
        let segment = self.segments.iter().find(unread)?;
        Some((segment.name.clone(), Arc::clone(&segment.file), segment.handed_out, segment.end))
    }

    /// Tells whether damage in the file has still to be told of.
    fn hand_out(&mut self, name: &str, to: u64) -> bool {
        let segment = self.find(name).and_then(|at| self.segments.get_mut(at));
        let Some(segment) = segment else { return false };
        segment.handed_out = to;
        !segment.looked_through
    }

    fn insert(&mut self, segment: Segment) {
        let at = self.segments.partition_point(|other| other.name < segment.name);
        self.segments.insert(at, segment);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn damaged(&self, segment: &str, bytes: u64) {
        EVENTS_DAMAGED.inc_by(bytes);
        let folder = self.folder.display();
        tracing::warn!(%folder, segment, bytes, "damaged bytes of the event spool are left out");
    }

    fn take_over(&self, segment: Segment, found: &segment::Found) {
        if found.lost_bytes > 0 {
            self.damaged(&segment.name, found.lost_bytes);
        }
        self.room.count(segment.end);
        EVENTS_WAITING.add(i64::try_from(found.events).unwrap_or(0));
        if found.events == 0 {
            return self.remove(&segment);
        }
        self.lock().insert(segment);
        self.news.notify_one();
    }

    fn remove(&self, segment: &Segment) {
        if let Err(error) = std::fs::remove_file(&segment.path) {
            tracing::error!(file = %segment.path.display(), %error, "delivered events can't be removed");
        }
        self.room.give_back(segment.end);
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
