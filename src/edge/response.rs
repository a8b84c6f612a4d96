//! What of an origin's answer can't stay as it is: fields about one connection, validators and
//! caching of bytes that will be others, identity cookies that scripts could read.

use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use pingora::Result;
use pingora::http::ResponseHeader;
use smallvec::SmallVec;

use super::claims::is_own;
use super::form::VARY;
use crate::identity::{UserCookie, promote, user_in};
use crate::site::Site;

pub(super) fn text<'r>(response: &'r ResponseHeader, name: &HeaderName) -> Option<&'r str> {
    response.headers.get(name).map(|value| value.to_str().unwrap_or("unreadable"))
}

/// Of several types the last one counts (Fetch, 2.2.2: extract a MIME type).
fn content_type(response: &ResponseHeader) -> Option<&HeaderValue> {
    response.headers.get_all(header::CONTENT_TYPE).iter().next_back()
}

pub(super) fn is_html(response: &ResponseHeader) -> bool {
    content_type(response).is_some_and(|kind| {
        let kind = kind.as_bytes().trim_ascii_start();
        let (kind, rest) = kind.split_at_checked(HTML.len()).unwrap_or_default();
        let ends = matches!(rest.trim_ascii_start().first(), None | Some(b';'));
        ends && kind.eq_ignore_ascii_case(HTML)
    })
}

const HTML: &[u8] = b"text/html";

/// Whether what we write means the same in the page's encoding. An unknown or missing one counts
/// as compatible, as browsers take it for one that is.
pub(super) fn is_ascii_compatible(response: &ResponseHeader) -> bool {
    charset(response)
        .and_then(|label| encoding_rs::Encoding::for_label(label.as_bytes()))
        .is_none_or(encoding_rs::Encoding::is_ascii_compatible)
}

/// The charset that Content-Type names.
pub(super) fn charset(response: &ResponseHeader) -> Option<&str> {
    let kind = content_type(response)?.to_str().unwrap_or("unreadable");
    let parameters = kind.get(memchr::memchr(b';', kind.as_bytes())? + 1..)?;
    parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
    })
}

/// What of an origin's answer is no longer true for the visitor who gets it.
#[derive(Debug, Default)]
pub(super) struct Changed {
    /// It belongs to this visitor: shared caches are kept off, and the visitor's own asks again, because who asks may
    /// be another one by then. What is stricter stays.
    pub(super) private: bool,
    /// Its bytes are others: what names the origin's own goes.
    pub(super) bytes: bool,
    /// Lines of Set-Cookie that come with it.
    pub(super) cookies: Vec<String>,
}

impl Changed {
    /// Makes `response` say so.
    pub(super) fn tell(self, response: &mut ResponseHeader) -> Result<()> {
        let untrue = |name: &str| match name {
            // What names the origin's own bytes.
            "etag" | "last-modified" | "accept-ranges" | "content-md5" | "digest"
            | "content-digest" | "repr-digest" => self.bytes,
            // What only shared caches read.
            "expires" | "surrogate-control" | "edge-control" | "x-accel-expires" => self.private,
            name => self.private && is_for_shared_caches(name),
        };
        if self.private || self.bytes {
            remove_any(response, untrue);
        }
        // What goes has made room for what comes.
        if self.private {
            let values = response.headers.get_all(header::CACHE_CONTROL).iter();
            let mut values = values.filter_map(|value| value.to_str().ok()).peekable();
            match values.peek() {
                None => response.insert_header(header::CACHE_CONTROL, ONLY_PRIVATE)?,
                Some(_) => {
                    let value = private_cache_control(values);
                    response.insert_header(header::CACHE_CONTROL, value)?;
                }
            }
        }
        for line in self.cookies {
            response.append_header(header::SET_COOKIE, line)?;
        }
        Ok(())
    }
}

/// Whether a field says to shared caches what `Cache-Control` says to all: `CDN-Cache-Control` and each one's own
/// (RFC 9213), and lifetimes as Varnish's configurations read them (`X-Reverse-Proxy-TTL`).
fn is_for_shared_caches(name: &str) -> bool {
    let ends = |with: &str| {
        let of = name.len().checked_sub(with.len()).and_then(|at| name.get(at..));
        let same = |(byte, own): (u8, u8)| byte == own || (own == b'-' && byte == b'_');
        of.is_some_and(|of| of.bytes().zip(with.bytes()).all(same))
    };
    ends("-cache-control") || (name.starts_with("x-") && ends("-ttl"))
}

