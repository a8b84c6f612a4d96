//! Whether a body that comes in chunks is framed as RFC 9112, 7.1 has it. Pingora reads more than that: an
//! empty line, a space or `;x=y` are a last chunk to it, and a line of an extension may end in a bare LF.
//! A server in front of the edge that reads such a body otherwise would see other requests in it.

/// How far a body in chunks has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Chunks {
    at: Place,
    /// Bytes of the chunk that are yet to come.
    left: u64,
    /// Digits of the chunk's size that have come.
    digits: u8,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    /// The size's digits.
    #[default]
    Size,
    /// White space behind the size.
    Space,
    /// An extension.
    Extension,
    /// The LF that ends the size's line.
    SizeEnd,
    /// The chunk.
    Data,
    /// CR behind it.
    DataEnd,
    /// LF behind that.
    DataLf,
    /// A trailer field, or the empty line that ends the body.
    Trailer,
    /// The rest of a trailer field's name.
    Name,
    /// Its value.
    Value,
    /// The LF that ends it.
    ValueEnd,
    /// The LF that ends the body.
    End,
    /// Another request: the body has ended.
    Over,
}

/// The body is framed in another way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadChunk;

/// Digits of the largest size, in hex: as many as Pingora takes.
const MAX_DIGITS: u8 = 15;

impl Chunks {
    /// Looks at the next bytes of the body, and says how many of them are its own. What stands behind its end is not
    /// looked at.
    ///
    /// # Errors
    /// They don't go on as chunks do.
    pub(super) fn read(&mut self, all: &[u8]) -> Result<usize, BadChunk> {
        let mut bytes = all;
        while let Some((byte, rest)) = bytes.split_first() {
            match self.at {
                Place::Over => break,
                Place::Data => {
                    let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = bytes.get(here..).unwrap_or_default();
                    self.left -= here as u64;
                    if self.left == 0 {
                        self.at = Place::DataEnd;
                    }
                }
                _ => {
                    self.at = self.step(*byte)?;
                    bytes = rest;
                }
            }
        }
        Ok(all.len() - bytes.len())
    }

    /// Whether the body has ended.
    pub(super) fn is_over(&self) -> bool {
        self.at == Place::Over
    }

    /// What comes behind `byte`.
    fn step(&mut self, byte: u8) -> Result<Place, BadChunk> {
        Ok(match (self.at, byte) {
            (Place::Size, digit) if digit.is_ascii_hexdigit() && self.digits < MAX_DIGITS => {
                let value = char::from(digit).to_digit(16).unwrap_or_default();
                self.left = self.left << 4 | u64::from(value);
                self.digits += 1;
                Place::Size
            }
            (Place::Size | Place::Space, b' ' | b'\t') if self.digits > 0 => Place::Space,
            (Place::Size | Place::Space, b';') if self.digits > 0 => Place::Extension,
            (Place::Size | Place::Space | Place::Extension, b'\r') if self.digits > 0 => {
                Place::SizeEnd
            }
            (Place::Extension, byte) if is_text(byte) => Place::Extension,
            (Place::SizeEnd, b'\n') => {
                self.digits = 0;
                if self.left == 0 { Place::Trailer } else { Place::Data }
            }
            (Place::DataEnd, b'\r') => Place::DataLf,
            (Place::DataLf, b'\n') => Place::Size,
            (Place::Trailer, b'\r') => Place::End,
            (Place::End, b'\n') => Place::Over,
            (Place::Trailer | Place::Name, byte) if super::strict::is_token(byte) => Place::Name,
            (Place::Name, b':') => Place::Value,
            (Place::Value, b'\r') => Place::ValueEnd,
            (Place::Value, byte) if is_text(byte) => Place::Value,
            (Place::ValueEnd, b'\n') => Place::Trailer,
            _ => return Err(BadChunk),
        })
    }
}

/// No control character but a tab.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(body: &[u8]) -> Result<bool, BadChunk> {
        let mut chunks = Chunks::default();
        chunks.read(body)?;
        Ok(chunks.is_over())
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        for wrong in [
            &b"\r\n"[..],
            b" \r\n",
            b";x=y\r\n\r\n",
            b" 5\r\nhello\r\n",
            b"\n",
            b"0\n\n",
            b"5\nhello",
            b"5;a=b\nhello",
            b"5;a\0\r\n",
            b"0x5\r\nhello\r\n",
            b"+5\r\nhello\r\n",
            b"5\r\nhello0\r\n\r\n",
            b"5\r\nhello\r0",
            b"5\r\nhello\n0\r\n\r\n",
            b"5 5\r\nhello",
            b"fffffffffffffffff\r\n",
            b"1000000000000000\r\n",
            b"0\r\nA b\r\n\r\n",
            b"0\r\n:\r\n\r\n",
            b"0\r\nA: b\n\r\n",
            b"0\r\nA: b\0\r\n\r\n",
            b"0\r\n folded\r\n\r\n",
            b"0\r\n\rX",
        ] {
            assert_eq!(read(wrong), Err(BadChunk), "{}", wrong.escape_ascii());
        }
    }

    #[test]
    fn what_clients_send_passes() {
        for right in [
            &b"0\r\n\r\n"[..],
            b"5\r\nhello\r\n0\r\n\r\n",
            b"5 \t\r\nhello\r\n000\r\n\r\n",
            b"00005;a=\"b;\xc3\xbc\" ; c\r\nhello\r\n0\r\nA: b\r\nC:\r\n\r\n",
            b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\nGET / HTTP/1.1\n\n\0",
        ] {
            assert_eq!(read(right), Ok(true), "{}", right.escape_ascii());
            assert_eq!(read(&right[..right.len().min(4)]), Ok(false), "{}", right.escape_ascii());
        }
    }

    proptest! {
        /// However the body is cut, it is judged alike; and what was framed by the rules passes.
        #[test]
        fn cuts_change_nothing(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6),
            odd in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let mut body = Vec::new();
            for chunk in &chunks {
                body.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
                body.extend(chunk);
                body.extend(b"\r\n");
            }
            body.extend(b"0\r\n\r\n");
            match odd {
                Some((at, byte)) => {
                    let at = at.index(body.len());
                    body[at] = byte;
                }
                None => prop_assert_eq!(read(&body), Ok(true)),
            }
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len())).collect();
            cuts.extend([0, body.len()]);
            cuts.sort_unstable();
            let mut in_parts = Chunks::default();
            let parts = cuts.windows(2).try_for_each(|cut| {
                let came = &body[cut[0]..cut[1]];
                let own = in_parts.read(came)?;
                assert!(own == came.len() || in_parts.is_over());
                Ok(())
            });
            prop_assert_eq!(parts.map(|()| in_parts.is_over()), read(&body));
        }
    }
}
