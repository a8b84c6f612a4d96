//! The request as expressions see it.

use std::collections::HashMap;
use std::sync::Arc;

use cel::common::types::CelString;
use cel::common::value::Val;
use cel::objects::{Key, Map};
use cel::{ExecutionError, Value};

use super::RequestFacts;
use crate::decide::lazy::{LazyMap, Source};

/// `request`.
pub(super) struct Request<'f>(pub(super) &'f dyn RequestFacts);

/// `request.headers`, `request.cookies`, `request.query`.
struct Member<'f> {
    request: &'f dyn RequestFacts,
    of: Of,
}

#[derive(Clone, Copy)]
enum Of {
    Headers,
    Cookies,
    Query,
}

impl<'f> Source<'f> for Request<'f> {
    fn find(&self, name: &str) -> Result<Option<Box<dyn Val + 'f>>, ExecutionError> {
        let member = |of| Box::new(LazyMap::new(Member { request: self.0, of }));
        Ok(Some(match name {
            "method" => Box::new(CelString::from(self.0.method())),
            "path" => Box::new(CelString::from(self.0.path())),
            "device" => Box::new(CelString::from(device(self.0))),
            "headers" => member(Of::Headers),
            "cookies" => member(Of::Cookies),
            "query" => member(Of::Query),
            _ => return Ok(None),
        }))
    }

    fn whole(&self) -> Value {
        let member = |of| Member { request: self.0, of }.whole();
        map([
            ("method".to_owned(), text(self.0.method())),
            ("path".to_owned(), text(self.0.path())),
            ("device".to_owned(), text(device(self.0))),
            ("headers".to_owned(), member(Of::Headers)),
            ("cookies".to_owned(), member(Of::Cookies)),
            ("query".to_owned(), member(Of::Query)),
        ])
    }
}

impl Member<'_> {
    fn get(&self, name: &str) -> Option<String> {
        match self.of {
            Of::Headers => self.request.header(name),
            Of::Cookies => cookie(self.request, name),
            Of::Query => {
                let mut pairs = pairs(self.request.query());
                pairs.find(|(own, _)| own == name).map(|(_, value)| value)
            }
        }
    }
}

impl<'f> Source<'f> for Member<'f> {
    fn find(&self, name: &str) -> Result<Option<Box<dyn Val + 'f>>, ExecutionError> {
        Ok(self.get(name).map(|value| Box::new(CelString::from(value)) as Box<dyn Val + 'f>))
    }

    fn whole(&self) -> Value {
        match self.of {
            Of::Headers => {
                map(self.request.headers().into_iter().map(|(name, v)| (name, text(&v))))
            }
            Of::Cookies => {
                let cookies = self.request.header("cookie").unwrap_or_default();
                map(split(&cookies).map(|(name, value)| (name.to_owned(), text(value))))
            }
            Of::Query => map(pairs(self.request.query()).map(|(name, v)| (name, text(&v)))),
        }
    }
}

/// The first cookie of this name, as it was sent.
pub(super) fn cookie(request: &dyn RequestFacts, name: &str) -> Option<String> {
    let cookies = request.header("cookie")?;
    split(&cookies).find(|(own, _)| *own == name).map(|(_, value)| value.to_owned())
}

fn split(cookies: &str) -> impl Iterator<Item = (&str, &str)> {
    cookies.split(';').filter_map(|pair| pair.trim().split_once('='))
}

/// `application/x-www-form-urlencoded`.
fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (form_decode(name), form_decode(value))
    })
}

/// `+` is a space.
fn form_decode(raw: &str) -> String {
    let spaced = raw.replace('+', " ");
    percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

/// What the page is looked at with: `phone`, `tablet` or `desktop`, as far as the browser tells.
fn device(request: &dyn RequestFacts) -> &'static str {
    let agent = request.header("user-agent").unwrap_or_default();
    let has = |text: &str| agent.contains(text);
    if has("iPad") || has("Tablet") || (has("Android") && !has("Mobile")) {
        return "tablet";
    }
    let hint = request.header("sec-ch-ua-mobile");
    if has("Mobi") || hint.as_deref() == Some("?1") { "phone" } else { "desktop" }
}

pub(super) fn text(text: &str) -> Value {
    Value::String(Arc::new(text.to_owned()))
}

/// The first of each name counts, as it does where one is asked for.
pub(super) fn map(entries: impl IntoIterator<Item = (String, Value)>) -> Value {
    let mut map: HashMap<Key, Value> = HashMap::new();
    for (name, value) in entries {
        map.entry(Key::String(Arc::new(name))).or_insert(value);
    }
    Value::Map(Map { map: Arc::new(map) })
}
