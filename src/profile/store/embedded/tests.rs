use serde_json::json;

use super::*;
use crate::profile::store::{CLAIM_FOR, MAX_CLAIMS};
use crate::profile::{Profile, TooMuch};

fn key(text: &str) -> ProfileKey {
    ProfileKey::parse("shop", text).unwrap()
}

fn update(at: i64, name: &str, value: impl Into<serde_json::Value>) -> Update {
    Update::new(at, [(name.into(), value.into())])
}

fn open(directory: &tempfile::TempDir) -> Embedded {
    Embedded::open(directory.path(), 64 << 20, None).unwrap()
}

/// The traits of the profile where the links end.
async fn traits(store: &Embedded, text: &str) -> Vec<(String, serde_json::Value)> {
    let end = super::super::end_of(store, &key(text)).await.unwrap();
    match store.get(&end).await.unwrap() {
        Some(Stored::Profile(profile)) => {
            profile.traits().map(|one| (one.name.to_owned(), one.value())).collect()
        }
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn profiles_are_stored_merged_and_found_through_links() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let john = key("user_id:john");
    assert_eq!(store.get(&john).await.unwrap(), None);
    store.merge(&john, &update(2, "red", true)).await.unwrap();
    store.merge(&john, &update(1, "red", false)).await.unwrap();
    assert_eq!(traits(&store, "user_id:john").await, [("red".to_owned(), json!(true))]);
    let browser = key("anonymous_id:b");
    store.merge(&browser, &update(1, "first_page", "/sale")).await.unwrap();
    let changed = store.link(&browser, &john, 5, LinkedBy::Site).await.unwrap();
    assert_eq!(changed, [browser.clone(), john.clone()]);
    let all = [("first_page".to_owned(), json!("/sale")), ("red".to_owned(), json!(true))];
    assert_eq!(traits(&store, "anonymous_id:b").await, all);
    // What is sent about the browser is the user's.
    assert_eq!(store.merge(&browser, &update(6, "n", 1)).await.unwrap(), john);
    assert_eq!(traits(&store, "user_id:john").await.len(), 3);
    let other = ProfileKey::parse("blog", "user_id:john").unwrap();
    assert_eq!(store.get(&other).await.unwrap(), None, "sites don't share profiles");
}

#[tokio::test]
async fn the_newest_link_wins_and_none_leads_in_a_circle() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let (browser, john, mary) = (key("anonymous_id:b"), key("user_id:john"), key("user_id:mary"));
    for (to, at) in [(&john, 5), (&mary, 4), (&john, 5)] {
        store.link(&browser, to, at, LinkedBy::Site).await.unwrap();
    }
    assert_eq!(super::super::end_of(&store, &browser).await.unwrap(), john);
    store.link(&browser, &mary, 6, LinkedBy::Site).await.unwrap();
    assert_eq!(super::super::end_of(&store, &browser).await.unwrap(), mary);
    store.link(&mary, &john, 7, LinkedBy::Site).await.unwrap();
    assert_eq!(super::super::end_of(&store, &browser).await.unwrap(), john);
    assert!(matches!(
        store.link(&john, &browser, 8, LinkedBy::Site).await,
        Err(StoreError::Circle)
    ));
    assert!(matches!(store.link(&john, &john, 8, LinkedBy::Site).await, Err(StoreError::Circle)));
}

#[tokio::test]
async fn a_deleted_person_is_gone_with_all_that_leads_to_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let (browser, mail, john) = (key("anonymous_id:b"), key("email:j@x"), key("user_id:john"));
    store.merge(&john, &update(1, "red", true)).await.unwrap();
    store.link(&mail, &john, 2, LinkedBy::Site).await.unwrap();
    store.link(&browser, &mail, 3, LinkedBy::Site).await.unwrap();
    let mut gone = store.delete(&browser, 10).await.unwrap();
    gone.sort();
    assert_eq!(gone, [browser.clone(), mail.clone(), john.clone()]);
    assert_eq!(store.get(&browser).await.unwrap(), None);
    assert_eq!(store.get(&mail).await.unwrap(), None);
    store.merge(&john, &update(10, "red", true)).await.unwrap();
    assert!(traits(&store, "user_id:john").await.is_empty(), "a late repeat brings nobody back");
    store.merge(&john, &update(11, "red", true)).await.unwrap();
    assert_eq!(traits(&store, "user_id:john").await.len(), 1);
}

#[tokio::test]
async fn everything_comes_out_in_parts() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let keys: Vec<_> = (0..2500).map(|n| key(&format!("user_id:{n}"))).collect();
    let one = update(1, "a", 1);
    futures::future::join_all(keys.iter().map(|key| store.merge(key, &one))).await;
    store.merge(&ProfileKey::parse("shop2", "user_id:x").unwrap(), &one).await.unwrap();
    let (mut seen, mut next) = (std::collections::HashSet::new(), None);
    loop {
        let part = store.part("shop", next.as_deref()).await.unwrap();
        seen.extend(part.records.into_iter().map(|(key, _)| key));
        next = part.next;
        if next.is_none() {
            break;
        }
    }
    assert_eq!(seen, keys.into_iter().collect());
}

#[tokio::test]
async fn what_another_process_writes_is_heard_of_once_and_ones_own_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    store.merge(&key("user_id:a"), &update(1, "a", 1)).await.unwrap();
    store.merge(&key("user_id:a"), &update(1, "a", 1)).await.unwrap();
    assert!(!store.shared.another_process_wrote());
    // Another process would have its own idea of the last transaction.
    let tables = &store.shared.tables;
    let mut writing = tables.begin(1).unwrap();
    writing.merge(&key("user_id:b"), &update(1, "a", 1)).unwrap();
    writing.commit().unwrap();
    store.merge(&key("user_id:c"), &update(1, "a", 1)).await.unwrap();
    assert!(store.shared.another_process_wrote());
    assert!(!store.shared.another_process_wrote());
}

