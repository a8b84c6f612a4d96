//! The decisions about one page, before the origin is asked: who asks, what is known, what is shown.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures::FutureExt;
use pingora::http::RequestHeader;
use pingora_proxy::Session;
use serde_json::{Map, Value, json};

use super::Edge;
use super::confirm::Confirmation;
use super::context::{Context, Page};
use super::limits::household;
use super::preview::Given;
use super::who::Who;
use crate::decide::{Asking, Consent, Decision, Facts, Trace, Wants, told};
use crate::identity::{AnonymousId, Confirmed, UserId, Visitor};
use crate::profile::source::Asker;
use crate::profile::{Lookup, Whose};
use crate::site::{Site, normal_path};
use crate::telemetry::{Feature, Personalization};

/// The most bytes of an answer's explanation: headers of answers are bounded on their way.
const MAX_EXPLAINED: usize = 6000;

impl Edge {
    /// Decides everything about a page before the origin is asked. Whatever fails here, the page
    /// goes on as the origin has it.
    pub(super) async fn decide(
        &self,
        session: &Session,
        site: &Site,
        path: &str,
        page: &mut Page,
        context: &Context,
    ) {
        let request = session.req_header();
        let deciding = self.personalise(request, site, path, page, context);
        if AssertUnwindSafe(deciding).catch_unwind().await.is_err() {
            crate::telemetry::metrics::PANICS.with_label_values(&[Feature::Decision.label()]).inc();
            page.decision = None;
            page.outcome = Some(Personalization::Late);
        }
    }

    /// What is known of a visitor, as soon as a page may wait for it. `None` for nobody.
    pub(super) async fn look_up(
        &self,
        site: &Site,
        known: &Confirmed,
        context: &Context,
    ) -> Option<Lookup> {
        let whose = Whose::of(&site.name, known)?;
        let network = context.client.address.map(household).unwrap_or_default();
        let asker = if known.is_vouched() { Asker::Vouched } else { Asker::Stranger(network) };
        let source = site.source.as_ref().map(|source| (source, asker));
        Some(self.profiles.find(&whose, source, context.snapshot.profile_wait).await)
    }

    /// Asks the site's check about a page on which nothing else is decided.
    pub(super) async fn check_page(
        &self,
        session: &Session,
        site: &Site,
        page: &mut Page,
        context: &Context,
    ) {
        let request = session.req_header();
        let who = page.who.get_or_insert_with(|| self.who(site, request, context));
        let Confirmation { known, verdict, .. } = self.confirmed(site, request, context, who).await;
        (page.known, page.verdict) = (known, verdict);
    }

    async fn personalise(
        &self,
        request: &RequestHeader,
        site: &Site,
        path: &str,
        page: &mut Page,
        context: &Context,
    ) {
        let began = Instant::now();
        let asked = self.asked(request, path, context);
        let who = page.who.take().unwrap_or_else(|| self.who(site, request, context));
        // A newcomer takes part from the first page on.
        let who = if page.form.is_document() { who.minted(site) } else { who };
        let Confirmation { known, verdict, .. } =
            self.confirmed(site, request, context, &who).await;
        page.verdict = verdict;
        let looked = Instant::now();
        let lookup = self.look_up(site, &known, context).await;
        let looked = looked.elapsed();
        let profile = lookup.as_ref().and_then(Lookup::known);
        let mut facts = Facts::new(known.visitor(), profile, &asked).with_consent(who.consent);
        let given = page.given.get_or_insert_with(|| Box::new(Given::of(site, request)));
        if who.resets {
            given.keep_nothing();
        }
        let mut trace = given.explains().then(Trace::new);
        let html = page.form.can_change();
        let wants = Wants { html, page: page.form.is_page(), safe: page.safe };
        let earlier = &**given;
        let asking = Asking { site: &site.name, wants, earlier, deciders: &self.deciders };
        let decision = site.rules.decide(&page.concerned, &mut facts, &asking, trace.as_mut());
        count(site, &decision);
        page.stale = matches!(&lookup, Some(Lookup::Found(found)) if found.stale);
        page.outcome = Some(match &lookup {
            _ if decision.is_personal() => Personalization::Personalized,
            None => Personalization::Anonymous,
            Some(Lookup::Found(_)) => Personalization::Default,
            // A browser's own id with nothing behind it is nobody yet.
            Some(Lookup::Missing) if known.user().is_none() => Personalization::Anonymous,
            Some(Lookup::Missing) => Personalization::Unknown,
            Some(Lookup::Late | Lookup::Failed) => Personalization::Late,
        });
        if let Some(trace) = trace {
            // Whoever has the link could say any id: what is known of it is told to its owner alone.
            let tells = known.is_vouched() || profile.is_none();
            let profile = match &lookup {
                None => "nobody",
                Some(Lookup::Found(found)) if found.stale => "found, stale",
                Some(Lookup::Found(_)) => "found",
                Some(Lookup::Missing) => "none",
                Some(Lookup::Late) => "late",
                Some(Lookup::Failed) => "failed",
            };
            let all = explained(&Explained {
                site,
                path,
                own: &who.visitor,
                known_as: known.visitor(),
                consent: who.consent,
                profile,
                age: lookup.as_ref().and_then(|lookup| self.profiles.age(lookup)),
                looked,
                took: began.elapsed(),
                decision: &decision,
                rules: if tells { trace.told() } else { withheld() },
            });
            page.explained = Some(all);
        }
        drop(facts);
        page.is_known = is_known(lookup.as_ref());
        page.known = known;
        page.who = Some(who);
        page.decision = Some(Box::new(decision));
    }

