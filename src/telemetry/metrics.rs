//! Every metric of a node, declared once: the help text is its documentation.
//! Labels are closed lists or names from the configuration, never what a visitor sends.

use std::sync::LazyLock;

use super::outcome::Feature;
use prometheus::core::Collector;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::new);

/// Times from 50 µs to 10 s.
const SECONDS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0,
];
/// Times from 1 µs to 100 ms, for what should take microseconds.
const SHORT_SECONDS: &[f64] = &[
    0.000_001,
    0.000_002_5,
    0.000_005,
    0.000_01,
    0.000_025,
    0.000_05,
    0.000_1,
    0.000_25,
    0.000_5,
    0.001,
    0.002_5,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
];

/// Registers `metric`. Names and labels are constants of this file, held by a test.
#[allow(clippy::expect_used, reason = "constants of this file: a test makes every one of them")]
fn register<M: Collector + Clone + 'static>(metric: prometheus::Result<M>) -> M {
    let metric = metric.expect("a metric's name and labels are valid");
    REGISTRY.register(Box::new(metric.clone())).expect("a metric is declared once");
    metric
}

macro_rules! counter {
    ($name:literal, $help:literal) => {
        LazyLock::new(|| register(IntCounter::new(concat!("doorstep_", $name), $help)))
    };
    ($name:literal, $help:literal, $($label:literal),+) => {
        LazyLock::new(|| {
            register(IntCounterVec::new(Opts::new(concat!("doorstep_", $name), $help), &[$($label),+]))
        })
    };
}
macro_rules! gauge {
    ($name:literal, $help:literal) => {
        LazyLock::new(|| register(IntGauge::new(concat!("doorstep_", $name), $help)))
    };
    ($name:literal, $help:literal, $($label:literal),+) => {
        LazyLock::new(|| {
            register(IntGaugeVec::new(Opts::new(concat!("doorstep_", $name), $help), &[$($label),+]))
        })
    };
}
macro_rules! histogram {
    ($name:literal, $help:literal, $buckets:expr) => {
        LazyLock::new(|| {
            let options = HistogramOpts::new(concat!("doorstep_", $name), $help);
            register(Histogram::with_opts(options.buckets($buckets.to_vec())))
        })
    };
    ($name:literal, $help:literal, $buckets:expr, $($label:literal),+) => {
        LazyLock::new(|| {
            let options = HistogramOpts::new(concat!("doorstep_", $name), $help);
            register(HistogramVec::new(options.buckets($buckets.to_vec()), &[$($label),+]))
        })
    };
}

type Counters = LazyLock<IntCounterVec>;
type Histograms = LazyLock<HistogramVec>;

/// Requests by site, route and status.
pub static REQUESTS: Counters = counter!(
    "requests_total",
    "Requests answered, by site, route (page, asset, event, webhook, visitor, other) and status.",
    "site",
    "route",
    "status"
);
/// Time from a request's header to the end of its answer.
pub static REQUEST_SECONDS: Histograms = histogram!(
    "request_duration_seconds",
    "Time from a request's header to the end of its answer, by site and route.",
    SECONDS,
    "site",
    "route"
);
/// Time an upstream took to the first byte.
pub static UPSTREAM_SECONDS: Histograms = histogram!(
    "upstream_duration_seconds",
    "Time from asking an upstream (origin, cdn, or a vendor's API by the vendor's name) to its answer.",
    SECONDS,
    "site",
    "upstream"
);
/// What the edge itself costs a page.
pub static ADDED_SECONDS: Histograms = histogram!(
    "added_duration_seconds",
    "Time that the edge itself added to a page: identity, profile, decisions, rewriting.",
    SHORT_SECONDS,
    "site"
);
/// Requests at the moment.
pub static IN_FLIGHT: LazyLock<IntGauge> =
    gauge!("requests_in_flight", "Requests that are being answered.");
