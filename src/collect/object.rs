//! A JSON object whose members are kept as they were written: numbers keep their digits, members
//! their order, and what nobody asks about is never parsed.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;

use crate::identity::as_id;

/// Most members of one object: finding them is a walk, which a stranger must not make long.
const MAX_MEMBERS: usize = 256;

/// Members in their order. A name that occurs twice keeps the last value, as browsers read it.
#[derive(Debug, Clone, Default)]
pub struct Object(Vec<(Box<str>, Box<RawValue>)>);

impl Object {
    /// The value under `name`, as written.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&RawValue> {
        self.0.iter().find(|(key, _)| &**key == name).map(|(_, value)| &**value)
    }

    /// The value under `name`, where it is text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        self.get(name).and_then(|raw| serde_json::from_str(raw.get()).ok())
    }

    /// The value under `name` as an id: text, or a number, true or false in their text.
    #[must_use]
    pub fn id(&self, name: &str) -> Option<String> {
        self.get(name).and_then(as_id)
    }

    /// Whether it has no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All members in their order.
    pub fn members(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The value under `name` where it is an object.
    #[must_use]
    pub fn object(&self, name: &str) -> Option<Self> {
        self.get(name).and_then(|raw| serde_json::from_str(raw.get()).ok())
    }

    /// The objects of the list under `name`.
    #[must_use]
    pub fn list(&self, name: &str) -> Vec<Self> {
        self.get(name).and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
    }

    /// Whether something other than `null` stands under `name`.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some_and(|raw| raw.get() != "null")
    }

    /// Puts `value` under `name`, in the place of what is there.
    pub fn set(&mut self, name: &str, value: Box<RawValue>) {
        match self.0.iter_mut().find(|(key, _)| &**key == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.into(), value)),
        }
    }

    /// Puts text under `name`.
    pub fn set_text(&mut self, name: &str, text: &str) {
        if let Ok(value) = serde_json::value::to_raw_value(text) {
            self.set(name, value);
        }
    }

    /// Puts an object under `name`.
    pub fn set_object(&mut self, name: &str, object: &Self) {
        if let Ok(value) = serde_json::value::to_raw_value(object) {
            self.set(name, value);
        }
    }

    /// Takes `name` out.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(key, _)| &**key != name);
    }

    /// As JSON.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        // Names and values that were JSON before: writing them can't fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl<N: Into<Box<str>>> FromIterator<(N, Box<RawValue>)> for Object {
    fn from_iter<I: IntoIterator<Item = (N, Box<RawValue>)>>(members: I) -> Self {
        let mut object = Self::default();
        for (name, value) in members {
            object.set(&name.into(), value);
        }
        object
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Object, A::Error> {
                let mut object = Object::default();
                while let Some((name, value)) = members.next_entry::<Box<str>, Box<RawValue>>()? {
                    if object.0.len() >= MAX_MEMBERS {
                        return Err(serde::de::Error::custom("an object has too many members"));
                    }
                    object.set(&name, value);
                }
                Ok(object)
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// Whether `json` has more than `most` objects and lists inside one another. Where it is not JSON, any
/// answer will do: it is refused when it is parsed.
#[must_use]
pub fn is_deeper(json: &[u8], most: usize) -> bool {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in json {
        if in_text {
            in_text = escaped || *byte != b'"';
            escaped = !escaped && *byte == b'\\';
            continue;
        }
        match byte {
            b'"' => in_text = true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > most {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_touched_stays_as_written() {
        let text =
            r#"{"n":1.50,"big":123456789012345678901234567890,"s":"\u00fc","z":{"b":1,"a":2}}"#;
        let mut object: Object = serde_json::from_str(text).unwrap();
        assert_eq!(object.to_vec(), text.as_bytes());
        object.set_text("s", "x\"y");
        object.remove("n");
        assert_eq!(object.text("s").as_deref(), Some("x\"y"));
        assert!(serde_json::from_str::<Object>("[1]").is_err());
        let twice: Object = serde_json::from_str(r#"{"a":1,"a":2}"#).unwrap();
        assert_eq!(twice.to_vec(), br#"{"a":2}"#);
    }

    #[test]
    fn depth_is_counted_outside_of_text() {
        assert!(!is_deeper(br#"{"a":[{"b":"[[[[\"[[[["}],"c":[]}"#, 3));
        assert!(is_deeper(br#"{"a":[{"b":1}]}"#, 2));
        assert!(!is_deeper(b"]]]][", 1));
    }
}
