//! Whether a read of the store is a look at memory or may wait for a disk. LMDB maps its file: a page
//! of it that is in memory is read like any other memory, in a microsecond, and handing such a read to
//! another thread costs twenty. One that is not makes the thread wait, and then no request's thread
//! may do it.

use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What is known of the store's place in memory.
pub(super) struct Residency {
    start: Instant,
    /// The file has been read into memory once, and there is room for it.
    fits: AtomicBool,
    /// Reads have waited: until then, in milliseconds since `start`, they go elsewhere.
    slow_until: AtomicU64,
    /// How long slow reads have waited in this second, in microseconds.
    waited: AtomicU64,
    second: AtomicU64,
}

/// A read that takes longer has waited: for a page of the file, for a disk, for a processor.
const SLOW: Duration = Duration::from_millis(1);
/// The most that requests' threads may wait in a second, all together.
const PATIENCE: Duration = Duration::from_millis(50);
/// For how long reads then go elsewhere.
const ELSEWHERE: Duration = Duration::from_secs(10);

impl Residency {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            fits: AtomicBool::new(false),
            slow_until: AtomicU64::new(0),
            waited: AtomicU64::new(0),
            second: AtomicU64::new(0),
        }
    }

    /// Whether a read may be done where it is asked for.
    pub(super) fn is_certain(&self) -> bool {
        self.fits.load(Ordering::Relaxed)
            && self.millis() >= self.slow_until.load(Ordering::Relaxed)
    }

    /// Tells how long a read took.
    pub(super) fn took(&self, read: Duration) {
        if read <= SLOW {
            return;
        }
        let now = self.millis();
        if self.second.swap(now / 1000, Ordering::Relaxed) != now / 1000 {
            self.waited.store(0, Ordering::Relaxed);
        }
        let read = u64::try_from(read.as_micros()).unwrap_or(u64::MAX);
        let waited = self.waited.fetch_add(read, Ordering::Relaxed).saturating_add(read);
        if u128::from(waited) > PATIENCE.as_micros() {
            let until = now + u64::try_from(ELSEWHERE.as_millis()).unwrap_or(0);
            self.slow_until.store(until, Ordering::Relaxed);
        }
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Reads the file, of which `used` bytes are in use, into memory, if there is room for it.
    /// Blocks.
    pub(super) fn warm(&self, file: &Path, used: u64) {
        if is_room_for(used) && read_through(file).is_ok() {
            self.fits.store(true, Ordering::Relaxed);
        }
    }

    /// Looks whether there is still room for `used` bytes. Reads a line of `/proc`, which is memory.
    pub(super) fn look(&self, used: u64) {
        if self.fits.load(Ordering::Relaxed) && !is_room_for(used) {
            self.fits.store(false, Ordering::Relaxed);
        }
    }
}

/// Whether `used` bytes are at most half of what the system could give, this file's own pages
/// among it: then nothing presses them out.
fn is_room_for(used: u64) -> bool {
    let Ok(about) = std::fs::read_to_string("/proc/meminfo") else { return false };
    let available = about
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        .unwrap_or(0);
    used <= available.saturating_mul(1024) / 2
}

fn read_through(file: &Path) -> std::io::Result<()> {
    let mut file = std::fs::File::open(file)?;
    let mut buffer = vec![0; 1 << 20];
    while file.read(&mut buffer)? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_go_elsewhere_until_the_file_is_in_memory_and_when_one_has_waited() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("data");
        let residency = Residency::new();
        assert!(!residency.is_certain());
        residency.warm(&file, 1);
        assert!(!residency.is_certain(), "there is no such file");
        std::fs::write(&file, b"x").unwrap();
        residency.warm(&file, u64::MAX);
        assert!(!residency.is_certain(), "no machine has room for that");
        residency.warm(&file, 1);
        residency.took(Duration::from_micros(3));
        assert!(residency.is_certain());
        residency.took(Duration::from_millis(40));
        assert!(residency.is_certain());
        // Twice, as a second may end in between.
        residency.took(Duration::from_millis(40));
        residency.took(Duration::from_millis(40));
        assert!(!residency.is_certain());
        let residency = Residency::new();
        residency.warm(&file, 1);
        residency.look(u64::MAX);
        assert!(!residency.is_certain());
    }
}
