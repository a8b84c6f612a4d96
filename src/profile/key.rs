//! Under what a profile is kept.

use std::fmt;

use crate::identity::{AnonymousId, IdError, UserId};

/// A site's visitor under one of the visitor's ids: profiles of two sites never meet, whatever
/// their ids. Debug does not show the id.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProfileKey(
    /// Site, NUL, type of id, NUL, id: unique, as none of them holds a control character. One
    /// allocation, because memory keeps millions of them.
    Box<str>,
);

/// The type of an id: `user_id`, `anonymous_id`, or any name that the vendor knows other ids by,
/// such as `email`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdType(Box<str>);

/// Why text does not name a profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No type in front.
    #[error("expected an id with its type, such as `user_id:john` or `email:john@shop.example`")]
    NoType,
    /// The type has other characters or is too long.
    #[error("a type of id has 1 to {MAX_TYPE_BYTES} lower-case letters, digits, `.`, `-` and `_`")]
    Type,
    /// The id itself.
    #[error(transparent)]
    Id(#[from] IdError),
}

/// The longest type of id, in bytes: with the longest site and id still a key of LMDB (511).
pub const MAX_TYPE_BYTES: usize = 64;
const USER: &str = "user_id";
const ANONYMOUS: &str = "anonymous_id";

impl IdType {
    /// Reads a type of id.
    ///
    /// # Errors
    /// When it has other characters or is too long.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let fits =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
        if text.is_empty() || text.len() > MAX_TYPE_BYTES || !text.bytes().all(fits) {
            return Err(KeyError::Type);
        }
        Ok(Self(text.into()))
    }
}

impl IdType {
    /// The type itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ProfileKey {
    fn of(site: &str, kind: &str, id: &str) -> Self {
        Self(format!("{site}\0{kind}\0{id}").into())
    }

    /// The profile of a user of `site`.
    #[must_use]
    pub fn user(site: &str, id: &UserId) -> Self {
        Self::of(site, USER, id.as_str())
    }

    /// The profile of a browser that `site` knows no user of.
    #[must_use]
    pub fn anonymous(site: &str, id: &AnonymousId) -> Self {
        Self::of(site, ANONYMOUS, id.as_str())
    }

    /// The profile under an id of any type.
    ///
    /// # Errors
    /// Which rule of ids it breaks.
    pub fn new(site: &str, kind: &IdType, id: &str) -> Result<Self, KeyError> {
        UserId::parse(id)?;
        Ok(Self::of(site, &kind.0, id))
    }

    /// Reads `type:id`, as operators write it.
    ///
    /// # Errors
    /// What is wrong with `text`.
    pub fn parse(site: &str, text: &str) -> Result<Self, KeyError> {
        let (kind, id) = text.split_once(':').ok_or(KeyError::NoType)?;
        Self::new(site, &IdType::parse(kind)?, id)
    }

    /// Site, type of id, id.
    fn parts(&self) -> (&str, &str, &str) {
        let mut parts = self.0.splitn(3, '\0');
        let mut next = || parts.next().unwrap_or_default();
        (next(), next(), next())
    }

    /// The site.
    #[must_use]
    pub fn site(&self) -> &str {
        self.parts().0
    }

    /// The type of its id.
    #[must_use]
    pub fn id_type(&self) -> &str {
        self.parts().1
    }

    /// The id.
    #[must_use]
    pub fn id(&self) -> &str {
        self.parts().2
    }

    /// `type:id`, as [`ProfileKey::parse`] reads it.
    #[must_use]
    pub fn text(&self) -> String {
        let (_, kind, id) = self.parts();
        format!("{kind}:{id}")
    }

    /// Whether it is a browser's.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.id_type() == ANONYMOUS
    }

    /// Whether it is a user's.
    #[must_use]
    pub fn is_user(&self) -> bool {
        self.id_type() == USER
    }

    /// Bytes for an ordered store: a site's keys stand together. At most 386 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Reads what [`ProfileKey::as_bytes`] wrote.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut parts = text.splitn(3, '\0');
        let (site, kind, id) = (parts.next()?, parts.next()?, parts.next()?);
        let key = Self::new(site, &IdType::parse(kind).ok()?, id).ok()?;
        (!site.is_empty()).then_some(key)
    }
}

impl fmt::Debug for ProfileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (site, kind, _) = self.parts();
        write!(f, "ProfileKey({site}, {kind}, ..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_are_written() {
        let key = ProfileKey::parse("shop", "email:jo:e@shop.example").unwrap();
        assert_eq!((key.site(), key.id_type(), key.id()), ("shop", "email", "jo:e@shop.example"));
        assert_eq!(ProfileKey::parse("shop", &key.text()).as_ref(), Ok(&key));
        assert_eq!(ProfileKey::from_bytes(key.as_bytes()), Some(key));
        let john = ProfileKey::user("shop", &UserId::parse("john").unwrap());
        assert_eq!(ProfileKey::parse("shop", "user_id:john"), Ok(john.clone()));
        assert_ne!(ProfileKey::parse("blog", "user_id:john"), Ok(john));
        for (text, why) in [
            ("john", KeyError::NoType),
            ("User:john", KeyError::Type),
            (":john", KeyError::Type),
            ("user_id:", KeyError::Id(IdError::Empty)),
            ("user_id:a\nb", KeyError::Id(IdError::Control)),
        ] {
            assert_eq!(ProfileKey::parse("shop", text), Err(why), "{text}");
        }
        for bytes in
            [&b""[..], b"shop", b"shop\0user_id", b"\0user_id\0john", b"shop\0user_id\0\xff"]
        {
            assert_eq!(ProfileKey::from_bytes(bytes), None);
        }
    }
}
