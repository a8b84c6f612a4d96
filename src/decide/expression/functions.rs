//! The functions that expressions may call: CEL's own, and two of ours.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use cel::common::ast::{CallExpr, Expr};
use cel::common::types::{CelBool, CelDouble, CelString};
use cel::parser::Macro;
use cel::{Env, ExecutionError};
use regex::Regex;

use crate::decide::bucket;

/// What `text.matches(pattern)` is compiled to.
pub(super) const MATCHES: &str = "@matches";

/// Functions of the standard library that expressions may call, and ours.
pub(super) const FUNCTIONS: [&str; 31] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "string",
    "int",
    "uint",
    "double",
    "bytes",
    "bool",
    "type",
    "dyn",
    "duration",
    "timestamp",
    "getFullYear",
    "getMonth",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getHours",
    "getMinutes",
    "getSeconds",
    "getMilliseconds",
    "has",
    "max",
    "min",
    "exists",
    "all",
    "bucket",
];

/// The standard functions and macros, and ours. Made once: a context borrows it.
pub(super) static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    // Names that are not taken: adding them can't fail.
    let _ = cel::add_overload!(env, fn at_matches: (CelString, CelString) -> Result<CelBool>,
        name = "@matches", id = "matches_once");
    let _ = cel::add_overload!(env, fn share: (CelString, CelString) -> CelDouble,
        name = "bucket", id = "bucket_string_string");
    let _ = env.add_macro(Macro::receiver("matches", 1, |helper, target, args| {
        let args = target.take().into_iter().chain(args.drain(..)).collect();
        let call = CallExpr { func_name: MATCHES.to_owned(), target: None, args };
        Ok(Some(helper.next_expr(Expr::Call(call))))
    }));
    Arc::new(env)
});

thread_local! {
    /// Patterns by their text: the evaluator's own `matches` compiles its pattern at every call. They
    /// all stand in configurations.
    static PATTERNS: RefCell<HashMap<String, Regex>> = RefCell::new(HashMap::new());
}

/// Patterns kept; after many reloads they are compiled anew.
const MAX_PATTERNS: usize = 1024;

/// Whether `text` matches `pattern`. Takes time in proportion to the text.
fn at_matches(text: &CelString<'_>, pattern: &CelString<'_>) -> Result<CelBool, ExecutionError> {
    PATTERNS.with_borrow_mut(|patterns| {
        if let Some(known) = patterns.get(pattern.inner()) {
            return Ok(CelBool::from(known.is_match(text.inner())));
        }
        let compiled = Regex::new(pattern.inner())
            .map_err(|error| ExecutionError::function_error("matches", error))?;
        let matched = compiled.is_match(text.inner());
        if patterns.len() >= MAX_PATTERNS {
            patterns.clear();
        }
        patterns.insert(pattern.inner().to_owned(), compiled);
        Ok(CelBool::from(matched))
    })
}

/// Where `id` falls between 0 and 100, for ever the same for one `seed`.
fn share(id: &CelString<'_>, seed: &CelString<'_>) -> CelDouble {
    CelDouble::from(bucket::of(bucket::Version::V2, seed.inner(), id.inner()) * 100.0)
}
