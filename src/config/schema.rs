//! The shape of the configuration: unknown keys, missing keys and wrong types, all at once.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::file::File;
use super::problem::Problem;
use super::public::Visibility;
use super::remains::Remains;
use super::source::Source;

/// The JSON Schema (2020-12) of the configuration, made from the structures in [`super::file`].
#[must_use]
pub fn schema() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    // Without references a validation error's path leads straight to the rule that was broken.
    settings.inline_subschemas = true;
    let mut schema = settings.into_generator().into_root_schema_for::<File>();
    schema.insert("title".into(), "Doorstep configuration".into());
    let mut schema = schema.to_value();
    bound_integers(&mut schema);
    schema
}

/// The schema, made once.
pub(super) fn schema_ref() -> &'static Value {
    static SCHEMA: LazyLock<Value> = LazyLock::new(schema);
    &SCHEMA
}

/// Whole numbers that JSON has, and a machine does not: without a bound they are found out where nobody knows any
/// more which key had them.
fn bound_integers(rule: &mut Value) {
    match rule {
        Value::Object(members) => {
            let format = members.get("format").and_then(Value::as_str);
            let most: Option<u64> = match format {
                Some("uint8") => Some(u8::MAX.into()),
                Some("uint16") => Some(u16::MAX.into()),
                Some("uint32") => Some(u32::MAX.into()),
                Some("uint" | "uint64" | "int64") => Some((1 << 53) - 1),
                _ => None,
            };
            if let Some(most) = most {
                members.entry("maximum").or_insert_with(|| most.into());
            }
            members.values_mut().for_each(bound_integers);
        }
        Value::Array(rules) => rules.iter_mut().for_each(bound_integers),
        _ => {}
    }
}

/// Everything that is wrong with the shape of `source`, and the file that is left without it, if one is.
pub(super) fn read(
    source: &Source,
    visibility: &Visibility,
) -> (Option<(File, Remains)>, Vec<Problem>) {
    let mut wrong = Vec::new();
    let rest = sound(source, visibility, &mut wrong);
    // The schema is made from the same structures, so what is left here are values that a pattern
    // can't judge.
    let file = rest.and_then(|rest| match serde_json::from_value(rest.value.clone()) {
        Ok(file) => Some((file, rest)),
        Err(error) => {
            wrong.push(Problem::new("", source.place(""), error.to_string()));
            None
        }
    });
    (file, wrong)
}

/// What has the right shape in `source`. Adds to `wrong` what has not.
fn sound(source: &Source, visibility: &Visibility, wrong: &mut Vec<Problem>) -> Option<Remains> {
    static VALIDATOR: LazyLock<Result<jsonschema::Validator, String>> = LazyLock::new(|| {
        jsonschema::validator_for(schema_ref()).map_err(|error| error.to_string())
    });
    let validator = VALIDATOR
        .as_ref()
        .map_err(|error| wrong.push(Problem::new("", source.place(""), error.as_str())))
        .ok()?;
    let mut broken = BTreeSet::new();
    loop {
        let remains = Remains::of(&source.value, &broken);
        let mut found = Vec::new();
        for error in validator.iter_errors(&remains.value) {
            let about = About { source, visibility, remains: &remains };
            explain(&about, &error, &mut found);
        }
        if found.is_empty() {
            return Some(remains);
        }
        // What is wrong only now is so because something has been taken out: what needs that goes as well.
        let pointers: Vec<_> = found.iter().map(|one| remains.in_file(one.pointer())).collect();
        if broken.is_empty() {
            wrong.append(&mut found);
        }
        let before = broken.len();
        broken.extend(pointers);
        if broken.contains("") || broken.len() == before {
            return None;
        }
    }
}

/// The file that is judged.
struct About<'a> {
    source: &'a Source,
    visibility: &'a Visibility,
    remains: &'a Remains,
}

