//! Texts with values put in: minijinja, with every value made safe for the place where it lands.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use lol_html::html_content::{TextChunk, TextType};
use lol_html::{RewriteStrSettings, element, rewrite_str};
use minijinja::value::{Serde, Value};
use minijinja::{Environment, Error, ErrorKind, Output, State, UndefinedBehavior};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value as Json};

use super::client::json;
use super::{Facts, VARIABLES};
use crate::html::{
    escape_everywhere, is_code_attribute, is_safe_url, is_url_attribute, push_script_json,
};
use crate::profile::Trait;

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
    Made { name: Box<str>, source: Box<str>, reads: Arc<[Read]> },
}

/// What a template asks for: a variable, or one member of it.
#[derive(Debug)]
struct Read {
    variable: Box<str>,
    member: Option<Box<str>>,
}

/// Where a text lands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landing {
    /// Where the whole text is escaped.
    Plain,
    /// Markup of the configuration's own; values are text or attributes in it.
    Html,
    /// An attribute that is a URL; values are parts of it, or all of it.
    Url,
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
/// Names of the filters by which values in markup are made safe.
const WHOLE_URL: &str = "doorstep_url";
const PART_OF_URL: &str = "doorstep_url_part";

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
                let text = match (Landing::of(state.name()), value.as_str()) {
                    (Landing::Json, _) => {
                        let json =
                            serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned());
                        let mut safe = String::with_capacity(json.len());
                        push_script_json(&mut safe, &json);
                        safe
                    }
                    (Landing::Html, Some(text)) => escape_everywhere(text),
                    (Landing::Html, None) => escape_everywhere(&value.to_string()),
                    (_, Some(text)) => text.to_owned(),
                    (_, None) => value.to_string(),
                };
                out.write_str(&text).map_err(Error::from)
            },
        );
        environment.add_filter(WHOLE_URL, |url: String| {
            if is_safe_url(&url) { Ok(url) } else { Err(unsafe_value()) }
        });
        environment.add_filter(PART_OF_URL, |value: String| {
            utf8_percent_encode(&value, NON_ALPHANUMERIC).to_string()
        });
        Self { environment, count: 0 }
    }
}

fn unsafe_value() -> Error {
    Error::new(ErrorKind::InvalidOperation, UNSAFE)
}

const UNSAFE: &str = "the value can't stand here";

impl Landing {
    const ALL: [Self; 4] = [Self::Plain, Self::Html, Self::Url, Self::Json];

    const fn mark(self) -> char {
        match self {
            Self::Plain => 'p',
            Self::Html => 'h',
            Self::Url => 'u',
            Self::Json => 'j',
        }
    }

    fn of(name: &str) -> Self {
        let known = Self::ALL.into_iter().find(|one| name.starts_with(one.mark()));
        known.unwrap_or(Self::Html)
    }
}

impl Templates {
    /// Compiles `source`, whose text lands as `landing` says.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn add(&mut self, source: &str, landing: Landing) -> Result<Template, String> {
        if !["{{", "{%", "{#"].iter().any(|open| source.contains(open)) {
            return Ok(Template(Kind::Fixed(source.into())));
        }
        let name = format!("{}{}", landing.mark(), self.count);
        self.count += 1;
        let safe = match landing {
            Landing::Html => in_markup(source)?,
            Landing::Url => in_url(source),
            Landing::Plain | Landing::Json => source.to_owned(),
        };
        let wrong = |error: &Error| {
            let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
            format!("not a template: {detail}")
        };
        self.known_filters(source)?;
        self.environment.add_template_owned(name.clone(), safe).map_err(|error| wrong(&error))?;
        let compiled = self.environment.get_template(&name).map_err(|error| wrong(&error))?;
        let mut reads = Vec::new();
        for asked in compiled.undeclared_variables(true) {
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
        let (name, source, reads) = (name.into(), source.into(), reads.into());
        Ok(Template(Kind::Made { name, source, reads }))
    }

