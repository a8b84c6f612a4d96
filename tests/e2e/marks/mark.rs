//! Words that belong to somebody: how they are made, and how they are found in bytes again, also where a cookie of
//! RudderStack's packs them. Beside them the ids and signatures that the edge makes.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use memchr::memmem;
use regex::bytes::Regex;

use super::random::Random;

/// What a mark is a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// A user's id.
    User,
    /// Traits, which only a profile tells.
    Secret,
    /// What a browser sends: its own ids, cookies, queries, bodies.
    Browser,
}

const PREFIX: &str = "zq";
const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// With the letter of its class.
const LENGTH: usize = PREFIX.len() + 1 + 13;

/// A mark that nobody can guess.
pub(super) fn mark(class: Class, random: &mut Random) -> String {
    let letters = (0..13).map(|_| char::from(*random.pick(LETTERS)));
    let class = match class {
        Class::User => 'u',
        Class::Secret => 's',
        Class::Browser => 'b',
    };
    [PREFIX.chars().collect(), vec![class], letters.collect::<Vec<_>>()].concat().iter().collect()
}

/// The class of a mark.
pub(super) fn class_of(mark: &str) -> Class {
    match mark.as_bytes()[PREFIX.len()] {
        b'u' => Class::User,
        b's' => Class::Secret,
        _ => Class::Browser,
    }
}

/// A mark with the number of a request, as it stands in one.
pub(super) fn numbered(mark: &str, number: u64) -> String {
    format!("{mark}.r{number}.")
}

/// What of anybody's stands in some bytes.
#[derive(Debug, Default)]
pub(super) struct Finds {
    pub(super) marks: BTreeSet<String>,
    /// Marks with the number of a request.
    pub(super) numbers: BTreeSet<(String, u64)>,
    /// Ids of browsers and signatures of users that the edge has made.
    pub(super) ids: BTreeSet<String>,
}

/// Standard base64 of RudderStack's cookies, whose padding may be percent-encoded.
static BASE64: LazyLock<GeneralPurpose> = LazyLock::new(|| {
    let padding = DecodePaddingMode::Indifferent;
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(padding);
    GeneralPurpose::new(&STANDARD, lenient.with_decode_allow_trailing_bits(true))
});

static MADE_BY_THE_EDGE: LazyLock<Regex> = LazyLock::new(|| {
    let id = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}";
    Regex::new(&format!(r"{id}|[0-9]{{10}}\.[0-9]{{10}}\.[A-Za-z0-9_-]{{43}}")).unwrap()
});

impl Finds {
    /// All that stands in `bytes`.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut finds = Self::default();
        finds.read(bytes);
        finds
    }

    /// Also what stands in `bytes`.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        self.plain(bytes);
        for at in memmem::find_iter(bytes, b"RS_ENC_v3_") {
            let packed = &bytes[at + b"RS_ENC_v3_".len()..];
            let end = packed
                .iter()
                .position(|byte| !(byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')));
            if let Ok(text) = BASE64.decode(&packed[..end.unwrap_or(packed.len())]) {
                self.plain(&text);
            }
        }
    }

    fn plain(&mut self, bytes: &[u8]) {
        for at in memmem::find_iter(bytes, PREFIX) {
            let Some(word) = bytes.get(at..at + LENGTH) else { continue };
            let class = matches!(word[PREFIX.len()], b'u' | b's' | b'b');
            if !class || !word[PREFIX.len() + 1..].iter().all(|byte| LETTERS.contains(byte)) {
                continue;
            }
            let word = std::str::from_utf8(word).unwrap().to_owned();
            if let Some(number) = number(&bytes[at + LENGTH..]) {
                self.numbers.insert((word.clone(), number));
            }
            self.marks.insert(word);
        }
        for id in MADE_BY_THE_EDGE.find_iter(bytes) {
            self.ids.insert(String::from_utf8_lossy(id.as_bytes()).into_owned());
        }
    }
}

/// `.r17.`
fn number(bytes: &[u8]) -> Option<u64> {
    let digits = bytes.strip_prefix(b".r")?;
    let end = digits.iter().take(20).position(|byte| *byte == b'.')?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

#[test]
fn marks_are_found_wherever_they_stand() {
    let mut random = Random::of(1, 1);
    let (user, secret) = (mark(Class::User, &mut random), mark(Class::Secret, &mut random));
    let packed = BASE64.encode(format!("\"{user}\""));
    for text in [
        format!("x{user}y {secret}."),
        format!("{{\"a\":\"{secret}\",\"b\":[\"u-{user}\"]}}"),
        format!("rl_user_id=RS_ENC_v3_{packed}; a={secret}"),
        format!("rl_user_id=RS_ENC_v3_{}%3D%3D; a={secret}", packed.trim_end_matches('=')),
    ] {
        let finds = Finds::of(text.as_bytes());
        assert_eq!(finds.marks, [user.clone(), secret.clone()].into(), "{text}");
        assert!(finds.numbers.is_empty() && finds.ids.is_empty());
    }
    let request = numbered(&user, 17);
    assert_eq!(Finds::of(request.as_bytes()).numbers, [(user.clone(), 17)].into());
    assert_eq!((class_of(&user), class_of(&secret)), (Class::User, Class::Secret));
    let made = "a1b2c3d4-0000-4000-8000-0123456789ab";
    let signed = format!("1700000000.1700000001.{}", "A".repeat(43));
    let text = format!("doorstep_user={signed}; ajs_anonymous_id={made}");
    assert_eq!(Finds::of(text.as_bytes()).ids, [made.to_owned(), signed].into());
    for nothing in ["zq", "zqu", "zquabcdefghijkl", "zqxabcdefghijklmn", "zquABCDEFGHIJKLM"] {
        assert!(Finds::of(nothing.as_bytes()).marks.is_empty(), "{nothing}");
    }
}
