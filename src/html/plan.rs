//! Where the snippet goes in pages that have been seen before. With that the length of such a page
//! is known before its body comes: it needs no chunks, and no packet of its own for the last one.

use tinyufo::TinyUfo;
use xxhash_rust::xxh3::xxh3_128;

/// A page by all that its bytes follow from: site, target, strong ETag and length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PageKey(u128);

impl PageKey {
    /// The key of the page that these parts name.
    #[must_use]
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut framed = Vec::with_capacity(parts.iter().map(|part| part.len() + 8).sum());
        for part in parts {
            framed.extend_from_slice(&(part.len() as u64).to_le_bytes());
            framed.extend_from_slice(part);
        }
        Self(xxh3_128(&framed))
    }
}

/// The place in one page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    place: usize,
    /// What stands before the place, so that a page that is not the one after all is noticed.
    head: u128,
}

impl Plan {
    /// The snippet goes behind `head`.
    #[must_use]
    pub fn behind(head: &[u8]) -> Self {
        Self { place: head.len(), head: xxh3_128(head) }
    }

    /// The place in `page`, its first bytes, if this is the page.
    #[must_use]
    pub fn place(&self, page: &[u8]) -> Option<usize> {
        let head = page.get(..self.place)?;
        (xxh3_128(head) == self.head).then_some(self.place)
    }
}

/// Plans of the pages seen last. Whoever asks often stays.
pub struct Plans(TinyUfo<PageKey, (PageKey, Plan)>);

/// About 100 bytes each.
const MAX_PLANS: usize = 32 * 1024;

impl Default for Plans {
    fn default() -> Self {
        Self(TinyUfo::new(MAX_PLANS, MAX_PLANS))
    }
}

impl Plans {
    /// The plan of a page.
    #[must_use]
    pub fn get(&self, key: PageKey) -> Option<Plan> {
        // The cache compares hashes of keys alone.
        self.0.get(&key).filter(|(own, _)| *own == key).map(|(_, plan)| plan)
    }

    /// Remembers the plan of a page.
    pub fn put(&self, key: PageKey, plan: Plan) {
        self.0.put(key, (key, plan), 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_for_its_page_alone() {
        let (plans, key) = (Plans::default(), PageKey::of(&[b"shop", b"/", b"\"1\"", b"9"]));
        assert_eq!(plans.get(key), None);
        plans.put(key, Plan::behind(b"<head>"));
        let plan = plans.get(key).unwrap();
        assert_eq!(plan.place(b"<head></head>"), Some(6));
        assert_eq!(plan.place(b"<HEAD></head>"), None);
        assert_eq!(plan.place(b"<he"), None);
        assert_ne!(PageKey::of(&[b"a", b"bc"]), PageKey::of(&[b"ab", b"c"]));
    }
}
