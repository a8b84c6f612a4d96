//! What expressions may ask about. Nothing is converted before a rule asks for it.

use std::collections::HashMap;
use std::sync::Arc;

use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use cel::objects::{Key, Map, Value};

use super::lenient::Lenient;
use super::tcf;
use crate::geo::Place;
use crate::identity::Visitor;
use crate::profile::{Profile, Traits};

/// The request as rules see it.
pub trait RequestFacts: Sync {
    /// `GET`, `POST`, …
    fn method(&self) -> &str;
    /// Path without query, as the visitor sent it.
    fn path(&self) -> &str;
    /// What stands behind the `?`, undecoded.
    fn query(&self) -> &str;
    /// Headers by lower-case name; several of one name are joined with `, `.
    fn headers(&self) -> Vec<(String, String)>;
    /// Where the visitor is.
    fn place(&self) -> Option<Place>;
}

/// What is known while a page is decided.
pub struct Facts<'f> {
    visitor: &'f Visitor,
    traits: Traits<'f>,
    request: &'f dyn RequestFacts,
    ids: Lazy,
    asked: Lazy,
    place: Lazy,
    tcf: Lazy,
    absent_is_null: bool,
}

/// Converted at the first question. One page is decided by one thread; the lock is for the
/// compiler, which can't know.
type Lazy = std::sync::OnceLock<Box<dyn Val>>;

impl<'f> Facts<'f> {
    /// Facts of `request` by `visitor`, of whom `known` is known.
    #[must_use]
    pub fn new(
        visitor: &'f Visitor,
        known: Option<&'f Profile>,
        request: &'f dyn RequestFacts,
    ) -> Self {
        let traits = Traits::of(known);
        Self {
            visitor,
            traits,
            request,
            ids: Lazy::new(),
            asked: Lazy::new(),
            place: Lazy::new(),
            tcf: Lazy::new(),
            absent_is_null: false,
        }
    }

    /// What is absent of request, ids and place is `null`, so that a rule about it is decided by what it
    /// says and not by the absence: `request.cookies.consent != 'yes'` is true without the cookie.
    #[must_use]
    pub fn with_null_for_absent(self) -> Self {
        Self { absent_is_null: true, ..self }
    }

    fn made(&self, value: Value) -> Box<dyn Val> {
        if self.absent_is_null { Box::new(Lenient(val(value))) } else { val(value) }
    }

    /// The path without query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.request.path()
    }

    fn ids(&self) -> Value {
        let user = self.visitor.user.as_ref().map(|id| ("user_id", text(id.as_str())));
        let anonymous =
            self.visitor.anonymous.as_ref().map(|id| ("anonymous_id", text(id.as_str())));
        map(user.into_iter().chain(anonymous).map(|(name, value)| (name.to_owned(), value)))
    }

    fn place(&self) -> Value {
        let place = self.request.place().unwrap_or_default().facts();
        map(place.into_iter().filter_map(|(name, value)| {
            let value = match value {
                serde_json::Value::String(value) => text(&value),
                serde_json::Value::Bool(value) => Value::Bool(value),
                serde_json::Value::Number(value) => Value::Float(value.as_f64()?),
                _ => return None,
            };
            Some((name, value))
        }))
    }

    fn tcf(&self) -> Value {
        let headers = self.request.headers();
        let cookies = headers.iter().filter(|(name, _)| name == "cookie");
        let pairs = cookies.flat_map(|(_, value)| value.split(';'));
        let given = pairs.filter_map(|pair| pair.trim().split_once('='));
        let mut given = given.filter(|(name, _)| *name == tcf::COOKIE);
        let purposes = given.next().map(|(_, text)| tcf::purposes(text)).unwrap_or_default();
        let purposes = purposes.into_iter().map(Value::Int).collect();
        map([("purposes".to_owned(), Value::List(Arc::new(purposes)))])
    }

    fn asked(&self) -> Value {
        let query = self.request.query().split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (form_decode(name), text(&form_decode(value)))
        });
        let headers = self.request.headers();
        let cookies = headers
            .iter()
            .filter(|(name, _)| name == "cookie")
            .flat_map(|(_, value)| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .map(|(name, value)| (name.to_owned(), text(value)))
            .collect::<Vec<_>>();
        let headers = headers.iter().map(|(name, value)| (name.clone(), text(value)));
        map([
            ("method".to_owned(), text(self.request.method())),
            ("path".to_owned(), text(self.request.path())),
            ("query".to_owned(), map(query)),
            ("headers".to_owned(), map(headers)),
            ("cookies".to_owned(), map(cookies)),
        ])
    }
}

impl VariableResolver for Facts<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let value: &dyn Val = match variable {
            "traits" => &self.traits,
            "ids" => self.ids.get_or_init(|| self.made(self.ids())).as_ref(),
            "request" => self.asked.get_or_init(|| self.made(self.asked())).as_ref(),
            "geo" => self.place.get_or_init(|| self.made(self.place())).as_ref(),
            "tcf" => self.tcf.get_or_init(|| self.made(self.tcf())).as_ref(),
            _ => return None,
        };
        Some(CowVal::Borrowed(value))
    }
}

fn text(text: &str) -> Value {
    Value::String(Arc::new(text.to_owned()))
}

fn map(entries: impl IntoIterator<Item = (String, Value)>) -> Value {
    let map: HashMap<Key, Value> =
        entries.into_iter().map(|(name, value)| (Key::String(Arc::new(name)), value)).collect();
    Value::Map(Map { map: Arc::new(map) })
}

/// The evaluator's own form of a value. Maps, lists and scalars always have one.
fn val(value: Value) -> Box<dyn Val> {
    Box::<dyn Val>::try_from(value).unwrap_or_else(|_| Box::new(cel::common::types::CelNull))
}

/// `application/x-www-form-urlencoded`: `+` is a space.
fn form_decode(raw: &str) -> String {
    let spaced = raw.replace('+', " ");
    percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}
