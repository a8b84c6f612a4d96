//! What can be known to be wrong with an expression before anything is asked: names, kinds of values
//! that never fit, and work without bound.

use cel::Program;
use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, LiteralValue, operators};

use super::ExpressionError;
use super::functions::{FUNCTIONS, MATCHES};

/// What an expression may ask about.
pub const VARIABLES: [&str; 10] = [
    "traits",
    "ids",
    "request",
    "geo",
    "consent",
    "experiments",
    "tcf",
    "gpp",
    "us_privacy",
    "now",
];

/// Members of the variables that have a fixed set of them.
const MEMBERS: [(&str, &[&str]); 7] = [
    ("ids", &["user_id", "anonymous_id"]),
    ("request", &["method", "path", "query", "headers", "cookies", "device"]),
    (
        "geo",
        &[
            "continent",
            "country",
            "region",
            "region_code",
            "city",
            "postal_code",
            "time_zone",
            "latitude",
            "longitude",
            "european_union",
        ],
    ),
    ("consent", &["given", "limited", "denied"]),
    ("tcf", &["purposes"]),
    ("gpp", &["sections", "opted_out"]),
    ("us_privacy", &["opt_out_sale"]),
];

/// The most entries of a list that an expression gets to see.
pub(in crate::decide) const MAX_LIST: usize = 1000;
/// The most steps that the worst case of an expression may take.
const MAX_STEPS: usize = 200_000;
/// The most parts of an expression.
const MAX_PARTS: usize = 1000;

/// What kind of value an expression has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// True or false.
    Bool,
    /// A number.
    Number,
    /// Text.
    Text,
    /// Bytes.
    Bytes,
    /// A list.
    List,
    /// Values by key.
    Map,
    /// Nothing.
    Null,
    /// A span of time.
    Duration,
    /// A point in time.
    Timestamp,
    /// Known only at run time.
    Any,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Bool => "true or false",
            Self::Number => "a number",
            Self::Text => "a text",
            Self::Bytes => "bytes",
            Self::List => "a list",
            Self::Map => "a map",
            Self::Null => "null",
            Self::Duration => "a duration",
            Self::Timestamp => "a point in time",
            Self::Any => "anything",
        }
    }

    fn fits(self, wanted: &[Self]) -> bool {
        self == Self::Any || wanted.contains(&self)
    }
}

/// Finds what kind of value `program` has, made of `source`, and what members of variables it asks for.
///
/// # Errors
/// What is wrong, and where.
pub(super) fn check(
    source: &str,
    program: &Program,
) -> Result<(Kind, Vec<Box<str>>), ExpressionError> {
    let (bound, asked) = (Vec::new(), Vec::new());
    let mut checker = Checker { source, program, bound, asked, parts: 0 };
    let root = program.expression();
    let (kind, steps) = checker.look(root)?;
    if steps > MAX_STEPS || checker.parts > MAX_PARTS {
        let what = "too much work: nest fewer `exists`, `all`, `map` and `filter`, or split it";
        return Err(checker.wrong(root, what.to_owned()));
    }
    Ok((kind, checker.asked))
}

struct Checker<'s> {
    source: &'s str,
    program: &'s Program,
    /// Names that macros such as `exists(x, …)` bind.
    bound: Vec<String>,
    asked: Vec<Box<str>>,
    parts: usize,
}

type Looked = Result<(Kind, usize), ExpressionError>;

