//! What the file says of what a site's visitors see → compiled [`Rules`].

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use http::HeaderName;

use super::compile::Checking;
use super::file::{self, Links, Methods};
use super::problem::readable;
use super::site::{condition, expression, page_path};
use crate::decide::{
    Choice, ClientTraits, Experiment, ExperimentKey, Expression, HashVersion, Holdout, Landing,
    Page, PathTemplate, Planned, RewriteRule, RoutePattern, Rules, Share, Template, TraitCookie,
    TraitHeader, Unit, Variant, Variation, ranges,
};
use crate::html::{Select, is_code_attribute, is_safe_url, is_url_attribute};
use crate::upstream::{Endpoint, Timeouts, Upstream};

/// The rules of `site`, and the origins that they name.
pub(super) fn rules(
    checking: &mut Checking<'_>,
    at: &str,
    site: &file::Site,
    timeouts: Timeouts,
) -> Option<(Rules, Vec<Arc<Upstream>>)> {
    let keys = site.experiments.iter().map(|experiment| experiment.key.clone()).collect();
    let mut compiler = Compiler {
        checking,
        at,
        keys,
        asked: HashSet::new(),
        rules: Rules::default(),
        origins: Vec::new(),
        timeouts,
    };
    let done = [
        compiler.variations(&site.variations),
        compiler.experiments(&site.experiments),
        compiler.rewrites(&site.rewrite),
        compiler.client(site),
    ];
    let Compiler { keys, asked, mut rules, origins, .. } = compiler;
    let asked = keys.iter().enumerate().filter(|(_, key)| asked.contains(*key));
    rules.asked = asked.filter_map(|(index, _)| u32::try_from(index).ok()).collect();
    done.iter().all(Option::is_some).then_some((rules, origins))
}

struct Compiler<'c, 's> {
    checking: &'c mut Checking<'s>,
    at: &'c str,
    /// The site's experiments, in order.
    keys: Vec<String>,
    /// Experiments that expressions ask about.
    asked: HashSet<String>,
    rules: Rules,
    origins: Vec<Arc<Upstream>>,
    timeouts: Timeouts,
}

/// What a choice or a variant says of its page.
struct Given<'g> {
    path: Option<&'g str>,
    origin: Option<&'g str>,
    redirect: Option<(&'g str, Option<u16>, bool)>,
    fallback: bool,
    links: Links,
}

impl Compiler<'_, '_> {
    fn problem(&mut self, place: &str, message: impl Into<String>) {
        self.checking.problem(place, message);
    }

    /// The place of a rule in its site.
    fn name(&self, at: &str) -> Arc<str> {
        readable(at.strip_prefix(self.at).unwrap_or(at)).into()
    }

    fn condition(&mut self, place: &str, text: &str) -> Option<Expression> {
        let compiled = condition(self.checking, place, text)?;
        self.known_experiments(place, compiled)
    }

    fn expression(&mut self, place: &str, text: &str) -> Option<Expression> {
        let compiled = expression(self.checking, place, text)?;
        self.known_experiments(place, compiled)
    }

    #[allow(clippy::option_option, reason = "outer: is it right; inner: is it set")]
    fn when(&mut self, place: &str, text: Option<&str>) -> Option<Option<Expression>> {
        text.map_or(Some(None), |text| self.condition(place, text).map(Some))
    }

    fn known_experiments(&mut self, place: &str, compiled: Expression) -> Option<Expression> {
        let asked: Vec<String> = compiled.experiments().map(str::to_owned).collect();
        for key in asked {
            if !self.keys.contains(&key) {
                let known = self.keys.join(", ");
                self.problem(place, format!("no experiment `{key}` here; there are: {known}"));
                return None;
            }
            self.asked.insert(key);
        }
        if compiled.asks("experiments") && compiled.experiments().next().is_none() {
            self.asked.extend(self.keys.iter().cloned());
        }
        Some(compiled)
    }

    fn template(&mut self, place: &str, text: &str, landing: Landing) -> Option<Template> {
        let added = self.rules.templates.add(text, landing);
        if text.contains("experiments") {
            self.asked.extend(self.keys.iter().cloned());
        }
        self.checking.take(place, added)
    }

    fn routes(&mut self, place: &str, route: &file::Route) -> Option<Vec<RoutePattern>> {
        let many = matches!(route, file::Route::Many(_));
        let mut good = Vec::new();
        for (index, text) in route.all().iter().enumerate() {
            let place = if many { format!("{place}/{index}") } else { place.to_owned() };
            good.extend(self.checking.take(&place, RoutePattern::parse(text)));
        }
        if route.all().is_empty() {
            self.problem(place, "expected at least one path");
            return None;
        }
        (good.len() == route.all().len()).then_some(good)
    }

