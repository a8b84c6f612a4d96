//! Maps in which what is absent is `null`: for rules that must not be false only because nothing was
//! there to look at.

use cel::ExecutionError;
use cel::common::traits::{Container, Indexer, Iterable, Sizer, Zeroer};
use cel::common::types::{CelNull, MAP_TYPE, Type};
use cel::common::value::{CowVal, Val};

/// A map, and all maps in it. `key in map` tells the truth all the same.
#[derive(Debug)]
pub(super) struct Lenient(pub(super) Box<dyn Val>);

impl Lenient {
    fn found(&self, key: &dyn Val) -> Result<Box<dyn Val>, ExecutionError> {
        let Some(map) = self.0.as_indexer() else { return Ok(Box::new(CelNull)) };
        match map.get(key) {
            Ok(found) => {
                let found: Box<dyn Val> = found.clone_as_boxed();
                let is_map = found.get_type() == &MAP_TYPE;
                Ok(if is_map { Box::new(Self(found)) } else { found })
            }
            Err(ExecutionError::NoSuchKey(_)) => Ok(Box::new(CelNull)),
            Err(other) => Err(other),
        }
    }
}

impl Val for Lenient {
    fn get_type(&self) -> &Type {
        &MAP_TYPE
    }
    fn cel_type() -> &'static Type {
        &MAP_TYPE
    }
    fn as_container(&self) -> Option<&dyn Container> {
        self.0.as_container()
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
        self.0.as_iterable()
    }
    fn as_sizer(&self) -> Option<&dyn Sizer> {
        self.0.as_sizer()
    }
    fn as_zeroer(&self) -> Option<&dyn Zeroer> {
        self.0.as_zeroer()
    }
    fn equals(&self, other: &dyn Val) -> bool {
        self.0.equals(other)
    }
    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        self.0.clone_as_boxed()
    }
}

impl Indexer for Lenient {
    fn get<'b, 'v>(&'b self, key: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.found(key).map(CowVal::Owned)
    }

    fn steal<'v>(self: Box<Self>, key: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.found(key).map(|found| found as Box<dyn Val + 'v>)
    }
}
