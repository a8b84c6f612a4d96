//! Profile lookups for pages: memory → store → source, one in flight for each visitor.
//! In: a key and how long the page may wait. Out: a [`Lookup`].
//! Invariant: nothing older than `fresh_for` is used while the store answers, and nothing older than
//! `fresh_for + stale_if_error` at all.

mod flight;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::{Histogram, IntCounter};

use super::source::{Asker, ProfileSource};
use super::store::{Change, LinkedBy, MAX_HOPS, Part, ProfileStore, StoreError, Stored};
use super::{Entry, Memory, Profile, ProfileKey, Reach, State, Update, Whose};
use crate::telemetry::metrics::{PROFILE_CHANNEL, PROFILE_LOOKUPS, PROFILE_SECONDS};
use crate::telemetry::{ProfileResult, Tier};

use flight::Flight;

/// What a page learns of its visitor.
#[derive(Debug, Clone)]
pub enum Lookup {
    /// There is a profile.
    Found(Found),
    /// There is none.
    Missing,
    /// Not known within the wait.
    Late,
    /// The store or the source failed.
    Failed,
}

/// A profile that was found.
#[derive(Debug, Clone)]
pub struct Found {
    entry: Arc<Entry>,
    /// Set when it is older than it should be, because the store can't be asked.
    pub stale: bool,
}

impl Found {
    /// Whether it was given to `key` itself: it came over no link and from no source.
    fn is_own(&self, key: &ProfileKey) -> bool {
        let pulled = match self.entry.state() {
            State::Profile(profile) => profile.pulled().at != 0,
            State::Linked(_) | State::Missing | State::Forgotten => true,
        };
        self.entry.is_of(key) && !pulled
    }
}

impl Lookup {
    /// The profile, where there is one.
    #[must_use]
    pub fn known(&self) -> Option<&Profile> {
        match self {
            Self::Found(found) => match found.entry.state() {
                State::Profile(profile) => Some(profile),
                State::Linked(_) | State::Missing | State::Forgotten => None,
            },
            Self::Missing | Self::Late | Self::Failed => None,
        }
    }
}

/// Resolved once: a lookup only adds.
struct Counts {
    memory: [IntCounter; ProfileResult::ALL.len()],
    store: [IntCounter; ProfileResult::ALL.len()],
    source: [IntCounter; ProfileResult::ALL.len()],
    seconds: [Histogram; Tier::ALL.len()],
}

static COUNTS: LazyLock<Counts> = LazyLock::new(|| {
    let tier = |tier: Tier| {
        std::array::from_fn(|at| {
            let result = ProfileResult::ALL.get(at).map_or("", |result| result.label());
            PROFILE_LOOKUPS.with_label_values(&[tier.label(), result])
        })
    };
    Counts {
        memory: tier(Tier::Memory),
        store: tier(Tier::Store),
        source: tier(Tier::Source),
        seconds: std::array::from_fn(|at| {
            PROFILE_SECONDS.with_label_values(&[Tier::ALL.get(at).map_or("", |tier| tier.label())])
        }),
    }
});

fn count(tier: Tier, result: ProfileResult) {
    let table = match tier {
        Tier::Memory => &COUNTS.memory,
        Tier::Store => &COUNTS.store,
        Tier::Source => &COUNTS.source,
    };
    if let Some(counter) = table.get(result.index()) {
        counter.inc();
    }
}

fn observe(tier: Tier, since: Instant) {
    if let Some(histogram) = COUNTS.seconds.get(tier.index()) {
        histogram.observe(since.elapsed().as_secs_f64());
    }
}

/// The most that a read or a write may take. A write that is given up may still be done: every kind
/// can be repeated without harm.
const STORE_DEADLINE: Duration = Duration::from_secs(5);

/// For how long a failure of the store says something about the next call.
const TROUBLE: Duration = Duration::from_secs(2);

/// A store that hangs is one that failed: whoever sent the update is told to send it again.
async fn in_time<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let late = || StoreError::Unavailable(format!("no answer within {STORE_DEADLINE:?}"));
    tokio::time::timeout(STORE_DEADLINE, call).await.unwrap_or_else(|_| Err(late()))
}

/// Finds profiles, and is where they are written.
pub struct Resolver {
    memory: Memory,
    store: Arc<dyn ProfileStore>,
    flights: Mutex<HashMap<ProfileKey, Flight>>,
    /// Profiles that are being asked for at their source while pages use what is known.
    renewing: Mutex<HashSet<ProfileKey>>,
    start: Instant,
    /// When the store failed the last time, in milliseconds since `start`; 0 for never.
    failed: AtomicU64,
}

/// A profile's source, where its site has one, and for whom it is asked.
pub type Source<'s> = Option<(&'s Arc<dyn ProfileSource>, Asker)>;

