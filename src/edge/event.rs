//! An event: read, enriched, taken. What is acknowledged is on its way, whether or not the browser
//! is still there.

use std::io;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use pingora::Result;
use pingora::http::RequestHeader;
use pingora_proxy::Session;
use serde_json::json;
use serde_json::value::RawValue;

use super::Edge;
use super::answer::{Answer, read_body};
use super::confirm::{Confirmation, Said};
use super::context::Context;
use super::limits::To;
use super::settle::{end_reset, end_traits, settle, signed};
use super::source::{Source, source};
use super::who::Who;
use crate::collect::{Lane, Sender, SpoolError};
use crate::decide::Consent;
use crate::html::Coding;
use crate::identity::{Confirmed, Visitor};
use crate::profile::store::{LinkedBy, Stored};
use crate::profile::{ProfileKey, Trait, now_millis};
use crate::site::{IpDetail, Site};
use crate::telemetry::{EventDrop, EventRefusal, Feature, guard};
use crate::vendor::{BadEvent, Enriched, Given, Ids, Ip, Kind, KnownProfile, Vendor, enrich};

/// A browser sends an event in one go: one that takes longer is not sending.
const BODY_DEADLINE: Duration = Duration::from_secs(15);
/// So many refused events of a batch are named.
const MAX_NAMED: usize = 100;

impl Edge {
    /// Takes an event.
    pub(super) async fn event(
        &self,
        session: &mut Session,
        context: &mut Context,
        site: &Site,
        vendor: Vendor,
        kind: Kind,
    ) -> Result<bool> {
        let request = session.req_header().clone();
        let allowed = match source(&request, context, site) {
            Source::Own => None,
            Source::Sibling(origin) => Some(origin.to_owned()),
            Source::Foreign => {
                site.metrics.event_refused(EventRefusal::Foreign);
                let answer = Answer::error(
                    StatusCode::FORBIDDEN,
                    "foreign_origin",
                    "events are taken from pages of the site's own domain",
                );
                return answer.send(session).await;
            }
        };
        let answer = match request.method {
            Method::POST => self.take_event(session, context, site, vendor, kind, &request).await,
            Method::OPTIONS => preflight(&request),
            _ => Answer::error(StatusCode::METHOD_NOT_ALLOWED, "method", "events are sent by POST")
                .with(header::ALLOW, "POST, OPTIONS"),
        };
        answer.with_cors(allowed).send(session).await
    }