impl Checker<'_> {
    /// The kind of `part`, and how many steps it takes at most.
    fn look(&mut self, part: &IdedExpr) -> Looked {
        self.parts += 1;
        match &part.expr {
            Expr::Literal(literal) => Ok((literal_kind(literal), 1)),
            Expr::Ident(name) => self.name(part, name).map(|kind| (kind, 1)),
            Expr::Select(select) => {
                let (_, steps) = self.look(&select.operand)?;
                let kind = self.member(part, &select.operand, &select.field)?;
                if let Some(of) = self.variable(&select.operand) {
                    self.ask(format!("{of}.{}", select.field));
                }
                Ok((if select.test { Kind::Bool } else { kind }, steps + 1))
            }
            Expr::List(list) => Ok((Kind::List, self.all(&list.elements)? + 1)),
            Expr::Map(map) => {
                let mut steps = 1;
                for entry in &map.entries {
                    if let cel::common::ast::EntryExpr::MapEntry(entry) = &entry.expr {
                        steps += self.look(&entry.key)?.1 + self.look(&entry.value)?.1;
                    }
                }
                Ok((Kind::Map, steps))
            }
            Expr::Call(call) => self.call(part, call),
            Expr::Comprehension(comprehension) => self.comprehension(part, comprehension),
            Expr::Struct(_) => Err(self.wrong(part, "messages have no meaning here".to_owned())),
            Expr::Unspecified => Ok((Kind::Any, 1)),
        }
    }

    fn all(&mut self, parts: &[IdedExpr]) -> Result<usize, ExpressionError> {
        parts.iter().try_fold(0, |steps, part| Ok(steps + self.look(part)?.1))
    }

    fn name(&self, part: &IdedExpr, name: &str) -> Result<Kind, ExpressionError> {
        if self.bound.iter().any(|bound| bound == name) || name.starts_with('@') {
            return Ok(Kind::Any);
        }
        match name {
            "now" => Ok(Kind::Timestamp),
            name if VARIABLES.contains(&name) => Ok(Kind::Map),
            _ => Err(self.unknown(part, "name", name, &VARIABLES)),
        }
    }

    /// The kind of a member: that of a variable's own is known.
    fn member(&self, part: &IdedExpr, of: &IdedExpr, field: &str) -> Result<Kind, ExpressionError> {
        let known = |name: &str| MEMBERS.iter().find(|(variable, _)| *variable == name);
        match &of.expr {
            Expr::Ident(name) if !self.bound.contains(name) => {
                let Some((_, members)) = known(name) else {
                    let text = name == "experiments";
                    return Ok(if text { Kind::Text } else { Kind::Any });
                };
                if !members.contains(&field) {
                    return Err(self.unknown(part, &format!("part of `{name}`"), field, members));
                }
                Ok(match field {
                    "query" | "headers" | "cookies" => Kind::Map,
                    "latitude" | "longitude" => Kind::Number,
                    "european_union" | "given" | "limited" | "denied" | "opted_out"
                    | "opt_out_sale" => Kind::Bool,
                    "purposes" | "sections" => Kind::List,
                    _ => Kind::Text,
                })
            }
            // What the request says is text.
            Expr::Select(select) if matches!(&select.operand.expr, Expr::Ident(name) if name == "request") => {
                Ok(Kind::Text)
            }
            _ => Ok(Kind::Any),
        }
    }

    fn call(&mut self, part: &IdedExpr, call: &CallExpr) -> Looked {
        let mut kinds = Vec::with_capacity(call.args.len() + 1);
        let mut steps = 1;
        for argument in call.target.as_deref().into_iter().chain(&call.args) {
            let (kind, more) = self.look(argument)?;
            kinds.push(kind);
            steps += more;
        }
        let kind = self.result(part, call, &kinds)?;
        Ok((kind, steps))
    }

    fn result(
        &mut self,
        part: &IdedExpr,
        call: &CallExpr,
        kinds: &[Kind],
    ) -> Result<Kind, ExpressionError> {
        const ORDERED: [Kind; 6] =
            [Kind::Bool, Kind::Number, Kind::Text, Kind::Bytes, Kind::Duration, Kind::Timestamp];
        let name = call.func_name.as_str();
        let first = kinds.first().copied().unwrap_or(Kind::Any);
        let second = kinds.get(1).copied().unwrap_or(Kind::Any);
        let (source, program) = (self.source, self.program);
        let want = |kind: Kind, wanted: &[Kind]| {
            if kind.fits(wanted) {
                return Ok(());
            }
            let names: Vec<_> = wanted.iter().map(|kind| kind.name()).collect();
            let what = format!("expected {}, this is {}", names.join(" or "), kind.name());
            Err(wrong(source, program, part, what))
        };
        match name {
            operators::LOGICAL_AND | operators::LOGICAL_OR | operators::LOGICAL_NOT => {
                for kind in kinds {
                    want(*kind, &[Kind::Bool])?;
                }
                Ok(Kind::Bool)
            }
            operators::EQUALS | operators::NOT_EQUALS => {
                let open = [Kind::Any, Kind::Null];
                if first != second && !open.contains(&first) && !open.contains(&second) {
                    let (first, second) = (first.name(), second.name());
                    let what = format!("{first} is never equal to {second}");
                    return Err(self.wrong(part, what));
                }
                Ok(Kind::Bool)
            }
            operators::LESS
            | operators::LESS_EQUALS
            | operators::GREATER
            | operators::GREATER_EQUALS => {
                want(first, &ORDERED)?;
                if first == Kind::Any {
                    want(second, &ORDERED)?;
                } else {
                    want(second, &[first])?;
                }
                Ok(Kind::Bool)
            }
            operators::CONDITIONAL => {
                want(first, &[Kind::Bool])?;
                let third = kinds.get(2).copied().unwrap_or(Kind::Any);
                Ok(if second == third { second } else { Kind::Any })
            }
            operators::IN => want(second, &[Kind::List, Kind::Map]).map(|()| Kind::Bool),
            operators::INDEX => {
                want(first, &[Kind::List, Kind::Map])?;
                let mut given = call.target.as_deref().into_iter().chain(&call.args);
                let (of_request, key) = (given.next(), given.next().map(|key| &key.expr));
                if let (Some(of), Some(Expr::Literal(LiteralValue::String(key)))) =
                    (of_request.and_then(|of| self.variable(of)), key)
                    && !key.inner().contains(['\'', '\\'])
                {
                    self.ask(format!("{of}['{}']", key.inner()));
                }
                let text = of_request.is_some_and(|of| self.is_text_map(of));
                Ok(if text { Kind::Text } else { Kind::Any })
            }
            operators::ADD | operators::SUBSTRACT if first == second => Ok(match first {
                Kind::Timestamp if name == operators::SUBSTRACT => Kind::Duration,
                other => other,
            }),
            operators::ADD
            | operators::SUBSTRACT
            | operators::OPT_INDEX
            | operators::OPT_SELECT => Ok(Kind::Any),
            operators::MULTIPLY | operators::DIVIDE | operators::MODULO | operators::NEGATE => {
                for kind in kinds {
                    want(*kind, &[Kind::Number])?;
                }
                Ok(Kind::Number)
            }
            operators::NOT_STRICTLY_FALSE => Ok(Kind::Bool),
            MATCHES => {
                want(first, &[Kind::Text])?;
                self.pattern(part, call)?;
                Ok(Kind::Bool)
            }
            "contains" | "startsWith" | "endsWith" | "bucket" => {
                want(first, &[Kind::Text])?;
                want(second, &[Kind::Text])?;
                Ok(returned(name))
            }
            "size" => {
                want(first, &[Kind::Text, Kind::Bytes, Kind::List, Kind::Map])?;
                Ok(Kind::Number)
            }
            other if FUNCTIONS.contains(&other) => Ok(returned(other)),
            other => Err(self.unknown(part, "function", other, &FUNCTIONS)),
        }
    }

    /// A variable, or a member of one, as it is written.
    fn variable(&self, part: &IdedExpr) -> Option<String> {
        match &part.expr {
            Expr::Ident(name) if VARIABLES.contains(&&**name) && !self.bound.contains(name) => {
                Some(name.clone())
            }
            Expr::Select(select) if !select.test => {
                Some(format!("{}.{}", self.variable(&select.operand)?, select.field))
            }
            _ => None,
        }
    }

    fn ask(&mut self, member: String) {
        // Of `request.headers['x']` the last counts, and `request.headers` is much to show.
        if !self.asked.iter().any(|known| **known == *member) && member != "request.headers" {
            self.asked.push(member.into());
        }
    }

    fn is_text_map(&self, of: &IdedExpr) -> bool {
        match &of.expr {
            Expr::Ident(name) => name == "experiments" && !self.bound.contains(name),
            Expr::Select(select) => {
                matches!(&select.operand.expr, Expr::Ident(name) if name == "request")
            }
            _ => false,
        }
    }

    /// A pattern stands in the configuration: whoever writes traits must not choose what is compiled.
    fn pattern(&self, part: &IdedExpr, call: &CallExpr) -> Result<(), ExpressionError> {
        match call.args.last().map(|argument| &argument.expr) {
            Some(Expr::Literal(LiteralValue::String(pattern))) => {
                regex::Regex::new(pattern.inner())
                    .map(drop)
                    .map_err(|error| self.wrong(part, format!("not a pattern: {error}")))
            }
            _ => Err(self.wrong(part, "`matches` wants its pattern written out".to_owned())),
        }
    }

    fn comprehension(&mut self, part: &IdedExpr, of: &ComprehensionExpr) -> Looked {
        let (range, mut steps) = self.look(&of.iter_range)?;
        if !range.fits(&[Kind::List, Kind::Map]) {
            return Err(self.wrong(part, format!("expected a list, this is {}", range.name())));
        }
        let rounds = match &of.iter_range.expr {
            Expr::List(list) => list.elements.len(),
            _ => MAX_LIST,
        };
        let (start, more) = self.look(&of.accu_init)?;
        steps += more;
        let before = self.bound.len();
        self.bound.extend([of.iter_var.clone(), of.accu_var.clone()]);
        self.bound.extend(of.iter_var2.clone());
        let each = self.look(&of.loop_cond)?.1 + self.look(&of.loop_step)?.1;
        let (_, more) = self.look(&of.result)?;
        self.bound.truncate(before);
        let kind = match start {
            // `exists_one` counts.
            Kind::Number => Kind::Bool,
            other => other,
        };
        Ok((kind, steps.saturating_add(more).saturating_add(rounds.saturating_mul(each))))
    }

    fn wrong(&self, part: &IdedExpr, message: String) -> ExpressionError {
        wrong(self.source, self.program, part, message)
    }

    fn unknown(&self, part: &IdedExpr, kind: &str, name: &str, known: &[&str]) -> ExpressionError {
        let hint = known
            .iter()
            .map(|candidate| (strsim::damerau_levenshtein(name, candidate), *candidate))
            .filter(|(distance, candidate)| *distance <= candidate.len().max(3) / 3)
            .min()
            .map_or_else(
                || format!("; expected one of: {}", known.join(", ")),
                |(_, meant)| format!("; did you mean `{meant}`?"),
            );
        let wrong = self.wrong(part, format!("unknown {kind} `{name}`{hint}"));
        // The name itself, behind where its part begins.
        let from = self.source.char_indices().nth(wrong.at.0).map_or(0, |(at, _)| at);
        let found = self.source.get(from..).and_then(|rest| rest.find(name)).map(|at| from + at);
        let at = found.or_else(|| self.source.find(name)).unwrap_or(from);
        let at = self.source.get(..at).map_or(0, |before| before.chars().count());
        ExpressionError { at: (at, name.chars().count()), ..wrong }
    }
}

