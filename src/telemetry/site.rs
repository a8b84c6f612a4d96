//! One site's counters, resolved when its configuration is loaded: a request only adds.

use std::sync::OnceLock;

use http::StatusCode;
use prometheus::{Histogram, IntCounter, IntGauge};

use super::metrics::{
    ADDED_SECONDS, CACHE_LOOKUPS, EDITS, EVENTS_ACCEPTED, EVENTS_DROPPED, EVENTS_ENDED,
    EVENTS_OLDEST, EVENTS_PAUSED, EVENTS_REFUSED, EVENTS_RETRIED, EXPERIMENT_PAGES, EXPOSURES,
    FALLBACKS, PAGES, PREVIEWS_REFUSED, PROFILE_UPDATES, REQUEST_SECONDS, REQUESTS, REWRITES,
    RULE_FAILURES, RULE_REFUSALS, UNSIGNED_IDS, UPSTREAM_SECONDS,
};
use super::outcome::{
    AssetLookup, Edits, EventDrop, EventEnd, EventRefusal, Personalization, Rewrite, RouteName,
};

/// Statuses that have a counter of their own; any other counts as `other`.
const STATUSES: [u16; 30] = [
    101, 200, 204, 206, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 408, 409, 410, 413,
    415, 416, 421, 429, 431, 499, 500, 501, 502, 503, 504,
];

/// Those that alerts are about.
const FAILURES: [&str; 4] = ["500", "502", "503", "504"];

/// The counters of one site.
pub struct SiteMetrics {
    site: Box<str>,
    requests: Vec<OnceLock<IntCounter>>,
    seconds: Vec<Histogram>,
    pages: Vec<IntCounter>,
    rewrites: Vec<IntCounter>,
    lookups: Vec<IntCounter>,
    dropped: Vec<IntCounter>,
    refused: Vec<IntCounter>,
    edits: Vec<IntCounter>,
    /// By experiment, then by variant, the last for those held out: pages, exposures.
    experiments: Vec<Vec<(IntCounter, IntCounter)>>,
    /// Time that the edge added to a page.
    pub added: Histogram,
    /// Time to the origin's first byte.
    pub origin: Histogram,
    /// Time to the vendor CDN's first byte.
    pub cdn: Histogram,
    /// Values that could not stand where they would have landed.
    pub rule_refusals: IntCounter,
    /// Chosen pages that failed.
    pub fallbacks: IntCounter,
    /// Events acknowledged.
    pub events_accepted: IntCounter,
}

impl SiteMetrics {
    /// Resolves the counters of `site`, which has `experiments` with these variants.
    #[must_use]
    pub fn new(site: &str, experiments: Vec<(&str, Vec<&str>)>) -> Self {
        // What alerts are about is there before it happens: a counter that is born with 1 has not risen.
        for route in RouteName::ALL {
            for status in FAILURES {
                REQUESTS.with_label_values(&[site, route.label(), status]);
            }
        }
        let upstream = |name| UPSTREAM_SECONDS.with_label_values(&[site, name]);
        Self {
            site: site.into(),
            requests: std::iter::repeat_with(OnceLock::new)
                .take(RouteName::ALL.len() * (STATUSES.len() + 1))
                .collect(),
            seconds: RouteName::ALL
                .iter()
                .map(|route| REQUEST_SECONDS.with_label_values(&[site, route.label()]))
                .collect(),
            pages: Personalization::ALL
                .iter()
                .map(|outcome| PAGES.with_label_values(&[site, outcome.label()]))
                .collect(),
            rewrites: Rewrite::ALL
                .iter()
                .map(|outcome| REWRITES.with_label_values(&[site, outcome.label()]))
                .collect(),
            lookups: AssetLookup::ALL
                .iter()
                .map(|result| CACHE_LOOKUPS.with_label_values(&[site, result.label()]))
                .collect(),
            dropped: EventDrop::ALL
                .iter()
                .map(|reason| EVENTS_DROPPED.with_label_values(&[site, reason.label()]))
                .collect(),
            refused: EventRefusal::ALL
                .iter()
                .map(|reason| EVENTS_REFUSED.with_label_values(&[site, reason.label()]))
                .collect(),
            edits: Edits::ALL
                .iter()
                .map(|outcome| EDITS.with_label_values(&[site, outcome.label()]))
                .collect(),
            experiments: experiments
                .into_iter()
                .map(|(experiment, variants)| {
                    let variants = variants.into_iter().chain([crate::decide::HELD_OUT]);
                    let counters = variants.map(|variant| {
                        let labels = [site, experiment, variant];
                        let pages = EXPERIMENT_PAGES.with_label_values(&labels);
                        (pages, EXPOSURES.with_label_values(&labels))
                    });
                    counters.collect()
                })
                .collect(),
            rule_refusals: RULE_REFUSALS.with_label_values(&[site]),
            fallbacks: FALLBACKS.with_label_values(&[site]),
            added: ADDED_SECONDS.with_label_values(&[site]),
            origin: upstream("origin"),
            cdn: upstream("cdn"),
            events_accepted: EVENTS_ACCEPTED.with_label_values(&[site]),
        }
    }

