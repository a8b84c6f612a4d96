//! Kinds of values that a list of what may pass names. What is of another kind is left out.

use serde_json::value::{RawValue, to_raw_value};

use crate::collect::Object;
use crate::identity::AnonymousId;

/// What may stand under a name.
pub(super) enum Shape {
    /// Text, as the page wrote it.
    Text,
    /// Text of at most [`MAX_SHORT_BYTES`]: a name, a version, a language.
    Short,
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// What can be an id.
    Id,
    /// A point in time (RFC 3339).
    Time,
    /// A number.
    Number,
    /// True or false.
    Flag,
    /// The address of a page: without query, fragment, user and password.
    Address,
    /// The path of a page: without query and fragment.
    Path,
    /// The name of a host.
    Host,
    /// Any object, as the page wrote it.
    Words,
    /// An object whose members are true or false, under plain names.
    Flags,
    /// A list; what in it is of another kind is left out.
    List(&'static Self),
    /// An object with these members, if it has one of them.
    Members(&'static [(&'static str, Self)]),
}

/// Names, versions, languages and time zones are shorter.
const MAX_SHORT_BYTES: usize = 128;
/// The longest number that a browser writes has 24 characters.
const MAX_NUMBER_BYTES: usize = 32;
/// The most members of [`Shape::Flags`] and entries of [`Shape::List`] that pass.
const MAX_ENTRIES: usize = 64;
/// What RudderStack's SDK says of a visitor whom no page led here.
const DIRECT: &str = "$direct";

impl Shape {
    /// What of `raw` has this shape.
    pub(super) fn pass(&self, raw: &RawValue) -> Option<Box<RawValue>> {
        let text = || serde_json::from_str::<String>(raw.get()).ok();
        let whole = |fits: bool| fits.then(|| raw.to_owned());
        let part = |text: Option<String>| to_raw_value(&text?).ok();
        match self {
            Self::Text => whole(text().is_some()),
            Self::Short => whole(text().is_some_and(|text| text.len() <= MAX_SHORT_BYTES)),
            Self::OneOf(texts) => whole(text().is_some_and(|text| texts.contains(&&*text))),
            Self::Id => whole(text().is_some_and(|text| AnonymousId::parse(&text).is_ok())),
            Self::Time => {
                whole(text().is_some_and(|t| chrono::DateTime::parse_from_rfc3339(&t).is_ok()))
            }
            Self::Number => whole(is_number(raw.get())),
            Self::Flag => whole(matches!(raw.get(), "true" | "false")),
            Self::Address => part(text().and_then(|text| bare_address(&text))),
            Self::Path => {
                part(text().filter(|text| text.starts_with('/')).map(|text| bare(&text).to_owned()))
            }
            Self::Host => whole(text().is_some_and(|text| text.is_empty() || is_host(&text))),
            Self::Words => whole(serde_json::from_str::<Object>(raw.get()).is_ok()),
            Self::Flags => {
                let flags: Object = serde_json::from_str(raw.get()).ok()?;
                let plain = flags.members().filter(|(name, _)| is_plain(name));
                let plain = plain.filter_map(|(name, raw)| Some((name, Self::Flag.pass(raw)?)));
                to_raw_value(&plain.take(MAX_ENTRIES).collect::<Object>()).ok()
            }
            Self::List(of) => {
                let list: Vec<&RawValue> = serde_json::from_str(raw.get()).ok()?;
                let list = list.into_iter().filter_map(|raw| of.pass(raw));
                to_raw_value(&list.take(MAX_ENTRIES).collect::<Vec<_>>()).ok()
            }
            Self::Members(members) => {
                let found = pick(&serde_json::from_str(raw.get()).ok()?, members);
                if found.is_empty() { None } else { to_raw_value(&found).ok() }
            }
        }
    }
}