    async fn take_event(
        &self,
        session: &mut Session,
        context: &Context,
        site: &Site,
        vendor: Vendor,
        kind: Kind,
        request: &RequestHeader,
    ) -> Answer {
        let (client, limits) = (context.client.address, context.snapshot.event_limits);
        let has_others = context.snapshot.all_sites.len() > 1;
        let to = To { site: &site.name, has_others };
        let _room = match self.limits.admit(client, to, limits) {
            Ok(room) => room,
            Err(why) => return refused(site, why).closing(),
        };
        let body = match self.read_event(session, context, site, kind, request).await {
            Ok(body) => body,
            Err(answer) => return answer,
        };
        let who = self.who(site, request, context);
        let bot = self.is_true(("bots", site.bots.as_ref()), site, &who.visitor, request, context);
        if who.consent == Consent::Denied || bot {
            let why = if bot { EventDrop::Bot } else { EventDrop::Consent };
            site.metrics.event_dropped(why);
            return taken().with_cookies(end_reset(site, context, &who));
        }
        let place = context.client.address.and_then(|address| self.geo.place(address));
        let place = place.and_then(|place| serde_json::value::to_raw_value(&place.context()).ok());
        let confirmation = self.confirmed_for(site, request, context, &who, kind).await;
        let known = &confirmation.known;
        let profile = self.profile_context(context, site, known).await;
        let given = Given {
            visitor: &who.visitor,
            ip: ip(context, site, who.consent),
            user_agent: request.headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()),
            place: place.as_deref(),
            profile: profile.as_deref().map(|traits| KnownProfile { traits, user: known.user() }),
            consent: site.consent.decided(who.consent),
        };
        let enriched = match guard(Feature::Event, || enrich(kind, &body, &given, vendor.spec())) {
            Some(Ok(enriched)) => enriched,
            Some(Err(why)) => return bad(site, &why),
            None => {
                return Answer::error(StatusCode::INTERNAL_SERVER_ERROR, "failed", "try again");
            }
        };
        let Some(sdk) = site.sdk(vendor) else {
            return Answer::error(StatusCode::NOT_FOUND, "not_found", "no such route");
        };
        // What stands in each event of a batch is written as often.
        let leaves: usize = enriched.parcels.iter().map(|parcel| parcel.body.len()).sum();
        let sender = self.limits.add(client, leaves.saturating_sub(body.len()));
        let asked = (kind, request, sender);
        let answer = self.deliver(context, site, &sdk.lane, asked, (&who, &confirmation), enriched);
        answer.await.with_cookies_first(end_reset(site, context, &who))
    }

    /// The body of an event, or of several, without its coding.
    async fn read_event(
        &self,
        session: &mut Session,
        context: &Context,
        site: &Site,
        kind: Kind,
        request: &RequestHeader,
    ) -> Result<Vec<u8>, Answer> {
        let (client, limits) = (context.client.address, context.snapshot.event_limits);
        if let Err(answer) = readable(request) {
            site.metrics.event_refused(EventRefusal::MediaType);
            return Err(answer);
        }
        let body = read_body(session, kind.limit(), BODY_DEADLINE).await.map_err(|unread| {
            site.metrics.event_refused(unread.refusal());
            unread.answer(kind.limit())
        })?;
        let body = unpacked(request, body, kind.limit()).map_err(|(reason, answer)| {
            site.metrics.event_refused(reason);
            // As much of it was unpacked.
            self.limits.add(client, kind.limit());
            answer
        })?;
        let charged = self.limits.charge(client, body.len(), limits);
        charged.map(|_| body).map_err(|why| refused(site, why).closing())
    }

    /// What counts of who asks, where an event of this kind has to do with it: nothing waits for a check
    /// that is not needed.
    async fn confirmed_for(
        &self,
        site: &Site,
        request: &RequestHeader,
        context: &Context,
        who: &Who,
        kind: Kind,
    ) -> Confirmation {
        let links = matches!(kind, Kind::Identify | Kind::Alias | Kind::Batch);
        if site.check.is_none() || links || !site.enrich.profile.is_empty() {
            return self.confirmed(site, request, context, who).await;
        }
        Confirmation::default()
    }

    async fn deliver(
        &self,
        context: &Context,
        site: &Site,
        lane: &Lane,
        (kind, request, sender): (Kind, &RequestHeader, Sender),
        (who, confirmation): (&Who, &Confirmation),
        enriched: Enriched,
    ) -> Answer {
        let Enriched { parcels, reports, refused, ids } = enriched;
        if !reports.is_empty() {
            for _ in 0..self.outbox.report(lane, reports) {
                site.metrics.event_dropped(EventDrop::Report);
            }
            return taken();
        }
        for (_, why) in &refused {
            site.metrics.event_refused(refusal(why));
        }
        if parcels.is_empty() {
            if !refused.is_empty() {
                return none_taken(&refused);
            }
            site.metrics.event_dropped(EventDrop::Consent);
            return taken();
        }
        if let Err(error) = self.outbox.accept(lane, &parcels, sender).await {
            return not_taken(site, &error);
        }
        site.metrics.events_accepted.inc_by(parcels.len() as u64);
        let answer = some_taken(&refused);
        let Ids { user, anonymous, user_hash, made, links } = ids;
        // What was made before an identity ended does not bring it back.
        if who.has_ended(anonymous.as_ref(), made) {
            return answer;
        }
        let named = Visitor { user, anonymous, ..Visitor::default() };
        let hash = user_hash.as_deref().zip(site.user_hash.as_ref());
        let hashed = named.user.as_ref().is_some_and(|user| {
            site.identity.signed && hash.is_some_and(|(given, own)| own.admits(user, given))
        });
        let known = named.user.is_some() && confirmation.known.user() == named.user.as_ref();
        let proven = hashed || (known && confirmation.known.is_vouched());
        if links {
            self.link(context, site, who, &named, proven).await;
        }
        let cookies = if hashed {
            said_by_page(site, context, request, who, &named)
        } else {
            told_ids(site, context, kind, who, &named, confirmation.until)
        };
        answer.with_cookies(cookies)
    }

    /// Lets what is known of the browser be found under the user. Who is not known to be a user is not linked to
    /// the user's profile.
    async fn link(&self, context: &Context, site: &Site, who: &Who, named: &Visitor, proven: bool) {
        let anonymous = named.anonymous.as_ref().or(who.visitor.anonymous.as_ref());
        let (Some(user), Some(id)) = (&named.user, anonymous) else { return };
        let by = match (proven, site.identity.signed) {
            (true, _) => LinkedBy::Site,
            (false, false) if self.limits.may_link(context.client.address) => LinkedBy::Claim,
            (false, _) => return,
        };
        let browser = ProfileKey::anonymous(&site.name, id);
        let user = ProfileKey::user(&site.name, user);
        if site.identity.signed && !self.may_hand_over(&browser, who).await {
            return;
        }
        // The event is taken all the same; the next identify links again.
        if let Err(error) = self.profiles.link(&browser, &user, now_millis(), by).await {
            tracing::warn!(site = &*site.name, %error, "ids could not be linked");
        }
    }

    /// Whether what is known of `browser` may go over to a user, where ids are signed. One that is another user's
    /// stays that one's: nobody is asked whose id this is. Nor does one go over where the store does not say, or that
    /// is known already and that only the event names, and not the browser itself.
    async fn may_hand_over(&self, browser: &ProfileKey, who: &Who) -> bool {
        let own = who.visitor.anonymous.as_ref().is_some_and(|id| id.as_str() == browser.id());
        match self.profiles.stored(browser).await {
            Ok(None) => true,
            Ok(Some(Stored::Profile(_))) => own,
            Ok(Some(Stored::Linked(_))) | Err(_) => false,
        }
    }

    /// What the site lets its vendor know of a profile.
    async fn profile_context(
        &self,
        context: &Context,
        site: &Site,
        known: &Confirmed,
    ) -> Option<Box<RawValue>> {
        if site.enrich.profile.is_empty() {
            return None;
        }
        let lookup = self.look_up(site, known, context).await?;
        let known = lookup.known()?;
        let traits = site.enrich.profile.iter();
        let traits: serde_json::Map<_, _> = traits
            .filter_map(|name| {
                let value = known.get(name).filter(Trait::is_set)?.value();
                Some((name.to_string(), value))
            })
            .collect();
        serde_json::value::to_raw_value(&traits).ok()
    }
}

