//! The elements that browsers treat in ways of their own, and what is special about each (HTML, 13.2.4 and 13.2.6).

/// What is said of an element by its name alone.
pub(in super::super) struct Traits(u16);

/// Nothing can be in it.
const VOID: u16 = 1;
/// What is in it is text, up to its end tag.
const TEXT: u16 = 1 << 1;
/// "Special" (13.2.4.2).
const SPECIAL: u16 = 1 << 2;
/// It ends a paragraph that is open.
const ENDS_P: u16 = 1 << 3;
/// Its end tag ends all that is open in it.
const BLOCK: u16 = 1 << 4;
/// Formatting (13.2.4.3).
const FORMAT: u16 = 1 << 5;
const HEADING: u16 = 1 << 6;
/// Elements outside are out of scope in it.
const SCOPE: u16 = 1 << 7;
/// It ends with what it is in, without an end tag.
const IMPLIED: u16 = 1 << 8;
/// It stands in a head.
const HEAD: u16 = 1 << 9;
/// A part of a table.
const TABLE: u16 = 1 << 10;
/// It can't stand in a picture or a formula, and ends it (13.2.6.5).
const BREAKS: u16 = 1 << 11;

macro_rules! names {
    ($($name:ident $text:literal $traits:expr;)*) => {
        /// The name of an element.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub(in super::super) enum Name { $($name,)* /** Any other. */ Other }

        const ALL: &[(&str, Name, u16)] = &[$(($text, Name::$name, $traits),)*];
    };
}

