//! Tags and comments that are too long to be held: where they end, read piece by piece (HTML, 13.2.5).

use memchr::memchr;

use super::odd::{State, ends_name};

/// A longer tag or comment is not held, in bytes: what is in it is not looked at.
pub(in crate::html) const MAX_HELD: usize = 256 * 1024;
/// What is longer is not read anew with every piece of it that comes.
const LONG: usize = 4096;
/// Names are compared up to here.
const MAX_NAME: usize = 1024;

/// Bytes of something that has begun and is not all there.
#[derive(Debug, Default)]
pub(in crate::html) struct Held {
    bytes: Vec<u8>,
    /// What finds its end, once it is long.
    ends: Option<Long>,
}

/// Something that has begun and is too long.
#[derive(Debug)]
pub(in crate::html) enum Long {
    Tag(State),
    Comment(Dashes),
    /// `<![CDATA[`, in a picture or a formula: so many brackets have come, two at most.
    Data(u8),
    /// `<!` and `<?` without more.
    Other,
}

/// What has come of a comment's end.
#[derive(Debug)]
pub(in crate::html) struct Dashes {
    /// So many bytes are still of its beginning.
    opening: u8,
    /// Two at most.
    count: u8,
    /// `--!`.
    bang: bool,
}

/// What it is.
pub(in crate::html) enum Kind<'p> {
    /// A start tag of this name.
    Start(&'p [u8]),
    /// An end tag of this name.
    End(&'p [u8]),
    Comment,
}

impl Held {
    /// Whether what is held is long and does not end in `bytes`, which are held as well then.
    pub(in crate::html) fn waits(&mut self, bytes: &[u8]) -> bool {
        let Self { bytes: held, ends } = self;
        if !(LONG..MAX_HELD).contains(&held.len()) || held.len() + bytes.len() >= MAX_HELD {
            return false;
        }
        let long = ends.get_or_insert_with(|| {
            let (mut long, _) = Long::begin(held, false);
            let _ = long.read(held);
            long
        });
        let waits = long.read(bytes).is_none();
        if waits {
            held.extend_from_slice(bytes);
        }
        waits
    }

    /// What is held, and no more from here on.
    pub(in crate::html) fn take(&mut self) -> Vec<u8> {
        self.ends = None;
        std::mem::take(&mut self.bytes)
    }

    /// Holds `bytes`.
    pub(in crate::html) fn hold(&mut self, bytes: &[u8]) {
        self.bytes = bytes.to_vec();
    }

    pub(in crate::html) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(in crate::html) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl Long {
    /// What begins with `page`. Of a very long name the beginning counts.
    pub(in crate::html) fn begin(page: &[u8], in_foreign: bool) -> (Self, Kind<'_>) {
        let name = |from: usize| {
            let rest = page.get(from..).unwrap_or_default();
            let rest = rest.get(..MAX_NAME).unwrap_or(rest);
            let length = rest.iter().position(|byte| ends_name(*byte)).unwrap_or(rest.len());
            rest.get(..length).unwrap_or_default()
        };
        match page {
            [b'<', letter, ..] if letter.is_ascii_alphabetic() => {
                (Self::Tag(State::Tag), Kind::Start(name(1)))
            }
            [b'<', b'/', letter, ..] if letter.is_ascii_alphabetic() => {
                (Self::Tag(State::Tag), Kind::End(name(2)))
            }
            [b'<', b'!', b'-', b'-', ..] => (Self::Comment(Dashes::default()), Kind::Comment),
            _ if in_foreign && page.starts_with(b"<![CDATA[") => (Self::Data(0), Kind::Comment),
            _ => (Self::Other, Kind::Comment),
        }
    }

    /// Reads the next `bytes`: where it ends in there, and whether it is a tag that closes itself.
    pub(in crate::html) fn read(&mut self, bytes: &[u8]) -> Option<(usize, bool)> {
        if let Self::Other = self {
            return memchr(b'>', bytes).map(|end| (end + 1, false));
        }
        bytes
            .iter()
            .enumerate()
            .find_map(|(index, byte)| self.ends_with(*byte).map(|closes| (index + 1, closes)))
    }

    fn ends_with(&mut self, byte: u8) -> Option<bool> {
        match self {
            Self::Tag(state) => {
                *state = state.after(byte);
                match state {
                    State::End { closes } => Some(*closes),
                    _ => None,
                }
            }
            Self::Comment(dashes) => dashes.end_with(byte).then_some(false),
            Self::Data(brackets) => {
                let ends = *brackets == 2 && byte == b'>';
                *brackets = if byte == b']' { 2.min(*brackets + 1) } else { 0 };
                ends.then_some(false)
            }
            Self::Other => (byte == b'>').then_some(false),
        }
    }
}

impl Default for Dashes {
    fn default() -> Self {
        Self { opening: 4, count: 0, bang: false }
    }
}

impl Dashes {
    fn end_with(&mut self, byte: u8) -> bool {
        if self.opening > 0 {
            self.opening -= 1;
            return false;
        }
        let two = self.count == 2;
        let ends = byte == b'>' && (two || self.bang);
        let bang = two && byte == b'!';
        let count = if byte == b'-' { 2.min(self.count + 1) } else { 0 };
        *self = Self { opening: 0, count, bang };
        ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where what begins with `page` ends, in pieces of `size` bytes.
    fn end(page: &str, size: usize) -> Option<(usize, bool)> {
        let (mut long, _) = Long::begin(page.as_bytes(), true);
        let mut before = 0;
        for piece in page.as_bytes().chunks(size) {
            if let Some((end, closes)) = long.read(piece) {
                return Some((before + end, closes));
            }
            before += piece.len();
        }
        None
    }

    #[test]
    fn they_end_where_the_tokenizer_ends_them() {
        for (page, expected) in [
            ("<img a='>' b=\">\" c=d>x", Some((21, false))),
            ("<img a=x/>x", Some((10, false))),
            ("<img a='x'/>x", Some((12, true))),
            ("</b a='>'>x", Some((10, false))),
            ("<!-- > -- > - -->x", Some((17, false))),
            ("<!-- --!>x", Some((9, false))),
            ("<!-- --->x", Some((9, false))),
            ("<![CDATA[ ]> ]]>x", Some((16, false))),
            ("<?x y>x", Some((6, false))),
            ("<!--!> -->x", Some((10, false))),
            ("<!---!> -->x", Some((11, false))),
            ("<![x > ]]>", Some((6, false))),
            ("<!-- ->", None),
            ("<img a='", None),
        ] {
            for size in [1, 2, 3, 100] {
                assert_eq!(end(page, size), expected, "{page} {size}");
            }
        }
    }
}
