//! Who has seen which variant: told once to the vendors, with the ids that the browser's own events have.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::{Method, StatusCode, Uri, header};
use pingora::Result;
use pingora_proxy::Session;
use serde_json::{Value, json};
use tinyufo::TinyUfo;
use xxhash_rust::xxh3::xxh3_128;

use super::Edge;
use super::answer::{Answer, read_body};
use super::context::Context;
use super::event::refused;
use super::limits::To;
use super::page_view::{Page, about};
use super::preview::{Given, without_token};
use super::visitor::admitted;
use crate::decide::{Assigned, Consent, Decision, Kept, Why};
use crate::identity::{AnonymousId, Confirmed, UserId, Visitor};
use crate::profile::{Update, now_millis, written_by};
use crate::site::{Exposures, Site};
use crate::vendor::Kind;

/// The variants that a visitor sees on a page.
pub(super) struct Sights {
    visitor: Visitor,
    /// How far it counts who that is: whose profile may be written.
    known: Confirmed,
    all: Vec<Sight>,
}

/// One of them.
struct Sight {
    assigned: Assigned,
    message: u128,
    /// It has been told.
    told: bool,
}

/// What this node has told. The browser's cookie says the same from the next page on, so that what is
/// forgotten here is told again only to visitors of one page; a vendor knows the message by its id.
pub(super) struct Seen(LazyLock<TinyUfo<u128, ()>>);

/// About 100 bytes each.
const MAX_SEEN: usize = 100_000;

impl Default for Seen {
    fn default() -> Self {
        // Made at the first use: most nodes have no experiments.
        Self(LazyLock::new(|| TinyUfo::new(MAX_SEEN, MAX_SEEN)))
    }
}

impl Seen {
    fn knows(&self, message: u128) -> bool {
        self.0.get(&message).is_some()
    }

    /// What `decision` has a visitor see, and the variants that the browser is to keep.
    pub(super) fn sights(
        &self,
        site: &Site,
        decision: &Decision,
        kept: &Kept,
        (visitor, known): (&Visitor, &Confirmed),
    ) -> (Kept, Option<Sights>) {
        let (mut kept, mut all) = (kept.clone(), Vec::new());
        let experiments = site.rules.experiments.all();
        kept.retain(|key| experiments.iter().any(|experiment| experiment.key == *key));
        for assigned in &decision.assigned {
            let Some(experiment) = experiments.get(assigned.experiment) else { continue };
            if !assigned.why.counts() {
                continue;
            }
            let name = experiment.variant_name(assigned.variant);
            let Some(message) = message(site, visitor, experiment.key.as_str(), name) else {
                continue;
            };
            let told = kept.is_told(&experiment.key, name) || self.knows(message);
            if experiment.by_cookie {
                kept.keep(&experiment.key, name, told);
            }
            all.push(Sight { assigned: *assigned, message, told });
        }
        let sights = (!all.is_empty()).then(|| Sights {
            visitor: visitor.clone(),
            known: known.clone(),
            all,
        });
        (kept, sights)
    }
}

impl Seen {
    /// What a page that was fetched ahead says is seen now, of what the browser has kept.
    fn named(
        &self,
        site: &Site,
        named: &BTreeMap<String, String>,
        kept: &Kept,
        (visitor, known): (&Visitor, &Confirmed),
    ) -> (Kept, Option<Sights>) {
        let (mut kept, mut all) = (kept.clone(), Vec::new());
        for (index, experiment) in site.rules.experiments.all().iter().enumerate() {
            let Some(name) = named.get(experiment.key.as_str()) else { continue };
            let variant = experiment.variants.iter().position(|one| one.name.as_str() == name);
            let is_kept = kept.variant(&experiment.key) == Some(name);
            let is_theirs = variant.is_some() && (is_kept || !experiment.by_cookie);
            let message = message(site, visitor, experiment.key.as_str(), name);
            let Some(message) = message.filter(|_| is_theirs) else { continue };
            let told = kept.is_told(&experiment.key, name) || self.knows(message);
            if experiment.by_cookie {
                kept.keep(&experiment.key, name, true);
            }
            let assigned = Assigned { experiment: index, variant, why: Why::Sticky };
            all.push(Sight { assigned, message, told });
        }
        let (visitor, known) = (visitor.clone(), known.clone());
        let sights = (!all.is_empty()).then_some(Sights { visitor, known, all });
        (kept, sights)
    }
}

/// What a page says in one call.
const MAX_SEEN_BYTES: usize = 16 * 1024;
const SEEN_DEADLINE: Duration = Duration::from_secs(10);

impl Edge {
    /// `POST {prefix}/seen`: a page that was fetched ahead is shown now, with these variants by experiment.
    pub(super) async fn page_is_seen(
        &self,
        session: &mut Session,
        context: &Context,
        site: &Site,
    ) -> Result<bool> {
        let origin = match admitted(session, context, site, &[Method::POST]) {
            Ok(origin) => origin,
            Err(refusal) => return refusal.send(session).await,
        };
        let (client, limits) = (context.client.address, context.snapshot.event_limits);
        let to = To { site: &site.name, has_others: context.snapshot.all_sites.len() > 1 };
        let _room = match self.limits.admit(client, to, limits) {
            Ok(room) => room,
            Err(why) => return refused(site, why).closing().send(session).await,
        };
        let body = match read_body(session, MAX_SEEN_BYTES, SEEN_DEADLINE).await {
            Ok(body) => body,
            Err(unread) => return unread.answer(MAX_SEEN_BYTES).send(session).await,
        };
        let Ok(named) = serde_json::from_slice::<BTreeMap<String, String>>(&body) else {
            let why = "expected variants by experiment";
            return Answer::error(StatusCode::BAD_REQUEST, "malformed", why).send(session).await;
        };
        let request = session.req_header();
        let who = self.who(site, request, context);
        let mut cookies = Vec::new();
        if who.consent != Consent::Denied {
            let known = self.confirmed(site, request, context, &who).await.known;
            let given = Given::of(site, session.req_header());
            let whose = (&who.visitor, &known);
            let (kept, sights) = self.seen.named(site, &named, given.kept(), whose);
            let page = session.req_header().headers.get(header::REFERER);
            let page = page.and_then(|page| page.to_str().ok()?.parse::<Uri>().ok());
            if let Some(sights) = sights {
                let page = page.unwrap_or_else(|| Uri::from_static("/"));
                self.tell_sights(session, context, site, (&sights, Some(&page)), who.consent);
                cookies = given.cookies(site, &kept, context);
            }
        }
        Answer::json(StatusCode::OK, &json!({ "success": true }))
            .with_cookies(cookies)
            .with_cors(origin)
            .send(session)
            .await
    }
}

