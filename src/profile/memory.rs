//! Profiles in memory, weighed in bytes, as expressions read them.
//! Invariant: nothing that was asked for longer than `fresh_for` ago, or before the memory was last
//! distrusted, is called fresh.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tinyufo::TinyUfo;

use super::{Profile, ProfileKey, Pulled, now_millis};

/// What memory knows under a key.
#[derive(Debug, PartialEq, Eq)]
pub enum State {
    /// A profile.
    Profile(Profile),
    /// It is kept under another key: a browser's under its user's.
    Linked(ProfileKey),
    /// There is none.
    Missing,
    /// Something else has been written since: nothing is known.
    Forgotten,
}

/// Something that memory knows, and since when.
#[derive(Debug)]
pub struct Entry {
    /// The cache compares hashes of keys only: without this a collision would hand out another
    /// visitor's profile.
    key: Option<ProfileKey>,
    state: State,
    /// When the read that found it was sent, in microseconds of the memory's own clock.
    asked: u64,
    /// For how long it is fresh, in microseconds.
    lives: u64,
}

impl Entry {
    /// Whether it stands under `key`.
    #[must_use]
    pub fn is_of(&self, key: &ProfileKey) -> bool {
        self.key.as_ref() == Some(key)
    }

    /// What is known.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }
}

/// How long what memory knows may be used.
#[derive(Debug, Clone, Copy)]
pub struct Lifetimes {
    /// Profiles, without asking the store.
    pub fresh: Duration,
    /// The knowledge that there is none; each is made up to a fifth shorter, so that they don't
    /// end together.
    pub missing: Duration,
    /// Profiles, for that much longer, while the store can't be asked.
    pub stale_if_error: Duration,
}

/// The memory tier. Reads take no lock; writes take one for a moment, and nothing waits.
pub struct Memory {
    entries: TinyUfo<ProfileKey, Arc<Entry>>,
    /// One writer at a time: the cache's count of weights is wrong for good once two threads
    /// replace or evict one entry together, and it then throws everything out.
    writing: Mutex<()>,
    forgotten: Arc<Entry>,
    lifetimes: Lifetimes,
    start: Instant,
    /// What was asked for before is stale: microseconds of `start`'s clock.
    trusted_from: AtomicU64,
}

/// The cache's weights are 16 bits: they count in units of this many bytes.
const UNIT_BYTES: usize = 64;
/// What an entry takes beside its key and its profile: the cache's own nodes, the allocations'
/// heads. Measured with a million profiles (`benches/profiles`).
const OVERHEAD_BYTES: usize = 240;
/// In the last fifth of its life an entry that is used is renewed.
const AGING: u64 = 5;

impl Memory {
    /// Holds at most `capacity` bytes of profiles.
    #[must_use]
    pub fn new(capacity: usize, lifetimes: Lifetimes) -> Self {
        let units = (capacity / UNIT_BYTES).max(1);
        // An estimate for the admission filter and the number of shards: profiles of 1 KiB.
        let expected = (capacity / 1024).clamp(128, 16_000_000);
        Self {
            entries: TinyUfo::new_compact(units, expected),
            writing: Mutex::new(()),
            forgotten: Arc::new(Entry { key: None, state: State::Forgotten, asked: 0, lives: 0 }),
            lifetimes,
            start: Instant::now(),
            trusted_from: AtomicU64::new(0),
        }
    }

    fn micros(&self, at: Instant) -> u64 {
        micros(at.saturating_duration_since(self.start))
    }

    /// What is fresh under `key` at `now`, and whether it is time to renew it.
    #[must_use]
    pub fn fresh(&self, key: &ProfileKey, now: Instant) -> Option<(Arc<Entry>, bool)> {
        let entry = self.entry(key)?;
        let age = self.micros(now).saturating_sub(entry.asked);
        let fresh = age < entry.lives && entry.asked >= self.trusted_from.load(Ordering::Acquire);
        let aging = age > entry.lives - entry.lives / AGING;
        fresh.then_some((entry, aging))
    }

