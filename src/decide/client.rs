//! What leaves the edge of a profile: traits that a page may see, cookies, and headers for the origin.
//! Full profiles never do.

use std::sync::Arc;

use cel::Value as Cel;
use cel::objects::Key;
use http::{HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::{Map, Value};

use super::{Expression, Facts};

/// Names and the expressions of their values.
#[derive(Debug, Default)]
pub struct ClientTraits(Vec<(Box<str>, Expression)>);

/// A trait as a cookie.
#[derive(Debug)]
pub struct TraitCookie {
    /// Name.
    pub name: Box<str>,
    /// Its value.
    pub value: Expression,
    /// How long the browser keeps it, in seconds; until it is closed, where it says nothing.
    pub max_age: Option<i64>,
    /// Scripts of the page can read it.
    pub readable: bool,
}

/// A trait as a header of the request that the origin gets.
#[derive(Debug)]
pub struct TraitHeader {
    /// Name.
    pub name: HeaderName,
    /// Its value.
    pub value: Expression,
}

/// The longest value of a cookie or header, in bytes.
const MAX_VALUE_BYTES: usize = 1024;

impl ClientTraits {
    /// Traits by name, in this order.
    #[must_use]
    pub fn new(traits: Vec<(Box<str>, Expression)>) -> Self {
        Self(traits)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All, in order.
    #[must_use]
    pub fn all(&self) -> &[(Box<str>, Expression)] {
        &self.0
    }

    /// Puts the values for one visitor into `out`, and the names of those whose expression failed into
    /// `failed`. What is absent is left out.
    pub fn put(&self, facts: &Facts<'_>, out: &mut Map<String, Value>, failed: &mut Vec<Arc<str>>) {
        for (name, expression) in &self.0 {
            match expression.evaluate(facts).map(|value| value.map(|value| json(&value))) {
                Ok(Some(Some(value))) => {
                    out.insert(name.to_string(), value);
                }
                Ok(None) => {}
                Ok(Some(None)) | Err(_) => failed.push(format!("client_traits.{name}").into()),
            }
        }
    }
}

/// The value of `expression` as text: `None` where something is absent.
///
/// # Errors
/// It failed, is neither text nor number nor truth, or is too long.
pub(super) fn text(expression: &Expression, facts: &Facts<'_>) -> Result<Option<String>, String> {
    let Some(value) = expression.evaluate(facts)? else { return Ok(None) };
    let text = match value {
        Cel::Null => return Ok(None),
        Cel::Bool(value) => value.to_string(),
        Cel::Int(value) => value.to_string(),
        Cel::UInt(value) => value.to_string(),
        Cel::Float(value) => value.to_string(),
        Cel::String(text) => text.to_string(),
        other => return Err(format!("expected text, got {}", other.type_of())),
    };
    if text.len() > MAX_VALUE_BYTES {
        return Err(format!("the value is longer than {MAX_VALUE_BYTES} bytes"));
    }
    Ok(Some(text))
}

impl TraitHeader {
    /// The header for one visitor; `None` where something is absent. What is not ASCII is percent-encoded.
    ///
    /// # Errors
    /// It failed, or can't stand in a header.
    pub(super) fn of(&self, facts: &Facts<'_>) -> Result<Option<HeaderValue>, String> {
        const IN_HEADER: &AsciiSet = &CONTROLS.add(b'%');
        let Some(text) = text(&self.value, facts)? else { return Ok(None) };
        let encoded = utf8_percent_encode(&text, IN_HEADER).to_string();
        HeaderValue::from_str(&encoded).map(Some).map_err(|error| error.to_string())
    }
}

/// A value as a page reads it. `None` for what JSON has no form for.
pub(super) fn json(value: &Cel) -> Option<Value> {
    match value {
        Cel::Null => Some(Value::Null),
        Cel::Bool(value) => Some((*value).into()),
        Cel::Int(value) => Some((*value).into()),
        Cel::UInt(value) => Some((*value).into()),
        Cel::Float(value) => serde_json::Number::from_f64(*value).map(Value::Number),
        Cel::String(text) => Some(Value::String(text.to_string())),
        Cel::List(list) => list.iter().map(json).collect(),
        Cel::Map(map) => map
            .map
            .iter()
            .map(|(key, value)| match key {
                Key::String(name) => Some((name.to_string(), json(value)?)),
                _ => None,
            })
            .collect::<Option<Map<_, _>>>()
            .map(Value::Object),
        _ => None,
    }
}
