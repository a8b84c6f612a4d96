//! An event: read, enriched, taken. What is acknowledged is on its way, whether or not the browser
//! is still there.

use std::time::Duration;

use http::{HeaderValue, Method, StatusCode, header};
use pingora::Result;
use pingora::http::RequestHeader;
use pingora_proxy::Session;
use serde_json::json;

use super::Edge;
use super::answer::{Answer, read_body};
use super::context::Context;
use super::page::visitor;
use crate::collect::SpoolError;
use crate::identity::{Visitor, host_without_port, registrable};
use crate::profile::{ProfileKey, now_millis};
use crate::site::Site;
use crate::telemetry::{Feature, guard};
use crate::vendor::segment::{Enriched, Given, Kind, enrich};

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
pub(super) fn source<'r>(request: &'r RequestHeader, host: &str) -> Source<'r> {
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
        kind: Kind,
    ) -> Result<bool> {
        let request = session.req_header().clone();
        let allowed = match source(&request, context.authority.as_str()) {
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
            Method::POST => self.take_event(session, context, site, kind, &request).await,
            Method::OPTIONS => preflight(),
            _ => Answer::error(StatusCode::METHOD_NOT_ALLOWED, "method", "events are sent by POST")
                .with(header::ALLOW, "POST, OPTIONS"),
        };
        let answer = match allowed {
            Some(origin) => answer
                .with(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin)
                .with(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true")
                .with(header::VARY, "origin"),
            None => answer,
        };
        answer.send(session).await
    }

    async fn take_event(
        &self,
        session: &mut Session,
        context: &Context,
        site: &Site,
        kind: Kind,
        request: &RequestHeader,
    ) -> Answer {
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
        let visitor = visitor(site, request);
        let given = Given {
            visitor: &visitor,
            ip: context.client.address,
            user_agent: request.headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()),
        };
        let enriched = match guard(Feature::Event, || enrich(kind, &body, &given)) {
            Some(Ok(enriched)) => enriched,
            Some(Err(why)) => {
                site.metrics.event_refused("malformed");
                return Answer::error(StatusCode::BAD_REQUEST, "malformed", &why.to_string());
            }
            None => {
                return Answer::error(StatusCode::INTERNAL_SERVER_ERROR, "failed", "try again");
            }
        };
        self.deliver(context, site, kind, &visitor, enriched).await
    }

    async fn deliver(
        &self,
        context: &Context,
        site: &Site,
        kind: Kind,
        visitor: &Visitor,
        enriched: Enriched,
    ) -> Answer {
        let Enriched { parcels, user, anonymous } = enriched;
        if let Err(error) = self.outbox.accept(&site.lane, &parcels).await {
            return not_taken(site, &error);
        }
        site.metrics.events_accepted.inc_by(parcels.len() as u64);
        if matches!(kind, Kind::Identify | Kind::Alias)
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
        let cookies =
            site.identity.keep(&changed, context.authority.as_str(), context.client.secure);
        Answer::json(StatusCode::OK, &json!({ "success": true })).with_cookies(cookies)
    }
}

/// The sender keeps it, and comes again.
fn not_taken(site: &Site, error: &SpoolError) -> Answer {
    let (reason, why) = match error {
        SpoolError::Full { .. } => ("full", "too many events wait"),
        SpoolError::Busy => ("busy", "too many events at one time"),
        SpoolError::Failed(_) => ("failed", "events can't be kept at the moment"),
    };
    site.metrics.event_refused(reason);
    tracing::debug!(site = &*site.name, %error, "an event was not taken");
    Answer::error(StatusCode::SERVICE_UNAVAILABLE, "try_again", why).with(header::RETRY_AFTER, "5")
}

fn preflight() -> Answer {
    Answer::empty(StatusCode::NO_CONTENT)
        .with(header::ACCESS_CONTROL_ALLOW_METHODS, "POST")
        .with(header::ACCESS_CONTROL_ALLOW_HEADERS, "content-type, authorization, x-retry-count")
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
    if text(header::CONTENT_ENCODING)
        .is_some_and(|coding| !coding.eq_ignore_ascii_case(b"identity"))
    {
        return Err(refuse("expected a body without content coding"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_the_sites_domain_send_events() {
        for (origin, from) in [
            (None, Source::Own),
            (Some("https://www.shop.example"), Source::Own),
            (Some("http://www.shop.example"), Source::Own),
            (Some("https://shop.example"), Source::Sibling("https://shop.example")),
            (Some("https://a.shop.example:81"), Source::Sibling("https://a.shop.example:81")),
            (Some("https://shop.example.evil.test"), Source::Foreign),
            (Some("https://example"), Source::Foreign),
            (Some("null"), Source::Foreign),
        ] {
            let mut request = RequestHeader::build("POST", b"/", None).unwrap();
            if let Some(origin) = origin {
                request.insert_header("origin", origin).unwrap();
            }
            assert_eq!(source(&request, "www.shop.example"), from, "{origin:?}");
        }
        let mut request = RequestHeader::build("POST", b"/", None).unwrap();
        request.insert_header("origin", "http://github.io").unwrap();
        assert_eq!(source(&request, "b.github.io"), Source::Foreign);
        request.insert_header("origin", "http://localhost:3000").unwrap();
        assert!(matches!(source(&request, "localhost:8080"), Source::Sibling(_)));
    }
}