#[tokio::test]
async fn what_nobody_writes_any_more_is_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let day = Duration::from_hours(24);
    let store = Embedded::open(directory.path(), 64 << 20, Some(day)).unwrap();
    let (old, new) = (key("user_id:old"), key("user_id:new"));
    store.merge(&new, &update(1, "a", 1)).await.unwrap();
    let now = now_millis();
    let long_ago = now - 2 * i64::try_from(day.as_millis()).unwrap();
    let mut writing = store.shared.tables.begin(long_ago).unwrap();
    writing.merge(&old, &update(1, "a", 1)).unwrap();
    writing.commit().unwrap();
    assert_eq!(store.get(&old).await.unwrap(), None);
    assert!(store.shared.tables.get(&old, now).unwrap().is_some());
    assert_eq!(store.sweep(None).await, None);
    assert!(store.shared.tables.get(&old, now).unwrap().is_none());
    assert!(store.get(&new).await.unwrap().is_some());
}

/// How many keys are listed as linked to `to`.
fn listed(store: &Embedded, to: &ProfileKey) -> usize {
    store.shared.tables.begin(now_millis()).unwrap().linked_to(to, usize::MAX).unwrap().len()
}

#[tokio::test]
async fn what_only_events_say_ends_and_is_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let (john, now) = (key("user_id:john"), now_millis());
    let browser = |n: usize| key(&format!("anonymous_id:b{n}"));
    let long_ago = now - i64::try_from(CLAIM_FOR.as_millis()).unwrap() - 1000;
    store.link(&browser(0), &john, long_ago, LinkedBy::Claim).await.unwrap();
    store.link(&key("email:j@x.example"), &john, long_ago, LinkedBy::Site).await.unwrap();
    assert_eq!(store.get(&browser(0)).await.unwrap(), None, "it is over");
    assert_eq!(listed(&store, &john), 2);
    assert_eq!(store.sweep(None).await, None);
    assert_eq!(listed(&store, &john), 1, "and gone");
    let made = i64::try_from(MAX_CLAIMS).unwrap();
    for n in 0..=MAX_CLAIMS + 5 {
        let at = now - 2 * made + i64::try_from(n).unwrap();
        store.link(&browser(n), &john, at, LinkedBy::Claim).await.unwrap();
    }
    assert_eq!(listed(&store, &john), MAX_CLAIMS + 1);
    assert_eq!(store.get(&browser(3)).await.unwrap(), None, "the oldest went");
    let last = browser(MAX_CLAIMS + 5);
    assert_eq!(store.get(&last).await.unwrap(), Some(Stored::Linked(john.clone())));
    // What the site says stays, whoever says it again.
    store.link(&last, &john, now, LinkedBy::Site).await.unwrap();
    store.link(&last, &john, now + 100_000, LinkedBy::Claim).await.unwrap();
    let far = now + 2 * i64::try_from(CLAIM_FOR.as_millis()).unwrap();
    assert!(store.shared.tables.get(&last, far).unwrap().is_some());
    assert!(store.shared.tables.get(&browser(MAX_CLAIMS), far).unwrap().is_none());
}

#[tokio::test]
async fn a_person_with_very_many_links_is_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let john = key("user_id:john");
    let linked = (0..50_000).map(|n| {
        let (store, john) = (&store, &john);
        async move { store.link(&key(&format!("x:{n}")), john, 1, LinkedBy::Site).await }
    });
    for done in futures::future::join_all(linked).await {
        done.unwrap();
    }
    // Each of them is looked at once: pairs of them would take minutes in this build.
    assert_eq!(store.delete(&john, 2).await.unwrap().len(), 50_001);
    assert_eq!(store.get(&key("x:49999")).await.unwrap(), None);
}

#[test]
fn a_store_of_another_format_is_not_opened() {
    let directory = tempfile::tempdir().unwrap();
    let tables = Tables::open(directory.path(), 1 << 20).unwrap();
    tables.set_format("profiles 99");
    // One process has one store open once: another folder stands for another process.
    let other = tempfile::tempdir().unwrap();
    std::fs::copy(directory.path().join("data.mdb"), other.path().join("data.mdb")).unwrap();
    let Err(why) = Embedded::open(other.path(), 1 << 20, None).map(drop) else { panic!("opened") };
    assert!(why.to_string().contains("profiles 99"), "{why}");
}

#[tokio::test]
async fn a_refused_update_does_not_harm_its_group() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let outcomes = futures::future::join_all((0..20).map(|n| {
        let name = if n == 7 { "x".repeat(300) } else { "x".into() };
        let (store, key) = (&store, key(&format!("user_id:{n}")));
        async move { store.merge(&key, &update(1, &name, n)).await }
    }))
    .await;
    for (n, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            Err(StoreError::Refused(TooMuch::Name(300))) => assert_eq!(n, 7),
            other => assert!(other.is_ok() && n != 7, "{n}"),
        }
    }
}

#[tokio::test]
async fn a_full_store_is_an_error_and_keeps_what_it_has() {
    let directory = tempfile::tempdir().unwrap();
    let store = Embedded::open(directory.path(), 1 << 20, None).unwrap();
    let text = "x".repeat(50_000);
    let mut stored = 0;
    let failed = loop {
        let key = key(&format!("user_id:{stored}"));
        match store.merge(&key, &update(1, "x", text.as_str())).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(failed, StoreError::Unavailable(_)) && stored > 2, "{stored}");
    let first = store.get(&key("user_id:0")).await.unwrap();
    assert!(matches!(first, Some(Stored::Profile(profile)) if profile != Profile::default()));
}
