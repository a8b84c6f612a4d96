//! Cookie headers → [`Visitor`].

use std::borrow::Cow;

use percent_encoding::percent_decode;

use super::{AnonymousId, UserId, Visitor};

/// What the vendor's SDK calls the two identity cookies.
#[derive(Debug, Clone, Copy)]
pub struct CookieNames {
    /// Of the user id.
    pub user: &'static str,
    /// Of the anonymous id.
    pub anonymous: &'static str,
}

/// What was found of one name.
enum Found<'h> {
    Nothing,
    One(&'h [u8]),
    /// Two values that differ: somebody has set a second cookie on another path or domain (cookie
    /// tossing). Which one is the visitor's own can't be told, so neither counts.
    Conflict,
}

impl<'h> Found<'h> {
    fn add(&mut self, value: &'h [u8]) {
        *self = match self {
            Self::Nothing => Self::One(value),
            Self::One(first) if *first == value => Self::One(value),
            _ => Self::Conflict,
        }
    }
}

/// Reads identity from the values of a request's Cookie headers. Never fails: what is not an id
/// counts as none.
#[must_use]
pub fn read<'h>(names: &CookieNames, headers: impl Iterator<Item = &'h [u8]>) -> Visitor {
    let (mut user, mut anonymous) = (Found::Nothing, Found::Nothing);
    for header in headers {
        for pair in header.split(|byte| *byte == b';') {
            let pair = pair.trim_ascii_start();
            if let Some(value) = value_of(pair, names.user) {
                user.add(value);
            } else if let Some(value) = value_of(pair, names.anonymous) {
                anonymous.add(value);
            }
        }
    }
    Visitor {
        user: decode(&user).and_then(|text| UserId::parse(&text).ok()),
        anonymous: decode(&anonymous).and_then(|text| AnonymousId::parse(&text).ok()),
        minted: false,
    }
}

fn value_of<'p>(pair: &'p [u8], name: &str) -> Option<&'p [u8]> {
    pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=").map(<[u8]>::trim_ascii)
}

/// js-cookie percent-encodes; older SDKs stored strings JSON-quoted, so both are undone.
fn decode<'h>(found: &Found<'h>) -> Option<Cow<'h, str>> {
    let Found::One(raw) = found else { return None };
    let text = percent_decode(raw).decode_utf8().ok()?;
    if text.len() >= 2 && text.starts_with('"') && text.ends_with('"') {
        let bare: String = serde_json::from_str(&text).ok()?;
        return Some(Cow::Owned(bare));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAMES: CookieNames = CookieNames { user: "ajs_user_id", anonymous: "ajs_anonymous_id" };

    fn user(header: &str) -> Option<String> {
        read(&NAMES, [header.as_bytes()].into_iter()).user.map(|id| id.as_str().to_owned())
    }

    #[test]
    fn wrong_values_count_as_none() {
        let long = format!("ajs_user_id={}", "x".repeat(300));
        for header in [
            "",
            "ajs_user_id",
            "ajs_user_id=",
            "ajs_user_id=%00",
            "ajs_user_id=%0d%0aSet-Cookie:x",
            "ajs_user_id=%ff",
            "xajs_user_id=john",
            "ajs_user_id2=john",
            "ajs_user_id=john; ajs_user_id=mary",
            &long,
        ] {
            let got = user(header);
            assert_eq!(got, None, "{header}");
        }
    }

    #[test]
    fn every_form_of_the_sdk_is_read() {
        assert_eq!(user("a=1; ajs_user_id=john; b=2").as_deref(), Some("john"));
        assert_eq!(user("ajs_user_id=%22john%22").as_deref(), Some("john"));
        assert_eq!(user("ajs_user_id=jo%20hn").as_deref(), Some("jo hn"));
        assert_eq!(user("ajs_user_id=j%C3%BC").as_deref(), Some("jü"));
        assert_eq!(user("ajs_user_id=john;ajs_user_id=john").as_deref(), Some("john"));
    }

    #[test]
    fn conflicts_are_found_across_headers() {
        let headers = [&b"ajs_anonymous_id=a"[..], b"ajs_anonymous_id=b"];
        assert_eq!(read(&NAMES, headers.into_iter()), Visitor::default());
    }

    proptest! {
        /// Whatever a browser sends, reading ends, and what comes out is a valid id.
        #[test]
        fn never_panics(header in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut full = b"ajs_user_id=".to_vec();
            full.extend(&header);
            let visitor = read(&NAMES, [&full[..], &header[..]].into_iter());
            if let Some(id) = visitor.user {
                prop_assert!(UserId::parse(id.as_str()).is_ok());
            }
        }
    }
}