/// Cookies of a browser whose page has signed its `identify`.
fn said_by_page(
    site: &Site,
    context: &Context,
    request: &RequestHeader,
    who: &Who,
    named: &Visitor,
) -> Vec<String> {
    let Some(user) = named.user.clone() else { return Vec::new() };
    let said = (&Said::User(user), named.anonymous.as_ref());
    let Some(settled) = settle(site, context, request, who, said) else { return Vec::new() };
    let (host, secure) = (context.authority.as_str(), context.client.secure);
    let mut cookies = site.identity.keep(&settled.visitor, host, secure);
    cookies.extend(settled.lines);
    cookies
}

/// Cookies that keep the ids that an event names, where they are new. `until`: the edge's signature of the user
/// goes over to another id of the browser.
fn told_ids(
    site: &Site,
    context: &Context,
    kind: Kind,
    who: &Who,
    named: &Visitor,
    until: Option<i64>,
) -> Vec<String> {
    let identifies = kind == Kind::Identify;
    let (user, anonymous) = (&named.user, &named.anonymous);
    let changed = Visitor {
        user: user.clone().filter(|_| identifies || *user != who.visitor.user),
        anonymous: anonymous.clone().filter(|_| identifies || *anonymous != who.visitor.anonymous),
        minted: false,
        conflicts: who.visitor.conflicts,
    };
    let (host, secure) = (context.authority.as_str(), context.client.secure);
    let mut cookies = site.identity.keep(&changed, host, secure);
    let same_user = user.is_none() || *user == who.visitor.user;
    if until.is_some() && same_user && anonymous.is_some() && *anonymous != who.visitor.anonymous {
        let visitor = Visitor { anonymous: anonymous.clone(), ..who.visitor.clone() };
        cookies.extend(signed(site, context, &visitor, until));
    }
    if changed.user.is_some() && !same_user && who.visitor.user.is_some() {
        cookies.extend(end_traits(site, context));
    }
    cookies
}

fn taken() -> Answer {
    Answer::json(StatusCode::OK, &json!({ "success": true }))
}

/// All events of a request but those that are `refused`.
fn some_taken(refused: &[(usize, BadEvent)]) -> Answer {
    if refused.is_empty() {
        return taken();
    }
    Answer::json(StatusCode::OK, &json!({ "success": true, "refused": named(refused) }))
}

/// None of a batch.
fn none_taken(refused: &[(usize, BadEvent)]) -> Answer {
    let (status, code) = status(refused.iter().all(|(_, why)| why.is_too_large()));
    let why = "no event of the batch can be taken";
    let error = json!({ "code": code, "message": why });
    Answer::json(status, &json!({ "error": error, "refused": named(refused) }))
}

/// Which events can't be taken, and why: the first of them.
fn named(refused: &[(usize, BadEvent)]) -> Vec<serde_json::Value> {
    let first = refused.iter().take(MAX_NAMED);
    first.map(|(index, why)| json!({ "index": index, "message": why.to_string() })).collect()
}

/// What is no event at all.
fn bad(site: &Site, why: &BadEvent) -> Answer {
    site.metrics.event_refused(refusal(why));
    let (status, code) = status(why.is_too_large());
    Answer::error(status, code, &why.to_string())
}

fn refusal(why: &BadEvent) -> EventRefusal {
    if why.is_too_large() { EventRefusal::TooLarge } else { EventRefusal::Malformed }
}

