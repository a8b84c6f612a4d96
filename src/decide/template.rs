//! Texts with values put in: minijinja, with every value told from what the configuration says until the text
//! is whole, and judged there as a browser would read it.

mod source;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use minijinja::value::{Serde, Value};
use minijinja::{Environment, Error, ErrorKind, Output, State, UndefinedBehavior};
use serde::de::IgnoredAny;
use serde_json::{Map, Value as Json};

use super::client::json;
use super::{Facts, VARIABLES};
use crate::html::{AttributeUse, Hosts, Skeleton, push_script_json, push_value};
use crate::profile::{Seen, Trait};
use source::{Part, Source};

/// The templates of one site.
pub struct Templates {
    environment: Environment<'static>,
    count: usize,
}

/// A text, or one that is made for each visitor.
#[derive(Debug, Clone)]
pub struct Template(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Fixed(Arc<str>),
    Made {
        name: Box<str>,
        source: Box<str>,
        reads: Arc<[Read]>,
        /// Where it is no more than texts and traits.
        parts: Option<Arc<[Part]>>,
        landing: Landing,
    },
}

/// What a template asks for: a variable, or one member of it.
#[derive(Debug)]
struct Read {
    variable: Box<str>,
    member: Option<Box<str>>,
}

/// Where a text lands.
#[derive(Debug, Clone)]
pub enum Landing {
    /// Where the whole text is escaped: the content of an element.
    Text,
    /// Classes, separated by spaces.
    Classes,
    /// Markup of the configuration's own; values are text or attributes in it. They may choose one of these
    /// hosts where a browser runs what it fetches.
    Html(Arc<Hosts>),
    /// The attribute of this name, with hosts as in markup.
    Attribute(Arc<str>, AttributeUse, Arc<Hosts>),
    /// The value of a property of a style.
    Style,
    /// JSON of the configuration's own in a script element; values are JSON values.
    Json,
}

/// Why a text could not be made for a visitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unmade {
    /// Something that it asks for is absent.
    Absent,
    /// A value can't stand where it would land.
    Unsafe,
    /// It failed.
    Failed(String),
}

/// The longest text.
const MAX_BYTES: usize = 64 * 1024;
/// The most steps of a template.
const MAX_STEPS: u64 = 20_000;
/// How the names of templates begin whose values become JSON. In all others they are marked.
const JSON: char = 'j';
const MARKED: char = 'm';

impl Default for Templates {
    fn default() -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(MAX_STEPS));
        environment.set_recursion_limit(32);
        environment.set_formatter(
            |out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value| {
                if value.is_undefined() || value.is_none() {
                    return Err(Error::from(ErrorKind::UndefinedError));
                }
                let mut text = String::new();
                if state.name().starts_with(JSON) {
                    text = serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned());
                } else if let Some(own) = value.as_str() {
                    push_value(&mut text, own);
                } else {
                    push_value(&mut text, &value.to_string());
                }
                out.write_str(&text).map_err(Error::from)
            },
        );
        Self { environment, count: 0 }
    }
}

impl Landing {
    /// What is wrong with a text that lands there, whoever it is for.
    fn check(&self, source: &Source<'_>) -> Result<(), String> {
        let wrong = match self {
            Self::Text => None,
            Self::Html(hosts) => source.skeleton()?.markup(hosts).err().map(|why| why.to_string()),
            Self::Attribute(name, its_use, hosts) => {
                let checked = source.skeleton()?.attribute(name, *its_use, hosts);
                checked.err().map(|why| why.to_string())
            }
            Self::Classes => source.skeleton()?.classes().err().map(|why| why.to_string()),
            Self::Style => source.skeleton()?.style().err().map(|why| why.to_string()),
            Self::Json => {
                source.filled("\"\"").and_then(|text| script_json(&text).err()).map(|why| {
                    format!(
                        "not JSON: {why}; values are put in as JSON, without quotes around them"
                    )
                })
            }
        };
        wrong.map_or(Ok(()), Err)
    }

    /// What `made` becomes there. Its values were marked when it was made.
    fn finish(&self, made: &str) -> Result<String, Unmade> {
        let skeleton = Skeleton::of_text(made);
        let text = match self {
            Self::Text => skeleton.plain().ok(),
            Self::Html(hosts) => skeleton.markup(hosts).ok(),
            Self::Attribute(name, its_use, hosts) => skeleton.attribute(name, *its_use, hosts).ok(),
            Self::Classes => skeleton.classes().ok(),
            Self::Style => skeleton.style().ok(),
            Self::Json => script_json(made).ok(),
        };
        text.filter(|text| text.len() <= MAX_BYTES).ok_or(Unmade::Unsafe)
    }
}

/// JSON as it may stand in a script element of any page.
fn script_json(text: &str) -> Result<String, serde_json::Error> {
    serde_json::from_str::<IgnoredAny>(text)?;
    let mut safe = String::with_capacity(text.len());
    push_script_json(&mut safe, text);
    Ok(safe)
}

