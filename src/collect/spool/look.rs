//! What any process can do with a spool's folder, whoever uses it: look through it, and erase.

use std::fs::File;
use std::io;
use std::path::Path;

use super::Event;
use super::segment::{self, SUFFIX, look_through};

/// What waits in one folder.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Events that are not delivered.
    pub events: usize,
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes that are damaged.
    pub damaged: u64,
    /// When the oldest of them was taken, in milliseconds since 1970.
    pub oldest: Option<i64>,
}

/// Looks through a folder that any process may be using.
///
/// # Errors
/// The disk's.
pub fn status(folder: &Path) -> io::Result<Waiting> {
    let mut waiting = Waiting::default();
    each_file(folder, |file| {
        let found = look_through(file, segment::cursor(file)?, |_, event| {
            waiting.oldest = Some(waiting.oldest.map_or(event.at, |oldest| oldest.min(event.at)));
        })?;
        waiting.events += found.events;
        waiting.damaged += found.lost_bytes;
        waiting.bytes += file.metadata()?.len();
        Ok(())
    })?;
    Ok(waiting)
}

/// Erases the events that `matches` names, in a folder that any process may be using, also those that
/// have been delivered and are still there. Tells how many of them waited. What is on its way to the vendor at this moment is not reached.
///
/// # Errors
/// The disk's.
pub fn erase(folder: &Path, matches: impl Fn(&Event) -> bool) -> io::Result<usize> {
    let mut erased = 0;
    each_file(folder, |file| {
        let (mut places, cursor) = (Vec::new(), segment::cursor(file)?);
        look_through(file, segment::HEAD_BYTES, |place, event| {
            if matches(&event) {
                places.push(place);
            }
        })?;
        for place in &places {
            segment::erase(file, *place)?;
        }
        erased += places.iter().filter(|place| place.begins >= cursor).count();
        if places.is_empty() { Ok(()) } else { file.sync_data() }
    })?;
    Ok(erased)
}

fn each_file(folder: &Path, mut look: impl FnMut(&File) -> io::Result<()>) -> io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if !path.to_string_lossy().ends_with(SUFFIX) {
            continue;
        }
        match File::options().read(true).write(true).open(&path) {
            Ok(file) => look(&file)?,
            // Delivered and removed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
