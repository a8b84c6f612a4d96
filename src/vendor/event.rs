//! Events as browsers send them → events as a vendor wants them from a server. Segment and RudderStack
//! share the specification: <https://segment.com/docs/connections/spec/common/>

mod ids;
mod limited;
mod shape;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::value::RawValue;

use crate::collect::{Object, Parcel, clock, is_deeper};
use crate::decide::Consent;
use crate::identity::{AnonymousId, UserId, Visitor};
use ids::Named;

/// Largest event, in bytes (Tracking API's limit).
pub const MAX_EVENT_BYTES: usize = 32 * 1024;
/// Largest batch, in bytes (Tracking API's limit).
pub const MAX_BATCH_BYTES: usize = 500 * 1024;
/// Most bytes of a batch's events as they leave: what the batch says of all of them, and what the edge knows, stands in
/// each.
const MAX_LEAVING_BYTES: usize = 4 * MAX_BATCH_BYTES;
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
    pub profile: Option<KnownProfile<'g>>,
    /// What the visitor allows, where the site has rules about it: `context.consent.edge`. With
    /// [`Consent::Limited`] nothing leaves that could tell who it is.
    pub consent: Option<Consent>,
}

impl Given<'_> {
    fn is_limited(&self) -> bool {
        self.consent == Some(Consent::Limited)
    }
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
    /// Events say that these two are one: `identify`, `alias`.
    pub links: bool,
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
    /// What a batch says of all its events leaves with each of them.
    #[error(
        "the events of a batch have at most {MAX_LEAVING_BYTES} bytes, with what stands in each of them: its `context` and what the edge adds"
    )]
    BatchTooLarge,
}

/// The events that SDKs of pages send.
const TYPES: &[&str] = &["identify", "track", "page", "screen", "group", "alias"];

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
    let mut out = Enriched {
        parcels: Vec::new(),
        user: None,
        anonymous: None,
        user_hash: None,
        links: false,
        made: None,
    };
    if is_deeper(body, MAX_DEPTH) {
        return Err(BadEvent::TooDeep);
    }
    let mut root: Object = serde_json::from_slice(body)?;
    if given.consent == Some(Consent::Denied) {
        return Ok(out);
    }
    match kind {
        // Whatever a page has written into it would pass unread.
        Kind::Metrics if given.is_limited() => {}
        Kind::Metrics => out.parcels.push(Parcel::post(METRICS_PATH, root.to_vec())),
        Kind::Batch => {
            let sent_at = root.text("sentAt");
            let mut bytes = 0;
            for (number, raw) in batch(&root)?.iter().enumerate() {
                let mut event = of_batch(&root, number, raw)?;
                if !may_leave(&event, given) {
                    continue;
                }
                one(&mut event, sent_at.as_deref(), given, spec, &mut out);
                let event = event.to_vec();
                bytes += event.len();
                if bytes > MAX_LEAVING_BYTES {
                    return Err(BadEvent::BatchTooLarge);
                }
                out.parcels.push(Parcel::batched(event));
            }
        }
        _ => {
            if let Some(name) = kind.event_type() {
                root.set_text("type", name);
            }
            if may_leave(&root, given) {
                one(&mut root, None, given, spec, &mut out);
                out.parcels.push(Parcel::batched(root.to_vec()));
            }
        }
    }
    Ok(out)
}

/// The events of a batch, as they came.
fn batch(root: &Object) -> Result<Vec<Box<RawValue>>, BadEvent> {
    let events: Vec<Box<RawValue>> = root
        .get("batch")
        .and_then(|raw| serde_json::from_str(raw.get()).ok())
        .ok_or(BadEvent::NoBatch)?;
    let fits = !events.is_empty() && events.len() <= MAX_BATCH_EVENTS;
    fits.then_some(events).ok_or(BadEvent::NoBatch)
}

/// One event of a batch, with what the batch says of all of them.
fn of_batch(root: &Object, number: usize, raw: &RawValue) -> Result<Object, BadEvent> {
    let mut bytes = raw.get().len();
    let mut event: Object = serde_json::from_str(raw.get())?;
    for name in ["context", "integrations"] {
        if let Some(common) = root.get(name)
            && !event.has(name)
        {
            bytes += common.get().len();
            event.set(name, common.to_owned());
        }
    }
    // With what is common: it leaves with each of them.
    if bytes > MAX_EVENT_BYTES { Err(BadEvent::TooLarge(number)) } else { Ok(event) }
}

/// Whether pages send events of this type, and the visitor allows it: `delete` is for servers.
fn may_leave(event: &Object, given: &Given<'_>) -> bool {
    let types = if given.is_limited() { limited::TYPES } else { TYPES };
    event.text("type").is_some_and(|kind| types.contains(&kind.as_str()))
}

