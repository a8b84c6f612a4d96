//! Requests that servers could read in two ways are refused before anything else looks at them:
//! RFC 9112 as nginx reads it, where Pingora is more lenient.

use std::sync::LazyLock;

use http::{HeaderMap, HeaderValue, Method, Version, header};
use memchr::{memchr, memchr_iter};
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;

/// Largest request head, in bytes.
pub const MAX_HEAD_BYTES: u32 = 32 * 1024;
/// Most header fields.
const MAX_FIELDS: usize = 100;

/// The rule that a request breaks. The label of `doorstep_requests_rejected_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("the request's head is larger than 32 KiB or has more than 100 fields")]
    TooLarge,
    #[error("a line of the request's head does not end in CR LF")]
    LineEnd,
    #[error("the request line is malformed")]
    RequestLine,
    #[error("the request's target is malformed")]
    Target,
    #[error("a header field is malformed")]
    Field,
    #[error("Host is missing, doubled or malformed")]
    Host,
    #[error("Content-Length is doubled or malformed")]
    ContentLength,
    #[error("Transfer-Encoding is something other than `chunked`, or stands beside Content-Length")]
    TransferEncoding,
    #[error("a request to change the protocol can't have a body")]
    UpgradeBody,
}

impl Malformed {
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::LineEnd => "line_end",
            Self::RequestLine => "request_line",
            Self::Target => "target",
            Self::Field => "field",
            Self::Host => "host",
            Self::ContentLength => "content_length",
            Self::TransferEncoding => "transfer_encoding",
            Self::UpgradeBody => "upgrade_body",
        }
    }

    pub(super) const fn status(self) -> u16 {
        match self {
            Self::TooLarge => 431,
            _ => 400,
        }
    }
}

/// Checks a request that has just been read.
pub(super) fn check(session: &ServerSession) -> Result<(), Malformed> {
    let request = session.req_header();
    if let Some(h1) = session.as_http1() {
        raw_head(&h1.get_headers_raw_bytes(), request.version)?;
    } else {
        let size: usize =
            request.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if size > MAX_HEAD_BYTES as usize || request.headers.len() > MAX_FIELDS {
            return Err(Malformed::TooLarge);
        }
    }
    parsed_head(request)
}

/// What only the bytes show: Pingora has mended or dropped it in the parsed head.
fn raw_head(raw: &[u8], version: Version) -> Result<(), Malformed> {
    if raw.len() > MAX_HEAD_BYTES as usize {
        return Err(Malformed::TooLarge);
    }
    // CR and LF belong together, and only as the end of a line.
    let mut start = 0;
    for end in memchr_iter(b'\n', raw) {
        let line = raw.get(start..end).unwrap_or_default();
        if memchr(b'\r', line).map(|at| at + 1) != Some(line.len()) {
            return Err(Malformed::LineEnd);
        }
        start = end + 1;
    }
    if memchr(b'\r', raw.get(start..).unwrap_or_default()).is_some() || memchr(0, raw).is_some() {
        return Err(Malformed::LineEnd);
    }
    let mut lines = Lines(raw).map(<[u8]>::trim_ascii_end);
    let mut parts = lines.next().unwrap_or_default().split(|byte| *byte == b' ');
    let (method, target, protocol) = (parts.next(), parts.next(), parts.next());
    if parts.next().is_some() || !matches!(protocol, Some(b"HTTP/1.1" | b"HTTP/1.0")) {
        return Err(Malformed::RequestLine);
    }
    if !target.is_some_and(|target| is_target(method.unwrap_or_default(), target)) {
        return Err(Malformed::Target);
    }
    let tokens = &*TOKEN;
    let token = |byte: u8| tokens.get(usize::from(byte)).is_some_and(|token| *token);
    let mut framing = Framing::default();
    let mut fields = 0;
    for line in lines.filter(|line| !line.is_empty()) {
        fields += 1;
        let colon = memchr(b':', line).ok_or(Malformed::Field)?;
        let (name, value) = line.split_at(colon);
        if name.is_empty() || !name.iter().all(|byte| token(*byte)) {
            return Err(Malformed::Field);
        }
        framing.field(name, value.get(1..).unwrap_or_default().trim_ascii())?;
    }
    if fields > MAX_FIELDS {
        return Err(Malformed::TooLarge);
    }
    framing.check(version)
}

/// What stands between line feeds.
struct Lines<'r>(&'r [u8]);

impl<'r> Iterator for Lines<'r> {
    type Item = &'r [u8];

    fn next(&mut self) -> Option<&'r [u8]> {
        let rest = std::mem::take(&mut self.0);
        if rest.is_empty() {
            return None;
        }
        let end = memchr(b'\n', rest).unwrap_or(rest.len());
        self.0 = rest.get(end + 1..).unwrap_or_default();
        rest.get(..end)
    }
}

