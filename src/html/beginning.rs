//! What an answer begins with says whether it is a page to be changed, whatever its Content-Type says: a document, a
//! part of one, or a file that has the wrong type.

/// Longer beginnings (comments before the document) are taken for what they are so far.
pub(super) const MAX_BYTES: usize = 4096;

/// What may be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Wanted {
    /// All that a browser shows as a page.
    #[default]
    Pages,
    /// Whole documents: it is not known that the answer is shown by itself.
    Documents,
}

/// What an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beginning {
    /// A document of HTML.
    Document,
    /// HTML that begins with its content.
    Content,
    /// A page that may have no scripts of ours: AMP has its own rules, by which it is checked.
    Amp,
    /// A file of another type.
    File,
}

impl Beginning {
    /// What `bytes` begin with. `None` as long as more of them have to tell.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        for signature in FILES {
            let same = signature.iter().zip(bytes).take_while(|(one, other)| one == other).count();
            if same == signature.len() {
                return Some(Self::File);
            }
            if same == bytes.len() {
                return None;
            }
        }
        if bytes.len() < BOM.len() && BOM.starts_with(bytes) {
            return None;
        }
        let mut rest = bytes.strip_prefix(BOM).unwrap_or(bytes);
        let mut document = false;
        loop {
            rest = rest.trim_ascii_start();
            rest = match rest {
                [] => return None,
                [b'<', b'!', b'-', b'-', ..] => behind(rest, b"-->")?,
                [b'<', b'!', ..] => {
                    document |= has_name(rest, b"!doctype")?;
                    behind(rest, b">")?
                }
                [b'<', b'?', ..] => behind(rest, b">")?,
                [b'<', ..] => {
                    if has_name(rest, b"html")? {
                        let amp = is_amp(rest.get(b"<html".len()..)?)?;
                        return Some(if amp { Self::Amp } else { Self::Document });
                    }
                    document |= has_name(rest, b"head")? || has_name(rest, b"body")?;
                    return Some(Self::either(document));
                }
                _ => return Some(Self::either(document)),
            }
        }
    }

    /// What is known of `bytes` where no more come, or more would be too many.
    pub(super) fn of_all(bytes: &[u8]) -> Self {
        let bytes = bytes.get(..MAX_BYTES).unwrap_or(bytes);
        // A doctype says enough.
        let doctype = memchr::memchr_iter(b'<', bytes)
            .find_map(|at| bytes.get(at + 1..at + 9).filter(|name| !name.starts_with(b"!--")));
        let document = doctype.is_some_and(|name| name.eq_ignore_ascii_case(b"!doctype"));
        Self::of(bytes).unwrap_or(Self::either(document))
    }

    const fn either(document: bool) -> Self {
        if document { Self::Document } else { Self::Content }
    }

    /// Whether such an answer may be changed.
    pub(super) const fn is(self, wanted: Wanted) -> bool {
        matches!((self, wanted), (Self::Document, _) | (Self::Content, Wanted::Pages))
    }
}

/// Files that are no text (WHATWG MIME Sniffing, 6).
const FILES: [&[u8]; 12] = [
    b"%PDF-",
    b"\x89PNG\r\n",
    b"GIF8",
    b"\xff\xd8\xff",
    b"RIFF",
    b"PK\x03\x04",
    b"\x1f\x8b\x08",
    b"Rar!\x1a",
    b"OggS\0",
    b"wOF",
    b"\x1aE\xdf\xa3",
    // Icons; AVIF, HEIC, MP4.
    b"\0\0",
];

/// Of UTF-8.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// What stands behind the first `end` in `bytes`.
fn behind<'b>(bytes: &'b [u8], end: &[u8]) -> Option<&'b [u8]> {
    bytes.get(memchr::memmem::find(bytes, end)? + end.len()..)
}

/// Whether a tag, whose `<` is the first byte, has this name. `None` where it is not all there.
fn has_name(tag: &[u8], name: &[u8]) -> Option<bool> {
    let begin = tag.get(1..).unwrap_or_default();
    let begin = begin.get(..begin.len().min(name.len())).unwrap_or_default();
    if !begin.iter().zip(name).all(|(one, other)| one.eq_ignore_ascii_case(other)) {
        return Some(false);
    }
    let next = tag.get(1 + name.len())?;
    Some(next.is_ascii_whitespace() || matches!(next, b'>' | b'/'))
}

