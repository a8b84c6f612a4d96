//! The edge's word that a browser is a user: for this user, in this browser, for a time.

use super::{AnonymousId, Purpose, SigningKeys, UserId};

/// Who is vouched for, where.
#[derive(Debug, Clone, Copy)]
pub struct Vouch<'v> {
    /// The site.
    pub site: &'v str,
    /// The user.
    pub user: &'v UserId,
    /// The browser: the word is worth nothing in another one.
    pub anonymous: &'v AnonymousId,
}

/// The longest that the edge's word counts, in seconds: a year and a day.
const LONGEST: i64 = 366 * 24 * 3600;

impl Vouch<'_> {
    /// The value of the cookie, given at `now` for `seconds`. `None` without a key.
    #[must_use]
    pub fn give(&self, keys: &SigningKeys, now: i64, seconds: i64) -> Option<String> {
        let ends = now.saturating_add(seconds);
        let signature = self.signed(keys, now, ends)?;
        Some(format!("{now}.{ends}.{signature}"))
    }

    fn signed(&self, keys: &SigningKeys, given: i64, ends: i64) -> Option<String> {
        let (given, ends) = (given.to_string(), ends.to_string());
        keys.sign(Purpose::User, &self.parts(&given, &ends))
    }

    fn parts<'p>(&'p self, given: &'p str, ends: &'p str) -> [&'p str; 5] {
        [self.site, self.user.as_str(), self.anonymous.as_str(), given, ends]
    }

    /// Whether `text` is the edge's word for this, and counts at `now` (seconds since 1970). Until when, then.
    #[must_use]
    pub fn holds(&self, keys: &SigningKeys, text: &str, now: i64) -> Option<i64> {
        let mut parts = text.splitn(3, '.');
        let (given, ends, signature) = (parts.next()?, parts.next()?, parts.next()?);
        let (from, until): (i64, i64) = (given.parse().ok()?, ends.parse().ok()?);
        // Clocks of nodes differ a little.
        let counts = from <= now.saturating_add(60)
            && now < until
            && until.checked_sub(from).is_some_and(|lives| lives <= LONGEST);
        (counts && keys.admits(Purpose::User, &self.parts(given, ends), signature)).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn a_word_counts_for_its_user_its_browser_and_its_time() {
        let keys = SigningKeys::new(&[Secret::new("k".repeat(32))]);
        let (john, mary) = (UserId::parse("john").unwrap(), UserId::parse("mary").unwrap());
        let (here, there) = (AnonymousId::parse("h").unwrap(), AnonymousId::parse("t").unwrap());
        let word = Vouch { site: "shop", user: &john, anonymous: &here };
        let text = word.give(&keys, 1000, 500).unwrap();
        assert_eq!(word.holds(&keys, &text, 1000), Some(1500));
        assert_eq!(word.holds(&keys, &text, 1499), Some(1500));
        for other in [
            Vouch { user: &mary, ..word },
            Vouch { anonymous: &there, ..word },
            Vouch { site: "blog", ..word },
        ] {
            assert_eq!(other.holds(&keys, &text, 1000), None, "{other:?}");
        }
        assert_eq!(word.holds(&keys, &text, 1500), None, "it has ended");
        assert_eq!(word.holds(&keys, &text, 900), None, "it has not begun");
        let later = text.replace("1500", "9500");
        let old = keys.sign(Purpose::User, &["shop", "john"]).unwrap();
        for wrong in [&later, &old, "", "..", "1000.1500.", "1000.1500.AAAA", "x.y.z"] {
            assert_eq!(word.holds(&keys, wrong, 1000), None, "{wrong}");
        }
        let long = word.give(&keys, 0, i64::MAX).unwrap();
        assert_eq!(word.holds(&keys, &long, 1000), None, "nothing lasts for ever");
    }
}