    /// The client traits and flags of a page that is not on its way: for the snippet as a file and for
    /// `{prefix}/traits`, which the page's URL comes with as their referrer.
    pub(super) async fn client_traits(
        &self,
        session: &Session,
        context: &Context,
        site: &Site,
        (who, known): (&Who, &Confirmed),
    ) -> Handed {
        // Traits say who somebody is.
        if who.consent != Consent::Given {
            return Handed::nothing();
        }
        let request = session.req_header();
        let page = referring(request, context.authority.as_str());
        let path = page.as_deref().unwrap_or_else(|| request.uri.path());
        let wants = Wants::PAGE;
        let mut concerned = site.rules.concerning(&site.name, path, wants, &self.deciders);
        if !concerned.personal {
            return Handed::nothing();
        }
        concerned.leave_elements();
        let lookup = self.look_up(site, known, context).await;
        let profile = lookup.as_ref().and_then(Lookup::known);
        let asked = self.asked(request, path, context);
        let mut facts = Facts::new(known.visitor(), profile, &asked).with_consent(who.consent);
        let mut given = Given::of(site, request);
        if who.resets {
            given.keep_nothing();
        }
        let deciders = &self.deciders;
        let asking = Asking { site: &site.name, wants, earlier: &given, deciders };
        let decided = crate::telemetry::guard(Feature::Decision, || {
            site.rules.decide(&concerned, &mut facts, &asking, None)
        });
        let is_known = decided.is_some() && is_known(lookup.as_ref());
        let decision = decided.unwrap_or_default();
        count(site, &decision);
        let flags = flags(site, &decision);
        Handed { traits: is_known.then_some(decision.traits), flags }
    }
}

/// What a page is handed of its visitor.
#[derive(Debug, Default)]
pub(super) struct Handed {
    /// `None` where it is not known what there is to hand over: what the page has from before stays.
    pub(super) traits: Option<Map<String, Value>>,
    /// Variants by experiment.
    pub(super) flags: Map<String, Value>,
}

impl Handed {
    /// There is nothing to hand over, for certain.
    pub(super) fn nothing() -> Self {
        Self { traits: Some(Map::new()), flags: Map::new() }
    }
}

/// Whether a lookup has said what there is: nobody is known for certain, too.
fn is_known(lookup: Option<&Lookup>) -> bool {
    !matches!(lookup, Some(Lookup::Late | Lookup::Failed))
}

/// The variants that a page may know of.
pub(super) fn flags(site: &Site, decision: &Decision) -> Map<String, Value> {
    let assigned = decision.assigned.iter().filter(|assigned| assigned.variant.is_some());
    let flags = assigned.filter_map(|assigned| {
        let experiment = site.rules.experiments.all().get(assigned.experiment)?;
        let variant = experiment.variant_name(assigned.variant);
        Some((experiment.key.as_str().to_owned(), variant.into()))
    });
    flags.collect()
}

fn count(site: &Site, decision: &Decision) {
    for rule in &decision.failed {
        site.metrics.rule_failed(rule);
    }
    if decision.refused > 0 {
        site.metrics.rule_refusals.inc_by(decision.refused as u64);
    }
}

/// The path of the page that refers to this request, where it is one of this host.
fn referring(request: &RequestHeader, host: &str) -> Option<String> {
    let referrer = request.headers.get(http::header::REFERER)?.to_str().ok()?;
    let uri: http::Uri = referrer.parse().ok()?;
    let same = uri.authority().is_some_and(|authority| authority.as_str() == host);
    normal_path(uri.path()).filter(|_| same).map(std::borrow::Cow::into_owned)
}

/// All that there is to tell of a decision.
struct Explained<'e> {
    site: &'e Site,
    path: &'e str,
    own: &'e Visitor,
    known_as: &'e Visitor,
    consent: Consent,
    profile: &'e str,
    age: Option<Duration>,
    looked: Duration,
    took: Duration,
    decision: &'e Decision,
    rules: Vec<Value>,
}

/// As a header has it: ASCII, and not too long.
fn explained(all: &Explained<'_>) -> String {
    let micros = |took: Duration| (took.as_secs_f64() * 1e7).round() / 10.0;
    let mut out = json!({
        "site": &*all.site.name,
        "path": all.path,
        "user_id": all.known_as.user.as_ref().map(UserId::as_str),
        "unsigned_user_id": all.own.user.as_ref().filter(|id| all.known_as.user.as_ref() != Some(*id)).map(UserId::as_str),
        "anonymous_id": all.own.anonymous.as_ref().map(AnonymousId::as_str),
        "consent": all.consent.label(),
        "profile": all.profile,
        // What is older than the question was remembered.
        "profile_tier": all.age.map(|age| if age > all.took { "memory" } else { "store" }),
        "profile_age_s": all.age.map(|age| age.as_secs()),
        "profile_us": micros(all.looked),
        "page": all.decision.target.as_ref().map(told),
        "edits": all.decision.edits.len(),
        "rules": all.rules,
        "us": micros(all.took),
    });
    let mut text = ascii(&out);
    while text.len() > MAX_EXPLAINED {
        // Rules go from the end on; that some did is told.
        let Some(rules) = out.get_mut("rules").and_then(Value::as_array_mut) else { break };
        if rules.pop().is_none() {
            return "{\"error\":\"too long\"}".to_owned();
        }
        if let Some(out) = out.as_object_mut() {
            out.insert("more_rules".into(), true.into());
        }
        text = ascii(&out);
    }
    text
}

/// In the place of rules whose outcomes would tell what is known of somebody.
fn withheld() -> Vec<Value> {
    vec![
        json!({ "rule": "all", "outcome": "told where the user is vouched for (`identity.signed`)" }),
    ]
}

fn ascii(value: &Value) -> String {
    let mut out = String::new();
    crate::html::push_script_json(&mut out, &value.to_string());
    out
}