    fn variations(&mut self, list: &[file::Variation]) -> Option<()> {
        let (mut seen, mut good) = (HashSet::new(), true);
        for (index, variation) in list.iter().enumerate() {
            let at = format!("{}/variations/{index}", self.at);
            for route in variation.route.all() {
                if !seen.insert(route.clone()) {
                    let why = format!(
                        "route `{route}` is listed twice: put all its choices in one place"
                    );
                    self.problem(&format!("{at}/route"), why);
                    good = false;
                }
            }
            let routes = self.routes(&format!("{at}/route"), &variation.route);
            let mut choices = Vec::new();
            for (number, choice) in variation.choose.iter().enumerate() {
                let at = format!("{at}/choose/{number}");
                let is_last = number + 1 == variation.choose.len();
                choices.extend(self.choice(&at, choice, routes.as_deref().unwrap_or(&[]), is_last));
            }
            good &= choices.len() == variation.choose.len();
            let any_method = variation.methods == Methods::All;
            match routes {
                Some(routes) => {
                    let patterns = routes.clone();
                    let item = Variation { routes, choices, any_method };
                    self.rules.variations.add(&patterns, item);
                }
                None => good = false,
            }
        }
        good.then_some(())
    }

    fn choice(
        &mut self,
        at: &str,
        choice: &file::Choice,
        routes: &[RoutePattern],
        is_last: bool,
    ) -> Option<Choice> {
        let when = self.when(&format!("{at}/when"), choice.when.as_deref());
        if choice.when.is_none() && choice.share.is_none() && !is_last {
            self.problem(at, "this choice is for everybody: those behind it are never reached");
            return None;
        }
        let redirect = choice.redirect.as_deref();
        let page = self.page(
            at,
            &Given {
                path: choice.path.as_deref(),
                origin: choice.origin.as_deref(),
                redirect: redirect.map(|to| (to, choice.status, choice.allow_other_site)),
                fallback: choice.fallback,
                links: choice.links,
            },
            routes,
        );
        let seed = choice.seed.clone().or_else(|| Some(routes.first()?.as_str().to_owned()));
        let share = choice
            .share
            .map(|share| Share { seed: seed.unwrap_or_default().into(), of: share.get() });
        let Some(page) = page? else {
            self.problem(at, "expected `path`, `origin` or `redirect`");
            return None;
        };
        Some(Choice { name: self.name(at), when: when?, share, page })
    }

    #[allow(clippy::option_option, reason = "outer: is it right; inner: is it set")]
    fn page(
        &mut self,
        at: &str,
        given: &Given<'_>,
        routes: &[RoutePattern],
    ) -> Option<Option<Page>> {
        if let Some((to, status, abroad)) = given.redirect {
            let place = format!("{at}/redirect");
            if given.path.is_some() || given.origin.is_some() {
                self.problem(&place, "`redirect` stands alone: without `path` and `origin`");
                return None;
            }
            let status = status.unwrap_or(302);
            if !matches!(status, 302 | 307) {
                self.problem(&format!("{at}/status"), "expected 302 or 307");
                return None;
            }
            let to = self.checking.take(&place, PathTemplate::parse(to, routes))?;
            let skeleton = to.skeleton();
            let own = skeleton.starts_with('/') && !skeleton.starts_with("//");
            if own {
                page_path(self.checking, &place, &skeleton)?;
                if routes.iter().any(|route| route.matches(&skeleton)) {
                    self.problem(&place, "this leads to itself: the browser would never arrive");
                    return None;
                }
            } else if !abroad || Endpoint::parse(&skeleton).is_err() || !skeleton.contains("://") {
                let why = "expected a path of this site; a URL needs `allow_other_site: true`";
                self.problem(&place, why);
                return None;
            }
            return Some(Some(Page::Elsewhere { to, status }));
        }
        let path = match given.path {
            Some(path) => {
                let place = format!("{at}/path");
                let template = self.checking.take(&place, PathTemplate::parse(path, routes))?;
                page_path(self.checking, &place, &template.skeleton())?;
                Some(template)
            }
            None => None,
        };
        let origin = match given.origin {
            Some(address) => Some(self.origin(&format!("{at}/origin"), address)?),
            None => None,
        };
        if path.is_none() && origin.is_none() {
            return Some(None);
        }
        let own_links = given.links == Links::Path;
        Some(Some(Page::Other { origin, path, fallback: given.fallback, own_links }))
    }

