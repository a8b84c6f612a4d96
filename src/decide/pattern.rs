//! Which pages something is about: `/pricing`, `/blog/*`, `/shop/**`, `/products/{id}`.

use std::collections::HashMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use smallvec::SmallVec;

/// A page's path, some parts of which may be open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutePattern {
    text: Box<str>,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// Exactly this, decoded.
    Literal(Box<str>),
    /// Any one part.
    One(Option<Box<str>>),
    /// All that follows, also nothing.
    Rest(Option<Box<str>>),
}

/// Why text is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Not a path.
    #[error(
        "expected a path such as `/pricing`, `/blog/*`, `/shop/**` or `/products/{{id}}`, found `{0}`"
    )]
    NotAPath(String),
    /// `**` in the middle.
    #[error("`**` stands for all that follows: it can only be the last part of `{0}`")]
    RestInTheMiddle(String),
    /// `a*`.
    #[error("`*` stands for a whole part, in `{0}` it stands for a piece of one")]
    Piece(String),
    /// `{9}`.
    #[error("`{{{0}}}` is not a name: use letters, digits and `_`, once each")]
    Name(String),
}

impl RoutePattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let wrong = || PatternError::NotAPath(text.to_owned());
        let below = text.strip_prefix('/').ok_or_else(wrong)?;
        if text.contains("//") || text.contains(['?', '#', '\\']) || text.contains(char::is_control)
        {
            return Err(wrong());
        }
        let mut parts = Vec::new();
        let mut names: Vec<&str> = Vec::new();
        let mut given = below.split('/').peekable();
        while let Some(part) = given.next() {
            let braced = part.strip_prefix('{').and_then(|part| part.strip_suffix('}'));
            let (name, form) = match braced.map(|braced| braced.split_once('=')) {
                Some(Some((name, form))) => (Some(name), form),
                Some(None) => (braced, "*"),
                None => (None, part),
            };
            if let Some(name) = name {
                let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
                let first = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
                if !first || !name.bytes().all(fits) || names.contains(&name) {
                    return Err(PatternError::Name(name.to_owned()));
                }
                names.push(name);
            }
            parts.push(match form {
                "*" => Part::One(name.map(Into::into)),
                "**" if given.peek().is_some() => {
                    return Err(PatternError::RestInTheMiddle(text.to_owned()));
                }
                "**" => Part::Rest(name.map(Into::into)),
                _ if name.is_some() => return Err(wrong()),
                form if form.contains(['*', '{', '}']) => {
                    return Err(PatternError::Piece(form.to_owned()));
                }
                "." | ".." => return Err(wrong()),
                literal => {
                    let decoded = percent_decode_str(literal).decode_utf8().map_err(|_| wrong())?;
                    Part::Literal(decoded.into())
                }
            });
        }
        Ok(Self { text: text.into(), parts })
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The names of its open parts.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::One(name) | Part::Rest(name) => name.as_deref(),
            Part::Literal(_) => None,
        })
    }

    /// Whether `path`, normalised, is one of its pages.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let mut rest = path.strip_prefix('/');
        for part in &self.parts {
            if matches!(part, Part::Rest(_)) {
                return true;
            }
            let Some(open) = rest else { return false };
            let (first, behind) =
                open.split_once('/').map_or((open, None), |(first, behind)| (first, Some(behind)));
            match part {
                Part::Literal(own) if **own != *first => return false,
                Part::One(_) if first.is_empty() => return false,
                _ => rest = behind,
            }
        }
        rest.is_none()
    }

    /// What the named parts are in `path`, which matches.
    #[must_use]
    pub fn captures<'p>(&'p self, path: &'p str) -> SmallVec<[(&'p str, &'p str); 4]> {
        let mut rest = path.strip_prefix('/');
        let mut out = SmallVec::new();
        for part in &self.parts {
            let Some(open) = rest else { break };
            let (first, behind) =
                open.split_once('/').map_or((open, None), |(first, behind)| (first, Some(behind)));
            match part {
                Part::One(Some(name)) => out.push((&**name, first)),
                Part::Rest(Some(name)) => out.push((&**name, open)),
                _ => {}
            }
            rest = behind;
        }
        out
    }

    /// The one path that it is, where nothing is open.
    fn exact(&self) -> Option<String> {
        let mut out = String::new();
        for part in &self.parts {
            let Part::Literal(part) = part else { return None };
            out.push('/');
            out.push_str(part);
        }
        Some(out)
    }
}

/// What is about some pages, found by a page's path without a look at all the rest.
#[derive(Debug)]
pub struct Routes<T> {
    items: Vec<T>,
    exact: HashMap<Box<str>, Found>,
    open: Node,
    has_open: bool,
    /// About every page.
    everywhere: Found,
}

/// Items in the order of the configuration.
pub type Found = SmallVec<[u32; 6]>;