names! {
    A "a" FORMAT;
    Address "address" SPECIAL | ENDS_P | BLOCK;
    Applet "applet" SPECIAL | SCOPE | BLOCK;
    Area "area" SPECIAL | VOID;
    Article "article" SPECIAL | ENDS_P | BLOCK;
    Aside "aside" SPECIAL | ENDS_P | BLOCK;
    B "b" FORMAT | BREAKS;
    Base "base" SPECIAL | VOID | HEAD;
    Basefont "basefont" SPECIAL | VOID | HEAD;
    Bgsound "bgsound" SPECIAL | VOID | HEAD;
    Big "big" FORMAT | BREAKS;
    Blockquote "blockquote" SPECIAL | ENDS_P | BLOCK | BREAKS;
    Body "body" SPECIAL | BREAKS;
    Br "br" SPECIAL | VOID | BREAKS;
    Button "button" SPECIAL | BLOCK;
    Caption "caption" SPECIAL | SCOPE | TABLE;
    Center "center" SPECIAL | ENDS_P | BLOCK | BREAKS;
    Code "code" FORMAT | BREAKS;
    Col "col" SPECIAL | VOID | TABLE;
    Colgroup "colgroup" SPECIAL | TABLE;
    Dd "dd" SPECIAL | ENDS_P | IMPLIED | BREAKS;
    Details "details" SPECIAL | ENDS_P | BLOCK;
    Dialog "dialog" ENDS_P | BLOCK;
    Dir "dir" SPECIAL | ENDS_P | BLOCK;
    Div "div" SPECIAL | ENDS_P | BLOCK | BREAKS;
    Dl "dl" SPECIAL | ENDS_P | BLOCK | BREAKS;
    Dt "dt" SPECIAL | ENDS_P | IMPLIED | BREAKS;
    Em "em" FORMAT | BREAKS;
    Embed "embed" SPECIAL | VOID | BREAKS;
    Fieldset "fieldset" SPECIAL | ENDS_P | BLOCK;
    Figcaption "figcaption" SPECIAL | ENDS_P | BLOCK;
    Figure "figure" SPECIAL | ENDS_P | BLOCK;
    Font "font" FORMAT;
    Footer "footer" SPECIAL | ENDS_P | BLOCK;
    Form "form" SPECIAL | ENDS_P;
    Frame "frame" SPECIAL | VOID;
    Frameset "frameset" SPECIAL;
    H1 "h1" SPECIAL | ENDS_P | HEADING | BREAKS;
    H2 "h2" SPECIAL | ENDS_P | HEADING | BREAKS;
    H3 "h3" SPECIAL | ENDS_P | HEADING | BREAKS;
    H4 "h4" SPECIAL | ENDS_P | HEADING | BREAKS;
    H5 "h5" SPECIAL | ENDS_P | HEADING | BREAKS;
    H6 "h6" SPECIAL | ENDS_P | HEADING | BREAKS;
    Head "head" SPECIAL | BREAKS;
    Header "header" SPECIAL | ENDS_P | BLOCK;
    Hgroup "hgroup" SPECIAL | ENDS_P | BLOCK;
    Hr "hr" SPECIAL | ENDS_P | VOID | BREAKS;
    Html "html" SPECIAL | SCOPE;
    I "i" FORMAT | BREAKS;
    Iframe "iframe" SPECIAL | TEXT;
    Img "img" SPECIAL | VOID | BREAKS;
    Input "input" SPECIAL | VOID;
    Keygen "keygen" SPECIAL | VOID;
    Li "li" SPECIAL | ENDS_P | IMPLIED | BREAKS;
    Link "link" SPECIAL | VOID | HEAD;
    Listing "listing" SPECIAL | ENDS_P | BLOCK | BREAKS;
    Main "main" SPECIAL | ENDS_P | BLOCK;
    Marquee "marquee" SPECIAL | SCOPE | BLOCK;
    Math "math" 0;
    Menu "menu" SPECIAL | ENDS_P | BLOCK | BREAKS;
    Meta "meta" SPECIAL | VOID | HEAD | BREAKS;
    Nav "nav" SPECIAL | ENDS_P | BLOCK;
    Nobr "nobr" FORMAT | BREAKS;
    Noembed "noembed" SPECIAL | TEXT;
    Noframes "noframes" SPECIAL | TEXT | HEAD;
    Noscript "noscript" SPECIAL | TEXT | HEAD;
    Object "object" SPECIAL | SCOPE | BLOCK;
    Ol "ol" SPECIAL | ENDS_P | BLOCK | BREAKS;
    Optgroup "optgroup" IMPLIED;
    Option "option" IMPLIED;
    P "p" SPECIAL | ENDS_P | IMPLIED | BREAKS;
    Param "param" SPECIAL | VOID;
    Plaintext "plaintext" SPECIAL | ENDS_P;
    Pre "pre" SPECIAL | ENDS_P | BLOCK | BREAKS;
    Rb "rb" IMPLIED;
    Rp "rp" IMPLIED;
    Rt "rt" IMPLIED;
    Rtc "rtc" IMPLIED;
    Ruby "ruby" BREAKS;
    S "s" FORMAT | BREAKS;
    Script "script" SPECIAL | TEXT | HEAD;
    Search "search" SPECIAL | ENDS_P | BLOCK;
    Section "section" SPECIAL | ENDS_P | BLOCK;
    Select "select" SPECIAL | SCOPE | BLOCK;
    Small "small" FORMAT | BREAKS;
    Source "source" SPECIAL | VOID;
    Span "span" BREAKS;
    Strike "strike" FORMAT | BREAKS;
    Strong "strong" FORMAT | BREAKS;
    Style "style" SPECIAL | TEXT | HEAD;
    Sub "sub" BREAKS;
    Summary "summary" SPECIAL | ENDS_P | BLOCK;
    Sup "sup" BREAKS;
    Svg "svg" 0;
    Table "table" SPECIAL | SCOPE | BREAKS;
    Tbody "tbody" SPECIAL | TABLE;
    Td "td" SPECIAL | SCOPE | TABLE;
    Template "template" SPECIAL | SCOPE | HEAD;
    Textarea "textarea" SPECIAL | TEXT;
    Tfoot "tfoot" SPECIAL | TABLE;
    Th "th" SPECIAL | SCOPE | TABLE;
    Thead "thead" SPECIAL | TABLE;
    Title "title" SPECIAL | TEXT | HEAD;
    Tr "tr" SPECIAL | TABLE;
    Track "track" SPECIAL | VOID;
    Tt "tt" FORMAT | BREAKS;
    U "u" FORMAT | BREAKS;
    Ul "ul" SPECIAL | ENDS_P | BLOCK | BREAKS;
    Var "var" BREAKS;
    Wbr "wbr" SPECIAL | VOID;
    Xmp "xmp" SPECIAL | ENDS_P | TEXT;
}

