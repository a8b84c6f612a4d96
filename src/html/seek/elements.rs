//! The elements that a page is in: what the parser would have on its stack.

use super::tag::{Found, Stop};

/// Open elements, from the outermost to the innermost, each with what is to be done at its end.
pub(super) struct Elements<E> {
    open: Vec<Open<E>>,
    /// Their start tags, one behind the other.
    tags: Vec<u8>,
}

struct Open<E> {
    /// Where its tag begins.
    tag: usize,
    name: usize,
    around: Around,
    at_end: Option<E>,
}

/// The parts of ways that lead to where the page is: a bit for each.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Around {
    /// By the element right around.
    pub(super) parent: u64,
    /// By any that is around.
    pub(super) any: u64,
}

/// A page that is deeper is left to the parser.
const MAX_DEPTH: usize = 1000;
/// So is one whose open tags are longer, in bytes.
const MAX_TAGS: usize = 64 * 1024;

impl<E> Default for Elements<E> {
    fn default() -> Self {
        Self { open: Vec::new(), tags: Vec::new() }
    }
}

impl<E> Elements<E> {
    pub(super) fn around(&self) -> Around {
        self.open.last().map(|open| open.around).unwrap_or_default()
    }

    pub(super) fn tags(&self) -> &[u8] {
        &self.tags
    }

    /// Whether there is room for one more, with this start tag.
    pub(super) fn takes(&self, tag: &[u8]) -> bool {
        self.open.len() < MAX_DEPTH && self.tags.len() + tag.len() <= MAX_TAGS
    }

    /// What is to be done at the ends of those that are open.
    pub(super) fn ends(&self) -> impl Iterator<Item = &E> {
        self.open.iter().filter_map(|open| open.at_end.as_ref())
    }

    /// One element deeper: its name, its start tag, the parts of ways that it is.
    pub(super) fn push(&mut self, name: &[u8], tag: &[u8], parts: u64, at_end: Option<E>) {
        let around = Around { parent: parts, any: self.around().any | parts };
        self.open.push(Open { tag: self.tags.len(), name: name.len(), around, at_end });
        self.tags.extend_from_slice(tag);
    }

    /// Whether the end tag of `name` ends the innermost picture, or more.
    pub(super) fn ends_svg(&self, name: &[u8]) -> bool {
        self.depth(name).is_some_and(|depth| Some(depth) <= self.depth(b"svg"))
    }

    fn depth(&self, name: &[u8]) -> Option<usize> {
        self.open.iter().rposition(|open| {
            let own = self.tags.get(open.tag + 1..open.tag + 1 + open.name);
            open.name == name.len() && own.is_some_and(|own| own.eq_ignore_ascii_case(name))
        })
    }

    /// Out of the innermost element of this name, with all that is in it. Gives what is to be done at its
    /// end.
    pub(super) fn pop(&mut self, name: &[u8]) -> Found<Option<E>> {
        let Some(depth) = self.depth(name) else { return Ok(None) };
        // The parser has ways of its own with elements that have no end.
        if self.open.iter().skip(depth + 1).any(|open| open.at_end.is_some()) {
            return Err(Stop::Odd);
        }
        let at_end = self.open.get_mut(depth).and_then(|open| {
            self.tags.truncate(open.tag);
            open.at_end.take()
        });
        self.open.truncate(depth);
        Ok(at_end)
    }
}