    fn origin(&mut self, place: &str, address: &str) -> Option<usize> {
        let endpoint = self.checking.take(place, Endpoint::parse(address))?;
        if !endpoint.base().is_empty() {
            self.problem(place, "an origin has no path: that is `path`");
            return None;
        }
        self.origins.push(Arc::new(Upstream::new(endpoint, self.timeouts, None, true)));
        Some(self.origins.len() - 1)
    }

    fn experiments(&mut self, list: &[file::Experiment]) -> Option<()> {
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

    fn rewrites(&mut self, list: &[file::Rewrite]) -> Option<()> {
        let mut good = true;
        for (index, given) in list.iter().enumerate() {
            let at = format!("{}/rewrite/{index}", self.at);
            let routes = match &given.route {
                Some(route) => self.routes(&format!("{at}/route"), route),
                None => Some(Vec::new()),
            };
            match (routes, self.rewrite(&at, given)) {
                (Some(routes), Some(rule)) => self.rules.rewrite.add(&routes, rule),
                _ => good = false,
            }
        }
        good.then_some(())
    }

    fn rewrite(&mut self, at: &str, given: &file::Rewrite) -> Option<RewriteRule> {
        let select = self.checking.take(&format!("{at}/select"), Select::parse(&given.select));
        let when = self.when(&format!("{at}/when"), given.when.as_deref());
        let mut changes = Vec::new();
        let mut good = self.set(at, given, &mut changes).is_some();
        if let Some(insert) = &given.insert {
            type Make = fn(Template) -> Planned;
            let all: [(&str, &Option<String>, Make); 4] = [
                ("before", &insert.before, Planned::Before),
                ("prepend", &insert.prepend, Planned::Prepend),
                ("append", &insert.append, Planned::Append),
                ("after", &insert.after, Planned::After),
            ];
            for (name, text, make) in all {
                let Some(text) = text else { continue };
                match self.template(&format!("{at}/insert/{name}"), text, Landing::Html) {
                    Some(template) => changes.push(make(template)),
                    None => good = false,
                }
            }
        }
        if given.hide {
            changes.push(Planned::Hide);
        }
        if given.remove {
            if !changes.is_empty() {
                self.problem(&format!("{at}/remove"), "what is removed can't be changed as well");
                good = false;
            }
            changes.push(Planned::Remove);
        }
        if changes.is_empty() && good {
            self.problem(at, "expected `set`, `insert`, `remove` or `hide`");
            return None;
        }
        let json = given.set.as_ref().is_some_and(|set| set.json.is_some());
        if given.persist && (given.insert.is_some() || json) {
            self.problem(&format!("{at}/persist"), "`insert` and `json` can't be kept");
            return None;
        }
        let (keep, first) = (given.persist, given.first);
        let select = Arc::new(select?);
        let name = self.name(at);
        good.then_some(RewriteRule { name, select, when: when?, changes, keep, first })
    }

    fn set(&mut self, at: &str, given: &file::Rewrite, out: &mut Vec<Planned>) -> Option<()> {
        let Some(set) = &given.set else { return Some(()) };
        let at = format!("{at}/set");
        let contents = [
            ("text", &set.text, Landing::Plain, Planned::Text as fn(Template) -> Planned),
            ("html", &set.html, Landing::Html, Planned::Html),
            ("json", &set.json, Landing::Json, Planned::Json),
        ];
        if contents.iter().filter(|(_, text, ..)| text.is_some()).count() > 1 {
            self.problem(&at, "an element has one content: `text`, `html` or `json`");
            return None;
        }
        let mut good = true;
        for (name, text, landing, make) in contents {
            let Some(text) = text else { continue };
            let ends_script = text.to_ascii_lowercase().contains("</script");
            if landing == Landing::Json && (ends_script || text.contains("<!--")) {
                self.problem(
                    &format!("{at}/{name}"),
                    "JSON in a page can't hold `</script` or `<!--`",
                );
                return None;
            }
            match self.template(&format!("{at}/{name}"), text, landing) {
                Some(template) => out.push(make(template)),
                None => good = false,
            }
        }
        for (name, value) in &set.attributes {
            let place = format!("{at}/attributes/{}", name.replace('~', "~0").replace('/', "~1"));
            match self.attribute(&place, name, value.as_deref()) {
                Some(change) => out.push(change),
                None => good = false,
            }
        }
        let classes = [
            ("add_class", &set.add_class, Planned::Class as fn(Template) -> Planned),
            ("remove_class", &set.remove_class, Planned::NoClass),
        ];
        for (name, text, make) in classes {
            let Some(text) = text else { continue };
            match self.template(&format!("{at}/{name}"), text, Landing::Plain) {
                Some(template) => out.push(make(template)),
                None => good = false,
            }
        }
        for (property, value) in &set.style {
            match self.style(&format!("{at}/style/{property}"), property, value) {
                Some(change) => out.push(change),
                None => good = false,
            }
        }
        good.then_some(())
    }

    fn attribute(&mut self, place: &str, name: &str, value: Option<&str>) -> Option<Planned> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_:.@".contains(&byte);
        if name.is_empty() || !name.bytes().all(fits) {
            self.problem(place, format!("`{name}` is not the name of an attribute"));
            return None;
        }
        let Some(value) = value else { return Some(Planned::NoAttribute(name.into())) };
        let landing = if is_url_attribute(name) { Landing::Url } else { Landing::Plain };
        let template = self.template(place, value, landing)?;
        let fixed = template.fixed().is_some();
        if !fixed && is_code_attribute(name) {
            let hint = if name.eq_ignore_ascii_case("style") { ": use `style`" } else { "" };
            self.problem(place, format!("a value can't stand in the attribute `{name}`{hint}"));
            return None;
        }
        if landing == Landing::Url && fixed && !is_safe_url(value) {
            self.problem(place, format!("`{value}` does not lead to a page"));
            return None;
        }
        Some(Planned::Attribute(name.into(), template))
    }

