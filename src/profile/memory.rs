//! Profiles in memory, weighed in bytes, decoded and ready for expressions.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cel::Value;
use cel::common::types::CelNull;
use cel::common::value::Val;
use cel::objects::{Key, Map};
use tinyufo::TinyUfo;

use super::{Profile, ProfileKey};

/// A profile as pages use it.
#[derive(Debug)]
pub struct Known {
    profile: Profile,
    traits: Box<dyn Val>,
}

impl Known {
    /// Decodes once what every page would decode otherwise.
    #[must_use]
    pub fn new(profile: Profile) -> Self {
        let traits = profile
            .traits()
            .map(|(name, value)| (Key::String(Arc::new(name.to_owned())), decode(value)))
            .collect();
        let traits = Value::Map(Map { map: Arc::new(traits) });
        // Maps of JSON values always have the evaluator's form.
        let traits = Box::<dyn Val>::try_from(traits).unwrap_or_else(|_| Box::new(CelNull));
        Self { profile, traits }
    }

    /// The profile.
    #[must_use]
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Its traits as a CEL map, in the evaluator's own form.
    #[must_use]
    pub fn traits(&self) -> &dyn Val {
        &*self.traits
    }

    /// About how many bytes it takes, both forms together.
    fn weight(&self) -> usize {
        const OVERHEAD: usize = 256;
        OVERHEAD + self.profile.weight() * 2
    }
}

fn decode(value: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match value {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => number
            .as_i64()
            .map(Value::Int)
            .or_else(|| number.as_u64().map(Value::UInt))
            .unwrap_or_else(|| Value::Float(number.as_f64().unwrap_or(f64::NAN))),
        Json::String(text) => Value::String(Arc::new(text.clone())),
        Json::Array(list) => Value::List(Arc::new(list.iter().map(decode).collect())),
        Json::Object(map) => Value::Map(Map {
            map: Arc::new(
                map.iter()
                    .map(|(name, item)| (Key::String(Arc::new(name.clone())), decode(item)))
                    .collect(),
            ),
        }),
    }
}

/// What memory has on a key: a profile, or the knowledge that there is none.
#[derive(Clone)]
struct Entry {
    /// The cache compares hashes of keys only: without this a collision would hand out another
    /// visitor's profile.
    key: Arc<ProfileKey>,
    known: Option<Arc<Known>>,
    until: Instant,
}

/// The memory tier. `get` and `put` take no lock that is held for long, and never wait.
pub struct Memory {
    entries: TinyUfo<ProfileKey, Entry>,
    fresh_for: Duration,
    missing_for: Duration,
}

/// The cache's weights are 16 bits: they count in units of this many bytes.
const UNIT_BYTES: usize = 64;

impl Memory {
    /// Holds at most `capacity` bytes of profiles.
    #[must_use]
    pub fn new(capacity: usize, fresh_for: Duration, missing_for: Duration) -> Self {
        let units = (capacity / UNIT_BYTES).max(1);
        // An estimate for the admission filter: profiles of 1 KiB.
        let expected = (capacity / 1024).clamp(128, 4_000_000);
        Self { entries: TinyUfo::new(units, expected), fresh_for, missing_for }
    }

    /// What is known of `key` and still fresh at `now`; `Some(None)` means known to be missing.
    #[must_use]
    pub fn get(&self, key: &ProfileKey, now: Instant) -> Option<Option<Arc<Known>>> {
        self.entries
            .get(key)
            .filter(|entry| *entry.key == *key && entry.until > now)
            .map(|entry| entry.known)
    }

    /// Remembers what a read that was sent at `asked` has found.
    pub fn put(&self, key: &ProfileKey, known: Option<Arc<Known>>, asked: Instant) {
        let lives = if known.is_some() { self.fresh_for } else { self.missing_for };
        let bytes = key.to_bytes().len() * 2 + known.as_ref().map_or(64, |known| known.weight());
        let weight = u16::try_from(bytes / UNIT_BYTES + 1).unwrap_or(u16::MAX);
        let entry = Entry { key: Arc::new(key.clone()), known, until: asked + lives };
        self.entries.force_put(key.clone(), entry, weight);
    }

    /// Forgets `key`, so that the next page asks the store.
    pub fn forget(&self, key: &ProfileKey) {
        self.entries.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::UserId;

    #[test]
    fn entries_end_with_their_time_and_missing_ones_sooner() {
        let memory = Memory::new(1 << 20, Duration::from_mins(1), Duration::from_secs(5));
        let key = |name: &str| ProfileKey::user("s", UserId::parse(name).unwrap());
        let start = Instant::now();
        memory.put(&key("john"), Some(Arc::new(Known::new(Profile::default()))), start);
        memory.put(&key("nobody"), None, start);
        let later = |secs| start + Duration::from_secs(secs);
        assert!(matches!(memory.get(&key("john"), later(59)), Some(Some(_))));
        assert!(memory.get(&key("john"), later(60)).is_none());
        assert!(matches!(memory.get(&key("nobody"), later(4)), Some(None)));
        assert!(memory.get(&key("nobody"), later(5)).is_none());
        memory.forget(&key("john"));
        assert!(memory.get(&key("john"), start).is_none());
    }
}
