//! Content codings, streamed: decoded and encoded again without holding a page back.
//! Pingora's own encoders flush at the end alone, which would keep the first bytes of a page until
//! the last have come.

use std::io::{self, Write};

use super::gunzip::Gunzip;

/// How a body is compressed (RFC 9110, 8.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coding {
    /// Not at all.
    Identity,
    /// gzip.
    Gzip,
    /// Brotli (RFC 7932).
    Brotli,
}

/// Codings that browsers undo, or that something else may (IANA's list).
const OTHER_CODINGS: &[&str] = &[
    "deflate",
    "zstd",
    "dcb",
    "dcz",
    "compress",
    "x-compress",
    "exi",
    "pack200-gzip",
    "aes128gcm",
];
/// Of 9 and 11: pages are compressed while somebody waits.
const GZIP_LEVEL: u32 = 4;
const BROTLI_LEVEL: u32 = 4;
const BROTLI_WINDOW: u32 = 20;
const BUFFER_BYTES: usize = 16 * 1024;

impl Coding {
    /// Reads a Content-Encoding. `None` for what can't be undone: other codings, several of them. What is no coding
    /// that browsers know (`none`, `utf-8`, `8bit`) is none for them.
    #[must_use]
    pub fn of(content_encoding: Option<&str>) -> Option<Self> {
        match content_encoding.map(str::trim) {
            None | Some("") => Some(Self::Identity),
            Some(name) if name.eq_ignore_ascii_case("identity") => Some(Self::Identity),
            Some(name)
                if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") =>
            {
                Some(Self::Gzip)
            }
            Some(name) if name.eq_ignore_ascii_case("br") => Some(Self::Brotli),
            Some(name) => {
                let is_one = |one: &&str| name.eq_ignore_ascii_case(one);
                let other = name.contains(',') || OTHER_CODINGS.iter().any(is_one);
                (!other).then_some(Self::Identity)
            }
        }
    }

    /// Value of Content-Encoding, where one is needed.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Brotli => Some("br"),
        }
    }

    /// The best coding that a client accepts, by its Accept-Encoding (RFC 9110, 12.5.3).
    #[must_use]
    pub fn best(accept: &str) -> Self {
        match accepts(accept, ["br", "gzip"]) {
            [true, _] => Self::Brotli,
            [false, true] => Self::Gzip,
            [false, false] => Self::Identity,
        }
    }

    /// The best that [`super::splice`] can put something in front of.
    #[must_use]
    pub fn best_spliceable(accept: &str) -> Self {
        let [gzip] = accepts(accept, ["gzip"]);
        if gzip { Self::Gzip } else { Self::Identity }
    }

    /// What of Accept-Encoding we can undo, for the origin of a page that will be rewritten.
    #[must_use]
    pub fn acceptable(accept: &str) -> &'static str {
        match accepts(accept, ["br", "gzip"]) {
            [true, true] => "gzip, br",
            [true, false] => "br",
            [false, true] => "gzip",
            [false, false] => "identity",
        }
    }

    /// `body` in this coding, as small as it gets in reasonable time: for what is encoded once and
    /// served often.
    ///
    /// # Errors
    /// None in practice: memory is written.
    pub fn encode_once(self, body: &[u8]) -> io::Result<Vec<u8>> {
        let out = Vec::with_capacity(body.len() / 3);
        match self {
            Self::Identity => Ok(body.to_vec()),
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::best());
                encoder.write_all(body)?;
                encoder.finish()
            }
            Self::Brotli => {
                let mut encoder = brotli::CompressorWriter::new(out, BUFFER_BYTES, 9, 22);
                encoder.write_all(body)?;
                Ok(encoder.into_inner())
            }
        }
    }

    /// `body` in this coding, as fast as it gets: for what one client waits for.
    ///
    /// # Errors
    /// None in practice: memory is written.
    pub fn encode_now(self, body: &[u8]) -> io::Result<Vec<u8>> {
        let out = Vec::with_capacity(body.len() / 2);
        match self {
            Self::Identity => Ok(body.to_vec()),
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::fast());
                encoder.write_all(body)?;
                encoder.finish()
            }
            Self::Brotli => {
                let mut encoder =
                    brotli::CompressorWriter::new(out, BUFFER_BYTES, 1, BROTLI_WINDOW);
                encoder.write_all(body)?;
                Ok(encoder.into_inner())
            }
        }
    }

    /// `body`, which is in this coding, decoded to at most `limit` bytes.
    ///
    /// # Errors
    /// When it is broken, or larger: [`io::ErrorKind::FileTooLarge`].
    pub fn decode_all(self, body: &[u8], limit: usize) -> io::Result<Vec<u8>> {
        let mut decoder = Decoder::new(self, Bounded { out: Vec::new(), limit });
        decoder.write_all(body)?;
        let (bounded, whole) = decoder.finish();
        whole.map(|()| bounded.out)
    }
}

