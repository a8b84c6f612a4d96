//! One file of a spool: a head with how far its events have been delivered, then frames.
//! Whoever has the file locked delivers what is in it; the lock ends with its process.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::{Bytes, BytesMut};
use xxhash_rust::xxh3::xxh3_64;

use super::frame::{ERASED, Event, HEAD_BYTES as FRAME_HEAD_BYTES, STATE_AT, Step, Walk};
use crate::private;
use crate::profile::now_millis;

const HEAD: usize = 64;
pub(super) const HEAD_BYTES: u64 = HEAD as u64;
const MAGIC: &[u8; 32] = b"doorstep events 1\n\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
/// How far it is delivered, and a check of that.
const CURSOR_AT: usize = 32;
const CURSOR_BYTES: usize = 16;
pub(super) const SUFFIX: &str = ".events";
/// How often a file that goes while it is made is made anew.
const TRIES: usize = 4;
/// Read at one time while a file is looked through.
const PART_BYTES: usize = 1024 * 1024;

/// A file of events.
pub(super) struct Segment {
    /// Sorts by age.
    pub(super) name: Box<str>,
    pub(super) path: PathBuf,
    pub(super) file: Arc<File>,
    /// Behind the last event that may be delivered.
    pub(super) end: u64,
    /// All before it is delivered.
    pub(super) cursor: u64,
    /// All before it has been handed out for delivery.
    pub(super) handed_out: u64,
    /// Where the newest events begin, those that were written with one sync.
    pub(super) newest: u64,
    /// Events that are not delivered.
    pub(super) waiting: usize,
    /// Nothing is added any more.
    pub(super) sealed: bool,
    /// It was taken over, and its damage told of.
    pub(super) looked_through: bool,
}

/// What a file had in it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) events: usize,
    pub(super) lost_bytes: u64,
    pub(super) newest: u64,
    pub(super) end: u64,
}

/// Where a frame stands in its file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) begins: u64,
    end: u64,
}

impl Place {
    /// Whether the byte at `at` is one of its own.
    #[cfg(test)]
    pub(super) fn holds(&self, at: u64) -> bool {
        (self.begins..self.end).contains(&at)
    }
}

impl Segment {
    /// Makes the next file in `folder`, locked.
    pub(super) fn create(folder: &Path) -> io::Result<Self> {
        for _ in 1..TRIES {
            match Self::make(folder) {
                // Whoever looks for what was left behind has found it before it was locked.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                made => return made,
            }
        }
        Self::make(folder)
    }

    fn make(folder: &Path) -> io::Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("{:014}-{}-{number:08}{SUFFIX}", now_millis(), std::process::id());
        // Under another name until it is locked: nobody takes it for one that was left behind.
        let unlocked = folder.join(format!(".{name}"));
        let mut options = File::options();
        let file = private::open(options.read(true).write(true).create_new(true), &unlocked)?;
        let path = folder.join(&name);
        let made = Self::begin(&file).and_then(|()| std::fs::rename(&unlocked, &path));
        if let Err(error) = made.and_then(|()| File::open(folder)?.sync_all()) {
            for left in [&unlocked, &path] {
                // There is nothing in it; the next look removes it otherwise.
                let _ = std::fs::remove_file(left);
            }
            return Err(error);
        }
        Ok(Self {
            name: name.into(),
            path,
            file: Arc::new(file),
            end: HEAD_BYTES,
            cursor: HEAD_BYTES,
            handed_out: HEAD_BYTES,
            newest: HEAD_BYTES,
            waiting: 0,
            sealed: false,
            looked_through: false,
        })
    }

    fn begin(file: &File) -> io::Result<()> {
        file.lock()?;
        let mut head = MAGIC.to_vec();
        head.extend_from_slice(&cursor_bytes(HEAD_BYTES));
        head.resize(HEAD, 0);
        file.write_all_at(&head, 0)?;
        file.sync_all()
    }

    /// Takes over a file that no process has. `None` where one has it.
    pub(super) fn adopt(path: &Path) -> io::Result<Option<(Self, Found)>> {
        let file = private::open(File::options().read(true).write(true), path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Its last owner may have removed it meanwhile.
        if !path.try_exists()? {
            return Ok(None);
        }
        let cursor = cursor(&file)?;
        let found = look_through(&file, cursor, |_, _| {})?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into();
        let segment = Self {
            name,
            path: path.to_owned(),
            file: Arc::new(file),
            end: found.end,
            cursor,
            handed_out: cursor,
            newest: found.newest,
            waiting: found.events,
            sealed: true,
            looked_through: true,
        };
        Ok(Some((segment, found)))
    }
}

