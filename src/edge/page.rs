//! A page of the site: identity, profile and decisions before the origin is asked; cookies, privacy
//! and the snippet on the way back.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use http::{HeaderName, HeaderValue, Method, StatusCode, Version, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;

use super::Edge;
use super::answer::Answer;
use super::client::append;
use super::confirm::{Said, said_by_origin};
use super::context::{Context, Page, Way};
use super::decide::{Handed, flags};
use super::form::{Data, Form, is_safe, says_nothing};
use super::page_body::{KnownBy, known_by, rewrite};
use super::page_view::{View, is_prefetch};
use super::preview::{Given, without_token};
use super::response::{
    Changed, charset, cookie_lines, drop_hop_headers, is_fixed, is_html, is_page, promote_cookies,
    vary,
};
use super::settle::{end_reset, end_traits, settle};
use super::who::{named, resets};
use crate::decide::{Consent, Decide, Decision, PREVIEW, RequestFacts, Target, Wants};
use crate::geo::{Geo, Place};
use crate::html::{Coding, Title};
use crate::identity::{OtherCookie, Visitor, cookie, cookie_value};
use crate::profile::now_millis;
use crate::site::Site;
use crate::telemetry::Personalization;
use crate::upstream::Upstream;
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
    fn header(&self, name: &str) -> Option<String> {
        let mut values = self.request.headers.get_all(name).iter();
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let mut whole = text(values.next()?);
        for more in values {
            whole.push_str(if name == "cookie" { "; " } else { ", " });
            whole.push_str(&text(more));
        }
        Some(whole)
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

impl Page {
    /// A page of `path`, about which nothing has been decided.
    pub(super) fn of(
        session: &Session,
        site: &Site,
        path: &str,
        deciders: &[Arc<dyn Decide>],
    ) -> Self {
        let request = session.req_header();
        let (form, safe) = (Form::of(request), is_safe(request));
        let data = Data::of(path).filter(|_| form.is_page() && form != Form::Shown);
        let is_shell = || site.shells.iter().any(|shell| shell.matches(path));
        let form = if form == Form::Anything && is_shell() { Form::Document } else { form };
        let (path, form) = data.map_or((path, form), |(page, _)| (page, Form::Part));
        let data = data.map(|(_, data)| data);
        let wants = Wants { html: form.can_change(), page: form.is_page(), safe };
        let concerned = site.rules.concerning(&site.name, path, wants, deciders);
        let path = if concerned.personal { path.into() } else { Box::default() };
        Self { form, data, safe, path, concerned, ..Self::default() }
    }
}

/// What the origin is asked for.
pub(super) fn to_origin(
    context: &Context,
    page: &Page,
    site: &Site,
    request: &mut RequestHeader,
) -> Result<()> {
    let chosen = match page.target() {
        Some(Target::Other { path, .. }) => path.as_deref(),
        _ => None,
    };
    let query = request.uri.query();
    let bare = query.and_then(without_token);
    if let Some(followed) = page.followed.as_ref().filter(|_| page.target().is_some()) {
        request.set_uri(parse_uri(followed)?);
    } else if chosen.is_some() || bare.is_some() {
        let data = chosen.zip(page.data).map(|(path, data)| data.path(path));
        let path = data.as_deref().or(chosen).unwrap_or_else(|| request.uri.path());
        let query = bare.as_deref().or(query).filter(|query| bare.is_none() || !query.is_empty());
        let target = match query {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        request.set_uri(parse_uri(&target)?);
    } else if !request.raw_path().starts_with(b"/") && request.raw_path() != b"*" {
        // Absolute form: the origin gets the path alone.
        let target = request.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let target = target.to_owned();
        request.set_raw_path(target.as_bytes())?;
    }
    match host_asked(page, site) {
        Some(host) => request.insert_header(header::HOST, &*host)?,
        // HTTP/2 names it in the target.
        None if !request.headers.contains_key(header::HOST) => {
            request.insert_header(header::HOST, context.authority.as_str())?;
        }
        None => {}
    }
    context.client.drop_claims(request, &site.client_headers);
    tell_length_anew(request)?;
    for (name, value) in page.decision.iter().flat_map(|decision| &decision.headers) {
        request.insert_header(name.clone(), value.clone())?;
    }
    context.client.announce(request, context.authority.as_str(), context.id)?;
    append(request, "Via", via(request.version))?;
    if page.is_changed() && (site.snippet.is_some() || page.is_edited()) {
        // Only what can be undone, and what the client itself accepts: its answer is of the same
        // coding as the origin's.
        if let Some(accept) = joined(request, &header::ACCEPT_ENCODING) {
            let accept = HeaderValue::from_static(Coding::acceptable(&accept));
            // By its text: Pingora knows few names in the form that they are written in.
            request.insert_header("Accept-Encoding", accept)?;
        }
    }
    let own = site.snippet.is_some() || page.is_edited() || page.may_be_personal(site);
    // What a script fetches is data most of the time: it keeps its confirmations.
    if page.form.is_document() && is_safe(request) && own && !says_nothing(request) {
        // A page that is made for one visitor is never a confirmation of another. A part is as the origin has it: a
        // download goes on where it was, and of a page nobody knows a part.
        for conditional in [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE] {
            request.remove_header(&conditional);
        }
    }
    Ok(())
}

/// The host that the origin is asked for. `None` for the one that the visitor asks for.
pub(super) fn host_asked<'s>(page: &Page, site: &'s Site) -> Option<Cow<'s, str>> {
    let other = page.other_origin().and_then(|origin| site.other_origins.get(origin));
    // A server that has a name is asked for by it.
    let other = other.filter(|origin| origin.endpoint().host().parse::<IpAddr>().is_err());
    match (other, &site.origin_host) {
        (Some(origin), _) => Some(origin.endpoint().authority().into()),
        (None, host) => host.as_deref().map(Cow::Borrowed),
    }
}

