//! Who says that a browser is a certain user.

use std::time::Duration;

use ring::hmac;

use super::Breaker;
use crate::config::Secret;
use crate::identity::UserId;
use crate::upstream::Upstream;

/// The secret by which the site's own pages sign an `identify`.
pub struct UserHash(hmac::Key);

impl UserHash {
    /// With this secret.
    #[must_use]
    #[allow(
        clippy::needless_pass_by_value,
        reason = "whoever gives it away has no more use for it"
    )]
    pub fn new(secret: Secret) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes()))
    }

    /// Whether `hash` is the HMAC-SHA256 of `user`, in hex. Takes the same time however much of it is right.
    #[must_use]
    pub fn admits(&self, user: &UserId, hash: &str) -> bool {
        let (pairs, rest) = hash.as_bytes().as_chunks::<2>();
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let byte = |[high, low]: &[u8; 2]| u8::try_from(digit(*high)? * 16 + digit(*low)?).ok();
        let tag: Option<Vec<u8>> = pairs.iter().map(byte).collect();
        rest.is_empty()
            && tag.is_some_and(|tag| hmac::verify(&self.0, user.as_str().as_bytes(), &tag).is_ok())
    }
}

/// A URL of the site's own that tells who a session belongs to.
pub struct IdentityCheck {
    /// The URL.
    pub upstream: std::sync::Arc<Upstream>,
    /// The session's cookie.
    pub cookie: Box<str>,
    /// How long an answer is believed.
    pub fresh_for: Duration,
    /// The most that a page waits for it.
    pub timeout: Duration,
    /// Pages don't wait one by one for a check that does not answer.
    pub breaker: Breaker,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_sites_own_hash_is_admitted() {
        let hash = UserHash::new(Secret::new("secret"));
        let john = UserId::parse("john").unwrap();
        // printf john | openssl dgst -sha256 -hmac secret
        let right = "337e3f715bf0aaed50eba983b89a1f9d1b8bded611f857a3c07644fff46bac0b";
        assert!(hash.admits(&john, right) && hash.admits(&john, &right.to_uppercase()));
        for wrong in ["", "x", "zz", &right[2..], &right.replace('3', "4")] {
            assert!(!hash.admits(&john, wrong), "{wrong}");
        }
        assert!(!hash.admits(&UserId::parse("mary").unwrap(), right));
    }
}