/// Requests refused because they are malformed or too large.
pub static REJECTED: Counters = counter!(
    "requests_rejected_total",
    "Requests refused before anything else looked at them, by the rule that they broke.",
    "rule"
);
/// Pages by what became of their personalisation.
pub static PAGES: Counters = counter!(
    "personalization_total",
    "HTML pages by what became of their personalisation; each counts once. Hit rate: `personalized` \
     over `personalized`, `fell_back`, `default`, `unknown` and `late`, which are the identified visitors.",
    "site",
    "outcome"
);
/// Rules that failed at run time.
pub static RULE_FAILURES: Counters = counter!(
    "rule_failures_total",
    "Expressions that failed at run time and counted as false, by where they stand in the site's \
     configuration.",
    "site",
    "rule"
);
/// Values that were not put into a page.
pub static RULE_REFUSALS: Counters = counter!(
    "rule_refusals_total",
    "Rewrite rules left out because a value can't stand where it would have landed.",
    "site"
);
/// Changes of pages.
pub static EDITS: Counters = counter!(
    "html_edits_total",
    "HTML pages with rewrite rules for their visitor, by what became of them.",
    "site",
    "outcome"
);
/// Variations that failed.
pub static FALLBACKS: Counters = counter!(
    "variation_fallbacks_total",
    "Pages chosen for a visitor that failed, so that the page that everybody gets was shown.",
    "site"
);
/// Pages of experiments.
pub static EXPERIMENT_PAGES: Counters = counter!(
    "experiment_pages_total",
    "Pages delivered to visitors who take part in an experiment, by variant.",
    "site",
    "experiment",
    "variant"
);
/// Reports of who saw what.
pub static EXPOSURES: Counters = counter!(
    "exposures_total",
    "First sights of a variant by a visitor, reported to the vendor.",
    "site",
    "experiment",
    "variant"
);
/// Preview links that were not believed.
pub static PREVIEWS_REFUSED: Counters = counter!(
    "previews_refused_total",
    "Preview links that were not believed, by reason: malformed, forged, expired, other_site.",
    "site",
    "reason"
);
/// User ids that nobody has vouched for.
pub static UNSIGNED_IDS: Counters = counter!(
    "unsigned_ids_total",
    "Pages whose user id did not count, because it is not signed or its signature is wrong.",
    "site",
    "reason"
);
/// Profile lookups.
pub static PROFILE_LOOKUPS: Counters =
    counter!("profile_lookups_total", "Profile lookups by tier and result.", "tier", "result");
/// Time of profile lookups.
pub static PROFILE_SECONDS: Histograms = histogram!(
    "profile_lookup_duration_seconds",
    "Time of profile lookups by tier.",
    SHORT_SECONDS,
    "tier"
);
/// From a write to when it is heard of.
pub static PROFILE_PROPAGATION: LazyLock<Histogram> = histogram!(
    "profile_propagation_seconds",
    "Time from a profile's write to Redis until this node heard of it as every other node does, \
     measured with its own writes.",
    SECONDS
);
/// Whether changes by other nodes are heard of.
pub static PROFILE_CHANNEL: LazyLock<IntGauge> = gauge!(
    "profile_channel_up",
    "1 while changes of profiles by others are heard of; at 0 the store is asked for every page."
);
/// Whether a source is given a pause.
pub static PROFILE_SOURCE_PAUSED: LazyLock<IntGaugeVec> = gauge!(
    "profile_source_paused",
    "1 while a site's profile source is not asked, because it failed or asked for a pause.",
    "site"
);
/// What the embedded store holds.
pub static PROFILE_STORE_USED: LazyLock<IntGauge> = gauge!(
    "profile_store_used_bytes",
    "Bytes of the embedded profile store that are in use, free room inside of the file not counted."
);
/// What the embedded store may hold.
pub static PROFILE_STORE_SIZE: LazyLock<IntGauge> = gauge!(
    "profile_store_size_bytes",
    "Most bytes of the embedded profile store (`data.size`); 0 with another store."
);
/// When certificates end.
pub static CERTIFICATES: LazyLock<IntGaugeVec> = gauge!(
    "certificate_expiry_seconds",
    "When a certificate that is served ends, in seconds since 1970, by its file.",
    "certificate"
);
/// Pushes of profiles.
pub static PROFILE_UPDATES: Counters = counter!(
    "profile_updates_total",
    "Pushed profile updates by outcome: merged, deleted, refused, unauthorized, failed.",
    "site",
    "outcome"
);
/// Connections of visitors.
pub static CONNECTIONS: LazyLock<IntGauge> =
    gauge!("connections", "Connections that visitors hold at the moment.");
