use std::fmt::Write;

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::decide::Consent;
use crate::identity::{AnonymousId, UserId, Visitor};
use crate::vendor::{Given, Ip, Kind, KnownProfile, Spec, enrich, rudderstack, segment};

/// What may be found in an event that leaves, written down a second time: `[]` is any entry of a list, `*`
/// any member, `**` anything at all.
const MAY_LEAVE: &[(&str, Leaf)] = &[
    ("anonymousId", Leaf::Id),
    ("messageId", Leaf::Text),
    ("type", Leaf::Text),
    ("channel", Leaf::Text),
    ("event", Leaf::Text),
    ("name", Leaf::Text),
    ("category", Leaf::Text),
    ("timestamp", Leaf::Time),
    ("originalTimestamp", Leaf::Time),
    ("properties.**", Leaf::Anything),
    ("integrations.*", Leaf::Flag),
    ("context.app.name", Leaf::Text),
    ("context.app.version", Leaf::Text),
    ("context.app.build", Leaf::Text),
    ("context.app.namespace", Leaf::Text),
    ("context.campaign.name", Leaf::Text),
    ("context.campaign.source", Leaf::Text),
    ("context.campaign.medium", Leaf::Text),
    ("context.campaign.term", Leaf::Text),
    ("context.campaign.content", Leaf::Text),
    ("context.campaign.id", Leaf::Text),
    ("context.consent.edge", Leaf::Text),
    ("context.consent.categoryPreferences.*", Leaf::Flag),
    ("context.consentManagement.provider", Leaf::Text),
    ("context.consentManagement.resolutionStrategy", Leaf::Text),
    ("context.consentManagement.allowedConsentIds[]", Leaf::Text),
    ("context.consentManagement.deniedConsentIds[]", Leaf::Text),
    ("context.device.type", Leaf::Text),
    ("context.edge.continent", Leaf::Text),
    ("context.edge.country", Leaf::Text),
    ("context.edge.european_union", Leaf::Flag),
    ("context.ip", Leaf::Text),
    ("context.library.name", Leaf::Text),
    ("context.library.version", Leaf::Text),
    ("context.locale", Leaf::Text),
    ("context.location.continent", Leaf::Text),
    ("context.location.country", Leaf::Text),
    ("context.location.european_union", Leaf::Flag),
    ("context.os.name", Leaf::Text),
    ("context.os.version", Leaf::Text),
    ("context.page.path", Leaf::Address),
    ("context.page.url", Leaf::Address),
    ("context.page.tab_url", Leaf::Address),
    ("context.page.title", Leaf::Text),
    ("context.page.referrer", Leaf::Address),
    ("context.page.referring_domain", Leaf::Text),
    ("context.page.initial_referrer", Leaf::Address),
    ("context.page.initial_referring_domain", Leaf::Text),
    ("context.screen.width", Leaf::Number),
    ("context.screen.height", Leaf::Number),
    ("context.screen.density", Leaf::Number),
    ("context.screen.innerWidth", Leaf::Number),
    ("context.screen.innerHeight", Leaf::Number),
    ("context.sessionId", Leaf::Number),
    ("context.sessionStart", Leaf::Flag),
    ("context.timezone", Leaf::Text),
    ("context.ua-ch.brands[].brand", Leaf::Text),
    ("context.ua-ch.brands[].version", Leaf::Text),
    ("context.ua-ch.mobile", Leaf::Flag),
    ("context.ua-ch.platform", Leaf::Text),
    ("context.userAgent", Leaf::Text),
    ("context.userAgentData.brands[].brand", Leaf::Text),
    ("context.userAgentData.brands[].version", Leaf::Text),
    ("context.userAgentData.mobile", Leaf::Flag),
    ("context.userAgentData.platform", Leaf::Text),
    ("_metadata.bundled[]", Leaf::Text),
    ("_metadata.bundledIds[]", Leaf::Text),
    ("_metadata.unbundled[]", Leaf::Text),
    ("_metadata.jsRuntime", Leaf::Text),
];

