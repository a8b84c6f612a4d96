//! Which elements of a page an edit is about.

use std::fmt;

use encoding_rs::WINDOWS_1252;
use lol_html::Selector;

/// Which elements of a page.
pub struct Select {
    text: Box<str>,
    selector: Selector,
    once: bool,
    /// The same, where it is so plain that no parser is needed to find them.
    plain: Option<Vec<Path>>,
}

/// A way from an element that is around to the one that is meant.
pub(super) type Path = Vec<Compound>;

/// What is said of one element.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Compound {
    /// It is right inside the one before, and not only somewhere in it.
    pub(super) child: bool,
    pub(super) name: Option<Box<[u8]>>,
    pub(super) id: Option<Box<[u8]>>,
    pub(super) classes: Vec<Box<[u8]>>,
    pub(super) attributes: Vec<Attribute>,
}

/// The name of an attribute, and its value if that is said.
type Attribute = (Box<str>, Option<Box<[u8]>>);

impl Select {
    /// Compiles a CSS selector.
    ///
    /// # Errors
    /// What of it is not understood.
    pub fn parse(text: &str) -> Result<Self, String> {
        // The page's bytes are read as this encoding, whatever it is in: so is the selector.
        let (seen, _) = WINDOWS_1252.decode_without_bom_handling(text.as_bytes());
        let selector = seen.parse().map_err(|error| {
            format!("`{text}` is not a selector that works while a page streams through: {error}")
        })?;
        let plain = text.split(',').map(path).collect();
        Ok(Self { text: text.into(), selector, once: is_once(text), plain })
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The names of the elements that it can be about, in lower case. `None` where it does not say.
    #[must_use]
    pub fn elements(&self) -> Option<Vec<String>> {
        let named = |one: &str| match word(one)? {
            (name, rest) if !rest.starts_with('|') => Some(name.to_ascii_lowercase()),
            _ => None,
        };
        subjects(&self.text)?.into_iter().map(named).collect()
    }

    /// Whether all elements that it can be about have one of these attributes.
    #[must_use]
    pub fn has_one_of(&self, names: &[&str]) -> bool {
        let has = |attribute: &str| {
            word(attribute.trim_start()).is_some_and(|(name, rest)| {
                let is_known = names.iter().any(|known| name.eq_ignore_ascii_case(known));
                is_known && !rest.starts_with('|')
            })
        };
        let all = subjects(&self.text);
        all.is_some_and(|all| all.iter().all(|one| attributes(one).iter().any(|inner| has(inner))))
    }

    pub(super) fn selector(&self) -> &Selector {
        &self.selector
    }

    /// The ways to the elements, where these are so plain that no parser is needed.
    pub(super) fn plain(&self) -> Option<&[Path]> {
        self.plain.as_deref()
    }

    /// Whether a page has at most one such element.
    pub(super) fn is_once(&self) -> bool {
        self.once
    }
}

impl fmt::Debug for Select {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// An id is given once, and of these elements there is one.
fn is_once(selector: &str) -> bool {
    let last = selector.rsplit([' ', '>', '+', '~']).next().unwrap_or_default();
    !selector.contains(',')
        && !selector.contains([':', '"', '\''])
        && (last.contains('#') || matches!(last, "html" | "head" | "body"))
}

/// What a valid selector says of the elements themselves, for each of its alternatives. `None` where that is
/// not plain.
fn subjects(selector: &str) -> Option<Vec<&str>> {
    if selector.contains("/*") {
        return None;
    }
    let (mut all, mut from, mut depth, mut quote) = (Vec::new(), 0, 0_usize, None);
    let mut skips = false;
    for (at, char) in selector.char_indices() {
        if std::mem::take(&mut skips) {
            continue;
        }
        match (quote, char) {
            (Some(_), '\\') => skips = true,
            (None, '\\') => return None,
            (Some(own), char) => quote = Some(own).filter(|own| *own != char),
            (None, '"' | '\'') => quote = Some(char),
            (None, '(' | '[') => depth += 1,
            (None, ')' | ']') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => {
                all.push(selector.get(from..at)?.trim());
                from = at + 1;
            }
            // What is before is around the element, or beside it.
            (None, '>' | '+' | '~') if depth == 0 => from = at + 1,
            (None, char) if depth == 0 && char.is_ascii_whitespace() => {
                let rest = selector.get(at..)?.trim_start();
                if !rest.is_empty() && !rest.starts_with(',') {
                    from = at + 1;
                }
            }
            (None, _) => {}
        }
    }
    all.push(selector.get(from..)?.trim());
    Some(all)
}

/// What stands in the brackets of an element's attributes, up to its first pseudo-class.
fn attributes(subject: &str) -> Vec<&str> {
    let (mut all, mut from, mut quote) = (Vec::new(), None, None);
    for (at, char) in subject.char_indices() {
        match (quote, char) {
            (Some(own), char) => quote = Some(own).filter(|own| *own != char),
            (None, '"' | '\'') => quote = Some(char),
            (None, '[') => from = Some(at + 1),
            (None, ']') => all.extend(from.take().and_then(|from| subject.get(from..at))),
            (None, ':') if from.is_none() => break,
            (None, _) => {}
        }
    }
    all
}

/// A valid selector without commas, if it says nothing but what [`Compound`] knows.
fn path(text: &str) -> Option<Path> {
    let (mut path, mut child) = (Path::new(), false);
    let mut rest = text.trim_ascii();
    while !rest.is_empty() {
        let mut compound = Compound { child, ..Compound::default() };
        rest = read(rest, &mut compound)?;
        path.push(compound);
        let behind = rest.trim_ascii_start();
        let inside = behind.strip_prefix('>');
        if inside.is_none() && behind.len() == rest.len() && !rest.is_empty() {
            return None;
        }
        child = inside.is_some();
        rest = inside.unwrap_or(behind).trim_ascii_start();
    }
    (!path.is_empty()).then_some(path)
}

/// Reads one of them, and gives what follows.
fn read<'t>(text: &'t str, compound: &mut Compound) -> Option<&'t str> {
    let bytes = |word: &str| Box::from(word.as_bytes());
    let mut rest = match text.strip_prefix('*') {
        Some(rest) => rest,
        None => match word(text) {
            Some((name, rest)) => {
                compound.name = Some(bytes(name));
                rest
            }
            None => text,
        },
    };
    loop {
        if let Some(inner) = rest.strip_prefix('#') {
            let (id, behind) = word(inner)?;
            // Nothing has two.
            if compound.id.replace(bytes(id)).is_some() {
                return None;
            }
            rest = behind;
        } else if let Some(inner) = rest.strip_prefix('.') {
            let (class, behind) = word(inner)?;
            compound.classes.push(bytes(class));
            rest = behind;
        } else if let Some(inner) = rest.strip_prefix('[') {
            let (inner, behind) = inner.split_once(']')?;
            let (name, value) = match inner.split_once('=') {
                Some((name, value)) => (name, Some(bytes(quoted(name, value)?))),
                None => (inner, None),
            };
            word(name).filter(|(_, more)| more.is_empty())?;
            compound.attributes.push((name.to_ascii_lowercase().into(), value));
            rest = behind;
        } else {
            return (rest.len() < text.len()).then_some(rest);
        }
    }
}

