//! The one thread that adds to a spool.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::segment::{HEAD_BYTES, Segment};
use super::{Append, Durability, Shared, SpoolError};
use crate::telemetry::metrics::{EVENTS_WAITING, SPOOL_FAILURES};

/// Most bytes written at one time, give or take one append.
const MAX_GROUP_BYTES: usize = 4 * 1024 * 1024;
/// Without a sync of its own, what was written is synced this often.
const RELAXED_SYNC: Duration = Duration::from_secs(1);

impl Shared {
    /// Ends when the [`Spool`] is dropped.
    pub(super) fn write_groups(&self, mut queue: mpsc::Receiver<Append>) {
        let (mut group, mut buffer) = (Vec::new(), Vec::new());
        let mut synced = Instant::now();
        while let Some(first) = queue.blocking_recv() {
            buffer.clear();
            buffer.extend_from_slice(&first.frames);
            group.push(first);
            while buffer.len() < MAX_GROUP_BYTES
                && let Ok(next) = queue.try_recv()
            {
                buffer.extend_from_slice(&next.frames);
                group.push(next);
            }
            let now = self.durability == Durability::Sync || synced.elapsed() > RELAXED_SYNC;
            let events = group.iter().map(|append| append.events).sum();
            // Somebody waits for what came before, and adds nothing.
            let nothing = buffer.is_empty();
            let written = if nothing { Ok(()) } else { self.write(&buffer, events, now) };
            if now && !nothing {
                synced = Instant::now();
            }
            if let Err(error) = &written {
                SPOOL_FAILURES.inc();
                self.room.give_back(buffer.len() as u64);
                if let Some(unsaid) = self.unwritable.may_say() {
                    let folder = self.folder.display();
                    tracing::error!(%folder, %error, unsaid, "events were not taken");
                }
            }
            for append in group.drain(..) {
                // The browser may have gone; what is written is delivered all the same.
                let _ = append.reply.send(written.clone());
            }
        }
    }

    /// Adds `bytes` to the last file, and makes sure of it.
    fn write(&self, bytes: &[u8], events: usize, sync: bool) -> Result<(), SpoolError> {
        let failed = |error: io::Error| SpoolError::Failed(error.to_string());
        let (name, file, end) = self.current().map_err(failed)?;
        let mut written = file.write_all_at(bytes, end);
        let torn = written.is_err();
        if !torn && sync {
            written = (self.sync)(&file);
        }
        let mut state = self.lock();
        state.writing = false;
        let Some(segment) = state.find(&name).and_then(|at| state.segments.get_mut(at)) else {
            return Err(SpoolError::Failed("its file has gone".into()));
        };
        if let Err(error) = written {
            // Whether a failed sync has lost pages can't be known: this file gets no more. What was
            // synced before stays in it and is delivered. A write that a full disk has cut can be
            // taken back.
            let taken_back = file.set_len(end).is_ok();
            // All that stands in it may have been delivered: without it a full disk has room again.
            let delivered = segment.cursor >= segment.end && segment.end > HEAD_BYTES;
            segment.sealed = !torn || !taken_back || delivered;
            let empty = segment.sealed && segment.cursor >= segment.end;
            let at = if empty { state.find(&name) } else { None };
            let removed = at.and_then(|at| state.segments.remove(at));
            drop(state);
            if let Some(segment) = removed {
                self.remove(&segment);
            }
            return Err(failed(error));
        }
        segment.newest = end;
        segment.end = end + bytes.len() as u64;
        segment.waiting += events;
        segment.sealed = segment.end >= self.segment_bytes;
        drop(state);
        EVENTS_WAITING.add(i64::try_from(events).unwrap_or(0));
        self.news.notify_one();
        Ok(())
    }

    /// The file to add to, and where.
    fn current(&self) -> io::Result<(Box<str>, Arc<File>, u64)> {
        let mut state = self.lock();
        let open = state.segments.iter().rev().find(|segment| !segment.sealed);
        if let Some(segment) = open {
            let found = (segment.name.clone(), Arc::clone(&segment.file), segment.end);
            state.writing = true;
            return Ok(found);
        }
        drop(state);
        let segment = Segment::create(&self.folder)?;
        self.room.count(segment.end);
        let made = (segment.name.clone(), Arc::clone(&segment.file), segment.end);
        let mut state = self.lock();
        state.writing = true;
        state.insert(segment);
        Ok(made)
    }
}
