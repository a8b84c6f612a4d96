//! gzip (RFC 1952) as browsers read it: what can be unpacked is there, whatever stands behind it or is missing at its
//! end. Whether it was whole is told in the end.

use std::io::{self, ErrorKind, Write};

use flate2::{Crc, Decompress, FlushDecompress, Status};

/// Unpacks what is written to it into `W`, piece by piece.
pub(super) struct Gunzip<W> {
    inner: W,
    state: State,
    /// Of a head, or of what stands between members, as far as it has come.
    held: Vec<u8>,
    inflate: Decompress,
    checksum: Crc,
    /// All checksums so far were right.
    fits: bool,
    /// A member has been read to its end.
    has_member: bool,
    out: Box<[u8]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In a member's head.
    Head,
    /// In its data.
    Data,
    /// In its checksum and length.
    Trailer,
    /// Behind a member: there may be another one.
    Between,
    /// Nothing more is read.
    Over,
    /// Nor can it be: the data is damaged.
    Damaged,
}

/// How a member begins: its mark, and the only method that there is.
const MARK: &[u8] = &[0x1f, 0x8b, 8];
const TRAILER: usize = 8;
/// A head that has more than that is none.
const LONGEST_HEAD: usize = 64 * 1024;
const OUT: usize = 16 * 1024;

impl<W: Write> Gunzip<W> {
    pub(super) fn new(inner: W) -> Self {
        let (inflate, checksum) = (Decompress::new(false), Crc::new());
        let out = vec![0; OUT].into_boxed_slice();
        let (held, fits, has_member) = (Vec::new(), true, false);
        Self { inner, state: State::Head, held, inflate, checksum, fits, has_member, out }
    }

    pub(super) fn inner(&mut self) -> &mut W {
        &mut self.inner
    }

    /// Takes the rest out. An error where it was cut short or damaged.
    pub(super) fn finish(self) -> (W, io::Result<()>) {
        let whole = match self.state {
            State::Between | State::Over if self.fits => Ok(()),
            State::Between | State::Over => {
                Err(io::Error::other("the gzip body's checksum is wrong"))
            }
            State::Head | State::Data | State::Trailer => {
                Err(io::Error::new(ErrorKind::UnexpectedEof, "the gzip body ends early"))
            }
            State::Damaged => Err(damaged("the gzip body is damaged")),
        };
        (self.inner, whole)
    }

    /// Reads what it can of `bytes`, and says how much that was.
    fn step(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.state {
            State::Head => self.head(bytes),
            State::Data => self.data(bytes),
            State::Trailer => Ok(self.trailer(bytes)),
            State::Between => Ok(self.between(bytes)),
            State::Over | State::Damaged => Ok(bytes.len()),
        }
    }

    fn head(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let before = self.held.len();
        self.held.extend_from_slice(bytes);
        match head_length(&self.held) {
            Some(Ok(length)) => {
                self.held.clear();
                self.inflate.reset(false);
                self.checksum.reset();
                self.state = State::Data;
                // The head was not whole before.
                Ok(length.saturating_sub(before))
            }
            None if self.held.len() <= LONGEST_HEAD => Ok(bytes.len()),
            // What stands behind a member that was whole is none.
            None | Some(Err(())) if self.has_member => {
                self.state = State::Over;
                Ok(bytes.len())
            }
            None | Some(Err(())) => Err(damaged("this is not gzip")),
        }
    }

    fn data(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (read, written) = (self.inflate.total_in(), self.inflate.total_out());
        let status = self.inflate.decompress(bytes, &mut self.out, FlushDecompress::None);
        let count = |total: u64| usize::try_from(total).unwrap_or(usize::MAX);
        let came = count(self.inflate.total_out() - written);
        let came = self.out.get(..came).unwrap_or_default();
        self.checksum.update(came);
        self.inner.write_all(came)?;
        match status {
            Ok(Status::StreamEnd) => self.state = State::Trailer,
            Ok(Status::Ok | Status::BufError) => {}
            Err(_) => self.state = State::Damaged,
        }
        Ok(count(self.inflate.total_in() - read))
    }

    fn trailer(&mut self, bytes: &[u8]) -> usize {
        let (own, _) = bytes.split_at(bytes.len().min(TRAILER - self.held.len()));
        self.held.extend_from_slice(own);
        if let Some((checksum, _)) =
            self.held.split_first_chunk().filter(|_| self.held.len() == TRAILER)
        {
            self.fits &= u32::from_le_bytes(*checksum) == self.checksum.sum();
            self.state = State::Between;
            self.has_member = true;
            self.held.clear();
        }
        own.len()
    }

