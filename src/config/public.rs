//! Which values of a file may be shown: those whose key is public by the schema, and which look like what belongs there.

use std::collections::HashSet;
use std::path::Path;
use std::sync::LazyLock;

use http::Uri;
use regex::Regex;
use serde_json::Value;

use super::problem::Place;
use super::schema::{nearest, schema_ref};
use super::source::Source;

/// What of a file is shown, and what never is.
#[derive(Debug, Default)]
pub(super) struct Visibility {
    /// Where public keys and values stand.
    pub(super) shown: Vec<Place>,
    /// Where values stand that are never shown.
    pub(super) hidden: Vec<Place>,
    /// What those values are, also when they came from the environment.
    pub(super) texts: Vec<String>,
    /// Keys that may be a secret by mistake (RFC 6901).
    pub(super) keys: HashSet<String>,
    pointers: HashSet<String>,
}

impl Visibility {
    /// What the schema says of the values of `source`.
    pub(super) fn of(source: &Source) -> Self {
        let mut visibility = Self::default();
        visibility.walk(source, &[schema_ref()], &source.value, "");
        visibility
    }

    /// Whether the value at `pointer` (RFC 6901) is never shown.
    pub(super) fn hides(&self, pointer: &str) -> bool {
        self.pointers.contains(pointer)
    }

    /// Whether the key at `pointer` itself is never shown.
    pub(super) fn hides_key(&self, pointer: &str) -> bool {
        self.keys.contains(pointer)
    }

    fn walk(&mut self, source: &Source, rules: &[&Value], value: &Value, at: &str) {
        let mut forms = Vec::new();
        for rule in rules {
            collect_forms(rule, &mut forms);
        }
        if forms.iter().any(|rule| rule.get("x-secret").is_some()) {
            return self.hide(source, value, at);
        }
        match value {
            Value::Object(members) => {
                for (key, value) in members {
                    let at = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
                    self.walk_member(source, &forms, key, value, &at);
                }
            }
            Value::Array(items) => {
                let rules: Vec<_> = forms.iter().filter_map(|rule| rule.get("items")).collect();
                if rules.is_empty() {
                    return self.hide(source, value, at);
                }
                for (index, value) in items.iter().enumerate() {
                    self.walk(source, &rules, value, &format!("{at}/{index}"));
                }
            }
            scalar => self.judge(source, &forms, scalar, at),
        }
    }

    fn walk_member(
        &mut self,
        source: &Source,
        forms: &[&Value],
        key: &str,
        value: &Value,
        at: &str,
    ) {
        let known =
            |rule: &&Value| rule.get("properties").is_some_and(|all| all.get(key).is_some());
        let rules: Vec<_> =
            forms.iter().filter_map(|rule| rule.get("properties")?.get(key)).collect();
        if forms.iter().any(known) {
            self.shown.extend(source.own_key_place(at));
            return self.walk(source, &rules, value, at);
        }
        let free: Vec<_> = forms
            .iter()
            .filter_map(|rule| rule.get("additionalProperties"))
            .filter(|rule| rule.is_object())
            .collect();
        if free.is_empty() {
            let names = forms.iter().filter_map(|rule| rule.get("properties")?.as_object());
            let names: Vec<_> = names.flat_map(|all| all.keys().map(String::as_str)).collect();
            let near = nearest(key, &names).is_some();
            self.judge_key(source, key, near, at);
            return self.hide(source, value, at);
        }
        let secret = free.iter().any(|rule| rule.get("x-secret").is_some());
        self.judge_key(source, key, !secret, at);
        self.walk(source, &free, value, at);
    }

    fn judge_key(&mut self, source: &Source, key: &str, public: bool, at: &str) {
        if public || KEY.is_match(key) {
            self.shown.extend(source.own_key_place(at));
        } else {
            self.hide_key(source, key, at);
        }
    }

    fn hide_key(&mut self, source: &Source, key: &str, at: &str) {
        self.hidden.extend(source.own_key_place(at));
        self.keys.insert(at.to_owned());
        self.texts.push(key.to_owned());
    }

    fn judge(&mut self, source: &Source, forms: &[&Value], value: &Value, at: &str) {
        let text = as_text(value);
        let scalar = forms.iter().any(|rule| takes_scalars(rule));
        let parts = forms.iter().any(|rule| rule.get("properties").is_some());
        let own = !source.is_from_environment(at) && scalar && (!parts || WORD.is_match(&text));
        let kind = forms.iter().find_map(|rule| rule.get("x-show").and_then(Value::as_str));
        let file = kind == Some("file") || at.ends_with("_file");
        let public = own
            && match kind {
                _ if file => is_path(&text),
                Some("url") => return self.judge_url(source, value, &text, at),
                _ => !has_login(&text),
            };
        if !public {
            self.hide(source, value, at);
        } else if !file && RANDOM.find_iter(&text).any(|run| is_random(run.as_str())) {
            let runs = RANDOM.find_iter(&text).filter(|run| is_random(run.as_str()));
            self.texts.extend(runs.map(|run| run.as_str().to_owned()));
            self.hidden.extend(source.own_places(at));
        } else {
            self.shown.extend(source.own_places(at).into_iter().next());
        }
    }