/// Identifies one visitor's first sight of a variant, on every node. `None` for nobody.
fn message(site: &Site, visitor: &Visitor, experiment: &str, variant: &str) -> Option<u128> {
    let anonymous = visitor.anonymous.as_ref().map(AnonymousId::as_str);
    let id = anonymous.or(visitor.user.as_ref().map(UserId::as_str))?;
    // None of these can hold a line end.
    Some(xxh3_128([&*site.name, id, experiment, variant].join("\n").as_bytes()))
}

impl Edge {
    /// Counts what a visitor has seen, and tells the vendors of what is new. Nobody waits for it. `page`: where that
    /// was, if it is not what the request is for.
    pub(super) fn tell_sights(
        &self,
        session: &Session,
        context: &Context,
        site: &Site,
        (sights, page): (&Sights, Option<&Uri>),
        consent: Consent,
    ) {
        for sight in &sights.all {
            let Assigned { experiment, variant, .. } = sight.assigned;
            site.metrics.experiment_page(experiment, variant);
            if sight.told {
                continue;
            }
            let request = session.req_header();
            let visitor = &sights.visitor;
            if self.is_true(("bots", site.bots.as_ref()), site, visitor, request, context) {
                continue;
            }
            let kind = match site.exposures {
                Exposures::Identify => Some(Kind::Identify),
                Exposures::Track => Some(Kind::Track),
                Exposures::None => None,
            };
            if let Some(kind) = kind {
                let Some(event) = exposure(session, context, site, sight, page) else { continue };
                if !self.tell(session, context, site, (kind, &event), visitor, consent) {
                    continue;
                }
                site.metrics.exposure(experiment, variant);
            }
            self.seen.0.put(sight.message, (), 1);
            self.keep_by_trait(site, sight, &sights.known);
        }
    }

    /// Lets the visitor's profile keep the variant, so that it is the same in another browser.
    fn keep_by_trait(&self, site: &Site, sight: &Sight, known: &Confirmed) {
        let found = site.rules.experiments.all().get(sight.assigned.experiment);
        let Some(experiment) = found.filter(|experiment| experiment.by_trait) else { return };
        let Some(key) = written_by(&site.name, known) else { return };
        let variant = experiment.variant_name(sight.assigned.variant).to_owned();
        let update = Update::new(now_millis(), [(experiment.trait_name().into(), variant.into())]);
        let (profiles, name) = (Arc::clone(&self.profiles), site.name.clone());
        // At most once a visitor and variant, and within the store's own deadline.
        tokio::spawn(async move {
            let kept = if key.is_user() {
                profiles.merge(&key, &update).await
            } else {
                profiles.merge_own(&key, &update).await
            };
            if let Err(error) = kept {
                tracing::warn!(site = &*name, %error, "a variant could not be kept in a profile");
            }
        });
    }
}

/// `Experiment Viewed`, as Segment's specification has it
/// (<https://segment.com/docs/connections/spec/ab-testing/>), or a trait.
fn exposure(
    session: &Session,
    context: &Context,
    site: &Site,
    sight: &Sight,
    page: Option<&Uri>,
) -> Option<Value> {
    let experiment = site.rules.experiments.all().get(sight.assigned.experiment)?;
    let variant = experiment.variant_name(sight.assigned.variant);
    let request = session.req_header();
    let referrer = request.headers.get(header::REFERER).and_then(|value| value.to_str().ok());
    let referrer = referrer.filter(|_| page.is_none());
    // A preview link is nobody's business behind the edge.
    let page = page.unwrap_or(&request.uri);
    let query = page.query();
    let bare = query.and_then(without_token);
    let page = about(&Page {
        scheme: context.client.scheme(),
        authority: context.authority.as_str(),
        path: page.path(),
        query: bare.as_deref().or(query).unwrap_or_default(),
        referrer: referrer.unwrap_or_default(),
        language: None,
        title: None,
    });
    let mut event = json!({
        "messageId": format!("exposure-{:032x}", sight.message),
        "context": { "page": page, "library": { "name": "doorstep" } },
    });
    let more = match site.exposures {
        Exposures::Identify => json!({
            "type": "identify",
            "traits": { format!("experiment_{}", experiment.key.as_str()): variant },
        }),
        Exposures::Track | Exposures::None => json!({
            "type": "track",
            "event": "Experiment Viewed",
            "properties": {
                "experiment_id": experiment.key.as_str(),
                "experiment_name": &*experiment.name,
                "variation_id": variant,
                "variation_name": variant,
            },
        }),
    };
    if let (Some(event), Value::Object(more)) = (event.as_object_mut(), more) {
        event.extend(more);
    }
    Some(event)
}
