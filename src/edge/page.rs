//! A page of the site: identity, profile and decisions before the origin is asked; cookies, privacy
//! and the snippet on the way back.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderName, HeaderValue, Method, StatusCode, Version, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;

use super::Edge;
use super::client::append;
use super::consent::allowed;
use super::context::{Context, Page, Way};
use super::page_view::View;
use super::response::{
    charset, drop_hop_headers, drop_validators, is_ascii_compatible, is_html, make_private,
    promote_cookies, text,
};
use super::target::{is_page_request, is_safe, wants_html};
use crate::decide::{Consent, Facts, RequestFacts};
use crate::geo::{Geo, Place};
use crate::html::{Body, Coding, Csp, Injector, Markup, PageKey, Plans, Title};
use crate::identity::{AnonymousId, Visitor, read};
use crate::profile::{Lookup, ProfileKey};
use crate::site::Site;
use crate::telemetry::{Feature, Personalization, Rewrite, guard};
use crate::vendor::Handover;

/// The request as rules see it.
pub(super) struct Asked<'a> {
    pub(super) request: &'a RequestHeader,
    pub(super) path: &'a str,
    pub(super) address: Option<IpAddr>,
    pub(super) geo: &'a Geo,
}

impl RequestFacts for Asked<'_> {
    fn method(&self) -> &str {
        self.request.method.as_str()
    }
    fn path(&self) -> &str {
        self.path
    }
    fn query(&self) -> &str {
        self.request.uri.query().unwrap_or_default()
    }
    fn place(&self) -> Option<Place> {
        self.geo.place(self.address?)
    }
    fn headers(&self) -> Vec<(String, String)> {
        let names = self.request.headers.keys();
        names
            .map(|name| {
                let values: Vec<_> = self
                    .request
                    .headers
                    .get_all(name)
                    .iter()
                    .map(|value| String::from_utf8_lossy(value.as_bytes()))
                    .collect();
                let glue = if name == header::COOKIE { "; " } else { ", " };
                (name.as_str().to_owned(), values.join(glue))
            })
            .collect()
    }
}

/// Whom the request's cookies name.
pub(super) fn visitor(site: &Site, request: &RequestHeader) -> Visitor {
    let cookies = request.headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
    guard(Feature::Identity, || read(&site.identity.names, cookies)).unwrap_or_default()
}

/// The key of `visitor`'s profile: the user's where one is known.
fn profile_key(site: &Site, visitor: &Visitor) -> Option<ProfileKey> {
    match (&visitor.user, &visitor.anonymous) {
        (Some(user), _) => Some(ProfileKey::user(&site.name, user)),
        (None, Some(id)) => Some(ProfileKey::anonymous(&site.name, id)),
        (None, None) => None,
    }
}

impl Page {
    /// A page of `path`, about which nothing has been decided.
    pub(super) fn of(session: &Session, site: &Site, path: &str) -> Self {
        let request = session.req_header();
        let shown = is_page_request(request);
        let varies = shown && is_safe(request) && site.variations.varies(path);
        let wants_html = shown && wants_html(request);
        Self { shown, wants_html, varies, ..Self::default() }
    }

    /// Whether it depends on who asks.
    pub(super) fn is_personal(&self, site: &Site) -> bool {
        self.varies || (self.wants_html && !site.client_traits.is_empty())
    }
}

impl Edge {
    /// Decides everything about a page before the origin is asked. Whatever fails here, the page
    /// goes on as the origin has it.
    pub(super) async fn decide(
        &self,
        session: &Session,
        site: &Site,
        path: &str,
        page: &mut Page,
        context: &Context,
    ) {
        let asked = self.asked(session.req_header(), path, context);
        let deciding = self.personalise(&asked, site, page, context.snapshot.profile_wait);
        let deciding = AssertUnwindSafe(deciding).catch_unwind();
        if deciding.await.is_err() {
            crate::telemetry::metrics::PANICS.with_label_values(&[Feature::Decision.label()]).inc();
            page.chosen = None;
            page.outcome = Some(Personalization::Late);
        }
    }