/// Adds what only the edge knows. What the page has said itself stays, as far as the visitor allows.
fn one(
    event: &mut Object,
    sent_at: Option<&str>,
    given: &Given<'_>,
    spec: &Spec,
    out: &mut Enriched,
) {
    event.remove("writeKey");
    let made = keep_time(event, spec.time, sent_at);
    name_visitor(event, given, made, out);
    if !event.has("messageId") {
        event.set_text("messageId", &format!("edge-{}", AnonymousId::mint().as_str()));
    }
    let mut context = event.object("context").unwrap_or_default();
    if let Some(hash) = context.text("user_hash").filter(|_| !given.is_limited()) {
        out.user_hash = Some(hash);
    }
    context.remove("user_hash");
    ids::settle_context(&mut context);
    let profile = given.profile.filter(|profile| profile.is_of(event, given.visitor));
    describe(&mut context, given, profile.map(|profile| profile.traits));
    event.set_object("context", &context);
    if spec.marks {
        let mut metadata = event.object("_metadata").unwrap_or_default();
        metadata.set_text("jsRuntime", "doorstep");
        event.set_object("_metadata", &metadata);
    }
    if given.is_limited() {
        // Last, so that nothing of what stands in it by now gets around the list.
        *event = limited::limited(event);
        keep_time(event, spec.time, None);
    }
}

/// Completes whose event it is, and notes whom the page names: of a batch the last browser that is named, with the
/// user that is named for it. `made`: when the event was.
fn name_visitor(event: &mut Object, given: &Given<'_>, made: Option<i64>, out: &mut Enriched) {
    let named = ids::settle(event);
    let anonymous = event.text("anonymousId").filter(|id| !id.is_empty());
    let known = given.visitor;
    // A page that names another browser's id, as after `reset`, is not the cookies' visitor.
    let same = match (&anonymous, &known.anonymous) {
        (Some(named), Some(own)) => named == own.as_str(),
        (None, _) => true,
        (Some(_), None) => known.user.is_some() && !event.has("userId"),
    };
    if anonymous.is_none()
        && let Some(id) = &known.anonymous
    {
        event.set_text("anonymousId", id.as_str());
    }
    if let Some(id) = anonymous.and_then(|id| AnonymousId::parse(&id).ok()) {
        if out.anonymous.as_ref().is_some_and(|before| *before != id) {
            (out.user, out.user_hash, out.links) = (None, None, false);
        }
        if out.user.is_none() {
            out.made = made;
        }
        out.anonymous = Some(id);
    }
    match named {
        _ if given.is_limited() => event.remove("userId"),
        Named::Nobody => {
            if let Some(id) = known.user.as_ref().filter(|_| same) {
                event.set_text("userId", id.as_str());
            }
        }
        Named::User(id) => {
            if out.user.as_ref() != Some(&id) {
                out.links = false;
            }
            out.links |= matches!(event.text("type").as_deref(), Some("identify" | "alias"));
            (out.user, out.made) = (Some(id), made);
        }
        Named::Unreadable => {}
    }
}

/// What is known of somebody, for the events of whom it is about.
#[derive(Debug, Clone, Copy)]
pub struct KnownProfile<'p> {
    /// Traits by name.
    pub traits: &'p RawValue,
    /// Whose: `None` for a browser that is nobody's.
    pub user: Option<&'p UserId>,
}

impl KnownProfile<'_> {
    /// Whether `event`, which has its ids by now, is of the same visitor.
    fn is_of(&self, event: &Object, known: &Visitor) -> bool {
        let user = event.text("userId");
        let browser = event.text("anonymousId");
        match (self.user, user) {
            (Some(own), Some(user)) => own.as_str() == user,
            (None, None) => browser.as_deref() == known.anonymous.as_ref().map(AnonymousId::as_str),
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}

/// Adds to an event's context what the edge knows.
fn describe(context: &mut Object, given: &Given<'_>, profile: Option<&RawValue>) {
    match given.ip {
        _ if given.is_limited() => context.set_text("ip", limited::NO_ADDRESS),
        Ip::Is(ip) if !context.has("ip") => context.set_text("ip", &ip.to_string()),
        Ip::Only(ip) => context.set_text("ip", &ip.to_string()),
        Ip::Is(_) | Ip::Unknown => {}
    }
    for (name, known) in [("edge", given.place), ("profile", profile)] {
        if let Some(known) = known {
            context.set(name, known.to_owned());
        }
    }
    if let Some(consent) = given.consent {
        let mut told = context.object("consent").unwrap_or_default();
        told.set_text("edge", consent.label());
        context.set_object("consent", &told);
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
mod tests;