impl Resolver {
    /// Looks in `memory` first, then in `store`.
    #[must_use]
    pub fn new(memory: Memory, store: Arc<dyn ProfileStore>) -> Self {
        Self {
            memory,
            store,
            flights: Mutex::default(),
            renewing: Mutex::default(),
            start: Instant::now(),
            failed: AtomicU64::new(0),
        }
    }

    /// Finds a profile within `wait`, whatever happens behind it: as much of it as `whose` reaches.
    ///
    /// A late lookup goes on and fills the memory for the next page. Concurrent calls for one key
    /// share it.
    pub async fn find(
        self: &Arc<Self>,
        whose: &Whose,
        source: Source<'_>,
        wait: Duration,
    ) -> Lookup {
        let key = whose.key();
        match whose.reach() {
            Reach::Person => self.find_person(key, source, wait).await,
            Reach::Own => self.find_own(key, wait).await,
        }
    }

    /// What stands under `key` itself. No link is followed, and nobody else is asked.
    async fn find_own(self: &Arc<Self>, key: &ProfileKey, wait: Duration) -> Lookup {
        let asked = Instant::now();
        let known = self.memory.fresh(key, asked).map(|(entry, _)| entry);
        let known = known.filter(|entry| !matches!(entry.state(), State::Forgotten));
        observe(Tier::Memory, asked);
        let remembered = known.is_some();
        let lookup = match known {
            Some(entry) => Lookup::Found(Found { entry, stale: false }),
            None => {
                count(Tier::Memory, ProfileResult::Miss);
                let mut flight = self.board_alone(key);
                let landed = tokio::time::timeout(wait, flight.landed());
                landed.await.unwrap_or(Lookup::Late)
            }
        };
        let lookup = match lookup {
            Lookup::Found(found) if !found.is_own(key) => Lookup::Missing,
            lookup => lookup,
        };
        if remembered {
            count(Tier::Memory, result_of(&lookup));
        }
        lookup
    }

    /// The profile that `key` leads to.
    async fn find_person(
        self: &Arc<Self>,
        key: &ProfileKey,
        source: Source<'_>,
        wait: Duration,
    ) -> Lookup {
        let asked = Instant::now();
        let remembered = self.remembered(key, source, asked);
        observe(Tier::Memory, asked);
        match remembered {
            Some(lookup) => {
                count(Tier::Memory, result_of(&lookup));
                return lookup;
            }
            None => count(Tier::Memory, ProfileResult::Miss),
        }
        let mut flight = self.board(key, source);
        match tokio::time::timeout(wait, flight.landed()).await {
            Ok(lookup) => lookup,
            Err(_) => {
                count(Tier::Store, ProfileResult::Late);
                if !self.is_troubled() {
                    return Lookup::Late;
                }
                match self.in_need(key) {
                    Lookup::Failed => Lookup::Late,
                    found => found,
                }
            }
        }
    }

    /// Whether the store failed just now: then what does not come in time is not only slow.
    fn is_troubled(&self) -> bool {
        let failed = self.failed.load(Ordering::Relaxed);
        failed != 0 && self.start.elapsed() < Duration::from_millis(failed) + TROUBLE
    }

    fn note_failure(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.failed.store(now.max(1), Ordering::Relaxed);
    }

    /// What memory knows for sure, through links.
    fn remembered(
        self: &Arc<Self>,
        key: &ProfileKey,
        source: Source<'_>,
        now: Instant,
    ) -> Option<Lookup> {
        let (mut entry, mut aging) = self.memory.fresh(key, now)?;
        for _ in 0..MAX_HOPS {
            if aging {
                // Those who come often never wait: it is read again before it ends.
                let renewed = if let State::Linked(to) = entry.state() { to } else { key };
                self.board(renewed, source);
            }
            match entry.state() {
                State::Profile(_) => return Some(Lookup::Found(Found { entry, stale: false })),
                State::Missing => return Some(Lookup::Missing),
                State::Forgotten => return None,
                State::Linked(to) => (entry, aging) = self.memory.fresh(to, now)?,
            }
        }
        None
    }

    /// What may serve while the store can't be asked.
    fn in_need(&self, key: &ProfileKey) -> Lookup {
        let now = Instant::now();
        let mut entry = self.memory.stale(key, now);
        for _ in 0..MAX_HOPS {
            match entry.as_ref().map(|entry| entry.state()) {
                Some(State::Linked(to)) => entry = self.memory.stale(to, now),
                Some(State::Profile(_)) => break,
                Some(State::Missing | State::Forgotten) | None => return Lookup::Failed,
            }
        }
        match entry {
            Some(entry) if matches!(entry.state(), State::Profile(_)) => {
                count(Tier::Memory, ProfileResult::Stale);
                Lookup::Found(Found { entry, stale: true })
            }
            _ => Lookup::Failed,
        }
    }

