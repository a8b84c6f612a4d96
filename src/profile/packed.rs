//! JSON values in a form that is read in place: what a page asks for costs a look at its bytes, and
//! nothing is parsed or allocated for the rest.
//!
//! A value is a tag and what belongs to it; numbers and lengths are LEB128, signed ones zigzag.

use serde_json::{Map, Number, Value};

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const INT: u8 = 3;
const UINT: u8 = 4;
const FLOAT: u8 = 5;
const TEXT: u8 = 6;
const LIST: u8 = 7;
const MAP: u8 = 8;

/// Deepest nesting that is read: as deep as JSON is read.
const MAX_DEPTH: usize = 128;

pub(super) fn put_uint(out: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

pub(super) fn put_int(out: &mut Vec<u8>, number: i64) {
    put_uint(out, (number.cast_unsigned() << 1) ^ (number >> 63).cast_unsigned());
}

pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_uint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Appends `value`.
pub(super) fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(NULL),
        Value::Bool(false) => out.push(FALSE),
        Value::Bool(true) => out.push(TRUE),
        Value::Number(number) => {
            if let Some(number) = number.as_i64() {
                out.push(INT);
                put_int(out, number);
            } else if let Some(number) = number.as_u64() {
                out.push(UINT);
                put_uint(out, number);
            } else {
                out.push(FLOAT);
                out.extend_from_slice(&number.as_f64().unwrap_or(0.0).to_le_bytes());
            }
        }
        Value::String(text) => {
            out.push(TEXT);
            put_text(out, text);
        }
        Value::Array(list) => {
            out.push(LIST);
            put_uint(out, list.len() as u64);
            for item in list {
                put_value(out, item);
            }
        }
        Value::Object(map) => {
            out.push(MAP);
            put_uint(out, map.len() as u64);
            for (name, item) in map {
                put_text(out, name);
                put_value(out, item);
            }
        }
    }
}

/// A place in packed bytes. Every read says `None` where the bytes are not what they should be.
#[derive(Clone, Copy)]
pub(super) struct Reader<'b>(pub(super) &'b [u8]);

/// A value that costs nothing to look at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Seen<'b> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Text(&'b str),
    /// A list or a map: the whole value, tag included.
    Nested(&'b [u8]),
}

impl<'b> Reader<'b> {
    pub(super) fn bytes(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn uint(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    pub(super) fn int(&mut self) -> Option<i64> {
        let number = self.uint()?;
        Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(self.uint()?).ok()
    }

    pub(super) fn text(&mut self) -> Option<&'b str> {
        std::str::from_utf8(self.text_bytes()?).ok()
    }

    /// The next text, unchecked.
    pub(super) fn text_bytes(&mut self) -> Option<&'b [u8]> {
        let length = self.length()?;
        self.bytes(length)
    }

    /// The next value, as far as it can be seen without allocating.
    pub(super) fn see(&mut self) -> Option<Seen<'b>> {
        let before = self.0;
        Some(match self.byte()? {
            NULL => Seen::Null,
            FALSE => Seen::Bool(false),
            TRUE => Seen::Bool(true),
            INT => Seen::Int(self.int()?),
            UINT => Seen::Uint(self.uint()?),
            FLOAT => Seen::Float(f64::from_le_bytes(self.bytes(8)?.try_into().ok()?)),
            TEXT => Seen::Text(self.text()?),
            LIST | MAP => {
                self.0 = before;
                self.skip(0)?;
                Seen::Nested(before.get(..before.len() - self.0.len())?)
            }
            _ => return None,
        })
    }

    fn skip(&mut self, depth: usize) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        match self.byte()? {
            NULL | FALSE | TRUE => {}
            INT | UINT => {
                self.uint()?;
            }
            FLOAT => {
                self.bytes(8)?;
            }
            TEXT => {
                let length = self.length()?;
                self.bytes(length)?;
            }
            LIST => {
                for _ in 0..self.uint()? {
                    self.skip(depth + 1)?;
                }
            }
            MAP => {
                for _ in 0..self.uint()? {
                    let length = self.length()?;
                    self.bytes(length)?;
                    self.skip(depth + 1)?;
                }
            }
            _ => return None,
        }
        Some(())
    }

    /// The next value's bytes.
    pub(super) fn raw(&mut self) -> Option<&'b [u8]> {
        let before = self.0;
        self.skip(0)?;
        before.get(..before.len() - self.0.len())
    }

    /// The next value, decoded.
    pub(super) fn value(&mut self) -> Option<Value> {
        self.value_at(0)
    }

    fn value_at(&mut self, depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        let tag = *self.0.first()?;
        Some(match tag {
            LIST => {
                self.byte()?;
                let count = self.uint()?;
                let mut list = Vec::new();
                for _ in 0..count {
                    list.push(self.value_at(depth + 1)?);
                }
                Value::Array(list)
            }
            MAP => {
                self.byte()?;
                let count = self.uint()?;
                let mut map = Map::new();
                for _ in 0..count {
                    let name = self.text()?.to_owned();
                    map.insert(name, self.value_at(depth + 1)?);
                }
                Value::Object(map)
            }
            _ => match self.see()? {
                Seen::Bool(value) => value.into(),
                Seen::Int(number) => number.into(),
                Seen::Uint(number) => number.into(),
                Seen::Float(number) => Number::from_f64(number).map_or(Value::Null, Value::Number),
                Seen::Text(text) => text.into(),
                Seen::Null | Seen::Nested(_) => Value::Null,
            },
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec(("[a-z]{0,3}", inner), 0..4)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn values_come_back(value in json()) {
            let mut packed = Vec::new();
            put_value(&mut packed, &value);
            packed.extend_from_slice(b"rest");
            let mut reader = Reader(&packed);
            prop_assert_eq!(reader.value(), Some(value));
            prop_assert_eq!(reader.0, b"rest");
            let mut reader = Reader(&packed);
            prop_assert!(reader.see().is_some());
            prop_assert_eq!(reader.0, b"rest");
        }

        /// Whatever stands in a store, reading it ends and does not panic.
        #[test]
        fn any_bytes_are_read_to_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Reader(&bytes).value();
            let _ = Reader(&bytes).see();
            let _ = Reader(&bytes).raw();
        }
    }
}
