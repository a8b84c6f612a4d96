//! Requests that servers could read in two ways are refused before anything else looks at them:
//! RFC 9112 as nginx reads it, where Pingora is more lenient.

use http::{HeaderMap, Method, Version, header};
use memchr::{memchr, memchr_iter};
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;

use super::raw_request::RawRequest;
use crate::telemetry::metrics::REJECTED;

/// Largest request head, in bytes.
pub const MAX_HEAD_BYTES: u32 = 32 * 1024;
/// Most header fields.
const MAX_FIELDS: usize = 100;
/// The field that comes in pieces over HTTP/2.
const COOKIE: &str = "cookie";

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
    #[error("a chunk of the request's body is malformed")]
    Chunk,
    /// It would show the visitor what the edge tells the origin (RFC 9110, 9.3.8).
    #[error("TRACE is not served")]
    Trace,
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
            Self::Chunk => "chunk",
            Self::Trace => "trace",
        }
    }

    pub(super) const fn status(self) -> u16 {
        match self {
            Self::TooLarge => 431,
            Self::Trace => 405,
            _ => 400,
        }
    }
}

/// Counts a request that is answered before it could be checked.
pub fn count_unread() {
    REJECTED.with_label_values(&["unread"]).inc();
}

/// Checks a request that has just been read. `raw` is what its connection's stream has seen of it, where that
/// looks.
pub(super) fn check(session: &ServerSession, raw: Option<&RawRequest>) -> Result<(), Malformed> {
    let request = session.req_header();
    if let Some(raw) = raw {
        raw.judge();
    }
    if let Some(h1) = session.as_http1() {
        raw_head(&h1.get_headers_raw_bytes(), request.version)?;
        if raw.is_some_and(|raw| !raw.is_divided()) {
            return Err(Malformed::RequestLine);
        }
    } else {
        fields_of_http2(&request.headers)?;
        target_of_http2(request)?;
    }
    parsed_head(request)?;
    if request.method == Method::TRACE {
        return Err(Malformed::Trace);
    }
    if let Some(raw) = raw {
        let length = request.headers.get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        if request.headers.contains_key(header::TRANSFER_ENCODING) {
            raw.expect_chunks();
        } else {
            raw.expect_bytes(length.unwrap_or(0));
        }
    }
    Ok(())
}

/// The fields of an HTTP/2 request, as an HTTP/1 origin may get them: the HTTP/2 layer takes names that are no
/// tokens, and a length twice (RFC 9113, 8.2.1 and 8.1.1).
fn fields_of_http2(headers: &HeaderMap) -> Result<(), Malformed> {
    // Browsers send each cookie as a field (RFC 9113, 8.2.3), of which the origin gets one.
    let crumbs = headers.get_all(header::COOKIE).iter().count().saturating_sub(1);
    let size: usize =
        headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let size = size.saturating_sub(crumbs * (COOKIE.len() + 2));
    if size > MAX_HEAD_BYTES as usize || headers.len() - crumbs > MAX_FIELDS {
        return Err(Malformed::TooLarge);
    }
    for (name, value) in headers {
        if !name.as_str().bytes().all(is_token) || controls(value.as_bytes()) > 0 {
            return Err(Malformed::Field);
        }
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let fits = lengths.next().is_none_or(|length| is_length(length.as_bytes()));
    if !fits || lengths.next().is_some() {
        return Err(Malformed::ContentLength);
    }
    // It has no place in HTTP/2, and would frame the body anew towards the origin.
    if headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(Malformed::TransferEncoding);
    }
    Ok(())
}

/// `:scheme` and `:path` (RFC 9113, 8.3.1).
fn target_of_http2(request: &RequestHeader) -> Result<(), Malformed> {
    let uri = &request.uri;
    let scheme = uri.scheme_str();
    let http = |scheme: &str| scheme == "http" || scheme == "https";
    // Without an authority nobody can tell what the scheme was.
    if uri.authority().is_some() && !scheme.is_some_and(http) {
        return Err(Malformed::Target);
    }
    let target = uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    let asterisk = target == "*" && request.method == Method::OPTIONS;
    if asterisk || target.starts_with('/') { Ok(()) } else { Err(Malformed::Target) }
}

/// Whether a Content-Length is a number: digits alone, no list, and not beyond any file.
fn is_length(value: &[u8]) -> bool {
    (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit)
}