    /// The engine looks for filters only when it needs them.
    fn known_filters(&self, source: &str) -> Result<(), String> {
        let word = |char: char| char.is_ascii_alphanumeric() || char == '_';
        let code = [("{{", "}}"), ("{%", "%}")].into_iter().flat_map(|(open, close)| {
            let parts = source.split(open).skip(1);
            parts.map(move |part| part.split_once(close).map_or(part, |(code, _)| code))
        });
        for behind in code.flat_map(|code| code.split('|').skip(1)) {
            let behind = behind.trim_start();
            let end = behind.find(|char| !word(char)).unwrap_or(behind.len());
            let name = behind.get(..end).unwrap_or_default();
            if name.is_empty() || name.starts_with(|char: char| char.is_ascii_digit()) {
                continue;
            }
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
        let (name, reads) = match &template.0 {
            Kind::Fixed(text) => return Ok(Arc::clone(text)),
            Kind::Made { name, reads, .. } => (name, reads),
        };
        let failed = |error: &Error| match (error.kind(), error.detail()) {
            (ErrorKind::UndefinedError, _) => Unmade::Absent,
            (_, Some(UNSAFE)) => Unmade::Unsafe,
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
        if Landing::of(name) == Landing::Url && !is_safe_url(&text) {
            return Err(Unmade::Unsafe);
        }
        Ok(text.into())
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

/// A template cut at its `{{ }}`: text (with what blocks are in it), then what stands in the braces.
fn cut(source: &str) -> Vec<(&str, Option<&str>)> {
    let (mut out, mut rest) = (Vec::new(), source);
    while let Some((text, behind)) = rest.split_once("{{") {
        let Some((inner, behind)) = behind.split_once("}}") else { break };
        out.push((text, Some(inner)));
        rest = behind;
    }
    out.push((rest, None));
    out
}

/// What stands in the braces, with a filter put behind it.
fn filtered(inner: &str, filter: &str) -> String {
    let (start, inner) = inner.strip_prefix('-').map_or(("", inner), |rest| ("-", rest));
    let (end, inner) = inner.strip_suffix('-').map_or(("", inner), |rest| ("-", rest));
    format!("{{{{{start} ({inner})|{filter} {end}}}}}")
}

/// Values behind the beginning of a URL are parts of it; one at the beginning may be all of it.
fn in_url(source: &str) -> String {
    let mut out = String::new();
    for (text, inner) in cut(source) {
        let first = out.is_empty() && text.trim().is_empty();
        out.push_str(text);
        if let Some(inner) = inner {
            out.push_str(&filtered(inner, if first { WHOLE_URL } else { PART_OF_URL }));
        }
    }
    out
}

/// Markup whose values are made safe by where they stand in it.
///
/// # Errors
/// A value stands where none can be made safe.
fn in_markup(source: &str) -> Result<String, String> {
    let cuts = cut(source);
    let mark = |index: usize| format!("DSX{index}X");
    let mut probe = String::new();
    for (index, (text, inner)) in cuts.iter().enumerate() {
        probe.push_str(&without_blocks(text));
        if inner.is_some() {
            probe.push_str(&mark(index));
        }
    }
    let mut filters: Vec<Option<&str>> = vec![None; cuts.len()];
    let mut places: Vec<bool> = vec![false; cuts.len()];
    let mut wrong: Option<String> = None;
    let mut texts = String::new();
    let marks: Vec<String> = (0..cuts.len()).map(mark).collect();
    let attributes = element!("*", |element| {
        for attribute in element.attributes() {
            let (name, value) = (attribute.name(), attribute.value());
            for (index, mark) in
                marks.iter().enumerate().filter(|(_, mark)| value.contains(&**mark))
            {
                if is_code_attribute(&name) {
                    wrong = Some(format!("a value can't stand in the attribute `{name}`"));
                }
                if let (Some(place), Some(filter)) = (places.get_mut(index), filters.get_mut(index))
                {
                    *place = true;
                    if is_url_attribute(&name) {
                        let whole = value.trim_start().starts_with(&**mark);
                        *filter = Some(if whole { WHOLE_URL } else { PART_OF_URL });
                    }
                }
            }
        }
        Ok(())
    });
    let text = lol_html::doc_text!(|chunk: &mut TextChunk<'_>| {
        if matches!(chunk.text_type(), TextType::Data | TextType::RCData) {
            texts.push_str(chunk.as_str());
        }
        Ok(())
    });
    let settings = RewriteStrSettings::new()
        .with_strict(false)
        .append_element_content_handler(attributes)
        .append_document_content_handler(text);
    rewrite_str(&probe, settings).map_err(|error| format!("not markup: {error}"))?;
    if let Some(wrong) = wrong {
        return Err(wrong);
    }
    let mut out = String::new();
    for (index, (before, inner)) in cuts.iter().enumerate() {
        out.push_str(before);
        let Some(inner) = inner else { continue };
        let stands = places.get(index).copied().unwrap_or(false)
            || marks.get(index).is_some_and(|mark| texts.contains(&**mark));
        if !stands {
            return Err(format!(
                "a value can't stand where `{{{{{inner}}}}}` does: only in text and in values of attributes"
            ));
        }
        match filters.get(index).copied().flatten() {
            Some(filter) => out.push_str(&filtered(inner, filter)),
            None => out.extend(["{{", inner, "}}"]),
        }
    }
    Ok(out)
}

/// Text without `{% %}` and `{# #}`.
fn without_blocks(text: &str) -> String {
    let mut out = text.to_owned();
    for (open, close) in [("{%", "%}"), ("{#", "#}")] {
        while let Some(start) = out.find(open) {
            let end = out.get(start..).and_then(|rest| rest.find(close));
            let end = end.map_or(out.len(), |end| start + end + close.len());
            out.replace_range(start..end, "");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::decide::RequestFacts;
    use crate::geo::Place;
    use crate::identity::Visitor;
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
            ""
        }
        fn headers(&self) -> Vec<(String, String)> {
            Vec::new()
        }
        fn place(&self) -> Option<Place> {
            None
        }
    }

    fn made(source: &str, landing: Landing) -> Result<String, Unmade> {
        let mut profile = Profile::default();
        let traits = json!({
            "evil": "</script><script>alert(1)", "js": "javascript:alert(1)", "name": "J\u{fc}rgen",
            "url": "https://x.example/?a=b&c", "age": 41, "list": ["<a>", "b"], "braces": "{{ 7*7 }}",
            "long": "x".repeat(60_000), "no": null,
        });
        let traits = traits.as_object().unwrap().clone().into_iter();
        let update = Update::new(1, traits.map(|(name, value)| (name.into(), value)));
        profile.merge(&update, 1).unwrap();
        let visitor = Visitor::default();
        let facts = Facts::new(&visitor, Some(&profile), &Asked);
        let mut templates = Templates::default();
        let template = templates.add(source, landing).unwrap();
        templates.make(&template, &facts).map(|text| text.to_string())
    }

    #[test]
    fn values_are_safe_where_they_land() {
        use Landing::{Html, Json, Plain, Url};
        for (source, landing, expected) in [
            ("plain", Html, "plain"),
            ("a | b {{ traits.age }}", Plain, "a | b 41"),
            ("Hi {{ traits.name }}, {{ traits.age }}", Plain, "Hi J\u{fc}rgen, 41"),
            ("{{ traits.braces }}", Plain, "{{ 7*7 }}"),
            (
                "<b title={{ traits.evil }}>{{ traits.evil }}</b>",
                Html,
                "<b title=&#60;&#47;script&#62;&#60;script&#62;alert&#40;1&#41;>&#60;&#47;script&#62;&#60;script&#62;alert&#40;1&#41;</b>",
            ),
            (
                "<a href=\"{{ traits.url }}\">",
                Html,
                "<a href=\"https&#58;&#47;&#47;x.example&#47;&#63;a&#61;b&#38;c\">",
            ),
            (
                "<a href=\"/u?q={{ traits.url }}\">",
                Html,
                "<a href=\"/u?q=https&#37;3A&#37;2F&#37;2Fx&#37;2Eexample&#37;2F&#37;3Fa&#37;3Db&#37;26c\">",
            ),
            ("/u/{{ traits.name }}/", Url, "/u/J%C3%BCrgen/"),
            ("{{ traits.url }}", Url, "https://x.example/?a=b&c"),
            (
                "{\"a\": {{ traits.evil }}, \"b\": {{ traits.list }}}",
                Json,
                "{\"a\": \"\\u003c/script\\u003e\\u003cscript\\u003ealert(1)\", \"b\": [\"\\u003ca\\u003e\",\"b\"]}",
            ),
            (
                "{% for x in traits.list %}<li>{{ x }}</li>{% endfor %}",
                Html,
                "<li>&#60;a&#62;</li><li>b</li>",
            ),
            ("{{ traits.gone | default('you') }}", Plain, "you"),
            ("{% if traits.age > 40 %}old{% endif %}", Plain, "old"),
            ("{{ request.path }}", Plain, "/a"),
        ] {
            assert_eq!(made(source, landing).as_deref(), Ok(expected), "{source}");
        }
        for (source, landing, why) in [
            ("{{ traits.gone }}", Plain, Unmade::Absent),
            ("{{ traits.no }}", Plain, Unmade::Absent),
            ("{{ geo.city }}", Html, Unmade::Absent),
            ("{{ traits.js }}", Url, Unmade::Unsafe),
            ("java{{ 'script:' }}x", Url, Unmade::Unsafe),
            ("<a href='{{ traits.js }}'>", Html, Unmade::Unsafe),
            ("{{ traits.long }}{{ traits.long }}", Plain, Unmade::Unsafe),
        ] {
            let got = made(source, landing);
            if source.starts_with("java") {
                assert_eq!(got.as_deref(), Ok("javascript%3Ax"));
                continue;
            }
            assert_eq!(got, Err(why), "{source}");
        }
        assert!(matches!(
            made(
                "{% for a in range(1000) %}{% for b in range(1000) %}x{% endfor %}{% endfor %}",
                Plain
            ),
            Err(Unmade::Failed(_))
        ));
    }

    #[test]
    fn values_that_could_be_code_are_refused_at_load() {
        for (source, why) in [
            ("<script>var a = {{ traits.a }}</script>", "only in text"),
            ("<style>a{color:{{ traits.a }}}</style>", "only in text"),
            ("<a onclick='{{ traits.a }}'>", "`onclick`"),
            ("<a style='color:{{ traits.a }}'>", "`style`"),
            ("<{{ traits.a }}>", "only in text"),
            ("<a {{ traits.a }}=1>", "only in text"),
            ("<!-- {{ traits.a }} -->", "only in text"),
            ("{{ trait.a }}", "unknown name `trait`"),
            ("{{ traits.a", "not a template"),
            ("{{ traits.a | nofilter }}", "not a template"),
        ] {
            let got = Templates::default().add(source, Landing::Html).map(|_| ());
            assert!(got.as_ref().is_err_and(|wrong| wrong.contains(why)), "{source}: {got:?}");
        }
    }
}
