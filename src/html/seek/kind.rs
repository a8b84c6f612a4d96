//! Elements by the way that they are read (HTML, 13.2.6).

use super::super::tree::Name;

/// How an element is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Usual,
    /// Nothing can be in it.
    Void,
    /// What is in it is text up to the end tag of this name.
    Text(&'static str),
    Svg,
    /// In ways that are left to the parser.
    Strange,
}

impl Kind {
    /// Of the elements of this name.
    #[inline]
    pub(super) fn of(name: Name) -> Self {
        let traits = name.traits();
        match name {
            Name::Svg => Self::Svg,
            Name::Math | Name::Plaintext => Self::Strange,
            _ if traits.is_void() => Self::Void,
            _ if traits.is_text() => Self::Text(name.text()),
            _ => Self::Usual,
        }
    }
}

/// Whether elements of this name are plain in a picture: they do not end it, and what is in them is read as
/// the rest of it (HTML, 13.2.6.5).
pub(super) fn is_plain_in_svg(name: &[u8]) -> bool {
    const OTHERS: [&str; 51] = [
        "svg",
        "math",
        "title",
        "desc",
        "foreignobject",
        "font",
        "b",
        "big",
        "blockquote",
        "body",
        "br",
        "center",
        "code",
        "dd",
        "div",
        "dl",
        "dt",
        "em",
        "embed",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "head",
        "hr",
        "i",
        "img",
        "li",
        "listing",
        "menu",
        "meta",
        "nobr",
        "ol",
        "p",
        "pre",
        "ruby",
        "s",
        "small",
        "span",
        "strong",
        "strike",
        "sub",
        "sup",
        "table",
        "tt",
        "u",
        "ul",
        "var",
        "script",
    ];
    !OTHERS.iter().any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
}

/// The name of an element of a picture in which there is text for those who do not see it.
pub(super) fn label(name: &[u8]) -> Option<&'static str> {
    ["title", "desc"].into_iter().find(|label| name.eq_ignore_ascii_case(label.as_bytes()))
}
