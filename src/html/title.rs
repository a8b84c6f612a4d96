//! The title of a page, read while the page streams through.

use encoding_rs::{Encoding, UTF_8};
use memchr::memmem;

/// A title on its way.
pub struct Title {
    encoding: &'static Encoding,
    /// The page's beginning, until the title has been found.
    read: Vec<u8>,
    found: Option<String>,
    over: bool,
}

/// A title that comes later than this is none.
const MAX_BYTES: usize = 64 * 1024;
const MAX_CHARS: usize = 512;

impl Title {
    /// Of a page whose Content-Type names `charset`.
    #[must_use]
    pub fn new(charset: Option<&str>) -> Self {
        let encoding = charset.and_then(|label| Encoding::for_label(label.as_bytes()));
        Self { encoding: encoding.unwrap_or(UTF_8), read: Vec::new(), found: None, over: false }
    }

    /// Reads the page's next `bytes`, before anything is put in.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.over {
            return;
        }
        let room = MAX_BYTES.saturating_sub(self.read.len()).min(bytes.len());
        self.read.extend_from_slice(bytes.get(..room).unwrap_or_default());
        self.found = self.find();
        self.over = self.found.is_some() || self.read.len() >= MAX_BYTES;
        if self.over {
            self.read = Vec::new();
        }
    }

    /// The title, once it has been read. White space is one space.
    #[must_use]
    pub fn get(&self) -> Option<&str> {
        self.found.as_deref()
    }

    fn find(&self) -> Option<String> {
        let lower = self.read.to_ascii_lowercase();
        let mut from = 0;
        let start = loop {
            let at = from + memmem::find(lower.get(from..)?, b"<title")? + b"<title".len();
            match lower.get(at)? {
                b'>' | b' ' | b'\t' | b'\r' | b'\n' => break at,
                // Some other element, such as `<titles>`.
                _ => from = at,
            }
        };
        let start = start + memmem::find(lower.get(start..)?, b">")? + 1;
        let end = start + memmem::find(lower.get(start..)?, b"</title")?;
        let (text, _, _) = self.encoding.decode(self.read.get(start..end)?);
        let text = html_escape::decode_html_entities(&text);
        let words: Vec<&str> = text.split_whitespace().collect();
        let title: String = words.join(" ").chars().take(MAX_CHARS).collect();
        (!title.is_empty()).then_some(title)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn title(page: &[u8], size: usize, charset: Option<&str>) -> Option<String> {
        let mut title = Title::new(charset);
        page.chunks(size).for_each(|chunk| title.push(chunk));
        title.get().map(str::to_owned)
    }

    #[test]
    fn titles_are_read_whatever_the_chunks() {
        for (page, expected) in [
            ("<html><head><title>Caf\u{e9} &amp; \n  more</title>", Some("Caf\u{e9} & more")),
            ("<TITLE lang=en>a</TITLE>", Some("a")),
            ("<titles>x</titles><title>b</title>", Some("b")),
            ("<title></title>", None),
            ("<title>never ends", None),
            ("no title", None),
        ] {
            for size in [1, 3, 1000] {
                assert_eq!(
                    title(page.as_bytes(), size, None).as_deref(),
                    expected,
                    "{page} {size}"
                );
            }
        }
        let latin = b"<title>Caf\xe9</title>";
        assert_eq!(title(latin, 4, Some("iso-8859-1")).as_deref(), Some("Caf\u{e9}"));
        let late = [vec![b' '; MAX_BYTES], b"<title>x</title>".to_vec()].concat();
        assert_eq!(title(&late, 1000, None), None);
    }
}
