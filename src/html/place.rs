//! The place of the snippet in a page whose head is plain and whole: found without a parser, which
//! costs more to build than such a head to read. Anything unusual is left to the parser.

use memchr::{memchr, memchr2, memchr2_iter, memchr3, memmem};

/// A head that is longer is left to the parser.
const MAX_BYTES: usize = 64 * 1024;

/// Where the snippet belongs in `page`, the first bytes of a page, if that is plain to see: before
/// `</head>`, else before the first element or text that can't stand in a head.
///
/// `None` where only a parser can tell: the head is not all there, has a policy or a template, or is
/// written in a way that needs the whole standard to read.
pub(super) fn plain_place(page: &[u8]) -> Option<usize> {
    let page = page.get(..MAX_BYTES).unwrap_or(page);
    let mut open = false;
    let mut at = page.strip_prefix(b"\xef\xbb\xbf").map_or(0, |_| 3);
    loop {
        at += page.get(at..)?.iter().position(|byte| !byte.is_ascii_whitespace())?;
        let rest = page.get(at..)?;
        match rest {
            [b'<', b'!', b'-', b'-', ..] => at += comment(rest)?,
            [b'<', b'!', ..] => {
                let doctype = rest.get(2..9)?.eq_ignore_ascii_case(b"doctype");
                at += memchr(b'>', rest).filter(|_| doctype)? + 1;
            }
            [b'<', b'/', ..] => {
                let name = rest.get(2..6)?.eq_ignore_ascii_case(b"head");
                let ends = matches!(rest.get(6)?, b'>' | b' ' | b'\t' | b'\n' | b'\r' | b'/');
                // The tag has to be all there, for the parser would wait for it.
                let whole = memchr(b'>', rest).is_some();
                return (open && name && ends && whole).then_some(at);
            }
            [b'<', letter, ..] if letter.is_ascii_alphabetic() => {
                let tag = Tag::read(rest)?;
                match tag.kind()? {
                    Kind::Place => return Some(at),
                    Kind::Head => {
                        open |= tag.name.eq_ignore_ascii_case(b"head");
                        at += tag.bytes;
                    }
                    Kind::Raw(name) => at += tag.bytes + raw(rest.get(tag.bytes..)?, name)?,
                }
            }
            [b'<', ..] => return None,
            _ => return Some(at),
        }
    }
}

/// A start tag that is all there.
struct Tag<'p> {
    name: &'p [u8],
    source: &'p [u8],
    bytes: usize,
}

enum Kind {
    /// What can't stand in a head.
    Place,
    /// What can, and has no content.
    Head,
    /// What can, with text in it that is no markup up to its end tag.
    Raw(&'static [u8]),
}

impl<'p> Tag<'p> {
    fn read(rest: &'p [u8]) -> Option<Self> {
        let name_end = 1 + rest.get(1..)?.iter().position(|byte| !byte.is_ascii_alphanumeric())?;
        if !matches!(rest.get(name_end)?, b'>' | b' ' | b'\t' | b'\n' | b'\r' | b'/') {
            return None;
        }
        // A quote opens a value only behind `=`; anywhere else it is unusual.
        let mut at = name_end;
        loop {
            at += memchr3(b'>', b'"', b'\'', rest.get(at..)?)?;
            let quote = *rest.get(at)?;
            if quote == b'>' {
                break;
            }
            if rest.get(at.checked_sub(1)?)? != &b'=' {
                return None;
            }
            at += 1 + memchr(quote, rest.get(at + 1..)?)? + 1;
        }
        Some(Self { name: rest.get(1..name_end)?, source: rest.get(..at)?, bytes: at + 1 })
    }

    fn kind(&self) -> Option<Kind> {
        let is = |name: &[u8]| self.name.eq_ignore_ascii_case(name);
        if [&b"html"[..], b"head", b"base", b"link"].into_iter().any(is) {
            return Some(Kind::Head);
        }
        if is(b"meta") {
            // It may hold a policy.
            let plain = !has_policy(self.source);
            return plain.then_some(Kind::Head);
        }
        for name in [&b"title"[..], b"script", b"style", b"noscript"] {
            if is(name) {
                return Some(Kind::Raw(name));
            }
        }
        // Their content is read in ways of its own.
        (!is(b"template") && !is(b"bgsound")).then_some(Kind::Place)
    }
}

/// How long a comment is.
fn comment(rest: &[u8]) -> Option<usize> {
    let inner = rest.get(4..)?;
    if inner.starts_with(b">") || inner.starts_with(b"->") {
        return None;
    }
    let end = memmem::find(inner, b"-->")?;
    let plain = memmem::find(inner.get(..end)?, b"--!>").is_none();
    plain.then_some(4 + end + 3)
}

/// How long the content of an element of text is, with its end tag.
fn raw(rest: &[u8], name: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr(b'<', rest.get(at..)?)?;
        let tail = rest.get(at..)?;
        // In a script this opens states in which an end tag is none.
        if tail.starts_with(b"<!--") {
            return None;
        }
        if tail.get(1) == Some(&b'/')
            && tail.get(2..2 + name.len())?.eq_ignore_ascii_case(name)
            && matches!(tail.get(2 + name.len())?, b'>' | b' ' | b'\t' | b'\n' | b'\r' | b'/')
        {
            let end = memchr(b'>', tail)?;
            // Attributes on an end tag are unusual.
            let bare = memchr2(b'"', b'\'', tail.get(..end)?).is_none();
            return bare.then_some(at + end + 1);
        }
        at += 1;
    }
}

/// Whether `http-equiv`, in letters of either case, is in `text`.
fn has_policy(text: &[u8]) -> bool {
    // Its rarest letter: most texts have none.
    memchr2_iter(b'q', b'Q', text).any(|at| {
        let begin = at.checked_sub(b"http-e".len());
        let name = begin.and_then(|begin| text.get(begin..)?.get(..b"http-equiv".len()));
        name.is_some_and(|name| name.eq_ignore_ascii_case(b"http-equiv"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_plain_is_found_and_the_rest_is_left_alone() {
        for (page, place) in [
            ("<html><head><title>a</title>|</head>", true),
            (
                "\u{feff}<!doctype html>\n<!-- c --><head><meta charset='a>b'><link rel=x>|</head >",
                true,
            ),
            (
                "<head><script async src=\"a>b\">if(a<b)'</head>'</script><style>a</style>|<body>",
                true,
            ),
            ("<title></titlex></title>|<p>", true),
            ("  |text", true),
            ("<head><noscript><img></noscript>|</head>", true),
            ("<head><title>", false),
            ("<head></he", false),
            ("<head></head", false),
            ("<head><script><!-- </script>", false),
            ("<head><template></template></head>", false),
            ("<head><meta HTTP-equiv=x></head>", false),
            ("<head><meta a b'c'></head>", false),
            ("<head><?php ?></head>", false),
            ("<head></title></head>", false),
            ("<title></title></head><p>", false),
            ("<!--> <head></head>", false),
            ("<!-- a --!> <head></head>", false),
            ("", false),
        ] {
            let expected = place.then(|| page.find('|').unwrap());
            assert_eq!(plain_place(page.replace('|', "").as_bytes()), expected, "{page}");
        }
    }
}