/// The value of an attribute that is compared byte by byte: those of some others are not (HTML, Selectors:
/// case-sensitivity).
fn quoted<'t>(name: &str, value: &'t str) -> Option<&'t str> {
    let exact = name.starts_with("data-")
        || name.starts_with("aria-")
        || matches!(name, "href" | "src" | "name" | "role" | "itemprop" | "title");
    let bare = ['"', '\'']
        .iter()
        .find_map(|quote| value.strip_prefix(*quote).and_then(|inner| inner.strip_suffix(*quote)));
    let value = bare.or_else(|| word(value).filter(|(_, more)| more.is_empty()).map(|_| value))?;
    let plain = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\'' | b'\\');
    (exact && !value.is_empty() && value.bytes().all(plain)).then_some(value)
}

/// The name at the beginning of `text`, and what follows.
fn word(text: &str) -> Option<(&str, &str)> {
    let plain = |char: char| char.is_ascii_alphanumeric() || char == '-' || char == '_';
    let end = text.find(|char| !plain(char)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_that_match_once_are_known() {
        for (selector, once) in [
            ("#a", true),
            ("div#a.b", true),
            ("main > #a", true),
            ("body", true),
            ("#a p", false),
            ("a", false),
            ("#a, #b", false),
            ("[title='#a']", false),
        ] {
            assert_eq!(Select::parse(selector).unwrap().is_once(), once, "{selector}");
        }
        assert!(Select::parse("a:hover").unwrap_err().contains("a:hover"));
        assert!(Select::parse("").is_err());
    }

    #[test]
    fn selectors_say_which_elements_they_are_about() {
        for (selector, elements) in [
            ("a", Some("a")),
            ("nav > A.b, img[alt='a, b > c'] ", Some("a img")),
            ("div:not(.x, p) a:nth-child(2)", Some("a")),
            ("p>my-box#a", Some("my-box")),
            ("a , b", Some("a b")),
            ("#a", None),
            ("a .b", None),
            ("a, .b", None),
            ("*", None),
            ("[href='a']", None),
            ("a\\62 c", None),
            ("a/**/.b", None),
        ] {
            let got = Select::parse(selector).unwrap().elements();
            assert_eq!(got.map(|names| names.join(" ")).as_deref(), elements, "{selector}");
        }
        let names = ["name", "property"];
        for (selector, has) in [
            ("meta[name=description]", true),
            ("meta[property^='og:']", true),
            ("head meta[ NAME ]", true),
            ("meta[content='[name]']", false),
            ("meta[names]", false),
            ("meta:not([name])", false),
            ("meta[name], meta", false),
            ("[name] meta", false),
        ] {
            assert_eq!(Select::parse(selector).unwrap().has_one_of(&names), has, "{selector}");
        }
    }

    #[test]
    fn plain_selectors_are_taken_apart() {
        let name = |name: &str| Some(Box::from(name.as_bytes()));
        let select = Select::parse("nav#n.a.b > * .c, [data-x][href=\"/a b\"]").unwrap();
        let class = |one: &str| Box::from(one.as_bytes());
        let [first, second] = select.plain().unwrap() else { panic!("two") };
        assert_eq!(
            first,
            &[
                Compound {
                    name: name("nav"),
                    id: name("n"),
                    classes: vec![class("a"), class("b")],
                    ..Compound::default()
                },
                Compound { child: true, ..Compound::default() },
                Compound { classes: vec![class("c")], ..Compound::default() },
            ]
        );
        let attributes = vec![("data-x".into(), None), ("href".into(), name("/a b"))];
        assert_eq!(second, &[Compound { attributes, ..Compound::default() }]);
        for plain in ["h1", "a>b", "#a", "*", "my-box.a", "[data-x=y]", "H1"] {
            assert!(Select::parse(plain).unwrap().plain().is_some(), "{plain}");
        }
        // The parser knows better.
        for other in [
            "a:not(.b)",
            "p:nth-child(2)",
            "[type=a]",
            "[data-x='a' i]",
            "[data-x^=a]",
            "#\u{e9}",
            "a[data-x=',']",
        ] {
            assert!(Select::parse(other).unwrap().plain().is_none(), "{other}");
        }
    }
}
