//! Whose page a request comes from, by what the browser says itself.

use http::header;
use pingora::http::RequestHeader;

use super::context::Context;
use crate::identity::{host_without_port, registrable};
use crate::site::Site;

const SEC_FETCH_SITE: http::HeaderName = http::HeaderName::from_static("sec-fetch-site");

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source<'r> {
    /// The same host, or a client that does not say.
    Own,
    /// Another host of the site's registrable domain.
    Sibling(&'r str),
    /// Anywhere else.
    Foreign,
}

/// Where `request` comes from, by what the browser says itself. An origin is scheme, host and port (RFC 6454): a
/// page that came over http is no page of a site that is served over https, because anybody on the way could have
/// made it.
pub(super) fn source<'r>(request: &'r RequestHeader, context: &Context, site: &Site) -> Source<'r> {
    let asked = EdgeUrl { scheme: context.client.scheme(), host: context.authority.as_str() };
    // Another port is another origin.
    let same_port = |theirs: &str| {
        let port = |host: &str| port(host).map(str::to_owned);
        port(theirs).is_none() || port(theirs) == port(asked.host)
    };
    let admits = |theirs: &str| {
        !site.cors_own_hosts || (site.has_host(host_without_port(theirs)) && same_port(theirs))
    };
    source_of(request, asked, &site.cors, admits)
}

/// The port that is said beside a host. None where it is the scheme's own.
fn port(host: &str) -> Option<&str> {
    host.strip_prefix(host_without_port(host))?.strip_prefix(':')
}

/// How the edge was asked.
#[derive(Clone, Copy)]
struct EdgeUrl<'a> {
    scheme: &'a str,
    /// With port.
    host: &'a str,
}

fn source_of<'r>(
    request: &'r RequestHeader,
    asked: EdgeUrl<'_>,
    others: &[Box<str>],
    admits: impl Fn(&str) -> bool,
) -> Source<'r> {
    let headers = &request.headers;
    let Some(origin) = headers.get(header::ORIGIN) else {
        let foreign =
            headers.get(SEC_FETCH_SITE).is_some_and(|site| site.as_bytes() == b"cross-site");
        return if foreign { Source::Foreign } else { Source::Own };
    };
    let Some((origin, (scheme, theirs))) =
        origin.to_str().ok().and_then(|origin| Some((origin, origin.split_once("://")?)))
    else {
        return Source::Foreign;
    };
    if others.iter().any(|other| origin.eq_ignore_ascii_case(other)) {
        return Source::Sibling(origin);
    }
    // What stands in front of the edge may speak TLS for it without saying so: then all that is known is http.
    let safe = scheme.eq_ignore_ascii_case("https")
        || (scheme.eq_ignore_ascii_case("http") && asked.scheme == "http");
    if !safe {
        return Source::Foreign;
    }
    if theirs.eq_ignore_ascii_case(asked.host) {
        return Source::Own;
    }
    let theirs = theirs.to_ascii_lowercase();
    let same_host = host_without_port(&theirs) == host_without_port(asked.host);
    match (registrable(&theirs), registrable(asked.host)) {
        _ if !admits(&theirs) => Source::Foreign,
        (Some(a), Some(b)) if a == b => Source::Sibling(origin),
        _ if same_host => Source::Sibling(origin),
        _ => Source::Foreign,
    }
}

/// Whether a page of the very host that is asked refers to this request.
pub(super) fn is_of_this_page(request: &RequestHeader, context: &Context) -> bool {
    let text = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
    match text("sec-fetch-site") {
        Some(site) => site == "same-origin",
        // Older browsers, and pages over http, say where they are.
        None => text("referer").and_then(origin_of).is_some_and(|(scheme, host)| {
            let own = host.eq_ignore_ascii_case(context.authority.as_str());
            own && (scheme == "https" || !context.client.secure)
        }),
    }
}