const SLOTS: usize = 512;

/// Where a name is in the table: the first of the slots that it may be in.
const fn slot(first: u8, last: u8, length: usize) -> usize {
    let (first, last) = ((first & 0x1f) as usize, (last & 0x1f) as usize);
    (first * 17 + last * 5 + length * 37) % SLOTS
}

/// Their numbers in the list, each in the first free slot; one more than the list has where there is none.
#[expect(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "while compiling")]
static TABLE_OF_NAMES: [u8; SLOTS] = {
    let mut table = [ALL.len() as u8; SLOTS];
    let mut index = 0;
    while index < ALL.len() {
        let name = ALL[index].0.as_bytes();
        let mut at = slot(name[0], name[name.len() - 1], name.len());
        while table[at] < ALL.len() as u8 {
            at = (at + 1) % SLOTS;
        }
        table[at] = index as u8;
        index += 1;
    }
    table
};

impl Name {
    /// Of an element that is called that, in letters of either case.
    #[inline]
    pub(in super::super) fn of(text: &[u8]) -> Self {
        let (Some(first), Some(last)) = (text.first(), text.last()) else { return Self::Other };
        let mut at = slot(*first, *last, text.len());
        // A slot is empty before long: there are four times as many as names.
        while let Some((name, own, _)) =
            TABLE_OF_NAMES.get(at).and_then(|index| ALL.get(usize::from(*index)))
        {
            if text.eq_ignore_ascii_case(name.as_bytes()) {
                return *own;
            }
            at = (at + 1) % SLOTS;
        }
        Self::Other
    }

    /// In lower case. Empty where it is any other.
    pub(in super::super) fn text(self) -> &'static str {
        ALL.get(self as usize).map_or("", |(text, _, _)| text)
    }

    #[inline]
    pub(in super::super) fn traits(self) -> Traits {
        Traits(ALL.get(self as usize).map_or(0, |(_, _, traits)| *traits))
    }
}

impl Traits {
    const fn has(&self, one: u16) -> bool {
        self.0 & one != 0
    }
    /// Nothing can be in it.
    pub(in super::super) const fn is_void(&self) -> bool {
        self.has(VOID)
    }
    /// What is in it is text.
    pub(in super::super) const fn is_text(&self) -> bool {
        self.has(TEXT)
    }
    pub(super) const fn is_special(&self) -> bool {
        self.has(SPECIAL)
    }
    pub(super) const fn ends_p(&self) -> bool {
        self.has(ENDS_P)
    }
    pub(super) const fn is_block(&self) -> bool {
        self.has(BLOCK)
    }
    pub(super) const fn is_format(&self) -> bool {
        self.has(FORMAT)
    }
    pub(super) const fn is_heading(&self) -> bool {
        self.has(HEADING)
    }
    pub(super) const fn is_scope(&self) -> bool {
        self.has(SCOPE)
    }
    pub(super) const fn is_implied(&self) -> bool {
        self.has(IMPLIED)
    }
    pub(super) const fn is_of_head(&self) -> bool {
        self.has(HEAD)
    }
    pub(super) const fn is_of_table(&self) -> bool {
        self.has(TABLE)
    }
    pub(super) const fn breaks_out(&self) -> bool {
        self.has(BREAKS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_either_case() {
        for (text, name, _) in ALL {
            assert_eq!(Name::of(text.as_bytes()), *name);
            assert_eq!(Name::of(text.to_uppercase().as_bytes()), *name);
            assert_eq!(name.text(), *text);
        }
        for other in ["", "x", "my-box", "path", "tdd", "hi"] {
            assert_eq!(Name::of(other.as_bytes()), Name::Other, "{other}");
        }
        assert!(Name::Br.traits().is_void() && !Name::Other.traits().is_special());
    }
}
