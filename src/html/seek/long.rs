//! Tags and comments that are too long to be held: where they end, read piece by piece (HTML, 13.2.5).

use memchr::memchr;

use super::odd::{State, ends_name};

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
#[derive(Debug, Default)]
pub(in crate::html) struct Dashes {
    /// Two at most.
    count: u8,
    /// `--!`.
    bang: bool,
}

/// What it is.
pub(in crate::html) enum Kind<'p> {
    /// A start tag of this name.
    Start(&'p [u8]),
    /// An end tag.
    End,
    Comment,
}

impl Long {
    /// What begins with `page`. None where its name is too long as well.
    pub(in crate::html) fn begin(page: &[u8], in_foreign: bool) -> Option<(Self, Kind<'_>)> {
        let name = |from: usize| {
            let rest = page.get(from..)?;
            rest.get(..rest.iter().position(|byte| ends_name(*byte))?)
        };
        match page {
            [b'<', letter, ..] if letter.is_ascii_alphabetic() => {
                Some((Self::Tag(State::Tag), Kind::Start(name(1)?)))
            }
            [b'<', b'/', letter, ..] if letter.is_ascii_alphabetic() => {
                name(2).map(|_| (Self::Tag(State::Tag), Kind::End))
            }
            [b'<', b'!', b'-', b'-', ..] => Some((Self::Comment(Dashes::default()), Kind::Comment)),
            [b'<', b'!', b'[', ..] if in_foreign => Some((Self::Data(0), Kind::Comment)),
            _ => Some((Self::Other, Kind::Comment)),
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

impl Dashes {
    fn end_with(&mut self, byte: u8) -> bool {
        let two = self.count == 2;
        let ends = byte == b'>' && (two || self.bang);
        let bang = two && byte == b'!';
        let count = if byte == b'-' { 2.min(self.count + 1) } else { 0 };
        *self = Self { count, bang };
        ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where what begins with `page` ends, in pieces of `size` bytes.
    fn end(page: &str, size: usize) -> Option<(usize, bool)> {
        let (mut long, _) = Long::begin(page.as_bytes(), true)?;
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
            ("<!-- ->", None),
            ("<img a='", None),
        ] {
            for size in [1, 2, 3, 100] {
                assert_eq!(end(page, size), expected, "{page} {size}");
            }
        }
    }
}