fn wrong(source: &str, program: &Program, part: &IdedExpr, message: String) -> ExpressionError {
    let (start, stop) = program.source_info().offset_for(part.id).unwrap_or((0, 0));
    // The last character is in the span.
    let (start, stop) = (start as usize, (stop as usize).max(start as usize) + 1);
    let before = source.get(..start).map_or(0, |before| before.chars().count());
    let within = source.get(start..stop).map_or(1, |within| within.chars().count());
    ExpressionError { message, at: (before, within.max(1)) }
}

/// What a function gives.
fn returned(function: &str) -> Kind {
    match function {
        "contains" | "startsWith" | "endsWith" | "bool" => Kind::Bool,
        "bucket" | "int" | "uint" | "double" => Kind::Number,
        "string" => Kind::Text,
        "bytes" => Kind::Bytes,
        "duration" => Kind::Duration,
        "timestamp" => Kind::Timestamp,
        getter if getter.starts_with("get") => Kind::Number,
        _ => Kind::Any,
    }
}

fn literal_kind(literal: &LiteralValue) -> Kind {
    match literal {
        LiteralValue::Boolean(_) => Kind::Bool,
        LiteralValue::Bytes(_) => Kind::Bytes,
        LiteralValue::Double(_) | LiteralValue::Int(_) | LiteralValue::UInt(_) => Kind::Number,
        LiteralValue::Null => Kind::Null,
        LiteralValue::String(_) => Kind::Text,
    }
}
