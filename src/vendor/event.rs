//! Events as browsers send them → events as a vendor wants them from a server. Segment and RudderStack
//! share the specification: <https://segment.com/docs/connections/spec/common/>

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::value::RawValue;

use crate::collect::{Object, Parcel, clock, is_deeper};
use crate::identity::{AnonymousId, UserId, Visitor};

/// Largest event, in bytes (Tracking API's limit).
pub const MAX_EVENT_BYTES: usize = 32 * 1024;
/// Largest batch, in bytes (Tracking API's limit).
pub const MAX_BATCH_BYTES: usize = 500 * 1024;
/// Most events of a batch (Tracking API's limit).
const MAX_BATCH_EVENTS: usize = 2500;
/// Deepest event. What is only passed on is not parsed, so its depth has to be counted.
const MAX_DEPTH: usize = 64;
/// Where the SDK's reports about itself go, below the API's base.
const METRICS_PATH: &str = "/m";

/// What is particular to a vendor's events.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// The member that says when an event happened, by the browser's clock.
    pub time: &'static str,
    /// Events carry marks of the way that they came.
    pub marks: bool,
}

/// A method of a tracking API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Something that the visitor did.
    Track,
    /// Who the visitor is.
    Identify,
    /// A page view.
    Page,
    /// A view in an app.
    Screen,
    /// Which group the visitor belongs to.
    Group,
    /// Two ids of one visitor.
    Alias,
    /// Several of these.
    Batch,
    /// The SDK's report about itself.
    Metrics,
}

impl Kind {
    /// Reads the last part of an event's path: the full name or the browser SDK's letter.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "t" | "track" => Self::Track,
            "i" | "identify" => Self::Identify,
            "p" | "page" => Self::Page,
            "s" | "screen" => Self::Screen,
            "g" | "group" => Self::Group,
            "a" | "alias" => Self::Alias,
            "b" | "batch" => Self::Batch,
            "m" => Self::Metrics,
            _ => return None,
        })
    }

    /// What an event that comes this way says of its type.
    const fn event_type(self) -> Option<&'static str> {
        match self {
            Self::Track => Some("track"),
            Self::Identify => Some("identify"),
            Self::Page => Some("page"),
            Self::Screen => Some("screen"),
            Self::Group => Some("group"),
            Self::Alias => Some("alias"),
            Self::Batch | Self::Metrics => None,
        }
    }

    /// The most bytes that its body may have.
    #[must_use]
    pub const fn limit(self) -> usize {
        match self {
            Self::Batch => MAX_BATCH_BYTES,
            _ => MAX_EVENT_BYTES,
        }
    }
}

/// What the edge knows about the request that brought an event.
#[derive(Debug, Clone, Copy)]
pub struct Given<'g> {
    /// The visitor as the cookies tell.
    pub visitor: &'g Visitor,
    /// The browser's address, as much of it as the vendor may know.
    pub ip: Ip,
    /// The browser's User-Agent.
    pub user_agent: Option<&'g str>,
    /// Where the visitor is: `context.edge`.
    pub place: Option<&'g RawValue>,
    /// What the vendor may know of the visitor's profile: `context.profile`.
    pub profile: Option<&'g RawValue>,
    /// The visitor may be counted and not be known: no user, no address, no events that say who.
    pub limited: bool,
}

/// An address as the vendor may know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ip {
    /// This one, where the page says none.
    Is(IpAddr),
    /// This one, whatever the page says.
    Only(IpAddr),
    /// Nobody knows it.
    Unknown,
}

impl Ip {
    /// No address. The vendor takes ours where an event has none at all.
    pub const HIDDEN: Self = Self::Only(IpAddr::V4(Ipv4Addr::UNSPECIFIED));

    /// `address` without what names one household: the last 8 bits of 32, 80 of 128.
    #[must_use]
    pub fn anonymised(address: IpAddr) -> Self {
        Self::Only(match address {
            IpAddr::V4(address) => Ipv4Addr::from(u32::from(address) & !0xff).into(),
            IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) >> 80 << 80).into(),
        })
    }
}

/// Events ready for the vendor, and whose they say they are.
#[derive(Debug)]
pub struct Enriched {
    /// What the Tracking API gets.
    pub parcels: Vec<Parcel>,
    /// The user id that the payload itself names.
    pub user: Option<UserId>,
    /// The anonymous id that the payload itself names.
    pub anonymous: Option<AnonymousId>,
    /// What the site's own page signs that user id with. The vendor does not get it.
    pub user_hash: Option<String>,
    /// When the event that names these ids was made, in milliseconds since 1970 by the edge's clock.
    pub made: Option<i64>,
}

