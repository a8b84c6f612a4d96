//! A run of mixed requests of many visitors: nobody gets anything of another's. Everything that a visitor says, is or
//! owns has a mark in it, which stands nowhere but in what is the visitor's own. `DOORSTEP_MARKS` says how many
//! requests there are, `DOORSTEP_SEED` makes a run anew.

mod ask;
mod browser;
mod delivery;
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

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use browser::Browser;
use nodes::{Site, World};

/// As many requests as every run of the tests makes.
const USUAL: u64 = 4000;
/// Browsers at one time.
const BROWSERS: u64 = 24;

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
    let mut browsers = tokio::task::JoinSet::new();
    for number in 1..=BROWSERS {
        let site = SITES[usize::try_from(number).unwrap() % SITES.len()];
        browsers.spawn(Browser::new(Arc::clone(&world), number, site).run());
    }
    while let Some(ended) = browsers.join_next().await {
        ended.expect("a browser");
    }
    println!("{:?}", started.elapsed());
    world.catches_up().await;
    world.judge_vendors();
    for (kind, (asked, failed)) in world.ledger.kinds() {
        println!("{asked:>8} {kind}, {failed} failed");
    }
    for (what, times) in world.ledger.seen() {
        println!("{times:>8} {what}");
    }
    let faults = world.ledger.faults();
    assert!(
        faults.is_empty(),
        "{} faults, the first:\n{}",
        faults.len(),
        faults[..faults.len().min(5)].join("\n\n")
    );
}
