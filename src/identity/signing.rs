//! What the edge vouches for: signatures over a user id, a preview link.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

use crate::config::Secret;

/// The site's keys: the first signs, all are accepted, so that keys can be changed without anybody
/// noticing.
#[derive(Default)]
pub struct SigningKeys(Vec<hmac::Key>);

/// What a signature is for: one for another purpose is worth nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// This browser is this user.
    User,
    /// Whoever has this link sees these variants.
    Preview,
}

impl Purpose {
    const fn label(self) -> &'static str {
        match self {
            Self::User => "doorstep user",
            Self::Preview => "doorstep preview",
        }
    }
}

/// The shortest key, in bytes: as long as the digest (RFC 2104, 3).
pub const MIN_KEY_BYTES: usize = 32;

impl SigningKeys {
    /// With these keys.
    #[must_use]
    pub fn new(keys: &[Secret]) -> Self {
        let keys = keys.iter().map(|key| key.expose().as_bytes());
        Self(keys.map(|key| hmac::Key::new(hmac::HMAC_SHA256, key)).collect())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The signature of `parts`, fit for a URL and a cookie. `None` without a key.
    #[must_use]
    pub fn sign(&self, purpose: Purpose, parts: &[&str]) -> Option<String> {
        let tag = hmac::sign(self.0.first()?, &framed(purpose, parts));
        Some(URL_SAFE_NO_PAD.encode(tag))
    }

    /// Whether `signature` is one of `parts`, by any of the keys. Takes the same time however much of it is
    /// right.
    #[must_use]
    pub fn admits(&self, purpose: Purpose, parts: &[&str], signature: &str) -> bool {
        let Ok(tag) = URL_SAFE_NO_PAD.decode(signature) else { return false };
        let framed = framed(purpose, parts);
        self.0.iter().any(|key| hmac::verify(key, &framed, &tag).is_ok())
    }
}

/// No two lists of parts give the same bytes.
fn framed(purpose: Purpose, parts: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in std::iter::once(&purpose.label()).chain(parts) {
        out.extend_from_slice(&(part.len() as u64).to_le_bytes());
        out.extend_from_slice(part.as_bytes());
    }
    out
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKeys({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_signed_is_admitted() {
        let (old, new) = (Secret::new("o".repeat(32)), Secret::new("n".repeat(32)));
        let before = SigningKeys::new(std::slice::from_ref(&old));
        let now = SigningKeys::new(&[new.clone(), old]);
        let later = SigningKeys::new(&[new]);
        let signature = before.sign(Purpose::User, &["shop", "john"]).unwrap();
        let admits =
            |keys: &SigningKeys, parts: &[&str]| keys.admits(Purpose::User, parts, &signature);
        assert!(admits(&before, &["shop", "john"]) && admits(&now, &["shop", "john"]));
        assert!(!admits(&later, &["shop", "john"]));
        for other in
            [&["shop", "mary"][..], &["shopj", "ohn"], &["shopjohn"], &["shop", "john", ""]]
        {
            assert!(!admits(&now, other), "{other:?}");
        }
        assert!(!now.admits(Purpose::Preview, &["shop", "john"], &signature));
        for wrong in ["", "!", "AAAA", &signature[1..]] {
            assert!(!now.admits(Purpose::User, &["shop", "john"], wrong), "{wrong}");
        }
        assert_eq!(SigningKeys::default().sign(Purpose::User, &[]), None);
    }
}
