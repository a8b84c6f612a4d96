//! Who is on the other end of a connection, and what of that the origin is told.

use std::net::IpAddr;
use std::ops::Range;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;
use pingora::{ErrorType, OrErr, Result};

use super::claims::claims;
use super::context::RequestId;
use super::limits::household;

/// The client as far as it can be believed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Client {
    /// The visitor's address.
    pub(super) address: Option<IpAddr>,
    /// The other end of the connection: the visitor, or a proxy in front of us.
    peer: Option<IpAddr>,
    /// The visitor speaks TLS.
    pub(super) secure: bool,
    /// The peer is a proxy whose headers are believed.
    trusted: bool,
}

impl Client {
    pub(super) fn of(session: &ServerSession, trusted: &[IpNet]) -> Self {
        let peer = session
            .client_addr()
            .and_then(|address| address.as_inet())
            .map(|address| address.ip().to_canonical());
        let tls = session.digest().is_some_and(|digest| digest.ssl_digest.is_some());
        let is_trusted = |ip: IpAddr| trusted.iter().any(|network| network.contains(&ip));
        if !peer.is_some_and(is_trusted) {
            return Self { address: peer, peer, secure: tls, trusted: false };
        }
        let headers = &session.req_header().headers;
        Self {
            address: forwarded_for(headers, is_trusted).or(peer),
            peer,
            secure: forwarded_proto(headers).unwrap_or(tls),
            trusted: true,
        }
    }

    /// The visitor's network, which has a share. None where that is a proxy of one's own: behind it are all of its
    /// visitors.
    pub(super) fn network(&self) -> Option<u128> {
        let own_proxy = self.trusted && self.address == self.peer;
        self.address.filter(|_| !own_proxy).map(household)
    }

    /// `http` or `https`.
    pub(super) fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// Tells the origin whom it answers, and how the request is called.
    pub(super) fn announce(
        &self,
        request: &mut RequestHeader,
        host: &str,
        id: RequestId,
    ) -> Result<()> {
        // One piece of memory, of which each header holds its part.
        let mut all = String::with_capacity(FIXED + host.len());
        let mut node = 0..0;
        if let Some(peer) = self.peer {
            let (open, close) = if peer.is_ipv4() { ("for=", "") } else { ("for=\"[", "]\"") };
            all.push_str(open);
            node = push_address(&mut all, peer);
            all.push_str(close);
            all.push_str(";host=\"");
        }
        let named = push(&mut all, host);
        if self.peer.is_some() {
            all.push_str("\";proto=");
            all.push_str(self.scheme());
        }
        let element = 0..all.len();
        let id = push(&mut all, std::str::from_utf8(&id).unwrap_or_default());
        let all = Bytes::from(all);
        let part = |range| {
            HeaderValue::from_maybe_shared(all.slice(range))
                .or_err(ErrorType::InvalidHTTPHeader, "telling the origin whom it answers")
        };
        if self.peer.is_some() {
            if self.trusted {
                append(request, "Forwarded", part(element)?)?;
                append(request, "X-Forwarded-For", part(node)?)?;
            } else {
                // What there was of them is gone.
                request.insert_header("Forwarded", part(element)?)?;
                request.insert_header("X-Forwarded-For", part(node)?)?;
            }
        }
        if !self.trusted || !request.headers.contains_key("x-forwarded-host") {
            request.insert_header("X-Forwarded-Host", part(named)?)?;
        }
        request.insert_header("X-Forwarded-Proto", HeaderValue::from_static(self.scheme()))?;
        request.insert_header("X-Request-Id", part(id)?)
    }

    /// Drops what only the edge says, and what a stranger says for others; what the site wants of that stays.
    pub(super) fn drop_claims(&self, request: &mut RequestHeader, wanted: &[HeaderName]) {
        for name in &claims(request.headers.keys(), self.trusted, wanted) {
            request.remove_header(name);
        }
    }
}

/// Bytes of what the origin is told, without the host's name.
const FIXED: usize = "for=\"[2001:db8:2001:db8:2001:db8:255.255.255.255]\";host=\"\";proto=https"
    .len()
    + size_of::<RequestId>();

/// Puts `text` at the end of `all`. Where it stands there.
fn push(all: &mut String, text: &str) -> Range<usize> {
    let start = all.len();
    all.push_str(text);
    start..all.len()
}

/// Puts an address at the end of `all`: every request has one, and nearly every one is of version 4. Where
/// it stands there.
fn push_address(all: &mut String, address: IpAddr) -> Range<usize> {
    let IpAddr::V4(address) = address else { return push(all, &address.to_string()) };
    let start = all.len();
    for (at, octet) in address.octets().into_iter().enumerate() {
        if at > 0 {
            all.push('.');
        }
        if octet >= 100 {
            all.push(char::from(b'0' + octet / 100));
        }
        if octet >= 10 {
            all.push(char::from(b'0' + octet / 10 % 10));
        }
        all.push(char::from(b'0' + octet % 10));
    }
    start..all.len()
}

