//! What may leave of an event whose visitor may be counted and not be known: a list of what passes.
//! Whatever is not on it stays here, also what no version of an SDK has sent yet.

use super::shape::Shape::{
    Address, Flag, Flags, Host, Id, List, Members, Number, OneOf, Path, Short, Text, Time, Words,
};
use super::shape::{Shape, pick};
use crate::collect::Object;

/// Types of events that are about what somebody does, and not about who somebody is.
pub(super) const TYPES: &[&str] = &["track", "page", "screen"];
/// What a vendor is told instead of an address: it takes ours where an event has none.
pub(super) const NO_ADDRESS: &str = "0.0.0.0";

/// An event. `properties` are the page's own words.
const EVENT: &[(&str, Shape)] = &[
    ("anonymousId", Id),
    ("messageId", Id),
    ("type", OneOf(TYPES)),
    ("channel", Short),
    ("event", Text),
    ("name", Text),
    ("category", Text),
    ("timestamp", Time),
    ("originalTimestamp", Time),
    ("properties", Words),
    ("integrations", Flags),
    ("context", Members(CONTEXT)),
    ("_metadata", Members(METADATA)),
];

/// No ids of users, groups, devices or advertising; no traits; no place below the country.
const CONTEXT: &[(&str, Shape)] = &[
    (
        "app",
        Members(&[("name", Short), ("version", Short), ("build", Short), ("namespace", Short)]),
    ),
    ("campaign", Members(CAMPAIGN)),
    ("consent", Members(&[("edge", OneOf(&["given", "limited"])), ("categoryPreferences", Flags)])),
    ("consentManagement", Members(CONSENT_MANAGEMENT)),
    ("device", Members(&[("type", Short)])),
    ("edge", Members(COUNTRY)),
    ("ip", OneOf(&[NO_ADDRESS])),
    ("library", Members(&[("name", Short), ("version", Short)])),
    ("locale", Short),
    ("location", Members(COUNTRY)),
    ("os", Members(&[("name", Short), ("version", Short)])),
    ("page", Members(PAGE)),
    ("screen", Members(SCREEN)),
    ("sessionId", Number),
    ("sessionStart", Flag),
    ("timezone", Short),
    ("ua-ch", Members(CLIENT_HINTS)),
    ("userAgent", Text),
    ("userAgentData", Members(CLIENT_HINTS)),
];

/// `utm_*` under the names that the SDKs give them.
const CAMPAIGN: &[(&str, Shape)] = &[
    ("name", Short),
    ("source", Short),
    ("medium", Short),
    ("term", Short),
    ("content", Short),
    ("id", Short),
];

/// RudderStack's form of what a consent platform says.
const CONSENT_MANAGEMENT: &[(&str, Shape)] = &[
    ("provider", Short),
    ("resolutionStrategy", Short),
    ("allowedConsentIds", List(&Short)),
    ("deniedConsentIds", List(&Short)),
];

const COUNTRY: &[(&str, Shape)] =
    &[("continent", Short), ("country", Short), ("european_union", Flag)];

/// What both SDKs say of a page, there and in the properties of a page view. The query is no part of it.
const PAGE: &[(&str, Shape)] = &[
    ("path", Path),
    ("url", Address),
    ("tab_url", Address),
    ("title", Text),
    ("referrer", Address),
    ("referring_domain", Host),
    ("initial_referrer", Address),
    ("initial_referring_domain", Host),
];
/// The member of a page view that holds the query.
const QUERY: &str = "search";

const SCREEN: &[(&str, Shape)] = &[
    ("width", Number),
    ("height", Number),
    ("density", Number),
    ("innerWidth", Number),
    ("innerHeight", Number),
];

/// What browsers tell every server: not the model of the device.
const CLIENT_HINTS: &[(&str, Shape)] = &[
    ("brands", List(&Members(&[("brand", Short), ("version", Short)]))),
    ("mobile", Flag),
    ("platform", Short),
];

const METADATA: &[(&str, Shape)] = &[
    ("bundled", List(&Short)),
    ("bundledIds", List(&Short)),
    ("unbundled", List(&Short)),
    ("jsRuntime", Short),
];

/// What may leave of `event`.
pub(super) fn limited(event: &Object) -> Object {
    let mut limited = pick(event, EVENT);
    if limited.text("type").as_deref() == Some("page")
        && let Some(properties) = limited.object("properties")
    {
        limited.set_object("properties", &page_view(&properties));
    }
    limited
}

/// The SDKs put what they know of the page into a page view's properties, beside the page's own words.
fn page_view(properties: &Object) -> Object {
    let members = properties.members().filter_map(|(name, raw)| {
        if let Some((_, shape)) = PAGE.iter().find(|(known, _)| *known == name) {
            return Some((name, shape.pass(raw)?));
        }
        let is_query = name == QUERY
            && properties.text(QUERY).is_some_and(|text| text.is_empty() || text.starts_with('?'));
        (!is_query).then(|| (name, raw.to_owned()))
    });
    members.collect()
}

#[cfg(test)]
mod tests;
