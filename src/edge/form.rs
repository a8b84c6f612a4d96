//! In which form a page is asked for: to be shown, to be read by a script that may show it, as a part of a page, or as
//! a framework's data of one. Rules hold for all of them; bytes are changed of whole documents alone.

use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use memchr::memmem::Finder;
use pingora::http::RequestHeader;

use crate::html::Wanted;

/// What a client does with the answer, as far as its request tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Form {
    /// A browser shows it.
    Shown,
    /// Whoever reads it may show it, where it is a whole document: scripts that navigate, and clients that say nothing
    /// of themselves.
    Document,
    /// A script takes whatever comes.
    Anything,
    /// A script puts it into the page that is shown: a part of a page, or a framework's data of one.
    Part,
    /// It is no page: what a page is made of, or a tunnel.
    #[default]
    Other,
}

const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
const X_REQUESTED_WITH: HeaderName = HeaderName::from_static("x-requested-with");
static TEXT_HTML: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("text/html"));
/// Destinations of what a browser shows as a page (Fetch, 2.2.7).
const SHOWN: [&[u8]; 5] = [b"document", b"iframe", b"frame", b"embed", b"object"];
/// What frameworks ask for a part of a page with, or for its data.
const PARTS: [HeaderName; 6] = [
    HeaderName::from_static("hx-request"),
    HeaderName::from_static("turbo-frame"),
    HeaderName::from_static("x-pjax"),
    HeaderName::from_static("rsc"),
    HeaderName::from_static("next-router-prefetch"),
    HeaderName::from_static("x-inertia"),
];
/// What they ask for a whole document with, which they show.
const DOCUMENTS: [HeaderName; 5] = [
    HeaderName::from_static("hx-boosted"),
    HeaderName::from_static("hx-history-restore-request"),
    HeaderName::from_static("x-up-version"),
    HeaderName::from_static("x-barba"),
    HeaderName::from_static("x-livewire-navigate"),
];
/// By what a page's forms differ.
pub(super) const VARY: HeaderValue = HeaderValue::from_static(
    "Accept, Sec-Fetch-Dest, X-Requested-With, HX-Request, HX-Boosted, HX-History-Restore-Request, Turbo-Frame, X-PJAX, \
     X-Up-Version, X-Barba, X-Livewire-Navigate, RSC, Next-Router-Prefetch, X-Inertia",
);

impl Form {
    /// The form that `request` asks for.
    pub(super) fn of(request: &RequestHeader) -> Self {
        let safe = is_safe(request);
        if !safe && request.method != Method::POST {
            return Self::Other;
        }
        let headers = &request.headers;
        if headers.contains_key(header::UPGRADE) {
            return Self::Other;
        }
        let script = match headers.get(SEC_FETCH_DEST) {
            Some(dest) if SHOWN.contains(&dest.as_bytes()) => return Self::Shown,
            Some(dest) if dest != "empty" => return Self::Other,
            dest => dest.is_some(),
        };
        let is_html = wants_html(request);
        if !safe {
            // A form that is sent by an older browser.
            let shown = is_html && !script && !is_part(headers);
            return if shown { Self::Shown } else { Self::Other };
        }
        if DOCUMENTS.iter().any(|name| headers.get(name).is_some_and(|value| value != "false")) {
            return Self::Document;
        }
        if is_part(headers) {
            return Self::Part;
        }
        match (script, is_html) {
            (false, true) => Self::Shown,
            (true, true) => Self::Document,
            // Older browsers and other clients, and a CDN in front that takes `Accept` off.
            (false, false) if takes_anything(headers) => Self::Document,
            (true, false) if takes_anything(headers) => Self::Anything,
            _ => Self::Other,
        }
    }

    /// Whether a page in this form may be another one for each visitor.
    pub(super) const fn is_page(self) -> bool {
        !matches!(self, Self::Other)
    }

    /// Whether HTML in this form is changed, whatever the rules say.
    pub(super) const fn is_document(self) -> bool {
        matches!(self, Self::Shown | Self::Document)
    }

