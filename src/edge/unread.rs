//! What has come of answers and has not been read by their visitors: memory that they hold for as long as they like to
//! read slowly. It is bounded, all together and for each network.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pingora::{Error, ErrorType, Result};

use crate::config::UnreadBounds;
use crate::shares::NoPlace;
use crate::telemetry::metrics::{ANSWERS_REFUSED, UNREAD_BYTES};

/// Pieces of an answer that are on their way to the visitor at one time: Pingora's queue holds so many, and one more
/// is taken from it.
const PIECES: usize = 5;
/// So many times: while those are written, the queue is filled again.
const TIMES: usize = 2;
/// What the connection keeps of an answer behind Pingora, and the grain of what is counted, in bytes.
const UNIT: usize = 64 << 10;
/// The most that one answer holds: pieces have 64 KiB at most.
const MOST: usize = UNIT * PIECES * TIMES + UNIT;
/// Networks are counted in so many places, so that requests hardly wait for one another.
const PLACES: usize = 32;

/// How much is unread.
#[derive(Debug, Default)]
pub(super) struct Unread {
    all: AtomicUsize,
    /// By network: one that holds nothing is not in it.
    of: [Mutex<HashMap<u128, usize>>; PLACES],
}

/// What one answer holds, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    unread: Arc<Unread>,
    bounds: UnreadBounds,
    network: Option<u128>,
    bytes: usize,
    /// What it holds to its end: it is known how much will come.
    least: usize,
    /// The lengths of its last pieces.
    pieces: [usize; PIECES],
    next: usize,
}

impl Unread {
    /// An answer to somebody in `network` begins, of so many bytes where that is known.
    pub(super) fn begin(
        self: &Arc<Self>,
        bounds: UnreadBounds,
        network: Option<u128>,
        length: Option<usize>,
    ) -> std::result::Result<Held, NoPlace> {
        let least = length.map_or(0, |length| units(length.saturating_add(UNIT)));
        let (unread, pieces) = (Arc::clone(self), [0; PIECES]);
        let mut held = Held { unread, bounds, network, bytes: 0, least, pieces, next: 0 };
        held.hold(least)?;
        Ok(held)
    }

    /// Whether somebody in `network` may ask for one more answer, however long it is: one that is refused when it comes
    /// has cost the origin a connection.
    ///
    /// # Errors
    /// The network has its share.
    pub(super) fn admit(
        &self,
        bounds: UnreadBounds,
        network: Option<u128>,
    ) -> std::result::Result<(), NoPlace> {
        let own = network.and_then(|network| self.of(network)?.get(&network).copied());
        let full = own.is_some_and(|held| held.saturating_add(MOST) > bounds.per_client);
        if full { Err(NoPlace::OfOne) } else { Ok(()) }
    }

    fn of(&self, network: u128) -> Option<MutexGuard<'_, HashMap<u128, usize>>> {
        // Addresses of IPv4 differ at their end, those of IPv6 in the middle.
        let place = (network ^ (network >> 64) ^ (network >> 72)) % PLACES as u128;
        let place = self.of.get(usize::try_from(place).ok()?)?;
        Some(place.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn take(
        &self,
        network: Option<u128>,
        bytes: usize,
        bounds: UnreadBounds,
    ) -> std::result::Result<(), NoPlace> {
        let before = self.all.fetch_add(bytes, Ordering::Relaxed);
        let own = network.and_then(|network| Some((network, self.of(network)?)));
        let refused = match own {
            _ if before.saturating_add(bytes) > bounds.most => Some(NoPlace::All),
            Some((network, mut own)) => {
                let held = own.get(&network).copied().unwrap_or_default().saturating_add(bytes);
                let fits = held <= bounds.per_client;
                if fits {
                    own.insert(network, held);
                }
                (!fits).then_some(NoPlace::OfOne)
            }
            None => None,
        };
        if let Some(refused) = refused {
            self.all.fetch_sub(bytes, Ordering::Relaxed);
            return Err(refused);
        }
        UNREAD_BYTES.add(i64::try_from(bytes).unwrap_or(i64::MAX));
        Ok(())
    }

    fn give_back(&self, network: Option<u128>, bytes: usize) {
        self.all.fetch_sub(bytes, Ordering::Relaxed);
        UNREAD_BYTES.sub(i64::try_from(bytes).unwrap_or(i64::MAX));
        let Some(network) = network else { return };
        let Some(mut own) = self.of(network) else { return };
        let left = own.get(&network).copied().unwrap_or_default().saturating_sub(bytes);
        if left == 0 {
            own.remove(&network);
        } else {
            own.insert(network, left);
        }
    }
}

impl Held {
    /// A piece of the answer has come, and goes to the visitor: those some pieces before it have been read, at least by
    /// the system.
    ///
    /// # Errors
    /// When there is no place for it.
    pub(super) fn piece(&mut self, bytes: usize) -> std::result::Result<(), NoPlace> {
        if let Some(piece) = self.pieces.get_mut(self.next) {
            *piece = bytes;
        }
        self.next = (self.next + 1) % PIECES;
        let due: usize = self.pieces.iter().sum();
        self.hold(units(due * TIMES + UNIT).max(self.least))
    }