/// Puts `error` into words. Where a value has several forms, what is wrong with the one that was
/// meant: the one whose type it has.
fn explain(about: &About<'_>, error: &jsonschema::ValidationError<'_>, out: &mut Vec<Problem>) {
    if let ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } =
        error.kind()
    {
        let meant = context.iter().find(|branch| {
            !branch.iter().any(|inner| {
                inner.instance_path() == error.instance_path()
                    && !matches!(
                        inner.kind(),
                        ValidationErrorKind::AdditionalProperties { .. }
                            | ValidationErrorKind::Required { .. }
                    )
            })
        });
        if let Some(meant) = meant {
            for inner in meant {
                explain(about, inner, out);
            }
            return;
        }
    }
    let source = about.source;
    let pointer = error.instance_path().to_string();
    if let ValidationErrorKind::AdditionalProperties { unexpected } = error.kind() {
        let parent = error.schema_path().to_string();
        let known = known_keys(schema_ref(), parent.trim_end_matches("/additionalProperties"));
        for key in unexpected {
            let at = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
            let message = if about.visibility.hides_key(&about.remains.in_file(&at)) {
                format!("unknown key; expected one of: {}", known.join(", "))
            } else {
                unknown(key, &known)
            };
            out.push(Problem::new(&at, source.key_place(&at), message));
        }
        return;
    }
    let message = message(about, error);
    out.push(Problem::new(&pointer, source.place(&pointer), message));
}

fn message(about: &About<'_>, error: &jsonschema::ValidationError<'_>) -> String {
    let schema = schema_ref();
    let path = error.schema_path().to_string();
    let rule = path.rfind('/').and_then(|cut| path.get(..cut)).unwrap_or_default();
    let expected =
        schema.pointer(rule).and_then(|rule| rule.get("x-expected")).and_then(Value::as_str);
    let place = about.remains.in_file(&error.instance_path().to_string());
    let found = if about.source.is_from_environment(&place) {
        "something else from the environment".to_owned()
    } else if about.visibility.hides(&place) {
        kind(error.instance()).to_owned()
    } else {
        shown(error.instance())
    };
    if is_secret(schema.pointer(rule))
        && !matches!(error.kind(), ValidationErrorKind::Required { .. })
    {
        return format!("expected {}, found something else", expected.unwrap_or("text"));
    }
    match (expected, error.kind()) {
        (_, ValidationErrorKind::Required { property }) => {
            format!("`{}` is missing here", property.as_str().unwrap_or_default())
        }
        (Some(expected), _) => format!("expected {expected}, found {found}"),
        (None, ValidationErrorKind::Type { kind: TypeKind::Single(kind) }) => {
            format!("expected {}, found {}", type_name(&kind.to_string()), found)
        }
        (None, ValidationErrorKind::Enum { options }) => {
            let options: Vec<_> = options
                .as_array()
                .into_iter()
                .flatten()
                .filter(|option| !option.is_null())
                .map(shown)
                .collect();
            format!("expected {}, found {found}", options.join(" or "))
        }
        (None, ValidationErrorKind::Pattern { pattern }) => {
            format!("expected text like {pattern}, found {found}")
        }
        (None, ValidationErrorKind::Maximum { limit }) => {
            format!("expected at most {limit}, found {found}")
        }
        (None, ValidationErrorKind::Minimum { limit }) => {
            format!("expected at least {limit}, found {found}")
        }
        (None, ValidationErrorKind::MinItems { .. }) => "expected at least one entry".into(),
        (None, ValidationErrorKind::AnyOf { .. } | ValidationErrorKind::OneOfNotValid { .. }) => {
            format!("expected {}, found {}", forms(schema.pointer(&path)), found)
        }
        (None, _) => error.masked_with("this").to_string(),
    }
}

/// Whether values that `rule` is about are never shown.
fn is_secret(rule: Option<&Value>) -> bool {
    rule.is_some_and(|rule| rule.get("x-secret").is_some())
}

/// What a value with several forms can be.
fn forms(rule: Option<&Value>) -> String {
    let mut out: Vec<String> = Vec::new();
    for form in rule.and_then(Value::as_array).into_iter().flatten() {
        // A word is listed with its meaning, in a list of its own.
        if let Some(words) = form.get("oneOf") {
            out.push(forms(Some(words)));
            continue;
        }
        let one = form.get("const").map(std::slice::from_ref);
        let words = one.or_else(|| form.get("enum")?.as_array().map(Vec::as_slice));
        let kind = form.get("type").and_then(Value::as_str);
        match (words, kind) {
            (Some(words), _) => out.extend(words.iter().map(shown)),
            (None, Some(kind)) => out.push(type_name(kind).to_owned()),
            (None, None) => {}
        }
    }
    match out.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => "another form".to_owned(),
    }
}

