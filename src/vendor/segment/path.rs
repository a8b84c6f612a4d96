//! Paths of the SDK's files, as browsers ask for them and as the CDN has them.

use crate::vendor::{REDACTED, WriteKey, is_safe};

/// Where parts of the SDK are where it has a path of its own.
pub(super) const SHORT_BUNDLES: &str = "/bundles/";

/// A file of the SDK. What is not one of these never reaches the CDN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asset {
    /// The SDK itself.
    Sdk,
    /// The source's settings (JSON).
    Settings,
    /// A part of the SDK, by its path below `/analytics-next/bundles/`.
    Bundle(Box<str>),
    /// A destination's code, by its path below `/next-integrations/`.
    Integration(Box<str>),
}

impl Asset {
    /// Reads a normalised path below the prefix, with its leading slash. Both route families:
    /// `/assets/…` and the vendor's own names.
    #[must_use]
    pub fn parse(path: &str, key: &WriteKey) -> Option<Self> {
        // As the Edge SDK's router takes them.
        let path = path.strip_suffix('/').unwrap_or(path);
        if path == "/assets/sdk.js" {
            return Some(Self::Sdk);
        }
        if let Some(name) = path.strip_prefix("/ajs/") {
            return (is_safe(name) && !name.contains('/')).then_some(Self::Sdk);
        }
        let path = path.strip_prefix("/assets").unwrap_or(path);
        let keyed = |rest: &str, tail: &str| {
            rest.strip_suffix(tail).is_some_and(|given| given == REDACTED || given == key.expose())
        };
        if let Some(rest) = path.strip_prefix("/analytics.js/v1/") {
            return keyed(rest, "/analytics.min.js").then_some(Self::Sdk);
        }
        if let Some(rest) = path.strip_prefix("/v1/projects/") {
            // The site has one source, whatever key a page still has.
            let given = rest.strip_suffix("/settings")?;
            return (is_safe(given) && !given.contains('/')).then_some(Self::Settings);
        }
        let bundles = ["/analytics-next/bundles/", SHORT_BUNDLES];
        if let Some(rest) = bundles.iter().find_map(|bundles| path.strip_prefix(bundles)) {
            return is_safe(rest).then(|| Self::Bundle(rest.into()));
        }
        let rest = path.strip_prefix("/next-integrations/")?;
        is_safe(rest).then(|| Self::Integration(rest.into()))
    }

    /// Its path at the CDN.
    #[must_use]
    pub fn at_cdn(&self, key: &WriteKey) -> String {
        match self {
            Self::Sdk => format!("/analytics.js/v1/{}/analytics.min.js", key.expose()),
            Self::Settings => format!("/v1/projects/{}/settings", key.expose()),
            Self::Bundle(rest) => format!("/analytics-next/bundles/{rest}"),
            Self::Integration(rest) => format!("/next-integrations/{rest}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_the_sdk_are_known() {
        let key = WriteKey::parse("abcdefgh1").unwrap();
        for wrong in [
            "/assets/",
            "/ajs/",
            "/ajs/a/b",
            "/analytics.js/v1/otherkey1/analytics.min.js",
            "/v1/projects/REDACTED/settings/x",
            "/analytics-next/bundles/../../v1/projects/x/settings",
            "/analytics-next/bundles/a%2fb",
            "/analytics-next/bundles//a",
            "/next-integrations/",
            "/v1/t",
        ] {
            assert_eq!(Asset::parse(wrong, &key), None, "{wrong}");
        }
        for (path, cdn) in [
            ("/assets/sdk.js", "/analytics.js/v1/abcdefgh1/analytics.min.js"),
            ("/ajs/x1", "/analytics.js/v1/abcdefgh1/analytics.min.js"),
            (
                "/analytics.js/v1/abcdefgh1/analytics.min.js",
                "/analytics.js/v1/abcdefgh1/analytics.min.js",
            ),
            ("/ajs/x1/", "/analytics.js/v1/abcdefgh1/analytics.min.js"),
            ("/v1/projects/REDACTED/settings", "/v1/projects/abcdefgh1/settings"),
            ("/v1/projects/an-older-key/settings/", "/v1/projects/abcdefgh1/settings"),
            (
                "/assets/analytics-next/bundles/a.bundle.1.js",
                "/analytics-next/bundles/a.bundle.1.js",
            ),
            ("/assets/bundles/a.bundle.1.js", "/analytics-next/bundles/a.bundle.1.js"),
            (
                "/next-integrations/integrations/x/2.0/x.dynamic.js.gz",
                "/next-integrations/integrations/x/2.0/x.dynamic.js.gz",
            ),
        ] {
            assert_eq!(Asset::parse(path, &key).unwrap().at_cdn(&key), cdn);
        }
    }
}