/// What of `object` the list names.
pub(super) fn pick(object: &Object, members: &[(&'static str, Shape)]) -> Object {
    let passing =
        |(name, shape): &(&'static str, Shape)| Some((*name, shape.pass(object.get(name)?)?));
    members.iter().filter_map(passing).collect()
}

fn is_number(json: &str) -> bool {
    let first = json.bytes().next().unwrap_or_default();
    (first == b'-' || first.is_ascii_digit()) && json.len() <= MAX_NUMBER_BYTES
}

/// `url` up to its query and fragment.
fn bare(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

fn bare_address(url: &str) -> Option<String> {
    if url.is_empty() || url == DIRECT {
        return Some(url.to_owned());
    }
    let (scheme, rest) = bare(url).split_once("://")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    (matches!(scheme, "http" | "https") && is_host(host))
        .then(|| format!("{scheme}://{host}{path}"))
}

/// A name or an address, with or without a port.
fn is_host(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    !text.is_empty() && text.len() <= MAX_SHORT_BYTES && text.bytes().all(fits)
}

/// The name of a category or an integration, which no address of a person is.
fn is_plain(name: &str) -> bool {
    let fits = |char: char| char.is_alphanumeric() || " ._-+&/()".contains(char);
    !name.is_empty() && name.len() <= MAX_SHORT_BYTES && name.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_the_shape_passes() {
        static NAMES: Shape = Shape::List(&Shape::Short);
        static INNER: Shape = Shape::Members(&[("a", Shape::Flag), ("b", Shape::Number)]);
        let long = format!("\"{}\"", "x".repeat(MAX_SHORT_BYTES + 1));
        for (shape, json, passes) in [
            (&Shape::Text, r#""a b""#, Some(r#""a b""#)),
            (&Shape::Text, "1", None),
            (&Shape::Short, &long, None),
            (&Shape::OneOf(&["a", "b"]), r#""\u0062""#, Some(r#""\u0062""#)),
            (&Shape::OneOf(&["a", "b"]), r#""c""#, None),
            (&Shape::Id, r#""""#, None),
            (&Shape::Id, r#""a\nb""#, None),
            (&Shape::Id, r#""a-1""#, Some(r#""a-1""#)),
            (&Shape::Time, r#""2026-01-02T03:04:05.678Z""#, Some(r#""2026-01-02T03:04:05.678Z""#)),
            (
                &Shape::Time,
                r#""2026-01-02T03:04:05+01:00""#,
                Some(r#""2026-01-02T03:04:05+01:00""#),
            ),
            (&Shape::Time, r#""j@shop.example""#, None),
            (&Shape::Number, "-1.5e3", Some("-1.5e3")),
            (&Shape::Number, r#""1""#, None),
            (&Shape::Number, &"1".repeat(MAX_NUMBER_BYTES + 1), None),
            (&Shape::Flag, "false", Some("false")),
            (&Shape::Flag, r#""true""#, None),
            (&Shape::Host, r#""search.example:8443""#, Some(r#""search.example:8443""#)),
            (&Shape::Host, r#""j@shop.example""#, None),
            (&Shape::Words, r#"{"a":[1.50]}"#, Some(r#"{"a":[1.50]}"#)),
            (&Shape::Words, r#""a""#, None),
            (&Shape::Flags, r#"{"All":true,"j@x":true,"b":{"id":1}}"#, Some(r#"{"All":true}"#)),
            (&Shape::Flags, "true", None),
            (&NAMES, r#"["C0001",{"id":1},"C0002",3]"#, Some(r#"["C0001","C0002"]"#)),
            (&NAMES, r#"{"a":"b"}"#, None),
            (&INNER, r#"{"c":1,"b":"1","a":true}"#, Some(r#"{"a":true}"#)),
            (&INNER, r#"{"c":1}"#, None),
            (&INNER, r#"[{"a":true}]"#, None),
        ] {
            let raw = RawValue::from_string(json.to_owned()).unwrap();
            assert_eq!(shape.pass(&raw).as_ref().map(|raw| raw.get()), passes, "{json}");
        }
    }

    #[test]
    fn addresses_lose_what_can_name_a_person() {
        let raw = |text: &str| to_raw_value(text).unwrap();
        let passed = |shape: &Shape, text: &str| {
            let passed = shape.pass(&raw(text))?;
            Some(serde_json::from_str::<String>(passed.get()).unwrap())
        };
        for (address, left) in [
            ("https://shop.example/a?email=j@x&gclid=1#top", Some("https://shop.example/a")),
            ("http://john:secret@shop.example:8080/a", Some("http://shop.example:8080/a")),
            ("https://shop.example?gclid=1", Some("https://shop.example")),
            ("https://shop.example#john@x/", Some("https://shop.example")),
            ("https://a@b@shop.example/", Some("https://shop.example/")),
            ("", Some("")),
            (DIRECT, Some(DIRECT)),
            ("https://?john", None),
            ("https://jo hn/", None),
            ("mailto:john@shop.example", None),
            ("javascript://x/john", None),
            ("john@shop.example", None),
        ] {
            assert_eq!(passed(&Shape::Address, address).as_deref(), left, "{address}");
        }
        for (path, left) in
            [("/a/b?c=d", Some("/a/b")), ("/#john", Some("/")), ("?john", None), ("john", None)]
        {
            assert_eq!(passed(&Shape::Path, path).as_deref(), left, "{path}");
        }
    }
}
