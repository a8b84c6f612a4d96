//! One complaint about a configuration file, as an operator reads it.

use std::fmt;

use serde_saphyr::Location;

use super::shown::Shown;

/// A position in a file. Lines and columns count from 1; `width` is in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line.
    pub line: u64,
    /// Column.
    pub column: u64,
    /// How many characters the value has there.
    pub width: u64,
}

impl Place {
    /// The beginning of the file, for what can't be placed better.
    pub const START: Self = Self { line: 1, column: 1, width: 1 };

    /// `width` characters of this value's text, from `start` on: `text` is the file.
    pub(super) fn within(self, text: &str, start: usize, width: usize) -> Self {
        let line = usize::try_from(self.line).unwrap_or(1).saturating_sub(1);
        let column = usize::try_from(self.column).unwrap_or(1).saturating_sub(1);
        let first = text.lines().nth(line).and_then(|line| line.chars().nth(column));
        // In a block the text begins on a later line: the value's own place has to do.
        if matches!(first, Some('|' | '>')) {
            return self;
        }
        let quote = usize::from(matches!(first, Some('"' | '\'')));
        let shift = u64::try_from(start + quote).unwrap_or(0);
        Self { line: self.line, column: self.column + shift, width: (width as u64).max(1) }
    }

    pub(super) fn of(at: &Location) -> Self {
        Self { line: at.line(), column: at.column(), width: at.span().len().max(1) }
    }
}

/// What is wrong, where, and what was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pointer: String,
    place: Place,
    message: String,
}

impl Problem {
    /// A complaint about the value at `pointer` (RFC 6901).
    pub fn new(pointer: &str, place: Place, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), place, message: message.into() }
    }

    /// What it is about (RFC 6901).
    #[must_use]
    pub fn pointer(&self) -> &str {
        &self.pointer
    }

    /// What is wrong, and what was expected.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Where it is.
    #[must_use]
    pub fn place(&self) -> Place {
        self.place
    }

    /// Writes the complaint with the line it is about.
    pub(super) fn write(&self, out: &mut impl fmt::Write, name: &str, text: &str) -> fmt::Result {
        let Place { line, column, width } = self.place;
        write!(out, "{name}:{line}:{column}: ")?;
        let path = readable(&self.pointer);
        writeln!(out, "{}", if path.is_empty() { "(file)" } else { &path })?;
        writeln!(out, "  {}", self.message)?;
        let index = usize::try_from(line).unwrap_or(1).saturating_sub(1);
        let Some(source) = text.lines().nth(index) else { return Ok(()) };
        let number = line.to_string();
        let shown = source.chars().count() as u64;
        let room = shown.saturating_sub(column.saturating_sub(1)).max(1);
        let dashes = usize::try_from(width.min(room)).unwrap_or(1);
        let indent = usize::try_from(column.saturating_sub(1)).unwrap_or(0);
        writeln!(out, "  {number} | {source}")?;
        writeln!(out, "  {:w$} | {:indent$}{}", "", "", "^".repeat(dashes), w = number.len())
    }
}

/// `/sites/0/variations/1` → `sites[0].variations[1]`.
pub(super) fn readable(pointer: &str) -> String {
    let mut out = String::new();
    for part in pointer.split('/').skip(1) {
        if part.bytes().all(|byte| byte.is_ascii_digit()) && !part.is_empty() {
            out.push('[');
            out.push_str(part);
            out.push(']');
        } else {
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(&part.replace("~1", "/").replace("~0", "~"));
        }
    }
    out
}

/// All complaints about one file, in the order of the file.
#[derive(Debug, thiserror::Error)]
pub struct Problems {
    name: String,
    text: String,
    list: Vec<Problem>,
}

impl Problems {
    /// About the file `name`, of which no more than `shown` may be seen.
    pub(super) fn new(name: &str, shown: &Shown, list: &[Problem]) -> Self {
        let mut list: Vec<_> = list.iter().map(|problem| shown.clean(problem)).collect();
        list.sort_by_key(|problem| (problem.place, problem.message.clone()));
        list.dedup();
        Self { name: name.into(), text: shown.text.clone(), list }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All of them as warnings, for people: each with the line that it is about.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        for problem in &self.list {
            out.push_str("warning: ");
            // Writing to a String can't fail.
            let _ = problem.write(&mut out, &self.name, &self.text);
        }
        out
    }

    /// The complaints.
    #[must_use]
    pub fn list(&self) -> &[Problem] {
        &self.list
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.list {
            problem.write(f, &self.name, &self.text)?;
        }
        let count = self.list.len();
        write!(f, "{}: {count} problem{}", self.name, if count == 1 { "" } else { "s" })
    }
}
