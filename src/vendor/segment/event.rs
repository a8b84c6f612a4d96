//! Events as browsers send them → events as the Tracking API wants them from a server.
//! <https://segment.com/docs/connections/spec/common/>

use std::net::IpAddr;

use serde_json::value::RawValue;

use super::WriteKey;
use crate::collect::Object;
use crate::identity::{AnonymousId, UserId, Visitor};
use crate::upstream::basic;

/// Largest event, in bytes (Tracking API's limit).
pub const MAX_EVENT_BYTES: usize = 32 * 1024;
/// Largest batch, in bytes (Tracking API's limit).
pub const MAX_BATCH_BYTES: usize = 500 * 1024;
/// Most events of a batch (Tracking API's limit).
const MAX_BATCH_EVENTS: usize = 2500;

/// A method of the Tracking API.
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

    /// Its path below the Tracking API's base.
    #[must_use]
    pub const fn at_api(self) -> &'static str {
        match self {
            Self::Track => "/track",
            Self::Identify => "/identify",
            Self::Page => "/page",
            Self::Screen => "/screen",
            Self::Group => "/group",
            Self::Alias => "/alias",
            Self::Batch => "/batch",
            Self::Metrics => "/m",
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
    /// The browser's address.
    pub ip: Option<IpAddr>,
    /// The browser's User-Agent.
    pub user_agent: Option<&'g str>,
}

/// An event ready for the vendor, and whose it says it is.
#[derive(Debug)]
pub struct Enriched {
    /// The body for the Tracking API.
    pub body: Vec<u8>,
    /// The user id that the payload itself names.
    pub user: Option<UserId>,
    /// The anonymous id that the payload itself names.
    pub anonymous: Option<AnonymousId>,
}

/// Why a body is not an event.
#[derive(Debug, thiserror::Error)]
pub enum BadEvent {
    /// Not a JSON object.
    #[error("expected a JSON object: {0}")]
    NotAnObject(#[from] serde_json::Error),
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
pub fn enrich(kind: Kind, body: &[u8], given: &Given<'_>) -> Result<Enriched, BadEvent> {
    let mut root: Object = serde_json::from_slice(body)?;
    let mut out = Enriched { body: Vec::new(), user: None, anonymous: None };
    match kind {
        Kind::Metrics => {}
        Kind::Batch => {
            let events: Vec<Box<RawValue>> = root
                .get("batch")
                .and_then(|raw| serde_json::from_str(raw.get()).ok())
                .ok_or(BadEvent::NoBatch)?;
            if events.is_empty() || events.len() > MAX_BATCH_EVENTS {
                return Err(BadEvent::NoBatch);
            }
            let mut batch = Vec::with_capacity(events.len());
            for (number, raw) in events.iter().enumerate() {
                if raw.get().len() > MAX_EVENT_BYTES {
                    return Err(BadEvent::TooLarge(number));
                }
                let mut event: Object = serde_json::from_str(raw.get())?;
                one(&mut event, given, &mut out);
                batch.push(event);
            }
            root.remove("writeKey");
            if let Ok(batch) = serde_json::value::to_raw_value(&batch) {
                root.set("batch", batch);
            }
        }
        _ => one(&mut root, given, &mut out),
    }
    out.body = root.to_vec();
    Ok(out)
}

/// Adds what only the edge knows. What the page has said itself stays.
fn one(event: &mut Object, given: &Given<'_>, out: &mut Enriched) {
    event.remove("writeKey");
    let anonymous = event.text("anonymousId");
    let user = event.text("userId");
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
    if !context.has("ip")
        && let Some(ip) = given.ip
    {
        context.set_text("ip", &ip.to_string());
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

    let mut metadata = event.object("_metadata").unwrap_or_default();
    metadata.set_text("jsRuntime", "doorstep");
    event.set_object("_metadata", &metadata);
}

/// Value of the Authorization header for the Tracking API (RFC 7617, the key as user name).
#[must_use]
pub fn authorization(key: &WriteKey) -> http::HeaderValue {
    basic(key.expose(), "")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn visitor() -> Visitor {
        Visitor {
            user: UserId::parse("john").ok(),
            anonymous: AnonymousId::parse("browser").ok(),
            minted: false,
        }
    }

    fn sent(kind: Kind, body: &Value) -> (Value, Enriched) {
        let given =
            Given { visitor: &visitor(), ip: "192.0.2.7".parse().ok(), user_agent: Some("Test/1") };
        let enriched = enrich(kind, body.to_string().as_bytes(), &given).unwrap();
        (serde_json::from_slice(&enriched.body).unwrap(), enriched)
    }

    #[test]
    fn what_is_no_event_is_refused() {
        let given = Given { visitor: &Visitor::default(), ip: None, user_agent: None };
        for (kind, body) in [
            (Kind::Track, "[]"),
            (Kind::Track, ""),
            (Kind::Track, "{\"a\":"),
            (Kind::Track, "\u{feff}{}"),
            (Kind::Batch, "{}"),
            (Kind::Batch, r#"{"batch":[]}"#),
            (Kind::Batch, r#"{"batch":[1]}"#),
        ] {
            assert!(enrich(kind, body.as_bytes(), &given).is_err(), "{body}");
        }
        let large = json!({"batch": [{"a": "x".repeat(MAX_EVENT_BYTES)}]}).to_string();
        assert!(matches!(
            enrich(Kind::Batch, large.as_bytes(), &given),
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
        let (batch, _) = sent(
            Kind::Batch,
            &json!({"writeKey": "x", "sentAt": "then",
            "batch": [{"type": "page"}, {"type": "track", "writeKey": "y"}]}),
        );
        assert_eq!(batch["sentAt"], "then");
        assert!(batch.get("writeKey").is_none() && batch["batch"][1].get("writeKey").is_none());
        assert_eq!(batch["batch"][1]["context"]["ip"], "192.0.2.7");
        let (report, _) = sent(Kind::Metrics, &json!({"series": []}));
        assert_eq!(report, json!({"series": []}));
    }
}
