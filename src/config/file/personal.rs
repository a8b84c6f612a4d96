//! What the file says of what visitors see.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::yes;
use crate::config::units::{Duration, Share};

/// One path pattern, or several.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Route {
    /// `/pricing`, `/blog/*` (one part), `/shop/**` (all that follows), `/products/{id}` (a named part),
    /// `/docs/{rest=**}`.
    One(String),
    /// Several of them.
    Many(Vec<String>),
}

impl Route {
    /// All, in order.
    #[must_use]
    pub fn all(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// Other pages under one URL.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Variation {
    /// The pages: `/`, `/blog/*`, `/shop/**`, `/products/{id}`. The first variation that matches counts.
    pub route: Route,
    /// Conditions in order: the first that is true chooses.
    #[schemars(length(min = 1))]
    pub choose: Vec<Choice>,
    /// Which requests: `safe` for GET and HEAD, `all` also for those that change something.
    #[serde(default)]
    pub methods: Methods,
    /// Which requests for such a path: those for pages, in whichever form, or everything.
    #[serde(default)]
    pub applies_to: AppliesTo,
}

/// What a route's variations are for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AppliesTo {
    /// Pages: what browsers show, and what scripts fetch of a page.
    #[default]
    Pages,
    /// Everything: images, styles, data as well.
    Everything,
}

/// Which requests have variations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Methods {
    /// GET and HEAD.
    #[default]
    Safe,
    /// All.
    All,
}

/// One condition and the page it leads to: one of `path`, `origin` and `redirect`, or `path` and `origin`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// CEL over `traits`, `ids`, `geo`, `request`, `consent`, `tcf`, `gpp`, `us_privacy`, `experiments` and `now`, e.g.
    /// `traits.red_group`. A missing trait is false. Without it, the choice is for everybody.
    #[serde(default)]
    pub when: Option<String>,
    /// Only for this share of the visitors, always the same ones: `20%`.
    #[serde(default)]
    pub share: Option<Share>,
    /// Names the draw of `share`. Default: the route.
    #[serde(default)]
    pub seed: Option<String>,
    /// Path that the origin is asked for, with named parts of the route in braces. The query of the
    /// visitor's URL is kept.
    #[serde(default)]
    pub path: Option<String>,
    /// Another server that has the page: `127.0.0.1:3001` or `https://host`.
    #[serde(default)]
    #[schemars(extend("x-show" = "url"))]
    pub origin: Option<String>,
    /// Path or URL that the browser is sent to. The query is kept.
    #[serde(default)]
    pub redirect: Option<String>,
    /// 302, or 307 that keeps the method.
    #[serde(default)]
    pub status: Option<u16>,
    /// Let `redirect` lead to another site.
    #[serde(default)]
    pub allow_other_site: bool,
    /// Where the page answers 404 or 5xx, show the one that everybody gets.
    #[serde(default = "yes")]
    pub fallback: bool,
    /// What relative links of the page are relative to: `url` that the browser shows, or the page's own
    /// `path`.
    #[serde(default)]
    pub links: Links,
}

/// What relative links are relative to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Links {
    /// The URL that the browser shows.
    #[default]
    Url,
    /// The page's own path.
    Path,
}

/// A change of elements.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools, reason = "each is a key of its own")]
pub struct Rewrite {
    /// CSS selector: names, ids, classes, attributes, `>`, descendants, `:nth-child()`, `:not()`.
    pub select: String,
    /// The pages; all, where it says nothing.
    #[serde(default)]
    pub route: Option<Route>,
    /// CEL condition; for everybody, where it says nothing.
    #[serde(default)]
    pub when: Option<String>,
    /// What becomes of the element.
    #[serde(default)]
    pub set: Option<Set>,
    /// What is put beside or into it.
    #[serde(default)]
    pub insert: Option<Insert>,
    /// Take it out of the page.
    #[serde(default)]
    pub remove: bool,
    /// Leave it in the page where nobody sees it.
    #[serde(default)]
    pub hide: bool,
    /// Only the first that matches.
    #[serde(default)]
    pub first: bool,
    /// Keep the change while a framework such as React makes the page anew in the browser. Not with
    /// `insert` and `json`.
    #[serde(default)]
    pub persist: bool,
    /// Hosts that a value may choose where a browser runs, frames or styles the page with what it fetches, or
    /// sends there what the visitor types (`script src`, `iframe src`, `link href`, `base href`, `object data`,
    /// `embed src`, `form action`): `cdn.example`, `*.shop.example`, either with a port, or `self` for URLs
    /// without a host. Not needed where the host stands in the template.
    #[serde(default)]
    pub hosts: Vec<String>,
}

