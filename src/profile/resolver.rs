//! Profile lookups for pages: memory → store, one in flight for each visitor.
//! In: a key and how long the page may wait. Out: a [`Lookup`].
//! Invariant: nothing older than `fresh_for` is called fresh.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::{Histogram, IntCounter};
use tokio::sync::watch;

use super::store::{ProfileStore, StoreError};
use super::{Known, Memory, ProfileKey, Update};
use crate::identity::UserId;
use crate::telemetry::metrics::{PROFILE_LOOKUPS, PROFILE_SECONDS};
use crate::telemetry::{ProfileResult, Tier};

/// What a page learns of its visitor.
#[derive(Debug, Clone)]
pub enum Lookup {
    /// There is a profile.
    Found(Arc<Known>),
    /// There is none.
    Missing,
    /// Not known within the wait.
    Late,
    /// The store failed.
    Failed,
}

/// Resolved once: a lookup only adds.
struct Counts {
    memory_hit: IntCounter,
    memory_missing: IntCounter,
    memory_miss: IntCounter,
    memory_seconds: Histogram,
    store_hit: IntCounter,
    store_missing: IntCounter,
    store_late: IntCounter,
    store_error: IntCounter,
    store_seconds: Histogram,
}

static COUNTS: LazyLock<Counts> = LazyLock::new(|| {
    let count = |tier: Tier, result: ProfileResult| {
        PROFILE_LOOKUPS.with_label_values(&[tier.label(), result.label()])
    };
    let seconds = |tier: Tier| PROFILE_SECONDS.with_label_values(&[tier.label()]);
    Counts {
        memory_hit: count(Tier::Memory, ProfileResult::Hit),
        memory_missing: count(Tier::Memory, ProfileResult::Missing),
        memory_miss: count(Tier::Memory, ProfileResult::Miss),
        memory_seconds: seconds(Tier::Memory),
        store_hit: count(Tier::Store, ProfileResult::Hit),
        store_missing: count(Tier::Store, ProfileResult::Missing),
        store_late: count(Tier::Store, ProfileResult::Late),
        store_error: count(Tier::Store, ProfileResult::Error),
        store_seconds: seconds(Tier::Store),
    }
});

/// The most that a write may take. One that is given up may still be done: both kinds can be
/// repeated without harm.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);

/// A store that hangs is one that failed: whoever sent the update is told to send it again.
async fn in_time(write: impl Future<Output = Result<(), StoreError>>) -> Result<(), StoreError> {
    let late = || StoreError::Unavailable(format!("no answer within {WRITE_DEADLINE:?}"));
    tokio::time::timeout(WRITE_DEADLINE, write).await.unwrap_or_else(|_| Err(late()))
}

impl Lookup {
    /// The profile, where there is one.
    #[must_use]
    pub fn known(&self) -> Option<&Known> {
        match self {
            Self::Found(known) => Some(known),
            Self::Missing | Self::Late | Self::Failed => None,
        }
    }
}

type Flight = watch::Receiver<Option<Lookup>>;

/// Finds profiles, and is where they are written.
pub struct Resolver {
    memory: Memory,
    store: Arc<dyn ProfileStore>,
    flights: Mutex<HashMap<ProfileKey, Flight>>,
}

impl Resolver {
    /// Looks in `memory` first, then in `store`.
    #[must_use]
    pub fn new(memory: Memory, store: Arc<dyn ProfileStore>) -> Self {
        Self { memory, store, flights: Mutex::default() }
    }

    /// Finds the profile under `key` within `wait`, whatever happens behind it.
    ///
    /// A late lookup goes on and fills the memory for the next page. Concurrent calls for one key
    /// share it.
    pub async fn find(self: &Arc<Self>, key: &ProfileKey, wait: Duration) -> Lookup {
        let asked = Instant::now();
        let remembered = self.memory.get(key, asked);
        COUNTS.memory_seconds.observe(asked.elapsed().as_secs_f64());
        match remembered {
            Some(Some(known)) => {
                COUNTS.memory_hit.inc();
                return Lookup::Found(known);
            }
            Some(None) => {
                COUNTS.memory_missing.inc();
                return Lookup::Missing;
            }
            None => COUNTS.memory_miss.inc(),
        }
        let mut flight = self.board(key);
        let landed = async { flight.wait_for(Option::is_some).await.map(|found| found.clone()) };
        match tokio::time::timeout(wait, landed).await {
            Ok(Ok(Some(lookup))) => lookup,
            Ok(Ok(None) | Err(_)) => Lookup::Failed,
            Err(_) => {
                COUNTS.store_late.inc();
                Lookup::Late
            }
        }
    }

    /// Merges `update` into the profile under `key`. Acknowledged means stored.
    ///
    /// # Errors
    /// As the store has it.
    pub async fn merge(&self, key: &ProfileKey, update: Update) -> Result<(), StoreError> {
        let done = in_time(self.store.merge(key, update)).await;
        self.forget(key);
        done
    }

    /// Lets the browser under `anonymous` be found as `user`.
    ///
    /// # Errors
    /// As the store has it.
    pub async fn link(&self, anonymous: &ProfileKey, user: &UserId) -> Result<(), StoreError> {
        let done = in_time(self.store.link(anonymous, user)).await;
        self.forget(anonymous);
        done
    }

    /// Drops what memory has of `key`, and the lookup under way, which may have read the old state.
    fn forget(&self, key: &ProfileKey) {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        self.memory.forget(key);
    }

