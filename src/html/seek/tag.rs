//! Tags and comments as they stand in a page, read where they are.

use memchr::{memchr, memchr_iter, memmem};

/// What stands at a place of a page.
pub(in crate::html) enum Token<'p> {
    Start(Tag<'p>),
    End(EndTag<'p>),
    /// A comment, which ends there.
    Comment(usize),
    /// A doctype: what stands in it, and where it ends.
    Doctype(&'p [u8], usize),
}

impl Token<'_> {
    /// Where it ends.
    pub(in crate::html) const fn end(&self) -> usize {
        match self {
            Self::Start(tag) => tag.end,
            Self::End(tag) => tag.end,
            Self::Comment(end) | Self::Doctype(_, end) => *end,
        }
    }
}

/// A start tag that is all there.
pub(in crate::html) struct Tag<'p> {
    pub(in crate::html) start: usize,
    /// Behind it.
    pub(in crate::html) end: usize,
    pub(in crate::html) name: &'p [u8],
    pub(in crate::html) id: Option<&'p [u8]>,
    pub(in crate::html) class: Option<&'p [u8]>,
    /// `/>`.
    pub(in crate::html) closes: bool,
    /// What stands behind its name, up to the byte that ends it.
    inside: &'p [u8],
}

/// An end tag that is all there.
pub(in crate::html) struct EndTag<'p> {
    pub(in crate::html) start: usize,
    /// Behind it.
    pub(in crate::html) end: usize,
    pub(in crate::html) name: &'p [u8],
}

/// An attribute as the page has it.
pub(super) struct Attribute<'p> {
    pub(super) raw: &'p [u8],
    pub(in crate::html) name: &'p [u8],
    pub(super) value: &'p [u8],
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::html) enum Stop {
    /// It is not all there yet.
    More,
    /// It is unusual.
    Odd,
}

pub(in crate::html) type Found<T> = Result<T, Stop>;

const NAME: u8 = 1;
const SPACE: u8 = 2;
const ATTRIBUTE: u8 = 4;
const UNQUOTED: u8 = 8;

/// What each byte can be a part of.
static PARTS: [u8; 256] = {
    let mut parts = [0; 256];
    let mut byte = 0_usize;
    while byte < 256 {
        let mut part = 0;
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        let one = byte as u8;
        if one.is_ascii_alphanumeric() || one == b'-' {
            part |= NAME;
        }
        if matches!(one, b' ' | b'\t' | b'\n' | b'\r' | b'\x0c') {
            part |= SPACE;
        } else if !matches!(one, b'"' | b'\'' | b'<' | b'>' | b'=' | 0) {
            if one != b'/' {
                part |= ATTRIBUTE;
            }
            if one != b'`' {
                part |= UNQUOTED;
            }
        }
        #[expect(clippy::indexing_slicing, reason = "while compiling")]
        {
            parts[byte] = part;
        }
        byte += 1;
    }
    parts
};

/// The first place from `at` on whose byte is no `part`.
#[inline]
fn behind(page: &[u8], at: usize, part: u8) -> Found<usize> {
    let rest = page.get(at..).ok_or(Stop::More)?;
    let other = |byte: &u8| PARTS.get(usize::from(*byte)).is_none_or(|parts| parts & part == 0);
    rest.iter().position(other).map(|length| at + length).ok_or(Stop::More)
}

/// Reads what stands at `at`, which is the next `<` from there on that begins something. `at` is moved over
/// the text before.
#[inline]
pub(in crate::html) fn next<'p>(page: &'p [u8], at: &mut usize) -> Found<Token<'p>> {
    loop {
        // One tag behind the other is as frequent as text.
        if page.get(*at) != Some(&b'<') {
            let text = memchr(b'<', page.get(*at..).unwrap_or_default());
            *at = text.map_or(page.len(), |text| *at + text);
        }
        let rest = page.get(*at..).unwrap_or_default();
        match rest {
            [b'<', letter, ..] if letter.is_ascii_alphabetic() => {
                return Ok(Token::Start(start_tag(page, *at)?));
            }
            [b'<', b'/', letter, ..] if letter.is_ascii_alphabetic() => {
                let after = behind(page, *at + 2, NAME)?;
                let name = slice(page.get(*at + 2..after))?;
                let end = behind(page, after, SPACE)?;
                return match page.get(end) {
                    Some(b'>') => Ok(Token::End(EndTag { start: *at, end: end + 1, name })),
                    _ => Err(Stop::Odd),
                };
            }
            [b'<', b'!', b'-', b'-', inner @ ..] => {
                let end = memmem::find(inner, b"-->");
                let text = inner.get(..end.unwrap_or(inner.len())).unwrap_or_default();
                let odd = inner.starts_with(b">") || inner.starts_with(b"->");
                if odd || memmem::find(text, b"--!>").is_some() {
                    return Err(Stop::Odd);
                }
                return Ok(Token::Comment(*at + 4 + end.ok_or(Stop::More)? + 3));
            }
            [b'<', b'!', ..] => {
                let doctype = slice(rest.get(2..9))?.eq_ignore_ascii_case(b"doctype");
                if !doctype {
                    return Err(Stop::Odd);
                }
                let end = memchr(b'>', rest).ok_or(Stop::More)?;
                let text = rest.get(2..end).unwrap_or_default();
                return Ok(Token::Doctype(text, *at + end + 1));
            }
            [] | [b'<'] | [b'<', b'/'] => return Err(Stop::More),
            [_, b'/' | b'?', ..] => return Err(Stop::Odd),
            // Text.
            _ => *at += 1,
        }
    }
}

