//! What a request's visitor allows, and whether a person asks at all.

use pingora::http::RequestHeader;

use super::Edge;
use super::context::Context;
use super::page::Asked;
use crate::decide::{Consent, Expression, Facts, Outcome};
use crate::identity::Visitor;
use crate::site::Site;
use crate::telemetry::{Feature, guard};

impl Edge {
    /// The request as rules see it.
    pub(super) fn asked<'a>(
        &'a self,
        request: &'a RequestHeader,
        path: &'a str,
        context: &Context,
    ) -> Asked<'a> {
        Asked { request, path, address: context.client.address, geo: &self.geo }
    }

    /// What `visitor` allows. A rule that can't be decided allows nothing.
    pub(super) fn consent(
        &self,
        site: &Site,
        visitor: &Visitor,
        request: &RequestHeader,
        context: &Context,
    ) -> Consent {
        if site.consent.is_empty() {
            return Consent::Given;
        }
        let asked = self.asked(request, request.uri.path(), context);
        let decided = guard(Feature::Decision, || {
            site.consent.of(&Facts::new(visitor, None, &asked).with_null_for_absent())
        });
        let (consent, failed) = decided.unwrap_or((Consent::Denied, vec!["consent"]));
        for rule in failed {
            site.metrics.rule_failed(rule);
        }
        consent
    }

    /// Whether a rule is true of the request; its name is for the metric.
    pub(super) fn is_true(
        &self,
        (name, rule): (&str, Option<&Expression>),
        site: &Site,
        visitor: &Visitor,
        request: &RequestHeader,
        context: &Context,
    ) -> bool {
        let Some(rule) = rule else { return false };
        let asked = self.asked(request, request.uri.path(), context);
        let tested = guard(Feature::Decision, || rule.test(&Facts::new(visitor, None, &asked)));
        if !matches!(tested, Some(Outcome::True | Outcome::False)) {
            site.metrics.rule_failed(name);
        }
        tested == Some(Outcome::True)
    }
}