/// Names that say who somebody is, where, or on which device; each of them at every depth.
const MUST_STAY: &[&str] = &[
    "userId",
    "user_id",
    "traits",
    "previousId",
    "groupId",
    "externalIds",
    "externalId",
    "profile",
    "personas",
    "advertisingId",
    "idfa",
    "model",
    "rudderId",
    "request_ip",
    "receivedAt",
    "sentAt",
    "writeKey",
    "user_hash",
    "latitude",
    "city",
    "postalCode",
    "email",
    "amp",
    "network",
    "search",
    "query",
    "hash",
    "gclid",
    "platformVersion",
    "fullVersionList",
    "__proto__",
    "",
];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Leaf {
    Text,
    /// Text; a number becomes one.
    Id,
    Time,
    Number,
    Flag,
    Address,
    Anything,
}

fn matches(pattern: &str, path: &str) -> bool {
    match pattern.split_once('*') {
        Some((before, "*")) => path.starts_with(before),
        Some((before, _)) => {
            path.strip_prefix(before).is_some_and(|name| !name.contains(['.', '[']))
        }
        None => pattern == path,
    }
}

fn allowed(path: &str) -> Option<Leaf> {
    MAY_LEAVE.iter().find(|(pattern, _)| matches(pattern, path)).map(|(_, leaf)| *leaf)
}

