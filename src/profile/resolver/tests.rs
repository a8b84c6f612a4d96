use std::sync::atomic::AtomicUsize;

use async_trait::async_trait;
use serde_json::json;
use tokio::sync::Semaphore;

use super::*;
use crate::profile::source::{Asker, ProfileSource, PullError, Traits};
use crate::profile::{Lifetimes, Pulled};
use crate::upstream::{Endpoint, Timeouts, Upstream};

/// A store whose reads wait for a permit, and fail on demand.
#[derive(Default)]
struct Gated {
    gate: Option<Semaphore>,
    down: std::sync::atomic::AtomicBool,
    reads: AtomicUsize,
    records: Mutex<HashMap<ProfileKey, Stored>>,
}

fn down() -> StoreError {
    StoreError::Unavailable("down".into())
}

#[async_trait]
impl ProfileStore for Gated {
    async fn get(&self, key: &ProfileKey) -> Result<Option<Stored>, StoreError> {
        let read = self.records.lock().unwrap().get(key).cloned();
        self.reads.fetch_add(1, Ordering::SeqCst);
        if self.down.load(Ordering::SeqCst) {
            return Err(down());
        }
        if let Some(gate) = &self.gate {
            gate.acquire().await.unwrap().forget();
        }
        Ok(read)
    }
    async fn merge(&self, key: &ProfileKey, update: &Update) -> Result<ProfileKey, StoreError> {
        let mut records = self.records.lock().unwrap();
        let mut profile = match records.get(key) {
            Some(Stored::Profile(profile)) => profile.clone(),
            _ => Profile::default(),
        };
        profile.merge(update, 1)?;
        records.insert(key.clone(), Stored::Profile(profile));
        Ok(key.clone())
    }
    async fn link(
        &self,
        from: &ProfileKey,
        to: &ProfileKey,
        _: i64,
        _: LinkedBy,
    ) -> Result<Vec<ProfileKey>, StoreError> {
        self.records.lock().unwrap().insert(from.clone(), Stored::Linked(to.clone()));
        Ok(vec![from.clone(), to.clone()])
    }
    async fn delete(&self, key: &ProfileKey, _: i64) -> Result<Vec<ProfileKey>, StoreError> {
        self.records.lock().unwrap().remove(key);
        Ok(vec![key.clone()])
    }
    async fn part(&self, _: &str, _: Option<&str>) -> Result<Part, StoreError> {
        Ok(Part::default())
    }
    async fn follow(&self, _: &(dyn Fn(Change) + Send + Sync)) {}
}

/// A source that knows one thing, or nobody.
struct Fixed {
    traits: Option<Traits>,
    pulls: AtomicUsize,
    upstream: Arc<Upstream>,
}

#[async_trait]
impl ProfileSource for Fixed {
    fn serves(&self, _: &ProfileKey) -> bool {
        true
    }
    async fn pull(&self, _: &ProfileKey, _: Asker) -> Result<Option<Traits>, PullError> {
        self.pulls.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        Ok(self.traits.clone())
    }
    fn holds(&self, _: bool) -> Duration {
        Duration::from_mins(10)
    }
    fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }
}

fn fixed(traits: Option<Traits>) -> (Arc<dyn ProfileSource>, Arc<Fixed>) {
    let wait = WAIT;
    let timeouts =
        Timeouts { connect: wait, read: wait, write: wait, idle: wait, ..Timeouts::default() };
    let endpoint = Endpoint::parse("127.0.0.1:1").unwrap();
    let upstream = Arc::new(Upstream::new(endpoint, timeouts, None, true));
    let source = Arc::new(Fixed { traits, pulls: AtomicUsize::new(0), upstream });
    (Arc::<Fixed>::clone(&source), source)
}

const WAIT: Duration = Duration::from_secs(10);

fn resolver(store: &Arc<Gated>, fresh: Duration) -> Arc<Resolver> {
    let missing = Duration::from_secs(5);
    let stale_if_error = Duration::from_mins(10);
    let memory = Memory::new(1 << 20, Lifetimes { fresh, missing, stale_if_error });
    Arc::new(Resolver::new(memory, Arc::<Gated>::clone(store)))
}

fn gated() -> (Arc<Resolver>, Arc<Gated>, ProfileKey) {
    let store = Arc::new(Gated { gate: Some(Semaphore::new(0)), ..Gated::default() });
    (resolver(&store, Duration::from_mins(1)), store, key("user_id:john"))
}

fn key(text: &str) -> ProfileKey {
    ProfileKey::parse("s", text).unwrap()
}