    /// The lookup of `key` that is under way, or a new one.
    fn board(self: &Arc<Self>, key: &ProfileKey) -> Flight {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(key) {
            return flight.clone();
        }
        let (land, flight) = watch::channel(None);
        flights.insert(key.clone(), flight.clone());
        drop(flights);
        let (resolver, key, own) = (Arc::clone(self), key.clone(), flight.clone());
        // A task of its own: the page that asked first may leave, the lookup goes on.
        tokio::spawn(async move {
            let asked = Instant::now();
            let found = resolver.store.get(&key).await;
            COUNTS.store_seconds.observe(asked.elapsed().as_secs_f64());
            let lookup = match found {
                Ok(Some(profile)) => {
                    COUNTS.store_hit.inc();
                    Lookup::Found(Arc::new(Known::new(profile)))
                }
                Ok(None) => {
                    COUNTS.store_missing.inc();
                    Lookup::Missing
                }
                Err(error) => {
                    COUNTS.store_error.inc();
                    tracing::warn!(%error, "profile lookup failed");
                    Lookup::Failed
                }
            };
            resolver.land(&key, &own, &lookup, asked);
            land.send_replace(Some(lookup));
        });
        flight
    }

    fn land(&self, key: &ProfileKey, own: &Flight, lookup: &Lookup, asked: Instant) {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        // A write that came in between has taken the flight off the board: what it read may be
        // old and must not be remembered.
        if !flights.get(key).is_some_and(|listed| listed.same_channel(own)) {
            return;
        }
        flights.remove(key);
        match lookup {
            Lookup::Found(known) => self.memory.put(key, Some(Arc::clone(known)), asked),
            Lookup::Missing => self.memory.put(key, None, asked),
            Lookup::Late | Lookup::Failed => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use serde_json::json;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::profile::Profile;

    /// A store whose reads wait for a permit.
    struct Gated {
        gate: Semaphore,
        reads: AtomicUsize,
        profile: Mutex<Option<Profile>>,
    }

    #[async_trait]
    impl ProfileStore for Gated {
        async fn get(&self, _: &ProfileKey) -> Result<Option<Profile>, StoreError> {
            let read = self.profile.lock().unwrap().clone();
            self.reads.fetch_add(1, Ordering::SeqCst);
            self.gate.acquire().await.unwrap().forget();
            Ok(read)
        }
        async fn merge(&self, _: &ProfileKey, update: Update) -> Result<(), StoreError> {
            let mut profile = self.profile.lock().unwrap();
            profile.get_or_insert_default().merge(&update)?;
            Ok(())
        }
        async fn link(&self, _: &ProfileKey, _: &UserId) -> Result<(), StoreError> {
            Ok(())
        }
    }

    fn gated() -> (Arc<Resolver>, Arc<Gated>, ProfileKey) {
        let store = Arc::new(Gated {
            gate: Semaphore::new(0),
            reads: AtomicUsize::new(0),
            profile: Mutex::default(),
        });
        let memory = Memory::new(1 << 20, Duration::from_mins(1), Duration::from_secs(5));
        let resolver = Arc::new(Resolver::new(memory, Arc::<Gated>::clone(&store)));
        (resolver, store, ProfileKey::user("s", UserId::parse("john").unwrap()))
    }

    const WAIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_store_that_hangs_is_an_error_to_the_writer() {
        struct Hung;
        #[async_trait]
        impl ProfileStore for Hung {
            async fn get(&self, _: &ProfileKey) -> Result<Option<Profile>, StoreError> {
                std::future::pending().await
            }
            async fn merge(&self, _: &ProfileKey, _: Update) -> Result<(), StoreError> {
                std::future::pending().await
            }
            async fn link(&self, _: &ProfileKey, _: &UserId) -> Result<(), StoreError> {
                std::future::pending().await
            }
        }
        let memory = Memory::new(1 << 20, WAIT, WAIT);
        let resolver = Resolver::new(memory, Arc::new(Hung));
        let john = UserId::parse("john").unwrap();
        let key = ProfileKey::user("s", john.clone());
        let update = Update { at: 1, traits: Vec::new() };
        let merged = resolver.merge(&key, update).await;
        assert!(matches!(merged, Err(StoreError::Unavailable(_))));
        assert!(matches!(resolver.link(&key, &john).await, Err(StoreError::Unavailable(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_lookup_ends_in_memory() {
        let (resolver, store, key) = gated();
        assert!(matches!(resolver.find(&key, Duration::from_millis(25)).await, Lookup::Late));
        store.gate.add_permits(1);
        assert!(matches!(resolver.find(&key, WAIT).await, Lookup::Missing));
        assert!(matches!(resolver.find(&key, Duration::ZERO).await, Lookup::Missing));
        assert_eq!(store.reads.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_thousand_first_visits_ask_once() {
        let (resolver, store, key) = gated();
        store.gate.add_permits(1);
        let visits = (0..1000).map(|_| resolver.find(&key, WAIT));
        let found = futures::future::join_all(visits).await;
        assert!(found.iter().all(|lookup| matches!(lookup, Lookup::Missing)));
        assert_eq!(store.reads.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_write_during_a_lookup_is_not_hidden_by_it() {
        let (resolver, store, key) = gated();
        let slow = {
            let (resolver, key) = (Arc::clone(&resolver), key.clone());
            tokio::spawn(async move { resolver.find(&key, WAIT).await })
        };
        while store.reads.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let update = Update { at: 1, traits: vec![("red".into(), json!(true))] };
        resolver.merge(&key, update).await.unwrap();
        store.gate.add_permits(2);
        assert!(matches!(slow.await.unwrap(), Lookup::Missing), "it read before the write");
        assert!(matches!(resolver.find(&key, WAIT).await, Lookup::Found(_)));
    }
}
