//! Routes about one visitor: client traits, the snippet as a file, the end of identity.

use http::{Method, StatusCode, header};
use pingora::Result;
use pingora_proxy::Session;
use serde_json::{Map, Value};

use super::Edge;
use super::answer::{Answer, read_body};
use super::consent::allowed;
use super::context::Context;
use super::event::{Source, source};
use super::page::{minted, visitor};
use crate::decide::{Consent, Facts};
use crate::identity::Visitor;
use crate::profile::Lookup;
use crate::site::Site;
use crate::vendor::Handover;
use crate::vendor::rudderstack::wanted;

/// What the SDK asks for at one time.
const MAX_COOKIES_BYTES: usize = 64 * 1024;
const COOKIES_DEADLINE: std::time::Duration = std::time::Duration::from_secs(10);

impl Edge {
    /// `GET {prefix}/traits`: what a page may know of its visitor.
    pub(super) async fn traits(
        &self,
        session: &mut Session,
        context: &Context,
        site: &Site,
    ) -> Result<bool> {
        if let Some(refusal) = refused(session, context, &[Method::GET, Method::HEAD]) {
            return refusal.send(session).await;
        }
        let visitor = visitor(site, session.req_header());
        let consent = self.consent(site, &visitor, session.req_header(), context);
        let visitor = allowed(visitor, consent);
        let traits = self.client_traits(session, context, site, &visitor, consent).await;
        Answer::json(StatusCode::OK, &Value::Object(traits)).send(session).await
    }

    /// `GET {prefix}/snippet.js`: the snippet for pages whose CSP forbids it inline.
    pub(super) async fn snippet(
        &self,
        session: &mut Session,
        context: &Context,
        site: &Site,
    ) -> Result<bool> {
        if let Some(refusal) = refused(session, context, &[Method::GET, Method::HEAD]) {
            return refusal.send(session).await;
        }
        let Some(snippet) = &site.snippet else {
            return Answer::error(StatusCode::NOT_FOUND, "not_found", "no such route")
                .send(session)
                .await;
        };
        let visitor = visitor(site, session.req_header());
        let consent = self.consent(site, &visitor, session.req_header(), context);
        if consent == Consent::Denied {
            let nothing = Answer::new(StatusCode::OK, "text/javascript; charset=utf-8", "");
            return nothing.send(session).await;
        }
        let visitor = allowed(visitor, consent);
        let traits = self.client_traits(session, context, site, &visitor, consent).await;
        let visitor = minted(site, visitor);
        let (host, secure) = (context.authority.as_str(), context.client.secure);
        let cookies =
            if visitor.minted { site.identity.keep(&visitor, host, secure) } else { Vec::new() };
        let script =
            snippet.script(Handover { visitor: &visitor, traits: &traits, page_call: true });
        Answer::new(StatusCode::OK, "text/javascript; charset=utf-8", script)
            .with(http::HeaderName::from_static("cross-origin-resource-policy"), "same-origin")
            .with_cookies(cookies)
            .send(session)
            .await
    }

    /// `GET|POST {prefix}/reset`: the browser forgets who it is.
    pub(super) async fn reset(
        &self,
        session: &mut Session,
        context: &Context,
        site: &Site,
    ) -> Result<bool> {
        if let Some(refusal) = refused(session, context, &[Method::GET, Method::POST]) {
            return refusal.send(session).await;
        }
        let cookies = site.identity.forget(context.authority.as_str(), context.client.secure);
        Answer::json(StatusCode::OK, &serde_json::json!({ "success": true }))
            .with_cookies(cookies)
            .send(session)
            .await
    }

    /// `POST {prefix}/rsaRequest`: cookies of RudderStack's SDK, set by a server.
    pub(super) async fn cookies(
        &self,
        session: &mut Session,
        context: &Context,
        site: &Site,
    ) -> Result<bool> {
        if let Some(refusal) = refused(session, context, &[Method::POST]) {
            return refusal.send(session).await;
        }
        let body = match read_body(session, MAX_COOKIES_BYTES, COOKIES_DEADLINE).await {
            Ok(body) => body,
            Err(unread) => return unread.answer(MAX_COOKIES_BYTES).send(session).await,
        };
        let wanted = match wanted(&body) {
            Ok(wanted) => wanted,
            Err(why) => {
                let why = why.to_string();
                let answer = Answer::error(StatusCode::BAD_REQUEST, "malformed", &why);
                return answer.send(session).await;
            }
        };
        let visitor = visitor(site, session.req_header());
        let consent = self.consent(site, &visitor, session.req_header(), context);
        let (host, secure) = (context.authority.as_str(), context.client.secure);
        let names = &site.identity.names;
        // Identity is the edge's own, where it keeps it.
        let own = |name: &str| {
            site.identity.server_side_cookies
                && names.iter().any(|names| name == names.user || name == names.anonymous)
        };
        let lines = wanted
            .iter()
            .filter(|cookie| consent != Consent::Denied && !own(&cookie.name))
            .map(|one| site.identity.readable(&one.name, &one.value, one.max_age, host, secure));
        let lines = lines.collect();
        Answer::json(StatusCode::OK, &serde_json::json!({ "success": true }))
            .with_cookies(lines)
            .send(session)
            .await
    }

    async fn client_traits(
        &self,
        session: &Session,
        context: &Context,
        site: &Site,
        visitor: &Visitor,
        consent: Consent,
    ) -> Map<String, Value> {
        if site.client_traits.is_empty() || consent == Consent::Denied {
            return Map::new();
        }
        let lookup = self.look_up(site, visitor, context.snapshot.profile_wait).await;
        let known = lookup.as_ref().and_then(Lookup::known);
        let request = session.req_header();
        let asked = self.asked(request, request.uri.path(), context);
        let (traits, failed) = site.client_traits.of(&Facts::new(visitor, known, &asked));
        if failed > 0 {
            site.metrics.rule_failures.inc_by(failed as u64);
        }
        traits
    }
}

/// What belongs to a visitor is for pages of the site alone: another site that names the URL in a
/// script element or form must learn and change nothing.
fn refused(session: &Session, context: &Context, methods: &[Method]) -> Option<Answer> {
    let request = session.req_header();
    if !methods.contains(&request.method) {
        let allow: Vec<&str> = methods.iter().map(Method::as_str).collect();
        return Some(
            Answer::error(StatusCode::METHOD_NOT_ALLOWED, "method", "not with this method")
                .with(header::ALLOW, allow.join(", ")),
        );
    }
    (source(request, context.authority.as_str()) == Source::Foreign).then(|| {
        Answer::error(StatusCode::FORBIDDEN, "foreign_origin", "only for pages of the site itself")
    })
}
