//! What expressions may ask about. Nothing is converted before a rule asks for it.

mod choices;
mod request;
mod traits;

use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use cel::objects::Value;
use smallvec::SmallVec;

use super::Consent;
use super::lazy::{LazyMap, Source, boxed};
use super::lenient::Lenient;
use crate::geo::Place;
use crate::identity::Visitor;
use crate::profile::Profile;
use choices::Choices;
use request::{Request, map, text};
use traits::Traits;

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
    /// One header by its lower-case name.
    fn header(&self, name: &str) -> Option<String> {
        self.headers().into_iter().find(|(own, _)| own == name).map(|(_, value)| value)
    }
    /// Where the visitor is.
    fn place(&self) -> Option<Place>;
}

/// What is known while a page is decided.
pub struct Facts<'f> {
    visitor: &'f Visitor,
    known: Option<&'f Profile>,
    traits: LazyMap<'f, Traits<'f>>,
    source: &'f dyn RequestFacts,
    request: LazyMap<'f, Request<'f>>,
    consent: Consent,
    assigned: SmallVec<[(&'f str, &'f str); 4]>,
    ids: Lazy,
    asked: Lazy,
    place: Lazy,
    tcf: Lazy,
    gpp: Lazy,
    us_privacy: Lazy,
    allowed: Lazy,
    experiments: Lazy,
    now: Lazy,
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
        Self {
            visitor,
            known,
            traits: LazyMap::new(Traits(known)),
            source: request,
            request: LazyMap::new(Request(request)),
            consent: Consent::Given,
            assigned: SmallVec::new(),
            ids: Lazy::new(),
            asked: Lazy::new(),
            place: Lazy::new(),
            tcf: Lazy::new(),
            gpp: Lazy::new(),
            us_privacy: Lazy::new(),
            allowed: Lazy::new(),
            experiments: Lazy::new(),
            now: Lazy::new(),
            absent_is_null: false,
        }
    }

    /// What is absent of request, ids and place is `null`, so that a rule about it is decided by what it
    /// says and not by the absence: `request.cookies.consent != 'yes'` is true without the cookie.
    #[must_use]
    pub fn with_null_for_absent(self) -> Self {
        Self { absent_is_null: true, ..self }
    }

    /// What the visitor allows.
    #[must_use]
    pub fn with_consent(self, consent: Consent) -> Self {
        Self { consent, ..self }
    }

    /// The variants that the visitor has, by experiment.
    pub(super) fn assign(&mut self, experiment: &'f str, variant: &'f str) {
        self.assigned.push((experiment, variant));
        self.experiments = Lazy::new();
    }

    /// The visitor.
    #[must_use]
    pub fn visitor(&self) -> &'f Visitor {
        self.visitor
    }

    /// What is known of the visitor.
    #[must_use]
    pub fn profile(&self) -> Option<&'f Profile> {
        self.known
    }

    /// The request.
    #[must_use]
    pub fn request(&self) -> &'f dyn RequestFacts {
        self.source
    }

    /// The path without query.
    #[must_use]
    pub fn path(&self) -> &'f str {
        self.source.path()
    }

    /// One of the variables, as JSON: for templates.
    pub(super) fn whole(&self, variable: &str) -> Option<Value> {
        Some(match variable {
            "traits" => Traits(self.known).whole(),
            "ids" => self.ids(),
            "request" => Request(self.source).whole(),
            "geo" => self.place(),
            "consent" => self.allowed(),
            "experiments" => self.experiments(),
            _ => return None,
        })
    }

    fn made(&self, value: Value) -> Box<dyn Val> {
        if self.absent_is_null { Box::new(Lenient(boxed(value))) } else { boxed(value) }
    }

    fn ids(&self) -> Value {
        let user = self.visitor.user.as_ref().map(|id| ("user_id", text(id.as_str())));
        let anonymous =
            self.visitor.anonymous.as_ref().map(|id| ("anonymous_id", text(id.as_str())));
        map(user.into_iter().chain(anonymous).map(|(name, value)| (name.to_owned(), value)))
    }

    fn place(&self) -> Value {
        let place = self.source.place().unwrap_or_default().facts();
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

    fn allowed(&self) -> Value {
        let all = [Consent::Given, Consent::Limited, Consent::Denied];
        map(all.map(|one| (one.label().to_owned(), Value::Bool(one == self.consent))))
    }

    fn experiments(&self) -> Value {
        map(self.assigned.iter().map(|(key, variant)| ((*key).to_owned(), text(variant))))
    }
}

impl VariableResolver for Facts<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let value: &dyn Val = match variable {
            "traits" => &self.traits,
            "request" if !self.absent_is_null => &self.request,
            "request" => {
                self.asked.get_or_init(|| self.made(Request(self.source).whole())).as_ref()
            }
            "ids" => self.ids.get_or_init(|| self.made(self.ids())).as_ref(),
            "geo" => self.place.get_or_init(|| self.made(self.place())).as_ref(),
            "tcf" => self.tcf.get_or_init(|| self.made(Choices(self.source).tcf())).as_ref(),
            "gpp" => self.gpp.get_or_init(|| self.made(Choices(self.source).gpp())).as_ref(),
            "us_privacy" => self
                .us_privacy
                .get_or_init(|| self.made(Choices(self.source).us_privacy()))
                .as_ref(),
            "consent" => self.allowed.get_or_init(|| boxed(self.allowed())).as_ref(),
            "experiments" => self.experiments.get_or_init(|| boxed(self.experiments())).as_ref(),
            "now" => self
                .now
                .get_or_init(|| boxed(Value::Timestamp(chrono::Utc::now().fixed_offset())))
                .as_ref(),
            _ => return None,
        };
        Some(CowVal::Borrowed(value))
    }
}