/// Which of `codings` Accept-Encoding lists with a weight above 0. The first that names one counts.
fn accepts<const N: usize>(accept: &str, codings: [&str; N]) -> [bool; N] {
    let (mut named, mut any) = ([None; N], None);
    for part in accept.as_bytes().split(|byte| *byte == b',') {
        let end = part.iter().position(|byte| *byte == b';').unwrap_or(part.len());
        let (name, parameters) = part.split_at_checked(end).unwrap_or_default();
        let name = name.trim_ascii();
        let found = match codings.iter().position(|one| name.eq_ignore_ascii_case(one.as_bytes())) {
            Some(at) => named.get_mut(at),
            None => (name == b"*").then_some(&mut any),
        };
        if let Some(found @ None) = found {
            *found = Some(parameters.is_empty() || weighs(parameters));
        }
    }
    named.map(|named| named.or(any).unwrap_or(false))
}

/// Whether a coding's parameters (`;q=0.5`) give it a weight above 0.
fn weighs(parameters: &[u8]) -> bool {
    let text = std::str::from_utf8(parameters).unwrap_or_default();
    let q = text.trim_start_matches(';').trim().strip_prefix(['q', 'Q']).map(str::trim_start);
    let q = q.and_then(|rest| rest.strip_prefix('='));
    q.is_none_or(|value| value.trim().parse::<f32>().unwrap_or(0.0) > 0.0)
}

struct Bounded {
    out: Vec<u8>,
    limit: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.out.len() + bytes.len() > self.limit {
            let why = format!("decoded body has more than {} bytes", self.limit);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        }
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Decodes what is written to it into `W`, piece by piece: a small body that grows huge never
/// stands in memory as a whole.
pub(super) enum Decoder<W: Write> {
    Identity(W),
    Gzip(Box<Gunzip<W>>),
    Brotli(Box<Unbrotli<W>>),
}

impl<W: Write> Decoder<W> {
    pub(super) fn new(coding: Coding, inner: W) -> Self {
        match coding {
            Coding::Identity => Self::Identity(inner),
            Coding::Gzip => Self::Gzip(Box::new(Gunzip::new(inner))),
            Coding::Brotli => Self::Brotli(Box::new(Unbrotli::new(inner))),
        }
    }

    pub(super) fn inner(&mut self) -> &mut W {
        match self {
            Self::Identity(inner) => inner,
            Self::Gzip(decoder) => decoder.inner(),
            Self::Brotli(decoder) => decoder.reading.get_mut(),
        }
    }

    /// Takes the rest out. An error where the body was not whole: what could be decoded of it is there.
    pub(super) fn finish(self) -> (W, io::Result<()>) {
        match self {
            Self::Identity(inner) => (inner, Ok(())),
            Self::Gzip(decoder) => decoder.finish(),
            Self::Brotli(decoder) => decoder.finish(),
        }
    }
}

impl<W: Write> Write for Decoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Identity(inner) => inner.write(bytes),
            Self::Gzip(decoder) => decoder.write(bytes),
            Self::Brotli(decoder) => decoder.write(bytes),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Identity(inner) => inner.flush(),
            Self::Gzip(decoder) => decoder.flush(),
            Self::Brotli(decoder) => decoder.flush(),
        }
    }
}

/// Brotli as browsers read it: see [`Gunzip`].
pub(super) struct Unbrotli<W: Write> {
    reading: brotli::DecompressorWriter<W>,
    /// Nothing more is read: why.
    over: Option<io::Result<()>>,
}

impl<W: Write> Unbrotli<W> {
    fn new(inner: W) -> Self {
        Self { reading: brotli::DecompressorWriter::new(inner, BUFFER_BYTES), over: None }
    }