/// How far the events of `file` have been delivered. A head that was not written whole says nothing.
pub(super) fn cursor(file: &File) -> io::Result<u64> {
    let mut head = [0; HEAD];
    let whole = file.read_exact_at(&mut head, 0).is_ok() && head.starts_with(MAGIC);
    let length = file.metadata()?.len();
    let said = head.get(CURSOR_AT..).and_then(|bytes| bytes.first_chunk::<CURSOR_BYTES>());
    let Some((said, check)) = said.and_then(|bytes| bytes.split_first_chunk::<8>()) else {
        return Ok(HEAD_BYTES);
    };
    // Versions before have written none.
    let believed = check == [0; 8] || check == xxh3_64(said).to_le_bytes();
    let said = u64::from_le_bytes(*said);
    let fits = (HEAD_BYTES..=length).contains(&said);
    Ok(if whole && believed && fits { said } else { HEAD_BYTES })
}

/// A cursor and its check.
fn cursor_bytes(cursor: u64) -> [u8; CURSOR_BYTES] {
    let cursor = cursor.to_le_bytes();
    let check = xxh3_64(&cursor).to_le_bytes();
    let mut bytes = [0; CURSOR_BYTES];
    for (to, from) in bytes.iter_mut().zip(cursor.into_iter().chain(check)) {
        *to = from;
    }
    bytes
}

/// Writes down how far `file` has been delivered. After a loss of power an older value may stand
/// there: then some events are delivered twice.
pub(super) fn keep_cursor(file: &File, cursor: u64) -> io::Result<()> {
    file.write_all_at(&cursor_bytes(cursor), CURSOR_AT as u64)
}

/// Reads at most `most` bytes of `file` from `at` on.
pub(super) fn read_part(file: &File, at: u64, most: usize) -> io::Result<Bytes> {
    let mut part = BytesMut::zeroed(most);
    let mut filled = 0;
    while let Some(rest) = part.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    part.truncate(filled);
    Ok(part.freeze())
}

/// Shows `visit` every event of `file` from `from` on.
pub(super) fn look_through(
    file: &File,
    from: u64,
    mut visit: impl FnMut(Place, Event),
) -> io::Result<Found> {
    let mut found = Found { newest: from, end: from, ..Found::default() };
    let (mut at, mut most) = (from, PART_BYTES);
    loop {
        let part = read_part(file, at, most)?;
        if part.is_empty() {
            return Ok(found);
        }
        let last = part.len() < most;
        let mut walk = Walk::over(part.clone());
        let mut needed = PART_BYTES;
        loop {
            let begins = at + walk.at() as u64;
            match walk.step() {
                None => break,
                Some(Step::Short(bytes)) if !last => {
                    needed = bytes.max(PART_BYTES);
                    break;
                }
                // The end of the file: what was being written when everything stopped.
                Some(Step::Short(_)) => {
                    found.lost_bytes += (part.len() - walk.at()) as u64;
                    return Ok(found);
                }
                Some(Step::Lost(bytes)) => found.lost_bytes += bytes as u64,
                Some(Step::Erased) => found.end = at + walk.at() as u64,
                Some(Step::Event(event)) => {
                    found.events += 1;
                    found.newest = begins;
                    found.end = at + walk.at() as u64;
                    visit(Place { begins, end: found.end }, event);
                }
            }
        }
        if last {
            return Ok(found);
        }
        at += walk.at() as u64;
        most = needed;
    }
}

/// Makes the event at `place` unreadable for good.
pub(super) fn erase(file: &File, place: Place) -> io::Result<()> {
    let body = place.begins + FRAME_HEAD_BYTES as u64;
    let bytes = usize::try_from(place.end.saturating_sub(body)).unwrap_or(0);
    file.write_all_at(&[ERASED], place.begins + STATE_AT as u64)?;
    file.write_all_at(&vec![0; bytes], body)
}
