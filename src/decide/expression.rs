//! CEL expressions: compiled at load, false when anything goes wrong.
//! <https://github.com/google/cel-spec>

use std::sync::{Arc, LazyLock};

use cel::{Context, Env, ExecutionError, Program, Value};

use super::Facts;

/// What an expression may ask about.
pub const VARIABLES: [&str; 5] = ["traits", "ids", "request", "geo", "tcf"];

/// A compiled expression.
pub struct Expression {
    source: Box<str>,
    program: Program,
}

/// Why text is not an expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExpressionError {
    /// What is wrong.
    pub message: String,
    /// Where in the text, in characters from 0, and how many of them.
    pub at: (usize, usize),
}

/// What became of an evaluation.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It is true.
    True,
    /// It is false, or asks about a trait that is absent.
    False,
    /// It failed at run time, e.g. compared a text with a number. Counts as false.
    Failed(String),
}

/// The standard functions and macros. Made once: a context borrows it.
static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

impl Expression {
    /// Compiles `source`.
    ///
    /// # Errors
    /// What is wrong, and where: syntax, unknown variables, unknown functions.
    pub fn compile(source: &str) -> Result<Self, ExpressionError> {
        let program = ENV.compile(source).map_err(|errors| syntax_error(source, &errors))?;
        let expression = Self { source: source.into(), program };
        expression.check_names()?;
        Ok(expression)
    }

    /// Compiles `source` for facts that have `null` for what is absent. The evaluator looks for
    /// `has(map.key)` by reading `map.key`, which is always there then: it becomes `"key" in map`.
    ///
    /// # Errors
    /// As [`Expression::compile`].
    pub fn compile_for_null(source: &str) -> Result<Self, ExpressionError> {
        let plain = Self::compile(source)?;
        let told = has_as_in(source);
        let program = ENV.compile(&told).map_err(|errors| syntax_error(source, &errors))?;
        Ok(Self { program, ..plain })
    }

    /// The text that it was compiled from.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it asks about `name`.
    #[must_use]
    pub fn asks(&self, name: &str) -> bool {
        self.program.references().variables().contains(&name)
    }

    /// Whether it is true of `facts`.
    #[must_use]
    pub fn test(&self, facts: &Facts<'_>) -> Outcome {
        match self.evaluate(facts) {
            Ok(Some(Value::Bool(true))) => Outcome::True,
            Ok(Some(Value::Bool(false)) | None) => Outcome::False,
            Ok(Some(other)) => {
                Outcome::Failed(format!("expected true or false, got {}", other.type_of()))
            }
            Err(error) => Outcome::Failed(error),
        }
    }

    /// Its value; `None` where it asks about something absent.
    ///
    /// # Errors
    /// What failed at run time.
    pub fn evaluate(&self, facts: &Facts<'_>) -> Result<Option<Value>, String> {
        let mut context = Context::with_env(Arc::clone(&ENV));
        context.set_variable_resolver(facts);
        match self.program.execute(&context) {
            Ok(value) => Ok(Some(value)),
            Err(ExecutionError::NoSuchKey(_)) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    fn check_names(&self) -> Result<(), ExpressionError> {
        let references = self.program.references();
        for name in references.variables() {
            // Macros such as `exists(x, …)` have names of their own; `@` marks generated ones.
            if !VARIABLES.contains(&name) && !name.starts_with('@') && !self.binds(name) {
                return Err(self.unknown("name", name, &VARIABLES));
            }
        }
        for name in references.functions() {
            let operator = name.starts_with(['_', '@', '!', '-']);
            if !operator && !FUNCTIONS.contains(&name) {
                return Err(self.unknown("function", name, &FUNCTIONS));
            }
        }
        Ok(())
    }

    /// Whether a macro of the expression binds `name`, as in `traits.list.exists(name, …)`.
    fn binds(&self, name: &str) -> bool {
        ["all", "exists", "exists_one", "map", "filter"].iter().any(|macro_name| {
            self.source
                .match_indices(&format!("{macro_name}("))
                .filter_map(|(at, called)| self.source.get(at + called.len()..))
                .any(|rest| {
                    rest.trim_start()
                        .strip_prefix(name)
                        .is_some_and(|rest| rest.trim_start().starts_with(','))
                })
        })
    }

    fn unknown(&self, kind: &str, name: &str, known: &[&str]) -> ExpressionError {
        let at = self.source.find(name).unwrap_or(0);
        let at = self.source.get(..at).map_or(0, |before| before.chars().count());
        let hint = known
            .iter()
            .map(|candidate| (strsim::damerau_levenshtein(name, candidate), *candidate))
            .filter(|(distance, candidate)| *distance <= candidate.len().max(3) / 3)
            .min()
            .map_or_else(
                || format!("; expected one of: {}", known.join(", ")),
                |(_, meant)| format!("; did you mean `{meant}`?"),
            );
        ExpressionError {
            message: format!("unknown {kind} `{name}`{hint}"),
            at: (at, name.chars().count()),
        }
    }
}

impl std::fmt::Debug for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Expression({})", self.source)
    }
}

