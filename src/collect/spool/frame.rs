//! One event in a file: a head that tells its length and state, and a checked body.
//!
//! Bytes of the head: `DSe`, state, length (4), time (8), check of length and time (4), zeros (4),
//! check of the body (8); numbers are little-endian. Erasing changes the state and zeroes the body
//! in place, so any process can do it, also in a file that another one is writing.

use bytes::Bytes;
use memchr::memmem;
use xxhash_rust::xxh3::xxh3_64;

use crate::collect::Parcel;

pub(super) const HEAD_BYTES: usize = 32;
/// Where the state stands in the head.
pub(super) const STATE_AT: usize = 3;
const MAGIC: &[u8; STATE_AT] = b"DSe";
const KEPT: u8 = b'+';
pub(super) const ERASED: u8 = b'-';
/// No event is larger, so nothing that says so is one.
pub(super) const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;

/// A frame as it stands at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// An event, and the bytes of its frame.
    Event(Event, usize),
    /// An event that has been erased: that many bytes.
    Erased(usize),
    /// The bytes end before the frame does: so many are needed at least.
    Short(usize),
    /// No frame that was written whole. Its length, where its head can be believed.
    Broken(Option<usize>),
}

/// An event as it waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When it was taken, in milliseconds since 1970.
    pub at: i64,
    /// What is to be sent.
    pub parcel: Parcel,
}

/// Adds the frame of `parcel`, taken at `at`, to `out`. `None` where no reader would believe it.
pub(super) fn write(parcel: &Parcel, at: i64, out: &mut Vec<u8>) -> Option<()> {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD_BYTES]);
    parcel.encode(out);
    let (before, body) = out.split_at_mut(start + HEAD_BYTES);
    let head = before.last_chunk_mut::<HEAD_BYTES>()?;
    if body.len() > MAX_BODY_BYTES {
        return None;
    }
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
    let said = [&length[..], &at.to_le_bytes()].concat();
    let parts: [&[u8]; 6] = [
        MAGIC,
        &[KEPT],
        &said,
        &head_check(&said).to_le_bytes(),
        &[0; 4],
        &xxh3_64(body).to_le_bytes(),
    ];
    for (to, from) in head.iter_mut().zip(parts.into_iter().flatten()) {
        *to = *from;
    }
    Some(())
}

#[allow(clippy::cast_possible_truncation, reason = "half of the hash is enough for twelve bytes")]
fn head_check(said: &[u8]) -> u32 {
    xxh3_64(said) as u32
}

/// What stands at the beginning of `bytes`.
pub(super) fn read(bytes: &Bytes) -> Read {
    let Some(head) = bytes.first_chunk::<HEAD_BYTES>() else { return Read::Short(HEAD_BYTES) };
    let [m0, m1, m2, state, said @ .., c0, c1, c2, c3, _, _, _, _, b0, b1, b2, b3, b4, b5, b6, b7] =
        head;
    let [l0, l1, l2, l3, at @ ..] = said;
    let length = u32::from_le_bytes([*l0, *l1, *l2, *l3]) as usize;
    let at = i64::from_le_bytes(*at);
    if [*m0, *m1, *m2] != *MAGIC
        || head_check(said) != u32::from_le_bytes([*c0, *c1, *c2, *c3])
        || length > MAX_BODY_BYTES
    {
        return Read::Broken(None);
    }
    let whole = HEAD_BYTES + length;
    if bytes.len() < whole {
        return Read::Short(whole);
    }
    match *state {
        KEPT => {}
        ERASED => return Read::Erased(whole),
        _ => return Read::Broken(Some(whole)),
    }
    let body = bytes.slice(HEAD_BYTES..whole);
    if xxh3_64(&body) != u64::from_le_bytes([*b0, *b1, *b2, *b3, *b4, *b5, *b6, *b7]) {
        return Read::Broken(Some(whole));
    }
    match Parcel::decode(&body) {
        Some(parcel) => Read::Event(Event { at, parcel }, whole),
        None => Read::Broken(Some(whole)),
    }
}

