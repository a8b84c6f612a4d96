//! Text in front of a body that is compressed already, without compressing it again.

use std::io;

use flate2::{Compress, Compression, FlushCompress, Status};

use super::Coding;

/// Head of a gzip member without name and time, as we write it (RFC 1952, 2.3).
const HEAD_BYTES: usize = 10;
/// Check and length at its end.
const TAIL_BYTES: usize = 8;
/// Fields in the head that we do not write.
const FLAGS_AT: usize = 3;

/// `lead`, then what `body` says, in the coding that `body` has: none or gzip. Deflate goes on at a byte
/// after a sync flush, so the two streams become one; its check is made of theirs.
///
/// # Errors
/// When `body` is not of our own gzip, or of another coding.
pub fn splice(coding: Coding, lead: &[u8], body: &[u8]) -> io::Result<Vec<u8>> {
    let broken = || io::Error::other("not a body that anything can be put in front of");
    match coding {
        Coding::Identity => Ok([lead, body].concat()),
        Coding::Brotli => Err(broken()),
        Coding::Gzip => {
            let (head, rest) = body.split_at_checked(HEAD_BYTES).ok_or_else(broken)?;
            let (deflated, tail) =
                rest.split_at_checked(rest.len().wrapping_sub(TAIL_BYTES)).ok_or_else(broken)?;
            let [c0, c1, c2, c3, l0, l1, l2, l3] = tail else { return Err(broken()) };
            if !head.starts_with(&[0x1f, 0x8b, 8]) || head.get(FLAGS_AT) != Some(&0) {
                return Err(broken());
            }
            let (check, length) = (
                u32::from_le_bytes([*c0, *c1, *c2, *c3]),
                u32::from_le_bytes([*l0, *l1, *l2, *l3]),
            );
            let mut out = Vec::with_capacity(lead.len() + body.len() + 64);
            out.extend_from_slice(head);
            let mut compress = Compress::new(Compression::default(), false);
            if compress.compress_vec(lead, &mut out, FlushCompress::Sync)? != Status::Ok
                || compress.total_in() != lead.len() as u64
            {
                return Err(broken());
            }
            out.extend_from_slice(deflated);
            let mut whole = crc32fast::Hasher::new();
            whole.update(lead);
            whole.combine(&crc32fast::Hasher::new_with_initial_len(check, length.into()));
            out.extend_from_slice(&whole.finalize().to_le_bytes());
            let lead_length = u32::try_from(lead.len()).map_err(|_| broken())?;
            out.extend_from_slice(&length.wrapping_add(lead_length).to_le_bytes());
            Ok(out)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn both_are_read_back(lead in proptest::collection::vec(any::<u8>(), 1..5000), body in proptest::collection::vec(any::<u8>(), 0..50_000)) {
            let packed = Coding::Gzip.encode_once(&body).unwrap();
            let spliced = splice(Coding::Gzip, &lead, &packed).unwrap();
            let mut read = Vec::new();
            flate2::read::GzDecoder::new(&spliced[..]).read_to_end(&mut read).unwrap();
            let whole = [lead.clone(), body.clone()].concat();
            prop_assert_eq!(&read, &whole);
            prop_assert_eq!(splice(Coding::Identity, &lead, &body).unwrap(), whole);
        }
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        for wrong in [
            &b""[..],
            b"not gzip at all, and long enough",
            &[0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 0, 1, 2],
        ] {
            assert!(splice(Coding::Gzip, b"x", wrong).is_err());
        }
        assert!(splice(Coding::Brotli, b"x", b"y").is_err());
    }
}