    /// What is known of `visitor` within `wait`. `None` for nobody.
    pub(super) async fn look_up(
        &self,
        site: &Site,
        visitor: &Visitor,
        wait: Duration,
    ) -> Option<Lookup> {
        let key = profile_key(site, visitor)?;
        Some(self.profiles.find(&key, site.source.as_ref(), wait).await)
    }

    async fn personalise(&self, asked: &Asked<'_>, site: &Site, page: &mut Page, wait: Duration) {
        let visitor = page.visitor.insert(allowed(visitor(site, asked.request), page.consent));
        let lookup = self.look_up(site, visitor, wait).await;
        let known = lookup.as_ref().and_then(Lookup::known);
        let facts = Facts::new(visitor, known, asked);
        let chosen = site.variations.choose(asked.path, &facts);
        let (traits, failed) = site.client_traits.of(&facts);
        let failures = chosen.failed + failed;
        if failures > 0 {
            site.metrics.rule_failures.inc_by(failures as u64);
        }
        page.stale = matches!(&lookup, Some(Lookup::Found(found)) if found.stale);
        let personal = chosen.path.is_some() || !traits.is_empty();
        page.outcome = Some(match lookup {
            _ if personal => Personalization::Personalized,
            None => Personalization::Anonymous,
            Some(Lookup::Found(_)) => Personalization::Default,
            // A browser's own id with nothing behind it is nobody yet.
            Some(Lookup::Missing) if visitor.user.is_none() => Personalization::Anonymous,
            Some(Lookup::Missing) => Personalization::Unknown,
            Some(Lookup::Late | Lookup::Failed) => Personalization::Late,
        });
        page.chosen = chosen.path.map(Into::into);
        page.traits = traits;
    }
}

/// What the origin is asked for.
pub(super) fn to_origin(
    context: &Context,
    page: &Page,
    site: &Site,
    request: &mut RequestHeader,
) -> Result<()> {
    if let Some(path) = &page.chosen {
        let target = match request.uri.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.to_string(),
        };
        request.set_uri(parse_uri(&target)?);
    } else if !request.raw_path().starts_with(b"/") && request.raw_path() != b"*" {
        // Absolute form: the origin gets the path alone.
        let target = request.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let target = target.to_owned();
        request.set_raw_path(target.as_bytes())?;
    }
    match &site.origin_host {
        Some(host) => request.insert_header(header::HOST, &**host)?,
        // HTTP/2 names it in the target.
        None if !request.headers.contains_key(header::HOST) => {
            request.insert_header(header::HOST, context.authority.as_str())?;
        }
        None => {}
    }
    context.client.announce(request, context.authority.as_str())?;
    request.insert_header(X_REQUEST_ID, &context.id[..])?;
    append(request, header::VIA, via(request.version))?;
    if page.shown && site.snippet.is_some() {
        // Only what can be undone, and what the client itself accepts: its answer is of the same
        // coding as the origin's.
        if let Some(accept) = joined(request, &header::ACCEPT_ENCODING) {
            request.insert_header(header::ACCEPT_ENCODING, Coding::acceptable(&accept))?;
        }
    }
    if page.wants_html && is_safe(request) && (site.snippet.is_some() || page.varies) {
        // A page that is made for one visitor is never a part or a confirmation of another.
        for conditional in
            [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE, header::IF_RANGE, header::RANGE]
        {
            request.remove_header(&conditional);
        }
    }
    Ok(())
}

/// HTTP/2 may cut a Cookie header into pieces, HTTP/1 may not (RFC 9113, 8.2.3).
pub(super) fn join_cookies(request: &mut RequestHeader) -> Result<()> {
    let pieces: Vec<&[u8]> =
        request.headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if pieces.len() < 2 {
        return Ok(());
    }
    let whole = pieces.join(&b"; "[..]);
    request.insert_header(header::COOKIE, whole)
}

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

