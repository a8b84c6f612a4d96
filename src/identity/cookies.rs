//! Cookie headers → [`Visitor`].

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use smallvec::SmallVec;

use percent_encoding::percent_decode;

use super::{AnonymousId, UserId, Visitor};

/// What the vendor's SDK calls the two identity cookies.
#[derive(Debug, Clone, Copy)]
pub struct CookieNames {
    /// Of the user id.
    pub user: &'static str,
    /// Of the anonymous id.
    pub anonymous: &'static str,
    /// How their values are written.
    pub form: CookieForm,
}

/// How a vendor's SDK writes an id into a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CookieForm {
    /// As it is, percent-encoded.
    Plain,
    /// `RS_ENC_v3_`, then base64 of its JSON, percent-encoded.
    RudderStack,
}

const RUDDERSTACK: &str = "RS_ENC_v3_";
const ENCRYPTED: &str = "RudderEncrypt:";

impl CookieForm {
    /// The text of a cookie for `id`, before it is percent-encoded.
    #[must_use]
    pub fn write(self, id: &str) -> Cow<'_, str> {
        match self {
            // Readers take one pair of quotes off, as older SDKs put one on: an id that has quotes of
            // its own gets that pair.
            Self::Plain if id.starts_with('"') => serde_json::Value::from(id).to_string().into(),
            Self::Plain => id.into(),
            Self::RudderStack => {
                let json = serde_json::Value::from(id).to_string();
                format!("{RUDDERSTACK}{}", STANDARD.encode(json)).into()
            }
        }
    }

    /// The id in a cookie's text.
    fn read(self, text: Cow<'_, str>) -> Option<Cow<'_, str>> {
        let text = match (self, text.strip_prefix(RUDDERSTACK)) {
            (Self::RudderStack, Some(packed)) => {
                String::from_utf8(STANDARD.decode(packed).ok()?).ok()?.into()
            }
            _ => text,
        };
        // Classic analytics.js writes JSON: nobody is `null` there, and lists and objects are no ids.
        if matches!(&*text, "null" | "undefined") || is_json(&text) {
            return None;
        }
        // SDK 1 and 2 of RudderStack encrypt what they write: what it says can't be told.
        if text.starts_with(ENCRYPTED) {
            return None;
        }
        if text.len() >= 2 && text.starts_with('"') && text.ends_with('"') {
            let bare: String = serde_json::from_str(&text).ok()?;
            return Some(Cow::Owned(bare));
        }
        Some(text)
    }
}

/// Whether a text is a list or an object. A GUID in braces is none.
fn is_json(text: &str) -> bool {
    text.starts_with(['{', '[']) && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
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

/// What was found of the cookie of an id.
struct FoundId<'h> {
    form: CookieForm,
    one: Found<'h>,
    /// There were several that are not written alike.
    several: bool,
}

impl<'h> FoundId<'h> {
    const fn new(form: CookieForm) -> Self {
        Self { form, one: Found::Nothing, several: false }
    }

    /// One more. What is nobody's says nothing beside an id, and one id may be written in several ways.
    fn add(&mut self, value: &'h [u8]) {
        match self.one {
            Found::One(first) if first != value => {
                self.several = true;
                let id = |raw| decode(self.form, raw).filter(|id| !id.is_empty());
                self.one = match (id(first), id(value)) {
                    (None, _) => Found::One(value),
                    (Some(_), None) => Found::One(first),
                    (Some(first_id), Some(id)) if first_id == id => Found::One(first),
                    _ => Found::Conflict,
                };
            }
            _ => self.one.add(value),
        }
    }

    fn id(&self) -> Option<Cow<'h, str>> {
        match self.one {
            Found::One(raw) => decode(self.form, raw),
            Found::Nothing | Found::Conflict => None,
        }
    }
}

/// Reads identity from the values of a request's Cookie headers: of each id the first of `names` that
/// has one. Never fails: what is not an id counts as none.
#[must_use]
pub fn read<'h>(names: &[CookieNames], headers: impl Iterator<Item = &'h [u8]>) -> Visitor {
    let mut found: SmallVec<[(FoundId<'h>, FoundId<'h>); 2]> =
        names.iter().map(|names| (FoundId::new(names.form), FoundId::new(names.form))).collect();
    for header in headers {
        for pair in header.split(|byte| *byte == b';') {
            let pair = pair.trim_ascii_start();
            for (names, (user, anonymous)) in names.iter().zip(&mut found) {
                if let Some(value) = value_of(pair, names.user) {
                    user.add(value);
                } else if let Some(value) = value_of(pair, names.anonymous) {
                    anonymous.add(value);
                }
            }
        }
    }
    let mut visitor = Visitor::default();
    for (user, anonymous) in &found {
        visitor.conflicts.user |= user.several;
        visitor.conflicts.anonymous |= anonymous.several;
        visitor.user = visitor.user.or_else(|| UserId::parse(&user.id()?).ok());
        visitor.anonymous = visitor.anonymous.or_else(|| AnonymousId::parse(&anonymous.id()?).ok());
    }
    visitor
}

/// What a request says of one cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CookieSent<'h> {
    /// It has none of that name.
    None,
    /// It has this value, as it was sent.
    One(&'h str),
    /// Two values that differ, or one that is not text: which one is the visitor's own can't be told.
    Unclear,
}

