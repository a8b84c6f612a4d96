//! By which of its names a site's SDK files lead browsers back to it.

use pingora::http::RequestHeader;

use super::target::Authority;
use crate::html::Coding;
use crate::site::{HostPattern, Site};

/// The host that stands in a file as it is stored.
pub(super) struct FileHost {
    /// With port, where it needs one.
    text: Box<str>,
    /// The host that takes its place on the way to this visitor.
    own: Option<Box<str>>,
}

/// Stands in stored files for all hosts that have none of their own: ports that are none of ours, and names
/// below a pattern. There is no bound on those, so that one file has to serve them all.
const ANY_HOST: &str = "any-host-9b1f4a7c52e8.doorstep.invalid";

impl FileHost {
    /// For a client that asks `site` by `asked` on a listener of port `listens`.
    pub(super) fn of(asked: &Authority, site: &Site, secure: bool, listens: Option<u16>) -> Self {
        let usual = if secure { 443 } else { 80 };
        let port = asked.port().filter(|port| *port != usual);
        let host = asked.host();
        let text = match port {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let is_listed = site
            .hosts
            .iter()
            .any(|pattern| matches!(pattern, HostPattern::Exact(_)) && pattern.matches(host));
        if is_listed && (port.is_none() || port == listens) {
            return Self { text: text.into(), own: None };
        }
        Self { text: ANY_HOST.into(), own: Some(text.into()) }
    }

    /// What stands in the stored file.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether the stored file is everybody's, and each visitor's made of it.
    pub(super) fn is_filled_in(&self) -> bool {
        self.own.is_some()
    }

    /// What is answered is no file: it is everybody's as it is.
    pub(super) fn leave(&mut self) {
        self.own = None;
    }

    /// A stored file, uncompressed, as this visitor gets it.
    pub(super) fn fill_in(&self, file: Vec<u8>) -> Vec<u8> {
        match &self.own {
            Some(own) => crate::vendor::replace(file, ANY_HOST, own),
            None => file,
        }
    }
}

/// The codings that a client's file can have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Codings {
    /// As it is stored.
    pub(super) stored: Coding,
    /// As it is sent, where it is made for the visitor: the best that something can be put in front of.
    pub(super) made: Coding,
}

impl Codings {
    pub(super) fn of(request: &RequestHeader, host: &FileHost) -> Self {
        let accept = request.headers.get(http::header::ACCEPT_ENCODING);
        let accept = accept.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let stored = if host.is_filled_in() { Coding::Identity } else { Coding::best(accept) };
        Self { stored, made: Coding::best_spliceable(accept) }
    }
}
