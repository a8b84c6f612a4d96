//! Texts in which values are told from what the configuration says.
//!
//! A template is made with a mark before and behind each value. What is left without the values, with one
//! mark in the place of each, is the skeleton: it alone is read as markup or as a URL, so that no character
//! of a value ever takes part in that.

use std::borrow::Cow;

use super::attribute::{AttributeError, AttributeUse};
use super::url::Hosts;

/// Before a value in a text that has been made; in a skeleton, the place of one.
const VALUE: char = '\u{1}';
/// Behind a value in a text that has been made; in a skeleton, where a block of the template begins, goes
/// on or ends.
const EDGE: char = '\u{2}';

/// A text with places for values.
#[derive(Debug, Default)]
pub struct Skeleton<'t> {
    text: String,
    /// In the order of their places. `None` while a configuration is loaded: there are none yet.
    values: Option<Vec<&'t str>>,
    edges: Vec<Edge>,
}

/// What stands between two blocks of a template, such as `{% if x %}` and `{% endif %}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// `{% if %}`, `{% for %}`.
    Begin,
    /// `{% else %}`.
    Middle,
    /// `{% endif %}`.
    End,
}

/// One piece of a skeleton.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part<'t> {
    /// Of the configuration.
    Fixed(Cow<'t, str>),
    /// Of a visitor.
    Value(&'t str),
    /// What may come to stand there is not known yet.
    Unknown,
}

/// Adds a value to a text that is being made from a template, as browsers will read it: characters that
/// references can't stand for (HTML, 13.2.5.80) are U+FFFD from here on.
pub fn push_value(out: &mut String, value: &str) {
    out.push(VALUE);
    out.extend(value.chars().filter(|char| !matches!(*char, VALUE | EDGE)).map(
        |char| match char {
            '\0' | '\u{80}'..='\u{9f}' => char::REPLACEMENT_CHARACTER,
            other => other,
        },
    ));
    out.push(EDGE);
}

impl<'t> Skeleton<'t> {
    /// Of a text that has been made: its values were added by [`push_value`].
    #[must_use]
    pub fn of_text(made: &'t str) -> Self {
        let (mut text, mut values) = (String::with_capacity(made.len()), Vec::new());
        let mut rest = made;
        while let Some((fixed, behind)) = rest.split_once(VALUE) {
            let (value, behind) = behind.split_once(EDGE).unwrap_or((behind, ""));
            text.push_str(fixed);
            text.push(VALUE);
            values.push(value);
            rest = behind;
        }
        text.push_str(rest);
        Self { text, values: Some(values), edges: Vec::new() }
    }

    /// Adds what a template says as it is.
    ///
    /// # Errors
    /// It has control characters, which mean nothing in a page, and would be taken for marks.
    pub fn push_fixed(&mut self, fixed: &str) -> Result<(), ControlCharacter> {
        let wrong = |char: &char| char.is_control() && !matches!(char, '\t' | '\n' | '\r');
        if let Some(char) = fixed.chars().find(wrong) {
            return Err(ControlCharacter(u32::from(char)));
        }
        self.text.push_str(fixed);
        Ok(())
    }

    /// Adds a place for a value.
    pub fn push_place(&mut self) {
        self.text.push(VALUE);
    }

    /// Adds where a block of the template begins, goes on or ends.
    pub fn push_edge(&mut self, edge: Edge) {
        self.text.push(EDGE);
        self.edges.push(edge);
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn edges(&self) -> &[Edge] {
        &self.edges
    }

    pub(super) fn values(&self) -> Values<'_> {
        Values { known: self.values.is_some(), rest: self.values.as_deref().unwrap_or_default() }
    }

    /// All of it.
    pub(super) fn parts(&self) -> Vec<Part<'_>> {
        self.values().parts(&self.text, Cow::Borrowed)
    }

    /// The attribute `name` with its values in it.
    ///
    /// # Errors
    /// A browser would do with it what no value may bring about.
    pub fn attribute(
        &self,
        name: &str,
        its_use: AttributeUse,
        hosts: &Hosts,
    ) -> Result<String, AttributeError> {
        its_use.compose(name, &self.parts(), hosts)
    }

    /// The value of a property of a style, with its values in it.
    ///
    /// # Errors
    /// It would be something else.
    pub fn style(&self) -> Result<String, AttributeError> {
        AttributeUse::Style.compose("style", &self.parts(), &Hosts::default())
    }

    /// Classes, with their values in them.
    ///
    /// # Errors
    /// A value would be more than a word.
    pub fn classes(&self) -> Result<String, AttributeError> {
        AttributeUse::Class.compose("class", &self.parts(), &Hosts::default())
    }

    /// The text with its values in it, as it was meant.
    ///
    /// # Errors
    /// See [`OpensTemplate`].
    pub fn plain(&self) -> Result<String, OpensTemplate> {
        plain(&self.parts())
    }
}

/// The values of a skeleton that have not been put in yet.
pub(super) struct Values<'t> {
    known: bool,
    rest: &'t [&'t str],
}

impl<'t> Values<'t> {
    fn next(&mut self) -> Part<'t> {
        match self.rest.split_first() {
            Some((value, rest)) => {
                self.rest = rest;
                Part::Value(value)
            }
            None if self.known => Part::Value(""),
            None => Part::Unknown,
        }
    }

    /// The pieces of a part of the skeleton, which has to be the one that follows. `read` reads what is
    /// fixed.
    pub(super) fn parts(
        &mut self,
        text: &'t str,
        read: impl Fn(&'t str) -> Cow<'t, str>,
    ) -> Vec<Part<'t>> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find([VALUE, EDGE]) {
            let (fixed, behind) = rest.split_at(at);
            if !fixed.is_empty() {
                parts.push(Part::Fixed(read(fixed)));
            }
            let is_edge = behind.starts_with(EDGE);
            parts.push(if is_edge { Part::Unknown } else { self.next() });
            rest = behind.get(1..).unwrap_or_default();
        }
        if !rest.is_empty() {
            parts.push(Part::Fixed(read(rest)));
        }
        parts
    }
}

/// Whether this is the place of a value.
pub(super) fn is_place(char: char) -> bool {
    char == VALUE
}

/// Whether a block of the template begins, goes on or ends here.
pub(super) fn is_edge(char: char) -> bool {
    char == EDGE
}

/// `parts` joined.
///
/// # Errors
/// A value would begin a `{{`.
pub(super) fn plain(parts: &[Part<'_>]) -> Result<String, OpensTemplate> {
    let mut out = String::new();
    let mut of_value = false;
    for part in parts {
        let (text, is_value): (&str, _) = match part {
            Part::Fixed(text) => (text, false),
            Part::Value(text) => (text, true),
            Part::Unknown => continue,
        };
        let meets = out.ends_with('{') && text.starts_with('{') && (of_value || is_value);
        if meets || (is_value && text.contains("{{")) {
            return Err(OpensTemplate);
        }
        out.push_str(text);
        of_value = if text.is_empty() { of_value } else { is_value };
    }
    Ok(out)
}

/// A value would begin a `{{`, which frameworks such as Vue and `AngularJS` read in pages as code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a value would begin a `{{{{`, which frameworks read as code")]
pub struct OpensTemplate;

/// A character that means nothing in a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the control character U+{0:04X} can't stand in a page")]
pub struct ControlCharacter(u32);
