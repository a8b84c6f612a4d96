//! Under what a profile is kept.

use crate::identity::{AnonymousId, UserId};

/// A site's visitor: profiles of two sites never meet, whatever their ids.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ProfileKey {
    site: Box<str>,
    id: Id,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Id {
    User(UserId),
    Anonymous(AnonymousId),
}

impl ProfileKey {
    /// The profile of a user of `site`.
    #[must_use]
    pub fn user(site: &str, id: UserId) -> Self {
        Self { site: site.into(), id: Id::User(id) }
    }

    /// The profile of a browser that `site` knows no user of.
    #[must_use]
    pub fn anonymous(site: &str, id: AnonymousId) -> Self {
        Self { site: site.into(), id: Id::Anonymous(id) }
    }

    /// The user id, where the key has one.
    #[must_use]
    pub fn user_id(&self) -> Option<&UserId> {
        match &self.id {
            Id::User(id) => Some(id),
            Id::Anonymous(_) => None,
        }
    }

    /// Whether a link to a user may stand behind it.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        matches!(self.id, Id::Anonymous(_))
    }

    /// The same site's profile of `id`.
    #[must_use]
    pub fn linked(&self, id: UserId) -> Self {
        Self { site: self.site.clone(), id: Id::User(id) }
    }

    /// Bytes for an ordered store: unique, as no id holds a control character. At most 330 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let (kind, id) = match &self.id {
            Id::User(id) => (b'u', id.as_str()),
            Id::Anonymous(id) => (b'a', id.as_str()),
        };
        let mut out = Vec::with_capacity(self.site.len() + id.len() + 2);
        out.extend_from_slice(self.site.as_bytes());
        out.extend_from_slice(&[0, kind]);
        out.extend_from_slice(id.as_bytes());
        out
    }
}