/// What only the bytes show: Pingora has mended or dropped it in the parsed head.
fn raw_head(raw: &[u8], version: Version) -> Result<(), Malformed> {
    if raw.len() > MAX_HEAD_BYTES as usize {
        return Err(Malformed::TooLarge);
    }
    let mut framing = Framing::default();
    let (mut lines, mut start) = (0, 0);
    let mut begun = false;
    for end in memchr_iter(b'\n', raw) {
        let Some((b'\r', line)) = raw.get(start..end).and_then(<[u8]>::split_last) else {
            return Err(Malformed::LineEnd);
        };
        match line {
            // Empty lines in front of a request are none of it (RFC 9112, 2.2); the one behind it ends the head.
            [] => {}
            line if begun => framing.field(line)?,
            line => {
                request_line(line)?;
                begun = true;
            }
        }
        (lines, start) = (lines + 1, end + 1);
    }
    if start < raw.len() {
        return Err(Malformed::LineEnd);
    }
    // The request line and the empty one are no fields.
    if lines > MAX_FIELDS + 2 {
        return Err(Malformed::TooLarge);
    }
    // Each line's end has two control characters: there are no others.
    if controls(raw) != 2 * lines {
        let ends = memchr(0, raw).is_some() || memchr_iter(b'\r', raw).count() != lines;
        return Err(if ends { Malformed::LineEnd } else { Malformed::Field });
    }
    framing.check(version)
}

fn request_line(line: &[u8]) -> Result<(), Malformed> {
    let mut parts = line.trim_ascii_end().split(|byte| *byte == b' ');
    let (method, target, protocol) = (parts.next(), parts.next(), parts.next());
    if parts.next().is_some() || !matches!(protocol, Some(b"HTTP/1.1" | b"HTTP/1.0")) {
        return Err(Malformed::RequestLine);
    }
    match target {
        Some(target) if is_target(method.unwrap_or_default(), target) => Ok(()),
        _ => Err(Malformed::Target),
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
    fn field(&mut self, line: &[u8]) -> Result<(), Malformed> {
        let length = line.iter().position(|byte| !is_token(*byte)).unwrap_or(0);
        let (name, value) = line.split_at_checked(length).unwrap_or_default();
        let Some((b':', value)) = value.split_first().filter(|_| length > 0) else {
            return Err(Malformed::Field);
        };
        if name.eq_ignore_ascii_case(b"host") {
            self.hosts += 1;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            self.lengths += 1;
            if !is_length(value.trim_ascii()) || self.lengths > 1 {
                return Err(Malformed::ContentLength);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.encodings += 1;
            if !value.trim_ascii().eq_ignore_ascii_case(b"chunked") || self.encodings > 1 {
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
    // Without a way out in between, many bytes are looked at in one step.
    let odd = |byte: u8| byte <= b' ' || byte == 0x7f || byte == b'#';
    let plain = !target.iter().fold(false, |found, byte| found | odd(*byte));
    let form = target.starts_with(b"/")
        || target.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"http://"))
        || target.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"https://"))
        || (target == b"*" && method == b"OPTIONS");
    plain && form
}

/// A byte of a field's name (RFC 9110, 5.6.2).
pub(super) fn is_token(byte: u8) -> bool {
    #[allow(clippy::indexing_slicing, reason = "the compiler runs it")]
    static TOKENS: [bool; 256] = {
        let (mut tokens, mut byte) = ([false; 256], 0);
        while byte < 128 {
            let mark = matches!(
                byte,
                b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~'
            );
            tokens[byte as usize] = mark || byte.is_ascii_alphanumeric();
            byte += 1;
        }
        tokens
    };
    TOKENS.get(usize::from(byte)).is_some_and(|token| *token)
}

fn parsed_head(request: &RequestHeader) -> Result<(), Malformed> {
    let headers = &request.headers;
    let upgrades = headers.contains_key(header::UPGRADE);
    if upgrades && (has_length(headers) || headers.contains_key(header::TRANSFER_ENCODING)) {
        return Err(Malformed::UpgradeBody);
    }
    if request.method == Method::CONNECT {
        return Err(Malformed::RequestLine);
    }
    Ok(())
}

/// How many control characters other than tabs stand in `bytes`.
fn controls(bytes: &[u8]) -> usize {
    // Without a way out in between, and counted in bytes, many are looked at in one step.
    let control = |byte: &u8| u8::from((*byte < 0x20 && *byte != b'\t') || *byte == 0x7f);
    bytes.chunks(224).map(|part| usize::from(part.iter().map(control).sum::<u8>())).sum()
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
            ("GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", M::Field),
            ("GET / HTTP/1.1\r\nHost: a\r\n  \r\n\r\n", M::Field),
            ("GET / HTTP/1.1\r\nHost: a\r\nX(: b\r\n\r\n", M::Field),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: \x1b[2J\r\n\r\n", M::Field),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: y", M::LineEnd),
            ("GET /a\x7f HTTP/1.1\r\nHost: a\r\n\r\n", M::Target),
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
