//! A path of a site → what serves it.

use super::Site;
use crate::vendor::segment::{Asset, Kind};

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Route {
    /// The site itself.
    Page,
    /// A file of the SDK.
    Asset(Asset),
    /// An event.
    Event(Kind),
    /// A push of a profile.
    Webhook,
    /// The snippet as a file.
    Snippet,
    /// The visitor's client traits.
    Traits,
    /// The end of the visitor's identity.
    Reset,
    /// Below the prefix, and nothing.
    Nothing,
}

impl Route {
    /// The route of `path`, normalised by [`super::normal_path`].
    #[must_use]
    pub fn of(site: &Site, path: &str) -> Self {
        let Some(below) = site.prefix.below(path) else { return Self::Page };
        let event = ["/evs/", "/events/"].iter().find_map(|family| below.strip_prefix(family));
        if let Some(name) = event {
            return Kind::parse(name).map_or(Self::Nothing, Self::Event);
        }
        match below {
            "/personas" | "/profiles-webhook" => Self::Webhook,
            "/snippet.js" => Self::Snippet,
            "/traits" => Self::Traits,
            "/reset" => Self::Reset,
            other => Asset::parse(other, &site.write_key).map_or(Self::Nothing, Self::Asset),
        }
    }
}
