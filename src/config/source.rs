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
        let mut reading = Reading { places: HashMap::new(), problems: Vec::new(), env: &env };
        let value = reading.convert(root.value, &root.referenced, "");
        let source = Self { name: name.into(), text: text.into(), value, places: reading.places };
        Ok((source, reading.problems))
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
                    self.convert(item.value, &item.referenced, &format!("{pointer}/{index}"))
                })
                .collect(),
            Node::Map(entries) => {
                let mut map = Map::new();
                for (key, item) in entries {
                    let escaped = key.value.replace('~', "~0").replace('/', "~1");
                    let pointer = format!("{pointer}/{escaped}");
                    self.places.insert(format!("{pointer}{KEY_MARK}"), Place::of(&key.referenced));
                    let value = self.convert(item.value, &item.referenced, &pointer);
                    // A key without a value is a key that is not set.
                    if !value.is_null() {
                        map.insert(key.value, value);
                    }
                }
                Value::Object(map)
            }
        }
    }

    fn substitute(&mut self, text: &str, place: Place, pointer: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let Some((name, behind)) = after.split_once('}') else { break };
            out.push_str(before);
            match (self.env)(name) {
                Some(value) => out.push_str(&value),
                None => {
                    let message = format!("the environment has no variable `{name}`");
                    self.problems.push(Problem::new(pointer, place, message));
                    for piece in ["${", name, "}"] {
                        out.push_str(piece);
                    }
                }
            }
            rest = behind;
        }
        out.push_str(rest);
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