    /// Of a URL only scheme and host are shown.
    fn judge_url(&mut self, source: &Source, value: &Value, text: &str, at: &str) {
        let Some(public) = scheme_and_host(text) else { return self.hide(source, value, at) };
        let Some(rest) = text.get(public.len()..) else { return self.hide(source, value, at) };
        if rest.trim_end_matches('/').is_empty() {
            return self.shown.extend(source.own_places(at).into_iter().next());
        }
        self.texts.push(rest.to_owned());
        let place = source.own_places(at).into_iter().next();
        let width = public.chars().count();
        self.shown.extend(place.map(|place| place.within(&source.text, 0, width)));
    }

    /// Hides `value` and everything in it.
    fn hide(&mut self, source: &Source, value: &Value, at: &str) {
        self.pointers.insert(at.to_owned());
        match value {
            Value::Object(members) => {
                for (key, value) in members {
                    let at = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
                    self.hide_key(source, key, &at);
                    self.hide(source, value, &at);
                }
            }
            Value::Array(items) => {
                for (index, value) in items.iter().enumerate() {
                    self.hide(source, value, &format!("{at}/{index}"));
                }
            }
            scalar => {
                match source.environment_pieces(at) {
                    Some(pieces) => self.texts.extend(pieces.iter().cloned()),
                    None => self.texts.push(as_text(scalar)),
                }
                let places = source.own_places(at);
                if source.names_variables_alone(at) {
                    self.shown.extend(places);
                } else {
                    self.hidden.extend(places);
                }
            }
        }
    }
}

/// A key as people write them; what a generator makes has digits.
static KEY: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^[A-Za-z]{1,24}([_-][A-Za-z]{1,24}){0,3}$"));
/// A word where one of a few is expected.
static WORD: LazyLock<Regex> = LazyLock::new(|| pattern(r"^([a-z]{1,12}|\d{1,7})$"));
/// What a generator may have made.
static RANDOM: LazyLock<Regex> = LazyLock::new(|| pattern(r"[A-Za-z0-9_+=-]{16,}"));

#[allow(clippy::unwrap_used, reason = "a test compiles it")]
fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap()
}

fn is_random(run: &str) -> bool {
    let has = |kind: fn(&u8) -> bool| run.bytes().any(|byte| kind(&byte));
    let hex = run.len() >= 32 && run.bytes().all(|byte| byte.is_ascii_hexdigit());
    hex || (has(u8::is_ascii_digit) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase))
}

/// The forms that a value may have, each with its own rule.
fn collect_forms<'s>(rule: &'s Value, out: &mut Vec<&'s Value>) {
    out.push(rule);
    for forms in ["anyOf", "oneOf", "allOf"] {
        let forms = rule.get(forms).and_then(Value::as_array);
        forms.into_iter().flatten().for_each(|form| collect_forms(form, out));
    }
}

fn takes_scalars(rule: &Value) -> bool {
    let scalar =
        |kind: &Value| matches!(kind.as_str(), Some("string" | "integer" | "number" | "boolean"));
    match rule.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().any(scalar),
        Some(kind) => scalar(kind),
        None => rule.get("const").is_some() || rule.get("enum").is_some(),
    }
}

fn as_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Whether there may be a user and a password in it.
fn has_login(text: &str) -> bool {
    text.split_once(':').is_some_and(|(_, rest)| rest.contains('@'))
}

/// Whether this is the path of a file rather than what belongs into it: its folder is there.
fn is_path(text: &str) -> bool {
    let rooted = ["/", "./", "../"].iter().any(|start| text.starts_with(start));
    let folder = Path::new(text).parent();
    rooted
        && !text.contains('\n')
        && folder.is_some_and(|folder| folder.parent().is_some() && folder.is_dir())
}

/// The beginning of an address, if this is one, and without a user.
fn scheme_and_host(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let host = rest.get(..end)?;
    let uri: Uri = format!("http://{host}").parse().ok()?;
    let authority = uri.authority()?;
    let port = authority.port_u16();
    let good = !text.contains('@')
        && scheme.bytes().all(|byte| byte.is_ascii_alphabetic())
        && (!scheme.is_empty() || port.is_some())
        && authority.as_str() == host
        && authority.port().is_some() == port.is_some();
    text.get(..text.len() - rest.len() + end).filter(|_| good)
}