/// JSON as a page could send it: names escaped or not, and more than once.
#[derive(Debug, Clone)]
enum Node {
    /// A text that occurs nowhere else.
    Text,
    /// The address of a page, with such texts as its user, path, query and fragment.
    Address,
    /// The same without a host.
    Path,
    /// A number that occurs nowhere else.
    Number,
    Json(&'static str),
    List(Vec<Self>),
    Object(Vec<(&'static str, bool, Self)>),
}

/// A text or number that occurs once in what is sent, and where it stands. [`Leaf::Address`] is what may stay
/// of an address; what must not is [`Leaf::Text`].
struct Mark {
    text: String,
    path: String,
    leaf: Leaf,
}

impl Mark {
    /// Whether it may leave with an event of this type.
    fn may_leave(&self, event_type: &str) -> bool {
        let path = self.path.strip_prefix("batch[].").unwrap_or(&self.path);
        // The SDKs write what they know of the page into the properties of page views too.
        let of_page = path.replacen("properties.", "context.page.", 1);
        let path =
            if event_type == "page" && allowed(&of_page).is_some() { &of_page } else { path };
        match allowed(path) {
            Some(Leaf::Anything | Leaf::Id) => true,
            Some(Leaf::Text) => self.leaf != Leaf::Number,
            Some(Leaf::Number | Leaf::Address) => allowed(path) == Some(self.leaf),
            Some(Leaf::Time | Leaf::Flag) | None => false,
        }
    }
}

#[derive(Default)]
struct Written {
    json: String,
    marks: Vec<Mark>,
}

impl Written {
    fn mark(&mut self, path: &str, leaf: Leaf) -> String {
        let number = self.marks.len();
        let text = match leaf {
            Leaf::Number => format!("97{number:06}97"),
            _ => format!("zq{number}zq"),
        };
        self.marks.push(Mark { text: text.clone(), path: path.to_owned(), leaf });
        text
    }

    fn write(&mut self, node: &Node, path: &str) {
        match node {
            Node::Text => {
                let mark = self.mark(path, Leaf::Text);
                let _ = write!(self.json, "\"{mark}\"");
            }
            Node::Address => {
                let user = self.mark(path, Leaf::Text);
                let inside = self.mark(path, Leaf::Address);
                let (query, fragment) = (self.mark(path, Leaf::Text), self.mark(path, Leaf::Text));
                let _ =
                    write!(self.json, "\"https://{user}@h.example/{inside}?{query}=1#{fragment}\"");
            }
            Node::Path => {
                let inside = self.mark(path, Leaf::Address);
                let (query, fragment) = (self.mark(path, Leaf::Text), self.mark(path, Leaf::Text));
                let _ = write!(self.json, "\"/{inside}?{query}=1#{fragment}\"");
            }
            Node::Number => {
                let mark = self.mark(path, Leaf::Number);
                self.json.push_str(&mark);
            }
            Node::Json(json) => self.json.push_str(json),
            Node::List(list) => {
                self.json.push('[');
                for (number, node) in list.iter().enumerate() {
                    self.json.push_str(if number > 0 { ", " } else { "" });
                    self.write(node, &format!("{path}[]"));
                }
                self.json.push(']');
            }
            Node::Object(members) => {
                self.json.push('{');
                for (number, (name, escaped, node)) in members.iter().enumerate() {
                    self.json.push_str(if number > 0 { "," } else { "" });
                    self.json.push('"');
                    for char in name.chars() {
                        let _ = match escaped {
                            true => write!(self.json, "\\u{:04x}", u32::from(char)),
                            false => write!(self.json, "{char}"),
                        };
                    }
                    self.json.push_str("\":");
                    let dot = if path.is_empty() { "" } else { "." };
                    self.write(node, &format!("{path}{dot}{name}"));
                }
                self.json.push('}');
            }
        }
    }
}

fn leaf() -> impl Strategy<Value = Node> + Clone {
    prop_oneof![
        4 => Just(Node::Text),
        2 => Just(Node::Address),
        1 => Just(Node::Path),
        2 => Just(Node::Number),
        1 => select(vec![
            Node::Json("true"),
            Node::Json("false"),
            Node::Json("null"),
            Node::Json("\"\""),
            Node::Json("\"2026-01-02T03:04:05.678Z\""),
            Node::Json("\"page\""),
            Node::Json("\"track\""),
            Node::Json("\"identify\""),
            Node::Json("\"\\u0074rack\""),
        ]),
    ]
}

/// Objects whose members have names that stand below `prefix` in the list, or that must stay.
fn below(
    prefix: &'static str,
    inner: &(impl Strategy<Value = Node> + Clone + 'static),
) -> BoxedStrategy<Node> {
    let next = |(pattern, _): &(&'static str, Leaf)| {
        let rest = pattern.strip_prefix(prefix)?;
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        Some(&rest[..end]).filter(|name| !name.is_empty())
    };
    let mut names: Vec<&'static str> = MAY_LEAVE.iter().filter_map(next).collect();
    names.dedup();
    let names: Vec<&'static str> = names
        .iter()
        .copied()
        .chain(names.iter().copied())
        .chain(MUST_STAY.iter().copied())
        .collect();
    let member = (select(names), any::<bool>(), inner.clone());
    prop::collection::vec(member, 0..10).prop_map(Node::Object).boxed()
}

fn event() -> impl Strategy<Value = Node> + Clone {
    let any_node = leaf().prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Node::List),
            below("context.", &inner),
            below("context.page.", &inner),
        ]
    });
    let part = |name: &'static str, prefix: &'static str| {
        below(prefix, &any_node).prop_map(move |node| (name, false, node))
    };
    let list = |name: &'static str, prefix: &'static str| {
        let entries = prop::collection::vec(below(prefix, &any_node), 0..3);
        let list = entries.prop_map(Node::List);
        list.prop_map(move |list| (name, false, Node::Object(vec![("brands", false, list)])))
    };
    let context = prop::collection::vec(
        prop_oneof![
            part("page", "context.page."),
            part("campaign", "context.campaign."),
            part("screen", "context.screen."),
            part("edge", "context.edge."),
            part("location", "context.location."),
            part("device", "context.device."),
            part("consent", "context.consent."),
            part("consentManagement", "context.consentManagement."),
            part("library", "context.library."),
            part("userAgentData", "context.userAgentData."),
            list("userAgentData", "context.userAgentData.brands[]."),
            (select(MUST_STAY), any::<bool>(), any_node.clone()),
        ],
        0..12,
    );
    let context = context.prop_map(Node::Object);
    let member = prop_oneof![
        3 => context.prop_map(|context| ("context", false, context)),
        1 => part("properties", "context.page."),
        1 => below("", &any_node).prop_map(|node| ("integrations", false, node)),
        1 => part("_metadata", "_metadata."),
        1 => select(vec![Node::Json("\"page\""), Node::Json("\"track\"")])
            .prop_map(|kind| ("type", true, kind)),
        4 => below("", &any_node).prop_map(|node| match node {
            Node::Object(mut members) if !members.is_empty() => members.remove(0),
            other => ("traits", true, other),
        }),
    ];
    prop::collection::vec(member, 0..12).prop_map(Node::Object)
}