fn via(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0 doorstep",
        Version::HTTP_2 => "2.0 doorstep",
        _ => "1.1 doorstep",
    }
}

fn parse_uri(target: &str) -> Result<http::Uri> {
    target.parse().map_err(|error| {
        Error::because(ErrorType::HTTPStatus(400), "the target can't be sent on", error)
    })
}

fn joined(request: &RequestHeader, name: &HeaderName) -> Option<String> {
    let values: Vec<&str> =
        request.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

/// The origin's answer on its way to the visitor.
pub(super) fn to_visitor(
    session: &mut Session,
    context: &mut Context,
    plans: &Plans,
    response: &mut ResponseHeader,
) -> Result<()> {
    let started = Instant::now();
    let Some(site) = context.site.clone() else { return Ok(()) };
    let Way::Page(page) = std::mem::replace(&mut context.way, Way::Here) else { return Ok(()) };
    let mut page = page;
    drop_hop_headers(response);
    if response.version == Version::HTTP_10 {
        // The version is that of whoever speaks (RFC 9110, 2.5), and 1.0 knows no chunks.
        response.set_version(Version::HTTP_11);
    }
    if site.identity.server_side_cookies {
        promote_cookies(&site, context.client.secure, response)?;
    }
    if page.varies {
        make_private(response)?;
        drop_validators(response);
    }
    let html = response.status == StatusCode::OK && page.shown && is_html(response);
    if html {
        let outcome = page.outcome.unwrap_or(Personalization::Off);
        site.metrics.page(outcome);
        if !site.consent.is_empty() {
            // Another visitor's answer would be another one.
            make_private(response)?;
        }
        if page.consent == Consent::Denied {
            no_identity(&site, session, context, response)?;
            context.way = Way::Page(page);
            context.added += started.elapsed();
            return Ok(());
        }
        let visitor = page
            .visitor
            .take()
            .unwrap_or_else(|| allowed(visitor(&site, session.req_header()), page.consent));
        let visitor = minted(&site, visitor);
        for line in site.identity.keep(&visitor, context.authority.as_str(), context.client.secure)
        {
            response.append_header(header::SET_COOKIE, line)?;
        }
        if site.identity.server_side_cookies {
            make_private(response)?;
        }
        if session.req_header().method != Method::HEAD {
            let title = page.tells_view.then(|| Title::new(charset(response)));
            let title = title.map(|title| Arc::new(Mutex::new(title)));
            let handover = Handover {
                visitor: &visitor,
                traits: &page.traits,
                base: None,
                page_call: !page.tells_view,
            };
            inject(session, context, plans, &site, handover, title.clone(), response)?;
            page.view = title.map(|title| Box::new(View { visitor, title }));
        } else if site.snippet.is_some() {
            make_private(response)?;
            drop_validators(response);
            response.remove_header(&header::CONTENT_LENGTH);
        }
    }
    context.way = Way::Page(page);
    context.added += started.elapsed();
    Ok(())
}

/// Nothing about the visitor, and where the site wants it, an end to what was known.
fn no_identity(
    site: &Site,
    session: &Session,
    context: &Context,
    response: &mut ResponseHeader,
) -> Result<()> {
    let known = visitor(site, session.req_header()) != Visitor::default();
    if site.consent.clear_cookies && known {
        for line in site.identity.forget(context.authority.as_str(), context.client.secure) {
            response.append_header(header::SET_COOKIE, line)?;
        }
    }
    Ok(())
}

/// A newcomer gets an id, where the site gives any.
pub(super) fn minted(site: &Site, mut visitor: Visitor) -> Visitor {
    let policy = &site.identity;
    if policy.server_side_cookies && policy.mint && visitor.anonymous.is_none() {
        visitor.anonymous = Some(AnonymousId::mint());
        visitor.minted = true;
    }
    visitor
}

fn inject(
    session: &mut Session,
    context: &mut Context,
    plans: &Plans,
    site: &Site,
    handover: Handover<'_>,
    title: Option<Arc<Mutex<Title>>>,
    response: &mut ResponseHeader,
) -> Result<()> {
    let coding = Coding::of(text(response, &header::CONTENT_ENCODING));
    let Some(snippet) = &site.snippet else {
        if let (Some(title), Some(Coding::Identity)) = (title, coding) {
            context.body = Body::Read(title);
        }
        return Ok(());
    };
    let Some(coding) = coding.filter(|_| is_ascii_compatible(response)) else {
        site.metrics.rewrite(Rewrite::Unreadable);
        return Ok(());
    };
    let host = context.authority.host().to_owned();
    let mut csp = Csp::default();
    for policy in response.headers.get_all(header::CONTENT_SECURITY_POLICY) {
        csp.add(policy.to_str().unwrap_or("default-src 'none'"), &host);
    }
    let key = if coding == Coding::Identity { page_key(session, site, response) } else { None };
    let made = guard(Feature::Rewriting, || {
        let script = snippet.script(handover);
        let path = snippet.external_path(handover.page_call);
        let markup = Markup { script, path, csp, host };
        let adds = markup.length();
        (Injector::new(markup).with_title(title), adds)
    });
    let Some((injector, adds)) = made else { return Ok(()) };
    make_private(response)?;
    drop_validators(response);
    let plan = key.and_then(|(key, _)| plans.get(key));
    if let (Some(plan), Some((_, length)), Some(adds)) = (plan, key, adds) {
        // Seen before: its length is known.
        context.body = Body::plain(injector.with_plan(Some(plan)), Some(adds));
        response.insert_header(header::CONTENT_LENGTH, length + adds)?;
        return Ok(());
    }
    context.page_key = key.map(|(key, _)| key);
    context.body = Body::new(coding, injector);
    response.remove_header(&header::CONTENT_LENGTH);
    if session.req_header().version == Version::HTTP_10 {
        // Such a client knows no chunks: the end of the connection is the end of the page.
        response.remove_header(&header::TRANSFER_ENCODING);
        session.set_keepalive(None);
    } else {
        response.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    }
    Ok(())
}

/// What a page's bytes follow from, and its length, where the origin vouches for them: by a strong
/// ETag (RFC 9110, 8.8.1).
fn page_key(session: &Session, site: &Site, response: &ResponseHeader) -> Option<(PageKey, usize)> {
    let etag = response.headers.get(header::ETAG)?.as_bytes();
    let length = response.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?;
    let target = session.req_header().raw_path();
    let strong =
        etag.starts_with(b"\"") && !response.headers.contains_key(header::TRANSFER_ENCODING);
    let parts = [site.name.as_bytes(), target, etag, length.as_bytes()];
    strong.then(|| PageKey::of(&parts)).zip(length.parse().ok())
}

/// Moves a page's body on. An error ends the answer: nothing more can be known of it.
pub(super) fn body(
    context: &mut Context,
    plans: &Plans,
    chunk: &mut Option<Bytes>,
    end: bool,
) -> Result<()> {
    if matches!(context.body, Body::Untouched) {
        return Ok(());
    }
    let started = Instant::now();
    let passed = guard(Feature::Rewriting, || context.body.pass(chunk, end));
    context.added += started.elapsed();
    let Some(site) = &context.site else { return Ok(()) };
    match passed {
        Some(Ok(None)) => Ok(()),
        Some(Ok(Some(passed))) => {
            site.metrics.rewrite(passed.outcome);
            if let (Some(key), Some(plan)) = (context.page_key, passed.plan) {
                plans.put(key, plan);
            }
            Ok(())
        }
        Some(Err(broken)) => {
            site.metrics.rewrite(Rewrite::Broken);
            context.body = Body::Untouched;
            Error::e_because(ErrorType::new("broken page"), "rewriting", broken)
                .map_err(Error::into_up)
        }
        None => {
            context.body = Body::Untouched;
            Error::e_explain(ErrorType::InternalError, "rewriting a compressed page panicked")
        }
    }
}
