//! Experiments: who gets which variant, and why.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use super::bucket::{self, Version};
use super::variation::Page;
use super::{ClientTraits, Expression, Facts, Outcome, RewriteRule, RoutePattern};
use crate::identity::{AnonymousId, UserId};

/// One experiment.
#[derive(Debug)]
pub struct Experiment {
    /// Names it in reports, cookies and expressions.
    pub key: ExperimentKey,
    /// How people call it.
    pub name: Box<str>,
    /// Pages that it is about.
    pub routes: Vec<RoutePattern>,
    /// By what visitors are told apart.
    pub unit: Unit,
    /// Who takes part; everybody, where it says nothing.
    pub when: Option<Expression>,
    /// Which hash.
    pub version: Version,
    /// What goes into the hash beside the unit.
    pub seed: Box<str>,
    /// The share of everybody that each variant gets.
    pub ranges: Vec<(f64, f64)>,
    /// A part of a namespace.
    pub namespace: Option<(Box<str>, (f64, f64))>,
    /// Who is held out of it.
    pub holdout: Option<Holdout>,
    /// When it begins, in milliseconds since 1970.
    pub starts: Option<i64>,
    /// When it ends.
    pub ends: Option<i64>,
    /// Variants of certain ids.
    pub forced: HashMap<Box<str>, usize>,
    /// A visitor keeps a variant by a cookie.
    pub by_cookie: bool,
    /// A visitor keeps a variant by a trait of the profile, also in another browser.
    pub by_trait: bool,
    /// What the visitors get.
    pub variants: Vec<Variant>,
}

/// Letters, digits, `-`, `_` and `.`: fit for a cookie, a label and a trait's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ExperimentKey(Box<str>);

/// Why text is no key.
#[derive(Debug, thiserror::Error)]
#[error("expected 1 to 64 letters, digits, `-`, `_` and `.`, found `{0}`")]
pub struct KeyError(String);

impl ExperimentKey {
    /// Reads a key.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if (1..=64).contains(&text.len()) && text.bytes().all(fits) {
            Ok(Self(text.into()))
        } else {
            Err(KeyError(text.to_owned()))
        }
    }

    /// The key itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// By what visitors are told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unit {
    /// The browser.
    AnonymousId,
    /// The user.
    UserId,
    /// A trait, such as a company.
    Trait(Box<str>),
}

/// Visitors that no experiment of a group has.
#[derive(Debug, Clone)]
pub struct Holdout {
    /// Names the draw.
    pub key: Box<str>,
    /// From 0 to 1.
    pub share: f64,
}

/// What some visitors get.
#[derive(Debug)]
pub struct Variant {
    /// Names it in reports.
    pub name: ExperimentKey,
    /// Another page.
    pub page: Option<Page>,
    /// Changes of the page.
    pub rewrite: Vec<RewriteRule>,
    /// Traits for the page.
    pub traits: ClientTraits,
}

/// What was decided of one experiment for one visitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assigned {
    /// Position of the experiment in the site's list.
    pub experiment: usize,
    /// Position of the variant; `None` for what everybody gets.
    pub variant: Option<usize>,
    /// Why.
    pub why: Why,
}

/// Why a visitor has a variant, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// A preview link says so.
    Preview,
    /// The configuration lists the id.
    Listed,
    /// An earlier page has decided it.
    Sticky,
    /// The hash says so.
    Bucket,
    /// The visitor is held out.
    HeldOut,
    /// It has not begun, or is over.
    NotRunning,
    /// The unit is not known.
    NoUnit,
    /// Another experiment of the namespace has the visitor.
    Namespace,
    /// The condition is false.
    Condition,
    /// The visitor is not among those who take part.
    Traffic,
    /// Another experiment has chosen the page already.
    Overruled,
}

impl Why {
    /// As people read it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Preview => "preview",
            Self::Listed => "listed id",
            Self::Sticky => "as before",
            Self::Bucket => "bucket",
            Self::HeldOut => "held out",
            Self::NotRunning => "not running",
            Self::NoUnit => "no unit",
            Self::Namespace => "namespace",
            Self::Condition => "condition false",
            Self::Traffic => "not in traffic",
            Self::Overruled => "overruled",
        }
    }

    /// Whether a visitor who has seen the page counts in the experiment's results.
    #[must_use]
    pub const fn counts(self) -> bool {
        matches!(self, Self::Sticky | Self::Bucket | Self::HeldOut)
    }
}

/// What earlier pages and links have decided.
pub trait Earlier: Sync {
    /// The variant that a preview link wants.
    fn previewed(&self, experiment: &ExperimentKey) -> Option<&str>;
    /// The variant that the visitor's cookie names.
    fn kept(&self, experiment: &ExperimentKey) -> Option<&str>;
}