/// Connections that were one too many.
pub static CONNECTIONS_REFUSED: Counters = counter!(
    "connections_refused_total",
    "Connections closed at once: one too many in all, or of one client.",
    "bound"
);
/// What of answers waits for visitors to read it.
pub static UNREAD_BYTES: LazyLock<IntGauge> =
    gauge!("unread_bytes", "Bytes of answers that wait for their visitors to read them.");
/// Answers for which there was no room.
pub static ANSWERS_REFUSED: Counters = counter!(
    "answers_refused_total",
    "Answers given up because too much was unread: in all, or by one client.",
    "bound"
);
/// Lines of a log that its output did not take, or not in time.
pub static LOG_LINES_LOST: Counters = counter!(
    "log_lines_lost_total",
    "Lines of a log that its output did not take, or not in time.",
    "log"
);
/// Events taken from browsers.
pub static EVENTS_ACCEPTED: Counters =
    counter!("events_accepted_total", "Events acknowledged to browsers.", "site");
/// Events not taken.
pub static EVENTS_REFUSED: Counters = counter!(
    "events_refused_total",
    "Events not taken from browsers, by reason.",
    "site",
    "reason"
);
/// Where events ended.
pub static EVENTS_ENDED: Counters = counter!(
    "events_ended_total",
    "Events whose way has ended: delivered, or put aside as refused or expired.",
    "site",
    "vendor",
    "end"
);
/// Repeated deliveries.
pub static EVENTS_RETRIED: Counters =
    counter!("events_retried_total", "Calls to a vendor that will be repeated.", "site", "vendor");
/// Events that nobody wanted taken.
pub static EVENTS_DROPPED: Counters = counter!(
    "events_dropped_total",
    "Events answered and thrown away, by reason: consent, bot, report (an SDK's about itself).",
    "site",
    "reason"
);
/// Bytes of the spool.
pub static EVENTS_BYTES: LazyLock<IntGauge> =
    gauge!("events_spool_bytes", "Bytes of the event spool on the disk.");
/// Number of waiting events.
pub static EVENTS_WAITING: LazyLock<IntGauge> =
    gauge!("events_waiting", "Events that wait in the spool for their vendor.");
/// Room for waiting events.
pub static EVENTS_CAPACITY: LazyLock<IntGauge> =
    gauge!("events_spool_capacity_bytes", "Most bytes of the event spool (`events.disk`).");
/// Events that nobody delivers.
pub static EVENTS_STRANDED: LazyLock<IntGauge> = gauge!(
    "events_stranded",
    "Events that wait for a site or vendor that the configuration does not name, when it was taken."
);
/// Age of the spool.
pub static EVENTS_OLDEST: LazyLock<IntGaugeVec> = gauge!(
    "events_oldest_timestamp_seconds",
    "When the oldest event on its way was taken, in seconds since 1970; 0 where none is.",
    "site",
    "vendor"
);
/// Whether a vendor is given a pause.
pub static EVENTS_PAUSED: LazyLock<IntGaugeVec> = gauge!(
    "events_paused",
    "1 while a vendor fails or has asked for a pause, and is tried with one call at a time.",
    "site",
    "vendor"
);
/// Damage.
pub static EVENTS_DAMAGED: LazyLock<IntCounter> = counter!(
    "events_spool_damaged_bytes_total",
    "Bytes of the event spool that could not be read back, as after a loss of power."
);
/// Failures of the disk.
pub static SPOOL_FAILURES: LazyLock<IntCounter> = counter!(
    "events_spool_failures_total",
    "Writes or syncs of the event spool that failed; their events were not acknowledged."
);
/// The snippet in pages.
pub static REWRITES: Counters =
    counter!("html_rewrites_total", "HTML pages by what became of the snippet.", "site", "outcome");
