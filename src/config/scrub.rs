//! Takes hidden values out of messages, wherever those came from and whatever else stands around them.

use std::collections::HashSet;
use std::sync::LazyLock;

use serde_json::Value;

use super::schema::schema_ref;

/// So many characters in a row that a message has in common with a hidden value are of that value.
const RUN: usize = 6;
/// A hidden value that is shorter is taken out in quotation marks alone: as a word it says nothing.
const SHORT: usize = 3;

/// What no message may hold.
#[derive(Debug, Default)]
pub(super) struct Scrub {
    runs: HashSet<Vec<char>>,
    words: HashSet<String>,
}

impl Scrub {
    /// Of these values.
    pub(super) fn of<'t>(texts: impl IntoIterator<Item = &'t str>) -> Self {
        let mut scrub = Self::default();
        for text in texts {
            let text = text.to_ascii_lowercase();
            // The scheme of a URL stands in many messages.
            let text = match text.split_once("://") {
                Some((scheme, rest)) if scheme.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
                    rest
                }
                _ => &text,
            };
            let chars: Vec<char> = text.chars().collect();
            if chars.len() < RUN {
                scrub.words.insert(text.to_owned());
            }
            let pieces = text.split_whitespace();
            let piece = |piece: &&str| piece.bytes().any(|byte| byte.is_ascii_digit());
            scrub.words.extend(pieces.filter(piece).map(str::to_owned));
            let runs = chars.windows(RUN).filter(|run| !run.contains(&' '));
            scrub.runs.extend(runs.filter(|run| !OWN_RUNS.contains(*run)).map(<[char]>::to_vec));
        }
        scrub.words.retain(|word| !word.is_empty() && !KNOWN_WORDS.contains(word.as_str()));
        scrub
    }

    /// `message` with `…` for each part of a hidden value.
    pub(super) fn clean(&self, message: &str) -> String {
        let chars: Vec<char> = message.chars().collect();
        let lower: Vec<char> = chars.iter().map(char::to_ascii_lowercase).collect();
        let mut masked = vec![false; chars.len()];
        let mut mask = |from: usize, width: usize| {
            masked.iter_mut().skip(from).take(width).for_each(|one| *one = true);
        };
        for (from, run) in lower.windows(RUN).enumerate() {
            if self.runs.contains(run) {
                mask(from, RUN);
            }
        }
        for word in &self.words {
            let word: Vec<char> = word.chars().collect();
            for (from, found) in lower.windows(word.len()).enumerate() {
                let before = from.checked_sub(1).and_then(|before| lower.get(before));
                let behind = lower.get(from + word.len());
                let apart = |side: Option<&char>| side.is_none_or(|char| !char.is_alphanumeric());
                let quoted = before == Some(&'`') && behind == Some(&'`');
                let alone = word.len() >= SHORT && apart(before) && apart(behind);
                if found == word && (quoted || alone) {
                    mask(from, word.len());
                }
            }
        }
        let mut out = String::with_capacity(message.len());
        let mut before = false;
        for (char, masked) in chars.into_iter().zip(masked) {
            match (masked, before) {
                (false, _) => out.push(char),
                (true, false) => out.push('…'),
                (true, true) => {}
            }
            before = masked;
        }
        out
    }
}

/// Names of keys and words of the schema, which are in every message and no secrets.
pub(super) static KNOWN_WORDS: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    let mut out = HashSet::new();
    collect(schema_ref(), &mut out);
    out
});

static OWN_RUNS: LazyLock<HashSet<Vec<char>>> = LazyLock::new(|| {
    let mut out = HashSet::new();
    for word in KNOWN_WORDS.iter() {
        let chars: Vec<char> = word.to_ascii_lowercase().chars().collect();
        out.extend(chars.windows(RUN).map(<[char]>::to_vec));
    }
    out
});

fn collect<'s>(rule: &'s Value, out: &mut HashSet<&'s str>) {
    match rule {
        Value::Object(members) => {
            if let Some(Value::Object(known)) = members.get("properties") {
                out.extend(known.keys().map(String::as_str));
            }
            out.extend(members.get("const").and_then(Value::as_str));
            out.extend(members.get("x-expected").and_then(Value::as_str));
            let words = members.get("enum").and_then(Value::as_array);
            out.extend(words.into_iter().flatten().filter_map(Value::as_str));
            members.values().for_each(|rule| collect(rule, out));
        }
        Value::Array(rules) => rules.iter().for_each(|rule| collect(rule, out)),
        _ => {}
    }
}
