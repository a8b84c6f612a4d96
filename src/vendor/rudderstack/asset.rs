//! Files of RudderStack's SDK, as browsers ask for them, as the vendor has them, and as the site's own
//! host serves them.

use crate::collect::Object;
use crate::vendor::{Own, WriteKey, is_safe, replace};

/// A file of the SDK, or what it reads at its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asset {
    /// The SDK, its plugins and integrations, by their path at the CDN.
    File(Box<str>),
    /// The source's configuration (JSON).
    SourceConfig,
}

/// Why a file can't be served.
#[derive(Debug, thiserror::Error)]
#[error("the source's configuration is not a JSON object")]
pub struct BadConfig(#[from] serde_json::Error);

impl Asset {
    /// The SDK for browsers of today.
    #[must_use]
    pub fn sdk() -> Self {
        Self::File(SDK.into())
    }

    /// Reads a normalised path below the prefix, with its leading slash.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        match path {
            "/assets/rudder.js" => Some(Self::File(SDK.into())),
            "/sourceConfig" | "/sourceConfig/" => Some(Self::SourceConfig),
            path => {
                let rest = path.strip_prefix("/v3/")?;
                is_safe(rest).then(|| Self::File(path.into()))
            }
        }
    }

    /// What the vendor is asked for.
    #[must_use]
    pub fn at_vendor(&self, key: &WriteKey) -> String {
        match self {
            Self::File(path) => path.to_string(),
            Self::SourceConfig => format!("/sourceConfig/?p=web&v=3&writeKey={}", key.expose()),
        }
    }
}

/// The SDK for browsers of today.
const SDK: &str = "/v3/modern/rsa.min.js";

/// `body` of `asset` as the site's own host serves it.
///
/// # Errors
/// When the configuration can't be read.
pub fn rewrite(asset: &Asset, body: Vec<u8>, own: Own<'_>) -> Result<Vec<u8>, BadConfig> {
    let body = match asset {
        Asset::SourceConfig => source_config(&body)?,
        Asset::File(_) => {
            let Own { scheme, host, prefix, .. } = own;
            let here = format!("{scheme}://{host}{prefix}");
            let body = replace(body, "https://cdn.rudderlabs.com", &here);
            replace(body, "https://api.rudderstack.com", &here)
        }
    };
    Ok(own.redacted(body))
}

/// Without what would lead the SDK elsewhere: other data planes, and reports about itself.
fn source_config(body: &[u8]) -> Result<Vec<u8>, BadConfig> {
    let mut root: Object = serde_json::from_slice(body)?;
    if let Some(mut source) = root.object("source") {
        source.remove("dataplanes");
        if let Some(mut config) = source.object("config") {
            config.remove("statsCollection");
            source.set_object("config", &config);
        }
        root.set_object("source", &source);
    }
    Ok(root.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_the_sdk_are_known() {
        let key = WriteKey::parse("abcdefgh1").unwrap();
        for wrong in
            ["/assets/", "/v3/", "/v3/../x", "/v2/a.js", "/sourceConfig/x", "/v3/a?b", "/v1/track"]
        {
            assert_eq!(Asset::parse(wrong), None, "{wrong}");
        }
        for (path, target) in [
            ("/assets/rudder.js", "/v3/modern/rsa.min.js"),
            ("/v3/modern/plugins/rsa-plugins.js", "/v3/modern/plugins/rsa-plugins.js"),
            ("/v3/modern/js-integrations/GA4.min.js", "/v3/modern/js-integrations/GA4.min.js"),
            ("/sourceConfig/", "/sourceConfig/?p=web&v=3&writeKey=abcdefgh1"),
        ] {
            assert_eq!(Asset::parse(path).unwrap().at_vendor(&key), target);
        }
    }

    #[test]
    fn nothing_leads_elsewhere() {
        let key = WriteKey::parse("secretkey1").unwrap();
        let own = Own {
            scheme: "http",
            host: "shop.example:81",
            prefix: "/rs",
            events: "/rs",
            renamed: false,
            elsewhere: false,
            redact: Some(&key),
        };
        let served = |asset: &Asset, body: &str| {
            String::from_utf8(rewrite(asset, body.into(), own).unwrap()).unwrap()
        };
        assert_eq!(
            served(
                &Asset::File("x".into()),
                "a='https://cdn.rudderlabs.com/v3';b='https://api.rudderstack.com'"
            ),
            "a='http://shop.example:81/rs/v3';b='http://shop.example:81/rs'"
        );
        assert_eq!(
            served(
                &Asset::SourceConfig,
                r#"{"source":{"id":"1","writeKey":"secretkey1","dataplanes":{"US":[{"url":"https://x"}]},"config":{"statsCollection":{"errors":{"enabled":true}},"a":1.0},"destinations":[]}}"#
            ),
            r#"{"source":{"id":"1","writeKey":"REDACTED","config":{"a":1.0},"destinations":[]}}"#
        );
        assert!(rewrite(&Asset::SourceConfig, b"<html>".to_vec(), own).is_err());
    }
}