#[derive(Debug, Default)]
struct Node {
    literal: HashMap<Box<str>, Node>,
    one: Option<Box<Node>>,
    ends: Found,
    rest: Found,
}

impl<T> Default for Routes<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            exact: HashMap::new(),
            open: Node::default(),
            has_open: false,
            everywhere: Found::new(),
        }
    }
}

impl<T> Routes<T> {
    /// Adds what is about the pages of `patterns`; about all, where there are none.
    pub fn add(&mut self, patterns: &[RoutePattern], item: T) {
        // More than 4 thousand million rules do not fit into a file.
        let index = u32::try_from(self.items.len()).unwrap_or(u32::MAX);
        self.items.push(item);
        if patterns.is_empty() {
            self.everywhere.push(index);
        }
        for pattern in patterns {
            match pattern.exact() {
                Some(path) => self.exact.entry(path.into()).or_default().push(index),
                None => {
                    self.open.add(&pattern.parts, index);
                    self.has_open = true;
                }
            }
        }
    }

    /// What is about the page of `path`, normalised, in the order it was added.
    #[must_use]
    pub fn find(&self, path: &str) -> Found {
        let mut found = self.exact.get(path).cloned().unwrap_or_default();
        if self.has_open {
            self.open.find(path.strip_prefix('/'), &mut found);
        }
        found.extend_from_slice(&self.everywhere);
        found.sort_unstable();
        found.dedup();
        found
    }

    /// One that was found.
    #[must_use]
    pub fn get(&self, index: u32) -> Option<&T> {
        self.items.get(index as usize)
    }

