//! The vendor's snippet, or ours, in a page that has one already: looked for in its scripts alone. What a title or a
//! text says of it is no snippet.

use std::sync::LazyLock;

use memchr::{memchr, memchr_iter, memmem};

/// What it can be known by.
static MARKS: LazyLock<[memmem::Finder<'static>; 3]> = LazyLock::new(|| {
    ["SNIPPET_VERSION", "/analytics.js/v1/", "analytics.load("].map(memmem::Finder::new)
});
/// So many bytes at the end of a piece may begin a mark, or a tag, that ends in the next one.
const SEAM: usize = 16;
/// A longer start tag is taken for what it is so far.
const MAX_TAG: usize = 4096;

/// Looks for marks in the scripts of a page, piece by piece.
#[derive(Debug, Default)]
pub(super) struct Marks {
    place: Place,
    /// Templates that are open: what is in them does not run.
    templates: usize,
    /// The end of the piece before.
    tail: Vec<u8>,
    found: bool,
}

/// Where a page is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    #[default]
    Outside,
    /// Behind a script's start tag.
    Script,
    /// Behind that of a script that does not run: data, or one in a template.
    Data,
}

impl Marks {
    /// Whether the bytes so far, with these behind them, have a mark.
    pub(super) fn find(&mut self, bytes: &[u8]) -> bool {
        if self.found {
            return true;
        }
        let mut all = std::mem::take(&mut self.tail);
        all.extend_from_slice(bytes);
        let mut rest = &*all;
        while self.step(&mut rest) {}
        self.tail = rest.to_vec();
        self.found
    }

    /// Looks at `rest` up to the next tag that counts, and leaves what is behind it; or what has to be looked at again with
    /// more, where there is none. Whether there was one.
    fn step(&mut self, rest: &mut &[u8]) -> bool {
        let bytes = *rest;
        let keep = |from: usize| bytes.get(from..).unwrap_or_default();
        if self.place != Place::Outside {
            let end = position(bytes, &[b"</script"]);
            let part = bytes.get(..end.map_or(bytes.len(), |(at, _)| at)).unwrap_or_default();
            self.found |= self.place == Place::Script && has_mark(part);
            let Some((at, _)) = end else {
                *rest = keep(bytes.len().saturating_sub(SEAM));
                return false;
            };
            self.place = Place::Outside;
            *rest = keep(at + 1);
            return true;
        }
        let Some((at, which)) = position(bytes, &[b"<script", b"<template", b"</template"]) else {
            *rest = keep(bytes.len().saturating_sub(SEAM));
            return false;
        };
        let tag = keep(at);
        let end = memchr(b'>', tag);
        match (which, end) {
            (0, None) if tag.len() < MAX_TAG => {
                *rest = tag;
                return false;
            }
            (0, end) => {
                let tag = tag.get(..end.unwrap_or(tag.len())).unwrap_or_default();
                let runs = self.templates == 0 && !is_data(tag);
                self.found |= runs && has_mark(tag);
                self.place = if runs { Place::Script } else { Place::Data };
                *rest = keep(at + tag.len());
            }
            (1, _) => {
                self.templates += 1;
                *rest = keep(at + 1);
            }
            _ => {
                self.templates = self.templates.saturating_sub(1);
                *rest = keep(at + 1);
            }
        }
        true
    }
}

/// Whether a script with this start tag is no script to a browser (HTML, 4.12.1: data blocks).
fn is_data(tag: &[u8]) -> bool {
    let tag = tag.to_ascii_lowercase();
    let Some(at) = memmem::find(&tag, b" type=") else { return false };
    let value = tag.get(at + b" type=".len()..).unwrap_or_default();
    let value = match value.split_first() {
        Some((quote @ (b'"' | b'\''), inner)) => inner.split(|byte| byte == quote).next(),
        _ => value.split(u8::is_ascii_whitespace).next(),
    };
    let value = value.unwrap_or_default().trim_ascii();
    let runs = ["javascript", "ecmascript", "jscript", "livescript"];
    !value.is_empty()
        && value != b"module"
        && !runs.iter().any(|name| memmem::find(value, name.as_bytes()).is_some())
}

/// Whether a script in these bytes, the first of a page, has a mark.
pub(super) fn is_in(bytes: &[u8]) -> bool {
    // Hardly any page has one anywhere.
    has_mark(bytes) && Marks::default().find(bytes)
}

fn has_mark(bytes: &[u8]) -> bool {
    MARKS.iter().any(|mark| mark.find(bytes).is_some())
}

/// Where the first of `tags` begins, in letters of either case, and which one it is.
fn position(bytes: &[u8], tags: &[&[u8]]) -> Option<(usize, usize)> {
    memchr_iter(b'<', bytes).find_map(|at| {
        let is = |tag: &&[u8]| {
            let given = bytes.get(at..at + tag.len());
            given.is_some_and(|given| given.eq_ignore_ascii_case(tag))
        };
        tags.iter().position(is).map(|which| (at, which))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snippet_is_one_in_a_script_alone() {
        for (page, found) in [
            ("<head><script>analytics.SNIPPET_VERSION='4'</script>", true),
            (
                "<SCRIPT async src=https://cdn.example/analytics.js/v1/k/analytics.min.js></SCRIPT>",
                true,
            ),
            ("<script>a()</script><title>t</title><script>analytics.load('k')</script>", true),
            ("<title>What is SNIPPET_VERSION?</title>", false),
            ("<script>a()</script><meta content=\"analytics.load(\">", false),
            ("<p>/analytics.js/v1/</p><script></script>analytics.load(", false),
            ("<script type=application/json>{\"a\": \"analytics.load(\"}</script>", false),
            ("<script type='application/ld+json'>SNIPPET_VERSION</script>", false),
            ("<script type=\"text/JavaScript\">SNIPPET_VERSION</script>", true),
            ("<script type=module src=/analytics.js/v1/k/a.js></script>", true),
            ("<template><script>analytics.load('k')</script></template>", false),
            ("<template></template><script>analytics.load('k')</script>", true),
        ] {
            assert_eq!(is_in(page.as_bytes()), found, "{page}");
            for size in 1..page.len() {
                let mut marks = Marks::default();
                let last = page.as_bytes().chunks(size).map(|part| marks.find(part)).last();
                assert_eq!(last, Some(found), "{size} {page}");
            }
        }
    }
}
