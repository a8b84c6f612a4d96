//! Maps as expressions see them, of which only the entry that is asked for is converted.

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};

use cel::common::traits::{Container, Indexer, Iterable, Iterator as Keys, Sizer, Zeroer};
use cel::common::types::{CelInt, CelNull, CelString, MAP_TYPE, Type};
use cel::common::value::{CowVal, Val};
use cel::{ExecutionError, Value};

/// Where a map's entries come from.
pub(super) trait Source<'f>: Send + Sync {
    /// One entry.
    ///
    /// # Errors
    /// What makes it useless to an expression.
    fn find(&self, name: &str) -> Result<Option<Box<dyn Val + 'f>>, ExecutionError>;
    /// All of them: a map.
    fn whole(&self) -> Value;
}

/// A map over a source.
pub(super) struct LazyMap<'f, S> {
    source: S,
    /// All of it, for the few expressions that look at more than one entry by its name.
    whole: OnceLock<Box<dyn Val>>,
    lives: PhantomData<&'f ()>,
}

impl<'f, S: Source<'f>> LazyMap<'f, S> {
    pub(super) fn new(source: S) -> Self {
        Self { source, whole: OnceLock::new(), lives: PhantomData }
    }

    fn whole(&self) -> &(dyn Val + 'static) {
        &**self.whole.get_or_init(|| boxed(self.source.whole()))
    }

    fn entry(&self, name: &str) -> Result<Box<dyn Val + 'f>, ExecutionError> {
        self.source.find(name)?.ok_or_else(|| absent(name))
    }
}

/// The evaluator's own form. Maps, lists and scalars always have one.
pub(super) fn boxed(value: Value) -> Box<dyn Val> {
    Box::<dyn Val>::try_from(value).unwrap_or_else(|_| Box::new(CelNull))
}

impl<S> fmt::Debug for LazyMap<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LazyMap(..)")
    }
}

impl<'f, S: Source<'f>> Val for LazyMap<'f, S> {
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

impl<'f, S: Source<'f>> Indexer for LazyMap<'f, S> {
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
        let found: Box<dyn Val + 'v> = self.entry(name.inner())?;
        Ok(CowVal::Owned(found))
    }

    fn steal<'v>(self: Box<Self>, key: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let name = key.downcast_ref::<CelString<'_>>().map_or("", |name| name.inner());
        let found: Box<dyn Val + 'v> = self.entry(name)?;
        Ok(found)
    }
}

fn absent(name: &str) -> ExecutionError {
    ExecutionError::NoSuchKey(Arc::new(name.to_owned()))
}

impl<'f, S: Source<'f>> Container for LazyMap<'f, S> {
    fn contains(&self, key: &dyn Val) -> Result<bool, ExecutionError> {
        match key.downcast_ref::<CelString<'_>>() {
            Some(name) => Ok(!matches!(self.source.find(name.inner()), Ok(None))),
            None => self.whole().as_container().map_or(Ok(false), |whole| whole.contains(key)),
        }
    }
}

impl<'f, S: Source<'f>> Iterable for LazyMap<'f, S> {
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

impl<'f, S: Source<'f>> Sizer for LazyMap<'f, S> {
    fn size(&self) -> CelInt {
        self.whole().as_sizer().map_or_else(|| 0.into(), Sizer::size)
    }
}

impl<'f, S: Source<'f>> Zeroer for LazyMap<'f, S> {
    fn is_zero_value(&self) -> bool {
        self.whole().as_zeroer().is_some_and(Zeroer::is_zero_value)
    }
}