    /// What may be changed of what is asked for in this form.
    pub(super) const fn wanted(self) -> Wanted {
        match self {
            Self::Shown => Wanted::Pages,
            _ => Wanted::Documents,
        }
    }

    /// Whether HTML in this form can be changed at all.
    pub(super) const fn can_change(self) -> bool {
        matches!(self, Self::Shown | Self::Document | Self::Anything)
    }
}

/// A framework's data of a page, by how its path ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Data {
    /// `/shop/__data.json`
    SvelteKit,
    /// `/shop.data`, and `/_root.data` for `/`: React Router, Remix.
    ReactRouter,
}

const SVELTE_KIT: &str = "/__data.json";
const REACT_ROUTER: &str = ".data";
const ROOT: &str = "/_root";

impl Data {
    /// The page that `path` is the data of.
    pub(super) fn of(path: &str) -> Option<(&str, Self)> {
        if let Some(page) = path.strip_suffix(SVELTE_KIT) {
            return Some((if page.is_empty() { "/" } else { page }, Self::SvelteKit));
        }
        let page = path.strip_suffix(REACT_ROUTER)?;
        // `...data` would be `..`, which no route may be asked about.
        if page.ends_with(['/', '.']) {
            return None;
        }
        Some((if page == ROOT { "/" } else { page }, Self::ReactRouter))
    }

    /// Where the same data of `page` is.
    pub(super) fn path(self, page: &str) -> String {
        match (self, page) {
            (Self::SvelteKit, page) => page.trim_end_matches('/').to_owned() + SVELTE_KIT,
            (Self::ReactRouter, "/") => ROOT.to_owned() + REACT_ROUTER,
            (Self::ReactRouter, page) => page.trim_end_matches('/').to_owned() + REACT_ROUTER,
        }
    }
}

/// Whether the client says nothing of what the answer is for: whatever it has stored came to it in this form.
pub(super) fn says_nothing(request: &RequestHeader) -> bool {
    let headers = &request.headers;
    !headers.contains_key(SEC_FETCH_DEST)
        && !wants_html(request)
        && !DOCUMENTS.iter().any(|name| headers.contains_key(name))
}

/// Whether a script asks for less than a document.
fn is_part(headers: &HeaderMap) -> bool {
    let script = headers.get(X_REQUESTED_WITH);
    script.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"xmlhttprequest"))
        || PARTS.iter().any(|name| headers.contains_key(name))
}

/// Whether no type is wanted more than another (RFC 9110, 12.5.1: no `Accept` is any).
fn takes_anything(headers: &HeaderMap) -> bool {
    let ranges = headers.get_all(header::ACCEPT).iter();
    let mut ranges = ranges.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    ranges.all(|range| {
        let kind = range.split(|byte| *byte == b';').next().unwrap_or_default();
        matches!(kind.trim_ascii(), b"" | b"*/*" | b"text/*")
    })
}

/// Whether it is said what the answer is for, as browsers do: a page is then shown, and not read by a script.
pub(super) fn comes_from_a_browser(request: &RequestHeader) -> bool {
    request.headers.contains_key(SEC_FETCH_DEST)
}

/// GET or HEAD: asked again, it gives the same.
pub(super) fn is_safe(request: &RequestHeader) -> bool {
    matches!(request.method, Method::GET | Method::HEAD)
}