    /// How old what a lookup has found is. `None` where it has found nothing.
    #[must_use]
    pub fn age(&self, lookup: &Lookup) -> Option<Duration> {
        match lookup {
            Lookup::Found(found) => Some(self.memory.age(&found.entry)),
            Lookup::Missing | Lookup::Late | Lookup::Failed => None,
        }
    }

    /// What the store has under `key` itself, past memory and source.
    ///
    /// # Errors
    /// As the store has it.
    pub async fn stored(&self, key: &ProfileKey) -> Result<Option<Stored>, StoreError> {
        in_time(self.store.get(key)).await
    }

    /// Where the links from `key` end.
    ///
    /// # Errors
    /// As the store has it.
    pub async fn end_of(&self, key: &ProfileKey) -> Result<ProfileKey, StoreError> {
        in_time(super::store::end_of(&*self.store, key)).await
    }

    /// A part of what is stored of `site`.
    ///
    /// # Errors
    /// As the store has it.
    pub async fn part(&self, site: &str, from: Option<&str>) -> Result<Part, StoreError> {
        in_time(self.store.part(site, from)).await
    }

    /// Merges `update` into the profile of `key`. Acknowledged means stored.
    ///
    /// # Errors
    /// As the store has it.
    pub async fn merge(&self, key: &ProfileKey, update: &Update) -> Result<(), StoreError> {
        let done = in_time(self.store.merge(key, update)).await;
        self.forget(key);
        done.map(|end| self.forget(&end))
    }

    /// Merges `update` into what stands under `key` itself; nothing is done where that is linked to another's.
    ///
    /// # Errors
    /// As the store has it.
    pub async fn merge_own(&self, key: &ProfileKey, update: &Update) -> Result<(), StoreError> {
        match self.stored(key).await? {
            Some(Stored::Linked(_)) => Ok(()),
            Some(Stored::Profile(_)) | None => self.merge(key, update).await,
        }
    }

    /// Lets what is known of `from` be found under `to`. The newest link wins, by `at` in
    /// milliseconds since 1970.
    ///
    /// # Errors
    /// As the store has it.
    pub async fn link(
        &self,
        from: &ProfileKey,
        to: &ProfileKey,
        at: i64,
        by: LinkedBy,
    ) -> Result<(), StoreError> {
        let done = in_time(self.store.link(from, to, at, by)).await;
        self.forget(from);
        done.map(|changed| changed.iter().for_each(|key| self.forget(key)))
    }

    /// Deletes the person behind `key`, with everything that is linked to it; what was set until
    /// `at` and comes later is not taken. Tells every id that led there, `key` as well.
    ///
    /// # Errors
    /// As the store has it.
    pub async fn delete(&self, key: &ProfileKey, at: i64) -> Result<Vec<ProfileKey>, StoreError> {
        let done = in_time(self.store.delete(key, at)).await;
        self.forget(key);
        let mut gone = done?;
        for key in &gone {
            self.forget(key);
        }
        if !gone.contains(key) {
            gone.push(key.clone());
        }
        Ok(gone)
    }

    /// Who has been deleted since `since`, by any node that shares the store.
    ///
    /// # Errors
    /// As the store has it.
    pub async fn deleted_since(&self, since: i64) -> Result<Vec<(ProfileKey, i64)>, StoreError> {
        in_time(self.store.deleted_since(since)).await
    }

    /// Hears of changes through others for as long as it is polled.
    pub async fn follow(&self) {
        self.store.follow(&|change| self.hear(change)).await;
    }

    /// Changes through others are not heard of any more: the store is asked for every page.
    pub fn deaf(&self) {
        self.hear(Change::Deaf);
    }

    fn hear(&self, change: Change) {
        match change {
            Change::Profile(key) => self.forget(&key),
            Change::Deaf => {
                PROFILE_CHANNEL.set(0);
                self.memory.distrust();
            }
            Change::Everything(at) => {
                PROFILE_CHANNEL.set(1);
                self.memory.trust_from(at);
                // What is on its way may have been read before.
                self.flights.lock().unwrap_or_else(PoisonError::into_inner).clear();
            }
        }
    }

    /// Drops what memory has of `key`, and the lookup under way, which may have read the old state.
    fn forget(&self, key: &ProfileKey) {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        self.memory.forget(key);
    }
}

fn result_of(lookup: &Lookup) -> ProfileResult {
    match lookup {
        Lookup::Found(found) if found.stale => ProfileResult::Stale,
        Lookup::Found(_) => ProfileResult::Hit,
        Lookup::Missing => ProfileResult::Missing,
        Lookup::Late => ProfileResult::Late,
        Lookup::Failed => ProfileResult::Error,
    }
}

#[cfg(test)]
mod tests;
