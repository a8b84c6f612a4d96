//! What the file says of what a site's visitors see → compiled [`Rules`].

mod experiments;
mod rewriting;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use http::HeaderName;

use super::compile::Checking;
use super::file::{self, AppliesTo, Links, Methods};
use super::problem::readable;
use super::site::{condition, expression, page_path};
use crate::decide::{
    Choice, ClientTraits, Expression, Page, PathTemplate, RoutePattern, Rules, Share, TraitCookie,
    TraitHeader, Variation,
};
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
            let everything = variation.applies_to == AppliesTo::Everything;
            match routes {
                Some(routes) => {
                    let patterns = routes.clone();
                    let item = Variation { routes, choices, any_method, everything };
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