fn type_name(kind: &str) -> &'static str {
    match kind.trim_matches('"') {
        "array" => "a list",
        "object" => "keys and values",
        "boolean" => "true or false",
        "integer" => "a whole number",
        "number" => "a number",
        _ => "text",
    }
}

/// A value as a message shows it: what kind it is where showing it would be long.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "keys and values".into(),
        Value::String(text) => format!("`{}`", text.chars().take(80).collect::<String>()),
        other => format!("`{other}`"),
    }
}

/// What kind of value this is.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "a list",
        Value::Object(_) => "keys and values",
        Value::String(_) => "text",
        Value::Number(_) => "a number",
        Value::Bool(_) => "true or false",
        Value::Null => "nothing",
    }
}

fn known_keys<'s>(schema: &'s Value, rule: &str) -> Vec<&'s str> {
    schema
        .pointer(rule)
        .and_then(|rule| rule.get("properties"))
        .and_then(Value::as_object)
        .map(|known| known.keys().map(String::as_str).collect())
        .unwrap_or_default()
}

/// `unknown key`, with the known one that was probably meant.
pub(super) fn unknown(key: &str, known: &[&str]) -> String {
    match nearest(key, known) {
        Some(meant) => format!("unknown key `{key}`; did you mean `{meant}`?"),
        None => format!("unknown key `{key}`; expected one of: {}", known.join(", ")),
    }
}

/// The name in `known` that `name` most probably was meant to be.
pub(super) fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().max(3) / 3)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::super::compile::load;
    use super::*;

    fn complaints(text: &str) -> String {
        let env = |name: &str| (name == "KEY").then(|| "k".to_owned());
        load("d.yaml", text, env).map_or_else(|all| all.to_string(), |_| String::new())
    }

    #[test]
    fn all_problems_come_at_once_with_their_places() {
        let text = "listeners:\n  - addres: 1\nthreads: many\nprofiles:\n  wait: 25\nsites: []\n";
        assert_eq!(
            complaints(text),
            "d.yaml:2:5: listeners[0]\n  `address` is missing here\n  2 |   - addres: …\n    |     ^\n\
             d.yaml:2:5: listeners[0].addres\n  unknown key `addres`; did you mean `address`?\n  2 |   - addres: …\n    |     ^^^^^^\n\
             d.yaml:3:10: threads\n  expected a whole number or `auto`, found `many`\n  3 | threads: many\n    |          ^^^^\n\
             d.yaml:5:9: profiles.wait\n  expected a time with its unit, such as `25ms`, `60s`, `10m` or `72h`, and at most `9999d`, found `25`\n  5 |   wait: 25\n    |         ^^\n\
             d.yaml:6:8: sites\n  expected at least one entry\n  6 | sites: []\n    |        ^\n\
             d.yaml: 5 problems"
        );
    }

    #[test]
    fn broken_yaml_and_missing_variables_are_placed() {
        assert!(complaints("a: 1\n  b: 2\n").starts_with("d.yaml:2:4: (file)\n  mapping values"));
        assert!(
            complaints("a: 1\na: 2\n")
                .starts_with("d.yaml:2:1: (file)\n  duplicate mapping key: a")
        );
        assert!(complaints("data: { path: '${NO}' }").contains("no variable `NO`"));
    }

    #[test]
    fn a_good_file_is_read_with_the_environment() {
        let text = "listeners: [{ address: '[::]:80' }]\nsites:\n  - name: shop\n    hosts: [a.example]\n    origin: { address: 127.0.0.1:1 }\n    vendor: { segment: { write_key: '${KEY}' } }\n";
        let (source, lacks) = Source::parse("d.yaml", text, |_| Some("k".into())).unwrap();
        let (file, wrong) = read(&source, &Visibility::of(&source));
        let (file, _) = file.unwrap();
        assert!(lacks.is_empty() && wrong.is_empty(), "{wrong:?}");
        assert_eq!(
            file.sites[0].vendor.segment.as_ref().unwrap().write_key.as_ref().unwrap().expose(),
            "k"
        );
    }
}
