//! Which edits an element is for.

use std::borrow::Cow;

use html_escape::decode_html_entities;
use memchr::memchr;

use super::super::select::{Compound, Path};
use super::super::tree::{Around, Stand};
use super::tag::{self, Tag};
use super::{Seeker, Sought};

/// What an element is to the edits.
#[derive(Default)]
pub(super) struct Finding {
    /// A bit for each that is about it.
    pub(super) edits: u64,
    /// A bit for each part of a way that may lead on from it.
    pub(super) parts: u64,
}

impl Compound {
    fn is(&self, tag: &Tag<'_>) -> bool {
        let class = |name: &[u8]| {
            tag.class.is_some_and(|own| tag::words(&meant(own)).any(|own| own == name))
        };
        self.name.as_ref().is_none_or(|name| tag.name.eq_ignore_ascii_case(name))
            && self.id.as_ref().is_none_or(|id| tag.id.is_some_and(|own| *meant(own) == **id))
            && self.classes.iter().all(|name| class(name))
            && self.attributes.iter().all(|(name, value)| {
                let is = |own: &tag::Attribute<'_>| own.name.eq_ignore_ascii_case(name.as_bytes());
                let own = tag.attributes().find(is);
                let is_value =
                    |own: &[u8]| value.as_ref().is_none_or(|value| *meant(own) == **value);
                own.is_some_and(|own| is_value(own.value))
            })
    }
}

/// An attribute's value without references to characters.
#[inline]
fn meant(value: &[u8]) -> Cow<'_, [u8]> {
    let text = memchr(b'&', value).and_then(|_| str::from_utf8(value).ok());
    text.map_or(Cow::Borrowed(value), |text| {
        Cow::Owned(decode_html_entities(text).into_owned().into_bytes())
    })
}

impl Seeker {
    /// The edits, with their bits.
    pub(super) fn numbered(&self) -> impl Iterator<Item = (u64, &Sought)> {
        self.edits.iter().enumerate().map(|(index, sought)| (1 << index, sought))
    }

    /// What `tag` is to the edits, where it stands.
    pub(super) fn find(&self, tag: &Tag<'_>, stand: Stand) -> Finding {
        let around = self.tree.around(stand);
        let mut finding = Finding::default();
        for (number, sought) in self.numbered().filter(|(_, sought)| sought.open) {
            let mut bit = sought.bit;
            for path in sought.edit.select.plain().unwrap_or_default() {
                if matches(path, tag, (around, bit), &mut finding) {
                    finding.edits |= number;
                }
                bit += u32::try_from(path.len() - 1).unwrap_or_default();
            }
        }
        finding
    }
}

/// Whether `tag`, with this around it, is at the end of `path`, whose first part has the bit `first`.
fn matches(
    path: &Path,
    tag: &Tag<'_>,
    (around, first): (Around, u32),
    finding: &mut Finding,
) -> bool {
    let mut before = None;
    for (bit, (index, compound)) in (first..).zip(path.iter().enumerate()) {
        let stands = before.is_none_or(|before: u32| {
            let of = if compound.child { around.parent } else { around.any };
            of & (1 << before) != 0
        });
        if stands && compound.is(tag) {
            if index + 1 == path.len() {
                return true;
            }
            finding.parts |= 1 << bit;
        }
        before = Some(bit);
    }
    false
}