fn red() -> Update {
    Update::new(1, [("red".into(), json!(true))])
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_is_an_error_to_the_writer() {
    struct Hung;
    #[async_trait]
    impl ProfileStore for Hung {
        async fn get(&self, _: &ProfileKey) -> Result<Option<Stored>, StoreError> {
            std::future::pending().await
        }
        async fn merge(&self, _: &ProfileKey, _: &Update) -> Result<ProfileKey, StoreError> {
            std::future::pending().await
        }
        async fn link(
            &self,
            _: &ProfileKey,
            _: &ProfileKey,
            _: i64,
            _: LinkedBy,
        ) -> Result<Vec<ProfileKey>, StoreError> {
            std::future::pending().await
        }
        async fn delete(&self, _: &ProfileKey, _: i64) -> Result<Vec<ProfileKey>, StoreError> {
            std::future::pending().await
        }
        async fn part(&self, _: &str, _: Option<&str>) -> Result<Part, StoreError> {
            std::future::pending().await
        }
        async fn follow(&self, _: &(dyn Fn(Change) + Send + Sync)) {}
    }
    let lifetimes = Lifetimes { fresh: WAIT, missing: WAIT, stale_if_error: WAIT };
    let resolver = Resolver::new(Memory::new(1 << 20, lifetimes), Arc::new(Hung));
    let john = key("user_id:john");
    assert!(matches!(resolver.merge(&john, &red()).await, Err(StoreError::Unavailable(_))));
    let linked = resolver.link(&key("anonymous_id:b"), &john, 1, LinkedBy::Site).await;
    assert!(matches!(linked, Err(StoreError::Unavailable(_))));
    assert!(matches!(resolver.delete(&john, 1).await, Err(StoreError::Unavailable(_))));
}

#[tokio::test(start_paused = true)]
async fn a_late_lookup_ends_in_memory() {
    let (resolver, store, key) = gated();
    let wait = Duration::from_millis(25);
    assert!(matches!(resolver.find_person(&key, None, wait).await, Lookup::Late));
    store.gate.as_ref().unwrap().add_permits(1);
    assert!(matches!(resolver.find_person(&key, None, WAIT).await, Lookup::Missing));
    assert!(matches!(resolver.find_person(&key, None, Duration::ZERO).await, Lookup::Missing));
    assert_eq!(store.reads.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_thousand_first_visits_ask_store_and_source_once() {
    let (resolver, store, key) = gated();
    let (source, counted) = fixed(Some(vec![("red".into(), json!(true))]));
    store.gate.as_ref().unwrap().add_permits(1);
    let visits =
        (0..1000).map(|_| resolver.find_person(&key, Some((&source, Asker::Vouched)), WAIT));
    let found = futures::future::join_all(visits).await;
    assert!(found.iter().all(|lookup| lookup.known().is_some_and(|p| p.get("red").is_some())));
    assert_eq!(store.reads.load(Ordering::SeqCst), 1);
    assert_eq!(counted.pulls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_write_during_a_lookup_is_not_hidden_by_it() {
    let (resolver, store, key) = gated();
    let slow = {
        let (resolver, key) = (Arc::clone(&resolver), key.clone());
        tokio::spawn(async move { resolver.find_person(&key, None, WAIT).await })
    };
    while store.reads.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    resolver.merge(&key, &red()).await.unwrap();
    store.gate.as_ref().unwrap().add_permits(2);
    assert!(matches!(slow.await.unwrap(), Lookup::Missing), "it read before the write");
    assert!(matches!(resolver.find_person(&key, None, WAIT).await, Lookup::Found(_)));
}

/// A bug in a store costs the lookups that meet it, not the visitor for ever.
#[tokio::test]
async fn a_lookup_that_panics_leaves_the_board() {
    let (resolver, store, key) = gated();
    store.gate.as_ref().unwrap().close();
    assert!(matches!(resolver.find_person(&key, None, WAIT).await, Lookup::Failed));
    assert!(resolver.flights.lock().unwrap().is_empty());
    assert!(matches!(resolver.find_person(&key, None, WAIT).await, Lookup::Failed));
    assert_eq!(store.reads.load(Ordering::SeqCst), 2, "it was asked again");
}

#[tokio::test]
async fn a_change_of_the_user_shows_under_the_browsers_id() {
    let store = Arc::<Gated>::default();
    let resolver = resolver(&store, Duration::from_mins(1));
    let (browser, john) = (key("anonymous_id:b"), key("user_id:john"));
    resolver.link(&browser, &john, 1, LinkedBy::Site).await.unwrap();
    assert!(matches!(resolver.find_person(&browser, None, WAIT).await, Lookup::Missing));
    resolver.merge(&john, &red()).await.unwrap();
    let found = resolver.find_person(&browser, None, WAIT).await;
    assert!(found.known().is_some_and(|profile| profile.get("red").is_some()));
    let reads = store.reads.load(Ordering::SeqCst);
    resolver.find_person(&browser, None, WAIT).await;
    assert_eq!(store.reads.load(Ordering::SeqCst), reads, "both are in memory");
}

#[tokio::test]
async fn links_in_a_circle_end() {
    for fresh in [Duration::ZERO, Duration::from_mins(1)] {
        let store = Arc::<Gated>::default();
        let resolver = resolver(&store, fresh);
        let (a, b) = (key("user_id:a"), key("user_id:b"));
        resolver.link(&a, &b, 1, LinkedBy::Site).await.unwrap();
        resolver.link(&b, &a, 1, LinkedBy::Site).await.unwrap();
        assert!(matches!(resolver.find_person(&a, None, WAIT).await, Lookup::Missing));
        assert!(store.reads.load(Ordering::SeqCst) <= MAX_HOPS + 2);
    }
}

#[tokio::test]
async fn old_profiles_serve_while_the_store_is_down_and_only_then() {
    let store = Arc::<Gated>::default();
    let resolver = resolver(&store, Duration::ZERO);
    let (john, mary) = (key("user_id:john"), key("user_id:mary"));
    resolver.merge(&john, &red()).await.unwrap();
    assert!(matches!(resolver.find_person(&john, None, WAIT).await, Lookup::Found(_)));
    store.down.store(true, Ordering::SeqCst);
    let Lookup::Found(found) = resolver.find_person(&john, None, WAIT).await else {
        panic!("none")
    };
    assert!(found.stale);
    assert!(matches!(resolver.find_person(&mary, None, WAIT).await, Lookup::Failed));
    store.down.store(false, Ordering::SeqCst);
    let Lookup::Found(found) = resolver.find_person(&john, None, WAIT).await else {
        panic!("none")
    };
    assert!(!found.stale);
    // What is known to have changed never serves.
    resolver.merge(&john, &red()).await.unwrap();
    store.down.store(true, Ordering::SeqCst);
    assert!(matches!(resolver.find_person(&john, None, WAIT).await, Lookup::Failed));
}

#[tokio::test]
async fn what_the_source_says_is_kept_and_what_it_unsays_is_deleted() {
    let store = Arc::<Gated>::default();
    let resolver = resolver(&store, Duration::ZERO);
    let john = key("user_id:john");
    let (first, _) = fixed(Some(vec![("a".into(), json!(1)), ("b".into(), json!(2))]));
    resolver.find_person(&john, Some((&first, Asker::Vouched)), WAIT).await;
    // Pushed since, and so not the source's to unsay.
    let pushed = Update::new(crate::profile::now_millis() + 5, [("c".into(), json!(3))]);
    resolver.merge(&john, &pushed).await.unwrap();
    // The first answer holds no more.
    let Some(Stored::Profile(stored)) = store.get(&john).await.unwrap() else { panic!("none") };
    let at = stored.pulled().at;
    let ended = Profile::from_parts(Update::of(&stored).traits, 0, Pulled { at, until: at });
    store.records.lock().unwrap().insert(john.clone(), Stored::Profile(ended));
    while crate::profile::now_millis() <= at {
        tokio::task::yield_now().await;
    }
    let (second, counted) = fixed(Some(vec![("a".into(), json!(1))]));
    let found = resolver.find_person(&john, Some((&second, Asker::Vouched)), WAIT).await;
    assert_eq!(found.known().unwrap().traits().count(), 3, "nobody waits for what is renewed");
    loop {
        let Some(Stored::Profile(now)) = store.get(&john).await.unwrap() else { panic!("none") };
        if now.pulled().at > at {
            let names: Vec<_> = now.traits().map(|one| one.name.to_owned()).collect();
            assert_eq!(names, ["a", "c"]);
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(counted.pulls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn nobody_is_asked_for_again_for_a_while() {
    let store = Arc::<Gated>::default();
    let resolver = resolver(&store, Duration::ZERO);
    let (source, counted) = fixed(None);
    for _ in 0..3 {
        let found = resolver
            .find_person(&key("user_id:nobody"), Some((&source, Asker::Vouched)), WAIT)
            .await;
        assert!(matches!(found, Lookup::Missing));
        resolver.memory.forget(&key("user_id:nobody"));
    }
    assert_eq!(counted.pulls.load(Ordering::SeqCst), 1);
}