    /// How long ago what `entry` says was asked for.
    #[must_use]
    pub fn age(&self, entry: &Entry) -> Duration {
        Duration::from_micros(self.micros(Instant::now()).saturating_sub(entry.asked))
    }

    /// What may serve under `key` at `now` while the store can't be asked.
    #[must_use]
    pub fn stale(&self, key: &ProfileKey, now: Instant) -> Option<Arc<Entry>> {
        let longest = micros(self.lifetimes.fresh.saturating_add(self.lifetimes.stale_if_error));
        self.entry(key).filter(|entry| {
            !self.lifetimes.stale_if_error.is_zero()
                && entry.state != State::Missing
                && self.micros(now).saturating_sub(entry.asked) < longest
        })
    }

    fn entry(&self, key: &ProfileKey) -> Option<Arc<Entry>> {
        self.entries.get(key).filter(|entry| entry.key.as_ref() == Some(key))
    }

    /// What a read has found, for those who asked before it was overtaken by a write: not remembered.
    #[must_use]
    pub fn unlisted(&self, key: &ProfileKey, state: State, asked: Instant) -> Arc<Entry> {
        Arc::new(Entry { key: Some(key.clone()), state, asked: self.micros(asked), lives: 0 })
    }

    /// Remembers what a read that was sent at `asked` has found.
    pub fn put(&self, key: &ProfileKey, state: State, asked: Instant) -> Arc<Entry> {
        let asked = self.micros(asked);
        let lives = match &state {
            State::Profile(profile) => micros(self.lives(profile, now_millis())),
            State::Linked(_) => micros(self.lifetimes.fresh),
            State::Missing => {
                let lives = micros(self.lifetimes.missing);
                lives - lives / 5 * (asked % 1024) / 1024
            }
            State::Forgotten => 0,
        };
        let bytes = key.as_bytes().len() * 2
            + OVERHEAD_BYTES
            + match &state {
                State::Profile(profile) => profile.encode().len(),
                State::Linked(to) => to.as_bytes().len(),
                State::Missing | State::Forgotten => 0,
            };
        let weight = u16::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u16::MAX);
        let entry = Arc::new(Entry { key: Some(key.clone()), state, asked, lives });
        let writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let evicted = self.entries.force_put(key.clone(), Arc::clone(&entry), weight);
        drop(writing);
        // Freeing may take a while: not under the lock.
        drop(evicted);
        entry
    }

    /// How long what was read at `now` (milliseconds since 1970) is fresh: no longer than what its source has said. What
    /// has ended is asked for again as soon as what is missing.
    fn lives(&self, profile: &Profile, now: i64) -> Duration {
        let Lifetimes { fresh, missing, .. } = self.lifetimes;
        let Pulled { at, until } = profile.pulled();
        match u64::try_from(until.saturating_sub(now)) {
            _ if at == 0 => fresh,
            Ok(left @ 1..) => Duration::from_millis(left).min(fresh),
            Ok(0) | Err(_) => missing.min(fresh),
        }
    }

    /// Forgets `key`, so that the next page asks the store.
    ///
    /// The place stays in the cache: one that is removed and comes back stands twice in the cache's
    /// queue, which would grow with every update.
    pub fn forget(&self, key: &ProfileKey) {
        if self.entries.get(key).is_some() {
            let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
            self.entries.force_put(key.clone(), Arc::clone(&self.forgotten), 1);
        }
    }

    /// From now on nothing is fresh, until [`Memory::trust_from`].
    pub fn distrust(&self) {
        self.trusted_from.store(u64::MAX, Ordering::Release);
    }

    /// What is asked for from `at` on is fresh again; what was asked for before is not.
    pub fn trust_from(&self, at: Instant) {
        self.trusted_from.store(self.micros(at), Ordering::Release);
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::profile::Update;

    fn memory() -> Memory {
        let (fresh, missing) = (Duration::from_mins(1), Duration::from_secs(5));
        let stale_if_error = Duration::from_mins(10);
        Memory::new(1 << 20, Lifetimes { fresh, missing, stale_if_error })
    }

    fn key(name: &str) -> ProfileKey {
        ProfileKey::parse("s", &format!("user_id:{name}")).unwrap()
    }

    fn profile() -> State {
        let mut profile = Profile::default();
        profile.merge(&Update::new(1, [("a".into(), json!(1))]), 1).unwrap();
        State::Profile(profile)
    }

    #[test]
    fn entries_end_with_their_time_and_missing_ones_sooner() {
        let memory = memory();
        let start = Instant::now();
        memory.put(&key("john"), profile(), start);
        memory.put(&key("nobody"), State::Missing, start);
        let fresh =
            |name: &str, millis| memory.fresh(&key(name), start + Duration::from_millis(millis));
        assert!(fresh("john", 59_999).is_some() && fresh("john", 60_000).is_none());
        assert!(!fresh("john", 47_000).unwrap().1 && fresh("john", 49_000).unwrap().1);
        assert!(fresh("nobody", 3_999).is_some() && fresh("nobody", 5_000).is_none());
        memory.forget(&key("john"));
        assert!(fresh("john", 0).is_none());
    }

    #[test]
    fn a_source_says_how_long_its_answer_is_fresh() {
        let memory = memory();
        let pulled = |at, until| {
            let mut update = Update::new(1, [("a".into(), json!(1))]);
            update.pulled = Some(Pulled { at, until });
            let mut profile = Profile::default();
            profile.merge(&update, 1).unwrap();
            memory.lives(&profile, 1_000_000)
        };
        assert_eq!(pulled(990_000, 1_010_000), Duration::from_secs(10));
        assert_eq!(pulled(990_000, 2_000_000), Duration::from_mins(1), "no longer than in memory");
        assert_eq!(pulled(900_000, 1_000_000), Duration::from_secs(5), "asked for again soon");
        assert_eq!(
            memory.lives(&Profile::default(), 1),
            Duration::from_mins(1),
            "none has said it"
        );
    }

    /// Found by the cache's own arithmetic, which panics in a debug build when it goes wrong.
    #[test]
    fn many_threads_that_write_one_entry_keep_the_count_right() {
        let memory = memory();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..5_000 {
                        let key = key(&format!("u{}", n % 3));
                        memory.put(&key, profile(), Instant::now());
                        memory.forget(&key);
                    }
                });
            }
        });
        memory.put(&key("john"), profile(), Instant::now());
        assert!(memory.fresh(&key("john"), Instant::now()).is_some());
    }

    #[test]
    fn old_profiles_serve_in_need_up_to_their_bound() {
        let memory = memory();
        let start = Instant::now();
        memory.put(&key("john"), profile(), start);
        memory.put(&key("nobody"), State::Missing, start);
        let stale = |name: &str, secs| memory.stale(&key(name), start + Duration::from_secs(secs));
        assert!(stale("john", 659).is_some() && stale("john", 660).is_none());
        assert!(stale("nobody", 1).is_none(), "that nobody was known says nothing later");
        memory.forget(&key("john"));
        assert!(stale("john", 1).is_none(), "what is known to be wrong never serves");
    }

    #[test]
    fn what_was_asked_for_before_the_channel_was_back_is_stale() {
        let memory = memory();
        let start = Instant::now();
        let later = start + Duration::from_secs(1);
        memory.put(&key("john"), profile(), start);
        memory.distrust();
        assert!(memory.fresh(&key("john"), start).is_none());
        memory.put(&key("mary"), profile(), later);
        assert!(memory.fresh(&key("mary"), later).is_none());
        memory.trust_from(later);
        assert!(memory.fresh(&key("john"), later).is_none());
        assert!(memory.fresh(&key("mary"), later).is_some());
    }
}
