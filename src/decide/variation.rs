//! Which page a visitor gets under a URL.

use std::sync::Arc;

use super::bucket::{self, Version};
use super::{Expression, Facts, Outcome, PathTemplate, RoutePattern};
use crate::identity::Visitor;

/// Other pages under some URLs.
#[derive(Debug)]
pub struct Variation {
    /// Under these.
    pub routes: Vec<RoutePattern>,
    /// In order: the first that applies is taken.
    pub choices: Vec<Choice>,
    /// Also for requests that change something.
    pub any_method: bool,
    /// Also for requests that are not about a page.
    pub everything: bool,
}

/// A condition and the page that it leads to.
#[derive(Debug)]
pub struct Choice {
    /// Where it stands in the site's configuration: names it in metrics.
    pub name: Arc<str>,
    /// When it is true; always, where it says nothing…
    pub when: Option<Expression>,
    /// …of this share of the visitors…
    pub share: Option<Share>,
    /// …they get this page.
    pub page: Page,
}

/// A share of all visitors, always the same ones.
#[derive(Debug)]
pub struct Share {
    /// Names the draw: two with one seed have the same visitors.
    pub seed: Box<str>,
    /// From 0 to 1.
    pub of: f64,
}

/// A page for some visitors.
#[derive(Debug, Clone)]
pub enum Page {
    /// Under the same URL.
    Other {
        /// Which of the site's other origins has it; the site's own, where it says nothing.
        origin: Option<usize>,
        /// Its path; the visitor's, where it says nothing.
        path: Option<PathTemplate>,
        /// Where it fails, the page that everybody gets is shown instead.
        fallback: bool,
        /// Its relative links are relative to its own path, not to the URL that the browser shows.
        own_links: bool,
    },
    /// Under another URL, which the browser goes to.
    Elsewhere {
        /// Path or URL.
        to: PathTemplate,
        /// 302 or 307.
        status: u16,
    },
}

/// The page that a visitor gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Under the same URL.
    Other {
        /// Which of the site's other origins has it.
        origin: Option<usize>,
        /// Its path, percent-encoded.
        path: Option<Box<str>>,
        /// Where it fails, the page that everybody gets is shown instead.
        fallback: bool,
        /// Its relative links are relative to its own path.
        own_links: bool,
    },
    /// Under another URL.
    Elsewhere {
        /// Path or URL, percent-encoded, without the visitor's query.
        to: Box<str>,
        /// 302 or 307.
        status: u16,
    },
}

impl Page {
    /// The page for a visitor of `path`, which one of `routes` matches. `None` where a part of the path can't be put into
    /// another one.
    #[must_use]
    pub fn at(&self, routes: &[RoutePattern], path: &str) -> Option<Target> {
        let route = routes.iter().find(|route| route.matches(path));
        let fill = |template: &PathTemplate| match route {
            Some(route) => template.fill(route, path),
            None => Some(template.skeleton().into()),
        };
        Some(match self {
            Self::Other { origin, path, fallback, own_links } => {
                let (origin, fallback, own_links) = (*origin, *fallback, *own_links);
                let path = match path {
                    Some(path) => Some(fill(path)?),
                    None => None,
                };
                Target::Other { origin, path, fallback, own_links }
            }
            Self::Elsewhere { to, status } => Target::Elsewhere { to: fill(to)?, status: *status },
        })
    }
}

impl Share {
    /// Whether `visitor` is among them. Nobody without an id is.
    #[must_use]
    pub fn has(&self, visitor: &Visitor) -> bool {
        let anonymous = visitor.anonymous.as_ref().map(crate::identity::AnonymousId::as_str);
        let id = anonymous.or(visitor.user.as_ref().map(crate::identity::UserId::as_str));
        id.is_some_and(|id| bucket::of(Version::V2, &self.seed, id) < self.of)
    }
}

impl Choice {
    /// Whether the choice applies.
    #[must_use]
    pub fn test(&self, facts: &Facts<'_>) -> Outcome {
        if self.share.as_ref().is_some_and(|share| !share.has(facts.visitor())) {
            return Outcome::False;
        }
        self.when.as_ref().map_or(Outcome::True, |when| when.test(facts))
    }
}
