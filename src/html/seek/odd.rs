//! Tags, comments and text as the tokenizer of browsers reads them however they are written (HTML, 13.2.5): for what
//! [`super::tag`] calls odd. Only where they end and what they are called is told.

use memchr::{memchr, memmem};

use super::tag::{EndTag, Found, Stop, Tag, Token};

/// Reads what stands at `at`, where something begins that is odd. In a picture or a formula, `<![CDATA[` is text.
pub(in crate::html) fn next_odd(page: &[u8], at: usize, in_foreign: bool) -> Found<Token<'_>> {
    let rest = page.get(at..).unwrap_or_default();
    let ends = |end: Option<usize>| end.map(|end| Token::Comment(at + end)).ok_or(Stop::More);
    match rest {
        [b'<', b'!', b'-', b'-', inner @ ..] => ends(comment(inner).map(|end| 4 + end)),
        [b'<', b'!', b'[', inner @ ..] if in_foreign && inner.starts_with(b"CDATA[") => {
            ends(memmem::find(rest, b"]]>").map(|end| end + 3))
        }
        [b'<', b'/', letter, ..] if letter.is_ascii_alphabetic() => {
            let (name, end, _) = tag(page, at + 2)?;
            Ok(Token::End(EndTag { start: at, end, name }))
        }
        [b'<', letter, ..] if letter.is_ascii_alphabetic() => {
            let (name, end, closes) = tag(page, at + 1)?;
            let mut tag = Tag::bare(name);
            (tag.start, tag.end, tag.closes) = (at, end, closes);
            Ok(Token::Start(tag))
        }
        _ => ends(memchr(b'>', rest).map(|end| end + 1)),
    }
}

/// How long a comment is behind `<!--`.
fn comment(inner: &[u8]) -> Option<usize> {
    if inner.starts_with(b">") {
        return Some(1);
    }
    if inner.starts_with(b"->") {
        return Some(2);
    }
    let plain = memmem::find(inner, b"-->").map(|end| end + 3);
    let odd = memmem::find(inner, b"--!>").map(|end| end + 4);
    plain.into_iter().chain(odd).min()
}

/// The name of a tag, which begins at `from`, where the tag ends, and whether it closes itself.
fn tag(page: &[u8], from: usize) -> Found<(&[u8], usize, bool)> {
    let rest = page.get(from..).unwrap_or_default();
    let length = rest.iter().position(|byte| ends_name(*byte)).ok_or(Stop::More)?;
    let name = rest.get(..length).unwrap_or_default();
    let mut state = State::Before;
    for (index, byte) in page.iter().enumerate().skip(from + length) {
        match state.after(*byte) {
            State::End { closes } => return Ok((name, index + 1, closes)),
            next => state = next,
        }
    }
    Err(Stop::More)
}

/// Where the tokenizer is in a tag.
#[derive(Debug, Clone, Copy)]
enum State {
    /// Before an attribute.
    Before,
    Name,
    AfterName,
    BeforeValue,
    Quoted(u8),
    Unquoted,
    /// Behind a slash.
    Slash,
    End {
        closes: bool,
    },
}

impl State {
    fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Quoted(quote), byte) if byte == quote => Self::Before,
            (Self::Quoted(quote), _) => Self::Quoted(quote),
            (Self::Slash, b'>') => Self::End { closes: true },
            (_, b'>') => Self::End { closes: false },
            (Self::Unquoted, byte) if is_space(byte) => Self::Before,
            (Self::BeforeValue, byte) if is_space(byte) => Self::BeforeValue,
            (Self::BeforeValue, quote @ (b'"' | b'\'')) => Self::Quoted(quote),
            (Self::Unquoted | Self::BeforeValue, _) => Self::Unquoted,
            (_, b'/') => Self::Slash,
            (Self::Name | Self::AfterName, b'=') => Self::BeforeValue,
            (Self::Name | Self::AfterName, byte) if is_space(byte) => Self::AfterName,
            (_, byte) if is_space(byte) => Self::Before,
            _ => Self::Name,
        }
    }
}

/// Moves `at` to the end tag of an element whose content is text and which is called `name`. In a script that hides
/// itself from browsers of old, another may begin and end (13.2.5.15 and following).
pub(in crate::html) fn end_of_odd_text(page: &[u8], at: &mut usize, name: &str) -> Found<()> {
    let (mut hidden, mut doubly, mut here) = (false, false, *at);
    let text = |here: usize| page.get(here..).unwrap_or_default();
    loop {
        if hidden && text(here).starts_with(b"-->") {
            (hidden, doubly) = (false, false);
            here += 3;
            *at = here;
            continue;
        }
        let Some(byte) = page.get(here) else { return Err(Stop::More) };
        let rest = text(here);
        let is_script = name == "script";
        if *byte == b'<' && rest.len() < name.len() + 3 {
            return Err(Stop::More);
        }
        if is_script && !hidden && rest.starts_with(b"<!--") {
            hidden = true;
            // `<!-->` and `<!--->` hide nothing.
            here += 2;
            continue;
        }
        if is_tag(rest, b"</", name) {
            if !doubly {
                *at = here;
                return Ok(());
            }
            doubly = false;
        } else if hidden && !doubly && is_tag(rest, b"<", name) {
            doubly = true;
        }
        here += 1;
        if !hidden {
            *at = here;
        }
    }
}

/// Whether a tag of this name begins there.
fn is_tag(rest: &[u8], begins: &[u8], name: &str) -> bool {
    let end = begins.len() + name.len();
    let own = rest.strip_prefix(begins).and_then(|rest| rest.get(..name.len()));
    own.is_some_and(|own| own.eq_ignore_ascii_case(name.as_bytes()))
        && rest.get(end).is_some_and(|byte| ends_name(*byte))
}

fn ends_name(byte: u8) -> bool {
    is_space(byte) || matches!(byte, b'/' | b'>')
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'\x0c')
}