/// What becomes of an element. Texts are minijinja templates over `traits`, `ids`, `geo`, `request`,
/// `consent` and `experiments`; a rule whose template asks for something absent is left out.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Set {
    /// Its content, as text.
    pub text: Option<String>,
    /// Its content, as markup that closes what it opens. Values are texts and attributes in it.
    pub html: Option<String>,
    /// The content of a `script` with data. Values become JSON.
    pub json: Option<String>,
    /// Attributes by name; `null` takes one away. What a value may be there depends on the element, so that
    /// `select` should name it.
    pub attributes: BTreeMap<String, Option<String>>,
    /// Classes put to those that it has, separated by spaces. Values are letters, digits, `-` and `_`.
    pub add_class: Option<String>,
    /// Classes taken away.
    pub remove_class: Option<String>,
    /// Properties of its style.
    pub style: BTreeMap<String, String>,
}

/// Markup put beside or into an element: it closes what it opens, and values are texts and attributes in it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Insert {
    /// Before it.
    pub before: Option<String>,
    /// At its beginning.
    pub prepend: Option<String>,
    /// At its end.
    pub append: Option<String>,
    /// Behind it.
    pub after: Option<String>,
}

/// A trait as a cookie of the page.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TraitCookie {
    /// Name.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_-]{1,64}$"))]
    pub name: String,
    /// CEL expression of its value: text, number, true or false. Where it asks for something absent, the
    /// cookie is taken away.
    pub value: String,
    /// How long the browser keeps it. Default: until it is closed.
    #[serde(default)]
    pub max_age: Option<Duration>,
    /// Scripts of the page can read it.
    #[serde(default)]
    pub readable: bool,
}

/// An experiment.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// Names it in reports, cookies and expressions: `experiments['pricing-2026']`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_.-]{1,64}$"))]
    pub key: String,
    /// How people call it. Default: the key.
    #[serde(default)]
    pub name: Option<String>,
    /// The pages.
    pub route: Route,
    /// By what visitors are told apart: `anonymous_id`, `user_id`, or `traits.` and a name.
    #[serde(default = "anonymous")]
    pub unit: String,
    /// CEL condition of who takes part.
    #[serde(default)]
    pub when: Option<String>,
    /// The share of visitors who take part.
    #[serde(default = "Share::all")]
    pub traffic: Share,
    /// GrowthBook's hash: 2, or 1 for experiments that began with it.
    #[schemars(range(min = 1, max = 2))]
    #[serde(default = "two")]
    pub hash: u8,
    /// What goes into the hash. Default: the key.
    #[serde(default)]
    pub seed: Option<String>,
    /// A part of a namespace: experiments with other parts of it never have the same visitor.
    #[serde(default)]
    pub namespace: Option<Namespace>,
    /// Visitors who are held out of it, to compare with.
    #[serde(default)]
    pub holdout: Option<Holdout>,
    /// When it begins: `2026-12-01T00:00:00Z`.
    #[serde(default)]
    pub starts: Option<String>,
    /// When it ends.
    #[serde(default)]
    pub ends: Option<String>,
    /// By what a visitor keeps a variant, whatever changes: `cookie`, `trait` of the profile, also in
    /// another browser.
    #[serde(default = "by_cookie")]
    pub sticky: Vec<Sticky>,
    /// Variants of certain user or anonymous ids, such as testers'. They do not count.
    #[serde(default)]
    pub force: BTreeMap<String, String>,
    /// What the visitors get.
    #[schemars(length(min = 1))]
    pub variants: Vec<Variant>,
}

/// By what a visitor keeps a variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sticky {
    /// A cookie that scripts can't read.
    Cookie,
    /// A trait of the profile.
    Trait,
}

/// A part of a namespace.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Where the part begins.
    pub from: Share,
    /// Where it ends.
    pub to: Share,
}

/// Visitors who are held out.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Holdout {
    /// Experiments with one key hold out the same visitors.
    pub key: String,
    /// How many.
    pub share: Share,
}

/// What some visitors of an experiment get: a page, changes, traits, or only its name.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// Names it in reports.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_.-]{1,64}$"))]
    pub name: String,
    /// Its share of those who take part. Default: as many as every other.
    #[serde(default)]
    pub weight: Option<Share>,
    /// Path that the origin is asked for.
    #[serde(default)]
    pub path: Option<String>,
    /// Another server that has the page.
    #[serde(default)]
    #[schemars(extend("x-show" = "url"))]
    pub origin: Option<String>,
    /// Where the page answers 404 or 5xx, show the one that everybody gets; the visit does not count then.
    #[serde(default = "yes")]
    pub fallback: bool,
    /// What relative links of the page are relative to.
    #[serde(default)]
    pub links: Links,
    /// Changes of the page.
    #[serde(default)]
    pub rewrite: Vec<Rewrite>,
    /// Traits for the page, by name: CEL expressions.
    #[serde(default)]
    pub traits: BTreeMap<String, String>,
}

/// What the vendor is told of who saw what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Exposures {
    /// An event `Experiment Viewed`.
    #[default]
    Track,
    /// A trait of the visitor: `experiment_` and the key.
    Identify,
    /// Nothing.
    None,
}

fn anonymous() -> String {
    "anonymous_id".into()
}
fn two() -> u8 {
    2
}
fn by_cookie() -> Vec<Sticky> {
    vec![Sticky::Cookie]
}
