//! Offers to change the protocol. One that nobody here takes is ignored, and the request answered as it is (RFC 9110,
//! 7.8): Java's client offers HTTP/2 without TLS with each first request, whatever body it has.

use http::{HeaderName, Version, header};
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};

const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Takes an offer that is ignored out of `request`. Any other may be taken by the origin.
pub(super) fn ignore_offers(request: &mut RequestHeader) -> Result<()> {
    let Some(offer) = request.headers.get(header::UPGRADE) else { return Ok(()) };
    let lines = request.headers.get_all(header::CONNECTION).iter();
    let is_option = lines
        .flat_map(|line| list(line.as_bytes()))
        .any(|option| option.eq_ignore_ascii_case(b"upgrade"));
    // Without the option the field is for nobody here.
    if is_option && list(offer.as_bytes()).any(|protocol| !is_ignored(protocol)) {
        return Ok(());
    }
    request.remove_header(&header::UPGRADE);
    request.remove_header(&HTTP2_SETTINGS);
    let about_offer = |option: &&[u8]| {
        option.eq_ignore_ascii_case(b"upgrade") || option.eq_ignore_ascii_case(b"http2-settings")
    };
    let lines = request.headers.get_all(header::CONNECTION).iter();
    let options = lines.flat_map(|line| list(line.as_bytes()));
    let rest = options.filter(|option| !about_offer(option)).collect::<Vec<_>>().join(&b", "[..]);
    request.remove_header(&header::CONNECTION);
    if rest.is_empty() { Ok(()) } else { request.insert_header(header::CONNECTION, rest) }
}

/// Whether a client wants to keep the connection: one of HTTP/1.0 has to say so (RFC 9112, 9.3).
pub(super) fn stays(request: &RequestHeader) -> bool {
    let lines = request.headers.get_all(header::CONNECTION).iter();
    let mut options = lines.flat_map(|line| list(line.as_bytes()));
    match request.version {
        Version::HTTP_10 => options.any(|option| option.eq_ignore_ascii_case(b"keep-alive")),
        _ => !options.any(|option| option.eq_ignore_ascii_case(b"close")),
    }
}

/// Whether the origin changes to a protocol that `request` offers (RFC 9110, 15.2.2).
pub(super) fn is_offered(request: &RequestHeader, response: &ResponseHeader) -> bool {
    let offers = || {
        let lines = request.headers.get_all(header::UPGRADE).iter();
        lines.flat_map(|line| list(line.as_bytes()))
    };
    let mut taken = response.headers.get_all(header::UPGRADE).iter().peekable();
    taken.peek().is_some()
        && taken
            .flat_map(|line| list(line.as_bytes()))
            .all(|protocol| offers().any(|offer| offer.eq_ignore_ascii_case(protocol)))
}

/// What is spoken behind TLS, or not at all.
fn is_ignored(protocol: &[u8]) -> bool {
    let tls = protocol.get(..4).is_some_and(|name| name.eq_ignore_ascii_case(b"tls/"));
    tls || protocol.eq_ignore_ascii_case(b"h2c") || protocol.eq_ignore_ascii_case(b"h2")
}

fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_that_nobody_takes_is_ignored() {
        for (upgrade, connection, kept, left) in [
            ("websocket", "Upgrade", Some("websocket"), Some("Upgrade")),
            ("h2c", "Upgrade, HTTP2-Settings", None, None),
            ("H2C", "close, upgrade,http2-settings", None, Some("close")),
            ("TLS/1.0, h2c", "keep-alive, Upgrade", None, Some("keep-alive")),
            ("h2c, websocket", "Upgrade", Some("h2c, websocket"), Some("Upgrade")),
            ("websocket", "keep-alive", None, Some("keep-alive")),
        ] {
            let mut request = RequestHeader::build("GET", b"/", None).unwrap();
            for (name, value) in
                [("Upgrade", upgrade), ("Connection", connection), ("HTTP2-Settings", "AAEA")]
            {
                request.insert_header(name, value).unwrap();
            }
            ignore_offers(&mut request).unwrap();
            let text = |name: HeaderName| request.headers.get(name).map(|it| it.to_str().unwrap());
            assert_eq!(text(header::UPGRADE), kept, "{upgrade}");
            assert_eq!(text(header::CONNECTION), left, "{upgrade}");
            assert_eq!(text(HTTP2_SETTINGS).is_some(), kept.is_some(), "{upgrade}");
        }
    }

    #[test]
    fn a_protocol_that_nobody_offered_is_none() {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        request.insert_header("Upgrade", "WebSocket, foo").unwrap();
        for (taken, offered) in [
            (Some("websocket"), true),
            (Some("foo, websocket"), true),
            (Some("bar"), false),
            (None, false),
        ] {
            let mut response = ResponseHeader::build(101, None).unwrap();
            if let Some(taken) = taken {
                response.insert_header("Upgrade", taken).unwrap();
            }
            assert_eq!(is_offered(&request, &response), offered, "{taken:?}");
        }
    }
}
