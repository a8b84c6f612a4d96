//! Storage for pingora-cache, bounded in bytes. What is stored is never a visitor's.

mod memory;

use std::time::Duration;

use pingora::cache::eviction::lru;
use pingora::cache::key::CacheKey;
use pingora::cache::lock::{CacheKeyLockImpl, CacheLock};
use pingora::cache::{CacheOptionOverrides, HttpCache};

pub use memory::MemoryStorage;

use crate::telemetry::metrics::CACHE_CAPACITY;

/// The parts that pingora-cache wants for the life of the process.
pub struct Cache {
    storage: &'static MemoryStorage,
    eviction: &'static lru::Manager<SHARDS>,
    lock: &'static CacheKeyLockImpl,
}

const SHARDS: usize = 16;
/// A fetch that takes longer loses its right to be the only one.
const LOCK_AGE: Duration = Duration::from_secs(10);
/// After that long a request that waits for another's fetch makes its own.
const LOCK_WAIT: Duration = Duration::from_secs(5);

impl Cache {
    /// A cache of at most `capacity` bytes. It is never freed: make one for a process.
    #[must_use]
    pub fn leak(capacity: usize) -> Self {
        CACHE_CAPACITY.set(i64::try_from(capacity).unwrap_or(i64::MAX));
        Self {
            storage: Box::leak(Box::default()),
            eviction: Box::leak(Box::new(lru::Manager::with_capacity(capacity, 1024))),
            lock: Box::leak(CacheLock::new_boxed(LOCK_AGE) as Box<CacheKeyLockImpl>),
        }
    }

    /// Lets a request's cache work with this storage.
    pub fn enable(&self, cache: &mut HttpCache) {
        let mut overrides = CacheOptionOverrides::default();
        overrides.wait_timeout = Some(LOCK_WAIT);
        cache.enable(self.storage, Some(self.eviction), None, Some(self.lock), Some(overrides));
    }
}

/// A key of several parts. Each is framed by its length, so that no two lists of parts meet.
#[must_use]
pub fn key(parts: &[&str]) -> CacheKey {
    let mut primary = Vec::with_capacity(parts.iter().map(|part| part.len() + 8).sum());
    for part in parts {
        primary.extend_from_slice(&(part.len() as u64).to_le_bytes());
        primary.extend_from_slice(part.as_bytes());
    }
    CacheKey::new(primary, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_key_can_not_be_mixed_up() {
        assert_ne!(key(&["ab", "c"]).primary_key(), key(&["a", "bc"]).primary_key());
        assert_ne!(key(&["a", ""]).primary_key(), key(&["a"]).primary_key());
    }
}