/// Adds to a list that one header field or several may hold.
pub(super) fn append(
    request: &mut RequestHeader,
    name: &'static str,
    value: HeaderValue,
) -> Result<()> {
    if !request.headers.contains_key(name) {
        return request.insert_header(name, value);
    }
    let mut list = String::new();
    for before in request.headers.get_all(name) {
        if let Ok(text) = before.to_str() {
            list.push_str(text);
            list.push_str(", ");
        }
    }
    list.push_str(value.to_str().unwrap_or_default());
    request.insert_header(name, list)
}

/// The last address of X-Forwarded-For that is not one of our proxies'.
fn forwarded_for(headers: &HeaderMap, is_trusted: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let lists: Vec<&str> =
        headers.get_all("x-forwarded-for").iter().filter_map(|list| list.to_str().ok()).collect();
    let mut last = None;
    for text in lists.iter().rev().flat_map(|list| list.rsplit(',')) {
        let Some(address) = address(text.trim()) else { break };
        last = Some(address);
        if !is_trusted(address) {
            break;
        }
    }
    last
}

/// An address with or without port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip()))
        .map(|address| address.to_canonical())
}

fn forwarded_proto(headers: &HeaderMap) -> Option<bool> {
    let list = headers.get_all("x-forwarded-proto").iter().next_back()?.to_str().ok()?;
    match list.rsplit(',').next()?.trim() {
        proto if proto.eq_ignore_ascii_case("https") => Some(true),
        proto if proto.eq_ignore_ascii_case("http") => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_stranger_is_the_visitor() {
        let trusted = |ip: IpAddr| ip.to_string().starts_with("10.");
        let found = |list: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", list.parse().unwrap());
            forwarded_for(&headers, trusted).map(|ip| ip.to_string())
        };
        for (list, visitor) in [
            ("192.0.2.1", Some("192.0.2.1")),
            ("6.6.6.6, 192.0.2.1, 10.0.0.2", Some("192.0.2.1")),
            ("10.0.0.1, 10.0.0.2", Some("10.0.0.1")),
            ("192.0.2.1, garbage", None),
            ("garbage, 10.0.0.2", Some("10.0.0.2")),
            ("[2001:db8::1]:443", Some("2001:db8::1")),
            ("::ffff:192.0.2.1", Some("192.0.2.1")),
            ("", None),
        ] {
            assert_eq!(found(list).as_deref(), visitor, "{list}");
        }
    }

    #[test]
    fn addresses_are_written_as_ever() {
        let text = |address| {
            let mut all = "for=".to_owned();
            let range = push_address(&mut all, address);
            all.get(range).unwrap().to_owned()
        };
        for octet in 0..=255 {
            let address = IpAddr::from([octet, 255 - octet, 0, octet / 2]);
            assert_eq!(text(address), address.to_string());
        }
        assert_eq!(text(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])), "::1");
    }

    #[test]
    fn a_stranger_can_not_speak_for_others() {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for name in
            ["x-forwarded-for", "forwarded", "x-real-ip", "x-forwarded-host", "x-original-url"]
        {
            request.insert_header(name, "spoofed").unwrap();
        }
        let ip: Option<IpAddr> = "192.0.2.7".parse().ok();
        let client = Client { address: ip, peer: ip, secure: true, trusted: false };
        client.drop_claims(&mut request, &[]);
        client.announce(&mut request, "shop.example", *b"0123456789abcdef").unwrap();
        let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
        assert_eq!(header("x-forwarded-for"), Some("192.0.2.7"));
        assert_eq!(header("forwarded"), Some("for=192.0.2.7;host=\"shop.example\";proto=https"));
        assert_eq!(header("x-real-ip"), None);
        assert_eq!(header("x-request-id"), Some("0123456789abcdef"));
        assert_eq!(header("x-forwarded-host"), Some("shop.example"));
        assert_eq!((header("x-forwarded-proto"), header("x-original-url")), (Some("https"), None));
        let peer = "2001:db8::7".parse().ok();
        let client = Client { address: peer, peer, secure: false, trusted: false };
        client.announce(&mut request, "a", *b"0123456789abcdef").unwrap();
        let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
        assert_eq!(header("forwarded"), Some("for=\"[2001:db8::7]\";host=\"a\";proto=http"));
        assert_eq!(header("x-forwarded-for"), Some("2001:db8::7"));
    }
}
