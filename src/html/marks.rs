//! The vendor's snippet, or ours, in a page that has one already: looked for in its scripts alone. What a title or a
//! text says of it is no snippet.

use std::sync::LazyLock;

use memchr::{memchr_iter, memmem};

/// What it can be known by.
static MARKS: LazyLock<[memmem::Finder<'static>; 3]> = LazyLock::new(|| {
    ["SNIPPET_VERSION", "/analytics.js/v1/", "analytics.load("].map(memmem::Finder::new)
});
/// So many bytes at the end of a piece may begin a mark, or a tag, that ends in the next one.
const SEAM: usize = 16;

/// Looks for marks in the scripts of a page, piece by piece.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// Behind a script's start tag, with its attributes, and not behind its end.
    in_script: bool,
    /// The end of the piece before.
    tail: Vec<u8>,
    found: bool,
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
        loop {
            let tag: &[u8] = if self.in_script { b"</script" } else { b"<script" };
            let end = position(rest, tag);
            let part = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
            self.found |= self.in_script && has_mark(part);
            let Some(end) = end else { break };
            self.in_script = !self.in_script;
            rest = rest.get(end + 1..).unwrap_or_default();
        }
        self.tail = rest.get(rest.len().saturating_sub(SEAM)..).unwrap_or_default().to_vec();
        self.found
    }
}

/// Whether a script in these bytes, the first of a page, has a mark.
pub(super) fn is_in(bytes: &[u8]) -> bool {
    // Hardly any page has one anywhere.
    has_mark(bytes) && Marks::default().find(bytes)
}

fn has_mark(bytes: &[u8]) -> bool {
    MARKS.iter().any(|mark| mark.find(bytes).is_some())
}

/// Where `tag` begins, in letters of either case.
fn position(bytes: &[u8], tag: &[u8]) -> Option<usize> {
    memchr_iter(b'<', bytes).find(|at| {
        let given = bytes.get(*at..*at + tag.len());
        given.is_some_and(|given| given.eq_ignore_ascii_case(tag))
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
