//! A quick look at whether a tag can be of interest at all. Most are not.

use super::super::select::Compound;
use super::tag::{Tag, words};

/// What tags of interest have, as sets in which words share their places: a word that is not in them is of
/// no interest.
#[derive(Debug, Default)]
pub(super) struct Interest {
    names: u64,
    ids: u64,
    classes: u64,
    /// Some want what is none of these.
    all: bool,
}

impl Interest {
    /// An element like this is wanted too.
    pub(super) fn add(&mut self, compound: &Compound) {
        if let Some(id) = &compound.id {
            self.ids |= place(id);
        } else if let Some(class) = compound.classes.first() {
            self.classes |= place(class);
        } else if let Some(name) = &compound.name {
            self.names |= place(name);
        } else {
            self.all = true;
        }
    }

    #[inline]
    pub(super) fn has(&self, tag: &Tag<'_>) -> bool {
        let class = |class: &[u8]| {
            words(class).any(|word| self.classes & place(word) != 0 || word.contains(&b'&'))
        };
        let id = |id: &[u8]| self.ids & place(id) != 0 || id.contains(&b'&');
        self.all
            || self.names & place(tag.name) != 0
            || (self.ids != 0 && tag.id.is_some_and(id))
            || (self.classes != 0 && tag.class.is_some_and(class))
    }
}

/// Letters have the same place in upper and lower case.
#[inline]
fn place(word: &[u8]) -> u64 {
    let (first, last) = word.first().zip(word.last()).unwrap_or((&0, &0));
    let mixed = usize::from(first & 0x1f) + 7 * usize::from(last & 0x1f) + 13 * word.len();
    1 << (mixed & 63)
}
