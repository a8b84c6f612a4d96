//! A run of mixed requests of many visitors: nobody gets anything of another's. Everything that a visitor says, is or
//! owns has a mark in it, which stands nowhere but in what is the visitor's own. `DOORSTEP_MARKS` says how many
//! requests there are, `DOORSTEP_SEED` makes a run anew.

mod ask;
mod browser;
mod connections;
mod delivery;
mod disturb;
mod events;
mod http1;
mod http2;
mod identity;
mod judge;
mod ledger;
mod mark;
mod nodes;
mod origin;
mod pages;
mod random;
mod uploads;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use browser::Browser;
use disturb::disturb;
use ledger::Ledger;
use nodes::{Site, World};

/// As many requests as every run of the tests makes.
const USUAL: u64 = 4000;
/// Browsers at one time.
const BROWSERS: u64 = 28;
/// Where the browsers are, one after the other.
const SITES: [Site; 7] = [
    Site::Signed,
    Site::Checked,
    Site::Plain,
    Site::Signed,
    Site::Checked,
    Site::Plain,
    Site::Beside,
];

/// What every run has to show, or it would show nothing.
const SHOWN: [&str; 17] = [
    "page: a user's profile",
    "page: a browser's own profile",
    "snippet as a file: a user's profile",
    "SDK: a user's profile",
    "traits: a user's profile",
    "traits told to the origin",
    "profiles in events",
    "events of somebody who allows little",
    "\"page\" by the edge",
    "\"track\" by the edge",
    "browsers whose user has gone",
    "users who came in another's place",
    "somebody who says to be another: a user's profile",
    "answers to several requests at once",
    "frames of a web socket",
    "connections of HTTP/2",
    "chosen pages that failed",
];

/// A number that the environment says.
fn said(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}: {text}")))
}

/// Tells how a run that has failed is made anew.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- DOORSTEP_SEED={} makes this run anew", self.0);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_what_is_anothers() {
    let most = said("DOORSTEP_MARKS").unwrap_or(USUAL);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = Seed(said("DOORSTEP_SEED").unwrap_or(u64::from(now.subsec_nanos()) ^ now.as_secs()));
    let world = Arc::new(World::start(seed.0, most).await);
    let started = Instant::now();
    let disturbing = tokio::spawn(disturb(Arc::clone(&world)));
    let mut browsers = tokio::task::JoinSet::new();
    for number in 1..=BROWSERS {
        let site = SITES[usize::try_from(number).unwrap() % SITES.len()];
        browsers.spawn(Browser::new(Arc::clone(&world), number, site).run());
    }
    while let Some(ended) = browsers.join_next().await {
        ended.expect("a browser");
    }
    disturbing.await.expect("it ends with the browsers");
    let took = started.elapsed();
    world.catches_up().await;
    world.judge_vendors();
    for edge in &world.edges {
        let fallbacks = edge.metric("doorstep_variation_fallbacks_total", &[]).await;
        if fallbacks > 0.5 {
            world.ledger.saw("chosen pages that failed");
        }
        for (metric, labels) in [
            ("doorstep_panics_total", &[][..]),
            ("doorstep_events_ended_total", &[("end", "refused")]),
            ("doorstep_events_ended_total", &[("end", "expired")]),
            ("doorstep_events_spool_failures_total", &[]),
        ] {
            let value = edge.metric(metric, labels).await;
            if value > 0.5 {
                world.ledger.fault(format!("{metric} {labels:?} is {value}"));
            }
        }
    }
    println!("seed {}: {} requests in {took:?}", seed.0, world.ledger.so_far());
    report(&world.ledger, most);
    leaves_nothing(world);
}

/// What was asked and seen, and whether it was all right.
fn report(ledger: &Ledger, most: u64) {
    let (kinds, seen) = (ledger.kinds(), ledger.seen());
    for (kind, (asked, failed)) in &kinds {
        println!("{asked:>8} {kind}, {failed} failed");
    }
    for (what, times) in &seen {
        println!("{times:>8} {what}");
    }
    for failure in ledger.failures() {
        println!("failed: {failure}");
    }
    let faults = ledger.faults();
    let some = faults.iter().take(5).cloned().collect::<Vec<_>>().join("\n\n");
    assert!(faults.is_empty(), "{} faults, the first:\n{some}", faults.len());
    // While Redis stands still, who sends these is told to send them again.
    let by_the_vendor = |kind: &str| matches!(kind, "push" | "deletion");
    for (kind, (asked, failed)) in kinds.iter().filter(|(kind, _)| !by_the_vendor(kind)) {
        assert!(failed * 20 <= *asked + 20, "{kind}: {failed} of {asked} are not answered");
    }
    if most >= USUAL {
        let missing: Vec<_> = SHOWN.iter().filter(|what| !seen.contains_key(**what)).collect();
        assert!(missing.is_empty(), "nothing is shown of {missing:?}");
    }
}

/// No process and no folder is left.
fn leaves_nothing(world: Arc<World>) {
    let mut left: Vec<PathBuf> = Vec::new();
    for edge in &world.edges {
        left.push(format!("/proc/{}", edge.pid()).into());
        left.push(edge.folder.path().to_owned());
    }
    let server = world.redis.cli(&["INFO", "server"]);
    let pid = server.lines().find_map(|line| line.strip_prefix("process_id:")).expect("its id");
    left.push(format!("/proc/{}", pid.trim()).into());
    let folder = world.redis.cli(&["CONFIG", "GET", "dir"]);
    left.push(folder.lines().last().expect("a folder").into());
    assert!(left.iter().all(|path| path.exists()), "{left:?}");
    drop(Arc::into_inner(world).expect("nobody else has it"));
    left.retain(|path| path.exists());
    assert!(left.is_empty(), "{left:?}");
}
