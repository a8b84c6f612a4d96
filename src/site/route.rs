//! A path of a site → what serves it.

use super::Site;
use crate::vendor::{Kind, SdkFile, Vendor};

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Route {
    /// The site itself.
    Page,
    /// A file of the SDK.
    Asset(SdkFile),
    /// An event.
    Event(Vendor, Kind),
    /// A push of a profile.
    Webhook,
    /// The snippet as a file.
    Snippet,
    /// The script that keeps changes of pages.
    Keep,
    /// The visitor's client traits.
    Traits,
    /// The end of the visitor's identity.
    Reset,
    /// A page that was fetched ahead is seen.
    Seen,
    /// What a rule names.
    Generic,
    /// Cookies that RudderStack's SDK wants set.
    Cookies,
    /// Below the prefix, and nothing.
    Nothing,
}

impl Route {
    /// The route of `path`, normalised by [`super::normal_path`].
    #[must_use]
    pub fn of(site: &Site, path: &str) -> Self {
        if let Some(own) = site.segment.as_ref().and_then(|sdk| sdk.paths.route(path)) {
            return own;
        }
        let Some(below) = site.prefix.below(path) else {
            return if site.origin.is_some() { Self::Page } else { Self::Nothing };
        };
        for (vendor, sdk) in site.sdks() {
            if let Some(kind) = vendor.event(below) {
                return Self::Event(vendor, kind);
            }
            if let Some(file) = SdkFile::parse(vendor, below, &sdk.write_key) {
                return Self::Asset(file);
            }
        }
        match below {
            "/personas" | "/profiles-webhook" => Self::Webhook,
            "/snippet.js" => Self::Snippet,
            "/keep.js" => Self::Keep,
            "/traits" => Self::Traits,
            "/reset" => Self::Reset,
            "/seen" => Self::Seen,
            "/rsaRequest" if site.rudderstack.is_some() => Self::Cookies,
            other if site.generic.iter().any(|vendor| vendor.rule(other).is_some()) => {
                Self::Generic
            }
            _ => Self::Nothing,
        }
    }
}
