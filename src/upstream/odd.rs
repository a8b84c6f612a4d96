//! Pages whose answers have heads that Pingora can't read.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use xxhash_rust::xxh3::xxh3_64;

/// Which ones are known.
#[derive(Debug, Default)]
pub(super) struct OddPages {
    /// There are any: hardly any server has one.
    any: AtomicBool,
    /// Hashes of their paths.
    all: Mutex<HashSet<u64>>,
}

/// Where there are more, all are found out again.
const MOST: usize = 1024;

impl OddPages {
    pub(super) fn has(&self, path: &str) -> bool {
        self.any.load(Ordering::Relaxed) && {
            let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
            all.contains(&xxh3_64(path.as_bytes()))
        }
    }

    pub(super) fn add(&self, path: &str) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST {
            all.clear();
        }
        all.insert(xxh3_64(path.as_bytes()));
        self.any.store(true, Ordering::Relaxed);
    }
}