/// Whether a file that says who asks may be given: script elements of any site can name its URL.
pub(super) fn is_asked_by_the_site(
    request: &RequestHeader,
    context: &Context,
    site: &Site,
) -> bool {
    let text = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
    let page = text("referer").and_then(origin_of);
    let own = |host: &str| {
        let bare = host_without_port(host);
        let same = registrable(bare).is_some_and(|theirs| {
            registrable(context.authority.as_str())
                .is_some_and(|own| own.eq_ignore_ascii_case(theirs))
        });
        same && (!site.cors_own_hosts || site.has_host(&bare.to_ascii_lowercase()))
    };
    match text("sec-fetch-site") {
        Some("same-origin") => true,
        // Which page that is stands in the Referer alone.
        Some("same-site") => !site.cors_own_hosts || page.is_some_and(|(_, host)| own(host)),
        Some(_) => false,
        // Older browsers say where they are.
        None => page.is_some_and(|(scheme, host)| {
            let safe = scheme == "https" || !context.client.secure;
            let named = |other: &str| other.split_once("://") == Some((scheme, host));
            (safe && own(host)) || site.cors.iter().any(|other| named(other))
        }),
    }
}

/// Scheme and host, with port, of a URL.
fn origin_of(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    Some((scheme, rest.split(['/', '?', '#']).next().unwrap_or(rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from<'r>(
        request: &'r RequestHeader,
        url: &'static str,
        admits: fn(&str) -> bool,
    ) -> Source<'r> {
        let (scheme, host) = url.split_once("://").unwrap();
        source_of(request, EdgeUrl { scheme, host }, &["https://other.test".into()], admits)
    }

    #[test]
    fn only_pages_of_the_sites_domain_send_events() {
        let any = |_: &str| true;
        for (origin, url, source) in [
            (None, "https://www.shop.example", Source::Own),
            (Some("https://www.shop.example"), "https://www.shop.example", Source::Own),
            (
                Some("https://shop.example"),
                "https://www.shop.example",
                Source::Sibling("https://shop.example"),
            ),
            (
                Some("https://a.shop.example:81"),
                "https://www.shop.example",
                Source::Sibling("https://a.shop.example:81"),
            ),
            // Anybody on the way could have made these pages.
            (Some("http://www.shop.example"), "https://www.shop.example", Source::Foreign),
            (Some("http://a.shop.example:8080"), "https://www.shop.example", Source::Foreign),
            (Some("ftp://www.shop.example"), "https://www.shop.example", Source::Foreign),
            // Something in front may speak TLS without saying so.
            (Some("https://www.shop.example"), "http://www.shop.example", Source::Own),
            (Some("http://www.shop.example"), "http://www.shop.example", Source::Own),
            (Some("https://shop.example.evil.test"), "https://www.shop.example", Source::Foreign),
            (Some("https://example"), "https://www.shop.example", Source::Foreign),
            (
                Some("https://other.test"),
                "https://www.shop.example",
                Source::Sibling("https://other.test"),
            ),
            (Some("https://other.test:81"), "https://www.shop.example", Source::Foreign),
            (Some("null"), "https://www.shop.example", Source::Foreign),
            (Some("http://github.io"), "http://b.github.io", Source::Foreign),
            (
                Some("http://localhost:3000"),
                "http://localhost:8080",
                Source::Sibling("http://localhost:3000"),
            ),
        ] {
            let mut request = RequestHeader::build("POST", b"/", None).unwrap();
            if let Some(origin) = origin {
                request.insert_header("origin", origin).unwrap();
            }
            assert_eq!(from(&request, url, any), source, "{origin:?} {url}");
        }
    }

    #[test]
    fn a_site_may_keep_its_siblings_out() {
        let own = |host: &str| host == "shop.example" || host == "shop.example:8443";
        for (origin, source) in [
            ("https://shop.example:8443", Source::Sibling("https://shop.example:8443")),
            ("https://shop.example", Source::Sibling("https://shop.example")),
            ("https://users.shop.example", Source::Foreign),
            ("https://www.shop.example:444", Source::Foreign),
            ("https://www.shop.example", Source::Own),
            ("https://other.test", Source::Sibling("https://other.test")),
        ] {
            let mut request = RequestHeader::build("POST", b"/", None).unwrap();
            request.insert_header("origin", origin).unwrap();
            assert_eq!(from(&request, "https://www.shop.example", own), source, "{origin}");
        }
    }
}
