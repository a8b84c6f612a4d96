//! All that a site's configuration decides about a page, found by the page's path.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value, json};
use smallvec::SmallVec;

use super::experiment::{Assigned, Earlier, Experiment, Why};
use super::rewrite::{RewriteRule, Ruled};
use super::variation::{Target, Variation};
use super::{
    ClientTraits, Expression, Facts, Found, Outcome, Routes, Templates, TraitCookie, TraitHeader,
    Unmade, client,
};
use crate::html::{Change, Edit, LINKED, Select};

/// The rules of one site.
#[derive(Default)]
pub struct Rules {
    /// Other pages under the same URL.
    pub variations: Routes<Variation>,
    /// Experiments.
    pub experiments: Routes<Experiment>,
    /// Experiments that expressions ask about, whatever the page.
    pub asked: Vec<u32>,
    /// Changes of pages.
    pub rewrite: Routes<RewriteRule>,
    /// Traits that the page may see.
    pub client_traits: ClientTraits,
    /// Traits as cookies.
    pub cookies: Vec<TraitCookie>,
    /// Traits as headers for the origin.
    pub headers: Vec<TraitHeader>,
    /// Texts with values.
    pub templates: Templates,
}

/// Who decides a page, and of what.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    /// The site's name.
    pub site: &'a str,
    /// What the page may be given.
    pub wants: Wants,
    /// What earlier pages and links have decided.
    pub earlier: &'a dyn Earlier,
    /// What the embedding program decides.
    pub deciders: &'a [Arc<dyn Decide>],
}

/// A decision that YAML can't say, written in Rust: see the crate's documentation for an example.
/// Called for every page that a browser asks for, on the request's own thread: it must not block.
pub trait Decide: Send + Sync {
    /// Whether it has something to say about the pages of `path` of `site`, so that a profile is looked for.
    fn concerns(&self, site: &str, path: &str) -> bool;
    /// Changes what the rules of `site` have decided. A panic is caught, and costs the whole decision.
    fn decide(&self, site: &str, facts: &Facts<'_>, decision: &mut Decision);
}

/// The rules about one page.
#[derive(Debug, Default, Clone)]
pub struct Concerned {
    variations: Found,
    experiments: Found,
    rewrite: Found,
    /// All that this path has varies by visitor, whoever asks.
    pub varies: bool,
    /// Its HTML does.
    pub changes: bool,
    /// Something has to be decided.
    pub personal: bool,
}

/// What was decided about a page for one visitor.
#[derive(Default)]
pub struct Decision {
    /// The page that the visitor gets; `None` for the one that everybody gets.
    pub target: Option<Target>,
    /// Client traits.
    pub traits: Map<String, Value>,
    /// Changes of the page.
    pub edits: Vec<Edit>,
    /// Trait cookies: position in [`Rules::cookies`], and the value; `None` where it is to go.
    pub cookies: Vec<(usize, Option<String>)>,
    /// Headers for the origin.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Experiments on this page.
    pub assigned: SmallVec<[Assigned; 2]>,
    /// Rules whose expression or template failed, as they stand in the site's configuration.
    pub failed: Vec<Arc<str>>,
    /// Values that could not stand where they would have landed.
    pub refused: usize,
}

/// What a page may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wants {
    /// It is HTML, and can be changed.
    pub html: bool,
    /// It is a page, or a part or a framework's data of one.
    pub page: bool,
    /// It only reads: GET, HEAD.
    pub safe: bool,
}

impl Wants {
    /// A page that a browser shows.
    pub const PAGE: Self = Self { html: true, page: true, safe: true };
}

/// Told of every rule, where somebody wants to know.
pub struct Trace {
    told: Vec<Value>,
    since: Instant,
}

impl Trace {
    /// Nothing told yet.
    #[must_use]
    pub fn new() -> Self {
        Self { told: Vec::new(), since: Instant::now() }
    }

    /// What was told, in order.
    #[must_use]
    pub fn told(self) -> Vec<Value> {
        self.told
    }

    /// The next rule begins now.
    fn begin(&mut self) {
        self.since = Instant::now();
    }