/// Why a body is not an event.
#[derive(Debug, thiserror::Error)]
pub enum BadEvent {
    /// Not a JSON object.
    #[error("expected a JSON object: {0}")]
    NotAnObject(#[from] serde_json::Error),
    /// Brackets in brackets.
    #[error("expected at most {MAX_DEPTH} objects and lists inside one another")]
    TooDeep,
    /// A batch without events.
    #[error("expected `batch` to be a list of 1 to {MAX_BATCH_EVENTS} events")]
    NoBatch,
    /// One event of a batch is too large.
    #[error("an event has at most {MAX_EVENT_BYTES} bytes, number {0} of the batch has more")]
    TooLarge(usize),
}

/// What `body`, sent to `kind`, becomes on its way to the vendor.
///
/// # Errors
/// What is wrong with it.
pub fn enrich(
    kind: Kind,
    body: &[u8],
    given: &Given<'_>,
    spec: &Spec,
) -> Result<Enriched, BadEvent> {
    let mut out =
        Enriched { parcels: Vec::new(), user: None, anonymous: None, user_hash: None, made: None };
    if is_deeper(body, MAX_DEPTH) {
        return Err(BadEvent::TooDeep);
    }
    let mut root: Object = serde_json::from_slice(body)?;
    match kind {
        Kind::Metrics => out.parcels.push(Parcel::post(METRICS_PATH, root.to_vec())),
        Kind::Batch => {
            let events: Vec<Box<RawValue>> = root
                .get("batch")
                .and_then(|raw| serde_json::from_str(raw.get()).ok())
                .ok_or(BadEvent::NoBatch)?;
            if events.is_empty() || events.len() > MAX_BATCH_EVENTS {
                return Err(BadEvent::NoBatch);
            }
            let sent_at = root.text("sentAt");
            for (number, raw) in events.iter().enumerate() {
                if raw.get().len() > MAX_EVENT_BYTES {
                    return Err(BadEvent::TooLarge(number));
                }
                let mut event: Object = serde_json::from_str(raw.get())?;
                // What a batch says of all its events.
                for name in ["context", "integrations"] {
                    if let Some(common) = root.get(name)
                        && !event.has(name)
                    {
                        event.set(name, common.to_owned());
                    }
                }
                if given.limited && event.text("type").is_none_or(|kind| says_who(&kind)) {
                    continue;
                }
                one(&mut event, sent_at.as_deref(), given, spec, &mut out);
                out.parcels.push(Parcel::batched(event.to_vec()));
            }
        }
        _ => {
            if let Some(name) = kind.event_type() {
                if given.limited && says_who(name) {
                    return Ok(out);
                }
                root.set_text("type", name);
            }
            one(&mut root, None, given, spec, &mut out);
            out.parcels.push(Parcel::batched(root.to_vec()));
        }
    }
    Ok(out)
}

/// Whether events of this type are about who somebody is.
fn says_who(kind: &str) -> bool {
    !matches!(kind, "track" | "page" | "screen")
}

/// Adds what only the edge knows. What the page has said itself stays.
fn one(
    event: &mut Object,
    sent_at: Option<&str>,
    given: &Given<'_>,
    spec: &Spec,
    out: &mut Enriched,
) {
    event.remove("writeKey");
    let made = keep_time(event, spec.time, sent_at);
    if given.limited {
        event.remove("userId");
        event.remove("traits");
    }
    let anonymous = event.text("anonymousId");
    // RudderStack's SDK writes an empty one where nobody is known.
    let user = event.text("userId").filter(|id| !id.is_empty());
    let known = given.visitor;
    // A page that names another browser's id, as after `reset`, is not the cookies' visitor.
    let same = match (&anonymous, &known.anonymous) {
        (Some(named), Some(own)) => named == own.as_str(),
        (None, _) => true,
        (Some(_), None) => known.user.is_some() && user.is_none() && !event.has("userId"),
    };
    if anonymous.is_none()
        && let Some(id) = &known.anonymous
    {
        event.set_text("anonymousId", id.as_str());
    }
    if user.is_none()
        && same
        && let Some(id) = &known.user
    {
        event.set_text("userId", id.as_str());
    }
    if anonymous.is_some() || user.is_some() {
        out.made = made;
    }
    if let Some(id) = anonymous.and_then(|id| AnonymousId::parse(&id).ok()) {
        out.anonymous = Some(id);
    }
    if let Some(id) = user.and_then(|id| UserId::parse(&id).ok()) {
        out.user = Some(id);
    }
    if !event.has("messageId") {
        event.set_text("messageId", &format!("edge-{}", AnonymousId::mint().as_str()));
    }

    let mut context = event.object("context").unwrap_or_default();
    if let Some(hash) = context.text("user_hash") {
        context.remove("user_hash");
        out.user_hash = Some(hash);
    }
    match given.ip {
        Ip::Is(ip) if !context.has("ip") => context.set_text("ip", &ip.to_string()),
        Ip::Only(ip) => context.set_text("ip", &ip.to_string()),
        Ip::Is(_) | Ip::Unknown => {}
    }
    if given.limited {
        context.remove("traits");
    }
    for (name, known) in [("edge", given.place), ("profile", given.profile)] {
        if let Some(known) = known {
            context.set(name, known.to_owned());
        }
    }
    if !context.has("userAgent")
        && let Some(agent) = given.user_agent
    {
        context.set_text("userAgent", agent);
    }
    let mut library = context.object("library").unwrap_or_default();
    let version = library.text("version").unwrap_or_default();
    library.set_text("version", &format!("edge-{}:{version}", env!("CARGO_PKG_VERSION")));
    context.set_object("library", &library);
    event.set_object("context", &context);

    if spec.marks {
        let mut metadata = event.object("_metadata").unwrap_or_default();
        metadata.set_text("jsRuntime", "doorstep");
        event.set_object("_metadata", &metadata);
    }
}

/// An event may leave days after it came. `name` says when it happened, by a clock that is right: the
/// vendor corrects it by the `sentAt` of the batch, which is ours. The browser's own `sentAt`
/// tells by how much its clock is wrong.
/// Tells when the event was made, as [`clock::made_at`] has it.
fn keep_time(event: &mut Object, name: &str, sent_at: Option<&str>) -> Option<i64> {
    let now = std::time::SystemTime::now();
    let own = event.text("sentAt");
    event.remove("sentAt");
    let said = event.text(name);
    let sent_at = own.as_deref().or(sent_at);
    let made =
        said.as_deref().zip(sent_at).and_then(|(said, sent)| clock::made_at(said, sent, now));
    match (&said, sent_at) {
        (Some(said), Some(sent_at)) => {
            if let Some(right) = clock::corrected(said, sent_at, now) {
                event.set_text(name, &right);
            }
        }
        (Some(_), None) => {}
        (None, _) => {
            event.set_text(name, &humantime::format_rfc3339_millis(now).to_string());
        }
    }
    made
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const SPEC: &Spec = &crate::vendor::segment::EVENTS;

    fn visitor() -> Visitor {
        Visitor {
            user: UserId::parse("john").ok(),
            anonymous: AnonymousId::parse("browser").ok(),
            minted: false,
        }
    }

    fn given(visitor: &Visitor) -> Given<'_> {
        Given {
            visitor,
            ip: Ip::Is("192.0.2.7".parse().unwrap()),
            user_agent: Some("Test/1"),
            place: None,
            profile: None,
            limited: false,
        }
    }

