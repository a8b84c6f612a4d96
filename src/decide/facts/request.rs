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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geo::Place;

    struct Asked([(&'static str, &'static str); 2]);

    impl RequestFacts for Asked {
        fn method(&self) -> &'static str {
            "GET"
        }
        fn path(&self) -> &'static str {
            "/"
        }
        fn query(&self) -> &'static str {
            ""
        }
        fn headers(&self) -> Vec<(String, String)> {
            self.0.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
        }
        fn place(&self) -> Option<Place> {
            None
        }
    }

    #[test]
    fn phones_and_tablets_are_told_by_what_they_send() {
        let iphone = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 Version/18.5 Mobile/15E148 Safari/604.1";
        let ipad = "Mozilla/5.0 (iPad; CPU OS 12_5 like Mac OS X) AppleWebKit/605.1.15 Version/12.1.2 Mobile/15E148 Safari/604.1";
        let pixel = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 Chrome/142.0.0.0 Mobile Safari/537.36";
        let tab =
            "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 Chrome/142.0.0.0 Safari/537.36";
        let desktop =
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/142.0.0.0 Safari/537.36";
        for (agent, hint, expected) in [
            (iphone, "", "phone"),
            (pixel, "?1", "phone"),
            (ipad, "", "tablet"),
            (tab, "?0", "tablet"),
            (desktop, "?0", "desktop"),
            (desktop, "?1", "phone"),
            ("", "", "desktop"),
        ] {
            let asked = Asked([("user-agent", agent), ("sec-ch-ua-mobile", hint)]);
            assert_eq!(device(&asked), expected, "{agent} {hint}");
        }
    }
}