/// `010` is a length that servers could read in two ways: the number is written as numbers are.
fn tell_length_anew(request: &mut RequestHeader) -> Result<()> {
    let Some(length) = request.headers.get(header::CONTENT_LENGTH) else { return Ok(()) };
    let length = length.as_bytes();
    if length.len() < 2 || length.first() != Some(&b'0') {
        return Ok(());
    }
    let length: u64 = std::str::from_utf8(length)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Error::explain(ErrorType::HTTPStatus(400), "Content-Length is malformed"))?;
    request.insert_header(header::CONTENT_LENGTH, length)
}

const X_DOORSTEP_EXPLAIN: HeaderName = HeaderName::from_static("x-doorstep-explain");
const X_DOORSTEP_PREVIEW: HeaderName = HeaderName::from_static("x-doorstep-preview");

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

fn via(version: Version) -> HeaderValue {
    HeaderValue::from_static(match version {
        Version::HTTP_10 => "1.0 doorstep",
        Version::HTTP_2 => "2.0 doorstep",
        _ => "1.1 doorstep",
    })
}

fn parse_uri(target: &str) -> Result<http::Uri> {
    target.parse().map_err(|error| {
        Error::because(ErrorType::HTTPStatus(400), "the target can't be sent on", error)
    })
}

fn joined<'r>(request: &'r RequestHeader, name: &HeaderName) -> Option<Cow<'r, str>> {
    let mut values = request.headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let mut whole = Cow::Borrowed(values.next()?);
    for more in values {
        whole.to_mut().push_str(", ");
        whole.to_mut().push_str(more);
    }
    Some(whole)
}

