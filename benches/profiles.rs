//! What profiles cost: memory, embedded store, Redis. `cargo bench --bench profiles -- [WHAT] [COUNT]`
//! with WHAT one of memory, embedded, redis (a redis-server is started); all of them, with a million
//! profiles, without arguments.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a benchmark fails by a panic"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use doorstep::config::Secret;
use doorstep::profile::store::{
    Embedded, Mode, ProfileStore, Redis, RedisOptions, RedisTls, Stored,
};
use doorstep::profile::{Lifetimes, Memory, Profile, ProfileKey, Resolver, State, Update};
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn key(n: usize) -> ProfileKey {
    ProfileKey::parse("shop", &format!("user_id:{n:016x}")).unwrap()
}

/// Twenty traits as a customer data platform has them: audiences, counts, amounts, texts.
fn traits(n: usize) -> Update {
    let mut traits = Vec::new();
    for t in 0..20 {
        let value = match t % 4 {
            0 => json!((n + t).is_multiple_of(2)),
            1 => json!(n * t % 100_000),
            2 => json!((n % 1000) as f64 / 8.0 + 0.25),
            _ => json!(format!("value {:08x}", n.wrapping_mul(2_654_435_761) ^ t)),
        };
        traits.push((format!("trait_name_{t:02}").into(), value));
    }
    Update::new(1_767_225_600_000, traits)
}

fn profile(n: usize) -> Profile {
    let mut profile = Profile::default();
    profile.merge(&traits(n), 1_767_225_600_000).unwrap();
    profile
}

/// Resident bytes of the process.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

fn quantiles(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let at =
        |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_nanos() as f64 / 1e3;
    println!("{name}: p50 {:.1} µs, p99 {:.1} µs, p99.9 {:.1} µs", at(0.5), at(0.99), at(0.999));
}

const HOUR: Duration = Duration::from_hours(1);

fn memory(count: usize) {
    let before = resident();
    let lifetimes = Lifetimes { fresh: HOUR, missing: HOUR, stale_if_error: HOUR };
    let memory = Memory::new(4 << 30, lifetimes);
    let now = Instant::now();
    for n in 0..count {
        memory.put(&key(n), State::Profile(profile(n)), now);
    }
    let bytes = resident() - before;
    println!(
        "memory: {count} profiles of 20 traits in {} MiB, {} bytes each ({} of them the profile)",
        bytes >> 20,
        bytes / count,
        profile(1).encode().len()
    );
    let (mut random, mut found) = (Random(88_172_645_463_325_252), 0);
    let keys: Vec<_> = (0..200_000).map(|_| key(random.below(count))).collect();
    let started = Instant::now();
    for key in &keys {
        found += usize::from(memory.fresh(key, Instant::now()).is_some());
    }
    let each = started.elapsed().as_nanos() / keys.len() as u128;
    println!("memory: a random hit {each} ns ({found} of {} found)", keys.len());
}

async fn embedded(count: usize) {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Embedded::open(folder.path(), 1 << 40, None).unwrap());
    let started = Instant::now();
    fill(&Arc::clone(&store), count, 4096).await;
    let took = started.elapsed().as_secs_f64();
    println!("embedded: {count} profiles written durably, {:.0}/s", count as f64 / took);
    // A store that is opened with these in it reads its file before it is sure of it.
    let deadline = Instant::now() + Duration::from_mins(1);
    while store.get_now(&key(0)).is_none() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    settle().await;
    // What the system has thrown out of memory meanwhile is no hit.
    let mut file = std::fs::File::open(folder.path().join("data.mdb")).unwrap();
    std::io::copy(&mut file, &mut std::io::sink()).unwrap();
    for turn in ["first", "second"] {
        let mut random = Random(88_172_645_463_325_252);
        let mut times = Vec::new();
        for _ in 0..100_000 {
            let key = key(random.below(count));
            let asked = Instant::now();
            assert!(matches!(store.get(&key).await.unwrap(), Some(Stored::Profile(_))));
            times.push(asked.elapsed());
        }
        quantiles(&format!("embedded: a random hit among {count}, {turn} turn"), times);
    }
    let started = Instant::now();
    let updates = 100_000;
    update(&store, count, updates).await;
    let rate = f64::from(updates) / started.elapsed().as_secs_f64();
    println!("embedded: random updates, durable, {rate:.0}/s");
}