/// The cache of SDK files.
pub static CACHE_LOOKUPS: Counters = counter!(
    "cache_lookups_total",
    "Lookups of SDK files in the cache by result.",
    "site",
    "result"
);
/// Bytes in the cache.
pub static CACHE_BYTES: LazyLock<IntGauge> =
    gauge!("cache_bytes", "Bytes of SDK files in the cache.");
/// Room in the cache.
pub static CACHE_CAPACITY: LazyLock<IntGauge> =
    gauge!("cache_capacity_bytes", "Most bytes of SDK files in the cache.");
/// Files thrown out of the cache.
pub static CACHE_EVICTIONS: LazyLock<IntCounter> =
    counter!("cache_evictions_total", "SDK files thrown out of the cache for want of room.");
/// When the running configuration was loaded.
pub static CONFIG_LOADED: LazyLock<IntGauge> = gauge!(
    "config_loaded_timestamp_seconds",
    "When the running configuration was loaded, in seconds since 1970."
);
/// How the last reload ended.
pub static RELOAD_SUCCESSFUL: LazyLock<IntGauge> = gauge!(
    "config_last_reload_successful",
    "1 where the last configuration that was to be taken has been, 0 where it was refused."
);
/// When that was.
pub static RELOAD_SECONDS: LazyLock<IntGauge> = gauge!(
    "config_last_reload_seconds",
    "When a configuration was last to be taken, in seconds since 1970."
);
/// Which configuration runs.
pub static CONFIG_INFO: LazyLock<IntGaugeVec> =
    gauge!("config_info", "Always 1; the label tells the running configuration's hash.", "hash");
/// Panics.
pub static PANICS: Counters =
    counter!("panics_total", "Panics caught, by the feature whose step was lost.", "feature");
/// What runs.
pub static BUILD: LazyLock<IntGaugeVec> =
    gauge!("build_info", "Always 1; the label tells the version.", "version");

/// Makes every metric, so that they show from the first scrape.
pub fn declare() {
    let counters: [&Counters; 20] = [
        &RULE_REFUSALS,
        &EDITS,
        &FALLBACKS,
        &EXPERIMENT_PAGES,
        &EXPOSURES,
        &PREVIEWS_REFUSED,
        &UNSIGNED_IDS,
        &REQUESTS,
        &REJECTED,
        &PAGES,
        &RULE_FAILURES,
        &PROFILE_LOOKUPS,
        &PROFILE_UPDATES,
        &EVENTS_ACCEPTED,
        &EVENTS_REFUSED,
        &EVENTS_ENDED,
        &EVENTS_RETRIED,
        &EVENTS_DROPPED,
        &REWRITES,
        &CACHE_LOOKUPS,
    ];
    for counter in counters {
        LazyLock::force(counter);
    }
    for histogram in [&REQUEST_SECONDS, &UPSTREAM_SECONDS, &ADDED_SECONDS, &PROFILE_SECONDS] {
        LazyLock::force(histogram);
    }
    for gauge in [
        &IN_FLIGHT,
        &EVENTS_BYTES,
        &EVENTS_WAITING,
        &EVENTS_CAPACITY,
        &EVENTS_STRANDED,
        &CACHE_BYTES,
        &CACHE_CAPACITY,
        &CONFIG_LOADED,
        &PROFILE_CHANNEL,
        &PROFILE_STORE_USED,
        &PROFILE_STORE_SIZE,
    ] {
        LazyLock::force(gauge);
    }
    LazyLock::force(&PROFILE_PROPAGATION);
    LazyLock::force(&PROFILE_SOURCE_PAUSED);
    LazyLock::force(&CERTIFICATES);
    LazyLock::force(&EVENTS_OLDEST);
    LazyLock::force(&EVENTS_PAUSED);
    for counter in [&CACHE_EVICTIONS, &EVENTS_DAMAGED, &SPOOL_FAILURES] {
        LazyLock::force(counter);
    }
    for log in ["node", "access"] {
        LOG_LINES_LOST.with_label_values(&[log]);
    }
    for bound in ["all", "client"] {
        CONNECTIONS_REFUSED.with_label_values(&[bound]);
        ANSWERS_REFUSED.with_label_values(&[bound]);
    }
    for gauge in [&CONNECTIONS, &UNREAD_BYTES, &RELOAD_SUCCESSFUL, &RELOAD_SECONDS] {
        LazyLock::force(gauge);
    }
    LazyLock::force(&CONFIG_INFO);
    for feature in Feature::ALL {
        PANICS.with_label_values(&[feature.label()]);
    }
    BUILD.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    LazyLock::force(&PROCESS);
}

