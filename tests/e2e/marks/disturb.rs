//! What goes wrong around the nodes meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::nodes::World;

/// A vendor fails once in so many requests, for so many.
const VENDOR_FAILS: (u64, u64) = (1500, 200);
/// Redis stands still once in so many requests: at least for that long all that waits for it is slow.
const REDIS_STOPS: u64 = 20_000;

/// Until the browsers have ended. Then everything works again.
pub(super) async fn disturb(world: Arc<World>) {
    let (mut fails, mut stops) = (VENDOR_FAILS.0, REDIS_STOPS);
    while world.ledger.goes_on(world.most) {
        let so_far = world.ledger.so_far();
        let failing = fails <= so_far && so_far < fails + VENDOR_FAILS.1;
        if so_far >= fails + VENDOR_FAILS.1 {
            fails += VENDOR_FAILS.0;
        }
        for (vendor, status) in [(&world.segment, 503), (&world.rudderstack, 429)] {
            let status = if failing { status } else { 0 };
            vendor.mood.api_status.store(status, Ordering::SeqCst);
        }
        if so_far >= stops {
            stops += REDIS_STOPS;
            stop_redis(&world).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for vendor in [&world.segment, &world.rudderstack] {
        vendor.mood.api_status.store(0, Ordering::SeqCst);
    }
}

/// Until the nodes notice that they hear nothing any more.
async fn stop_redis(world: &World) {
    world.redis.signal(Signal::SIGSTOP);
    let stopped = Instant::now();
    while stopped.elapsed() < Duration::from_secs(10)
        && world.edges[0].metric("doorstep_profile_channel_up", &[]).await > 0.5
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.redis.signal(Signal::SIGCONT);
    world.ledger.saw("times that Redis stood still");
}
