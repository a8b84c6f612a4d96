//! Our own scripts, made for pages.

use std::sync::Arc;

/// Takes comments, indents and empty lines out. Line ends stay, so the script's meaning does.
#[must_use]
pub fn minify(source: &str) -> String {
    let lines =
        source.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// A script for one visitor. What everybody gets is shared: pages of many visitors hold it once.
#[derive(Debug, Clone, Default)]
pub struct Script {
    /// Begins the same for everybody, each followed by what is the visitor's own.
    fixed: Arc<[Box<str>]>,
    own: String,
}

impl Script {
    /// Each of `fixed`, with `own` behind it.
    #[must_use]
    pub fn new(fixed: Arc<[Box<str>]>, own: String) -> Self {
        Self { fixed, own }
    }

    /// Its length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fixed.iter().map(|fixed| fixed.len() + self.own.len()).sum()
    }

    /// Whether there is nothing to run.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its text, in pieces.
    pub fn pieces(&self) -> impl Iterator<Item = &str> {
        self.fixed.iter().flat_map(|fixed| [&**fixed, &*self.own])
    }

    /// Its text in one piece.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(self.len());
        text.extend(self.pieces());
        text
    }
}

impl From<&str> for Script {
    fn from(text: &str) -> Self {
        Self::new([text.into()].into(), String::new())
    }
}

/// JSON as it may stand in a script element in any ASCII-compatible encoding: what could end the
/// script or start a comment occurs in JSON inside strings alone, where an escape means the same.
pub fn push_script_json(out: &mut String, json: &str) {
    use std::fmt::Write;
    let mut rest = json;
    // Nearly all of it is plain.
    while let Some(at) = rest.bytes().position(|byte| matches!(byte, b'<' | b'>' | b'&' | 0x7f..)) {
        let (plain, behind) = rest.split_at(at);
        out.push_str(plain);
        let mut chars = behind.chars();
        if let Some(char) = chars.next() {
            let mut units = [0; 2];
            for unit in char.encode_utf16(&mut units) {
                // Writing to a String can't fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
}
