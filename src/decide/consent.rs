//! What a visitor allows.

use serde_json::{Value, json};

use super::{Expression, Facts, Outcome};

/// What a visitor allows. Ordered: the later, the less.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Consent {
    /// Everything that the site does.
    #[default]
    Given,
    /// Being counted, without being known: of an event only a list of members leaves.
    Limited,
    /// Nothing.
    Denied,
}

impl Consent {
    /// As rules and people see it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::Limited => "limited",
            Self::Denied => "denied",
        }
    }
}

/// When a site's visitors allow what.
#[derive(Debug, Default)]
pub struct ConsentRules {
    /// True: nothing.
    pub denied: Option<Expression>,
    /// True: only being counted.
    pub limited: Option<Expression>,
    /// Identity cookies of a visitor who allows nothing are taken away.
    pub clear_cookies: bool,
}

impl ConsentRules {
    /// Whether there are any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.denied.is_none() && self.limited.is_none()
    }

    /// `consent`, where there are rules that have decided it.
    #[must_use]
    pub fn decided(&self, consent: Consent) -> Option<Consent> {
        (!self.is_empty()).then_some(consent)
    }

    /// What is allowed by `facts`, which have `null` for what is absent, and the rules that
    /// could not be decided: each of those allows nothing.
    #[must_use]
    pub fn of(&self, facts: &Facts<'_>) -> (Consent, Vec<&'static str>) {
        let (mut consent, mut failed) = (Consent::Given, Vec::new());
        for (name, rule, means) in self.rules() {
            match rule.test(facts) {
                Outcome::True => consent = consent.max(means),
                Outcome::Failed(_) => {
                    consent = Consent::Denied;
                    failed.push(name);
                }
                Outcome::False => {}
            }
        }
        (consent, failed)
    }

    /// Every rule with what it asks for and what comes of it, for people.
    #[must_use]
    pub fn told(&self, facts: &Facts<'_>) -> Vec<Value> {
        let told = self.rules().map(|(name, rule, _)| {
            let outcome = match rule.test(facts) {
                Outcome::Failed(why) => format!("failed, allows nothing: {why}"),
                other => other.told(),
            };
            json!({
                "rule": name, "when": rule.source(), "values": rule.values(facts), "outcome": outcome,
            })
        });
        told.collect()
    }

    fn rules(&self) -> impl Iterator<Item = (&'static str, &Expression, Consent)> {
        let denied = self.denied.as_ref().map(|rule| ("consent.denied", rule, Consent::Denied));
        let limited = self.limited.as_ref().map(|rule| ("consent.limited", rule, Consent::Limited));
        denied.into_iter().chain(limited)
    }
}