/// The fields that say where a request ends and whom it is for.
#[derive(Default)]
struct Framing {
    hosts: usize,
    lengths: usize,
    encodings: usize,
}

impl Framing {
    fn field(&mut self, name: &[u8], value: &[u8]) -> Result<(), Malformed> {
        if name.eq_ignore_ascii_case(b"host") {
            self.hosts += 1;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            self.lengths += 1;
            let digits = (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
            if !digits || self.lengths > 1 {
                return Err(Malformed::ContentLength);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.encodings += 1;
            if !value.eq_ignore_ascii_case(b"chunked") || self.encodings > 1 {
                return Err(Malformed::TransferEncoding);
            }
        }
        Ok(())
    }

    fn check(&self, version: Version) -> Result<(), Malformed> {
        if self.hosts > 1 || (self.hosts == 0 && version == Version::HTTP_11) {
            return Err(Malformed::Host);
        }
        if self.encodings > 0 && (self.lengths > 0 || version != Version::HTTP_11) {
            return Err(Malformed::TransferEncoding);
        }
        Ok(())
    }
}

/// Origin form, absolute form, or `*` for OPTIONS (RFC 9112, 3.2). CONNECT is not served.
fn is_target(method: &[u8], target: &[u8]) -> bool {
    let plain = target.iter().all(|byte| byte.is_ascii_graphic() || *byte >= 0x80);
    let form = target.starts_with(b"/")
        || target.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"http://"))
        || target.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"https://"))
        || (target == b"*" && method == b"OPTIONS");
    plain && form && !target.contains(&b'#')
}

/// The bytes of a field's name (RFC 9110, 5.6.2).
static TOKEN: LazyLock<[bool; 256]> = LazyLock::new(|| {
    std::array::from_fn(|byte| {
        u8::try_from(byte)
            .is_ok_and(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    })
});

fn parsed_head(request: &RequestHeader) -> Result<(), Malformed> {
    let headers = &request.headers;
    // Without a way out in between, many bytes are looked at in one step.
    let controls = |value: &HeaderValue| {
        value.as_bytes().iter().fold(false, |found, byte| found | is_control(*byte))
    };
    if headers.values().any(controls) {
        return Err(Malformed::Field);
    }
    let upgrades = headers.contains_key(header::UPGRADE);
    if upgrades && (has_length(headers) || headers.contains_key(header::TRANSFER_ENCODING)) {
        return Err(Malformed::UpgradeBody);
    }
    if request.method == Method::CONNECT {
        return Err(Malformed::RequestLine);
    }
    Ok(())
}

fn is_control(byte: u8) -> bool {
    (byte < 0x20 && byte != b'\t') || byte == 0x7f
}

fn has_length(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_LENGTH).is_some_and(|value| value != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(raw: &str) -> Result<(), Malformed> {
        let version = if raw.contains("HTTP/1.0") { Version::HTTP_10 } else { Version::HTTP_11 };
        raw_head(raw.as_bytes(), version)
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        use Malformed as M;
        let large = format!(
            "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
            "x".repeat(MAX_HEAD_BYTES as usize)
        );
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(100));
        for (raw, rule) in [
            ("GET / HTTP/1.1\nHost: a\n\n", M::LineEnd),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", M::LineEnd),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", M::LineEnd),
            ("GET / x HTTP/1.1\r\nHost: a\r\n\r\n", M::RequestLine),
            ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", M::RequestLine),
            ("GET /\r\n\r\n", M::RequestLine),
            ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", M::RequestLine),
            ("GET @foreign/ HTTP/1.1\r\nHost: a\r\n\r\n", M::Target),
            ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", M::Target),
            ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", M::Target),
            ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", M::Target),
            ("GET / HTTP/1.1\r\n\r\n", M::Host),
            ("GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", M::Host),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", M::Field),
            ("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", M::Field),
            ("GET / HTTP/1.1\r\nHost: a\r\nnocolon\r\n\r\n", M::Field),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
                M::ContentLength,
            ),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n", M::ContentLength),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", M::ContentLength),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", M::ContentLength),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
                M::TransferEncoding,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity, chunked\r\n\r\n",
                M::TransferEncoding,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
                M::TransferEncoding,
            ),
            (
                "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
                M::TransferEncoding,
            ),
            (&large, M::TooLarge),
            (&many, M::TooLarge),
        ] {
            assert_eq!(judged(raw), Err(rule), "{:?}", &raw[..raw.len().min(90)]);
        }
    }

    #[test]
    fn what_browsers_send_passes() {
        for raw in [
            "GET / HTTP/1.1\r\nHost: a.example:8080\r\nAccept: */*\r\n\r\n",
            "GET /%2e%2e/x?a=b|c HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\nEmpty:\r\n\r\n",
        ] {
            assert_eq!(judged(raw), Ok(()), "{raw:?}");
        }
    }
}
