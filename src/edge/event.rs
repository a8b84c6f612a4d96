//! An event: read, enriched, taken. What is acknowledged is on its way, whether or not the browser
//! is still there.

use std::time::Duration;

use http::{HeaderValue, Method, StatusCode, header};
use pingora::Result;
use pingora::http::RequestHeader;
use pingora_proxy::Session;
use serde_json::json;
use serde_json::value::RawValue;

use super::Edge;
use super::answer::{Answer, read_body};
use super::confirm::is_signed;
use super::consent::allowed;
use super::context::Context;
use super::page::visitor;
use crate::collect::{Lane, SpoolError};
use crate::decide::Consent;
use crate::html::Coding;
use crate::identity::{Visitor, host_without_port, registrable};
use crate::profile::{ProfileKey, Trait, now_millis};
use crate::site::{IpDetail, Site};
use crate::telemetry::{EventDrop, Feature, guard};
use crate::vendor::{Enriched, Given, Ip, Kind, Vendor, enrich};

/// A browser sends an event in one go: one that takes longer is not sending.
const BODY_DEADLINE: Duration = Duration::from_secs(15);

const SEC_FETCH_SITE: http::HeaderName = http::HeaderName::from_static("sec-fetch-site");

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source<'r> {
    /// The same host, or a client that does not say.
    Own,
    /// Another host of the site's registrable domain.
    Sibling(&'r str),
    /// Anywhere else.
    Foreign,
}