/// Whether the client says that it wants HTML.
pub(super) fn wants_html(request: &RequestHeader) -> bool {
    request
        .headers
        .get_all(header::ACCEPT)
        .iter()
        .any(|value| TEXT_HTML.find(value.as_bytes()).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(method: &str, headers: &[(&'static str, &'static str)]) -> Form {
        let mut request = RequestHeader::build(method, b"/", None).unwrap();
        for (name, value) in headers {
            request.append_header(*name, *value).unwrap();
        }
        Form::of(&request)
    }

    #[test]
    fn caches_are_told_of_all_that_the_form_depends_on() {
        let told = VARY.to_str().unwrap().to_ascii_lowercase();
        let told: Vec<&str> = told.split(',').map(str::trim).collect();
        let others = [SEC_FETCH_DEST, X_REQUESTED_WITH, header::ACCEPT];
        for name in PARTS.into_iter().chain(DOCUMENTS).chain(others) {
            assert!(told.contains(&name.as_str()), "{name}");
        }
    }

    #[test]
    fn data_of_a_page_is_known_by_its_path() {
        for (path, page, data) in [
            ("/shop/__data.json", "/shop", Data::SvelteKit),
            ("/__data.json", "/", Data::SvelteKit),
            ("/shop/a.data", "/shop/a", Data::ReactRouter),
            ("/_root.data", "/", Data::ReactRouter),
        ] {
            assert_eq!(Data::of(path), Some((page, data)), "{path}");
            assert_eq!(data.path(page), path);
        }
        for other in
            ["/", "/data", "/a/.data", "/x__data.json", "/a/..data", "/a/...data", "/a..data"]
        {
            assert_eq!(Data::of(other), None, "{other}");
        }
    }

    #[test]
    fn each_client_gets_the_form_that_it_can_use() {
        let (html, any) = (("Accept", "text/html,*/*;q=0.8"), ("Accept", "*/*"));
        let (shown, fetched) = (("Sec-Fetch-Dest", "document"), ("Sec-Fetch-Dest", "empty"));
        for (headers, expected) in [
            // A browser navigates, in a frame as well; an older one; one at a host without TLS.
            (&[html, shown][..], Form::Shown),
            (&[any, ("Sec-Fetch-Dest", "iframe")], Form::Shown),
            (&[html], Form::Shown),
            // Turbo, Swup and whatever else says what it wants.
            (&[("Accept", "text/html, application/xhtml+xml"), fetched], Form::Document),
            (&[html, fetched, ("X-Requested-With", "swup")], Form::Document),
            // Boosted links of htmx; Unpoly.
            (&[any, fetched, ("HX-Request", "true"), ("HX-Boosted", "true")], Form::Document),
            (
                &[any, ("HX-Request", "true"), ("HX-History-Restore-Request", "true")],
                Form::Document,
            ),
            (&[any, fetched, ("X-Up-Version", "3.10.2")], Form::Document),
            // A CDN in front takes it off; curl.
            (&[], Form::Document),
            (&[any], Form::Document),
            // Astro's router, and any other fetch().
            (&[any, fetched], Form::Anything),
            (&[fetched], Form::Anything),
            // Parts.
            (&[any, fetched, ("HX-Request", "true")], Form::Part),
            (&[any, ("HX-Request", "true"), ("HX-Boosted", "false")], Form::Part),
            (&[html, fetched, ("Turbo-Frame", "list")], Form::Part),
            (
                &[html, fetched, ("X-PJAX", "true"), ("X-Requested-With", "XMLHttpRequest")],
                Form::Part,
            ),
            (&[html, ("X-Requested-With", "xmlhttprequest")], Form::Part),
            (&[any, fetched, ("RSC", "1")], Form::Part),
            // No pages.
            (&[("Accept", "application/json"), fetched], Form::Other),
            (&[("Accept", "application/json, text/plain, */*"), fetched], Form::Other),
            (&[("Accept", "image/avif,image/webp,*/*;q=0.8")], Form::Other),
            (&[("Accept", "text/css,*/*;q=0.1")], Form::Other),
            (&[any, ("Sec-Fetch-Dest", "image")], Form::Other),
        ] {
            assert_eq!(form("GET", headers), expected, "{headers:?}");
            assert_eq!(form("HEAD", headers), expected, "{headers:?}");
            assert_eq!(form("PUT", headers), Form::Other, "{headers:?}");
        }
        for (headers, expected) in [
            (&[html, shown][..], Form::Shown),
            (&[html], Form::Shown),
            (&[any], Form::Other),
            (&[], Form::Other),
            (&[html, fetched], Form::Other),
            (&[html, ("X-Requested-With", "XMLHttpRequest")], Form::Other),
        ] {
            assert_eq!(form("POST", headers), expected, "{headers:?}");
        }
    }
}
