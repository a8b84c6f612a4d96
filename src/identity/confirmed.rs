//! How far it counts who a visitor says to be. Whoever reads, writes or links a profile asks for this, and not for
//! an id: see [`crate::profile::Whose`].

use super::{AnonymousId, UserId, Visitor};

/// A visitor as far as it counts who it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Confirmed {
    visitor: Visitor,
    standing: Standing,
}

/// Why ids count, or how far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Standing {
    /// Nothing may be looked up: the visitor does not allow it.
    #[default]
    Withheld,
    /// The site wants users vouched for, and nobody has: there is no user, and the browser's id counts for what
    /// it was given itself.
    Unconfirmed,
    /// The site takes ids as browsers say them: anybody can say any.
    Believed,
    /// Somebody whom the site trusts has said that this browser is this user.
    Vouched,
}

impl Confirmed {
    /// Whoever allows nobody to look anything up.
    #[must_use]
    pub fn withheld(visitor: Visitor) -> Self {
        Self { visitor, standing: Standing::Withheld }
    }

    /// Of a site that takes ids as browsers say them.
    #[must_use]
    pub fn believed(visitor: Visitor) -> Self {
        Self { visitor, standing: Standing::Believed }
    }

    /// A browser whose user nobody has vouched for: it has none.
    #[must_use]
    pub fn unconfirmed(visitor: Visitor) -> Self {
        Self { visitor: Visitor { user: None, ..visitor }, standing: Standing::Unconfirmed }
    }

    /// A browser that is `user`.
    #[must_use]
    pub fn vouched(visitor: Visitor, user: UserId) -> Self {
        let visitor = Visitor { user: Some(user), ..visitor };
        Self { visitor, standing: Standing::Vouched }
    }

    /// The visitor, with the user that counts.
    #[must_use]
    pub fn visitor(&self) -> &Visitor {
        &self.visitor
    }

    /// The user that counts.
    #[must_use]
    pub fn user(&self) -> Option<&UserId> {
        self.visitor.user.as_ref()
    }

    /// The browser.
    #[must_use]
    pub fn anonymous(&self) -> Option<&AnonymousId> {
        self.visitor.anonymous.as_ref()
    }

    /// How far it counts.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Whether somebody has vouched for the user.
    #[must_use]
    pub fn is_vouched(&self) -> bool {
        self.standing == Standing::Vouched
    }
}
