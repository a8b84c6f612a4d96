//! YAML text → values that know where they stand, with the environment put in.

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::{Location, Spanned};

use super::problem::{Place, Problem};

/// A configuration file as read: plain values, and where each of them stands.
#[derive(Debug)]
pub struct Source {
    /// The file's name, as messages show it.
    pub name: String,
    /// The file's text.
    pub text: String,
    /// Its values.
    pub value: Value,
    places: HashMap<String, Place>,
    /// Of values that are aliases: where the anchor's value stands.
    anchors: HashMap<String, Place>,
    environment: HashMap<String, Substituted>,
}

/// What became of a text with `${NAME}` in it.
#[derive(Debug, Default)]
struct Substituted {
    /// What it consists of now, without names of variables.
    pieces: Vec<String>,
    /// In the file it is nothing but names of variables.
    names_alone: bool,
}

impl Source {
    /// Reads `text` as YAML and replaces `${NAME}` in its strings by what `env` has for `NAME`. Says which
    /// names the environment lacks: they stay as they are.
    ///
    /// # Errors
    /// What is not YAML.
    pub fn parse(
        name: &str,
        text: &str,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<(Self, Vec<Problem>), Problem> {
        let root: Spanned<Node> = serde_saphyr::from_str(text).map_err(|error| {
            let place = error.location().map_or(Place::START, |at| Place::of(&at));
            let message = error.to_string();
            let first = message.lines().next().unwrap_or("not YAML");
            Problem::new("", place, strip_position(first))
        })?;
        let mut reading = Reading {
            places: HashMap::new(),
            anchors: HashMap::new(),
            environment: HashMap::new(),
            problems: Vec::new(),
            env: &env,
        };
        let value = reading.convert(root.value, &root.referenced, "");
        let Reading { places, anchors, environment, problems, .. } = reading;
        let (name, text) = (name.into(), text.into());
        Ok((Self { name, text, value, places, anchors, environment }, problems))
    }

    /// Where the value at `pointer` (RFC 6901) stands, or the nearest value around it.
    #[must_use]
    pub fn place(&self, pointer: &str) -> Place {
        let mut pointer = pointer;
        loop {
            if let Some(place) = self.places.get(pointer) {
                return *place;
            }
            match pointer.rfind('/') {
                Some(cut) => pointer = pointer.get(..cut).unwrap_or_default(),
                None => return Place::START,
            }
        }
    }

    /// Where the key at `pointer` itself stands; its value for an entry of a list.
    #[must_use]
    pub fn key_place(&self, pointer: &str) -> Place {
        let key = format!("{pointer}{KEY_MARK}");
        self.places.get(&key).copied().unwrap_or_else(|| self.place(pointer))
    }
}

/// What decides whether a value may be shown.
impl Source {
    /// Where the key at `pointer` stands, if there is one.
    pub(super) fn own_key_place(&self, pointer: &str) -> Option<Place> {
        self.places.get(&format!("{pointer}{KEY_MARK}")).copied()
    }

    /// Where the value at `pointer` stands, and where it is defined if that is an alias.
    pub(super) fn own_places(&self, pointer: &str) -> Vec<Place> {
        self.places.get(pointer).into_iter().chain(self.anchors.get(pointer)).copied().collect()
    }

    /// Whether the value at `pointer` has `${NAME}` in it.
    pub(super) fn is_from_environment(&self, pointer: &str) -> bool {
        self.environment.contains_key(pointer)
    }

    /// What the value at `pointer` was put together from, with variables of the environment.
    pub(super) fn environment_pieces(&self, pointer: &str) -> Option<&[String]> {
        self.environment.get(pointer).map(|text| text.pieces.as_slice())
    }