/// Memory, processor and file descriptors of the process, under their usual names.
static PROCESS: LazyLock<()> = LazyLock::new(|| {
    let process = prometheus::process_collector::ProcessCollector::for_self();
    // Registered once; a second registration could only mean that it is there.
    let _ = REGISTRY.register(Box::new(process));
});

/// All metrics in Prometheus' text format.
#[must_use]
pub fn render() -> Vec<u8> {
    let mut out = Vec::with_capacity(32 * 1024);
    if let Err(error) = TextEncoder::new().encode(&REGISTRY.gather(), &mut out) {
        tracing::error!(%error, "metrics could not be written");
    }
    out
}

/// Names of all metrics that have been declared, as they are exposed.
#[must_use]
pub fn names() -> Vec<String> {
    declare();
    let mut names: Vec<String> = Vec::new();
    let descriptions: [Vec<&prometheus::core::Desc>; 43] = [
        RULE_REFUSALS.desc(),
        EDITS.desc(),
        FALLBACKS.desc(),
        EXPERIMENT_PAGES.desc(),
        EXPOSURES.desc(),
        PREVIEWS_REFUSED.desc(),
        UNSIGNED_IDS.desc(),
        REQUESTS.desc(),
        REQUEST_SECONDS.desc(),
        UPSTREAM_SECONDS.desc(),
        ADDED_SECONDS.desc(),
        IN_FLIGHT.desc(),
        REJECTED.desc(),
        PAGES.desc(),
        RULE_FAILURES.desc(),
        PROFILE_LOOKUPS.desc(),
        PROFILE_SECONDS.desc(),
        PROFILE_UPDATES.desc(),
        PROFILE_PROPAGATION.desc(),
        PROFILE_CHANNEL.desc(),
        PROFILE_SOURCE_PAUSED.desc(),
        PROFILE_STORE_USED.desc(),
        PROFILE_STORE_SIZE.desc(),
        CERTIFICATES.desc(),
        EVENTS_ACCEPTED.desc(),
        EVENTS_REFUSED.desc(),
        EVENTS_ENDED.desc(),
        EVENTS_RETRIED.desc(),
        EVENTS_BYTES.desc(),
        EVENTS_WAITING.desc(),
        EVENTS_CAPACITY.desc(),
        EVENTS_STRANDED.desc(),
        EVENTS_DROPPED.desc(),
        EVENTS_OLDEST.desc(),
        EVENTS_PAUSED.desc(),
        EVENTS_DAMAGED.desc(),
        SPOOL_FAILURES.desc(),
        REWRITES.desc(),
        CACHE_LOOKUPS.desc(),
        CACHE_BYTES.desc(),
        CACHE_CAPACITY.desc(),
        CACHE_EVICTIONS.desc(),
        PANICS.desc(),
    ];
    names.extend(descriptions.iter().flatten().map(|desc| desc.fq_name.clone()));
    for desc in [
        CONNECTIONS.desc(),
        CONNECTIONS_REFUSED.desc(),
        UNREAD_BYTES.desc(),
        ANSWERS_REFUSED.desc(),
        LOG_LINES_LOST.desc(),
        RELOAD_SUCCESSFUL.desc(),
        RELOAD_SECONDS.desc(),
        CONFIG_INFO.desc(),
    ] {
        names.extend(desc.iter().map(|desc| desc.fq_name.clone()));
    }
    names.extend(CONFIG_LOADED.desc().iter().map(|desc| desc.fq_name.clone()));
    names.extend(BUILD.desc().iter().map(|desc| desc.fq_name.clone()));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_can_be_made_and_shows_itself() {
        declare();
        let text = String::from_utf8(render()).unwrap();
        assert!(text.contains("doorstep_requests_in_flight 0"), "{text}");
        assert!(names().iter().all(|name| name.starts_with("doorstep_")));
    }
}
