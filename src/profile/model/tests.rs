use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::profile::packed::tests::json;

fn set(at: i64, name: &str, value: Value) -> Update {
    Update::new(at, [(name.into(), value)])
}

#[test]
fn too_much_is_refused_and_nothing_changes() {
    let mut profile = Profile::default();
    profile.merge(&set(1, "a", json!(1)), 1).unwrap();
    let before = profile.clone();
    let many = Update::new(2, (0..512).map(|n| (n.to_string().into(), json!(n))));
    assert_eq!(profile.merge(&many, 2), Err(TooMuch::Traits(513)));
    assert_eq!(profile.merge(&set(2, &"n".repeat(257), json!(1)), 2), Err(TooMuch::Name(257)));
    assert_eq!(profile.merge(&set(2, "", json!(1)), 2), Err(TooMuch::Name(0)));
    let large = set(2, "b", json!("x".repeat(MAX_PROFILE_BYTES - 3)));
    assert!(matches!(profile.merge(&large, 2), Err(TooMuch::Bytes(_))));
    assert_eq!(profile, before);
    let fits = set(2, "b", json!("x".repeat(MAX_PROFILE_BYTES - 5)));
    assert_eq!(profile.merge(&fits, 2), Ok(true), "2 + 1 + 2 quotes + the text");
    assert_eq!(profile.merge(&set(3, "b", json!(1)), 3), Ok(true));
    assert_eq!(profile.merge(&set(4, "c", json!("x".repeat(60_000))), 4), Ok(true));
}

#[test]
fn a_deletion_outlives_a_late_repeat() {
    let mut profile = Profile::default();
    profile.merge(&set(10, "a", json!(true)), 10).unwrap();
    profile.merge(&set(20, "a", Value::Null), 20).unwrap();
    assert_eq!(profile.merge(&set(10, "a", json!(true)), 30), Ok(false));
    assert_eq!(profile.traits().count(), 0);
}

#[test]
fn a_deleted_person_stays_deleted_and_may_come_back() {
    let mut profile = Profile::default();
    profile.merge(&set(10, "a", json!(true)), 10).unwrap();
    profile = profile.deleted(20);
    assert!(profile.is_empty());
    assert_eq!(profile.merge(&set(20, "a", json!(true)), 21), Ok(false));
    assert_eq!(profile.merge(&set(21, "a", json!(1)), 22), Ok(true));
    assert_eq!(profile.get("a").map(|found| found.value()), Some(json!(1)));
}

#[test]
fn a_trait_is_found_among_many_without_reading_the_others() {
    let mut profile = Profile::default();
    let names: Vec<String> = (0..300).map(|n| format!("trait_{n}")).collect();
    let update = names.iter().enumerate().map(|(n, name)| (name.as_str().into(), json!(n)));
    profile.merge(&Update::new(7, update), 7).unwrap();
    for (n, name) in names.iter().enumerate() {
        let found = profile.get(name).unwrap();
        assert_eq!((found.value(), found.at), (json!(n), 7));
    }
    assert!(profile.get("trait_300").is_none() && profile.get("").is_none());
    assert!(Profile::default().get("a").is_none());
}

#[test]
fn foreign_bytes_are_no_profile() {
    let mut profile = Profile::default();
    profile.merge(&set(1, "a", json!([1, "x"])), 1).unwrap();
    let bytes = profile.encode();
    assert_eq!(Profile::decode(bytes), Some(profile.clone()));
    for cut in 0..bytes.len() {
        assert_eq!(Profile::decode(&bytes[..cut]), None);
    }
    assert_eq!(Profile::decode(b"\x01{}"), None);
}

/// Updates of few names at few times, so that they meet.
pub(crate) fn update() -> impl Strategy<Value = Update> {
    let value = prop_oneof![
        3 => Just(Value::Null),
        3 => any::<bool>().prop_map(Value::from),
        3 => (0..4i64).prop_map(Value::from),
        1 => json(),
    ];
    (1..6i64, proptest::collection::btree_map("[a-d]", value, 1..4)).prop_map(|(at, traits)| {
        Update::new(at, traits.into_iter().map(|(name, value)| (name.into(), value)))
    })
}

/// The same profile, whenever it was written.
fn content(profile: &Profile) -> Vec<(String, i64, Value)> {
    profile.entries().map(|e| (e.name.to_owned(), e.at, e.value())).collect()
}

proptest! {
    /// The same updates in any order, any of them twice, end in the same traits.
    #[test]
    fn merges_converge(updates in proptest::collection::vec(update(), 0..20), seed in any::<u64>()) {
        let mut straight = Profile::default();
        for update in &updates {
            straight.merge(update, 1).unwrap();
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
            half.merge(&updates[at], 2).unwrap();
        }
        shuffled.merge(&Update::of(&other), 3).unwrap();
        prop_assert_eq!(content(&shuffled), content(&straight));
        let size: usize = content(&straight).iter().map(|(n, _, v)| n.len() + v.to_string().len()).sum();
        prop_assert_eq!(straight.head().size, size as u64);
        if !updates.is_empty() {
            prop_assert_eq!(Profile::decode(straight.encode()), Some(straight));
        }
    }
}
