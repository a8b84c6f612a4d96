//! Which site a host belongs to.

use std::collections::HashMap;

/// `www.shop.example`, or `*.shop.example` for every name below. Lower case, without port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// This one.
    Exact(Box<str>),
    /// Every name below this one.
    Below(Box<str>),
}

/// Why text is not a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostPatternError {
    /// A port.
    #[error("`{0}` has a port: a site answers on every listener, write the host alone")]
    Port(String),
    /// Anything else.
    #[error("`{0}` is not a host: expected `www.shop.example`, `*.shop.example` or an address")]
    NotAHost(String),
}

impl HostPattern {
    /// Reads a host of the configuration.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, HostPatternError> {
        let lower = text.to_ascii_lowercase();
        if lower.starts_with('[') && lower.ends_with(']') {
            let inner = lower.trim_matches(['[', ']']);
            return match inner.parse::<std::net::Ipv6Addr>() {
                Ok(_) => Ok(Self::Exact(lower.into())),
                Err(_) => Err(HostPatternError::NotAHost(text.into())),
            };
        }
        if let Some((_, port)) = lower.rsplit_once(':')
            && port.bytes().all(|byte| byte.is_ascii_digit())
        {
            return Err(HostPatternError::Port(text.into()));
        }
        let (below, name) = match lower.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, lower.as_str()),
        };
        let part = |part: &str| {
            (1..=63).contains(&part.len())
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        if name.len() > 253 || !name.split('.').all(part) {
            return Err(HostPatternError::NotAHost(text.into()));
        }
        Ok(if below { Self::Below(name.into()) } else { Self::Exact(name.into()) })
    }
}

impl HostPattern {
    /// Whether `host` (without port, lower case) is one of these.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => **name == *host,
            Self::Below(name) => {
                host.strip_suffix(&**name).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
        }
    }
}

/// What belongs to hosts, found by host.
#[derive(Debug)]
pub struct Hosts<T> {
    exact: HashMap<Box<str>, T>,
    below: HashMap<Box<str>, T>,
}

impl<T> Default for Hosts<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), below: HashMap::new() }
    }
}

impl<T> Hosts<T> {
    /// Adds `value` under `pattern`; gives it back where the pattern is taken.
    ///
    /// # Errors
    /// The value, when something stands under the pattern already.
    pub fn add(&mut self, pattern: HostPattern, value: T) -> Result<(), T> {
        use std::collections::hash_map::Entry;
        let (map, name) = match pattern {
            HostPattern::Exact(name) => (&mut self.exact, name),
            HostPattern::Below(name) => (&mut self.below, name),
        };
        match map.entry(name) {
            Entry::Occupied(_) => Err(value),
            Entry::Vacant(place) => {
                place.insert(value);
                Ok(())
            }
        }
    }

    /// What belongs to `host` (lower case, without port): its own, or that of the nearest name
    /// above it.
    #[must_use]
    pub fn find(&self, host: &str) -> Option<&T> {
        if let Some(found) = self.exact.get(host) {
            return Some(found);
        }
        if self.below.is_empty() {
            return None;
        }
        let mut rest = host;
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(found) = self.below.get(parent) {
                return Some(found);
            }
            rest = parent;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_and_found() {
        for wrong in ["", "a b", "*", "*.", "a..b", "http://a", "a/b", "[::x]", "*.*.a", "-.é"] {
            assert!(HostPattern::parse(wrong).is_err(), "{wrong}");
        }
        assert!(matches!(HostPattern::parse("a.b:80"), Err(HostPatternError::Port(_))));
        let mut hosts = Hosts::default();
        for (value, pattern) in
            ["Shop.example", "*.shop.example", "*.b.shop.example", "[::1]"].iter().enumerate()
        {
            hosts.add(HostPattern::parse(pattern).unwrap(), value).unwrap();
        }
        assert!(hosts.add(HostPattern::parse("SHOP.example").unwrap(), 9).is_err());
        for (host, found) in [
            ("shop.example", Some(&0)),
            ("www.shop.example", Some(&1)),
            ("a.b.shop.example", Some(&2)),
            ("b.shop.example", Some(&1)),
            ("[::1]", Some(&3)),
            ("example", None),
            ("xshop.example", None),
            ("", None),
        ] {
            assert_eq!(hosts.find(host), found, "{host}");
        }
    }
}