fn status(too_large: bool) -> (StatusCode, &'static str) {
    if too_large {
        (StatusCode::PAYLOAD_TOO_LARGE, "too_large")
    } else {
        (StatusCode::BAD_REQUEST, "malformed")
    }
}

/// The visitor's address, as much of it as a vendor may know.
pub(super) fn ip(context: &Context, site: &Site, consent: Consent) -> Ip {
    match (context.client.address, site.enrich.ip) {
        (_, IpDetail::None) => Ip::HIDDEN,
        _ if consent == Consent::Limited => Ip::HIDDEN,
        (Some(address), IpDetail::Full) => Ip::Is(address),
        (Some(address), IpDetail::Anonymised) => Ip::anonymised(address),
        (None, _) => Ip::Unknown,
    }
}

/// The body without its coding, at most `limit` bytes.
fn unpacked(
    request: &RequestHeader,
    body: Vec<u8>,
    limit: usize,
) -> Result<Vec<u8>, (EventRefusal, Answer)> {
    let coding =
        request.headers.get(header::CONTENT_ENCODING).and_then(|value| value.to_str().ok());
    match Coding::of(coding) {
        Some(Coding::Identity) => Ok(body),
        Some(coding) => coding.decode_all(&body, limit).map_err(|why| {
            let (reason, (status, code)) = match why.kind() {
                io::ErrorKind::FileTooLarge => (EventRefusal::TooLarge, status(true)),
                _ => (EventRefusal::Malformed, status(false)),
            };
            let why = format!("the body can't be unpacked to at most {limit} bytes: {why}");
            (reason, Answer::error(status, code, &why))
        }),
        None => {
            let why = "only gzip and br are read";
            let answer = Answer::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", why);
            Err((EventRefusal::MediaType, answer))
        }
    }
}

/// The sender keeps it, and comes again.
pub(super) fn not_taken(site: &Site, error: &SpoolError) -> Answer {
    tracing::debug!(site = &*site.name, %error, "an event was not taken");
    let reason = match error {
        SpoolError::Full { .. } => EventRefusal::Full,
        SpoolError::Busy => EventRefusal::Busy,
        SpoolError::TooLarge => EventRefusal::TooLarge,
        SpoolError::Failed(_) => EventRefusal::Failed,
    };
    refused(site, reason)
}

/// An event that is not read, or can't be kept.
pub(super) fn refused(site: &Site, reason: EventRefusal) -> Answer {
    site.metrics.event_refused(reason);
    let why = match reason {
        EventRefusal::Rate => "too many events of this client",
        EventRefusal::Bytes => "too many bytes of this client",
        EventRefusal::Open => "too many events of this client at one time",
        EventRefusal::TooLarge => "the event is too large to be kept",
        EventRefusal::Full => "too many events wait",
        EventRefusal::Busy => "too many events at one time",
        _ => "events can't be kept at the moment",
    };
    match reason {
        EventRefusal::TooLarge => Answer::error(StatusCode::PAYLOAD_TOO_LARGE, "too_large", why),
        EventRefusal::Rate | EventRefusal::Bytes | EventRefusal::Open => {
            Answer::error(StatusCode::TOO_MANY_REQUESTS, "rate", why).with(header::RETRY_AFTER, "1")
        }
        _ => Answer::error(StatusCode::SERVICE_UNAVAILABLE, "try_again", why)
            .with(header::RETRY_AFTER, "5"),
    }
}

/// What a browser is told before a page of another host sends anything. Who may send at all is decided by the page's
/// origin, and of a page that may, no header does harm here: SDKs add some from one version to the next.
pub(super) fn preflight(request: &RequestHeader) -> Answer {
    let wanted = request.headers.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS);
    let wanted = wanted.iter().filter_map(|line| line.to_str().ok());
    let names = wanted.flat_map(|line| line.split(',')).map(str::trim);
    let names: Vec<&str> = names.filter(|name| HeaderName::try_from(*name).is_ok()).collect();
    Answer::empty(StatusCode::NO_CONTENT)
        .with(header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST")
        .with(header::ACCESS_CONTROL_ALLOW_HEADERS, names.join(", "))
        .with(header::ACCESS_CONTROL_MAX_AGE, "86400")
}

/// `text/plain` is what the SDK sends, so that no preflight is needed.
fn readable(request: &RequestHeader) -> Result<(), Answer> {
    let refuse =
        |message: &str| Answer::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", message);
    let text = |name| request.headers.get(name).map(HeaderValue::as_bytes);
    let essence = text(header::CONTENT_TYPE)
        .map(|value| value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii());
    let known = essence.is_none_or(|kind| {
        kind.eq_ignore_ascii_case(b"text/plain") || kind.eq_ignore_ascii_case(b"application/json")
    });
    if !known {
        return Err(refuse("expected JSON as application/json or text/plain"));
    }
    Ok(())
}