/// `has(map.key)` as `("key" in map)`.
fn has_as_in(source: &str) -> String {
    let (mut out, mut rest) = (String::new(), source);
    while let Some((before, behind)) = rest.split_once("has(") {
        out.push_str(before);
        let named = before.ends_with(|char: char| char.is_alphanumeric() || char == '_');
        let field = behind.split_once(')').and_then(|(inner, behind)| {
            let (map, key) = inner.trim().rsplit_once('.')?;
            let plain = key.chars().all(|char| char.is_alphanumeric() || char == '_');
            (plain && !named && !map.contains('(')).then_some((map, key, behind))
        });
        match field {
            Some((map, key, behind)) => {
                for part in ["(\"", key, "\" in ", map, ")"] {
                    out.push_str(part);
                }
                rest = behind;
            }
            None => {
                out.push_str("has(");
                rest = behind;
            }
        }
    }
    out.push_str(rest);
    out
}

fn syntax_error(source: &str, errors: &cel::ParseErrors) -> ExpressionError {
    let first = errors.errors.first();
    let message = first.map_or("not an expression", |error| error.msg.as_str());
    let (line, column) = first.map_or((1, 1), |error| error.pos);
    // Positions are only of use on the first line: an expression of several is rare.
    let at = if line <= 1 { usize::try_from(column - 1).unwrap_or(0) } else { 0 };
    let length = source.chars().count();
    ExpressionError { message: message.to_owned(), at: (at.min(length), 1) }
}