/// The name under which a variant is reported that is none.
pub const HELD_OUT: &str = "holdout";

impl Experiment {
    /// The variant of `name`.
    #[must_use]
    pub fn variant(&self, name: &str) -> Option<usize> {
        self.variants.iter().position(|variant| variant.name.as_str() == name)
    }

    /// The trait that keeps the variant of a profile.
    #[must_use]
    pub fn trait_name(&self) -> String {
        format!("doorstep_experiment_{}", self.key.as_str())
    }

    /// What a visitor's report calls `variant`.
    #[must_use]
    pub fn variant_name(&self, variant: Option<usize>) -> &str {
        let found = variant.and_then(|variant| self.variants.get(variant));
        found.map_or(HELD_OUT, |variant| variant.name.as_str())
    }

    /// What the visitor of `facts` gets; the second is whether the condition failed.
    #[must_use]
    pub fn assign(&self, facts: &Facts<'_>, earlier: &dyn Earlier) -> (Option<usize>, Why, bool) {
        let (variant, why) = match self.settled(facts, earlier) {
            Ok(settled) => settled,
            Err(None) => return (None, Why::NoUnit, false),
            Err(Some(unit)) => return self.draw(&unit, facts),
        };
        (variant, why, false)
    }

    /// What is decided without a draw; else the unit, where it is known.
    fn settled(
        &self,
        facts: &Facts<'_>,
        earlier: &dyn Earlier,
    ) -> Result<(Option<usize>, Why), Option<String>> {
        if let Some(variant) = earlier.previewed(&self.key).and_then(|name| self.variant(name)) {
            return Ok((Some(variant), Why::Preview));
        }
        let visitor = facts.visitor();
        let ids = [
            visitor.user.as_ref().map(UserId::as_str),
            visitor.anonymous.as_ref().map(AnonymousId::as_str),
        ];
        let mut listed = ids.iter().flatten().filter_map(|id| self.forced.get(*id));
        if let Some(variant) = listed.next() {
            return Ok((Some(*variant), Why::Listed));
        }
        if !self.is_running(now()) {
            return Ok((None, Why::NotRunning));
        }
        // The person counts more than the browser.
        let by_trait =
            || facts.profile()?.get(&self.trait_name())?.value().as_str().map(str::to_owned);
        let kept = self.by_trait.then(by_trait).flatten();
        let kept = kept.or_else(|| {
            self.by_cookie.then(|| earlier.kept(&self.key).map(str::to_owned)).flatten()
        });
        match kept.as_deref() {
            Some(HELD_OUT) if self.holdout.is_some() => return Ok((None, Why::HeldOut)),
            Some(name) => {
                if let Some(variant) = self.variant(name) {
                    return Ok((Some(variant), Why::Sticky));
                }
            }
            None => {}
        }
        let unit = match &self.unit {
            Unit::AnonymousId => visitor.anonymous.as_ref().map(|id| id.as_str().to_owned()),
            Unit::UserId => visitor.user.as_ref().map(|id| id.as_str().to_owned()),
            Unit::Trait(name) => {
                facts.profile().and_then(|profile| match profile.get(name)?.value() {
                    serde_json::Value::String(text) => Some(text),
                    number @ serde_json::Value::Number(_) => Some(number.to_string()),
                    _ => None,
                })
            }
        };
        Err(unit.filter(|unit| !unit.is_empty()))
    }

    fn draw(&self, unit: &str, facts: &Facts<'_>) -> (Option<usize>, Why, bool) {
        if let Some((name, part)) = &self.namespace
            && !bucket::in_namespace(unit, name, *part)
        {
            return (None, Why::Namespace, false);
        }
        match self.when.as_ref().map(|when| when.test(facts)) {
            None | Some(Outcome::True) => {}
            Some(Outcome::False) => return (None, Why::Condition, false),
            Some(Outcome::Failed(_)) => return (None, Why::Condition, true),
        }
        let number = bucket::of(self.version, &self.seed, unit);
        let Some(variant) = bucket::choose(number, &self.ranges) else {
            return (None, Why::Traffic, false);
        };
        if let Some(holdout) = &self.holdout
            && bucket::of(Version::V2, &holdout.key, unit) < holdout.share
        {
            return (None, Why::HeldOut, false);
        }
        (Some(variant), Why::Bucket, false)
    }

    /// Whether it runs at `now`.
    fn is_running(&self, now: i64) -> bool {
        self.starts.is_none_or(|starts| now >= starts) && self.ends.is_none_or(|ends| now < ends)
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
