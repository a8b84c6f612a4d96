//! What is known about one visitor: a last-writer-wins map of traits.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Most traits of a profile, those deleted included.
pub const MAX_TRAITS: usize = 512;
/// Longest name of a trait, in bytes.
pub const MAX_NAME_BYTES: usize = 256;
/// Largest profile, in bytes of its stored form.
pub const MAX_PROFILE_BYTES: usize = 64 * 1024;

/// A trait's value and when it was set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Stamped(
    /// `Null` is a deletion: it has to outlive late repeats of what it deleted.
    Value,
    /// Milliseconds since 1970.
    i64,
);

/// Traits, and for each of them the time it was set.
///
/// Merging is commutative, associative and idempotent: updates may repeat, race and arrive out of
/// order, and every node ends with the same traits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    #[serde(rename = "t")]
    traits: BTreeMap<Box<str>, Stamped>,
}

/// Traits to set at one time; `Null` deletes.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// When they were set, in milliseconds since 1970.
    pub at: i64,
    /// Names and values.
    pub traits: Vec<(Box<str>, Value)>,
}

/// Why an update is refused. What is stored stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooMuch {
    /// Too many traits.
    #[error("a profile has at most {MAX_TRAITS} traits, this update makes {0}")]
    Traits(usize),
    /// A name is too long.
    #[error("a trait's name has 1 to {MAX_NAME_BYTES} bytes, one has {0}")]
    Name(usize),
    /// Too large as a whole.
    #[error("a profile has at most {MAX_PROFILE_BYTES} bytes, this update makes {0}")]
    Bytes(usize),
}

impl Profile {
    /// Puts `update` in, and says whether that changed anything.
    ///
    /// # Errors
    /// When a limit would be passed. The profile is then as it was.
    pub fn merge(&mut self, update: &Update) -> Result<bool, TooMuch> {
        let mut next = self.clone();
        for (name, value) in &update.traits {
            if name.is_empty() || name.len() > MAX_NAME_BYTES {
                return Err(TooMuch::Name(name.len()));
            }
            next.set(name, Stamped(value.clone(), update.at));
        }
        if next.traits.len() > MAX_TRAITS {
            return Err(TooMuch::Traits(next.traits.len()));
        }
        let size = next.encode().len();
        if size > MAX_PROFILE_BYTES {
            return Err(TooMuch::Bytes(size));
        }
        let changed = next != *self;
        *self = next;
        Ok(changed)
    }

    /// Puts all of `other` in, as if every update behind it had been merged here.
    pub fn absorb(&mut self, other: &Self) {
        for (name, stamped) in &other.traits {
            self.set(name, stamped.clone());
        }
    }

    fn set(&mut self, name: &str, new: Stamped) {
        match self.traits.get_mut(name) {
            Some(old) if !newer(&new, old) => {}
            Some(old) => *old = new,
            None => {
                self.traits.insert(name.into(), new);
            }
        }
    }

    /// The traits that are set, by name.
    pub fn traits(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.traits
            .iter()
            .filter(|(_, stamped)| !stamped.0.is_null())
            .map(|(name, stamped)| (&**name, &stamped.0))
    }

    /// The stored form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        // A map of JSON values under string keys can't fail to be written as JSON.
        if serde_json::to_writer(&mut out, self).is_err() {
            out.truncate(1);
        }
        out
    }

    /// Reads the stored form. `None` when it is of a format that this version doesn't know.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first() {
            Some((&FORMAT, json)) => serde_json::from_slice(json).ok(),
            _ => None,
        }
    }

    /// About how many bytes it takes in memory, for bounds.
    #[must_use]
    pub fn weight(&self) -> usize {
        /// A node of a map, an enum of a value, a time: measured with 20 traits.
        const TRAIT_BYTES: usize = 64;
        self.traits
            .iter()
            .map(|(name, Stamped(value, _))| TRAIT_BYTES + name.len() + size_of_value(value))
            .sum()
    }
}

/// First byte of the stored form.
const FORMAT: u8 = 1;

/// Which of two values of one trait counts. A tie in time is broken by the value, the same way on
/// every node; a deletion loses it.
fn newer(new: &Stamped, old: &Stamped) -> bool {
    match new.1.cmp(&old.1) {
        std::cmp::Ordering::Equal => {
            (!new.0.is_null(), new.0.to_string()) > (!old.0.is_null(), old.0.to_string())
        }
        order => order.is_gt(),
    }
}

fn size_of_value(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(list) => list.iter().map(|item| 32 + size_of_value(item)).sum(),
        Value::Object(map) => {
            map.iter().map(|(name, item)| 64 + name.len() + size_of_value(item)).sum()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn set(at: i64, name: &str, value: Value) -> Update {
        Update { at, traits: vec![(name.into(), value)] }
    }

    #[test]
    fn too_much_is_refused_and_nothing_changes() {
        let mut profile = Profile::default();
        profile.merge(&set(1, "a", json!(1))).unwrap();
        let before = profile.clone();
        let many =
            Update { at: 2, traits: (0..512).map(|n| (n.to_string().into(), json!(n))).collect() };
        assert_eq!(profile.merge(&many), Err(TooMuch::Traits(513)));
        assert_eq!(profile.merge(&set(2, &"n".repeat(257), json!(1))), Err(TooMuch::Name(257)));
        let large = set(2, "b", json!("x".repeat(MAX_PROFILE_BYTES)));
        assert!(matches!(profile.merge(&large), Err(TooMuch::Bytes(_))));
        assert_eq!(profile, before);
    }

    #[test]
    fn a_deletion_outlives_a_late_repeat() {
        let mut profile = Profile::default();
        profile.merge(&set(10, "a", json!(true))).unwrap();
        profile.merge(&set(20, "a", Value::Null)).unwrap();
        assert_eq!(profile.merge(&set(10, "a", json!(true))), Ok(false));
        assert_eq!(profile.traits().count(), 0);
    }

    fn update() -> impl Strategy<Value = Update> {
        let value = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (0..4i64).prop_map(Value::from)
        ];
        (0..5i64, proptest::collection::vec(("[a-d]", value), 1..4)).prop_map(|(at, traits)| {
            Update {
                at,
                traits: traits.into_iter().map(|(name, value)| (name.into(), value)).collect(),
            }
        })
    }

    proptest! {
        /// The same updates in any order, any of them twice, end in the same traits.
        #[test]
        fn merges_converge(updates in proptest::collection::vec(update(), 0..20), seed in any::<u64>()) {
            let mut straight = Profile::default();
            for update in &updates {
                straight.merge(update).unwrap();
            }
            let mut order: Vec<usize> = (0..updates.len()).chain(0..updates.len()).collect();
            let mut state = seed | 1;
            for at in (1..order.len()).rev() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                order.swap(at, usize::try_from(state >> 33).unwrap() % (at + 1));
            }
            let mut shuffled = Profile::default();
            let mut other = Profile::default();
            for (turn, at) in order.into_iter().enumerate() {
                let half = if turn % 2 == 0 { &mut shuffled } else { &mut other };
                half.merge(&updates[at]).unwrap();
            }
            shuffled.absorb(&other);
            prop_assert_eq!(&shuffled, &straight);
            prop_assert_eq!(Profile::decode(&straight.encode()), Some(straight));
        }
    }
}