/// Whether the attributes of `<html>`, whose name ends before `rest`, say that the page is one of AMP. `None` where
/// the tag is not all there.
fn is_amp(mut rest: &[u8]) -> Option<bool> {
    let ends = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'=' | b'>' | b'/');
    let mut amp = false;
    loop {
        let space = |byte: &u8| !byte.is_ascii_whitespace() && *byte != b'/';
        rest = rest.get(rest.iter().position(space)?..)?;
        if rest.first()? == &b'>' {
            return Some(amp);
        }
        // A name may begin with `=`.
        let end = 1 + rest.get(1..)?.iter().position(ends)?;
        let name = rest.get(..end)?.to_ascii_lowercase();
        let name = name.strip_prefix("⚡".as_bytes()).map_or(name.strip_prefix(b"amp"), |behind| {
            Some(behind.strip_prefix(b"\xef\xb8\x8f").unwrap_or(behind))
        });
        amp |= matches!(name, Some(b"" | b"4ads" | b"4email"));
        rest = rest.get(end..)?.trim_ascii_start();
        let Some(value) = rest.strip_prefix(b"=") else {
            rest.first()?;
            continue;
        };
        let value = value.trim_ascii_start();
        rest = match value.first()? {
            quote @ (b'"' | b'\'') => behind(value.get(1..)?, &[*quote])?,
            _ => {
                let end = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'>';
                value.get(value.iter().position(end)?..)?
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_says_what_it_is_as_soon_as_it_can() {
        for (bytes, what) in [
            ("<!doctype html><html>", Beginning::Document),
            ("\u{feff} <!-- a --><!DOCTYPE html>\n<title>", Beginning::Document),
            ("<?xml version='1.0'?><html lang=en>", Beginning::Document),
            ("<HEAD>", Beginning::Document),
            ("<body >", Beginning::Document),
            ("<html amplitude='⚡' data-amp=\"a amp b\" x='>' amp2>", Beginning::Document),
            ("<html lang='en' data-amp>", Beginning::Document),
            ("<!doctype html><html ⚡ lang=en>", Beginning::Amp),
            ("<html lang=en AMP>", Beginning::Amp),
            ("<html amp='' >", Beginning::Amp),
            ("<html ⚡4email data-css-strict>", Beginning::Amp),
            ("<html \u{26a1}\u{fe0f}>", Beginning::Amp),
            ("<li>one", Beginning::Content),
            ("<header>a", Beginning::Content),
            ("<htmlx>", Beginning::Content),
            ("  text", Beginning::Content),
            ("{\"a\": 1}", Beginning::Content),
            ("<title>t</title>", Beginning::Content),
            ("%PDF-1.7", Beginning::File),
            ("GIF89a", Beginning::File),
            ("PK\u{3}\u{4}", Beginning::File),
        ] {
            let bytes = bytes.as_bytes();
            assert_eq!(Beginning::of(bytes), Some(what), "{:?}", bytes.escape_ascii().to_string());
            // Fewer bytes say the same, or nothing yet.
            for end in 0..bytes.len() {
                let so_far = Beginning::of(bytes.get(..end).unwrap());
                assert!(so_far.is_none_or(|so_far| so_far == what), "{end} {bytes:?}");
            }
        }
        assert!(Beginning::of(b"\x89PNG\r\n\x1a\n") == Some(Beginning::File));
        assert!(Beginning::of(b"").is_none() && Beginning::of(b" <!-- never ").is_none());
        assert!(!Beginning::of_all(b"<!doct").is(Wanted::Documents));
        let long = format!("<!-- a --><!doctype html><!-- {} --><html amp>", "x".repeat(MAX_BYTES));
        assert_eq!(Beginning::of_all(long.as_bytes()), Beginning::Document);
        assert!(Beginning::Content.is(Wanted::Pages) && !Beginning::File.is(Wanted::Pages));
        assert!(!Beginning::Amp.is(Wanted::Pages) && !Beginning::Content.is(Wanted::Documents));
    }
}
