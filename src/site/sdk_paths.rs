//! Paths that a site gives an SDK in place of those below the prefix.

use super::{Route, RoutePrefix};
use crate::vendor::{Kind, SdkFile, Vendor, segment};

/// Where Segment's SDK is and where it sends its events, beside the paths that it has below the prefix.
#[derive(Debug, Clone, Default)]
pub struct SdkPaths {
    /// Of the SDK itself.
    sdk: Option<Box<str>>,
    /// Below which its events come.
    events: Option<RoutePrefix>,
}

/// Why paths can't be given to an SDK.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SdkPathError {
    /// It is no plain path.
    #[error(
        "expected a path such as `/a.js`: parts of letters, digits, `-`, `_` and `.`, found `{0}`"
    )]
    NotPlain(String),
    /// Something else is there.
    #[error("`{0}` is below `{1}`, which leads elsewhere")]
    Taken(String, String),
}

impl SdkPaths {
    /// Reads the path of the SDK and the one below which its events come, of a site whose other routes are below `prefix`.
    ///
    /// # Errors
    /// When one of them is no plain path, or leads elsewhere.
    pub fn parse(
        sdk: Option<&str>,
        events: Option<RoutePrefix>,
        prefix: &RoutePrefix,
    ) -> Result<Self, SdkPathError> {
        let taken = |path: &str, by: &RoutePrefix| {
            let by = by.below(path).map(|_| by.as_str().to_owned());
            by.map_or(Ok(()), |by| Err(SdkPathError::Taken(path.into(), by)))
        };
        if let Some(sdk) = sdk {
            if !is_plain(sdk) {
                return Err(SdkPathError::NotPlain(sdk.into()));
            }
            taken(sdk, prefix)?;
            events.iter().try_for_each(|events| taken(sdk, events))?;
        }
        if let Some(events) = &events {
            taken(events.as_str(), prefix)?;
            taken(prefix.as_str(), events)?;
        }
        Ok(Self { sdk: sdk.map(Into::into), events })
    }

    /// The path of the SDK, where it has one of its own.
    #[must_use]
    pub fn sdk(&self) -> Option<&str> {
        self.sdk.as_deref()
    }

    /// The path below which events come, where they have one of their own.
    #[must_use]
    pub fn events(&self) -> Option<&str> {
        self.events.as_ref().map(RoutePrefix::as_str)
    }

    /// What a normalised path leads to, if it is one of these.
    #[must_use]
    pub fn route(&self, path: &str) -> Option<Route> {
        if self.sdk.as_deref() == Some(path) {
            return Some(Route::Asset(SdkFile::Segment(segment::Asset::Sdk)));
        }
        let below = self.events.as_ref()?.below(path)?;
        let name = below.strip_prefix('/').unwrap_or_default();
        let kind = Kind::parse(name.strip_suffix('/').unwrap_or(name));
        Some(kind.map_or(Route::Nothing, |kind| Route::Event(Vendor::Segment, kind)))
    }
}

/// Whether a path means the same to every server.
fn is_plain(path: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let part = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(fits);
    path.len() <= 64 && path.strip_prefix('/').is_some_and(|path| path.split('/').all(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(sdk: &str, events: &str) -> Result<SdkPaths, SdkPathError> {
        let prefix = RoutePrefix::parse("/x/seg").unwrap();
        SdkPaths::parse(Some(sdk), RoutePrefix::parse(events).ok(), &prefix)
    }

    #[test]
    fn paths_lead_to_one_place_each() {
        for (sdk, events) in [
            ("a.js", "/c"),
            ("/a/../b.js", "/c"),
            ("/a%2e.js", "/c"),
            ("/", "/c"),
            ("/x/seg/a.js", "/c"),
            ("/c/a.js", "/c"),
            ("/a.js", "/x/seg/c"),
            ("/a.js", "/x"),
        ] {
            assert!(paths(sdk, events).is_err(), "{sdk} {events}");
        }
        let paths = paths("/js/a.js", "/c").unwrap();
        let sdk = Route::Asset(SdkFile::Segment(segment::Asset::Sdk));
        assert_eq!(paths.route("/js/a.js"), Some(sdk));
        for (path, kind) in
            [("/c/t", Kind::Track), ("/c/page/", Kind::Page), ("/c/m", Kind::Metrics)]
        {
            assert_eq!(paths.route(path), Some(Route::Event(Vendor::Segment, kind)));
        }
        assert_eq!(paths.route("/c"), Some(Route::Nothing));
        assert_eq!(paths.route("/c/../t"), Some(Route::Nothing));
        for page in ["/cart", "/js/a.jsx", "/js", "/js/a.js/"] {
            assert_eq!(paths.route(page), None, "{page}");
        }
    }
}