    fn hold(&mut self, bytes: usize) -> std::result::Result<(), NoPlace> {
        if bytes > self.bytes {
            self.unread.take(self.network, bytes - self.bytes, self.bounds)?;
        } else if bytes < self.bytes {
            self.unread.give_back(self.network, self.bytes - bytes);
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.unread.give_back(self.network, self.bytes);
        }
    }
}

/// Why there is no answer.
pub(super) fn refuse<T>(why: NoPlace) -> Result<T> {
    ANSWERS_REFUSED.with_label_values(&[why.label()]).inc();
    let told = "too much of earlier answers has not been read";
    Error::e_explain(ErrorType::HTTPStatus(503), told).map_err(Error::into_down)
}

/// So many bytes, as they are counted.
fn units(bytes: usize) -> usize {
    bytes.min(MOST).next_multiple_of(UNIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: UnreadBounds = UnreadBounds { most: 4 * MOST, per_client: 2 * MOST };

    fn held(unread: &Unread) -> usize {
        unread.all.load(Ordering::Relaxed)
    }

    #[test]
    fn one_network_has_its_share_and_all_have_a_bound() {
        let unread = Arc::new(Unread::default());
        let begin = |network| unread.begin(BOUNDS, network, Some(100 << 20));
        let first = begin(Some(1)).unwrap();
        let second = begin(Some(1)).unwrap();
        assert_eq!(begin(Some(1)).unwrap_err(), NoPlace::OfOne);
        let admit = |network| unread.admit(BOUNDS, network);
        assert_eq!(
            [admit(Some(1)), admit(Some(2)), admit(None)],
            [Err(NoPlace::OfOne), Ok(()), Ok(())]
        );
        let other = [begin(Some(2)).unwrap(), begin(None).unwrap()];
        assert_eq!(begin(Some(3)).unwrap_err(), NoPlace::All);
        assert_eq!(begin(None).unwrap_err(), NoPlace::All);
        drop(first);
        assert!(begin(Some(1)).is_ok());
        drop((second, other));
        assert_eq!(held(&unread), 0);
        assert!(unread.of.iter().all(|place| place.lock().unwrap().is_empty()));
    }

    #[test]
    fn an_answer_holds_what_is_on_its_way_and_not_what_it_has_sent() {
        let unread = Arc::new(Unread::default());
        // Events without an end, of some bytes each.
        let mut events = unread.begin(BOUNDS, Some(1), None).unwrap();
        for _ in 0..10_000 {
            events.piece(1000).unwrap();
        }
        assert_eq!(held(&unread), 2 * UNIT);
        // A long file, and its last pieces.
        let mut file = unread.begin(BOUNDS, Some(1), None).unwrap();
        for _ in 0..100 {
            file.piece(UNIT).unwrap();
        }
        assert_eq!(held(&unread), 2 * UNIT + MOST);
        for _ in 0..PIECES {
            file.piece(10).unwrap();
        }
        assert_eq!(held(&unread), 4 * UNIT);
        // A small one whose length is known, and one that is refused a piece.
        let small = unread.begin(BOUNDS, Some(1), Some(10)).unwrap();
        assert_eq!(held(&unread), 6 * UNIT);
        let full = unread.begin(BOUNDS, Some(1), Some(MOST)).unwrap();
        assert_eq!(file.piece(20 * UNIT), Err(NoPlace::OfOne));
        drop((events, file, small, full));
        assert_eq!(held(&unread), 0);
    }
}