    fn sent(kind: Kind, body: &Value) -> (Value, Enriched) {
        let visitor = visitor();
        let given = given(&visitor);
        let enriched = enrich(kind, body.to_string().as_bytes(), &given, SPEC).unwrap();
        (serde_json::from_slice(&enriched.parcels[0].body).unwrap(), enriched)
    }

    #[test]
    fn what_is_no_event_is_refused() {
        let nobody = Visitor::default();
        let given = given(&nobody);
        for (kind, body) in [
            (Kind::Track, "[]"),
            (Kind::Track, ""),
            (Kind::Track, "{\"a\":"),
            (Kind::Track, "\u{feff}{}"),
            (Kind::Batch, "{}"),
            (Kind::Batch, r#"{"batch":[]}"#),
            (Kind::Batch, r#"{"batch":[1]}"#),
        ] {
            assert!(enrich(kind, body.as_bytes(), &given, SPEC).is_err(), "{body}");
        }
        let large = json!({"batch": [{"a": "x".repeat(MAX_EVENT_BYTES)}]}).to_string();
        assert!(matches!(
            enrich(Kind::Batch, large.as_bytes(), &given, SPEC),
            Err(BadEvent::TooLarge(0))
        ));
    }

    #[test]
    fn the_edge_adds_what_the_page_lacks_and_keeps_what_it_says() {
        let (event, _) = sent(
            Kind::Track,
            &json!({"event": "x", "writeKey": "REDACTED",
            "context": {"library": {"name": "analytics.js", "version": "1.84"}}}),
        );
        assert_eq!(event["anonymousId"], "browser");
        assert_eq!(event["userId"], "john");
        assert_eq!(event["context"]["ip"], "192.0.2.7");
        assert_eq!(event["context"]["userAgent"], "Test/1");
        let version = concat!("edge-", env!("CARGO_PKG_VERSION"), ":1.84");
        assert_eq!(
            event["context"]["library"],
            json!({"name": "analytics.js", "version": version})
        );
        assert_eq!(event["_metadata"]["jsRuntime"], "doorstep");
        assert!(event.get("writeKey").is_none());
        assert!(event["messageId"].as_str().unwrap().starts_with("edge-"));

        let (event, enriched) = sent(
            Kind::Page,
            &json!({"anonymousId": "browser", "userId": "mary",
            "messageId": "m1", "context": {"ip": "0.0.0.0", "userAgent": "own"}}),
        );
        assert_eq!((&event["userId"], &event["messageId"]), (&json!("mary"), &json!("m1")));
        assert_eq!(event["context"]["ip"], "0.0.0.0");
        assert_eq!(event["context"]["userAgent"], "own");
        assert_eq!(enriched.user.unwrap().as_str(), "mary");
    }

    #[test]
    fn after_a_reset_nobody_is_taken_for_the_last_user() {
        let (event, enriched) = sent(Kind::Page, &json!({"anonymousId": "new", "userId": null}));
        assert_eq!((&event["userId"], enriched.user), (&Value::Null, None));
        let (event, _) = sent(Kind::Page, &json!({"anonymousId": "browser", "userId": null}));
        assert_eq!(event["userId"], "john");
    }

    #[test]
    fn every_event_of_a_batch_is_enriched() {
        let (_, enriched) = sent(
            Kind::Batch,
            &json!({"writeKey": "x", "context": {"ip": "198.51.100.1"},
            "batch": [{"type": "page", "context": {}}, {"type": "track", "writeKey": "y"}]}),
        );
        let event = |number: usize| -> Value {
            serde_json::from_slice(&enriched.parcels[number].body).unwrap()
        };
        assert_eq!(enriched.parcels.len(), 2);
        assert_eq!(event(0)["context"]["ip"], "192.0.2.7");
        assert_eq!(event(1)["context"]["ip"], "198.51.100.1");
        assert!(event(1).get("writeKey").is_none() && event(1)["timestamp"].is_string());
        let (report, enriched) = sent(Kind::Metrics, &json!({"series": []}));
        assert_eq!(report, json!({"series": []}));
        assert_eq!(enriched.parcels[0], Parcel::post("/m", br#"{"series":[]}"#.to_vec()));
    }

    #[test]
    fn who_may_not_be_known_is_not() {
        let (visitor, place) =
            (visitor(), RawValue::from_string(r#"{"country":"DE"}"#.into()).unwrap());
        let limited = Given {
            limited: true,
            ip: Ip::HIDDEN,
            place: Some(&place),
            profile: Some(&place),
            ..given(&visitor)
        };
        let limited = Given { visitor: &Visitor { user: None, ..visitor.clone() }, ..limited };
        let body =
            json!({"userId": "john", "context": {"ip": "192.0.2.1", "traits": {"email": "x"}}});
        let track = enrich(Kind::Track, body.to_string().as_bytes(), &limited, SPEC).unwrap();
        let event: Value = serde_json::from_slice(&track.parcels[0].body).unwrap();
        assert_eq!((event.get("userId"), &event["anonymousId"]), (None, &json!("browser")));
        assert_eq!(
            (&event["context"]["ip"], event["context"].get("traits")),
            (&json!("0.0.0.0"), None)
        );
        assert_eq!(event["context"]["edge"]["country"], "DE");
        assert!(track.user.is_none());
        for kind in [Kind::Identify, Kind::Group, Kind::Alias] {
            assert!(enrich(kind, b"{}", &limited, SPEC).unwrap().parcels.is_empty());
        }
        let batch = json!({"batch": [{"type": "identify"}, {"type": "track"}, {}]});
        let batch = enrich(Kind::Batch, batch.to_string().as_bytes(), &limited, SPEC).unwrap();
        assert_eq!(batch.parcels.len(), 1);
        for (whole, part) in [("192.0.2.77", "192.0.2.0"), ("2001:db8:1:2::3", "2001:db8:1::")] {
            let ip = Ip::anonymised(whole.parse().unwrap());
            assert_eq!(ip, Ip::Only(part.parse().unwrap()));
        }
    }

    #[test]
    fn time_keeps_its_meaning_after_a_delay() {
        let right = "2020-01-01T00:00:00.000Z";
        let (event, _) = sent(Kind::Track, &json!({"timestamp": right, "messageId": "m"}));
        assert_eq!((&event["timestamp"], &event["messageId"]), (&json!(right), &json!("m")));
        // Sent at once, by a clock that is years behind: it happened just now.
        let wrong = json!({"timestamp": right, "sentAt": "2020-01-01T00:00:01.000Z"});
        let (event, _) = sent(Kind::Track, &wrong);
        let said = humantime::parse_rfc3339_weak(event["timestamp"].as_str().unwrap()).unwrap();
        let ago = std::time::SystemTime::now().duration_since(said).unwrap();
        assert!((1..5).contains(&ago.as_secs()), "{ago:?}");
        assert!(event.get("sentAt").is_none(), "the batch has one");
        assert_eq!(event["type"], "track");
    }
}