/// An event, or several with what is said of all of them.
fn body() -> impl Strategy<Value = (Kind, Node)> {
    let kinds = select(vec![Kind::Track, Kind::Page, Kind::Screen, Kind::Identify, Kind::Metrics]);
    let batch = (prop::collection::vec(event(), 1..4), event()).prop_map(|(events, root)| {
        let Node::Object(mut root) = root else { unreachable!() };
        root.push(("batch", false, Node::List(events)));
        (Kind::Batch, Node::Object(root))
    });
    prop_oneof![2 => (kinds, event()), 1 => batch]
}

/// Every leaf of what leaves, with the place where it stands.
fn leaves(value: &Value, path: &str, found: &mut Vec<(String, Value)>) {
    match value {
        Value::Array(list) => {
            for one in list {
                leaves(one, &format!("{path}[]"), found);
            }
        }
        Value::Object(map) => {
            for (name, one) in map {
                let dot = if path.is_empty() { "" } else { "." };
                leaves(one, &format!("{path}{dot}{name}"), found);
            }
        }
        leaf => found.push((path.to_owned(), leaf.clone())),
    }
}

fn fits(leaf: Leaf, value: &Value) -> bool {
    match leaf {
        Leaf::Anything => true,
        Leaf::Number => value.is_number(),
        Leaf::Flag => value.is_boolean(),
        Leaf::Text | Leaf::Id => value.is_string(),
        Leaf::Time => {
            value.as_str().is_some_and(|t| chrono::DateTime::parse_from_rfc3339(t).is_ok())
        }
        Leaf::Address => value.as_str().is_some_and(|text| !text.contains(['?', '#', '@'])),
    }
}

fn left(kind: Kind, body: &str, spec: &Spec) -> Vec<Vec<u8>> {
    let visitor = Visitor {
        user: UserId::parse("zqjohnzq").ok(),
        anonymous: AnonymousId::parse("browser").ok(),
        ..Visitor::default()
    };
    let place = json!({"country": "DE", "city": "zqcityzq", "latitude": 48.137}).to_string();
    let place = RawValue::from_string(place).unwrap();
    let profile = RawValue::from_string(r#"{"email":"zqemailzq"}"#.into()).unwrap();
    let given = Given {
        visitor: &visitor,
        ip: Ip::Is("203.0.113.77".parse().unwrap()),
        user_agent: Some("Test/1"),
        place: Some(&place),
        profile: Some(KnownProfile { traits: &profile, user: visitor.user.as_ref() }),
        consent: Some(Consent::Limited),
    };
    let Ok(enriched) = enrich(kind, body.as_bytes(), &given, spec) else { return Vec::new() };
    assert!(enriched.ids.user.is_none() && enriched.ids.user_hash.is_none());
    enriched.parcels.into_iter().map(|parcel| parcel.body.to_vec()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// Whatever a page sends, nothing leaves but what the list names, and no text that stood elsewhere.
    #[test]
    fn nothing_but_the_list_leaves((kind, body) in body(), segment in any::<bool>()) {
        let mut written = Written::default();
        written.write(&body, "");
        let spec = if segment { &segment::EVENTS } else { &rudderstack::EVENTS };
        for parcel in left(kind, &written.json, spec) {
            let text = String::from_utf8(parcel).unwrap();
            let event: Value = serde_json::from_str(&text).unwrap();
            let mut found = Vec::new();
            leaves(&event, "", &mut found);
            for (path, value) in found {
                let leaf = allowed(&path);
                prop_assert!(leaf.is_some_and(|leaf| fits(leaf, &value)), "{path}: {value}\n{text}");
            }
            for mark in &written.marks {
                let may = mark.may_leave(event["type"].as_str().unwrap());
                prop_assert!(may || !text.contains(&mark.text), "{}\n{text}", mark.path);
            }
            prop_assert_eq!(&event["context"]["ip"], "0.0.0.0");
            prop_assert_eq!(&event["context"]["consent"]["edge"], "limited");
            prop_assert!(event[spec.time].is_string());
            for secret in ["zqjohnzq", "zqcityzq", "zqemailzq", "48.137", "203.0.113"] {
                prop_assert!(!text.contains(secret), "{secret}\n{text}");
            }
        }
    }
}
