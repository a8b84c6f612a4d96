//! A profile's traits.

use std::sync::Arc;

use cel::common::types::{CelBool, CelDouble, CelInt, CelNull, CelString, CelUInt};
use cel::common::value::Val;
use cel::objects::{Key, Map};
use cel::{ExecutionError, Value};
use serde_json::Value as Json;

use crate::decide::expression::MAX_LIST;
use crate::decide::lazy::{Source, boxed};
use crate::profile::{Profile, Seen};

/// The traits of a profile, or of nobody.
pub(super) struct Traits<'f>(pub(super) Option<&'f Profile>);

impl<'f> Source<'f> for Traits<'f> {
    fn find(&self, name: &str) -> Result<Option<Box<dyn Val + 'f>>, ExecutionError> {
        let Some(found) = self.0.and_then(|profile| profile.get(name)) else { return Ok(None) };
        Ok(Some(match found.see() {
            Seen::Bool(value) => Box::new(CelBool::from(value)),
            Seen::Int(number) => Box::new(CelInt::from(number)),
            Seen::Uint(number) => Box::new(CelUInt::from(number)),
            Seen::Float(number) => Box::new(CelDouble::from(number)),
            Seen::Text(text) => Box::new(CelString::from(text)),
            Seen::Null => Box::new(CelNull),
            Seen::Nested(_) => {
                let value = found.value();
                if longest(&value) > MAX_LIST {
                    let why = format!("trait `{name}` has more than {MAX_LIST} entries");
                    return Err(ExecutionError::function_error("traits", why));
                }
                boxed(convert(&value))
            }
        }))
    }

    fn whole(&self) -> Value {
        let traits = self.0.into_iter().flat_map(Profile::traits);
        let whole = traits.filter_map(|one| {
            let value = one.value();
            (longest(&value) <= MAX_LIST).then(|| (key(one.name), convert(&value)))
        });
        Value::Map(Map { map: Arc::new(whole.collect()) })
    }
}

/// The most entries that a list or map in `value` has.
fn longest(value: &Json) -> usize {
    match value {
        Json::Array(list) => list.iter().map(longest).max().unwrap_or(0).max(list.len()),
        Json::Object(map) => map.values().map(longest).max().unwrap_or(0).max(map.len()),
        _ => 0,
    }
}

fn key(name: &str) -> Key {
    Key::String(Arc::new(name.to_owned()))
}

/// JSON as expressions see it.
pub(in crate::decide) fn convert(value: &Json) -> Value {
    match value {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => number
            .as_i64()
            .map(Value::Int)
            .or_else(|| number.as_u64().map(Value::UInt))
            .unwrap_or_else(|| Value::Float(number.as_f64().unwrap_or(f64::NAN))),
        Json::String(text) => Value::String(Arc::new(text.clone())),
        Json::Array(list) => Value::List(Arc::new(list.iter().map(convert).collect())),
        Json::Object(map) => {
            let map = map.iter().map(|(name, item)| (key(name), convert(item))).collect();
            Value::Map(Map { map: Arc::new(map) })
        }
    }
}
