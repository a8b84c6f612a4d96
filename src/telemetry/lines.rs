//! Lines on their way to an output: written by a thread of its own, so that an output that is full, slow or gone costs
//! lines and nothing else.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use prometheus::IntCounter;

/// An output, and the lines that wait for it.
pub(super) struct Lines {
    queue: SyncSender<Entry>,
    waiting: Arc<AtomicUsize>,
    lost: IntCounter,
}

enum Entry {
    Line(Vec<u8>),
    /// Told once everything in front of it has been written.
    Mark(SyncSender<()>),
}

/// How often it is looked, at the end of a process, whether there is room.
const LOOK: Duration = Duration::from_millis(1);
/// Lines that may wait.
const MAX_LINES: usize = 4096;
/// Bytes that they may have together.
const MAX_BYTES: usize = 4 * 1024 * 1024;

impl Lines {
    /// Writes to `out` from a thread called `name`. `lost` counts lines that found no room, or that `out` did not
    /// take.
    pub(super) fn to(name: &str, out: impl Write + Send + 'static, lost: IntCounter) -> Self {
        let (queue, entries) = sync_channel(MAX_LINES);
        let waiting = Arc::<AtomicUsize>::default();
        let left = Arc::clone(&waiting);
        let failed = lost.clone();
        let write = move || write_all(&entries, out, &left, &failed);
        // Without the thread nothing reads the queue: every line counts as lost.
        let _ = std::thread::Builder::new().name(name.to_owned()).spawn(write);
        Self { queue, waiting, lost }
    }

    /// Hands a line over, without waiting.
    pub(super) fn write(&self, line: Vec<u8>) {
        let bytes = line.len();
        if self.waiting.fetch_add(bytes, Ordering::Relaxed) + bytes > MAX_BYTES
            || self.queue.try_send(Entry::Line(line)).is_err()
        {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
            self.lost.inc();
        }
    }

    /// Waits until everything before has been written, at most for `most`.
    #[allow(clippy::disallowed_methods, reason = "the process ends: no worker has anything to do")]
    pub(super) fn settle(&self, most: Duration) {
        let until = Instant::now() + most;
        let (told, written) = sync_channel(1);
        let mut mark = Entry::Mark(told);
        while let Err(TrySendError::Full(back)) = self.queue.try_send(mark) {
            if Instant::now() >= until {
                return;
            }
            mark = back;
            std::thread::sleep(LOOK);
        }
        // Whatever it says, the time is over.
        let _ = written.recv_timeout(until.saturating_duration_since(Instant::now()));
    }
}

fn write_all(
    entries: &Receiver<Entry>,
    mut out: impl Write,
    waiting: &AtomicUsize,
    lost: &IntCounter,
) {
    while let Ok(entry) = entries.recv() {
        match entry {
            Entry::Line(line) => {
                // A log that can't be written has no line to say so: the metric is the place.
                if out.write_all(&line).and_then(|()| out.flush()).is_err() {
                    lost.inc();
                }
                waiting.fetch_sub(line.len(), Ordering::Relaxed);
            }
            Entry::Mark(told) => {
                let _ = told.try_send(());
            }
        }
    }
}

/// One line after another, as `tracing` writes them.
impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        Lines::write(self, line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Writes nothing before it may.
    struct Slow(Arc<Mutex<Vec<u8>>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    fn lost() -> IntCounter {
        IntCounter::new("lost", "lost").unwrap()
    }

    #[test]
    fn an_output_that_takes_nothing_costs_lines_alone() {
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let held = written.lock().unwrap();
        let lines = Lines::to("slow", Slow(Arc::clone(&written)), lost());
        for _ in 0..3 * MAX_LINES {
            lines.write(b"a line\n".to_vec());
        }
        lines.write(vec![b'x'; MAX_BYTES]);
        assert!(lines.lost.get() >= 2 * MAX_LINES as u64 - 1, "{}", lines.lost.get());
        assert!(lines.waiting.load(Ordering::Relaxed) <= MAX_BYTES);
        drop(held);
        lines.settle(Duration::from_secs(30));
        let count = written.lock().unwrap().split(|byte| *byte == b'\n').count() as u64 - 1;
        assert_eq!(count + lines.lost.get(), 3 * MAX_LINES as u64 + 1);

        let broken = Lines::to("broken", Broken, lost());
        broken.write(b"a line\n".to_vec());
        broken.settle(Duration::from_secs(30));
        assert_eq!(broken.lost.get(), 1);

        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let full = Lines::to("full", full, lost());
        for _ in 0..3 {
            full.write(b"a line\n".to_vec());
        }
        full.settle(Duration::from_secs(30));
        assert_eq!(full.lost.get(), 3);
    }
}