/// Goes from frame to frame, over whatever stands between them.
pub(super) struct Walk {
    bytes: Bytes,
    at: usize,
}

/// One step of a [`Walk`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Event(Event),
    /// Bytes that are no event any more.
    Erased,
    /// So many bytes that never were one, or were damaged.
    Lost(usize),
    /// The rest is the beginning of a frame of at least so many bytes.
    Short(usize),
}

impl Walk {
    pub(super) fn over(bytes: Bytes) -> Self {
        Self { bytes, at: 0 }
    }

    /// How far it has come.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// `None` at the end of the bytes.
    pub(super) fn step(&mut self) -> Option<Step> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let rest = self.bytes.slice(self.at..);
        let (step, bytes) = match read(&rest) {
            Read::Event(event, whole) => (Step::Event(event), whole),
            Read::Erased(whole) => (Step::Erased, whole),
            Read::Short(needed) => return Some(Step::Short(needed)),
            Read::Broken(Some(whole)) => (Step::Lost(whole), whole),
            Read::Broken(None) => {
                // The first bytes of a mark may stand at the end: they are looked at with what follows.
                let rest_bytes = rest.len().saturating_sub(MAGIC.len() - 1).max(1);
                let lost = next_start(&rest).unwrap_or(rest_bytes);
                (Step::Lost(lost), lost)
            }
        };
        self.at += bytes;
        Some(step)
    }
}

/// Where in `bytes`, behind their first one, the next frame could begin.
fn next_start(bytes: &[u8]) -> Option<usize> {
    memmem::find(bytes.get(1..)?, MAGIC).map(|at| at + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write(&Parcel::batched(body.to_vec()), 7, &mut out).unwrap();
        out
    }

    #[test]
    fn a_frame_is_read_back_and_an_erased_one_is_passed_over() {
        let mut bytes = frame(b"{}");
        let whole = bytes.len();
        let event = Event { at: 7, parcel: Parcel::batched(b"{}".to_vec()) };
        assert_eq!(read(&bytes.clone().into()), Read::Event(event, whole));
        assert_eq!(read(&Bytes::copy_from_slice(&bytes[..whole - 1])), Read::Short(whole));
        assert_eq!(read(&Bytes::copy_from_slice(&bytes[..3])), Read::Short(HEAD_BYTES));
        bytes[STATE_AT] = ERASED;
        bytes[HEAD_BYTES..].fill(0);
        assert_eq!(read(&bytes.into()), Read::Erased(whole));
    }

    proptest! {
        /// Whatever bit a disk turns, no event is made up: it is broken, cut or erased.
        #[test]
        fn a_turned_bit_is_noticed(at in 0usize..40, bit in 0u8..8) {
            let good = frame(b"{\"a\":1}");
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            let (good, bad) = (read(&good.into()), read(&bad.into()));
            // The four bytes that mean nothing.
            if (20..24).contains(&at) {
                prop_assert_eq!(bad, good);
            } else {
                prop_assert!(matches!(bad, Read::Broken(_)), "{:?}", bad);
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = read(&bytes.clone().into());
            let mut marked = frame(b"x");
            marked.extend(bytes);
            let mut walk = Walk::over(marked.into());
            prop_assert!(matches!(walk.step(), Some(Step::Event(_))));
            while let Some(step) = walk.step() {
                if matches!(step, Step::Short(_)) { break }
            }
        }

        /// What stands behind damage is found again.
        #[test]
        fn events_behind_damage_are_found(junk in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = junk;
            // No beginning of a frame that ends behind the good one.
            bytes.retain(|byte| *byte != b'D');
            bytes.extend(frame(b"good"));
            let mut walk = Walk::over(bytes.into());
            let found = std::iter::from_fn(|| walk.step()).find_map(|step| match step {
                Step::Event(event) => Some(event.parcel.body),
                _ => None,
            });
            prop_assert_eq!(found.as_deref(), Some(&b"good"[..]));
        }
    }
}
