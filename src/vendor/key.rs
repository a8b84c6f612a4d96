//! Write keys: what names a source to its vendor.

use std::fmt;

/// What browsers see in place of the write key.
pub const REDACTED: &str = "REDACTED";

/// A source's write key: 8 to 128 letters, digits, `-` and `_`, so that it fits a path, a header
/// and a script as it is. Debug does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct WriteKey(Box<str>);

/// Why text is not a write key. Never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a write key has 8 to 128 letters, digits, `-` and `_`; this one has {0} characters")]
pub struct BadWriteKey(usize);

impl WriteKey {
    /// Reads a write key.
    ///
    /// # Errors
    /// When `raw` can't be one.
    pub fn parse(raw: &str) -> Result<Self, BadWriteKey> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if (8..=128).contains(&raw.len()) && raw.bytes().all(fits) {
            return Ok(Self(raw.into()));
        }
        Err(BadWriteKey(raw.chars().count()))
    }

    /// The key itself: for the vendor, and for browsers where redaction is off.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for WriteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WriteKey(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_fit_every_place_they_land_in_and_never_show() {
        for wrong in ["", "short", "with space", "quote\"123", "a/b/c/d/e/f", &"x".repeat(129)] {
            assert!(WriteKey::parse(wrong).is_err(), "{wrong}");
        }
        let key = WriteKey::parse("abcDEF123_-").unwrap();
        assert_eq!(format!("{key:?}"), "WriteKey(redacted)");
        assert_eq!(key.expose(), "abcDEF123_-");
    }
}
