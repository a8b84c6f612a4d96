//! Whose profile a request may read, and which it may write.

use super::ProfileKey;
use crate::identity::{Confirmed, Standing};

/// Whose profile a request may read: made of what is confirmed of a visitor, and of nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whose {
    key: ProfileKey,
    reach: Reach,
}

/// How much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// All that is known of the person, over links and from the site's source.
    Person,
    /// What was given to the id itself: nothing over a link, nothing from a source, which may know whose it is.
    Own,
}

impl Whose {
    /// Whose profile `confirmed` may read at `site`. `None` for nobody's.
    #[must_use]
    pub fn of(site: &str, confirmed: &Confirmed) -> Option<Self> {
        let person = |key| Some(Self { key, reach: Reach::Person });
        let anonymous = || {
            // Nobody can know anything of an id that was made just now.
            let id = confirmed.anonymous().filter(|_| !confirmed.visitor().minted)?;
            Some(ProfileKey::anonymous(site, id))
        };
        match (confirmed.standing(), confirmed.user()) {
            (Standing::Withheld, _) => None,
            (Standing::Believed | Standing::Vouched, Some(user)) => {
                person(ProfileKey::user(site, user))
            }
            (Standing::Believed, None) => person(anonymous()?),
            (Standing::Unconfirmed | Standing::Vouched, _) => {
                Some(Self { key: anonymous()?, reach: Reach::Own })
            }
        }
    }

    /// Under what it is kept.
    #[must_use]
    pub fn key(&self) -> &ProfileKey {
        &self.key
    }

    /// How much of it.
    #[must_use]
    pub fn reach(&self) -> Reach {
        self.reach
    }
}

/// Which profile a page view of `confirmed` may write: a user's only where somebody has vouched for it, because
/// anybody can say a user's id. Otherwise the browser's own, where it is not linked to anybody's; nothing, where
/// ids need a signature: it would be the user's at the next login, and anybody can send the browser's id.
#[must_use]
pub fn written_by(site: &str, confirmed: &Confirmed) -> Option<ProfileKey> {
    match (confirmed.standing(), confirmed.user()) {
        (Standing::Vouched, Some(user)) => Some(ProfileKey::user(site, user)),
        (Standing::Believed, None) => {
            confirmed.anonymous().map(|id| ProfileKey::anonymous(site, id))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{AnonymousId, UserId, Visitor};

    #[test]
    fn only_what_is_confirmed_is_read_and_written() {
        let john = UserId::parse("john").unwrap();
        let browser =
            Visitor { user: None, anonymous: AnonymousId::parse("b").ok(), ..Visitor::default() };
        let typed = Visitor { user: Some(john.clone()), ..browser.clone() };
        let (user, anonymous) = ("user_id:john", "anonymous_id:b");
        for (confirmed, read, written) in [
            (Confirmed::withheld(typed.clone()), None, None),
            (Confirmed::unconfirmed(typed.clone()), Some((anonymous, Reach::Own)), None),
            (Confirmed::believed(typed), Some((user, Reach::Person)), None),
            (
                Confirmed::believed(browser.clone()),
                Some((anonymous, Reach::Person)),
                Some(anonymous),
            ),
            (Confirmed::vouched(browser, john), Some((user, Reach::Person)), Some(user)),
            (Confirmed::unconfirmed(Visitor::default()), None, None),
        ] {
            let whose = Whose::of("shop", &confirmed);
            let got = whose.as_ref().map(|whose| (whose.key().text(), whose.reach()));
            assert_eq!(got, read.map(|(key, reach)| (key.to_owned(), reach)), "{confirmed:?}");
            let key = written_by("shop", &confirmed).map(|key| key.text());
            assert_eq!(key.as_deref(), written, "{confirmed:?}");
        }
    }
}
