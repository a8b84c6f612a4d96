//! Routes about one visitor: client traits, the snippet as a file, the end of identity.

use http::{Method, StatusCode, header};
use pingora::Result;
use pingora_proxy::Session;
use serde_json::Value;

use super::Edge;
use super::answer::{Answer, read_body};
use super::confirm::Confirmation;
use super::context::{AssetWay, Context, Lead};
use super::decide::Handed;
use super::event::preflight;
use super::settle::{end, end_reset, end_traits, settle};
use super::source::{Source, is_asked_by_the_site, is_of_this_page, source};
use super::who::{RESET, Who};
use crate::decide::Consent;
use crate::identity::{Confirmed, OtherCookie};
use crate::profile::now_millis;
use crate::site::Site;
use crate::vendor::rudderstack::wanted;
use crate::vendor::{Handover, SILENT};

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
        let origin = match admitted(session, context, site, &[Method::GET, Method::HEAD]) {
            Ok(origin) => origin,
            Err(refusal) => return refusal.send(session).await,
        };
        let who = self.who(site, session.req_header(), context);
        let (who, known, lines) = self.checked(session, context, site, who).await;
        let handed = self.client_traits(session, context, site, (&who, &known)).await;
        Answer::json(StatusCode::OK, &Value::Object(handed.traits.unwrap_or_default()))
            .with_cookies(lines)
            .with_cors(origin)
            .send(session)
            .await
    }

    /// `GET {prefix}/snippet.js`: the snippet for pages whose CSP forbids it inline.
    pub(super) async fn snippet(
        &self,
        session: &mut Session,
        context: &Context,
        site: &Site,
    ) -> Result<bool> {
        let origin = match admitted(session, context, site, &[Method::GET, Method::HEAD]) {
            Ok(origin) => origin,
            Err(refusal) => return refusal.send(session).await,
        };
        // The edge tells of the page that names it so.
        let page_call = session.req_header().uri.query() != Some(SILENT);
        let Some(snippet) = &site.snippet else {
            return Answer::error(StatusCode::NOT_FOUND, "not_found", "no such route")
                .send(session)
                .await;
        };
        let who = self.who(site, session.req_header(), context);
        if who.consent == Consent::Denied {
            let nothing = Answer::new(StatusCode::OK, "text/javascript; charset=utf-8", "");
            return nothing.send(session).await;
        }
        let (who, known, mut cookies) = self.checked(session, context, site, who).await;
        let who = who.minted(site);
        let visitor = &who.visitor;
        let handed = self.client_traits(session, context, site, (&who, &known)).await;
        let (host, secure) = (context.authority.as_str(), context.client.secure);
        cookies.splice(0..0, end_reset(site, context, &who));
        if visitor.minted {
            cookies.extend(site.identity.keep(visitor, host, secure));
        }
        let (traits, flags) = (handed.traits.as_ref(), &handed.flags);
        let ended = who.ended.at();
        let script = snippet.script(Handover {
            visitor,
            ended,
            says: Some(now_millis()),
            traits,
            flags,
            ahead: false,
            base: None,
            page_call,
        });
        Answer::new(StatusCode::OK, "text/javascript; charset=utf-8", script.text())
            .with(http::HeaderName::from_static("cross-origin-resource-policy"), "same-origin")
            .with_cookies(cookies)
            .with_cors(origin)
            .send(session)
            .await
    }

    /// Who asks once the site's check has been heard, how far that counts, and the cookies that say so.
    async fn checked(
        &self,
        session: &Session,
        context: &Context,
        site: &Site,
        mut who: Who,
    ) -> (Who, Confirmed, Vec<String>) {
        let request = session.req_header();
        let Confirmation { known, verdict, .. } =
            self.confirmed(site, request, context, &who).await;
        let said = verdict.as_ref().map(|said| (said, None));
        let settled = said.and_then(|said| settle(site, context, request, &who, said));
        let Some(settled) = settled else { return (who, known, Vec::new()) };
        let (host, secure) = (context.authority.as_str(), context.client.secure);
        let mut lines = settled.lines;
        lines.extend(site.identity.keep(&settled.visitor, host, secure));
        (who.visitor, who.ended) = (settled.visitor, settled.ended);
        (who, known, lines)
    }

    /// `GET|POST {prefix}/reset`: the browser forgets who it is.
    pub(super) async fn reset(
        &self,
        session: &mut Session,
        context: &Context,
        site: &Site,
    ) -> Result<bool> {
        let origin = match admitted(session, context, site, &[Method::GET, Method::POST]) {
            Ok(origin) => origin,
            Err(refusal) => return refusal.send(session).await,
        };
        let request = session.req_header();
        if request.method == Method::GET && !is_of_this_page(request, context) {
            // A link must not log anybody out.
            let why = "only pages of the site itself reset by GET: others use POST";
            let refusal = Answer::error(StatusCode::FORBIDDEN, "foreign_origin", why);
            return refusal.send(session).await;
        }
        let (host, secure) = (context.authority.as_str(), context.client.secure);
        let mut cookies = site.identity.forget(&[], host, secure);
        let who = self.who(site, request, context);
        if who.consent == Consent::Denied {
            cookies.extend(end_traits(site, context));
        } else {
            end(site, context, &who, &mut cookies);
        }
        cookies.extend(site.identity.end([RESET].into_iter(), host, secure));
        Answer::json(StatusCode::OK, &serde_json::json!({ "success": true }))
            .with_cookies(cookies)
            .with_cors(origin)
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
        let origin = match admitted(session, context, site, &[Method::POST]) {
            Ok(origin) => origin,
            Err(refusal) => return refusal.send(session).await,
        };
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
        let consent = self.who(site, session.req_header(), context).consent;
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
            .map(|one| {
                let cookie = OtherCookie { name: &one.name, value: &one.value, readable: true };
                site.identity.other(&cookie, Some(one.max_age), host, secure)
            });
        let lines = lines.collect();
        Answer::json(StatusCode::OK, &serde_json::json!({ "success": true }))
            .with_cookies(lines)
            .with_cors(origin)
            .send(session)
            .await
    }

    /// What a visitor gets in front of the SDK, where the edge does not see the page.
    pub(super) async fn lead(
        &self,
        session: &mut Session,
        context: &Context,
        site: &Site,
        way: &mut AssetWay,
    ) {
        // Of two visitors one file: what the browser has of it says nothing about this one.
        for name in [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE] {
            session.req_header_mut().remove_header(&name);
        }
        if !way.host.is_filled_in() {
            way.codings.stored = way.codings.made;
        }
        let request = session.req_header();
        let host = context.authority.as_str();
        let says = is_asked_by_the_site(request, context, site);
        let (handed, who, cookies) = if says {
            let who = self.who(site, request, context);
            let (who, known, mut cookies) = self.checked(session, context, site, who).await;
            let handed = self.client_traits(session, context, site, (&who, &known)).await;
            let who = who.minted(site);
            cookies.extend(site.identity.keep(&who.visitor, host, context.client.secure));
            (handed, who, cookies)
        } else {
            (Handed::default(), Who::default(), Vec::new())
        };
        let base = format!("{}://{host}{}", context.client.scheme(), site.prefix.as_str());
        let handover = Handover {
            visitor: &who.visitor,
            ended: who.ended.at(),
            says: says.then(now_millis),
            traits: handed.traits.as_ref(),
            flags: &handed.flags,
            ahead: false,
            base: Some(&base),
            page_call: false,
        };
        let script = site.lead(way.file.vendor()).script(handover).text();
        way.lead = Some(Lead { script, cookies });
    }
}

/// What belongs to a visitor is for pages of the site alone: another site that names the URL in a
/// script element or form must learn and change nothing. Tells the origin of a page of another host that
/// may.
pub(super) fn admitted(
    session: &Session,
    context: &Context,
    site: &Site,
    methods: &[Method],
) -> std::result::Result<Option<String>, Answer> {
    let request = session.req_header();
    let origin = match source(request, context, site) {
        Source::Own => None,
        Source::Sibling(origin) => Some(origin.to_owned()),
        Source::Foreign => {
            let why = "only for pages of the site itself";
            return Err(Answer::error(StatusCode::FORBIDDEN, "foreign_origin", why));
        }
    };
    if request.method == Method::OPTIONS && origin.is_some() {
        return Err(preflight(request).with_cors(origin));
    }
    if !methods.contains(&request.method) {
        let allow: Vec<&str> = methods.iter().map(Method::as_str).collect();
        let wrong = Answer::error(StatusCode::METHOD_NOT_ALLOWED, "method", "not with this method");
        return Err(wrong.with(header::ALLOW, allow.join(", ")));
    }
    Ok(origin)
}
