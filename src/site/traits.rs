//! Traits that a page may see: full profiles never leave the edge.

use cel::Value as Cel;
use cel::objects::Key;
use serde_json::{Map, Value};

use crate::decide::{Expression, Facts};

/// Names and the expressions of their values.
#[derive(Debug, Default)]
pub struct ClientTraits(Vec<(Box<str>, Expression)>);

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

    /// The values for one visitor, and how many expressions failed. What is absent is left out.
    #[must_use]
    pub fn of(&self, facts: &Facts<'_>) -> (Map<String, Value>, usize) {
        let (mut out, mut failed) = (Map::new(), 0);
        for (name, expression) in &self.0 {
            match expression.evaluate(facts) {
                Ok(Some(value)) => match json(&value) {
                    Some(value) => {
                        out.insert(name.to_string(), value);
                    }
                    None => failed += 1,
                },
                Ok(None) => {}
                Err(_) => failed += 1,
            }
        }
        (out, failed)
    }
}

/// A value as a page reads it. `None` for what JSON has no form for.
fn json(value: &Cel) -> Option<Value> {
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
