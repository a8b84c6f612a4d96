//! The SDK's files as the site's own host serves them: no write key, no way to the vendor's hosts.

use memchr::memmem;

use super::Asset;
use super::path::SHORT_BUNDLES;
use crate::collect::Object;
use crate::vendor::{Own, replace};

/// Why a file can't be served.
#[derive(Debug, thiserror::Error)]
pub enum BadAsset {
    /// The settings are not a JSON object.
    #[error("the CDN's settings are not a JSON object")]
    Settings(#[source] serde_json::Error),
}

/// `body` of `asset` as the site's own host serves it.
///
/// # Errors
/// When the settings can't be read.
pub fn rewrite(asset: &Asset, body: Vec<u8>, own: Own<'_>) -> Result<Vec<u8>, BadAsset> {
    let body = match asset {
        Asset::Settings => settings(&body, own)?,
        Asset::Sdk | Asset::Bundle(_) | Asset::Integration(_) => script(body, own),
    };
    Ok(own.redacted(body))
}

/// The SDK falls back to its vendor's hosts when it does not find its way; these are its ways.
fn script(mut body: Vec<u8>, own: Own<'_>) -> Vec<u8> {
    let Own { scheme, host, prefix, events, .. } = own;
    if let Some(at) = memmem::rfind(&body, b"//# sourceMappingURL=") {
        let starts_line = at == 0 || body.get(at - 1) == Some(&b'\n');
        let last_line = body
            .get(at..)
            .is_some_and(|tail| memchr::memchr(b'\n', tail.trim_ascii_end()).is_none());
        if starts_line && last_line {
            body.truncate(at);
        }
    }
    if scheme == "http" {
        // Its default protocol: the SDK reports on itself over it, whatever the settings say.
        body = replace(body, "\"https\"", "\"http\"");
    }
    if own.renamed {
        body = replace(body, "/analytics-next/bundles/", SHORT_BUNDLES);
    }
    let body = replace(body, "https://cdn.segment.com", &format!("{scheme}://{host}{prefix}"));
    let body = replace(body, "cdn.segment.com", &format!("{host}{prefix}"));
    let body = replace(body, "https://api.segment.io/v1", &format!("{scheme}://{host}{events}"));
    let body = replace(body, "api.segment.io/v1", &format!("{host}{events}"));
    replace(body, "api.segment.io", &format!("{host}{events}"))
}

/// Sends the SDK's events and its own metrics to us. What belongs to other integrations stays as
/// it is, byte for byte.
fn settings(body: &[u8], own: Own<'_>) -> Result<Vec<u8>, BadAsset> {
    let read = |raw: &str| serde_json::from_str::<Object>(raw);
    let mut root: Object = serde_json::from_slice(body).map_err(BadAsset::Settings)?;
    let part = |object: &Object, name: &str| {
        object.get(name).and_then(|raw| read(raw.get()).ok()).unwrap_or_default()
    };
    let events = format!("{}{}", own.host, own.events);

    let mut integrations = part(&root, "integrations");
    let mut segment = part(&integrations, "Segment.io");
    segment.set_text("apiHost", &events);
    segment.set_text("protocol", own.scheme);
    if own.elsewhere {
        let mut strategy = part(&segment, "deliveryStrategy");
        let mut config = part(&strategy, "config");
        config.set_text("credentials", "include");
        strategy.set_object("config", &config);
        segment.set_object("deliveryStrategy", &strategy);
    }
    integrations.set_object("Segment.io", &segment);
    root.set_object("integrations", &integrations);

    let mut metrics = part(&root, "metrics");
    metrics.set_text("host", &events);
    metrics.set_text("protocol", own.scheme);
    root.set_object("metrics", &metrics);
    Ok(root.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vendor::WriteKey;

    fn served(asset: &Asset, body: &str) -> String {
        let key = WriteKey::parse("secretkey1").unwrap();
        let own = Own {
            scheme: "http",
            host: "shop.example:81",
            prefix: "/seg",
            events: "/seg/evs",
            renamed: false,
            elsewhere: false,
            redact: Some(&key),
        };
        String::from_utf8(rewrite(asset, body.into(), own).unwrap()).unwrap()
    }

    #[test]
    fn scripts_know_no_vendor_host_no_key_and_no_map() {
        let script = "p=\"https\";a=\"https://cdn.segment.com\";b=\"api.segment.io/v1\";k='secretkey1'\n//# sourceMappingURL=x.map\n";
        assert_eq!(
            served(&Asset::Sdk, script),
            "p=\"http\";a=\"http://shop.example:81/seg\";b=\"shop.example:81/seg/evs\";k='REDACTED'\n"
        );
        let kept = "x='//# sourceMappingURL=';y=1";
        assert_eq!(served(&Asset::Bundle("b.js".into()), kept), kept);
    }

    #[test]
    fn settings_lead_here_and_leave_other_integrations_alone() {
        let got = served(
            &Asset::Settings,
            r#"{"integrations":{"Other":{"n":1.0,"url":"https://api.segment.io/v1"},"Segment.io":{"apiKey":"secretkey1","apiHost":"api.segment.io/v1"}},"plan":{}}"#,
        );
        assert_eq!(
            got,
            r#"{"integrations":{"Other":{"n":1.0,"url":"https://api.segment.io/v1"},"Segment.io":{"apiKey":"REDACTED","apiHost":"shop.example:81/seg/evs","protocol":"http"}},"plan":{},"metrics":{"host":"shop.example:81/seg/evs","protocol":"http"}}"#
        );
        let key = WriteKey::parse("secretkey1").unwrap();
        let own = Own {
            scheme: "http",
            host: "h",
            prefix: "/s",
            events: "/c",
            renamed: true,
            elsewhere: false,
            redact: Some(&key),
        };
        let script = b"p=v+\"/analytics-next/bundles/\";h=\"api.segment.io/v1\"".to_vec();
        let script = rewrite(&Asset::Sdk, script, own).unwrap();
        assert_eq!(script, b"p=v+\"/bundles/\";h=\"h/c\"");
        assert!(rewrite(&Asset::Settings, b"<html>".to_vec(), own).is_err());
    }
}
