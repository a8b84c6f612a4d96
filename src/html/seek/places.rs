//! Where the elements of edits are in a page that has been seen before: it need not be read again.

/// The elements of a page that edits are about, in their order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Places {
    found: Vec<Place>,
    /// Their tags, one behind the other.
    tags: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The edits that are about it: a bit for each.
    pub(super) edits: u64,
    pub(super) start: Spot,
    /// Its end tag, where something is done there.
    pub(super) end: Option<Spot>,
}

/// A tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot {
    /// Where it is in the page, in bytes.
    pub(super) at: usize,
    /// Where it is in the list of tags.
    tag: usize,
    pub(super) length: usize,
}

/// More of them are not remembered.
const MAX_FOUND: usize = 1000;
/// Nor are longer elements, in bytes, whose end matters.
const MAX_ELEMENT: usize = 64 * 1024;
/// Nor are longer tags, in bytes together.
const MAX_TAGS: usize = 32 * 1024;

impl Places {
    /// About the bytes that it takes.
    #[must_use]
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.found.capacity() * size_of::<Place>() + self.tags.capacity()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Place> {
        self.found.iter()
    }

    /// One more, whose tag begins at `at` in the page. Gives its number, if there is room.
    pub(super) fn add(&mut self, edits: u64, at: usize, tag: &[u8]) -> Option<usize> {
        let start = self.spot(at, tag)?;
        self.found.push(Place { edits, start, end: None });
        Some(self.found.len() - 1)
    }

    /// The end of the one with this number.
    pub(super) fn end(&mut self, number: usize, at: usize, tag: &[u8]) -> Option<()> {
        let end = self.spot(at, tag)?;
        let place = self.found.get_mut(number)?;
        place.end = Some(end);
        (at - place.start.at <= MAX_ELEMENT).then_some(())
    }

    fn spot(&mut self, at: usize, tag: &[u8]) -> Option<Spot> {
        let spot = Spot { at, tag: self.tags.len(), length: tag.len() };
        self.tags.extend_from_slice(tag);
        (self.found.len() < MAX_FOUND && self.tags.len() <= MAX_TAGS).then_some(spot)
    }

    /// The tag that is there.
    pub(super) fn tag(&self, spot: Spot) -> &[u8] {
        self.tags.get(spot.tag..spot.tag + spot.length).unwrap_or_default()
    }
}