impl Edge {
    /// The origin's answer on its way to the visitor.
    pub(super) fn to_visitor(
        &self,
        session: &mut Session,
        context: &mut Context,
        response: &mut ResponseHeader,
    ) -> Result<()> {
        let Some(site) = context.site.clone() else { return Ok(()) };
        let Way::Page(page) = std::mem::replace(&mut context.way, Way::Here) else { return Ok(()) };
        let mut page = page;
        drop_hop_headers(response);
        if response.status == StatusCode::NO_CONTENT {
            // It has no body, whatever it says (RFC 9110, 8.6; RFC 9112, 6.1).
            response.remove_header(&header::CONTENT_LENGTH);
            response.remove_header(&header::TRANSFER_ENCODING);
        }
        if response.version == Version::HTTP_10 {
            // The version is that of whoever speaks (RFC 9110, 2.5), and 1.0 knows no chunks.
            response.set_version(Version::HTTP_11);
        }
        let html = page.is_changed() && is_page(response);
        // By the validators of the origin, before they are dropped.
        let known_by = if html {
            known_by(session, (&site, context.authority.as_str()), &page, response)
        } else {
            None
        };
        // What an answer confirms, or is a part of, is a page that one visitor was given.
        let of_page = match response.status {
            StatusCode::NOT_MODIFIED => page.is_changed(),
            StatusCode::PARTIAL_CONTENT => page.is_changed() && is_html(response),
            _ => html,
        };
        let varies = page.concerned.varies || (of_page && page.concerned.changes);
        let own = of_page && page.may_be_personal(&site);
        let mut changed = Changed { private: varies || own, bytes: varies, cookies: Vec::new() };
        put_first(std::mem::take(&mut page.brought), response)?;
        let settled = self.settled(session, context, &site, &mut page, response)?;
        changed.private |= settled;
        changed.private |= self.end_reset(session, context, &site, &page, response)?;
        if html && page.consent() == Consent::Denied {
            site.metrics.page(page.outcome.unwrap_or(Personalization::Off));
            changed.cookies = no_identity(&site, session, context);
        } else if html {
            self.shown_page(session, context, known_by, &site, &mut page, &mut changed, response)?;
        } else if let (true, Some(who)) = (settled, &page.who) {
            let (host, secure) = (context.authority.as_str(), context.client.secure);
            changed.cookies = site.identity.keep(&who.visitor, host, secure);
        }
        if html {
            let (headers, allowed) =
                (&session.req_header().headers, page.consent() == Consent::Given);
            let (host, secure) = (context.authority.as_str(), context.client.secure);
            let mut lines = site.identity.prolong(headers, allowed, host, secure);
            // What the origin sets itself is newer.
            lines.retain(|line| !is_set(response, line));
            changed.cookies.extend(lines);
        }
        changed.tell(response)?;
        let coded = !self.deciders.is_empty();
        if (coded || site.has_pages_of_its_own()) && has_another_form(&page, response) {
            vary(response)?;
        }
        if let Some(given) = &page.given {
            told_to_the_holder(given, page.explained.take(), response)?;
        }
        context.way = Way::Page(page);
        // With all else the clock would cost as much as what it measures.
        if let (true, Some(answered)) = (html, context.answered) {
            context.added += answered.elapsed();
        }
        Ok(())
    }

    /// Ends the identity that a page's script has ended, where it is heard of with this request. Whether it has.
    fn end_reset(
        &self,
        session: &Session,
        context: &Context,
        site: &Site,
        page: &Page,
        response: &mut ResponseHeader,
    ) -> Result<bool> {
        let request = session.req_header();
        if !resets(request) || (page.safe && !page.form.is_page()) {
            return Ok(false);
        }
        let lines = match &page.who {
            Some(who) => end_reset(site, context, who),
            None => end_reset(site, context, &self.who(site, request, context)),
        };
        let ends = !lines.is_empty();
        put_first(lines.iter().filter_map(|line| line.parse().ok()).collect(), response)?;
        Ok(ends)
    }

    /// Lets the visitor become whom the origin or the check says. Whether that changes anything.
    fn settled(
        &self,
        session: &Session,
        context: &Context,
        site: &Site,
        page: &mut Page,
        response: &mut ResponseHeader,
    ) -> Result<bool> {
        let mut said = said_by_origin(site, response);
        if site.identity.server_side_cookies {
            let ends = promote_cookies(site, context.client.secure, response)?;
            said = said.or(ends.then_some(Said::Nobody));
        }
        // Once it was nobody, it is: the last answer was asked for with the cookies from before.
        let said = match page.said.take() {
            Some(Said::Nobody) => Some(Said::Nobody),
            before => said.or(before),
        };
        let Some(said) = said.or(page.verdict.take()) else { return Ok(false) };
        let request = session.req_header();
        let who = page.who.get_or_insert_with(|| self.who(site, request, context));
        let said = (&said, None);
        let Some(settled) = settle(site, context, request, who, said) else { return Ok(false) };
        let before = std::mem::replace(&mut who.visitor, settled.visitor).anonymous;
        who.ended = settled.ended;
        let other = match page.known.user() {
            Some(known) => who.visitor.user.as_ref() != Some(known),
            None => before.is_some() && before != who.visitor.anonymous,
        };
        if let (true, Some(decision)) = (other, &mut page.decision) {
            // It was decided for somebody else.
            decision.without_visitor();
        }
        for line in settled.lines {
            response.append_header(header::SET_COOKIE, line)?;
        }
        Ok(true)
    }

