//! One visitor's edits of a page whose places are known: all is made before the page comes.

use std::ops::Range;
use std::sync::Arc;

use super::super::edit::Edit;
use super::made::Made;
use super::places::{Places, Spot};
use super::tag::{Token, next};

/// A page whose places are known, with what edits make of them.
pub(in super::super) struct Patches {
    places: Arc<Places>,
    /// In the page's order.
    all: Vec<Patch>,
    /// What is put in.
    put: Vec<u8>,
    next: usize,
    /// How far the page has come, in bytes.
    at: usize,
    /// How much of the next tag has come.
    matched: usize,
    /// What comes is left out, and kept here in case that this is another page.
    left_out: Option<Vec<u8>>,
    changed: usize,
    /// By how much the page grows, in bytes, if that can be told before it comes.
    grows: Option<isize>,
    /// Spaces in the last tag, where they mean nothing: as another page the page could be longer by so many.
    spaces: usize,
}

struct Patch {
    /// The tag that it replaces.
    of: Spot,
    /// With this part of what is put in.
    put: Range<usize>,
    /// What follows is left out, up to the next.
    empties: bool,
    /// What is put in ends with a tag.
    is_tag: bool,
}

/// By how much these make the page grow, if that can be told, and with how many spaces in the last tag.
/// Wherever it turns out that it is another page, it must not be longer than what was told: what an element
/// had is gone with its end, and what was shortened is not to come.
fn growth(all: &[Patch]) -> (Option<isize>, usize) {
    const MAX_SPACES: usize = 256;
    let (mut grown, mut most, mut emptied) = (0_isize, 0, None);
    for patch in all {
        grown = grown.saturating_add(patch.grows());
        if let Some(from) = emptied {
            grown = grown.saturating_sub_unsigned(patch.of.at.saturating_sub(from));
        }
        emptied = patch.empties.then_some(patch.of.at + patch.of.length);
        most = most.max(grown);
    }
    let spaces = most.abs_diff(grown);
    let fit = spaces == 0 || (spaces <= MAX_SPACES && all.last().is_some_and(|last| last.is_tag));
    if fit { (Some(most), spaces) } else { (None, 0) }
}

impl Patch {
    fn grows(&self) -> isize {
        0_isize.saturating_add_unsigned(self.put.len()).saturating_sub_unsigned(self.of.length)
    }
}

/// How the page went on.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Went {
    /// As the one that was seen.
    On,
    /// The rest passes as it is.
    Through,
    /// It is another page. The rest passes as it is.
    Astray,
}

impl Patches {
    /// What `edits` make of a page with `places`. None where these are not theirs.
    pub(in super::super) fn new(places: Arc<Places>, edits: &[Edit]) -> Option<Self> {
        let (mut all, mut put, mut changed) = (Vec::new(), Vec::new(), 0);
        for place in places.iter() {
            let raw = places.tag(place.start);
            let Ok(Token::Start(tag)) = next(raw, &mut 0) else { return None };
            let about =
                edits.iter().enumerate().filter(|(index, _)| place.edits & (1 << index) != 0);
            let made = Made::of(about.map(|(_, edit)| edit), &tag)?;
            changed += place.edits.count_ones() as usize;
            let from = put.len();
            made.write(&tag, raw, &mut put);
            let is_tag = made.ends_with_tag();
            let at_end = made.at_end();
            let empties = at_end.as_ref().is_some_and(|at_end| at_end.is_emptied);
            all.push(Patch { of: place.start, put: from..put.len(), empties, is_tag });
            match (at_end, place.end) {
                (Some(at_end), Some(end)) => {
                    let from = put.len();
                    at_end.write(places.tag(end), &mut put);
                    let is_tag = end.length > 0 && at_end.ends_with_tag();
                    let put = from..put.len();
                    all.push(Patch { of: end, put, empties: false, is_tag });
                }
                (None, None) => {}
                (Some(_), None) | (None, Some(_)) => return None,
            }
        }
        // Of those that end at one place without a tag the innermost ends first, and all before the tag that is there.
        all.reverse();
        all.sort_by_key(|patch| (patch.of.at, patch.of.length > 0));
        let (next, at, matched, left_out) = (0, 0, 0, None);
        let (grows, spaces) = growth(&all);
        Some(Self { places, all, put, next, at, matched, left_out, changed, grows, spaces })
    }

    /// By how much the page grows, in bytes, or at most if it is another page. None where that can't be told.
    pub(in super::super) fn grows(&self) -> Option<isize> {
        self.grows
    }

    /// How many elements are changed.
    pub(in super::super) fn changed(&self) -> usize {
        self.changed
    }

    /// Adds to `out` what comes of the page's next `bytes`.
    pub(in super::super) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Went {
        let mut rest = bytes;
        while let Some(patch) = self.all.get(self.next) {
            if let Some(before) = patch.of.at.checked_sub(self.at) {
                let (passing, behind) = rest.split_at(before.min(rest.len()));
                self.left_out.as_mut().unwrap_or(out).extend_from_slice(passing);
                self.at += passing.len();
                rest = behind;
                if passing.len() < before {
                    return Went::On;
                }
            }
            let tag = self.places.tag(patch.of);
            let awaited = tag.get(self.matched..).unwrap_or_default();
            let (given, behind) = rest.split_at(awaited.len().min(rest.len()));
            if !awaited.starts_with(given) {
                self.end(out);
                out.extend_from_slice(rest);
                return Went::Astray;
            }
            self.at += given.len();
            rest = behind;
            self.matched += given.len();
            if given.len() < awaited.len() {
                return Went::On;
            }
            let put = self.put.get(patch.put.clone()).unwrap_or_default();
            match put.split_last() {
                Some((end, put)) if self.next + 1 == self.all.len() => {
                    out.extend_from_slice(put);
                    out.resize(out.len() + self.spaces, b' ');
                    out.push(*end);
                }
                _ => out.extend_from_slice(put),
            }
            (self.left_out, self.matched) = (patch.empties.then(Vec::new), 0);
            self.next += 1;
        }
        out.extend_from_slice(rest);
        Went::Through
    }

    /// Adds to `out` what is held back, where the page is another one or ends before it should.
    pub(in super::super) fn end(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.left_out.as_deref().unwrap_or_default());
        let tag = self.all.get(self.next).map(|patch| self.places.tag(patch.of));
        out.extend_from_slice(tag.and_then(|tag| tag.get(..self.matched)).unwrap_or_default());
    }
}