    fn finish(mut self) -> (W, io::Result<()>) {
        // What is damaged was found while it was written: "invalid" here means that the end is missing.
        let ended = self.reading.close().map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => {
                io::Error::new(io::ErrorKind::UnexpectedEof, "the brotli body ends early")
            }
            _ => error,
        });
        let (Ok(inner) | Err(inner)) = self.reading.into_inner();
        (inner, self.over.unwrap_or(ended))
    }
}

impl<W: Write> Write for Unbrotli<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.over.is_none() {
            match self.reading.write_all(bytes) {
                Ok(()) => {}
                // Bytes behind its end.
                Err(error) if error.kind() == io::ErrorKind::WriteZero => self.over = Some(Ok(())),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    self.over = Some(Err(error));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        self.reading.flush()
    }
}

/// Encodes what is written to it; [`Encoder::take`] has what can be sent so far.
pub(super) enum Encoder {
    Identity(Vec<u8>),
    Gzip(Box<flate2::write::GzEncoder<Vec<u8>>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
}

impl Encoder {
    pub(super) fn new(coding: Coding) -> Self {
        match coding {
            Coding::Identity => Self::Identity(Vec::new()),
            Coding::Gzip => {
                let level = flate2::Compression::new(GZIP_LEVEL);
                Self::Gzip(Box::new(flate2::write::GzEncoder::new(Vec::new(), level)))
            }
            Coding::Brotli => Self::Brotli(Box::new(brotli::CompressorWriter::new(
                Vec::new(),
                BUFFER_BYTES,
                BROTLI_LEVEL,
                BROTLI_WINDOW,
            ))),
        }
    }

    /// Everything written so far, in a form that the client can decode up to here.
    pub(super) fn take(&mut self) -> io::Result<Vec<u8>> {
        self.flush()?;
        Ok(std::mem::take(match self {
            Self::Identity(out) => out,
            Self::Gzip(encoder) => encoder.get_mut(),
            Self::Brotli(encoder) => encoder.get_mut(),
        }))
    }

    /// The last bytes.
    pub(super) fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Identity(out) => Ok(out),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Brotli(encoder) => Ok(encoder.into_inner()),
        }
    }
}

impl Write for Encoder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Identity(out) => out.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Brotli(encoder) => encoder.write(bytes),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Identity(_) => Ok(()),
            Self::Gzip(encoder) => encoder.flush(),
            Self::Brotli(encoder) => encoder.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_encoding_is_read_with_its_weights() {
        for (accept, best) in [
            ("", Coding::Identity),
            ("gzip;q=0", Coding::Identity),
            ("gzip, deflate, br, zstd", Coding::Brotli),
            ("br;q=0, gzip", Coding::Gzip),
            ("GZIP ; q=0.5", Coding::Gzip),
            ("*", Coding::Brotli),
            ("*;q=0, gzip", Coding::Gzip),
            ("brotli, gzippy", Coding::Identity),
            ("gzip;q=x", Coding::Identity),
        ] {
            assert_eq!(Coding::best(accept), best, "{accept}");
        }
        assert_eq!(Coding::acceptable("zstd, br"), "br");
        assert_eq!(Coding::acceptable("zstd"), "identity");
    }

    #[test]
    fn what_is_encoded_comes_back_and_bombs_are_bounded() {
        let page = "<p>hello</p>".repeat(10_000);
        for coding in [Coding::Identity, Coding::Gzip, Coding::Brotli] {
            let small = coding.encode_once(page.as_bytes()).unwrap();
            assert_eq!(coding.decode_all(&small, 200_000).unwrap(), page.as_bytes());
            assert!(coding.decode_all(&small, 100_000).is_err(), "{coding:?}");
        }
        for coding in [Coding::Gzip, Coding::Brotli] {
            assert!(coding.decode_all(b"not compressed", 1000).is_err(), "{coding:?}");
            let small = coding.encode_once(page.as_bytes()).unwrap();
            assert!(coding.decode_all(&small[..small.len() / 2], 200_000).is_err(), "{coding:?}");
        }
        assert_eq!(Coding::of(Some("gzip, br")), None);
        assert_eq!(Coding::of(Some("zstd")), None);
    }
}
