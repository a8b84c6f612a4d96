//! A profile's traits as expressions see them: a CEL map that converts the one trait that is asked
//! for.

use std::sync::{Arc, OnceLock};

use cel::common::traits::{Container, Indexer, Iterable, Iterator as Keys, Sizer, Zeroer};
use cel::common::types::{CelBool, CelDouble, CelInt, CelNull, CelString, CelUInt, MAP_TYPE, Type};
use cel::common::value::{CowVal, Val};
use cel::objects::{Key, Map};
use cel::{ExecutionError, Value};

use super::Profile;
use super::packed::Seen;

/// The traits of a profile, or of nobody.
pub struct Traits<'p> {
    profile: Option<&'p Profile>,
    /// All of them, for the few expressions that look at more than one by its name.
    whole: OnceLock<Box<dyn Val>>,
}

impl<'p> Traits<'p> {
    /// The traits of `profile`.
    #[must_use]
    pub fn of(profile: Option<&'p Profile>) -> Self {
        Self { profile, whole: OnceLock::new() }
    }

    fn whole(&self) -> &(dyn Val + 'static) {
        &**self.whole.get_or_init(|| {
            let traits = self.profile.into_iter().flat_map(Profile::traits);
            let map = traits.map(|one| (key(one.name), convert(&one.value()))).collect();
            boxed(Value::Map(Map { map: Arc::new(map) }))
        })
    }

    fn find(&self, name: &str) -> Option<Box<dyn Val + 'p>> {
        let found = self.profile?.get(name)?;
        Some(match found.see() {
            Seen::Bool(value) => Box::new(CelBool::from(value)),
            Seen::Int(number) => Box::new(CelInt::from(number)),
            Seen::Uint(number) => Box::new(CelUInt::from(number)),
            Seen::Float(number) => Box::new(CelDouble::from(number)),
            Seen::Text(text) => Box::new(CelString::from(text)),
            Seen::Null => Box::new(CelNull),
            Seen::Nested(_) => boxed(convert(&found.value())),
        })
    }
}

fn key(name: &str) -> Key {
    Key::String(Arc::new(name.to_owned()))
}

/// The evaluator's own form. Maps, lists and scalars always have one.
fn boxed(value: Value) -> Box<dyn Val> {
    Box::<dyn Val>::try_from(value).unwrap_or_else(|_| Box::new(CelNull))
}

fn convert(value: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
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

impl std::fmt::Debug for Traits<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Traits").field(&self.profile).finish()
    }
}

impl Val for Traits<'_> {
    fn get_type(&self) -> &Type {
        &MAP_TYPE
    }
    fn cel_type() -> &'static Type {
        &MAP_TYPE
    }
    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }
    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }
    fn as_iterable<'b, 'v>(&'b self) -> Option<&'b (dyn Iterable + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }
    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }
    fn as_zeroer(&self) -> Option<&dyn Zeroer> {
        Some(self)
    }
    fn equals(&self, other: &dyn Val) -> bool {
        self.whole().equals(other)
    }
    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        self.whole().clone_as_boxed()
    }
}

impl Indexer for Traits<'_> {
    fn get<'b, 'v>(&'b self, key: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let Some(name) = key.downcast_ref::<CelString<'_>>() else {
            return self
                .whole()
                .as_indexer()
                .map_or_else(|| Err(absent("")), |whole| whole.get(key));
        };
        let found: Box<dyn Val + 'v> =
            self.find(name.inner()).ok_or_else(|| absent(name.inner()))?;
        Ok(CowVal::Owned(found))
    }

    fn steal<'v>(self: Box<Self>, key: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let name = key.downcast_ref::<CelString<'_>>().map_or("", |name| name.inner());
        let found: Option<Box<dyn Val + 'v>> = self.find(name);
        found.ok_or_else(|| absent(name))
    }
}

fn absent(name: &str) -> ExecutionError {
    ExecutionError::NoSuchKey(Arc::new(name.to_owned()))
}

impl Container for Traits<'_> {
    fn contains(&self, key: &dyn Val) -> Result<bool, ExecutionError> {
        match key.downcast_ref::<CelString<'_>>() {
            Some(name) => {
                Ok(self.profile.is_some_and(|profile| profile.get(name.inner()).is_some()))
            }
            None => self.whole().as_container().map_or(Ok(false), |whole| whole.contains(key)),
        }
    }
}

impl Iterable for Traits<'_> {
    fn iter<'b, 'v>(&'b self) -> Box<dyn Keys<'b, 'v> + 'b>
    where
        Self: 'v,
    {
        match self.whole().as_iterable() {
            Some(whole) => whole.iter(),
            None => Box::new(Nothing),
        }
    }
}

struct Nothing;
impl<'b, 'v> Keys<'b, 'v> for Nothing {
    fn next(&mut self) -> Option<&'b (dyn Val + 'v)> {
        None
    }
}

impl Sizer for Traits<'_> {
    fn size(&self) -> CelInt {
        let count = self.profile.map_or(0, |profile| profile.traits().count());
        i64::try_from(count).unwrap_or(i64::MAX).into()
    }
}

impl Zeroer for Traits<'_> {
    fn is_zero_value(&self) -> bool {
        self.profile.is_none_or(|profile| profile.traits().next().is_none())
    }
}
