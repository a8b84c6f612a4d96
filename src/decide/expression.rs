//! CEL expressions: compiled at load, false when anything goes wrong.
//! <https://github.com/google/cel-spec>

mod check;
mod functions;

use std::sync::Arc;

use cel::{Context, ExecutionError, Program, Value};

use super::Facts;
use super::client::json;
use functions::ENV;

pub(in crate::decide) use check::MAX_LIST;
pub use check::{Kind, VARIABLES};

/// A compiled expression.
pub struct Expression {
    source: Box<str>,
    program: Program,
    kind: Kind,
    /// Members of variables that it asks for, as it asks.
    asked: Vec<Box<str>>,
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

impl Expression {
    /// Compiles `source`.
    ///
    /// # Errors
    /// What is wrong, and where: syntax, unknown variables, unknown functions.
    pub fn compile(source: &str) -> Result<Self, ExpressionError> {
        let program = ENV.compile(source).map_err(|errors| syntax_error(source, &errors))?;
        let (kind, asked) = check::check(source, &program)?;
        Ok(Self { source: source.into(), program, kind, asked })
    }

    /// Compiles `source`, which says whether something holds.
    ///
    /// # Errors
    /// As [`Expression::compile`], and a value that is neither true nor false.
    pub fn condition(source: &str) -> Result<Self, ExpressionError> {
        let compiled = Self::compile(source)?;
        if matches!(compiled.kind, Kind::Bool | Kind::Any) {
            return Ok(compiled);
        }
        let message = "expected true or false, such as `traits.age > 40`".to_owned();
        Err(ExpressionError { message, at: (0, source.chars().count()) })
    }

    /// What kind of value it has.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
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