    /// A page that a visitor will see.
    #[allow(clippy::too_many_arguments, reason = "a step of the method above")]
    fn shown_page(
        &self,
        session: &mut Session,
        context: &mut Context,
        known_by: Option<KnownBy>,
        site: &Site,
        page: &mut Page,
        changed: &mut Changed,
        response: &mut ResponseHeader,
    ) -> Result<()> {
        site.metrics.page(page.outcome.unwrap_or(Personalization::Off));
        let who = page.who.take().unwrap_or_else(|| self.who(site, session.req_header(), context));
        let who = who.minted(site);
        let visitor = &who.visitor;
        let (host, secure) = (context.authority.as_str(), context.client.secure);
        changed.cookies = site.identity.keep(visitor, host, secure);
        let get = session.req_header().method != Method::HEAD;
        if let (true, Some(decision)) = (page.fell_back, &mut page.decision) {
            decision.without_page(&site.rules);
        }
        let handed = match &mut page.decision {
            Some(decision) => {
                let traits = std::mem::take(&mut decision.traits);
                let flags = flags(site, decision);
                Handed { traits: page.is_known.then_some(traits), flags }
            }
            // No rule is about it, or nothing is allowed: for certain.
            None if page.outcome != Some(Personalization::Late) => Handed::nothing(),
            None => Handed::default(),
        };
        let mut tells_later = false;
        if let (Some(decision), Some(given)) = (&page.decision, &page.given) {
            let lines = trait_cookies(site, decision, session.req_header(), host, secure);
            let whose = (visitor, &page.known);
            let (kept, sights) = self.seen.sights(site, decision, given.kept(), whose);
            let ahead = is_prefetch(&session.req_header().headers);
            let counts = get && page.safe && !ahead;
            tells_later = ahead && sights.is_some();
            page.sights = sights.filter(|_| counts).map(Box::new);
            let before = changed.cookies.len();
            changed.cookies.extend(lines.into_iter().chain(given.cookies(site, &kept, context)));
            changed.private |= changed.cookies.len() > before;
        }
        if !get {
            if !is_fixed(response) && (site.snippet.is_some() || page.is_edited()) {
                (changed.private, changed.bytes) = (true, true);
                response.remove_header(&header::CONTENT_LENGTH);
            }
            page.who = Some(who);
            return Ok(());
        }
        let title = page.tells_view.then(|| Title::new(charset(response)));
        let title = title.map(|title| Arc::new(Mutex::new(title)));
        let handover = Handover {
            visitor,
            ended: who.ended.at(),
            says: Some(now_millis()),
            traits: handed.traits.as_ref(),
            flags: &handed.flags,
            ahead: tells_later,
            base: None,
            page_call: !page.tells_view,
        };
        let edits = match &mut page.decision {
            Some(decision) => std::mem::take(&mut decision.edits),
            None => Vec::new(),
        };
        let wanted = page.form.wanted();
        let with = (handover, &*edits, title.clone());
        if !is_fixed(response)
            && rewrite(context, &self.plans, site, known_by, wanted, with, response)?
        {
            (changed.private, changed.bytes) = (true, true);
        }
        page.view = title.map(|title| Box::new(View { visitor: who.visitor.clone(), title }));
        page.who = Some(who);
        Ok(())
    }
}