/// Functions of the standard library that expressions may call.
const FUNCTIONS: [&str; 30] = [
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
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::decide::RequestFacts;
    use crate::geo::Place;
    use crate::identity::{UserId, Visitor};
    use crate::profile::{Profile, Update};

    struct Asked;
    impl RequestFacts for Asked {
        fn method(&self) -> &'static str {
            "GET"
        }
        fn path(&self) -> &'static str {
            "/a"
        }
        fn query(&self) -> &'static str {
            "q=a+b%21&flag"
        }
        fn place(&self) -> Option<Place> {
            Some(Place { country: Some("DE".into()), latitude: Some(48.5), ..Place::default() })
        }
        fn headers(&self) -> Vec<(String, String)> {
            vec![("cookie".into(), "sid=1; x=y".into()), ("sec-gpc".into(), "1".into())]
        }
    }

    fn test(source: &str) -> Outcome {
        let mut profile = Profile::default();
        let traits = json!({"red": true, "age": 41, "score": 0.5, "tags": ["a", "b"], "no": false});
        let traits = traits.as_object().unwrap().clone();
        let traits = traits.into_iter().map(|(name, value)| (name.into(), value));
        profile.merge(&Update::new(1, traits), 1).unwrap();
        let visitor = Visitor { user: UserId::parse("john").ok(), ..Visitor::default() };
        Expression::compile(source).unwrap().test(&Facts::new(&visitor, Some(&profile), &Asked))
    }

    #[test]
    fn wrong_expressions_are_refused_with_their_place() {
        let refused = |source: &str| Expression::compile(source).unwrap_err();
        let wrong = refused("trait.green");
        assert_eq!(wrong.message, "unknown name `trait`; did you mean `traits`?");
        assert_eq!(wrong.at, (0, 5));
        let wrong = refused("true && siz(traits.a) > 1");
        assert_eq!(
            (wrong.message.as_str(), wrong.at),
            ("unknown function `siz`; did you mean `size`?", (8, 3))
        );
        assert_eq!(refused("traits.a ==").at.1, 1);
    }

    #[test]
    fn traits_ids_and_requests_are_asked() {
        for (source, outcome) in [
            ("traits.red", Outcome::True),
            ("traits.no", Outcome::False),
            ("traits.absent", Outcome::False),
            ("has(traits.absent)", Outcome::False),
            ("has(traits.red) && traits.age > 40", Outcome::True),
            ("traits.score < 1.0", Outcome::True),
            ("'a' in traits.tags", Outcome::True),
            ("traits.tags.exists(tag, tag == 'b')", Outcome::True),
            ("ids.user_id == 'john'", Outcome::True),
            ("has(ids.anonymous_id)", Outcome::False),
            ("request.query.q == 'a b!'", Outcome::True),
            ("request.cookies.x == 'y' && request.headers['sec-gpc'] == '1'", Outcome::True),
            ("geo.country == 'DE' && geo.latitude > 40.0", Outcome::True),
            ("geo.city == 'Munich'", Outcome::False),
            ("request.path == '/a' && request.method == 'GET'", Outcome::True),
        ] {
            assert_eq!(test(source), outcome, "{source}");
        }
        assert!(matches!(test("traits.age"), Outcome::Failed(_)));
        assert!(matches!(test("traits.age > 'x'"), Outcome::Failed(_)));
    }

    #[test]
    fn what_is_absent_can_be_null() {
        let visitor = Visitor::default();
        let facts = Facts::new(&visitor, None, &Asked).with_null_for_absent();
        for (source, outcome) in [
            ("request.cookies.consent != 'yes'", Outcome::True),
            ("request.cookies.consent == 'yes'", Outcome::False),
            ("request.headers['sec-gpc'] == '1'", Outcome::True),
            ("request.headers['sec-other'] == '1'", Outcome::False),
            ("has(request.cookies.consent) || has( geo.city )", Outcome::False),
            ("request.cookies.c != 'x' && !has(request.cookies.c)", Outcome::True),
            ("has(request.cookies.x) && request.cookies.x == 'y'", Outcome::True),
            ("request.cookies.consent == null && ids.user_id == null", Outcome::True),
            ("geo.city != 'Munich' && geo.country == 'DE'", Outcome::True),
            ("size(request.cookies) == 2 && request.path == '/a'", Outcome::True),
        ] {
            let compiled = Expression::compile_for_null(source).unwrap();
            assert_eq!(compiled.test(&facts), outcome, "{source}");
        }
        for undecided in [
            "request.cookies.consent.matches('a')",
            "request.cookies.consent > 1",
            "geo.european_union && true",
        ] {
            let outcome = Expression::compile_for_null(undecided).unwrap().test(&facts);
            assert!(matches!(outcome, Outcome::Failed(_)), "{undecided}: {outcome:?}");
        }
    }

    #[test]
    fn traits_are_a_map_in_every_way_that_a_map_is_used() {
        for source in [
            "size(traits) == 5",
            "'red' in traits && !('blue' in traits)",
            "has(traits.red) && !has(traits.blue)",
            "traits['age'] > 40 && traits.age == 41.0",
            "traits.exists(name, name == 'age')",
            "traits.all(name, size(name) > 1)",
            "traits.tags[1] == 'b' && traits.tags == ['a', 'b']",
            "traits == {'red': true, 'age': 41, 'score': 0.5, 'tags': ['a', 'b'], 'no': false}",
            "[traits][0].red && {'t': traits}.t.red",
        ] {
            assert_eq!(test(source), Outcome::True, "{source}");
        }
        assert_eq!(test("traits.blue == 1"), Outcome::False);
        assert_eq!(test("traits[1] == 1"), Outcome::False);
    }
}