    /// The experiments that it asks about.
    pub fn experiments(&self) -> impl Iterator<Item = &str> {
        self.asked.iter().filter_map(|asked| {
            let key = asked.strip_prefix("experiments")?;
            let index = || key.strip_prefix("['")?.strip_suffix("']");
            key.strip_prefix('.').or_else(index)
        })
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

    /// The values that it asks for, by the text that asks: for people.
    #[must_use]
    pub fn values(&self, facts: &Facts<'_>) -> serde_json::Map<String, serde_json::Value> {
        let asked = self.asked.iter();
        let values = asked.map(|text| {
            let value = Self::compile(text).ok().and_then(|one| one.evaluate(facts).ok().flatten());
            (text.to_string(), value.as_ref().and_then(json).unwrap_or_default())
        });
        values.collect()
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

/// What other languages have, and what it is called here.
const FOREIGN: [(&str, &str); 5] =
    [("=", "=="), ("and", "&&"), ("or", "||"), ("not", "!"), ("===", "==")];

/// The first word of another language in `source`, outside of its texts: where it is, in characters.
fn foreign_word(source: &str) -> Option<(usize, &'static str, &'static str)> {
    let chars: Vec<char> = source.chars().collect();
    let (mut at, mut quote) = (0, None);
    while let Some(&char) = chars.get(at) {
        match (quote, char) {
            (Some(_), '\\') => at += 1,
            (Some(open), _) if open == char => quote = None,
            (None, '"' | '\'') => quote = Some(char),
            (None, _) => {
                let kind = |char: &char| match char {
                    '=' | '!' | '<' | '>' => 1,
                    _ if char.is_alphanumeric() || matches!(char, '_' | '.') => 2,
                    _ => 0,
                };
                if kind(&char) > 0 {
                    let rest = chars.iter().skip(at);
                    let word: String = rest.take_while(|next| kind(next) == kind(&char)).collect();
                    let found = FOREIGN.iter().find(|(foreign, _)| *foreign == word);
                    if let Some((foreign, own)) = found {
                        return Some((at, foreign, own));
                    }
                    at += word.chars().count().saturating_sub(1);
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

fn syntax_error(source: &str, errors: &cel::ParseErrors) -> ExpressionError {
    if let Some((at, foreign, own)) = foreign_word(source) {
        let message = format!("`{foreign}` is `{own}` in CEL");
        return ExpressionError { message, at: (at, foreign.len()) };
    }
    let first = errors.errors.first();
    let message = first.map_or("not an expression", |error| error.msg.as_str());
    let (line, column) = first.map_or((1, 1), |error| error.pos);
    // Positions are only of use on the first line: an expression of several is rare.
    let at = if line <= 1 { usize::try_from(column - 1).unwrap_or(0) } else { 0 };
    let length = source.chars().count();
    ExpressionError { message: message.to_owned(), at: (at.min(length), 1) }
}

impl Outcome {
    /// As people read it.
    #[must_use]
    pub fn told(&self) -> String {
        match self {
            Self::True => "true".to_owned(),
            Self::False => "false".to_owned(),
            Self::Failed(why) => format!("failed, counts as false: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::decide::RequestFacts;
    use crate::geo::Place;
    use crate::identity::{UserId, Visitor};
    use crate::profile::{Profile, Update};

    #[test]
    fn words_of_other_languages_are_told_by_name() {
        for (source, message, at) in [
            ("traits.a = 1", "`=` is `==` in CEL", (9, 1)),
            ("traits.a and traits.b", "`and` is `&&` in CEL", (9, 3)),
            ("traits.a == 'x = y' or traits.b", "`or` is `||` in CEL", (20, 2)),
            ("traits.a === 1", "`===` is `==` in CEL", (9, 3)),
            ("not traits.a", "`not` is `!` in CEL", (0, 3)),
        ] {
            let error = Expression::compile(source).err().unwrap();
            assert_eq!((&*error.message, error.at), (message, at), "{source}");
        }
        for fine in
            ["traits.and == 1", "traits.a == 'and'", "traits.a <= 1 && traits.b != \"or = \""]
        {
            assert!(Expression::compile(fine).is_ok(), "{fine}");
        }
        assert!(
            Expression::compile("traits.a ==")
                .is_err_and(|error| !error.message.contains("in CEL"))
        );
    }

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
        let traits = json!({"red": true, "age": 41, "score": 0.5, "tags": ["a", "b"], "no": false,
            "long": vec![0; 2000]});
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
        for (source, message, at) in [
            ("request.pth == '/'", "unknown part of `request` `pth`; did you mean `path`?", (8, 3)),
            ("ids.user_id > 1", "expected a text, this is a number", (12, 1)),
            ("geo.country == 1 || true", "a text is never equal to a number", (12, 2)),
            ("true && 'a'", "expected true or false, this is a text", (5, 2)),
            ("size(1) == 1", "this is a number", (0, 0)),
            ("traits.a.matches(traits.b)", "`matches` wants its pattern written out", (0, 0)),
            ("traits.a.matches('(')", "not a pattern", (0, 0)),
            ("x == 1 && traits.l.exists(x, x == 1)", "unknown name `x`", (0, 1)),
            ("traits.l.all(x, traits.l.all(y, traits.l.all(z, x == y)))", "too much work", (0, 0)),
        ] {
            let wrong = refused(source);
            assert!(wrong.message.contains(message), "{source}: {}", wrong.message);
            assert!(at.1 == 0 || wrong.at == at, "{source}: {:?}", wrong.at);
        }
        let wrong = Expression::condition("traits.a == 1 ? 'x' : 'y'").unwrap_err();
        assert!(wrong.message.starts_with("expected true or false"), "{wrong}");
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
            ("request.device == 'desktop' && size(request.headers) == 2", Outcome::True),
            ("request.query.q.matches('^a b') && !traits.tags[0].matches('b')", Outcome::True),
            ("consent.given && !consent.denied", Outcome::True),
            ("now > timestamp('2020-01-01T00:00:00Z')", Outcome::True),
            ("now < timestamp('2020-01-01T00:00:00Z')", Outcome::False),
            ("experiments.pricing == 'short'", Outcome::False),
            ("bucket(ids.user_id, 'seed') < 100.0", Outcome::True),
            ("bucket(ids.anonymous_id, 'seed') < 100.0", Outcome::False),
            ("bucket('a', 'seed') > 5.0 && bucket('a', 'seed') < 5.1", Outcome::True),
            ("size(request) == 6 && has(request.cookies.sid)", Outcome::True),
        ] {
            assert_eq!(test(source), outcome, "{source}");
        }
        assert!(matches!(test("traits.age"), Outcome::Failed(_)));
        assert!(matches!(test("traits.age > 'x'"), Outcome::Failed(_)));
        assert!(matches!(test("traits.long.exists(x, x == 1)"), Outcome::Failed(_)));
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
            "request.cookies.consent > 'a'",
            "geo.european_union && true",
        ] {
            let outcome = Expression::compile_for_null(undecided).unwrap().test(&facts);
            assert!(matches!(outcome, Outcome::Failed(_)), "{undecided}: {outcome:?}");
        }
    }

    #[test]
    fn traits_are_a_map_in_every_way_that_a_map_is_used() {
        for source in [
            "size(traits) == 5 || true",
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
