//! The tags in markup of a rule.

use std::ops::Range;

use html_escape::decode_html_entities;

use super::super::attribute::{AttributeError, AttributeUse, is_one_of};
use super::super::skeleton::Part;
use super::{
    Element, Fragment, FragmentError, RawText, Result, Spot, escape, is_edge, is_place, stray,
};

/// An attribute with a place for a value in it.
struct Attribute<'t> {
    name: &'t str,
    parts: Vec<Part<'t>>,
    /// Where its value stands, with the quotes around it.
    place: Range<usize>,
}

/// Elements that have no content.
const VOIDS: &str =
    "area base basefont bgsound br col embed hr img input keygen link meta param source track wbr";

/// Elements that are one a page, or take all that follows.
const WHOLE: &str = "html head body frameset frame plaintext";

/// Elements that end a picture when they begin in one (HTML, 13.2.6.5).
const BREAKS: &str = "b big blockquote body br center code dd div dl dt em embed font h1 h2 h3 h4 h5 h6 head hr \
    i img li listing menu meta nobr ol p pre ruby s small span strong strike sub sup table tt u ul var";

impl<'t> Fragment<'t> {
    pub(super) fn start_tag(&mut self) -> Result<()> {
        let start = self.at;
        self.at += 1;
        let name = self.name()?;
        let lower = name.to_ascii_lowercase();
        if is_one_of(&lower, WHOLE) {
            return Err(FragmentError::Unusual(
                format!("<{lower}>").into(),
                ": a rule changes the page's own by `select`",
            ));
        }
        if lower == "form" && self.open.iter().any(|outer| outer.name.eq_ignore_ascii_case("form"))
        {
            return Err(FragmentError::Unusual(
                "<form>".into(),
                " inside another: browsers leave it out",
            ));
        }
        let in_picture = self.is_in_picture();
        if in_picture && is_one_of(&lower, BREAKS) {
            return Err(FragmentError::Unusual(
                format!("<{lower}>").into(),
                " inside `svg` and `math`: it ends them",
            ));
        }
        let mut attributes = Vec::new();
        let mut is_header = false;
        let closes = loop {
            self.space(start)?;
            if self.takes(">") {
                break false;
            }
            if self.takes("/>") {
                break true;
            }
            let (name, attribute) = self.attribute()?;
            is_header |= name.eq_ignore_ascii_case("http-equiv");
            attributes.extend(attribute);
        };
        self.write_tag(start, &lower, &attributes, is_header)?;
        let is_void = is_one_of(&lower, VOIDS);
        let may_close = is_void || in_picture || is_one_of(&lower, "svg math");
        if closes && !may_close {
            let shown = format!("<{lower}/>").into();
            return Err(FragmentError::Unusual(shown, ": browsers close it by an end tag alone"));
        }
        if closes || is_void {
            return Ok(());
        }
        self.open.push(Element { name, at: start });
        match RawText::of(&lower) {
            Some(kind) => self.raw(name, kind),
            None => Ok(()),
        }
    }

    /// Adds the tag that begins at `start`. Attributes with values are written anew, in quotes, so that a
    /// browser reads what has been judged and nothing else.
    fn write_tag(
        &mut self,
        start: usize,
        element: &str,
        attributes: &[Attribute<'t>],
        is_header: bool,
    ) -> Result<()> {
        let mut written = start;
        for Attribute { name, parts, place } in attributes {
            let its_use = AttributeUse::of(Some(element), name);
            if is_header && its_use == AttributeUse::Content {
                return Err(AttributeError::Content.into());
            }
            let value = its_use.compose(name, parts, self.hosts)?;
            self.out.push_str(self.text.get(written..place.start).unwrap_or_default());
            self.out.extend(["\"", &escape(&value), "\""]);
            written = place.end;
        }
        self.out.push_str(self.text.get(written..self.at).unwrap_or_default());
        Ok(())
    }

    /// The name of an element.
    fn name(&mut self) -> Result<&'t str> {
        let name = self.until(|char| !char.is_ascii_alphanumeric() && char != '-');
        match self.rest().chars().next() {
            None => Err(FragmentError::Unfinished("a tag")),
            Some('>' | '/') => Ok(name),
            Some(char) if char.is_ascii_whitespace() || is_edge(char) => Ok(name),
            Some(char) if is_place(char) => Err(FragmentError::Value("the name of an element")),
            Some(_) => Err(FragmentError::Unusual(format!("<{name}").into(), " with what follows")),
        }
    }