/// Waits until the system has written what it was given, so that it does not take part.
async fn settle() {
    let dirty = || {
        let about = std::fs::read_to_string("/proc/meminfo").unwrap();
        let kib = |name: &str| {
            let line = about.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
        };
        kib("Dirty:") + kib("Writeback:")
    };
    let started = Instant::now();
    while dirty() > 4096 && started.elapsed() < Duration::from_mins(3) {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Writes every profile once, many at one time.
async fn fill(store: &Arc<Embedded>, count: usize, at_once: usize) {
    for start in (0..count).step_by(at_once) {
        let end = (start + at_once).min(count);
        let writing = (start..end).map(|n| async move {
            store.merge(&key(n), &traits(n)).await.unwrap();
        });
        futures::future::join_all(writing).await;
    }
}

/// Updates of one trait of random profiles, two thousand at one time, as pushes of many.
async fn update(store: &Arc<impl ProfileStore + 'static>, count: usize, updates: i32) {
    let mut random = Random(7);
    let mut at = 1_800_000_000_000;
    for _ in 0..updates / 2000 {
        at += 1;
        let batch: Vec<_> = (0..2000).map(|_| key(random.below(count))).collect();
        let one = Update::new(at, [("trait_name_03".into(), json!(at.to_string()))]);
        let writing = batch.iter().map(|key| store.merge(key, &one));
        for done in futures::future::join_all(writing).await {
            done.unwrap();
        }
    }
}

async fn redis(count: usize) {
    let folder = tempfile::tempdir().unwrap();
    let port = 20_999;
    let mut server = std::process::Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
        .arg("--dir")
        .arg(folder.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("redis-server");
    let options = RedisOptions {
        urls: vec![Secret::new(format!("redis://127.0.0.1:{port}"))],
        mode: Mode::Single,
        key_prefix: "doorstep:".into(),
        timeout: Duration::from_secs(2),
        connect_timeout: Duration::from_secs(1),
        expire_after: None,
        read_from_replicas: false,
        tls: RedisTls::default(),
    };
    let store = Arc::new(Redis::new(options));
    while store.connect().await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let follower = {
        let store = Arc::clone(&store);
        let lifetimes = Lifetimes { fresh: HOUR, missing: HOUR, stale_if_error: HOUR };
        let resolver = Resolver::new(Memory::new(1 << 20, lifetimes), store);
        tokio::spawn(async move { resolver.follow().await })
    };
    let count = count.min(100_000);
    for start in (0..count).step_by(500) {
        let store = &store;
        let writing =
            (start..start + 500).map(|n| async move { store.merge(&key(n), &traits(n)).await });
        for done in futures::future::join_all(writing).await {
            done.unwrap();
        }
    }
    let started = Instant::now();
    let updates = 100_000;
    update(&store, count, updates).await;
    let rate = f64::from(updates) / started.elapsed().as_secs_f64();
    println!("redis: random updates by script, {rate:.0}/s");
    // Five thousand lookups a second for four seconds, each on its own.
    let mut random = Random(9);
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    let mut running = Vec::new();
    for _ in 0..4000 {
        ticks.tick().await;
        for _ in 0..5 {
            let (store, key) = (Arc::clone(&store), key(random.below(count)));
            running.push(tokio::spawn(async move {
                let asked = Instant::now();
                assert!(store.get(&key).await.unwrap().is_some());
                asked.elapsed()
            }));
        }
    }
    let mut times = Vec::new();
    for one in running {
        times.push(one.await.unwrap());
    }
    quantiles("redis: a lookup at 5000/s", times);
    follower.abort();
    let text = String::from_utf8(doorstep::telemetry::metrics::render()).unwrap();
    let line = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or("? 0");
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    let name = "doorstep_profile_propagation_seconds";
    let all = line(&format!("{name}_count"));
    let mean = line(&format!("{name}_sum")) / all * 1e3;
    let within = |bound: &str| line(&format!("{name}_bucket{{le=\"{bound}\"}}")) / all * 100.0;
    println!(
        "redis: {all} writes heard of after {mean:.1} ms on average; {:.2} % within 25 ms, {:.2} % within 250 ms",
        within("0.025"),
        within("0.25")
    );
    server.kill().unwrap();
    server.wait().unwrap();
}

fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|one| !one.starts_with("--")).collect();
    let count = arguments.get(1).and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let what = arguments.first().map_or("all", String::as_str);
    if matches!(what, "all" | "memory") {
        memory(count);
    }
    if matches!(what, "all" | "embedded") {
        runtime.block_on(async move { tokio::spawn(embedded(count)).await.unwrap() });
    }
    if matches!(what, "all" | "redis") {
        runtime.block_on(async move { tokio::spawn(redis(count)).await.unwrap() });
    }
}