    /// Counts an answered request.
    pub fn request(&self, route: RouteName, status: StatusCode, seconds: f64) {
        let code = status.as_u16();
        let known = STATUSES.binary_search(&code);
        let column = known.unwrap_or(STATUSES.len());
        if let Some(slot) = self.requests.get(route.index() * (STATUSES.len() + 1) + column) {
            slot.get_or_init(|| {
                let label = known.map_or_else(|_| "other".to_owned(), |_| code.to_string());
                REQUESTS.with_label_values(&[&*self.site, route.label(), &label])
            })
            .inc();
        }
        if let Some(histogram) = self.seconds.get(route.index()) {
            histogram.observe(seconds);
        }
    }

    /// Counts a page's personalisation.
    pub fn page(&self, outcome: Personalization) {
        add(&self.pages, outcome.index());
    }

    /// Counts what became of the snippet.
    pub fn rewrite(&self, outcome: Rewrite) {
        add(&self.rewrites, outcome.index());
    }

    /// Counts a rule that failed at run time, by where it stands in the site's configuration.
    pub fn rule_failed(&self, rule: &str) {
        RULE_FAILURES.with_label_values(&[&*self.site, rule]).inc();
    }

    /// Counts what became of a page's edits.
    pub fn edit(&self, outcome: Edits) {
        add(&self.edits, outcome.index());
    }

    /// Counts a page of an experiment, by the position of the variant; `None` for those held out.
    pub fn experiment_page(&self, experiment: usize, variant: Option<usize>) {
        if let Some((pages, _)) = self.of_variant(experiment, variant) {
            pages.inc();
        }
    }

    /// Counts a report that a visitor has seen a variant.
    pub fn exposure(&self, experiment: usize, variant: Option<usize>) {
        if let Some((_, exposures)) = self.of_variant(experiment, variant) {
            exposures.inc();
        }
    }

    fn of_variant(
        &self,
        experiment: usize,
        variant: Option<usize>,
    ) -> Option<&(IntCounter, IntCounter)> {
        let variants = self.experiments.get(experiment)?;
        variant.map_or_else(|| variants.last(), |variant| variants.get(variant))
    }

    /// Counts a preview link that was not believed.
    pub fn preview_refused(&self, reason: &'static str) {
        PREVIEWS_REFUSED.with_label_values(&[&*self.site, reason]).inc();
    }

    /// Counts a user id that did not count.
    pub fn unsigned_id(&self, reason: &'static str) {
        UNSIGNED_IDS.with_label_values(&[&*self.site, reason]).inc();
    }

    /// Counts an event that was not taken.
    pub fn event_refused(&self, reason: EventRefusal) {
        add(&self.refused, reason.index());
    }

    /// Counts an event that was answered and thrown away.
    pub fn event_dropped(&self, reason: EventDrop) {
        add(&self.dropped, reason.index());
    }

    /// Counts a call of the webhook.
    pub fn profile_update(&self, outcome: &'static str) {
        PROFILE_UPDATES.with_label_values(&[&*self.site, outcome]).inc();
    }

    /// Counts a lookup in the cache of SDK files.
    pub fn lookup(&self, result: AssetLookup) {
        add(&self.lookups, result.index());
    }
}

/// The counters of one site's events for one vendor.
pub struct LaneMetrics {
    ended: Vec<IntCounter>,
    oldest: IntGauge,
    /// Calls to be repeated.
    pub retried: IntCounter,
    /// 1 while the vendor is given a pause.
    pub paused: IntGauge,
    /// Time of a call.
    pub seconds: Histogram,
}

impl LaneMetrics {
    /// Resolves the counters of `site` for `vendor`.
    #[must_use]
    pub fn new(site: &str, vendor: &str) -> Self {
        let ended = EventEnd::ALL.iter();
        Self {
            ended: ended
                .map(|end| EVENTS_ENDED.with_label_values(&[site, vendor, end.label()]))
                .collect(),
            oldest: EVENTS_OLDEST.with_label_values(&[site, vendor]),
            retried: EVENTS_RETRIED.with_label_values(&[site, vendor]),
            paused: EVENTS_PAUSED.with_label_values(&[site, vendor]),
            seconds: UPSTREAM_SECONDS.with_label_values(&[site, vendor]),
        }
    }

    /// Counts events whose way has ended.
    pub fn ended(&self, end: EventEnd, events: usize) {
        if let Some(counter) = self.ended.get(end.index()) {
            counter.inc_by(events as u64);
        }
    }

    /// When the oldest event on its way was taken, in milliseconds since 1970.
    pub fn oldest(&self, at: Option<i64>) {
        self.oldest.set(at.map_or(0, |at| at / 1000));
    }
}

fn add(table: &[IntCounter], index: usize) {
    if let Some(counter) = table.get(index) {
        counter.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_sorted_for_the_search() {
        assert!(STATUSES.is_sorted());
    }
}