/// Whether `response` sets the cookie that `line` sets.
fn is_set(response: &ResponseHeader, line: &str) -> bool {
    let name = line.split('=').next().unwrap_or_default();
    let own = cookie_lines(response);
    own.iter().any(|own| own.as_bytes().split(|byte| *byte == b'=').next() == Some(name.as_bytes()))
}

/// Lets `lines` of Set-Cookie stand in front of the answer's own: what is said last counts.
fn put_first(lines: Vec<HeaderValue>, response: &mut ResponseHeader) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let own = cookie_lines(response);
    response.remove_header(&header::SET_COOKIE);
    for line in lines.into_iter().chain(own) {
        response.append_header(header::SET_COOKIE, line)?;
    }
    Ok(())
}

/// Whether another request for the same URL gets another answer by what it is for: a page that a browser shows,
/// where this one was fetched by a script or ahead.
fn has_another_form(page: &Page, response: &ResponseHeader) -> bool {
    let differs = match response.status {
        // It does not say what it confirms.
        StatusCode::NOT_MODIFIED => page.form.is_page(),
        status => status.is_redirection() || is_html(response),
    };
    page.form != Form::Shown && page.safe && differs
}

/// What the holder of a preview link is told.
fn told_to_the_holder(
    given: &Given,
    explained: Option<String>,
    response: &mut ResponseHeader,
) -> Result<()> {
    if let Some(explained) = explained {
        response.insert_header(X_DOORSTEP_EXPLAIN, explained)?;
    }
    if let Some(why) = given.refused {
        response.insert_header(X_DOORSTEP_PREVIEW, why.label())?;
    }
    Ok(())
}

/// Set-Cookie values of traits; one that the visitor has and should not have is taken away.
fn trait_cookies(
    site: &Site,
    decision: &Decision,
    request: &RequestHeader,
    host: &str,
    secure: bool,
) -> Vec<String> {
    let mut out = Vec::new();
    for (index, value) in &decision.cookies {
        let Some(trait_cookie) = site.rules.cookies.get(*index) else { continue };
        let name = &*trait_cookie.name;
        let (value, max_age) = match value {
            Some(value) => (cookie_value(value), trait_cookie.max_age),
            None if cookie(request.headers.get_all(header::COOKIE), name).is_some() => {
                (String::new(), Some(0))
            }
            None => continue,
        };
        let one = OtherCookie { name, value: &value, readable: trait_cookie.readable };
        out.push(site.identity.other(&one, max_age, host, secure));
    }
    out
}

/// Nothing about the visitor: where the site wants it, the cookies that end what was known.
fn no_identity(site: &Site, session: &Session, context: &Context) -> Vec<String> {
    let known = named(site, session.req_header()).visitor != Visitor::default();
    if site.consent.clear_cookies && known {
        let (host, secure) = (context.authority.as_str(), context.client.secure);
        let mut lines = site.identity.forget(&[], host, secure);
        lines.extend(end_traits(site, context));
        return lines;
    }
    Vec::new()
}

/// Whether the request brings a preview link, so that its holder is told why.
pub(super) fn is_previewed(site: &Site, session: &Session) -> bool {
    let request = session.req_header();
    !site.signing_keys.is_empty()
        && (request.uri.query().is_some_and(|query| query.contains(PREVIEW))
            || cookie(request.headers.get_all(header::COOKIE), PREVIEW).is_some())
}

/// The server that has the page.
pub(super) fn origin<'s>(page: &Page, site: &'s Site) -> Option<&'s Arc<Upstream>> {
    match page.other_origin() {
        Some(other) => site.other_origins.get(other),
        None => site.origin.as_ref(),
    }
}

/// Sends the browser to another URL, with the query that it came with.
pub(super) fn moved(to: &str, status: u16, query: Option<&str>) -> Answer {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FOUND);
    let bare = query.and_then(without_token);
    let query = bare.as_deref().or(query).filter(|query| !query.is_empty());
    let target = match query {
        Some(query) if to.contains('?') => format!("{to}&{query}"),
        Some(query) => format!("{to}?{query}"),
        None => to.to_owned(),
    };
    Answer::empty(status)
        .with(header::LOCATION, target)
        .with(header::CACHE_CONTROL, "private, no-store")
}
