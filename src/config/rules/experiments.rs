//! Experiments.

use std::collections::HashMap;

use super::super::file;
use super::{Compiler, Given};
use crate::decide::{
    Experiment, ExperimentKey, HashVersion, Holdout, RoutePattern, Unit, Variant, ranges,
};

impl Compiler<'_, '_> {
    pub(super) fn experiments(&mut self, list: &[file::Experiment]) -> Option<()> {
        let mut good = true;
        for (index, experiment) in list.iter().enumerate() {
            let at = format!("{}/experiments/{index}", self.at);
            if list.iter().take(index).any(|other| other.key == experiment.key) {
                let why = format!("another experiment has the key `{}`", experiment.key);
                self.problem(&format!("{at}/key"), why);
                good = false;
            }
            match self.experiment(&at, experiment) {
                Some(compiled) => {
                    let patterns = compiled.routes.clone();
                    self.rules.experiments.add(&patterns, compiled);
                }
                None => good = false,
            }
        }
        good.then_some(())
    }

    fn experiment(&mut self, at: &str, given: &file::Experiment) -> Option<Experiment> {
        let key = self.checking.take(&format!("{at}/key"), ExperimentKey::parse(&given.key));
        let routes = self.routes(&format!("{at}/route"), &given.route);
        let when = self.when(&format!("{at}/when"), given.when.as_deref());
        if let Some(Some(when)) = &when
            && when.asks("experiments")
        {
            self.problem(&format!("{at}/when"), "an experiment can't depend on experiments");
            return None;
        }
        let unit = match given.unit.split_once('.') {
            None if given.unit == "anonymous_id" => Unit::AnonymousId,
            None if given.unit == "user_id" => Unit::UserId,
            Some(("traits", name)) if !name.is_empty() => Unit::Trait(name.into()),
            _ => {
                let why = format!(
                    "expected `anonymous_id`, `user_id` or `traits.` and a name, found `{}`",
                    given.unit
                );
                self.problem(&format!("{at}/unit"), why);
                return None;
            }
        };
        let starts = self.time(&format!("{at}/starts"), given.starts.as_deref());
        let ends = self.time(&format!("{at}/ends"), given.ends.as_deref());
        if let (Some(Some(starts)), Some(Some(ends))) = (starts, ends)
            && ends <= starts
        {
            self.problem(&format!("{at}/ends"), "it ends before it begins");
            return None;
        }
        let namespace = match &given.namespace {
            Some(namespace) if namespace.from.get() >= namespace.to.get() => {
                self.problem(&format!("{at}/namespace"), "expected `from` below `to`");
                return None;
            }
            namespace => namespace.as_ref().map(|namespace| {
                (namespace.name.as_str().into(), (namespace.from.get(), namespace.to.get()))
            }),
        };
        let variants = self.variants(at, given, routes.as_deref().unwrap_or(&[]));
        let weights = self.weights(at, &given.variants)?;
        let mut forced = HashMap::new();
        for (id, name) in &given.force {
            let found = given.variants.iter().position(|variant| variant.name == *name);
            match found {
                Some(variant) => drop(forced.insert(id.as_str().into(), variant)),
                None => {
                    self.problem(&format!("{at}/force"), format!("no variant is called `{name}`"));
                    return None;
                }
            }
        }
        let own = || given.key.as_str();
        Some(Experiment {
            key: key?,
            name: given.name.as_deref().unwrap_or_else(own).into(),
            routes: routes?,
            unit,
            when: when?,
            version: if given.hash == 1 { HashVersion::V1 } else { HashVersion::V2 },
            seed: given.seed.as_deref().unwrap_or_else(own).into(),
            ranges: ranges(&weights, given.traffic.get()),
            namespace,
            holdout: given.holdout.as_ref().map(|holdout| Holdout {
                key: holdout.key.as_str().into(),
                share: holdout.share.get(),
            }),
            starts: starts?,
            ends: ends?,
            forced,
            by_cookie: given.sticky.contains(&file::Sticky::Cookie),
            by_trait: given.sticky.contains(&file::Sticky::Trait),
            variants: variants?,
        })
    }

    /// Milliseconds since 1970.
    #[allow(clippy::option_option, reason = "outer: is it right; inner: is it set")]
    fn time(&mut self, place: &str, text: Option<&str>) -> Option<Option<i64>> {
        let Some(text) = text else { return Some(None) };
        let parsed = chrono::DateTime::parse_from_rfc3339(text)
            .map(|time| Some(time.timestamp_millis()))
            .map_err(|_| format!("expected a time such as `2026-12-01T00:00:00Z`, found `{text}`"));
        self.checking.take(place, parsed)
    }

    fn weights(&mut self, at: &str, variants: &[file::Variant]) -> Option<Vec<f64>> {
        let given: Vec<f64> =
            variants.iter().filter_map(|variant| Some(variant.weight?.get())).collect();
        let place = format!("{at}/variants");
        if given.is_empty() {
            return Some(vec![1.0 / (variants.len().max(1) as f64); variants.len()]);
        }
        if given.len() != variants.len() {
            self.problem(&place, "expected a `weight` at each variant, or at none");
            return None;
        }
        let sum: f64 = given.iter().sum();
        if (sum - 1.0).abs() > 0.001 {
            self.problem(&place, format!("the weights add up to {}%, not to 100%", sum * 100.0));
            return None;
        }
        Some(given)
    }

    fn variants(
        &mut self,
        at: &str,
        experiment: &file::Experiment,
        routes: &[RoutePattern],
    ) -> Option<Vec<Variant>> {
        let mut out = Vec::new();
        for (index, given) in experiment.variants.iter().enumerate() {
            let at = format!("{at}/variants/{index}");
            if experiment.variants.iter().take(index).any(|other| other.name == given.name) {
                let why = format!("another variant is called `{}`", given.name);
                self.problem(&format!("{at}/name"), why);
            }
            let name = self.checking.take(&format!("{at}/name"), ExperimentKey::parse(&given.name));
            let page = self.page(
                &at,
                &Given {
                    path: given.path.as_deref(),
                    origin: given.origin.as_deref(),
                    redirect: None,
                    fallback: given.fallback,
                    links: given.links,
                },
                routes,
            );
            let mut rewrite = Vec::new();
            for (number, rule) in given.rewrite.iter().enumerate() {
                let at = format!("{at}/rewrite/{number}");
                if rule.route.is_some() {
                    self.problem(&format!("{at}/route"), "a variant's pages are its experiment's");
                }
                rewrite.extend(self.rewrite(&at, rule));
            }
            let whole = rewrite.len() == given.rewrite.len();
            let traits = self.traits(&format!("{at}/traits"), &given.traits);
            if let (Some(name), Some(page), Some(traits), true) = (name, page, traits, whole) {
                out.push(Variant { name, page, rewrite, traits });
            }
        }
        (out.len() == experiment.variants.len()).then_some(out)
    }
}
