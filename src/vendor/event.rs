//! Events as browsers send them → events as a vendor wants them from a server. Segment and RudderStack
//! share the specification: <https://segment.com/docs/connections/spec/common/>

mod ids;
mod limited;
mod shape;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::value::RawValue;

use crate::collect::{Object, Parcel, STAMP_BYTES, clock, is_deeper};
use crate::decide::Consent;
use crate::identity::{AnonymousId, UserId, Visitor};
use ids::Named;

/// Largest event, in bytes (Tracking API's limit).
pub const MAX_EVENT_BYTES: usize = 32 * 1024;
/// Largest batch, in bytes (Tracking API's limit).
pub const MAX_BATCH_BYTES: usize = 500 * 1024;
/// Most bytes of an event as it leaves the spool: the vendor counts what the edge adds and says on the way as well.
const MAX_LEAVING_EVENT_BYTES: usize = MAX_EVENT_BYTES - STAMP_BYTES;
/// Most bytes of a batch's events as they leave: what the batch says of all of them, and what the edge knows, stands in
/// each.
const MAX_LEAVING_BYTES: usize = 4 * MAX_BATCH_BYTES;
/// Most events of a batch (Tracking API's limit).
const MAX_BATCH_EVENTS: usize = 2500;
/// Deepest event. What is only passed on is not parsed, so its depth has to be counted.
const MAX_DEPTH: usize = 64;

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
#[derive(Debug, Default)]
pub struct Enriched {
    /// What the Tracking API gets.
    pub parcels: Vec<Parcel>,
    /// What the SDK reports about itself.
    pub reports: Vec<Box<RawValue>>,
    /// Events of a batch that can't be taken, by their place in it.
    pub refused: Vec<(usize, BadEvent)>,
    /// Whose they say they are.
    pub ids: Ids,
}

/// Whose events say they are.
#[derive(Debug, Default, Clone)]
pub struct Ids {
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
    /// No list of reports.
    #[error("expected `series` to be a list")]
    NoSeries,
    /// An event of a batch that no page sends.
    #[error("expected `type` to be one of {}", TYPES.join(", "))]
    NoType,
    /// An event, with what the edge adds, and what its batch says of all its events.
    #[error(
        "an event has at most {MAX_EVENT_BYTES} bytes, with what its batch says of all events and what the edge adds"
    )]
    TooLarge,
    /// What a batch says of all its events leaves with each of them.
    #[error(
        "the events of a batch have at most {MAX_LEAVING_BYTES} bytes, with what stands in each of them: its `context` and what the edge adds"
    )]
    BatchTooLarge,
}

impl BadEvent {
    /// Whether it is for its size alone.
    #[must_use]
    pub const fn is_too_large(&self) -> bool {
        matches!(self, Self::TooLarge | Self::BatchTooLarge)
    }
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
    let mut out = Enriched::default();
    // A byte that is no text costs its place, and not the event.
    let body = String::from_utf8_lossy(body);
    if kind != Kind::Batch && is_deeper(body.as_bytes(), MAX_DEPTH) {
        return Err(BadEvent::TooDeep);
    }
    let mut root: Object = serde_json::from_str(&body)?;
    if given.consent == Some(Consent::Denied) {
        return Ok(out);
    }
    match kind {
        // Whatever a page has written into it would pass unread.
        Kind::Metrics if given.is_limited() => {}
        Kind::Metrics => {
            let series = root.get("series").map(|raw| serde_json::from_str(raw.get()));
            out.reports = series.and_then(Result::ok).ok_or(BadEvent::NoSeries)?;
        }
        Kind::Batch => {
            let mut bytes = 0;
            for (number, raw) in batch(&root)?.iter().enumerate() {
                match of_batch(&root, raw, given, spec, &mut out.ids, &mut bytes) {
                    Ok(Some(event)) => out.parcels.push(Parcel::batched(event)),
                    Ok(None) => {}
                    Err(why) => out.refused.push((number, why)),
                }
            }
        }
        _ => {
            if let Some(name) = kind.event_type() {
                root.set_text("type", name);
            }
            if may_leave(&root, given) {
                let event = one(root, None, given, spec, &mut out.ids)?;
                out.parcels.push(Parcel::batched(event));
            }
        }
    }
    Ok(out)
}

/// What a batch says of all its events.
const COMMON: [&str; 2] = ["context", "integrations"];