/// Moves `at` to the end tag of an element whose content is text and which is called `name`.
pub(in crate::html) fn end_of_text(page: &[u8], at: &mut usize, name: &str) -> Found<()> {
    loop {
        let text = memchr(b'<', page.get(*at..).unwrap_or_default());
        *at = text.map_or(page.len(), |text| *at + text);
        match page.get(*at + 1).ok_or(Stop::More)? {
            b'!' if name == "script" => *at += hidden(page.get(*at..).unwrap_or_default())?,
            b'/' => {
                let end = *at + 2 + name.len();
                let given = slice(page.get(*at + 2..end))?;
                if given.eq_ignore_ascii_case(name.as_bytes()) {
                    return match page.get(end).ok_or(Stop::More)? {
                        b'>' => Ok(()),
                        _ => Err(Stop::Odd),
                    };
                }
                *at += 1;
            }
            _ => *at += 1,
        }
    }
}

/// How long what stands there is: `<!--` up to `-->` hides a script from browsers of old. In there a script
/// may begin, so that the next end tag is none: that is left to the parser.
fn hidden(text: &[u8]) -> Found<usize> {
    const BEGIN: &[u8] = b"<!--";
    let given = text.get(..BEGIN.len()).unwrap_or(text);
    if !BEGIN.starts_with(given) {
        return Ok(1);
    }
    let end = memmem::find(text.get(2..).unwrap_or_default(), b"-->");
    let end = end.map(|end| 2 + end + 3);
    let inner = text.get(..end.unwrap_or(text.len())).unwrap_or_default();
    let is_script = |at: usize| {
        let tag = inner.get(at + 1..).unwrap_or_default();
        let name = tag.strip_prefix(b"/").unwrap_or(tag);
        name.get(..6).is_some_and(|name| name.eq_ignore_ascii_case(b"script"))
    };
    if memchr_iter(b'<', inner).any(is_script) {
        return Err(Stop::Odd);
    }
    end.ok_or(Stop::More)
}

#[inline]
fn start_tag(page: &[u8], start: usize) -> Found<Tag<'_>> {
    let mut at = behind(page, start + 1, NAME)?;
    let name = slice(page.get(start + 1..at))?;
    let (begun, mut id, mut class, mut closes) = (at, None, None, false);
    // Whether an attribute may follow without a space.
    let mut apart = false;
    loop {
        let from = at;
        at = behind(page, at, SPACE)?;
        match page.get(at).ok_or(Stop::More)? {
            b'>' => break,
            b'/' => {
                if *page.get(at + 1).ok_or(Stop::More)? != b'>' {
                    return Err(Stop::Odd);
                }
                closes = true;
                break;
            }
            _ if from == at && !apart => return Err(Stop::Odd),
            _ => {}
        }
        let (attribute, end) = attribute(page, at)?;
        match attribute.name.len() {
            2 if id.is_none() && attribute.name.eq_ignore_ascii_case(b"id") => {
                id = Some(attribute.value);
            }
            5 if class.is_none() && attribute.name.eq_ignore_ascii_case(b"class") => {
                class = Some(attribute.value);
            }
            _ => {}
        }
        apart = matches!(attribute.raw.last(), Some(b'"' | b'\''));
        at = end;
    }
    let inside = slice(page.get(begun..=at))?;
    let end = at + 1 + usize::from(closes);
    Ok(Tag { start, end, name, id, class, closes, inside })
}

/// The attribute that begins at `start`, and where it ends.
#[inline]
fn attribute(page: &[u8], start: usize) -> Found<(Attribute<'_>, usize)> {
    let named = behind(page, start, ATTRIBUTE)?;
    let name = slice(page.get(start..named))?;
    let (mut value, mut end): (&[u8], _) = (b"", named);
    match page.get(named).ok_or(Stop::More)? {
        b'=' => match page.get(named + 1).ok_or(Stop::More)? {
            quote @ (b'"' | b'\'') => {
                let rest = page.get(named + 2..).unwrap_or_default();
                let length = memchr(*quote, rest).ok_or(Stop::More)?;
                value = rest.get(..length).unwrap_or_default();
                end = named + 2 + length + 1;
            }
            _ => {
                end = behind(page, named + 1, UNQUOTED)?;
                value = slice(page.get(named + 1..end))?;
                let over = page.get(end).is_some_and(|byte| *byte == b'>' || is_space(*byte));
                if value.is_empty() || !over {
                    return Err(Stop::Odd);
                }
            }
        },
        b'>' | b'/' if !name.is_empty() => {}
        byte if !name.is_empty() && is_space(*byte) => {}
        // Quotes and the like in names are unusual.
        _ => return Err(Stop::Odd),
    }
    if name.is_empty() {
        return Err(Stop::Odd);
    }
    let raw = slice(page.get(start..end))?;
    Ok((Attribute { raw, name, value }, end))
}

impl<'p> Tag<'p> {
    /// Of an element that nobody wrote.
    pub(super) const fn bare(name: &'p [u8]) -> Self {
        Self { start: 0, end: 0, name, id: None, class: None, closes: false, inside: b"" }
    }

    /// Its attributes, in their order.
    pub(super) fn attributes(&self) -> impl Iterator<Item = Attribute<'p>> + use<'p> {
        let inside = self.inside;
        let mut at = 0;
        std::iter::from_fn(move || {
            at = behind(inside, at, SPACE).ok()?;
            let (found, end) = attribute(inside, at).ok()?;
            at = end;
            Some(found)
        })
    }
}

/// The words of a list that is separated by spaces.
pub(super) fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| is_space(*byte)).filter(|word| !word.is_empty())
}

#[inline]
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'\x0c')
}

fn slice(found: Option<&[u8]>) -> Found<&[u8]> {
    found.ok_or(Stop::More)
}
