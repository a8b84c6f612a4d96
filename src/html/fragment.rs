//! Markup of a rule: whole in itself, with values in it that are never read as markup.
//!
//! What is read is the skeleton of the markup ([`Skeleton`]), first when the configuration is loaded, with the
//! places of values and the edges of blocks (`{% if %}`) in it, then for each visitor, with the values. Only
//! markup that every browser reads in this one way is taken (HTML, 13.2.5).

mod tag;

use super::attribute::{AttributeError, is_one_of};
use super::edit::{escape, escape_everywhere};
use super::skeleton::{Edge, OpensTemplate, Part, Skeleton, Values, is_edge, is_place};
use super::url::Hosts;

/// Why markup of a rule can't be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FragmentError {
    /// It would take what follows in the page into an element of its own.
    #[error("`<{0}>` is not closed: markup of a rule closes each element that it opens")]
    Open(Box<str>),
    /// It would close an element of the page.
    #[error("`</{0}>` closes no element that this markup has open there")]
    Closes(Box<str>),
    /// What follows in the page would become a part of a tag, a comment or a text.
    #[error("it ends inside {0}: what follows in the page would be taken for a part of it")]
    Unfinished(&'static str),
    /// Browsers make something else of it than it seems.
    #[error("`{0}` can't stand in markup of a rule{1}")]
    Unusual(Box<str>, &'static str),
    /// Neither text nor an attribute.
    #[error("a value can't stand in {0}: only in text and in values of attributes")]
    Value(&'static str),
    /// A block of the template would lead from one place of the markup to another.
    #[error(
        "a block such as `{{% if %}}` has to end where it begins: in the same attribute, in the same tag, or with \
         the same elements open"
    )]
    Block,
    /// It can't stand in that attribute.
    #[error(transparent)]
    Attribute(#[from] AttributeError),
    /// It can't stand in that text.
    #[error(transparent)]
    Template(#[from] OpensTemplate),
}

/// Markup of a rule as far as it has been read.
struct Fragment<'t> {
    text: &'t str,
    at: usize,
    values: Values<'t>,
    edges: std::slice::Iter<'t, Edge>,
    hosts: &'t Hosts,
    open: Vec<Element<'t>>,
    /// Where each block that is open began.
    blocks: Vec<Spot>,
    out: String,
    /// How the text ends that is being written.
    text_end: TextEnd,
}

/// An element that is open.
#[derive(Debug, Clone, Copy)]
struct Element<'t> {
    name: &'t str,
    /// Where its start tag begins.
    at: usize,
}

/// A place between blocks.
#[derive(Debug, PartialEq, Eq)]
enum Spot {
    /// With these elements open, by where they begin.
    Content(Vec<usize>),
    /// In the tag that begins there.
    Tag(usize),
    /// In the value of an attribute that begins there.
    Value(usize),
}

/// How a text ends so far.
#[derive(Clone, Copy, Default)]
struct TextEnd {
    /// With a `{`.
    brace: bool,
    /// Which is of a value.
    of_value: bool,
}

type Result<T> = std::result::Result<T, FragmentError>;

impl Skeleton<'_> {
    /// The markup with its values in it. While a configuration is loaded, this only says what is wrong.
    ///
    /// # Errors
    /// It is not whole in itself, or a value can't stand where it would.
    pub fn markup(&self, hosts: &Hosts) -> Result<String> {
        let fragment = Fragment {
            text: self.text(),
            at: 0,
            values: self.values(),
            edges: self.edges().iter(),
            hosts,
            open: Vec::new(),
            blocks: Vec::new(),
            out: String::with_capacity(self.text().len() + 64),
            text_end: TextEnd::default(),
        };
        fragment.read()
    }
}