/// The events of a batch, as they came.
fn batch(root: &Object) -> Result<Vec<Box<RawValue>>, BadEvent> {
    let mut common = COMMON.iter().filter_map(|name| root.get(name));
    if common.any(|raw| is_deeper(raw.get().as_bytes(), MAX_DEPTH)) {
        return Err(BadEvent::TooDeep);
    }
    let events: Vec<Box<RawValue>> = root
        .get("batch")
        .and_then(|raw| serde_json::from_str(raw.get()).ok())
        .ok_or(BadEvent::NoBatch)?;
    let fits = !events.is_empty() && events.len() <= MAX_BATCH_EVENTS;
    fits.then_some(events).ok_or(BadEvent::NoBatch)
}

/// One event of a batch, with what the batch says of all of them, ready to leave. `None` where the visitor does not
/// allow it. `bytes`: of those before it.
fn of_batch(
    root: &Object,
    raw: &RawValue,
    given: &Given<'_>,
    spec: &Spec,
    ids: &mut Ids,
    bytes: &mut usize,
) -> Result<Option<Vec<u8>>, BadEvent> {
    if is_deeper(raw.get().as_bytes(), MAX_DEPTH) {
        return Err(BadEvent::TooDeep);
    }
    let mut event: Object = serde_json::from_str(raw.get())?;
    for name in COMMON {
        if let Some(common) = root.get(name)
            && !event.has(name)
        {
            event.set(name, common.to_owned());
        }
    }
    if !event.text("type").is_some_and(|kind| TYPES.contains(&kind.as_str())) {
        return Err(BadEvent::NoType);
    }
    if !may_leave(&event, given) {
        return Ok(None);
    }
    // What an event says that is not taken is not said.
    let mut own = ids.clone();
    let event = one(event, root.text("sentAt").as_deref(), given, spec, &mut own)?;
    if *bytes + event.len() > MAX_LEAVING_BYTES {
        return Err(BadEvent::BatchTooLarge);
    }
    *bytes += event.len();
    *ids = own;
    Ok(Some(event))
}

/// Whether pages send events of this type, and the visitor allows it: `delete` is for servers.
fn may_leave(event: &Object, given: &Given<'_>) -> bool {
    let types = if given.is_limited() { limited::TYPES } else { TYPES };
    event.text("type").is_some_and(|kind| types.contains(&kind.as_str()))
}

/// Adds what only the edge knows. What the page has said itself stays, as far as the visitor allows. What the edge
/// adds must not make an event too large that is not: then it does without what it has no need of.
fn one(
    mut event: Object,
    sent_at: Option<&str>,
    given: &Given<'_>,
    spec: &Spec,
    ids: &mut Ids,
) -> Result<Vec<u8>, BadEvent> {
    event.remove("writeKey");
    let made = keep_time(&mut event, spec.time, sent_at);
    name_visitor(&mut event, given, made, ids);
    if !event.has("messageId") {
        event.set_text("messageId", &format!("edge-{}", AnonymousId::mint().as_str()));
    }
    let mut context = event.object("context").unwrap_or_default();
    if let Some(hash) = context.text("user_hash").filter(|_| !given.is_limited()) {
        ids.user_hash = Some(hash);
    }
    context.remove("user_hash");
    ids::settle_context(&mut context);
    let profile = given.profile.filter(|profile| profile.is_of(&event, given.visitor));
    describe(&mut context, given, profile.map(|profile| profile.traits));
    event.set_object("context", &context);
    if spec.marks {
        let mut metadata = event.object("_metadata").unwrap_or_default();
        metadata.set_text("jsRuntime", "doorstep");
        event.set_object("_metadata", &metadata);
    }
    if given.is_limited() {
        // Last, so that nothing of what stands in it by now gets around the list.
        event = limited::limited(&event);
        keep_time(&mut event, spec.time, None);
    }
    fitting(event, [("profile", profile.is_some()), ("edge", given.place.is_some())])
}

/// `event` as it leaves, where it has to be without those of its context that the edge has `added`.
fn fitting(mut event: Object, added: [(&str, bool); 2]) -> Result<Vec<u8>, BadEvent> {
    let mut leaves = event.to_vec();
    for (name, _) in added.into_iter().filter(|(_, added)| *added) {
        if leaves.len() > MAX_LEAVING_EVENT_BYTES {
            let mut context = event.object("context").unwrap_or_default();
            context.remove(name);
            event.set_object("context", &context);
            leaves = event.to_vec();
        }
    }
    if leaves.len() > MAX_LEAVING_EVENT_BYTES { Err(BadEvent::TooLarge) } else { Ok(leaves) }
}

/// Completes whose event it is, and notes whom the page names: of a batch the last browser that is named, with the
/// user that is named for it. `made`: when the event was.
fn name_visitor(event: &mut Object, given: &Given<'_>, made: Option<i64>, out: &mut Ids) {
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
