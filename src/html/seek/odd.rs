//! Tags, comments and text as the tokenizer of browsers reads them however they are written (HTML, 13.2.5): for what
//! [`super::tag`] calls odd. Only where they end and what they are called is told.

use memchr::{memchr, memmem};

use super::tag::{EndTag, Found, Stop, Tag, Token, end_of_text};

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
    let mut state = State::Tag;
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
pub(in crate::html) enum State {
    /// In its name.
    Tag,
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
    pub(super) fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Tag, byte) if !ends_name(byte) => Self::Tag,
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

/// A script's text, in which another may begin and end if it hides itself from browsers of old (13.2.5.15 and
/// following).
#[derive(Debug, Default)]
pub(in crate::html) struct Script {
    /// `<!--` has come, and no `-->`.
    is_hidden: bool,
    /// `<script` has come in there, and no `</script`.
    is_doubly: bool,
}

impl Script {
    const NAME: &str = "script";

    /// Moves `at` to the script's end tag, or as far as is read.
    pub(in crate::html) fn end(&mut self, page: &[u8], at: &mut usize) -> Found<()> {
        loop {
            let rest = page.get(*at..).unwrap_or_default();
            match rest {
                [] => return Err(Stop::More),
                [b'-', ..] if self.is_hidden => {
                    if rest.starts_with(b"-->") {
                        *self = Self::default();
                    } else if b"-->".starts_with(rest) {
                        return Err(Stop::More);
                    }
                }
                [b'<', ..] if rest.len() < Self::NAME.len() + 3 => return Err(Stop::More),
                [b'<', b'!', b'-', b'-', ..] if !self.is_hidden => {
                    self.is_hidden = true;
                    // `<!-->` and `<!--->` hide nothing.
                    *at += 1;
                }
                _ if is_tag(rest, b"</", Self::NAME) => {
                    if !self.is_doubly {
                        return Ok(());
                    }
                    self.is_doubly = false;
                }
                _ if self.is_hidden && is_tag(rest, b"<", Self::NAME) => self.is_doubly = true,
                _ => {}
            }
            *at += 1;
        }
    }
}

/// Moves `at` to the end tag of an element whose content is text and which is called `name`, however it is written.
pub(in crate::html) fn end_of_odd_text(page: &[u8], at: &mut usize, name: &str) -> Found<()> {
    loop {
        match end_of_text(page, at, name) {
            Err(Stop::Odd) if is_tag(page.get(*at..).unwrap_or_default(), b"</", name) => {
                return Ok(());
            }
            Err(Stop::Odd) => *at += 1,
            ended => return ended,
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

pub(super) fn ends_name(byte: u8) -> bool {
    is_space(byte) || matches!(byte, b'/' | b'>')
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'\x0c')
}