    /// Whether the value at `pointer` is nothing but names of variables in the file.
    pub(super) fn names_variables_alone(&self, pointer: &str) -> bool {
        self.environment.get(pointer).is_some_and(|text| text.names_alone)
    }
}

/// Whether this is the name of a variable, and not by mistake a value of one: words of letters, each with a number
/// behind it at most.
fn is_variable(name: &str) -> bool {
    name.len() <= 64
        && name.split('_').all(|word| {
            let letters = word.trim_end_matches(|char: char| char.is_ascii_digit());
            letters.bytes().all(|byte| byte.is_ascii_uppercase())
                && letters.len() <= 14
                && word.len() - letters.len() <= 3
        })
}

/// Marks the place of a key, as opposed to that of its value. No pointer ends in it.
const KEY_MARK: &str = "~key";

/// The parser's own messages begin with a position, which ours show in their own way.
fn strip_position(message: &str) -> String {
    let message = message.strip_prefix("error: ").unwrap_or(message);
    match message.strip_prefix("line ").and_then(|rest| rest.split_once(": ")) {
        Some((_, rest)) => rest.split(", set DuplicateKeyPolicy").next().unwrap_or(rest).into(),
        None => message.into(),
    }
}

struct Reading<'e> {
    places: HashMap<String, Place>,
    anchors: HashMap<String, Place>,
    environment: HashMap<String, Substituted>,
    problems: Vec<Problem>,
    env: &'e dyn Fn(&str) -> Option<String>,
}

impl Reading<'_> {
    fn convert(&mut self, node: Node, at: &Location, pointer: &str) -> Value {
        let place = Place::of(at);
        self.places.insert(pointer.to_owned(), place);
        match node {
            Node::Null => Value::Null,
            Node::Bool(value) => value.into(),
            Node::Number(value) => Value::Number(value),
            Node::Text(text) => self.substitute(&text, place, pointer).into(),
            Node::List(items) => items
                .into_iter()
                .enumerate()
                .map(|(index, item)| {
                    let pointer = format!("{pointer}/{index}");
                    self.note_anchor(&item, &pointer);
                    self.convert(item.value, &item.referenced, &pointer)
                })
                .collect(),
            Node::Map(entries) => {
                let mut map = Map::new();
                // There it says that the attribute goes.
                let null_counts = pointer.ends_with("/set/attributes");
                for (key, item) in entries {
                    let escaped = key.value.replace('~', "~0").replace('/', "~1");
                    let pointer = format!("{pointer}/{escaped}");
                    self.places.insert(format!("{pointer}{KEY_MARK}"), Place::of(&key.referenced));
                    self.note_anchor(&item, &pointer);
                    let value = self.convert(item.value, &item.referenced, &pointer);
                    // A key without a value is a key that is not set.
                    if null_counts || !value.is_null() {
                        map.insert(key.value, value);
                    }
                }
                Value::Object(map)
            }
        }
    }

    fn note_anchor(&mut self, item: &Spanned<Node>, pointer: &str) {
        let defined = Place::of(&item.defined);
        if defined != Place::of(&item.referenced) {
            self.anchors.insert(pointer.to_owned(), defined);
        }
    }

    fn substitute(&mut self, text: &str, place: Place, pointer: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        let mut made = Substituted { pieces: Vec::new(), names_alone: true };
        let mut found = false;
        while let Some((before, after)) = rest.split_once("${") {
            let Some((name, behind)) = after.split_once('}') else { break };
            found = true;
            made.pieces.push(before.to_owned());
            made.names_alone &= before.is_empty() && is_variable(name);
            out.push_str(before);
            match (self.env)(name) {
                Some(value) => {
                    out.push_str(&value);
                    made.pieces.push(value);
                }
                None => {
                    let message = if is_variable(name) {
                        format!("the environment has no variable `{name}`")
                    } else {
                        made.pieces.push(name.to_owned());
                        "the environment has no variable of this name".to_owned()
                    };
                    self.problems.push(Problem::new(pointer, place, message));
                    for piece in ["${", name, "}"] {
                        out.push_str(piece);
                    }
                }
            }
            rest = behind;
        }
        out.push_str(rest);
        if found {
            made.names_alone &= rest.is_empty();
            made.pieces.push(rest.to_owned());
            self.environment.insert(pointer.to_owned(), made);
        }
        out
    }
}

enum Node {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Spanned<Node>>),
    Map(Vec<(Spanned<String>, Spanned<Node>)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }
    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }
    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        // `1e9` is a whole number as well. Beyond 2^53 none of them is exact.
        #[allow(clippy::cast_possible_truncation, reason = "whole, and small enough")]
        if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 {
            return Ok(Node::Number((value as i64).into()));
        }
        Ok(serde_json::Number::from_f64(value).map_or(Node::Null, Node::Number))
    }
    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.into()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Node::Map(map))
    }
}
