//! Ids that can't be wrong inside: bounded, and without control characters.

use std::fmt;

/// The longest id, in bytes: fits a cookie, a store's key and a log line after their encodings.
pub const MAX_ID_BYTES: usize = 256;
/// `String(null)` and `String(undefined)`: under them all visitors that nobody knows would be one.
const PLACEHOLDERS: [&str; 2] = ["null", "undefined"];

/// Which rule text breaks that is not an id. Never repeats the text, which may be personal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing.
    #[error("an id can't be empty")]
    Empty,
    /// Too long.
    #[error("an id has at most {MAX_ID_BYTES} bytes, this one has {0}")]
    TooLong(usize),
    /// `null` or `undefined`: what scripts write that know nobody.
    #[error("`null` and `undefined` are what a script writes that knows no id")]
    Placeholder,
    /// CR, LF, NUL and their like.
    #[error("an id can't hold control characters")]
    Control,
}

fn check(raw: &str) -> Result<Box<str>, IdError> {
    if raw.is_empty() {
        return Err(IdError::Empty);
    }
    if PLACEHOLDERS.contains(&raw) {
        return Err(IdError::Placeholder);
    }
    if raw.len() > MAX_ID_BYTES {
        return Err(IdError::TooLong(raw.len()));
    }
    // Nearly all are ASCII, and need not be taken apart.
    let control = if raw.is_ascii() {
        raw.bytes().any(|byte| byte.is_ascii_control())
    } else {
        raw.chars().any(char::is_control)
    };
    if control {
        return Err(IdError::Control);
    }
    Ok(raw.into())
}

/// A visitor's id as the site's own systems know it, e.g. `john`.
///
/// 1 to [`MAX_ID_BYTES`] bytes without control characters; not `null` or `undefined`. Numbers, true and false
/// become their text where they are taken. Debug does not show it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct UserId(Box<str>);

/// A browser's id, most often a UUID that the SDK or the edge made.
///
/// 1 to [`MAX_ID_BYTES`] bytes without control characters; not `null` or `undefined`. Numbers, true and false
/// become their text where they are taken. Debug does not show it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct AnonymousId(Box<str>);

impl UserId {
    /// Reads an id.
    ///
    /// # Errors
    /// Names the rule that `raw` breaks.
    pub fn parse(raw: &str) -> Result<Self, IdError> {
        check(raw).map(Self)
    }

    /// The id itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AnonymousId {
    /// Reads an id.
    ///
    /// # Errors
    /// Names the rule that `raw` breaks.
    pub fn parse(raw: &str) -> Result<Self, IdError> {
        check(raw).map(Self)
    }

    /// A new id: a random UUID (RFC 9562, version 4), as the SDK makes them.
    #[must_use]
    pub fn mint() -> Self {
        let mut buffer = uuid::Uuid::encode_buffer();
        Self((&*uuid::Uuid::new_v4().hyphenated().encode_lower(&mut buffer)).into())
    }

    /// The id itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserId(..)")
    }
}

impl fmt::Debug for AnonymousId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnonymousId(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_ids_are_named_and_right_ones_kept() {
        assert_eq!(UserId::parse(""), Err(IdError::Empty));
        assert_eq!(UserId::parse(&"x".repeat(257)), Err(IdError::TooLong(257)));
        for nobody in ["null", "undefined"] {
            assert_eq!(UserId::parse(nobody), Err(IdError::Placeholder));
            assert_eq!(AnonymousId::parse(nobody), Err(IdError::Placeholder));
        }
        assert!(UserId::parse("nullable").is_ok());
        for wrong in ["a\r\nb", "a\0", "\u{85}", "\x7f"] {
            assert_eq!(AnonymousId::parse(wrong), Err(IdError::Control));
        }
        assert_eq!(UserId::parse("jöhn@shop.example").unwrap().as_str(), "jöhn@shop.example");
    }

    #[test]
    fn minted_ids_are_random_uuids() {
        let (one, two) = (AnonymousId::mint(), AnonymousId::mint());
        assert_ne!(one, two);
        assert_eq!(uuid::Uuid::parse_str(one.as_str()).unwrap().get_version_num(), 4);
    }
}
