//! Where a visitor is, by address. In: MMDB files, reloaded when they change. Out: a [`Place`].
//! Knows nothing of Pingora.

mod place;

pub use place::Place;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use maxminddb::Reader;

/// Databases that are asked one after the other. Without any, every place is unknown.
#[derive(Default)]
pub struct Geo {
    paths: Vec<PathBuf>,
    readers: ArcSwap<Vec<Reader<Vec<u8>>>>,
    /// When each file had last changed when it was read.
    changed: Mutex<Vec<Option<SystemTime>>>,
}

/// Why a database can't be used.
#[derive(Debug, thiserror::Error)]
#[error("`{path}` is no MMDB that can be read: {cause}")]
pub struct BadDatabase {
    path: String,
    cause: maxminddb::MaxMindDbError,
}

impl Geo {
    /// Reads the databases at `paths`.
    ///
    /// # Errors
    /// Which can't be read.
    pub fn open(paths: Vec<PathBuf>) -> Result<Self, BadDatabase> {
        let geo = Self { paths, ..Self::default() };
        let changed = geo.times();
        geo.read()?;
        *geo.changed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = changed;
        Ok(geo)
    }

    fn times(&self) -> Vec<Option<SystemTime>> {
        let time = |path| std::fs::metadata(path).and_then(|about| about.modified()).ok();
        self.paths.iter().map(time).collect()
    }

    fn read(&self) -> Result<(), BadDatabase> {
        let read = |path: &PathBuf| {
            let bad = |cause| BadDatabase { path: path.display().to_string(), cause };
            Reader::open_readfile(path).map_err(bad)
        };
        let readers = self.paths.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        self.readers.store(readers.into());
        Ok(())
    }

    /// Reads again what has changed. What was read before stays when that fails. Waits for the disk.
    ///
    /// # Errors
    /// Which can't be read. It is told once for each change.
    pub fn refresh(&self) -> Result<bool, BadDatabase> {
        let now = self.times();
        let mut changed = self.changed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if *changed == now {
            return Ok(false);
        }
        *changed = now;
        drop(changed);
        self.read().map(|()| true)
    }

    /// Where `address` is, as far as it is known.
    #[must_use]
    pub fn place(&self, address: IpAddr) -> Option<Place> {
        let readers = self.readers.load();
        // A database of the other kind of addresses knows nothing, and says so as an error.
        let found = readers.iter().find_map(|reader| reader.lookup(address).ok()?.decode().ok()?);
        found.filter(|place: &Place| !place.is_empty())
    }

    /// Whether there are databases.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }
}
