//! Which Domain attribute an identity cookie gets.

use std::net::IpAddr;

/// Domain of the identity cookies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CookieDomain {
    /// The registrable domain of the host asked for, by the public suffix list: `shop.co.uk` for
    /// `www.shop.co.uk`. That is where the SDK sets its own cookies.
    Registrable,
    /// No Domain attribute: this host alone.
    Host,
    /// This one.
    Fixed(Box<str>),
}

impl CookieDomain {
    /// The Domain attribute for a page of `host` (with or without port). `None` means a cookie of
    /// the host alone, also where a browser would refuse any other: addresses, `localhost`,
    /// public suffixes.
    #[must_use]
    pub fn of<'a>(&'a self, host: &'a str) -> Option<&'a str> {
        match self {
            Self::Registrable => registrable(host),
            Self::Host => None,
            Self::Fixed(domain) => Some(domain),
        }
    }
}

/// The registrable domain of `host` (with or without port), if it has one.
#[must_use]
pub fn registrable(host: &str) -> Option<&str> {
    let host = host_without_port(host);
    // Every IPv4 address ends in a digit, and hardly any name does.
    let digit = host.ends_with(|last: char| last.is_ascii_digit());
    if host.starts_with('[') || (digit && host.parse::<IpAddr>().is_ok()) {
        return None;
    }
    psl::domain_str(host)
}

/// `shop.example:8080` → `shop.example`, `[::1]:80` → `[::1]`.
#[must_use]
pub fn host_without_port(host: &str) -> &str {
    match memchr::memrchr(b':', host.as_bytes()) {
        Some(colon) if !host.ends_with(']') => host.get(..colon).unwrap_or(host),
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_public_suffix_list() {
        for (host, domain) in [
            ("www.shop.co.uk", Some("shop.co.uk")),
            ("shop.example:8080", Some("shop.example")),
            ("a.b.github.io", Some("b.github.io")),
            ("github.io", None),
            ("co.uk", None),
            ("localhost", None),
            ("localhost:8080", None),
            ("127.0.0.1:8080", None),
            ("[::1]:8080", None),
        ] {
            assert_eq!(CookieDomain::Registrable.of(host), domain, "{host}");
            assert_eq!(CookieDomain::Host.of(host), None);
        }
        assert_eq!(CookieDomain::Fixed("x.example".into()).of("a.x.example"), Some("x.example"));
    }
}