/// Where `request` for `host` (with port) comes from, by what the browser says itself.
pub(super) fn source<'r>(
    request: &'r RequestHeader,
    host: &str,
    others: &[Box<str>],
) -> Source<'r> {
    let headers = &request.headers;
    let Some(origin) = headers.get(header::ORIGIN) else {
        let foreign =
            headers.get(SEC_FETCH_SITE).is_some_and(|site| site.as_bytes() == b"cross-site");
        return if foreign { Source::Foreign } else { Source::Own };
    };
    let Some((origin, theirs)) =
        origin.to_str().ok().and_then(|origin| Some((origin, origin.split_once("://")?.1)))
    else {
        return Source::Foreign;
    };
    if theirs.eq_ignore_ascii_case(host) {
        return Source::Own;
    }
    if others.iter().any(|other| origin.eq_ignore_ascii_case(other)) {
        return Source::Sibling(origin);
    }
    let theirs = theirs.to_ascii_lowercase();
    let same_host = host_without_port(&theirs) == host_without_port(host);
    match (registrable(&theirs), registrable(host)) {
        (Some(a), Some(b)) if a == b => Source::Sibling(origin),
        _ if same_host => Source::Sibling(origin),
        _ => Source::Foreign,
    }
}

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
        let allowed = match source(&request, context.authority.as_str(), &site.cors) {
            Source::Own => None,
            Source::Sibling(origin) => Some(origin.to_owned()),
            Source::Foreign => {
                site.metrics.event_refused("foreign");
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
            Method::OPTIONS => preflight(),
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
        let limits = context.snapshot.event_limits;
        if self.limits.is_too_fast(context.client.address, limits) {
            site.metrics.event_refused("rate");
            let why = "too many events of this client";
            return Answer::error(StatusCode::TOO_MANY_REQUESTS, "rate", why)
                .with(header::RETRY_AFTER, "1")
                .closing();
        }
        let Some(_room) = self.limits.take(limits) else {
            return not_taken(site, &SpoolError::Busy).closing();
        };
        if let Err(answer) = readable(request) {
            site.metrics.event_refused("media_type");
            return answer;
        }
        let body = match read_body(session, kind.limit(), BODY_DEADLINE).await {
            Ok(body) => body,
            Err(unread) => {
                site.metrics.event_refused(unread.label());
                return unread.answer(kind.limit());
            }
        };
        let body = match unpacked(request, body, kind.limit()) {
            Ok(body) => body,
            Err(answer) => {
                site.metrics.event_refused("malformed");
                return answer;
            }
        };
        let visitor = visitor(site, request);
        let consent = self.consent(site, &visitor, request, context);
        let bot = self.is_true(("bots", site.bots.as_ref()), site, &visitor, request, context);
        if consent == Consent::Denied || bot {
            let why = if bot { EventDrop::Bot } else { EventDrop::Consent };
            site.metrics.event_dropped(why);
            return taken();
        }
        let visitor = allowed(visitor, consent);
        let place = context.client.address.and_then(|address| self.geo.place(address));
        let place = place.and_then(|place| serde_json::value::to_raw_value(&place.context()).ok());
        let profile = self.profile_context(context, site, request, &visitor).await;
        let given = Given {
            visitor: &visitor,
            ip: ip(context, site, consent),
            user_agent: request.headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()),
            place: place.as_deref(),
            profile: profile.as_deref(),
            consent: site.consent.decided(consent),
        };
        let enriched = match guard(Feature::Event, || enrich(kind, &body, &given, vendor.spec())) {
            Some(Ok(enriched)) => enriched,
            Some(Err(why)) => {
                site.metrics.event_refused("malformed");
                return Answer::error(StatusCode::BAD_REQUEST, "malformed", &why.to_string());
            }
            None => {
                return Answer::error(StatusCode::INTERNAL_SERVER_ERROR, "failed", "try again");
            }
        };
        let Some(sdk) = site.sdk(vendor) else {
            return Answer::error(StatusCode::NOT_FOUND, "not_found", "no such route");
        };
        self.deliver(context, site, &sdk.lane, (kind, request), &visitor, enriched).await
    }

    async fn deliver(
        &self,
        context: &Context,
        site: &Site,
        lane: &Lane,
        (kind, request): (Kind, &RequestHeader),
        visitor: &Visitor,
        enriched: Enriched,
    ) -> Answer {
        let Enriched { parcels, user, anonymous, user_hash } = enriched;
        if parcels.is_empty() {
            site.metrics.event_dropped(EventDrop::Consent);
            return taken();
        }
        if let Err(error) = self.outbox.accept(lane, &parcels).await {
            return not_taken(site, &error);
        }
        site.metrics.events_accepted.inc_by(parcels.len() as u64);
        // Who is not known to be a user must not be linked to the user's profile either.
        let hash = user_hash.as_deref().zip(site.user_hash.as_ref());
        let vouched = user.clone().filter(|user| {
            site.identity.signed && hash.is_some_and(|(given, own)| own.admits(user, given))
        });
        let confirmed = !site.identity.signed
            || vouched.is_some()
            || user.as_ref().is_some_and(|user| is_signed(site, request, user));
        if matches!(kind, Kind::Identify | Kind::Alias)
            && confirmed
            && let (Some(user), Some(id)) =
                (&user, anonymous.as_ref().or(visitor.anonymous.as_ref()))
        {
            let browser = ProfileKey::anonymous(&site.name, id);
            let user = ProfileKey::user(&site.name, user);
            // The event is taken all the same; the next identify links again.
            if let Err(error) = self.profiles.link(&browser, &user, now_millis()).await {
                tracing::warn!(site = &*site.name, %error, "ids could not be linked");
            }
        }
        let named = Visitor { user, anonymous, minted: false };
        let changed = Visitor {
            user: named
                .user
                .clone()
                .filter(|_| kind == Kind::Identify || named.user != visitor.user),
            anonymous: named
                .anonymous
                .clone()
                .filter(|_| kind == Kind::Identify || named.anonymous != visitor.anonymous),
            minted: false,
        };
        let (host, secure) = (context.authority.as_str(), context.client.secure);
        let mut cookies = site.identity.keep(&changed, host, secure);
        if let Some(user) = &vouched {
            cookies.extend(site.identity.vouch(&site.signing_keys, &site.name, user, host, secure));
        }
        taken().with_cookies(cookies)
    }

    /// What the site lets its vendor know of a profile.
    async fn profile_context(
        &self,
        context: &Context,
        site: &Site,
        request: &RequestHeader,
        visitor: &Visitor,
    ) -> Option<Box<RawValue>> {
        if site.enrich.profile.is_empty() {
            return None;
        }
        let visitor = self.confirmed(site, request, visitor).await.visitor;
        let lookup = self.look_up(site, &visitor, context.snapshot.profile_wait).await?;
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

fn taken() -> Answer {
    Answer::json(StatusCode::OK, &json!({ "success": true }))
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
fn unpacked(request: &RequestHeader, body: Vec<u8>, limit: usize) -> Result<Vec<u8>, Answer> {
    let coding =
        request.headers.get(header::CONTENT_ENCODING).and_then(|value| value.to_str().ok());
    match Coding::of(coding) {
        Some(Coding::Identity) => Ok(body),
        Some(coding) => coding.decode_all(&body, limit).map_err(|why| {
            let why = format!("the body can't be unpacked to at most {limit} bytes: {why}");
            Answer::error(StatusCode::BAD_REQUEST, "malformed", &why)
        }),
        None => Err(Answer::error(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "media_type",
            "only gzip and br are read",
        )),
    }
}

/// The sender keeps it, and comes again.
pub(super) fn not_taken(site: &Site, error: &SpoolError) -> Answer {
    let (reason, why) = match error {
        SpoolError::Full { .. } => ("full", "too many events wait"),
        SpoolError::Busy => ("busy", "too many events at one time"),
        SpoolError::Failed(_) => ("failed", "events can't be kept at the moment"),
    };
    site.metrics.event_refused(reason);
    tracing::debug!(site = &*site.name, %error, "an event was not taken");
    Answer::error(StatusCode::SERVICE_UNAVAILABLE, "try_again", why).with(header::RETRY_AFTER, "5")
}

/// What a browser is told before a page of another host sends anything.
pub(super) fn preflight() -> Answer {
    Answer::empty(StatusCode::NO_CONTENT)
        .with(header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST")
        .with(
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "content-type, authorization, x-retry-count, anonymousid",
        )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_the_sites_domain_send_events() {
        let others = ["https://other.test".into()];
        for (origin, from) in [
            (None, Source::Own),
            (Some("https://www.shop.example"), Source::Own),
            (Some("http://www.shop.example"), Source::Own),
            (Some("https://shop.example"), Source::Sibling("https://shop.example")),
            (Some("https://a.shop.example:81"), Source::Sibling("https://a.shop.example:81")),
            (Some("https://shop.example.evil.test"), Source::Foreign),
            (Some("https://example"), Source::Foreign),
            (Some("https://other.test"), Source::Sibling("https://other.test")),
            (Some("https://other.test:81"), Source::Foreign),
            (Some("null"), Source::Foreign),
        ] {
            let mut request = RequestHeader::build("POST", b"/", None).unwrap();
            if let Some(origin) = origin {
                request.insert_header("origin", origin).unwrap();
            }
            assert_eq!(source(&request, "www.shop.example", &others), from, "{origin:?}");
        }
        let mut request = RequestHeader::build("POST", b"/", None).unwrap();
        request.insert_header("origin", "http://github.io").unwrap();
        assert_eq!(source(&request, "b.github.io", &others), Source::Foreign);
        request.insert_header("origin", "http://localhost:3000").unwrap();
        assert!(matches!(source(&request, "localhost:8080", &others), Source::Sibling(_)));
    }
}