/// What is said of the cookie of `name`.
pub fn sent<'h>(
    headers: impl IntoIterator<Item = &'h http::HeaderValue>,
    name: &str,
) -> CookieSent<'h> {
    let mut found = Found::Nothing;
    for value in values(headers, name) {
        found.add(value);
    }
    match found {
        Found::Nothing => CookieSent::None,
        Found::One(value) => {
            std::str::from_utf8(value).map_or(CookieSent::Unclear, CookieSent::One)
        }
        Found::Conflict => CookieSent::Unclear,
    }
}

/// The value of the cookie of `name`, as it was sent. Two values that differ count as none.
pub fn cookie<'h>(
    headers: impl IntoIterator<Item = &'h http::HeaderValue>,
    name: &str,
) -> Option<&'h str> {
    match sent(headers, name) {
        CookieSent::One(value) => Some(value),
        CookieSent::None | CookieSent::Unclear => None,
    }
}

/// All values of the cookie of `name`, as they were sent.
pub fn values<'h>(
    headers: impl IntoIterator<Item = &'h http::HeaderValue>,
    name: &str,
) -> impl Iterator<Item = &'h [u8]> {
    let pairs =
        headers.into_iter().flat_map(|header| header.as_bytes().split(|byte| *byte == b';'));
    pairs.filter_map(move |pair| value_of(pair.trim_ascii_start(), name))
}

fn value_of<'p>(pair: &'p [u8], name: &str) -> Option<&'p [u8]> {
    pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=").map(<[u8]>::trim_ascii)
}

/// The SDKs percent-encode; older ones stored strings JSON-quoted: both are undone.
fn decode(form: CookieForm, raw: &[u8]) -> Option<Cow<'_, str>> {
    let text = match memchr::memchr(b'%', raw) {
        None => std::str::from_utf8(raw).ok()?.into(),
        Some(_) => percent_decode(raw).decode_utf8().ok()?,
    };
    form.read(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::identity::Conflicts;

    const NAMES: [CookieNames; 1] = [CookieNames {
        user: "ajs_user_id",
        anonymous: "ajs_anonymous_id",
        form: CookieForm::Plain,
    }];
    const BOTH: [CookieNames; 2] = [
        NAMES[0],
        CookieNames {
            user: "rl_user_id",
            anonymous: "rl_anonymous_id",
            form: CookieForm::RudderStack,
        },
    ];

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
            "ajs_user_id=null",
            "ajs_user_id=%6eull",
            "ajs_user_id=undefined",
            "ajs_user_id=%22%22",
            "ajs_user_id=%7B%22id%22%3A1%7D",
            "ajs_user_id=%5B%5D",
            "ajs_user_id=RudderEncrypt%3AU2FsdGVkX18gv3%2BZ",
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
        assert_eq!(user("ajs_user_id=123").as_deref(), Some("123"));
        assert_eq!(user("ajs_user_id=true").as_deref(), Some("true"));
        assert_eq!(user("ajs_user_id={6F9619FF-8B86}").as_deref(), Some("{6F9619FF-8B86}"));
        assert_eq!(user("ajs_user_id=jo%20hn").as_deref(), Some("jo hn"));
        assert_eq!(user("ajs_user_id=j%C3%BC").as_deref(), Some("jü"));
        assert_eq!(user("ajs_user_id=john;ajs_user_id=john").as_deref(), Some("john"));
    }

    /// Whatever is written beside it, and however.
    #[test]
    fn a_cookie_of_nobody_takes_no_id_away() {
        for others in ["null", "", "%22john%22", "{}"] {
            for header in [
                format!("ajs_user_id=john; ajs_user_id={others}"),
                format!("ajs_user_id={others}; ajs_user_id=john"),
            ] {
                let visitor = read(&NAMES, [header.as_bytes()].into_iter());
                assert_eq!(visitor.user.as_ref().map(UserId::as_str), Some("john"), "{header}");
                assert!(visitor.conflicts.user, "the other one is to end: {header}");
            }
        }
    }

    #[test]
    fn conflicts_are_found_across_headers() {
        let headers = [&b"ajs_anonymous_id=a"[..], b"ajs_anonymous_id=b"];
        let conflicts = Conflicts { user: false, anonymous: true };
        let nobody = Visitor { conflicts, ..Visitor::default() };
        assert_eq!(read(&NAMES, headers.into_iter()), nobody);
    }

    #[test]
    fn two_vendors_are_read_one_after_the_other() {
        let read = |header: &str| {
            let visitor = read(&BOTH, [header.as_bytes()].into_iter());
            let id = |id: Option<&str>| id.map(str::to_owned);
            (
                id(visitor.user.as_ref().map(UserId::as_str)),
                id(visitor.anonymous.as_ref().map(AnonymousId::as_str)),
            )
        };
        let rudder = "rl_anonymous_id=RS_ENC_v3_InRlc3QtZGF0YSI%3D; rl_user_id=RS_ENC_v3_IiI%3D";
        assert_eq!(read(rudder), (None, Some("test-data".into())));
        assert_eq!(read("rl_user_id=%22john%22"), (Some("john".into()), None));
        assert_eq!(read("rl_user_id=RS_ENC_v3_!!"), (None, None));
        assert_eq!(read("rl_user_id=RudderEncrypt%3AU2FsdGVkX1"), (None, None));
        let both = format!("{rudder}; ajs_anonymous_id=own");
        assert_eq!(read(&both), (None, Some("own".into())));
        assert_eq!(CookieForm::RudderStack.write("test-data"), "RS_ENC_v3_InRlc3QtZGF0YSI=");
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