    fn between(&mut self, bytes: &[u8]) -> usize {
        let (own, _) = bytes.split_at(bytes.len().min(MARK.len() - self.held.len()));
        self.held.extend_from_slice(own);
        if !MARK.starts_with(&self.held) {
            self.state = State::Over;
        } else if self.held.len() == MARK.len() {
            self.state = State::Head;
        }
        own.len()
    }
}

impl<W: Write> Write for Gunzip<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let read = self.step(rest)?;
            rest = rest.get(read..).unwrap_or_default();
        }
        // What was written before may unpack to more than there was room for.
        while self.state == State::Data {
            let before = self.inflate.total_out();
            self.data(&[])?;
            if self.inflate.total_out() == before {
                break;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn damaged(why: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why)
}

/// How long the head of a member is (RFC 1952, 2.3), once all of it is there. An error where it is none.
fn head_length(bytes: &[u8]) -> Option<Result<usize, ()>> {
    const FIXED: usize = 10;
    let begins = bytes.iter().zip(MARK).all(|(one, own)| one == own);
    let flags = match bytes.get(3) {
        _ if !begins => return Some(Err(())),
        Some(flags) => *flags,
        None => return None,
    };
    if flags & 0b1110_0000 != 0 {
        return Some(Err(()));
    }
    let mut at = FIXED;
    if flags & 4 != 0 {
        let length = bytes.get(at..)?.first_chunk()?;
        at += 2 + usize::from(u16::from_le_bytes(*length));
    }
    for text in [8, 16] {
        if flags & text != 0 {
            at += bytes.get(at..)?.iter().position(|byte| *byte == 0)? + 1;
        }
    }
    if flags & 2 != 0 {
        at += 2;
    }
    (bytes.len() >= at).then_some(Ok(at))
}

#[cfg(test)]
mod tests {
    use flate2::{Compression, GzBuilder};
    use proptest::prelude::*;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut made = GzBuilder::new().filename("a").comment("b").extra(vec![1, 2, 3]);
        made = made.mtime(7);
        let mut encoder = made.write(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn gunzip(body: &[u8], size: usize) -> (Vec<u8>, bool) {
        let mut decoder = Gunzip::new(Vec::new());
        for piece in body.chunks(size.max(1)) {
            if decoder.write_all(piece).is_err() {
                return (decoder.finish().0, false);
            }
        }
        let (out, whole) = decoder.finish();
        (out, whole.is_ok())
    }

    #[test]
    fn what_browsers_show_is_unpacked() {
        let text: Vec<u8> = (0..90_000_u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
        let page = gzip(&text);
        let mut wrong = page.clone();
        let checksum = wrong.len() - 6;
        wrong[checksum] ^= 1;
        for size in [1, 2, 1000, usize::MAX] {
            for behind in [&b""[..], b"\n \n\n", &[0; 10], b"\x1f", b"\x1f\x8b", b"<!-- 0.2s -->"] {
                let body = [&page[..], behind].concat();
                assert_eq!(gunzip(&body, size), (text.clone(), true), "{behind:?} {size}");
            }
            assert_eq!(gunzip(&wrong, size), (text.clone(), false), "its checksum is wrong");
            assert_eq!(gunzip(&page[..page.len() - 3], size), (text.clone(), false), "it is cut");
            let both = gunzip(&[gzip(b"one "), gzip(b"two")].concat(), size);
            assert_eq!(both, (b"one two".to_vec(), true));
            assert_eq!(gunzip(b"<p>plain", size), (Vec::new(), false));
        }
        let (half, whole) = gunzip(&page[..page.len() / 2], 700);
        assert!(!whole && text.starts_with(&half) && half.len() > text.len() / 3);
    }

    proptest! {
        /// Whatever comes, in whatever pieces, is read in the same way.
        #[test]
        fn pieces_do_not_matter(
            text in prop::collection::vec(any::<u8>(), 0..300),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
            size in 1..40_usize,
        ) {
            let mut body = [gzip(&text), gzip(b"more")].concat();
            for (at, byte) in changes {
                let at = at.index(body.len());
                body[at] = byte;
            }
            prop_assert_eq!(gunzip(&body, size), gunzip(&body, usize::MAX));
        }
    }
}