impl Templates {
    /// Compiles `source`, whose text lands as `landing` says.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn add(&mut self, source: &str, landing: Landing) -> Result<Template, String> {
        let parts = Source::of(source);
        if !Source::is_template(source) {
            return match landing {
                Landing::Html(_) => landing.check(&parts).map(|()| source.into()),
                Landing::Json => script_json(source).map_err(|why| format!("not JSON: {why}")),
                Landing::Text | Landing::Classes | Landing::Attribute(..) | Landing::Style => {
                    Ok(source.into())
                }
            }
            .map(|text| Template(Kind::Fixed(text.into())));
        }
        let first = if matches!(landing, Landing::Json) { JSON } else { MARKED };
        let name = format!("{first}{}", self.count);
        self.count += 1;
        let wrong = |error: &Error| {
            let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
            format!("not a template: {detail}")
        };
        self.known_filters(&parts)?;
        self.environment
            .add_template_owned(name.clone(), source.to_owned())
            .map_err(|error| wrong(&error))?;
        let compiled = self.environment.get_template(&name).map_err(|error| wrong(&error))?;
        let reads = self.reads(compiled.undeclared_variables(true))?;
        landing.check(&parts)?;
        let is_json = matches!(landing, Landing::Json);
        let parts = parts.texts_and_traits().filter(|_| !is_json).map(Arc::from);
        let (name, source) = (name.into(), source.into());
        Ok(Template(Kind::Made { name, source, reads, parts, landing }))
    }

    fn reads(&self, asked: impl IntoIterator<Item = String>) -> Result<Arc<[Read]>, String> {
        let mut reads = Vec::new();
        for asked in asked {
            let (variable, member) =
                asked.split_once('.').map_or((&*asked, None), |(variable, rest)| {
                    (variable, Some(rest.split('.').next().unwrap_or(rest)))
                });
            // Functions such as `range`.
            if self.environment.globals().any(|(name, _)| name == variable) {
                continue;
            }
            let known = VARIABLES.contains(&variable)
                && !matches!(variable, "now" | "tcf" | "gpp" | "us_privacy");
            if !known {
                return Err(format!(
                    "unknown name `{variable}`; expected one of: traits, ids, request, geo, consent, experiments"
                ));
            }
            reads.push(Read { variable: variable.into(), member: member.map(Into::into) });
        }
        Ok(reads.into())
    }

    /// The engine looks for filters only when it needs them.
    fn known_filters(&self, source: &Source<'_>) -> Result<(), String> {
        for name in source.filters() {
            let probe = self.environment.render_str(&format!("{{{{ 1|{name} }}}}"), ());
            if probe.is_err_and(|error| error.kind() == ErrorKind::UnknownFilter) {
                return Err(format!("not a template: unknown filter `{name}`"));
            }
        }
        Ok(())
    }

    /// The text for one visitor.
    ///
    /// # Errors
    /// Why there is none.
    pub fn make(&self, template: &Template, facts: &Facts<'_>) -> Result<Arc<str>, Unmade> {
        let (name, reads, parts, landing) = match &template.0 {
            Kind::Fixed(text) => return Ok(Arc::clone(text)),
            Kind::Made { name, reads, parts, landing, .. } => (name, reads, parts, landing),
        };
        if let Some(text) = parts.as_ref().and_then(|parts| joined(parts, facts)) {
            return landing.finish(&text).map(Into::into);
        }
        let failed = |error: &Error| match error.kind() {
            ErrorKind::UndefinedError => Unmade::Absent,
            _ => Unmade::Failed(error.to_string()),
        };
        let compiled = self.environment.get_template(name).map_err(|error| failed(&error))?;
        let mut out = Bounded(Vec::new());
        match compiled.render_captured_to(Value::from(Serde(context(reads, facts))), &mut out) {
            Ok(_) => {}
            Err(_) if out.0.len() >= MAX_BYTES => return Err(Unmade::Unsafe),
            Err(error) => return Err(failed(&error)),
        }
        let text = String::from_utf8(out.0).map_err(|_| Unmade::Unsafe)?;
        landing.finish(&text).map(Into::into)
    }
}

impl Template {
    /// The text, where it is the same for everybody.
    #[must_use]
    pub fn fixed(&self) -> Option<&str> {
        match &self.0 {
            Kind::Fixed(text) => Some(text),
            Kind::Made { .. } => None,
        }
    }

    /// Whether it asks for what is known of a visitor.
    #[must_use]
    pub fn asks_for_traits(&self) -> bool {
        match &self.0 {
            Kind::Fixed(_) => false,
            Kind::Made { reads, .. } => reads.iter().any(|read| &*read.variable == "traits"),
        }
    }

    /// As it was written.
    #[must_use]
    pub fn source(&self) -> &str {
        match &self.0 {
            Kind::Fixed(text) => text,
            Kind::Made { source, .. } => source,
        }
    }
}

/// The text of `parts`, where the traits are texts: what most templates come to, in a tenth of the engine's time.
fn joined(parts: &[Part], facts: &Facts<'_>) -> Option<String> {
    let mut out = String::new();
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Trait(name) => match facts.profile()?.get(name)?.see() {
                Seen::Text(value) => push_value(&mut out, value),
                _ => return None,
            },
        }
        if out.len() >= MAX_BYTES {
            return None;
        }
    }
    Some(out)
}

/// The values that `reads` asks for.
fn context(reads: &[Read], facts: &Facts<'_>) -> BTreeMap<String, Json> {
    let mut out: BTreeMap<String, Json> = BTreeMap::new();
    for Read { variable, member } in reads {
        let own = out.entry(variable.to_string()).or_insert_with(|| Map::new().into());
        match (&**variable, member) {
            ("traits", Some(name)) => {
                let known = facts.profile().and_then(|profile| profile.get(name));
                if let (Some(value), Some(own)) = (known.filter(Trait::is_set), own.as_object_mut())
                {
                    own.insert(name.to_string(), value.value());
                }
            }
            _ => {
                if let Some(Json::Object(all)) = facts.whole(variable).as_ref().and_then(json) {
                    *own = all.into();
                }
            }
        }
    }
    out
}

/// Takes at most [`MAX_BYTES`].
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        if self.0.len() >= MAX_BYTES {
            self.0.truncate(MAX_BYTES);
            return Err(io::Error::other("too long"));
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
