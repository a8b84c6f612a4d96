//! Preview links: who has one sees the variants that it names, and why a page is as it is.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::ExperimentKey;
use crate::identity::{Purpose, SigningKeys};

/// What a preview link allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preview {
    /// The site that it is for.
    #[serde(rename = "s")]
    pub site: String,
    /// Until when, in seconds since 1970.
    #[serde(rename = "e")]
    pub expires: u64,
    /// Variants by experiment.
    #[serde(rename = "v", default)]
    pub variants: Vec<(String, String)>,
    /// Answers tell why they are as they are.
    #[serde(rename = "x", default)]
    pub explain: bool,
}

/// Why a preview link is worth nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PreviewError {
    /// Not of our form.
    #[error("not a preview token")]
    Malformed,
    /// Signed by nobody that we know.
    #[error("the preview token is not signed by one of the site's keys")]
    Forged,
    /// Its time is over.
    #[error("the preview token has expired")]
    Expired,
    /// For another site.
    #[error("the preview token is for another site")]
    OtherSite,
}

impl PreviewError {
    /// As a label of metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Forged => "forged",
            Self::Expired => "expired",
            Self::OtherSite => "other_site",
        }
    }
}

/// The query parameter of a preview link, and the cookie that keeps it.
pub const PREVIEW: &str = "doorstep_preview";
/// The longest token, in bytes.
const MAX_BYTES: usize = 2048;

impl Preview {
    /// The token of a link. `None` without a key.
    #[must_use]
    pub fn token(&self, keys: &SigningKeys) -> Option<String> {
        let json = serde_json::to_vec(self).ok()?;
        let body = URL_SAFE_NO_PAD.encode(json);
        let signature = keys.sign(Purpose::Preview, &[&body])?;
        Some(format!("{body}.{signature}"))
    }

    /// What `token` allows on `site`.
    ///
    /// # Errors
    /// Why nothing.
    pub fn read(token: &str, site: &str, keys: &SigningKeys) -> Result<Self, PreviewError> {
        let (body, signature) = token
            .split_once('.')
            .filter(|_| token.len() <= MAX_BYTES)
            .ok_or(PreviewError::Malformed)?;
        if !keys.admits(Purpose::Preview, &[body], signature) {
            return Err(PreviewError::Forged);
        }
        let json = URL_SAFE_NO_PAD.decode(body).map_err(|_| PreviewError::Malformed)?;
        let preview: Self = serde_json::from_slice(&json).map_err(|_| PreviewError::Malformed)?;
        if preview.site != site {
            return Err(PreviewError::OtherSite);
        }
        if preview.left().is_none() {
            return Err(PreviewError::Expired);
        }
        Ok(preview)
    }

    /// Seconds that it is still worth something.
    #[must_use]
    pub fn left(&self) -> Option<u64> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.expires.checked_sub(now).filter(|left| *left > 0)
    }

    /// The variant that it names.
    #[must_use]
    pub fn variant(&self, experiment: &ExperimentKey) -> Option<&str> {
        let found = self.variants.iter().find(|(key, _)| key == experiment.as_str());
        found.map(|(_, variant)| &**variant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn only_the_sites_own_links_are_believed_and_only_for_a_time() {
        let keys = SigningKeys::new(&[Secret::new("k".repeat(32))]);
        let others = SigningKeys::new(&[Secret::new("x".repeat(32))]);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let preview = Preview {
            site: "shop".into(),
            expires: now + 60,
            variants: vec![("pricing".into(), "short".into())],
            explain: true,
        };
        let token = preview.token(&keys).unwrap();
        assert_eq!(Preview::read(&token, "shop", &keys), Ok(preview.clone()));
        let key = ExperimentKey::parse("pricing").unwrap();
        assert_eq!(preview.variant(&key), Some("short"));
        let old = Preview { expires: now - 1, ..preview.clone() }.token(&keys).unwrap();
        let (body, signature) = token.split_once('.').unwrap();
        let (old_body, _) = old.split_once('.').unwrap();
        for (token, site, why) in [
            (&*token, "other", PreviewError::OtherSite),
            (&old, "shop", PreviewError::Expired),
            (&preview.token(&others).unwrap(), "shop", PreviewError::Forged),
            (&format!("{old_body}.{signature}"), "shop", PreviewError::Forged),
            (&format!("{body}."), "shop", PreviewError::Forged),
            (body, "shop", PreviewError::Malformed),
            ("", "shop", PreviewError::Malformed),
            (&"a.".repeat(2000), "shop", PreviewError::Malformed),
        ] {
            assert_eq!(Preview::read(token, site, &keys), Err(why), "{token}");
        }
    }
}
