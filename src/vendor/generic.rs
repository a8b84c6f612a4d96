//! Any other SDK, by rules: which paths below the prefix lead where, with what.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method};

use super::is_safe;
use crate::collect::Lane;
use crate::upstream::Upstream;

/// A vendor that is known by its rules alone.
pub struct Generic {
    /// Where its SDK and its API are.
    pub upstream: Arc<Upstream>,
    /// The way of what is spooled.
    pub lane: Arc<Lane>,
    /// Sent with every call, such as a key.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The first that matches counts.
    pub rules: Vec<Rule>,
}

/// A path, and where it leads.
#[derive(Debug)]
pub struct Rule {
    /// Below the prefix, with its leading slash; all paths below it where `below` is set.
    pub path: Box<str>,
    /// The path ends with `/*`: all below it match.
    pub below: bool,
    /// The path at the vendor that takes the place of `path`.
    pub upstream: Box<str>,
    /// Methods that it takes.
    pub methods: Vec<Method>,
    /// Most bytes of a body.
    pub body: usize,
    /// Headers of the browser's that the vendor gets.
    pub headers: Vec<HeaderName>,
    /// Kept and delivered like an event; else the vendor answers the browser.
    pub spooled: bool,
}

impl Generic {
    /// The rule for a normalised path below the prefix.
    #[must_use]
    pub fn rule(&self, path: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.rest(path).is_some())
    }
}

impl Rule {
    /// What of `path` stands behind the rule's own.
    fn rest<'p>(&self, path: &'p str) -> Option<&'p str> {
        let rest = path.strip_prefix(&*self.path)?;
        if !self.below {
            return rest.is_empty().then_some(rest);
        }
        rest.strip_prefix('/').is_some_and(is_safe).then_some(rest)
    }

    /// What the vendor is asked for, below its base path.
    #[must_use]
    pub fn target(&self, path: &str, query: Option<&str>) -> String {
        let rest = self.rest(path).unwrap_or_default();
        match query {
            Some(query) => format!("{}{rest}?{query}", self.upstream),
            None => format!("{}{rest}", self.upstream),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_lead_where_they_say_and_nowhere_else() {
        let rule = |path: &str, below: bool| Rule {
            path: path.into(),
            below,
            upstream: "/m".into(),
            methods: vec![Method::GET],
            body: 0,
            headers: Vec::new(),
            spooled: false,
        };
        let (exact, below) = (rule("/matomo.js", false), rule("/plugins", true));
        assert_eq!(exact.target("/matomo.js", Some("a=b")), "/m?a=b");
        assert_eq!(exact.rest("/matomo.jsx"), None);
        assert_eq!(below.target("/plugins/a/b.js", None), "/m/a/b.js");
        for wrong in [
            "/plugins",
            "/plugins/",
            "/pluginsx/a",
            "/plugins/../a",
            "/plugins//a",
            "/plugins/a%2fb",
        ] {
            assert_eq!(below.rest(wrong), None, "{wrong}");
        }
    }
}
