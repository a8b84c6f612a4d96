//! Which page a visitor gets under a URL.

use std::collections::HashMap;

use super::{Expression, Facts, Outcome};

/// A condition and the path that it leads to.
#[derive(Debug)]
pub struct Choice {
    /// When it is true…
    pub when: Expression,
    /// …the origin is asked for this path.
    pub path: Box<str>,
}

/// All variations of a site, found by route.
#[derive(Debug, Default)]
pub struct Variations {
    by_route: HashMap<Box<str>, Vec<Choice>>,
}

/// What was chosen for a page.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Chosen<'v> {
    /// The path to ask the origin for; `None` for the page's own.
    pub path: Option<&'v str>,
    /// The page has variations, whether or not one was chosen.
    pub varies: bool,
    /// How many conditions failed at run time.
    pub failed: usize,
}

impl Variations {
    /// Adds the choices of `route`. The first route of a name counts.
    pub fn add(&mut self, route: &str, choices: Vec<Choice>) {
        self.by_route.entry(route.into()).or_insert(choices);
    }

    /// Whether there are none, so that nobody's profile is needed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_route.is_empty()
    }

    /// Whether pages under `path` vary.
    #[must_use]
    pub fn varies(&self, path: &str) -> bool {
        self.by_route.contains_key(path)
    }

    /// The choices of pages under `path`, in order.
    #[must_use]
    pub fn choices(&self, path: &str) -> &[Choice] {
        self.by_route.get(path).map_or(&[], Vec::as_slice)
    }

    /// The path for a page of `path`: the first condition that is true of `facts` chooses.
    #[must_use]
    pub fn choose(&self, path: &str, facts: &Facts<'_>) -> Chosen<'_> {
        let Some(choices) = self.by_route.get(path) else { return Chosen::default() };
        let mut chosen = Chosen { varies: true, ..Chosen::default() };
        for choice in choices {
            match choice.when.test(facts) {
                Outcome::True => {
                    chosen.path = Some(&choice.path);
                    break;
                }
                Outcome::False => {}
                Outcome::Failed(_) => chosen.failed += 1,
            }
        }
        chosen
    }
}
