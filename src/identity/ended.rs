//! Identities that have ended in a browser: an id that was ended does not come back by an event that was made
//! before. Events leave a page after its call to `reset`, and may wait for days in a browser that is offline.

use std::fmt::Write;

use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64;

use super::AnonymousId;

/// When a browser's identity has ended, and which of its own ids were ended last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ended {
    /// Milliseconds since 1970, by the edge's clock; 0 for never.
    at: i64,
    /// Hashes of the browser's ids, the latest first.
    ids: SmallVec<[u64; MAX_IDS]>,
}

/// The cookie that says so.
pub const ENDED: &str = "doorstep_ended";

/// In milliseconds: what a request may take on its way, and clocks of nodes may differ.
const ABOUT_THE_SAME: i64 = 1000;
/// Most ids that are remembered.
const MAX_IDS: usize = 4;
/// Most marks that are read: hosts of one domain may each have given one.
const MAX_MARKS: usize = 32;

impl Ended {
    /// Reads the cookie's value at `now` (milliseconds since 1970). What can't be read has not ended, and nothing
    /// ends in the future.
    #[must_use]
    pub fn read(text: &str, now: i64) -> Self {
        let mut parts = text.split('.');
        let at = parts.next().and_then(|at| at.parse().ok()).filter(|at| *at > 0);
        let at = at.map(|at: i64| at.min(now));
        let ids = parts.filter_map(|id| u64::from_str_radix(id, 16).ok()).take(MAX_IDS);
        at.map_or_else(Self::default, |at| Self { at, ids: ids.collect() })
    }

    /// All that `marks` say at `now`: a second mark, which anybody with another host of the domain can set, takes
    /// nothing of the first away.
    pub fn read_all<'m>(marks: impl Iterator<Item = &'m [u8]>, now: i64) -> Self {
        let marks = marks.filter_map(|mark| std::str::from_utf8(mark).ok()).take(MAX_MARKS);
        let all = marks.map(|mark| Self::read(mark, now));
        all.fold(Self::default(), |mut whole, one| {
            whole.at = whole.at.max(one.at);
            whole.ids.extend(one.ids);
            whole
        })
    }

    /// As the cookie has it.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = self.at.to_string();
        for id in self.ids.iter().take(MAX_IDS) {
            // Writing to a String can't fail.
            let _ = write!(out, ".{id:x}");
        }
        out
    }

    /// The identity of the browser that was `anonymous` ends at `now`.
    #[must_use]
    pub fn with(&self, anonymous: Option<&AnonymousId>, now: i64) -> Self {
        let ids = anonymous.map(hash).into_iter().chain(self.ids.iter().copied());
        let mut all = SmallVec::new();
        for id in ids {
            if all.len() < MAX_IDS && !all.contains(&id) {
                all.push(id);
            }
        }
        Self { at: self.at.max(now), ids: all }
    }

    /// When an identity ended in this browser, in milliseconds since 1970.
    #[must_use]
    pub fn at(&self) -> Option<i64> {
        (self.at > 0).then_some(self.at)
    }

    /// Whether it is known which of the browser's ids were ended.
    #[must_use]
    pub fn has_ids(&self) -> bool {
        !self.ids.is_empty()
    }

    /// Whether `id` was ended: a browser never gets it again.
    #[must_use]
    pub fn has(&self, id: &AnonymousId) -> bool {
        !self.ids.is_empty() && self.ids.contains(&hash(id))
    }

    /// Whether an event of `anonymous`, made at `made` (milliseconds since 1970, by the edge's clock), is from
    /// before the end. One of about the same time is told by the browser's id alone: a login right behind the
    /// logout, made while that was on its way, counts.
    #[must_use]
    pub fn covers(&self, anonymous: Option<&AnonymousId>, made: Option<i64>) -> bool {
        anonymous.is_some_and(|id| self.has(id))
            || (self.at > 0 && made.is_some_and(|made| made <= self.at - ABOUT_THE_SAME))
    }
}

fn hash(id: &AnonymousId) -> u64 {
    xxh3_64(id.as_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(text: &str) -> AnonymousId {
        AnonymousId::parse(text).unwrap()
    }

    #[test]
    fn nothing_from_before_the_end_comes_back() {
        let ended = Ended::default().with(Some(&id("old")), 5000);
        for (anonymous, made, covered) in [
            (Some("old"), None, true),
            (Some("old"), Some(6000), true),
            (Some("new"), Some(4000), true),
            (None, Some(3999), true),
            (Some("new"), Some(4001), false),
            (Some("new"), None, false),
        ] {
            let anonymous = anonymous.map(id);
            assert_eq!(ended.covers(anonymous.as_ref(), made), covered, "{anonymous:?} {made:?}");
        }
        assert!(!Ended::default().covers(Some(&id("old")), Some(-5)));
    }

    #[test]
    fn the_last_ids_are_remembered_and_an_end_never_moves_back() {
        let mut ended = Ended::default();
        for n in 0..6 {
            ended = ended.with(Some(&id(&n.to_string())), 10 - n);
        }
        assert_eq!(ended.at(), Some(10));
        let known: Vec<bool> = (0..6).map(|n| ended.has(&id(&n.to_string()))).collect();
        assert_eq!(known, [false, false, true, true, true, true]);
        assert_eq!(Ended::read(&ended.text(), 1000), ended);
        assert_eq!(Ended::read("9223372036854775807.ab", 1000).at(), Some(1000));
        for wrong in ["", "x", "-5.ab", "0", ".ab"] {
            assert_eq!(Ended::read(wrong, 1000), Ended::default(), "{wrong}");
        }
    }

    #[test]
    fn a_second_mark_takes_nothing_of_the_first_away() {
        let first = Ended::default().with(Some(&id("a")), 50).text();
        let other = Ended::default().with(Some(&id("b")), 40).text();
        for marks in [[&first, &other], [&other, &first]] {
            let ended = Ended::read_all(marks.into_iter().map(String::as_bytes), 1000);
            assert!(ended.has(&id("a")) && ended.has(&id("b")) && ended.at() == Some(50));
        }
        let odd = [&b"\xff"[..], b"x", first.as_bytes()];
        assert_eq!(Ended::read_all(odd.into_iter(), 1000), Ended::read(&first, 1000));
    }

    proptest! {
        /// Whatever stands in the cookie, reading ends, and what was read is written alike.
        #[test]
        fn any_cookie_is_read(text in ".{0,80}") {
            let read = Ended::read(&text, i64::MAX);
            prop_assert_eq!(Ended::read(&read.text(), i64::MAX).at(), read.at());
        }
    }
}
