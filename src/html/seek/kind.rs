//! Elements by the way that they are read (HTML, 13.2.6; the lists are the parser's).

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

/// Elements that are not usual. All others are.
const UNUSUAL: [(&str, Kind); 29] = [
    ("script", Kind::Text("script")),
    ("img", Kind::Void),
    ("br", Kind::Void),
    ("link", Kind::Void),
    ("meta", Kind::Void),
    ("input", Kind::Void),
    ("hr", Kind::Void),
    ("svg", Kind::Svg),
    ("source", Kind::Void),
    ("style", Kind::Text("style")),
    ("title", Kind::Text("title")),
    ("textarea", Kind::Text("textarea")),
    ("noscript", Kind::Text("noscript")),
    ("iframe", Kind::Text("iframe")),
    ("area", Kind::Void),
    ("base", Kind::Void),
    ("basefont", Kind::Void),
    ("bgsound", Kind::Void),
    ("col", Kind::Void),
    ("embed", Kind::Void),
    ("keygen", Kind::Void),
    ("param", Kind::Void),
    ("track", Kind::Void),
    ("wbr", Kind::Void),
    ("xmp", Kind::Text("xmp")),
    ("noembed", Kind::Text("noembed")),
    ("noframes", Kind::Text("noframes")),
    ("math", Kind::Strange),
    ("plaintext", Kind::Strange),
];

/// How long their names are: a bit for each length, by the first letter.
static LENGTHS: [u32; 32] = {
    let mut lengths = [0; 32];
    let mut index = 0;
    while index < UNUSUAL.len() {
        #[expect(clippy::indexing_slicing, reason = "while compiling")]
        {
            let name = UNUSUAL[index].0.as_bytes();
            lengths[(name[0] & 0x1f) as usize] |= 1 << name.len();
        }
        index += 1;
    }
    lengths
};

impl Kind {
    /// Of the elements of this name.
    #[inline]
    pub(super) fn of(name: &[u8]) -> Self {
        let lengths = name.first().and_then(|first| LENGTHS.get(usize::from(first & 0x1f)));
        if lengths.is_none_or(|lengths| lengths & (1 << name.len().min(31)) == 0) {
            return Self::Usual;
        }
        let is = |(own, _): &&(&str, Self)| name.eq_ignore_ascii_case(own.as_bytes());
        UNUSUAL.iter().find(is).map_or(Self::Usual, |(_, kind)| *kind)
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