const PRIVATE: &str = "private";
const NO_CACHE: &str = "no-cache";
const ONLY_PRIVATE: HeaderValue = HeaderValue::from_static("private, no-cache");

fn private_cache_control<'v>(values: impl Iterator<Item = &'v str>) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let (mut closed, mut asks) = (false, false);
    for directive in values.flat_map(|value| value.split(',')).map(str::trim) {
        let name = directive.split('=').next().unwrap_or_default().trim();
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        if is("public")
            || is("s-maxage")
            || is("immutable")
            || is("stale-while-revalidate")
            || is("stale-if-error")
            || is("max-age")
        {
            continue;
        }
        // `private="field"` keeps only that field private, and `no-cache="field"` asks for that one alone.
        if (is("private") || is("no-cache")) && directive.contains('=') {
            continue;
        }
        closed |= is("private") || is("no-store");
        asks |= is("no-cache") || is("no-store");
        if !directive.is_empty() {
            kept.push(directive);
        }
    }
    if !closed {
        kept.insert(0, PRIVATE);
    }
    if !asks {
        kept.push(NO_CACHE);
    }
    kept.join(", ")
}

/// Says that the answer is one of several forms, so that no cache shows the one where the other is due.
pub(super) fn vary(response: &mut ResponseHeader) -> Result<()> {
    response.append_header(header::VARY, VARY).map(drop)
}

/// Removes what the origin says to the edge alone, and what only the edge says.
pub(super) fn drop_own(response: &mut ResponseHeader) {
    let own: SmallVec<[HeaderName; 2]> =
        response.headers.keys().filter(|name| is_own(name)).cloned().collect();
    for name in &own {
        response.remove_header(name);
    }
}

/// Whether the answer is a page that a browser shows: not a file to be saved (RFC 6266, 4.2: what is not known is one).
pub(super) fn is_page(response: &ResponseHeader) -> bool {
    response.status == StatusCode::OK && is_html(response) && !is_saved(response)
}

fn is_saved(response: &ResponseHeader) -> bool {
    let disposition = response.headers.get(header::CONTENT_DISPOSITION);
    disposition.is_some_and(|disposition| {
        let kind = disposition.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
        let kind = kind.trim_ascii();
        // Browsers take parameters alone for a page that is shown.
        !kind.is_empty() && !kind.contains(&b'=') && !kind.eq_ignore_ascii_case(b"inline")
    })
}

/// Whether the origin wants the page as it is (RFC 9110, 7.7; RFC 9111, 5.2.2.6).
pub(super) fn is_fixed(response: &ResponseHeader) -> bool {
    let values = response.headers.get_all(header::CACHE_CONTROL).iter();
    let mut directives = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    directives.any(|directive| directive.trim_ascii().eq_ignore_ascii_case(b"no-transform"))
}

/// Whether no body follows (RFC 9112, 6.3).
pub(super) fn has_no_body(method: &Method, response: &ResponseHeader) -> bool {
    *method == Method::HEAD
        || matches!(response.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || response.headers.get(header::CONTENT_LENGTH).is_some_and(|length| length == "0")
}

/// Removes the fields of such names. Most are never there: one walk finds out.
fn remove_any(response: &mut ResponseHeader, unwanted: impl Fn(&str) -> bool) {
    let there: SmallVec<[HeaderName; 4]> =
        response.headers.keys().filter(|name| unwanted(name.as_str())).cloned().collect();
    for name in &there {
        response.remove_header(name);
    }
}

/// Fields that are about one connection (RFC 9110, 7.6.1). Those that frame the body stay: the
/// server makes them anew.
pub(super) fn drop_hop_headers(response: &mut ResponseHeader) {
    if response.status == StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    // Nearly always there is at most a `Connection` that names none: one walk finds out.
    let hop = |(name, value): (&HeaderName, &HeaderValue)| {
        let plain =
            *name == header::CONNECTION && matches!(value.as_bytes(), b"keep-alive" | b"close");
        HOP.contains(&name.as_str()) && !plain
    };
    if !response.headers.iter().any(hop) {
        return;
    }
    let nominated: Vec<HeaderName> = response
        .headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| !PROTECTED.contains(name))
        .collect();
    for name in &nominated {
        response.remove_header(name);
    }
    // `Connection` itself is made anew by the server.
    remove_any(response, |name| name != "connection" && HOP.contains(&name));
}

const HOP: [&str; 5] =
    ["connection", "keep-alive", "proxy-connection", "proxy-authenticate", "trailer"];

/// Fields that `Connection` can't take away: an origin's slip must not change what the answer is.
const PROTECTED: [HeaderName; 6] = [
    header::TRANSFER_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CACHE_CONTROL,
    header::CONNECTION,
];

