//! Buffers of about a page's size that a thread uses again at once, while they are in its processor's cache.
//!
//! An allocator hands out the blocks of such a size one after the other, so that each page would be
//! written to memory that has not been touched for a while: that takes longer than to copy the page.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// A buffer that is left to its thread when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Spare(Vec<u8>);

/// Buffers of other sizes are left to the allocator.
const BYTES: std::ops::RangeInclusive<usize> = 4 << 10..=128 << 10;
/// How many a thread keeps.
const KEPT: usize = 2;

thread_local! {
    static SPARES: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

impl Spare {
    /// An empty buffer with room for `bytes`.
    #[must_use]
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        let spare = BYTES.contains(&bytes).then(|| SPARES.with_borrow_mut(Vec::pop)).flatten();
        let mut buffer = spare.unwrap_or_default();
        buffer.reserve(bytes);
        Self(buffer)
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        if BYTES.contains(&self.0.capacity()) {
            let mut buffer = std::mem::take(&mut self.0);
            buffer.clear();
            // A thread that ends keeps nothing.
            let _ = SPARES.try_with(|spares| {
                let mut spares = spares.borrow_mut();
                if spares.len() < KEPT {
                    spares.push(buffer);
                }
            });
        }
    }
}

impl Deref for Spare {
    type Target = Vec<u8>;
    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Spare {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl AsRef<[u8]> for Spare {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_uses_its_buffers_again_and_keeps_few() {
        std::thread::spawn(|| {
            let mut one = Spare::with_capacity(50_000);
            one.extend_from_slice(b"page");
            let at = one.as_ptr();
            drop(one);
            let two = Spare::with_capacity(40_000);
            assert_eq!((two.as_ptr(), two.len()), (at, 0));
            drop([50_000; 5].map(Spare::with_capacity));
            for other in [1, 1 << 20] {
                drop(Spare::with_capacity(other));
            }
            drop(two);
            let kept = SPARES.with_borrow(|spares| spares.iter().map(Vec::capacity).collect());
            let kept: Vec<usize> = kept;
            assert!(kept.len() == KEPT && kept.iter().all(|bytes| BYTES.contains(bytes)));
        })
        .join()
        .unwrap();
    }
}
