//! Changes of a page's elements, and what makes a value safe for the place where it lands.

use std::fmt;
use std::sync::Arc;

use lol_html::send::Element;

use super::select::Select;

/// What is done to them.
#[derive(Clone)]
pub struct Edit {
    /// To these.
    pub select: Arc<Select>,
    /// That.
    pub changes: Vec<Change>,
    /// A script keeps it that way while a framework makes the page anew.
    pub keep: bool,
    /// To the first alone.
    pub first: bool,
    /// Only in the page that was chosen for the visitor, and not in the one that everybody gets where that
    /// one fails.
    pub of_page: bool,
}

/// One change of an element. Texts are as they are meant: they are escaped where they land.
#[derive(Clone)]
pub enum Change {
    /// Its content becomes this text.
    Text(Arc<str>),
    /// Its content becomes this markup.
    Html(Arc<str>),
    /// The content of a script element with data becomes this JSON.
    Json(Arc<str>),
    /// An attribute.
    Attribute(Arc<str>, Arc<str>),
    /// An attribute less.
    NoAttribute(Arc<str>),
    /// Classes, separated by spaces.
    Class(Arc<str>),
    /// Classes less, separated by spaces.
    NoClass(Arc<str>),
    /// A property of its style.
    Style(Arc<str>, Arc<str>),
    /// Nobody sees it.
    Hide,
    /// It is not there.
    Remove,
    /// Markup before it.
    Before(Arc<str>),
    /// Markup at its beginning.
    Prepend(Arc<str>),
    /// Markup at its end.
    Append(Arc<str>),
    /// Markup behind it.
    After(Arc<str>),
    /// Its relative links are relative to this folder, which ends with a slash.
    LinksFrom(Arc<str>),
    /// Whatever a Rust function does.
    Custom(Custom),
}

/// What a Rust function does to an element. It must leave ASCII alone: pages are in any encoding.
pub type Custom = Arc<dyn Fn(&mut Element<'_, '_>) + Send + Sync>;

impl Edit {
    /// `changes` of all elements that `select` finds.
    #[must_use]
    pub fn new(select: Arc<Select>, changes: Vec<Change>) -> Self {
        Self { select, changes, keep: false, first: false, of_page: false }
    }

    /// Whether it is about one element alone.
    pub(super) fn is_once(&self) -> bool {
        self.first || self.select.is_once()
    }
}

impl Change {
    /// Whether something is done where the element ends.
    pub(super) fn needs_end(&self) -> bool {
        matches!(
            self,
            Self::Text(_)
                | Self::Html(_)
                | Self::Json(_)
                | Self::Remove
                | Self::Append(_)
                | Self::After(_)
                | Self::Custom(_)
        )
    }
}

impl fmt::Debug for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is put in may be personal.
        write!(f, "Edit({})", self.select.as_str())
    }
}

/// Text as it may stand between tags and in quoted attributes, in every ASCII-compatible encoding.
#[must_use]
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // No text in HTML, and refused as a reference as well.
            '\0' => out.push_str("&#65533;"),
            // Others would change what follows in encodings that have states (ISO-2022-JP).
            plain if matches!(plain, ' '..='~' | '\t' | '\n') => out.push(plain),
            other => push_reference(&mut out, other),
        }
    }
    out
}

/// Text as it may stand anywhere in markup that a value may, also in an attribute without quotes.
pub(super) fn escape_everywhere(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for char in text.chars() {
        match char {
            plain if plain.is_ascii_alphanumeric() || matches!(plain, '-' | '_' | '.' | ',') => {
                out.push(plain);
            }
            '\0' => out.push_str("&#65533;"),
            other => push_reference(&mut out, other),
        }
    }
    out
}

/// Markup in every ASCII-compatible encoding: what is not ASCII becomes a reference.
#[must_use]
pub(super) fn as_ascii(markup: &str) -> String {
    let mut out = String::with_capacity(markup.len());
    for char in markup.chars() {
        if char.is_ascii() { out.push(char) } else { push_reference(&mut out, char) }
    }
    out
}

fn push_reference(out: &mut String, char: char) {
    use fmt::Write;
    // Writing to a String can't fail.
    let _ = write!(out, "&#{};", u32::from(char));
}

/// Whether `value` can be the value of a property and nothing else: no second property, no rule, no
/// address.
#[must_use]
pub(super) fn is_safe_style(value: &str) -> bool {
    let plain = |char: char| char.is_ascii_alphanumeric() || " #%.,()-+*/_".contains(char);
    let lower = value.to_ascii_lowercase();
    let open = value.matches('(').count();
    value.len() <= 200
        && !value.trim().is_empty()
        && value.chars().all(plain)
        && open == value.matches(')').count()
        && !["url", "image", "expression", "attr", "//", "/*", "*/"]
            .iter()
            .any(|wrong| lower.contains(wrong))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_harmless_where_they_land() {
        assert_eq!(escape("<a b='c'>&\u{e9}"), "&lt;a b=&#39;c&#39;&gt;&amp;&#233;");
        assert_eq!(escape_everywhere("a b=\"`"), "a&#32;b&#61;&#34;&#96;");
        assert_eq!(escape("\u{1b}$B\r\n\u{7f}"), "&#27;$B&#13;\n&#127;");
        assert_eq!(as_ascii("<b>\u{1f600}</b>"), "<b>&#128512;</b>");
        for safe in ["red", "#fff", "rgb(1, 2, 3)", "calc(1px + 2%)", "12px"] {
            assert!(is_safe_style(safe), "{safe}");
        }
        for wrong in [
            "",
            "red; background: url(//evil)",
            "url(//evil)",
            "red}body{display:none",
            "expression(alert(1))",
            "\\75rl(x)",
            "red/*",
            "((",
            "red\"",
            "a\nb",
            "image-set('x')",
        ] {
            assert!(!is_safe_style(wrong), "{wrong}");
        }
    }
}