    /// All, in the order they were added.
    #[must_use]
    pub fn all(&self) -> &[T] {
        &self.items
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

impl Node {
    fn add(&mut self, parts: &[Part], index: u32) {
        match parts.split_first() {
            None => self.ends.push(index),
            Some((Part::Rest(_), _)) => self.rest.push(index),
            Some((Part::One(_), rest)) => self.one.get_or_insert_default().add(rest, index),
            Some((Part::Literal(part), rest)) => {
                self.literal.entry(part.clone()).or_default().add(rest, index);
            }
        }
    }

    /// `path` is what follows; `None` where the path has ended.
    fn find(&self, path: Option<&str>, found: &mut Found) {
        found.extend_from_slice(&self.rest);
        let Some(path) = path else {
            found.extend_from_slice(&self.ends);
            return;
        };
        let (part, rest) =
            path.split_once('/').map_or((path, None), |(part, rest)| (part, Some(rest)));
        if let Some(node) = self.literal.get(part) {
            node.find(rest, found);
        }
        // An empty part is the end of `/a/`, which is not a page below `/a`.
        if let Some(node) = self.one.as_deref().filter(|_| !part.is_empty()) {
            node.find(rest, found);
        }
    }
}

/// A path for the origin, with the named parts of the visitor's path put in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathTemplate(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Name(Box<str>),
}

/// What has a meaning in a path, and `%`: a part of a path is put in as one part.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@')
    .remove(b'/');

impl PathTemplate {
    /// Reads `text`, which may name parts of one of `patterns` in braces.
    ///
    /// # Errors
    /// A name that one of the patterns does not have.
    pub fn parse(text: &str, patterns: &[RoutePattern]) -> Result<Self, String> {
        let (mut pieces, mut rest) = (Vec::new(), text);
        while let Some((before, behind)) = rest.split_once('{') {
            let Some((name, behind)) = behind.split_once('}') else {
                return Err(format!("`{{` is not closed in `{text}`"));
            };
            if !before.is_empty() {
                pieces.push(Piece::Text(before.into()));
            }
            let lacks = patterns.iter().find(|one| !one.names().any(|own| own == name));
            if let Some(pattern) = lacks.map(RoutePattern::as_str) {
                return Err(format!("`{pattern}` has no part called `{name}`"));
            }
            pieces.push(Piece::Name(name.into()));
            rest = behind;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.into()));
        }
        Ok(Self(pieces))
    }

    /// The text without its named parts, to be looked at when it is loaded.
    #[must_use]
    pub fn skeleton(&self) -> String {
        let pieces = self.0.iter().map(|piece| match piece {
            Piece::Text(text) => &**text,
            Piece::Name(_) => "x",
        });
        pieces.collect()
    }

    /// With the parts that `pattern` has in `path`. `None` where one has bytes that are no text: in another form they
    /// would be another page's.
    #[must_use]
    pub fn fill(&self, pattern: &RoutePattern, path: &str) -> Option<Box<str>> {
        if let [Piece::Text(text)] = &self.0[..] {
            return Some(text.clone());
        }
        let parts = pattern.captures(path);
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Name(name) => {
                    let found = parts.iter().find(|(own, _)| *own == &**name);
                    let value = found.map_or("", |(_, value)| value);
                    if value.contains(char::REPLACEMENT_CHARACTER) {
                        return None;
                    }
                    out.extend(utf8_percent_encode(value, IN_PATH));
                }
            }
        }
        // Without a part that is empty, what is behind it must not become a host.
        let is_path = self.0.first().is_none_or(|first| match first {
            Piece::Text(text) => text.starts_with('/') && !text.starts_with("//"),
            Piece::Name(_) => true,
        });
        if is_path && out.starts_with("//") {
            out.replace_range(..out.len() - out.trim_start_matches('/').len(), "/");
        }
        Some(out.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> RoutePattern {
        RoutePattern::parse(text).unwrap()
    }

    #[test]
    fn wrong_patterns_are_named() {
        for wrong in [
            "", "a", "//", "/a?b", "/a*", "/a/**/b", "/{}", "/{1}", "/{a}/{a}", "/{a=b}", "/a{b}",
            "/../a", "/a\\b",
        ] {
            assert!(RoutePattern::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn pages_are_found_in_the_order_of_the_file() {
        let mut routes = Routes::default();
        let all = ["/", "/a/*", "/a/**", "/a/b", "/{x}/b", "/a/{y}/c", "/**", "/caf%C3%A9", "/a/"];
        for text in all {
            routes.add(&[pattern(text)], text);
        }
        routes.add(&[], "everywhere");
        let found = |path: &str| {
            let found = routes.find(path);
            found.iter().map(|index| *routes.get(*index).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(found("/"), ["/", "/**", "everywhere"]);
        assert_eq!(found("/a"), ["/a/**", "/**", "everywhere"]);
        assert_eq!(found("/a/"), ["/a/**", "/**", "/a/", "everywhere"]);
        assert_eq!(found("/a/b"), ["/a/*", "/a/**", "/a/b", "/{x}/b", "/**", "everywhere"]);
        assert_eq!(found("/a/b/c"), ["/a/**", "/a/{y}/c", "/**", "everywhere"]);
        assert_eq!(found("/caf\u{e9}"), ["/**", "/caf%C3%A9", "everywhere"]);
    }

    #[test]
    fn named_parts_are_put_in_as_parts() {
        let route = pattern("/products/{id}/{rest=**}");
        let fill = |template: &str, path: &str| {
            let template = PathTemplate::parse(template, std::slice::from_ref(&route)).unwrap();
            let filled = template.fill(&route, path);
            filled.map_or_else(|| "none".to_owned(), |path| path.to_string())
        };
        // Octets that are no text: `%E9` alone.
        assert_eq!(fill("/p/{id}", "/products/\u{fffd}/"), "none");
        assert_eq!(fill("/p/{rest}", "/products/\u{fffd}/a"), "/p/a");
        assert_eq!(fill("/p/{id}/x/{rest}", "/products/7/a/b"), "/p/7/x/a/b");
        assert_eq!(fill("/p/{id}", "/products/a b?#%2e/"), "/p/a%20b%3F%23%252e");
        assert_eq!(fill("/plain", "/products/7/"), "/plain");
        // A part that is empty makes no host of the next.
        assert_eq!(fill("/{rest}/{id}/x", "/products/evil.example/"), "/evil.example/x");
        let wrong = PathTemplate::parse("/{nope}", &[route]).unwrap_err();
        assert_eq!(wrong, "`/products/{id}/{rest=**}` has no part called `nope`");
    }

    proptest! {
        /// However a path looks, an index finds what trying every pattern would.
        #[test]
        fn nothing_is_missed(path in "/([ab]{0,2}/){0,3}[ab]{0,2}") {
            let path = path.replace("//", "/");
            let all = ["/a/*", "/a/**", "/*/b", "/{x}/{y}", "/**", "/a/b/a", "/b/", "/a/*/b/**"];
            let mut routes = Routes::default();
            for text in all {
                routes.add(&[pattern(text)], text);
            }
            let slow = |text: &str| {
                let regex = text.replace("/**", "(/.*)?").replace("{x}", "*").replace("{y}", "*");
                let mut out = String::new();
                let mut last = ' ';
                for char in regex.chars() {
                    if char == '*' && last == '/' { out.push_str("[^/]+") } else { out.push(char) }
                    last = char;
                }
                regex::Regex::new(&format!("^{out}$")).unwrap().is_match(&path)
            };
            let expected: Vec<&str> = all.into_iter().filter(|text| slow(text)).collect();
            let found: Vec<&str> =
                routes.find(&path).iter().map(|index| *routes.get(*index).unwrap()).collect();
            prop_assert_eq!(&found, &expected, "{}", path);
            let matching: Vec<&str> =
                all.into_iter().filter(|text| pattern(text).matches(&path)).collect();
            prop_assert_eq!(&matching, &expected, "{}", path);
        }
    }
}
