//! Where the snippet goes in pages that have been seen before, and where the elements are that are edited.
//! With the first the length of such a page is known before its body comes: it needs no chunks, and no
//! packet of its own for the last one. With the second it need not be read.

use std::hash::{Hash, Hasher};
use std::mem::discriminant;
use std::sync::Arc;

use smallvec::SmallVec;
use tinyufo::TinyUfo;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::{Edit, Places};

/// A page by all that its bytes follow from: site, target, strong ETag and length; or by its address alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PageKey(u128);

impl PageKey {
    /// The key of the page that these parts name.
    #[must_use]
    pub fn of(parts: &[&[u8]]) -> Self {
        // Each by itself, so that none runs into the next.
        let mut hashes: SmallVec<[u8; 128]> = SmallVec::new();
        for part in parts {
            hashes.extend_from_slice(&xxh3_128(part).to_le_bytes());
        }
        Self(xxh3_128(&hashes))
    }

    /// The key of what `edits` find in the page. What they put in is not a part of it.
    #[must_use]
    pub fn of_edits(self, edits: &[Edit]) -> Self {
        let mut hasher = Xxh3::new();
        self.hash(&mut hasher);
        for edit in edits {
            edit.select.as_str().hash(&mut hasher);
            edit.first.hash(&mut hasher);
            hasher.write_usize(edit.changes.len());
            edit.changes.iter().for_each(|change| discriminant(change).hash(&mut hasher));
        }
        Self(hasher.digest128())
    }
}

/// The place in one page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    place: usize,
    /// How many bytes of the page tell that it is the place.
    read: usize,
    /// Those bytes, so that a page that is another one after all is noticed.
    bytes: u128,
}

/// So many bytes behind a place tell what begins there: no name of an element that can stand in a head is longer.
const TELLING: usize = "</noscript>".len();

impl Plan {
    /// The snippet goes to this place of `page`.
    #[must_use]
    pub fn at(place: usize, page: &[u8]) -> Self {
        let read = page.len().min(place + TELLING);
        let bytes = page.get(..read).unwrap_or(page);
        Self { place, read, bytes: xxh3_128(bytes) }
    }

    /// The place in `page`, its first bytes, if it begins like the one that the plan was made of.
    #[must_use]
    pub fn place(&self, page: &[u8]) -> Option<usize> {
        (xxh3_128(page.get(..self.read)?) == self.bytes).then_some(self.place)
    }
}

/// Plans of the pages seen last. Whoever asks often stays.
pub struct Plans {
    snippets: TinyUfo<PageKey, (PageKey, Plan)>,
    /// None for a page that is not what its origin says.
    edits: TinyUfo<PageKey, (PageKey, Option<Known>)>,
}

/// What is known of a page that is edited.
#[derive(Debug, Clone)]
pub struct Known {
    /// Where the elements are.
    pub places: Arc<Places>,
    /// The snippet found its place.
    pub injected: bool,
}

/// About 100 bytes each.
const MAX_PLANS: usize = 32 * 1024;
/// What places weigh together, in units of so many bytes: 8 MiB.
const MAX_UNITS: usize = 8 * 1024 * 1024 / UNIT;
const UNIT: usize = 256;

impl Default for Plans {
    fn default() -> Self {
        Self {
            snippets: TinyUfo::new(MAX_PLANS, MAX_PLANS),
            edits: TinyUfo::new(MAX_UNITS, MAX_UNITS / 4),
        }
    }
}

impl Plans {
    /// The plan of a page.
    #[must_use]
    pub fn get(&self, key: PageKey) -> Option<Plan> {
        // The cache compares hashes of keys alone.
        self.snippets.get(&key).filter(|(own, _)| *own == key).map(|(_, plan)| plan)
    }

    /// Remembers the plan of a page.
    pub fn put(&self, key: PageKey, plan: Plan) {
        self.snippets.put(key, (key, plan), 1);
    }

    /// The page has no place any more.
    pub fn forget(&self, key: PageKey) {
        self.snippets.remove(&key);
    }

    /// What is known of a page that is edited: nothing, or that nothing can be known, or this.
    #[must_use]
    pub fn known(&self, key: PageKey) -> Option<Option<Known>> {
        self.edits.get(&key).filter(|(own, _)| *own == key).map(|(_, known)| known)
    }

    /// Remembers what is known of a page that is edited, or that nothing can be known: it is not what its
    /// origin says.
    pub fn know(&self, key: PageKey, known: Option<Known>) {
        let size = known.as_ref().map_or(0, |known| known.places.size());
        let units = u16::try_from(size / UNIT + 1).unwrap_or(u16::MAX);
        self.edits.put(key, (key, known), units);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_for_its_page_alone() {
        let (plans, key) = (Plans::default(), PageKey::of(&[b"shop", b"/", b"\"1\"", b"9"]));
        assert_eq!(plans.get(key), None);
        plans.put(key, Plan::at(6, b"<head></head>"));
        let plan = plans.get(key).unwrap();
        assert_eq!(plan.place(b"<head></head>"), Some(6));
        assert_eq!(plan.place(b"<head></head><body>"), Some(6));
        for other in
            ["<HEAD></head>", "<head><meta></head>", "<head></header>", "<head></head", "<he"]
        {
            assert_eq!(plan.place(other.as_bytes()), None, "{other}");
        }
        plans.forget(key);
        assert_eq!(plans.get(key), None);
        assert_ne!(PageKey::of(&[b"a", b"bc"]), PageKey::of(&[b"ab", b"c"]));
    }
}