    fn tell(&mut self, rule: &str, what: Value, outcome: &str) {
        let micros = (self.since.elapsed().as_secs_f64() * 1e7).round() / 10.0;
        let mut told = json!({ "rule": rule, "outcome": outcome, "us": micros });
        if let (Some(told), Value::Object(what)) = (told.as_object_mut(), what) {
            told.extend(what);
        }
        self.told.push(told);
    }
}

impl Default for Trace {
    fn default() -> Self {
        Self::new()
    }
}

impl Rules {
    /// What is about the page of `path`, normalised.
    #[must_use]
    pub fn concerning(
        &self,
        site: &str,
        path: &str,
        wants: Wants,
        deciders: &[Arc<dyn Decide>],
    ) -> Concerned {
        let mut variations = self.variations.find(path);
        let is_other = wants.safe && !wants.page;
        if !wants.safe || is_other {
            let holds = |variation: &Variation| {
                if is_other { variation.everything } else { variation.any_method }
            };
            variations.retain(|index| self.variations.get(*index).is_some_and(holds));
            if is_other && variations.is_empty() {
                return Concerned::default();
            }
        }
        // What a script fetches of a page belongs to the variant that is shown.
        let takes_part = wants.html || (wants.safe && wants.page);
        let experiments = if takes_part { self.experiments.find(path) } else { Found::new() };
        let rewrite = if wants.html { self.rewrite.find(path) } else { Found::new() };
        let client = wants.html && !(self.client_traits.is_empty() && self.cookies.is_empty());
        let coded = deciders.iter().any(|decider| decider.concerns(site, path));
        let varies = !variations.is_empty() || !experiments.is_empty() || coded;
        let of_html = rewrite.iter().filter_map(|index| self.rewrite.get(*index));
        let changes = of_html.into_iter().any(RewriteRule::is_personal);
        Concerned {
            personal: varies || client || !rewrite.is_empty() || !self.headers.is_empty(),
            varies: varies || !self.headers.is_empty(),
            changes,
            variations,
            experiments,
            rewrite,
        }
    }

    /// Whether there are rules about pages at all.
    #[must_use]
    pub fn has_pages(&self) -> bool {
        !(self.variations.is_empty() && self.experiments.is_empty() && self.rewrite.is_empty())
    }