    fn style(&mut self, place: &str, property: &str, value: &str) -> Option<Planned> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if property.is_empty() || !property.bytes().all(fits) {
            self.problem(
                place,
                format!("`{property}` is not a property such as `background-color`"),
            );
            return None;
        }
        let template = self.template(place, value, Landing::Plain)?;
        if template.fixed().is_some() && value.contains([';', '{', '}']) {
            self.problem(place, "expected one value, without `;` and braces");
            return None;
        }
        Some(Planned::Style(property.into(), template))
    }

    fn traits(&mut self, at: &str, given: &BTreeMap<String, String>) -> Option<ClientTraits> {
        let mut out = Vec::new();
        for (name, text) in given {
            let escaped = name.replace('~', "~0").replace('/', "~1");
            let compiled = self.expression(&format!("{at}/{escaped}"), text);
            out.extend(compiled.map(|expression| (name.as_str().into(), expression)));
        }
        (out.len() == given.len()).then(|| ClientTraits::new(out))
    }

    fn client(&mut self, site: &file::Site) -> Option<()> {
        let traits = self.traits(&format!("{}/client_traits", self.at), &site.client_traits);
        let mut good = true;
        for (index, cookie) in site.trait_cookies.iter().enumerate() {
            let at = format!("{}/trait_cookies/{index}", self.at);
            let reserved = ["ajs_", "rl_", "doorstep_"];
            if reserved.iter().any(|reserved| cookie.name.starts_with(reserved)) {
                let why = format!("`{}` is a name of the SDK's or the edge's own", cookie.name);
                self.problem(&format!("{at}/name"), why);
                good = false;
            }
            match self.expression(&format!("{at}/value"), &cookie.value) {
                Some(value) => self.rules.cookies.push(TraitCookie {
                    name: cookie.name.as_str().into(),
                    value,
                    max_age: cookie.max_age.map(|age| age.get().as_secs().cast_signed()),
                    readable: cookie.readable,
                }),
                None => good = false,
            }
        }
        for (name, text) in &site.request_headers {
            let place = format!("{}/request_headers/{name}", self.at);
            let lower = name.to_ascii_lowercase();
            let parsed = HeaderName::try_from(&*lower).ok().filter(|_| {
                lower
                    .strip_prefix("x-doorstep-")
                    .is_some_and(|rest| !rest.is_empty() && !matches!(rest, "user" | "explain"))
            });
            let Some(name) = parsed else {
                let why = format!(
                    "expected a header of your own such as `X-Doorstep-Plan`, found `{name}`"
                );
                self.problem(&place, why);
                good = false;
                continue;
            };
            match self.expression(&place, text) {
                Some(value) => self.rules.headers.push(TraitHeader { name, value }),
                None => good = false,
            }
        }
        self.rules.client_traits = traits?;
        good.then_some(())
    }
}
