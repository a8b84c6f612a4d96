//! Room on the disk for all spools of a process, so divided that no site and no client can take it all: half of it
//! is shared out evenly among the sites, the other half is anyone's; and the last quarter of what is a site's own is
//! for clients that have sent little.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::SpoolError;
use crate::telemetry::metrics::EVENTS_BYTES;

/// Room on the disk for all spools of a process.
#[derive(Debug)]
pub struct Room {
    capacity: u64,
    used: Mutex<Used>,
}

/// Bytes in use, by site.
#[derive(Debug, Default)]
struct Used(Vec<(Box<str>, u64)>);

/// The room of one site.
#[derive(Debug, Clone)]
pub struct Share {
    room: Arc<Room>,
    site: usize,
}

/// Who sends an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// Nobody in particular, or who has sent little.
    Light,
    /// Who has sent much in the last minute: leaves the last of the room to others.
    Heavy,
}

impl Room {
    /// Room for `capacity` bytes.
    #[must_use]
    pub fn new(capacity: u64) -> Arc<Self> {
        Arc::new(Self { capacity, used: Mutex::default() })
    }

    /// The room of `site`, one of all that have been asked for.
    #[must_use]
    pub fn share(self: &Arc<Self>, site: &str) -> Share {
        let mut used = self.lock();
        let site = used.0.iter().position(|(name, _)| &**name == site).unwrap_or_else(|| {
            used.0.push((site.into(), 0));
            used.0.len() - 1
        });
        Share { room: Arc::clone(self), site }
    }

    fn lock(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What each of so many sites has for itself.
    fn own(&self, sites: usize) -> u64 {
        self.capacity / 2 / sites.max(1) as u64
    }
}

impl Share {
    /// Bytes that no other site can take.
    pub(super) fn own(&self) -> u64 {
        self.room.own(self.room.lock().0.len())
    }

    pub(super) fn take(&self, bytes: u64, sender: Sender) -> Result<(), SpoolError> {
        let mut used = self.room.lock();
        let own = self.room.own(used.0.len());
        let shared = self.room.capacity - own * used.0.len() as u64;
        let beyond: u64 = used.0.iter().map(|(_, bytes)| bytes.saturating_sub(own)).sum();
        let of_site = used.0.get(self.site).map_or(own, |(_, bytes)| *bytes);
        let left = shared.saturating_sub(beyond) + own.saturating_sub(of_site);
        let for_others = if sender == Sender::Heavy { own / 4 } else { 0 };
        if bytes.saturating_add(for_others) > left {
            let used = used.0.iter().map(|(_, bytes)| bytes).sum();
            return Err(SpoolError::Full { used, capacity: self.room.capacity });
        }
        used.change(self.site, |of_site| of_site + bytes);
        EVENTS_BYTES.add(i64::try_from(bytes).unwrap_or(0));
        Ok(())
    }

    /// What is there already, whether or not there was room for it.
    pub(super) fn count(&self, bytes: u64) {
        self.room.lock().change(self.site, |of_site| of_site + bytes);
        EVENTS_BYTES.add(i64::try_from(bytes).unwrap_or(0));
    }

    pub(super) fn give_back(&self, bytes: u64) {
        self.room.lock().change(self.site, |of_site| of_site.saturating_sub(bytes));
        EVENTS_BYTES.sub(i64::try_from(bytes).unwrap_or(0));
    }

    #[cfg(test)]
    pub(super) fn used(&self) -> u64 {
        self.room.lock().0[self.site].1
    }
}

impl Used {
    fn change(&mut self, site: usize, change: impl FnOnce(u64) -> u64) {
        if let Some((_, bytes)) = self.0.get_mut(site) {
            *bytes = change(*bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_that_takes_all_it_can_leaves_the_others_their_own() {
        let room = Room::new(1000);
        let (greedy, other) = (room.share("greedy"), room.share("other"));
        let mut taken = 0;
        while greedy.take(10, Sender::Light).is_ok() {
            taken += 10;
        }
        assert_eq!(taken, 750, "its own quarter, and the common half");
        let refused = greedy.take(10, Sender::Light).unwrap_err();
        assert!(matches!(refused, SpoolError::Full { used: 750, capacity: 1000 }));
        assert!(other.take(250, Sender::Light).is_ok() && other.take(1, Sender::Light).is_err());
        other.give_back(250);
        greedy.give_back(600);
        assert!(other.take(750, Sender::Light).is_ok());
        assert!(
            greedy.take(101, Sender::Light).is_err() && greedy.take(100, Sender::Light).is_ok()
        );
        // What was there before may be more than there is room for.
        greedy.count(5000);
        assert!(greedy.take(1, Sender::Light).is_err() && other.take(1, Sender::Light).is_err());
        greedy.give_back(5250);
        assert!(other.take(0, Sender::Light).is_ok() && greedy.take(250, Sender::Light).is_ok());
    }

    #[test]
    fn who_sends_much_leaves_room_to_who_sends_little() {
        let share = Room::new(1000).share("shop");
        let mut taken = 0;
        while share.take(5, Sender::Heavy).is_ok() {
            taken += 5;
        }
        assert_eq!(taken, 875);
        assert!(share.take(125, Sender::Light).is_ok() && share.take(1, Sender::Light).is_err());
    }
}