    /// Decides the page of `facts`. Never fails: what fails counts as false.
    #[must_use]
    pub fn decide<'f>(
        &'f self,
        concerned: &Concerned,
        facts: &mut Facts<'f>,
        asking: &Asking<'_>,
        mut trace: Option<&mut Trace>,
    ) -> Decision {
        let mut decision = Decision::default();
        let path = facts.path();
        self.assign(concerned, facts, asking.earlier, &mut decision, trace.as_deref_mut());
        self.choose(concerned, facts, path, &mut decision, trace.as_deref_mut());
        if asking.wants.html {
            if let Some(trace) = trace.as_deref_mut() {
                trace.begin();
            }
            self.client_traits.put(facts, &mut decision.traits, &mut decision.failed);
            let variants = decision.assigned.clone();
            for variant in variants.iter().filter_map(|assigned| self.variant(assigned)) {
                variant.traits.put(facts, &mut decision.traits, &mut decision.failed);
            }
            self.cookies(facts, &mut decision);
            if let Some(trace) = trace.as_deref_mut().filter(|_| !decision.traits.is_empty()) {
                let shown = json!({ "traits": decision.traits });
                trace.tell("client_traits", shown, "given");
            }
            self.rewrite(concerned, facts, &mut decision, trace);
        }
        self.headers(facts, &mut decision);
        for decider in asking.deciders {
            if decider.concerns(asking.site, path) {
                decider.decide(asking.site, facts, &mut decision);
            }
        }
        if let Some(Target::Other { path: Some(own), own_links: true, .. }) = &decision.target {
            decision.edits.extend(links_from(own, path));
        }
        decision
    }

    /// The variant of an assignment.
    #[must_use]
    pub fn variant(&self, assigned: &Assigned) -> Option<&super::experiment::Variant> {
        self.experiments.all().get(assigned.experiment)?.variants.get(assigned.variant?)
    }

    fn assign<'f>(
        &'f self,
        concerned: &Concerned,
        facts: &mut Facts<'f>,
        earlier: &dyn Earlier,
        decision: &mut Decision,
        mut trace: Option<&mut Trace>,
    ) {
        let elsewhere = self.asked.iter().filter(|index| !concerned.experiments.contains(index));
        let here = concerned.experiments.iter().map(|index| (index, true));
        for (index, on_page) in here.chain(elsewhere.map(|index| (index, false))) {
            let Some(experiment) = self.experiments.get(*index) else { continue };
            if let Some(trace) = trace.as_deref_mut() {
                trace.begin();
            }
            let (variant, why, failed) = experiment.assign(facts, earlier);
            if failed {
                decision.failed.push(format!("experiments.{}", experiment.key.as_str()).into());
            }
            if let Some(variant) = variant.and_then(|variant| experiment.variants.get(variant)) {
                facts.assign(experiment.key.as_str(), variant.name.as_str());
            }
            if on_page {
                let experiment = *index as usize;
                decision.assigned.push(Assigned { experiment, variant, why });
            }
            if let Some(trace) = trace.as_deref_mut() {
                let name = variant.map(|_| experiment.variant_name(variant));
                let what = json!({ "experiment": experiment.key.as_str(), "variant": name });
                trace.tell("experiment", what, why.label());
            }
        }
    }

    /// The page: what an experiment says counts more than a variation, and of two experiments the first.
    fn choose(
        &self,
        concerned: &Concerned,
        facts: &Facts<'_>,
        path: &str,
        decision: &mut Decision,
        mut trace: Option<&mut Trace>,
    ) {
        for assigned in &mut decision.assigned {
            let Some(experiment) = self.experiments.all().get(assigned.experiment) else {
                continue;
            };
            let variant = assigned.variant.and_then(|variant| experiment.variants.get(variant));
            let Some(page) = variant.and_then(|variant| variant.page.as_ref()) else { continue };
            let free = decision.target.is_none();
            let Some(target) = free.then(|| page.at(&experiment.routes, path)).flatten() else {
                // Who does not see a variant must not count as if.
                (assigned.variant, assigned.why) = (None, Why::Overruled);
                continue;
            };
            decision.target = Some(target);
        }
        let Some(variation) =
            concerned.variations.first().and_then(|index| self.variations.get(*index))
        else {
            return;
        };
        for choice in &variation.choices {
            if let Some(trace) = trace.as_deref_mut() {
                trace.begin();
            }
            let overruled = decision.target.is_some();
            if overruled && trace.is_none() {
                break;
            }
            let outcome = if overruled { None } else { Some(choice.test(facts)) };
            match &outcome {
                Some(Outcome::True) => {
                    decision.target = choice.page.at(&variation.routes, path);
                }
                Some(Outcome::Failed(_)) => decision.failed.push(Arc::clone(&choice.name)),
                Some(Outcome::False) | None => {}
            }
            if let Some(trace) = trace.as_deref_mut() {
                let values = choice.when.as_ref().map(|when| when.values(facts));
                let what = json!({
                    "when": choice.when.as_ref().map(Expression::source), "values": values,
                    "page": choice.page.at(&variation.routes, path).as_ref().map(told),
                });
                let outcome = outcome.map_or("not asked: it is decided".into(), |one| one.told());
                trace.tell("variation", what, &outcome);
            }
        }
    }

    fn rewrite(
        &self,
        concerned: &Concerned,
        facts: &Facts<'_>,
        decision: &mut Decision,
        mut trace: Option<&mut Trace>,
    ) {
        let rules = concerned.rewrite.iter().filter_map(|index| self.rewrite.get(*index));
        let assigned = decision.assigned.clone();
        let variants = assigned.iter().filter_map(|assigned| self.variant(assigned));
        let of_variants = variants.flat_map(|variant| {
            variant.rewrite.iter().map(move |rule| (rule, variant.page.is_some()))
        });
        for (rule, of_page) in rules.map(|rule| (rule, false)).chain(of_variants) {
            if let Some(trace) = trace.as_deref_mut() {
                trace.begin();
            }
            let outcome = match rule.of(&self.templates, facts) {
                Ruled::Edit(edit) => {
                    decision.edits.push(Edit { of_page, ..edit });
                    "true".to_owned()
                }
                Ruled::No => "false".to_owned(),
                Ruled::Unmade(Unmade::Absent) => "left out: a value is absent".to_owned(),
                Ruled::Unmade(Unmade::Unsafe) => {
                    decision.refused += 1;
                    "left out: a value can't stand there".to_owned()
                }
                Ruled::Unmade(Unmade::Failed(why)) => {
                    decision.failed.push(Arc::clone(&rule.name));
                    format!("failed, left out: {why}")
                }
            };
            if let Some(trace) = trace.as_deref_mut() {
                let what = json!({
                    "select": rule.select.as_str(),
                    "when": rule.when.as_ref().map(Expression::source),
                    "values": rule.when.as_ref().map(|when| when.values(facts)),
                });
                trace.tell("rewrite", what, &outcome);
            }
        }
    }

    fn cookies(&self, facts: &Facts<'_>, decision: &mut Decision) {
        for (index, cookie) in self.cookies.iter().enumerate() {
            match client::text(&cookie.value, facts) {
                Ok(value) => decision.cookies.push((index, value)),
                Err(_) => decision.failed.push(format!("trait_cookies.{}", cookie.name).into()),
            }
        }
    }

    fn headers(&self, facts: &Facts<'_>, decision: &mut Decision) {
        for header in &self.headers {
            match header.of(facts) {
                Ok(Some(value)) => decision.headers.push((header.name.clone(), value)),
                Ok(None) => {}
                Err(_) => decision.failed.push(format!("request_headers.{}", header.name).into()),
            }
        }
    }
}