impl<'t> Fragment<'t> {
    fn read(mut self) -> Result<String> {
        loop {
            let text = self.until(|char| char == '<');
            self.content(text)?;
            let rest = self.rest();
            match rest.as_bytes() {
                [] => break,
                [b'<', b'!', b'-', b'-', ..] => self.comment()?,
                [b'<', b'/', ..] => self.end_tag()?,
                [b'<', letter, ..] if letter.is_ascii_alphabetic() => self.start_tag()?,
                _ => return Err(stray(rest)),
            }
            self.text_end = TextEnd::default();
        }
        match self.open.last() {
            Some(element) => Err(FragmentError::Open(element.name.into())),
            None if !self.blocks.is_empty() => Err(FragmentError::Block),
            None => Ok(self.out),
        }
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Moves to the first character that is such a one, and gives what is before.
    fn until(&mut self, is_end: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let length = rest.find(is_end).unwrap_or(rest.len());
        self.at += length;
        rest.get(..length).unwrap_or_default()
    }

    /// Moves over `text`, if it stands there.
    fn takes(&mut self, text: &str) -> bool {
        let stands = self.rest().starts_with(text);
        if stands {
            self.at += text.len();
        }
        stands
    }

    /// Writes text between tags.
    fn content(&mut self, text: &'t str) -> Result<()> {
        for _ in text.matches(is_edge) {
            self.edge(Spot::Content(self.open.iter().map(|element| element.at).collect()))?;
        }
        for part in self.values.parts(text, std::borrow::Cow::Borrowed) {
            let (own, is_value): (&str, _) = match &part {
                Part::Fixed(fixed) => (fixed, false),
                Part::Value(value) => (value, true),
                Part::Unknown => continue,
            };
            let meets = self.text_end.brace && own.starts_with('{');
            if (meets && (self.text_end.of_value || is_value)) || (is_value && own.contains("{{")) {
                return Err(OpensTemplate.into());
            }
            if !own.is_empty() {
                self.text_end = TextEnd { brace: own.ends_with('{'), of_value: is_value };
            }
            if is_value {
                self.out.push_str(&escape_everywhere(own));
            } else {
                self.out.push_str(own);
            }
        }
        Ok(())
    }

    /// A block of the template begins, goes on or ends.
    fn edge(&mut self, spot: Spot) -> Result<()> {
        let fits = match self.edges.next() {
            Some(Edge::Begin) => {
                self.blocks.push(spot);
                true
            }
            Some(Edge::Middle) => self.blocks.last() == Some(&spot),
            Some(Edge::End) => self.blocks.pop() == Some(spot),
            None => true,
        };
        if fits { Ok(()) } else { Err(FragmentError::Block) }
    }

    /// Writes a comment.
    fn comment(&mut self) -> Result<()> {
        let rest = self.rest();
        let inner = rest.get("<!--".len()..).unwrap_or_default();
        let Some(length) = inner.find("-->") else {
            return Err(FragmentError::Unfinished("a comment"));
        };
        let text = inner.get(..length).unwrap_or_default();
        if text.contains(is_place) {
            return Err(FragmentError::Value("a comment"));
        }
        if text.contains(is_edge) {
            return Err(FragmentError::Block);
        }
        if text.starts_with('>') || text.starts_with("->") || text.contains("--") {
            return Err(FragmentError::Unusual("--".into(), " inside a comment"));
        }
        let length = "<!--".len() + length + "-->".len();
        self.out.push_str(rest.get(..length).unwrap_or_default());
        self.at += length;
        Ok(())
    }

    /// Writes text that is no markup, up to the end tag of `name`.
    fn raw(&mut self, name: &'t str, kind: RawText) -> Result<()> {
        let rest = self.rest();
        let ends = |at: &usize| {
            let behind = rest.get(at + "</".len()..).unwrap_or_default();
            let own = behind.get(..name.len()).unwrap_or_default();
            let next = behind.get(name.len()..).and_then(|rest| rest.chars().next());
            let is_over = |char: char| char.is_ascii_whitespace() || matches!(char, '/' | '>');
            own.eq_ignore_ascii_case(name) && next.is_none_or(is_over)
        };
        let found = rest.match_indices("</").map(|(at, _)| at).find(ends);
        let Some(length) = found else {
            return Err(FragmentError::Unfinished(kind.place()));
        };
        let text = rest.get(..length).unwrap_or_default();
        if kind == RawText::Code && text.contains(is_place) {
            return Err(FragmentError::Value("a script, a style or a frame"));
        }
        if text.contains("<!--") && name.eq_ignore_ascii_case("script") {
            return Err(FragmentError::Unusual("<!--".into(), " inside a script"));
        }
        // In there it is markup.
        if self.is_in_picture() && text.contains('<') {
            return Err(FragmentError::Unusual("<".into(), " in texts inside `svg` and `math`"));
        }
        self.at += length;
        self.content(text)
    }

    /// Whether what stands there is read as the rest of a picture or a formula, and not as HTML.
    fn is_in_picture(&self) -> bool {
        let names = self.open.iter().rev().map(|element| element.name.to_ascii_lowercase());
        let mut borders = names.filter(|name| is_one_of(name, "svg math foreignobject desc"));
        borders.next().is_some_and(|name| is_one_of(&name, "svg math"))
    }
}

/// Elements whose content is no markup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RawText {
    /// Nor are there references.
    Code,
    /// But there are references.
    Text,
}

impl RawText {
    fn of(name: &str) -> Option<Self> {
        match name {
            "script" | "style" | "xmp" | "iframe" | "noembed" | "noframes" => Some(Self::Code),
            "title" | "textarea" => Some(Self::Text),
            _ => None,
        }
    }

    const fn place(self) -> &'static str {
        match self {
            Self::Code => "a script, a style or a frame",
            Self::Text => "a `title` or a `textarea`",
        }
    }
}

/// What is wrong with a `<` that begins neither a tag nor a comment.
fn stray(rest: &str) -> FragmentError {
    let behind = rest.chars().nth(1);
    match behind {
        Some(char) if is_place(char) => FragmentError::Value("the name of an element"),
        Some('!' | '?') => {
            let shown: String = rest
                .chars()
                .take_while(|char| !is_place(*char) && !is_edge(*char))
                .take(9)
                .collect();
            FragmentError::Unusual(shown.into(), "")
        }
        None => FragmentError::Unfinished("a tag"),
        Some(_) => FragmentError::Unusual("<".into(), " as text: write `&lt;`"),
    }
}

#[cfg(test)]
mod tests;