    /// Moves over space between attributes of the tag that begins at `start`, and over blocks of the template.
    fn space(&mut self, start: usize) -> Result<()> {
        loop {
            self.until(|char| !char.is_ascii_whitespace());
            let next = self.rest().get(..1).unwrap_or_default();
            if next.is_empty() {
                return Err(FragmentError::Unfinished("a tag"));
            }
            if next.contains(is_place) {
                return Err(FragmentError::Value("a tag"));
            }
            if !next.contains(is_edge) {
                return Ok(());
            }
            self.at += 1;
            self.edge(Spot::Tag(start))?;
        }
    }

    /// One attribute: its name, and what else is to be done with it if a value stands in it.
    fn attribute(&mut self) -> Result<(&'t str, Option<Attribute<'t>>)> {
        let ends = |char: char| {
            char.is_ascii_whitespace()
                || is_place(char)
                || is_edge(char)
                || matches!(char, '/' | '>' | '=' | '"' | '\'' | '<' | '`')
        };
        let name = self.until(ends);
        let next = self.rest().chars().next();
        match next {
            None => return Err(FragmentError::Unfinished("a tag")),
            Some(char) if is_place(char) => {
                return Err(FragmentError::Value("the name of an attribute"));
            }
            Some(char) if name.is_empty() || matches!(char, '"' | '\'' | '<' | '`') => {
                return Err(FragmentError::Unusual(format!("{name}{char}").into(), " in a tag"));
            }
            Some(_) => {}
        }
        let before = self.at;
        self.until(|char| !char.is_ascii_whitespace());
        if !self.takes("=") {
            self.at = before;
            return Ok((name, None));
        }
        self.until(|char| !char.is_ascii_whitespace());
        let from = self.at;
        let text = self.value()?;
        let place = from..self.at;
        for _ in text.matches(is_edge) {
            self.edge(Spot::Value(from))?;
        }
        let parts = text
            .contains(is_place)
            .then(|| self.values.parts(text, |fixed| decode_html_entities(fixed)));
        Ok((name, parts.map(|parts| Attribute { name, parts, place })))
    }

    /// The value of an attribute, without the quotes.
    fn value(&mut self) -> Result<&'t str> {
        for quote in ['"', '\''] {
            if self.rest().starts_with(quote) {
                self.at += 1;
                let text = self.until(|char| char == quote);
                self.at += 1;
                let is_closed = self.at <= self.text.len();
                return is_closed
                    .then_some(text)
                    .ok_or(FragmentError::Unfinished("the value of an attribute"));
            }
        }
        let text = self.until(|char| char.is_ascii_whitespace() || char == '>');
        if self.rest().is_empty() {
            return Err(FragmentError::Unfinished("the value of an attribute"));
        }
        let unclear = |char| is_edge(char) || matches!(char, '"' | '\'' | '<' | '=' | '`');
        if text.is_empty() || text.contains(unclear) {
            return Err(FragmentError::Unusual(
                "=".into(),
                " with what follows: put the value in quotes",
            ));
        }
        Ok(text)
    }

    pub(super) fn end_tag(&mut self) -> Result<()> {
        let rest = self.rest();
        if !rest
            .get(2..)
            .is_some_and(|name| name.starts_with(|char: char| char.is_ascii_alphabetic()))
        {
            return Err(if rest.len() == 2 {
                FragmentError::Unfinished("a tag")
            } else {
                stray(rest)
            });
        }
        let start = self.at;
        self.at += 2;
        let name = self.name()?;
        self.until(|char| !char.is_ascii_whitespace());
        if !self.takes(">") {
            return Err(match self.rest() {
                "" => FragmentError::Unfinished("a tag"),
                _ => FragmentError::Unusual(format!("</{name}").into(), " with what follows"),
            });
        }
        match self.open.pop() {
            Some(element) if element.name.eq_ignore_ascii_case(name) => {}
            Some(element) if self.open.iter().any(|open| open.name.eq_ignore_ascii_case(name)) => {
                return Err(FragmentError::Open(element.name.into()));
            }
            _ => return Err(FragmentError::Closes(name.into())),
        }
        self.out.push_str(self.text.get(start..self.at).unwrap_or_default());
        Ok(())
    }
}