impl Concerned {
    /// Leaves the page's elements alone: only what else is decided counts.
    pub fn leave_elements(&mut self) {
        self.rewrite.clear();
        self.variations.clear();
    }
}

impl Decision {
    /// What is left where the page that was chosen has failed: nothing of a variant that has a page of its
    /// own.
    pub fn without_page(&mut self, rules: &Rules) {
        self.target = None;
        self.edits.retain(|edit| !edit.of_page);
        self.assigned.retain(|assigned| {
            let variant = rules.variant(assigned).filter(|variant| variant.page.is_some());
            for (name, _) in variant.iter().flat_map(|variant| variant.traits.all()) {
                self.traits.remove(&**name);
            }
            variant.is_none()
        });
    }

    /// The page that was chosen stands at `own` and not where it was asked for; it is shown at `shown`.
    pub fn link_from(&mut self, own: &str, shown: &str) {
        let links = |change: &Change| matches!(change, Change::LinksFrom(_));
        self.edits.retain(|edit| !edit.changes.iter().any(links));
        self.edits.extend(links_from(own, shown));
    }

    /// What is left where the visitor is somebody else by now than when it was decided: what makes the page one,
    /// and nothing of the visitor's.
    pub fn without_visitor(&mut self) {
        self.traits.clear();
        self.headers.clear();
        for (_, value) in &mut self.cookies {
            *value = None;
        }
        self.assigned.clear();
        self.edits.retain(|edit| edit.of_page);
    }

    /// Whether the visitor gets anything that not everybody gets.
    #[must_use]
    pub fn is_personal(&self) -> bool {
        self.target.is_some()
            || !self.traits.is_empty()
            || !self.edits.is_empty()
            || self.assigned.iter().any(|assigned| assigned.variant.is_some())
    }
}

/// Relative links of a page at `own` that is shown at `shown`.
fn links_from(own: &str, shown: &str) -> Option<Edit> {
    let folder = |path: &str| path.rfind('/').and_then(|end| path.get(..=end)).map(str::to_owned);
    let own = folder(own)?;
    if folder(shown).as_ref() == Some(&own) {
        return None;
    }
    // Known to be a selector.
    let select = Arc::new(Select::parse(LINKED).ok()?);
    let links = Edit::new(select, vec![Change::LinksFrom(own.into())]);
    Some(Edit { of_page: true, ..links })
}

/// A target as people read it.
#[must_use]
pub fn told(target: &Target) -> Value {
    match target {
        Target::Other { origin, path, .. } => {
            let path = path.as_deref().unwrap_or("(the same)");
            match origin {
                None => path.into(),
                Some(index) => format!("{path} of other origin {index}").into(),
            }
        }
        Target::Elsewhere { to, status } => format!("{status} to {to}").into(),
    }
}

#[cfg(test)]
mod tests;