/// Closes the origin's own identity cookies to scripts. Whether the origin ends the user's.
pub(super) fn promote_cookies(
    site: &Site,
    secure: bool,
    response: &mut ResponseHeader,
) -> Result<bool> {
    if !response.headers.contains_key(header::SET_COOKIE) {
        return Ok(false);
    }
    let lines = cookie_lines(response);
    let names = &site.identity.names;
    let ends = ends_user(site, &lines);
    let promoted: Vec<Option<String>> =
        lines.iter().map(|line| promote(names, line.to_str().ok()?, secure)).collect();
    if promoted.iter().all(Option::is_none) {
        return Ok(ends);
    }
    response.remove_header(&header::SET_COOKIE);
    for (line, promoted) in lines.into_iter().zip(promoted) {
        match promoted {
            Some(line) => response.append_header(header::SET_COOKIE, line)?,
            None => response.append_header(header::SET_COOKIE, line)?,
        };
    }
    Ok(ends)
}

/// Whether an answer says plainly how long it is: chunks and nothing else, or one length, which is told once (RFC 9112,
/// 6.3).
pub(super) fn framed_plainly(response: &mut ResponseHeader) -> Result<bool> {
    let codings = response.headers.get_all(header::TRANSFER_ENCODING).iter();
    let mut codings = codings.peekable();
    if codings.peek().is_some() {
        return Ok(codings.all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked")));
    }
    let mut lengths = response.headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else { return Ok(true) };
    let is_number = |length: &[u8]| !length.is_empty() && length.iter().all(u8::is_ascii_digit);
    if lengths.next().is_none() && is_number(first.as_bytes()) {
        return Ok(true);
    }
    let all = response.headers.get_all(header::CONTENT_LENGTH).iter();
    let all = all.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let mut all = all.map(<[u8]>::trim_ascii);
    let one = all.next().unwrap_or_default().to_vec();
    if !is_number(&one) || !all.all(|other| other == one) {
        return Ok(false);
    }
    response.insert_header(header::CONTENT_LENGTH, one)?;
    Ok(true)
}

/// The answer's lines of Set-Cookie.
pub(super) fn cookie_lines(response: &ResponseHeader) -> Vec<HeaderValue> {
    response.headers.get_all(header::SET_COOKIE).iter().cloned().collect()
}

/// Whether `lines` of Set-Cookie end the user's cookie. What is said last counts.
pub(super) fn ends_user(site: &Site, lines: &[HeaderValue]) -> bool {
    let names = &site.identity.names;
    let user = lines.iter().filter_map(|line| user_in(names, line.to_str().ok()?));
    user.last() == Some(UserCookie::Ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caching_is_kept_to_the_visitor_and_never_loosened() {
        for (given, kept) in [
            ("", "private, no-cache"),
            ("public, max-age=60", "private, no-cache"),
            ("max-age=60, s-maxage=600, must-revalidate", "private, must-revalidate, no-cache"),
            ("no-store", "no-store"),
            ("no-store, max-age=5", "no-store"),
            ("no-cache", "private, no-cache"),
            ("private, max-age=0", "private, no-cache"),
            ("private=\"set-cookie\", max-age=1", "private, no-cache"),
            ("no-cache=\"set-cookie\", max-age=1", "private, no-cache"),
            ("immutable, Max-Age=31536000", "private, no-cache"),
            ("Public", "private, no-cache"),
        ] {
            assert_eq!(private_cache_control([given].into_iter()), kept, "{given}");
        }
    }

    #[test]
    fn what_a_connection_nominates_is_dropped() {
        let mut response = ResponseHeader::build(200, None).unwrap();
        for (name, value) in [
            ("connection", "x-hop, content-type"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("content-type", "text/html"),
        ] {
            response.insert_header(name, value).unwrap();
        }
        drop_hop_headers(&mut response);
        assert!(
            !response.headers.contains_key("x-hop") && !response.headers.contains_key("keep-alive")
        );
        assert!(is_html(&response));
    }

    #[test]
    fn what_only_shared_caches_read_is_known_by_its_name() {
        for (name, is) in [
            ("cdn-cache-control", true),
            ("akamai-cache-control", true),
            ("x-litespeed-cache-control", true),
            ("cdn_cache_control", true),
            ("x-reverse-proxy-ttl", true),
            ("cache-control", false),
            ("x-subtitle", false),
            ("ttl", false),
        ] {
            assert_eq!(is_for_shared_caches(name), is, "{name}");
        }
    }
}
