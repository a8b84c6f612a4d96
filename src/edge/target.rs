//! Whom and what a request asks for, normalised once and early.

use http::header;
use pingora::http::RequestHeader;

/// A host with its port, lower case, of characters that fit a header, a URL and a script.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Authority {
    text: Box<str>,
    host_bytes: usize,
}

impl Authority {
    /// The host that `request` asks for: the target's own in absolute form and HTTP/2, else the
    /// Host header.
    pub(super) fn of(request: &RequestHeader) -> Option<Self> {
        if let Some(authority) = request.uri.authority() {
            return Self::parse(authority.as_str());
        }
        let mut hosts = request.headers.get_all(header::HOST).iter();
        let host = hosts.next()?;
        if hosts.next().is_some() {
            return None;
        }
        Self::parse(std::str::from_utf8(host.as_bytes()).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        if text.len() > 261 {
            return None;
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (inner, behind) = rest.split_once(']')?;
                inner.parse::<std::net::Ipv6Addr>().ok()?;
                (text.get(..inner.len() + 2)?, behind)
            }
            None => {
                let colon = memchr::memchr(b':', text.as_bytes()).unwrap_or(text.len());
                text.split_at_checked(colon)?
            }
        };
        let port_fits = match port.strip_prefix(':') {
            Some(digits) => digits.parse::<u16>().is_ok() && !digits.starts_with('+'),
            None => port.is_empty(),
        };
        let name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        let host_fits = host.starts_with('[') || (!host.is_empty() && host.bytes().all(name));
        (port_fits && host_fits)
            .then(|| Self { text: text.to_ascii_lowercase().into(), host_bytes: host.len() })
    }

    /// With port, where the visitor named one.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Without port, and without the dot that ends a full name.
    pub(super) fn host(&self) -> &str {
        let host = self.text.get(..self.host_bytes).unwrap_or(&self.text);
        host.strip_suffix('.').unwrap_or(host)
    }

    /// The port, where the visitor named one.
    pub(super) fn port(&self) -> Option<u16> {
        self.text.get(self.host_bytes..)?.strip_prefix(':')?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_strictly() {
        for wrong in [
            "", ":80", "a b", "a:b", "a:80:81", "u@a", "a/b", "a:99999", "[::1", "[x]", "[::1]x",
            "a:+80", "é", "a,b",
        ] {
            assert_eq!(Authority::parse(wrong), None, "{wrong}");
        }
        let shop = Authority::parse("WWW.Shop.example:8080").unwrap();
        assert_eq!((shop.as_str(), shop.host()), ("www.shop.example:8080", "www.shop.example"));
        let address = Authority::parse("[::1]:80").unwrap();
        assert_eq!((address.as_str(), address.host()), ("[::1]:80", "[::1]"));
        assert_eq!(Authority::parse("a.example.").unwrap().host(), "a.example");
        assert_eq!((shop.port(), address.port()), (Some(8080), Some(80)));
        assert_eq!(Authority::parse("a.example").unwrap().port(), None);
    }
}
