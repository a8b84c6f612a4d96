//! The way of a request through Pingora's hooks, in their order.
//! `edge` knows every other room; none knows it.

mod answer;
mod asset;
mod asset_name;
mod callers;
mod chunks;
mod claims;
mod client;
mod confirm;
mod consent;
mod context;
mod deadline;
mod decide;
mod event;
mod exposure;
mod failure;
mod fetches;
mod form;
mod generic;
mod limits;
mod odd_origin;
mod origin_connection;
mod pace;
mod page;
mod page_body;
mod page_view;
mod preview;
mod raw_request;
mod record;
mod response;
mod route;
mod session_check;
mod settle;
mod source;
mod strict;
mod target;
mod unread;
mod upgrade;
mod visitor;
mod webhook;
mod who;

use std::any::Any;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use http::{StatusCode, Version, header};
use pingora::cache::{CacheKey, RespCacheable};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};
use pingora_proxy::Session;
use tokio::sync::Semaphore;

use crate::cache::Cache;
use crate::collect::Outbox;
use crate::config::Snapshot;
use crate::decide::Decide;
use crate::geo::Geo;
use crate::html::Plans;
use crate::profile::Resolver;
use crate::site::{Sdk, Site};
use crate::telemetry::RouteName;
use crate::telemetry::metrics::REJECTED;
use crate::upstream::{Client, Upstream};

pub(crate) use limits::household;
#[cfg(test)]
pub(crate) use pace::LOOK;
pub(crate) use pace::Pace;
pub use raw_request::{BadBody, Due, RawRequest};
pub use strict::MAX_HEAD_BYTES;
pub use strict::count_unread;

use context::{AssetWay, Context, Way};
use failure::{
    FELL_BACK, FOLLOWED, answer_written, asks_again, error_page, failure_answer, failure_status,
    falls_back, has_answer,
};
use origin_connection::{hold_back, is_idle};
use record::write_record;
use upgrade::{ignore_offers, is_offered, stays};

/// Doorstep as a part of a Pingora server.
pub struct Edge {
    snapshot: Arc<ArcSwap<Snapshot>>,
    profiles: Arc<Resolver>,
    outbox: Arc<Outbox>,
    cache: Arc<Cache>,
    plans: Plans,
    geo: Arc<Geo>,
    limits: limits::Limits,
    fetches: fetches::Fetches,
    callers: callers::Callers,
    /// Room for pushed profiles on their way to the store.
    pushing: Semaphore,
    /// Calls in line.
    client: Client,
    /// Who sessions of sites belong to.
    sessions: session_check::Sessions,
    /// Who has seen which variant.
    seen: exposure::Seen,
    /// What visitors have not read.
    unread: Arc<unread::Unread>,
    deciders: Vec<Arc<dyn Decide>>,
    leaving: Arc<AtomicBool>,
}

/// The error by which an idle connection to the origin is left.
const NOT_IDLE: &str = "idle connection has ended";
/// Idle connections of browsers are kept that long, in seconds.
const KEEPALIVE_SECONDS: u64 = 60;
/// How long a client may take over HTTP/2 for a piece of an answer, which has 64 KiB: 500 bytes a second, and some time.
const WRITE_TIMEOUT: Duration = Duration::from_secs(150);
/// The longest pause of a client while it sends.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// What a client still sends after its answer is read for that long.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

impl Edge {
    /// An edge with these stores. Once `leaving` is set, every answer closes its connection, so
    /// that clients go over to the next process.
    #[must_use]
    pub fn new(
        snapshot: Arc<ArcSwap<Snapshot>>,
        profiles: Arc<Resolver>,
        outbox: Arc<Outbox>,
        cache: Arc<Cache>,
        geo: Arc<Geo>,
        leaving: Arc<AtomicBool>,
    ) -> Self {
        let (plans, limits) = (Plans::default(), limits::Limits::default());
        let (callers, pushing) = (callers::Callers::default(), Semaphore::new(webhook::PUSHING));
        let (fetches, client) = (fetches::Fetches::default(), Client::default());
        let (sessions, seen) = (session_check::Sessions::default(), exposure::Seen::default());
        let (unread, deciders) = (Arc::default(), Vec::new());
        Self {
            snapshot,
            profiles,
            outbox,
            cache,
            plans,
            geo,
            limits,
            fetches,
            callers,
            pushing,
            client,
            sessions,
            seen,
            unread,
            deciders,
            leaving,
        }
    }

    /// Lets `decider` change what the rules of the configuration decide, after them. Several are asked in
    /// the order that they were added.
    #[must_use]
    pub fn with_decider(mut self, decider: Arc<dyn Decide>) -> Self {
        self.deciders.push(decider);
        self
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Room for what the visitor will not have read of the answer.
    fn begin_answer(&self, context: &mut Context, response: &ResponseHeader) -> Result<()> {
        // An earlier one has been given up.
        context.unread = None;
        let length = response.headers.get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let bounds = context.snapshot.unread;
        let held = self.unread.begin(bounds, context.client.network(), length);
        context.unread = Some(Box::new(held.or_else(unread::refuse)?));
        Ok(())
    }
}

#[async_trait]
impl ProxyHttp for Edge {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context::new(self.snapshot())
    }

    /// None: pages are compressed here as they stream ([`crate::html::Coding`]), and Pingora's own
    /// compression would be asked about each request, though it is off.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    /// What the connection's stream sees of its requests, where it looks ([`RawRequest`]).
    fn on_connection_reuse(
        &self,
        _: &mut Session,
        context: &mut Context,
        raw: Box<dyn Any + Send + Sync>,
    ) {
        context.raw = raw.downcast::<RawRequest>().ok().map(|raw| *raw);
    }

    /// Limits of the connection, and whether the request can be served at all.
    async fn early_request_filter(
        &self,
        session: &mut Session,
        context: &mut Context,
    ) -> Result<()> {
        context.background = session.subrequest_ctx.is_some();
        context.client =
            client::Client::of(session.as_downstream(), &context.snapshot.trusted_proxies);
        context.id = context::request_id();
        if context.background {
            return Ok(());
        }
        ignore_offers(session.req_header_mut())?;
        if let Some(host) = context.raw.as_ref().and_then(RawRequest::host) {
            // RFC 9112, 3.2.2.
            session.req_header_mut().insert_header(header::HOST, &*host)?;
        }
        if session.req_header().version == Version::HTTP_10 {
            // It knows neither (RFC 9110, 15.2 and 10.1.1).
            session.set_ignore_info_resp(true);
            session.req_header_mut().remove_header(&header::EXPECT);
        }
        let leaving = self.leaving.load(Ordering::Relaxed);
        let stays = !leaving && stays(session.req_header());
        session.set_keepalive(stays.then_some(KEEPALIVE_SECONDS));
        // Over HTTP/1 the connection sees to it: see `Pace`.
        let streams = session.is_http2();
        session.set_write_timeout(streams.then_some(WRITE_TIMEOUT));
        // In a tunnel either side may be silent; the origin's own pause bounds it.
        let tunnel = session.req_header().headers.contains_key(header::UPGRADE);
        session.set_read_timeout((!tunnel).then_some(READ_TIMEOUT));
        session.set_total_drain_timeout(Some(DRAIN_TIMEOUT));
        if tunnel && context.raw.as_ref().is_some_and(RawRequest::is_followed) {
            // What it would be depends on who agrees.
            session.set_keepalive(None);
        }
        if let Err(malformed) = strict::check(session.as_downstream(), context.raw.as_ref()) {
            REJECTED.with_label_values(&[malformed.label()]).inc();
            context.refused = Some(malformed.label());
            session.set_keepalive(None);
            if let Some(raw) = &context.raw {
                // What comes behind it is nobody's, and nothing is waited for.
                raw.expect_all();
            }
            return Error::e_explain(
                ErrorType::HTTPStatus(malformed.status()),
                malformed.to_string(),
            );
        }
        Ok(())
    }

    /// Only an old SDK file is renewed in the background.
    fn allow_spawning_subrequest(&self, session: &Session, context: &Context) -> bool {
        session.subrequest_ctx.is_none() && !context.background
    }

    /// Site, route and all decisions. Routes of our own are answered here.
    async fn request_filter(&self, session: &mut Session, context: &mut Context) -> Result<bool> {
        let answered = self.route(session, context).await;
        let now = Instant::now();
        context.added = now.saturating_duration_since(context.started);
        // A page's origin is asked at once.
        context.asked = matches!(context.way, Way::Page(_)).then_some(now);
        answered
    }

    fn request_cache_filter(&self, session: &mut Session, context: &mut Context) -> Result<()> {
        if matches!(context.way, Way::Asset(_)) {
            self.cache.enable(&mut session.cache);
            // Pingora writes this request down as HTTP/1 and reads it again, to renew an old file.
            if session.is_http2() {
                let host = context.authority.as_str();
                let request = session.req_header_mut();
                request.set_version(Version::HTTP_11);
                request.insert_header(header::HOST, host)?;
            }
        }
        Ok(())
    }

    fn cache_key_callback(&self, _: &Session, context: &mut Context) -> Result<CacheKey> {
        match (&context.way, &context.site) {
            (Way::Asset(way), Some(site)) => Ok(way.key(context, site, sdk(way, site)?)),
            _ => Error::e_explain(ErrorType::InternalError, "only SDK files are cached"),
        }
    }

    /// The SDK's files are small and immutable or short-lived: parts of them are not served.
    fn range_header_filter(
        &self,
        _: &mut Session,
        _: &mut ResponseHeader,
        _: &mut Context,
    ) -> pingora::proxy::RangeType {
        pingora::proxy::RangeType::None
    }

    /// Origin or vendor, at the next of its addresses.
    async fn upstream_peer(
        &self,
        session: &mut Session,
        context: &mut Context,
    ) -> Result<Box<HttpPeer>> {
        if let (Way::Asset(way), Some(site)) = (&mut context.way, &context.site)
            && way.fetching.is_none()
        {
            let slots = &sdk(way, site)?.fetches;
            let client = (!context.background).then_some(context.client.address).flatten();
            let room = self.fetches.enter(&site.name, slots, client).await.ok_or_else(|| {
                Error::explain(ErrorType::HTTPStatus(503), "too many files are fetched").into_up()
            })?;
            way.fetching = Some(room);
        }
        if matches!(context.way, Way::Page(_)) {
            let (bounds, network) = (context.snapshot.unread, context.client.network());
            self.unread.admit(bounds, network).or_else(unread::refuse)?;
        }
        let upstream = upstream(context).ok_or_else(|| {
            Error::explain(ErrorType::InternalError, "there is no server to ask for this")
        })?;
        let mut peer = upstream.peer().ok_or_else(|| {
            let name = upstream.endpoint().host();
            Error::explain(ErrorType::HTTPStatus(502), format!("`{name}` could not be resolved"))
                .into_up()
        })?;
        context.bridged = odd_origin::bridge(session, context, upstream, &mut peer);
        context.asked = context.asked.or_else(|| Some(Instant::now()));
        Ok(peer)
    }

    /// Another address of the same upstream, if it has one.
    fn fail_to_connect(
        &self,
        _: &mut Session,
        peer: &HttpPeer,
        context: &mut Context,
        mut error: Box<Error>,
    ) -> Box<Error> {
        context.failed_connects += 1;
        context.asked = None;
        let addresses = upstream(context).map_or(0, |upstream| {
            upstream.failed(peer);
            upstream.addresses()
        });
        if context.failed_connects < addresses.min(3) {
            error.set_retry(true);
        } else if falls_back(context) {
            context.failed_connects = 0;
            error.set_retry(true);
        }
        error
    }

    /// Pingora's own rule, and the page that everybody gets where the chosen one fails.
    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        context: &mut Context,
        client_reused: bool,
    ) -> Box<Error> {
        let mut error = error.more_context(format!("Peer: {peer}"));
        context.asked = None;
        let late = context.origin.is_late();
        context.origin.leave();
        let truncated = session.as_ref().retry_buffer_truncated();
        if matches!(error.etype(), ErrorType::Custom(NOT_IDLE)) {
            return error;
        }
        if !truncated
            && odd_origin::goes_again(session, context, upstream(context).map(Arc::as_ref), &error)
        {
            error.set_retry(true);
            return error;
        }
        if late && !truncated && !has_answer(session) && falls_back(context) {
            error.set_retry(true);
            return error;
        }
        if truncated || !session.req_header().method.is_idempotent() {
            error.set_retry(false);
        } else {
            error.retry.decide_reuse(client_reused);
            let again =
                *error.esource() == ErrorSource::Upstream && !error.retry() && !has_answer(session);
            if matches!(error.etype(), ErrorType::Custom(FELL_BACK | FOLLOWED))
                || (again && falls_back(context))
            {
                error.set_retry(true);
            }
        }
        error
    }

    /// The address is well. The connection is a page's alone: what comes from a cache is not on it any more.
    async fn connected_to_upstream(
        &self,
        session: &mut Session,
        reused: bool,
        peer: &HttpPeer,
        socket: RawFd,
        _: Option<&Digest>,
        context: &mut Context,
    ) -> Result<()> {
        if reused && !is_idle(socket, peer.is_tls()) {
            // Nothing of the request has gone: another connection takes it.
            let mut error = Error::new_up(ErrorType::Custom(NOT_IDLE));
            error.set_retry(true);
            return Err(error);
        }
        if !reused && let Some(upstream) = upstream(context) {
            upstream.worked(peer);
        }
        if session.as_downstream().is_upgrade_req() {
            // Without descriptors for it the tunnel is as good as Pingora's own.
            let _ = hold_back(socket);
        }
        if let Way::Page(page) = &context.way {
            let within = upstream(context).filter(|_| page.can_fall_back());
            context.origin.open(socket, within.map(|upstream| upstream.fallback_after()));
        }
        Ok(())
    }

    /// A last piece without bytes is none: Pingora would write the chunk that ends the body for it, and once
    /// more for the end. An SDK file is asked for without the visitor's body.
    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        context: &mut Context,
    ) -> Result<()> {
        let bytes = body.as_ref().map_or(0, Bytes::len);
        let more = bytes > 0 && !end && !session.was_upgraded();
        if more && context.origin.is_too_slow(bytes, context.started) {
            let why = "the body comes too slowly";
            return Error::e_explain(ErrorType::HTTPStatus(408), why).map_err(Error::into_down);
        }
        if end {
            context.origin.request_ended();
            if body.as_ref().is_some_and(Bytes::is_empty) {
                *body = None;
            }
        }
        if matches!(context.way, Way::Asset(_)) && body.is_some() {
            *body = (!end).then(Bytes::new);
        }
        Ok(())
    }

    /// What the upstream is asked.
    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        context: &mut Context,
    ) -> Result<()> {
        let Some(site) = context.site.clone() else { return Ok(()) };
        match &context.way {
            Way::Page(page) => {
                if session.as_downstream().is_http2() {
                    page::join_cookies(request)?;
                }
                page::to_origin(context, page, &site, request)
            }
            Way::Asset(way) => asset::to_cdn(way, sdk(way, &site)?, request),
            Way::Here => Ok(()),
        }
    }

    /// Before the cache: nothing of a visitor.
    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        context: &mut Context,
    ) -> Result<()> {
        let Some(site) = context.site.clone() else { return Ok(()) };
        let status = response.status;
        if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
            // What comes before the answer (103) is no answer yet.
            return Ok(());
        }
        let agreed = || {
            let asks = session.as_downstream().is_upgrade_req();
            asks && is_offered(session.req_header(), response)
        };
        if status == StatusCode::SWITCHING_PROTOCOLS && !agreed() {
            let why = "the origin changes the protocol, and nobody asked for that";
            return Error::e_explain(ErrorType::HTTPStatus(502), why).map_err(Error::into_up);
        }
        if !response::framed_plainly(response)? {
            let why = "the origin frames its answer in a way that can be read in two";
            return Error::e_explain(ErrorType::HTTPStatus(502), why).map_err(Error::into_up);
        }
        if let (StatusCode::SWITCHING_PROTOCOLS, Some(raw)) = (status, &context.raw) {
            raw.expect_all();
        }
        if !context.origin.begin_answer() {
            // It has begun too late, and its connection ends: nothing of it is passed on.
            return Err(Error::new_up(ErrorType::ReadTimedout));
        }
        let now = Instant::now();
        context.answered = Some(now);
        if let Some(asked) = context.asked.take() {
            let seconds = now.saturating_duration_since(asked).as_secs_f64();
            match &context.way {
                Way::Asset(_) => site.metrics.cdn.observe(seconds),
                _ => site.metrics.origin.observe(seconds),
            }
        }
        // Nothing has been sent: the request can go out again.
        if let Some(why) = asks_again(context, &site, response) {
            let told = "the chosen page has moved, or failed";
            return Error::e_explain(ErrorType::Custom(why), told).map_err(Error::into_up);
        }
        match &mut context.way {
            Way::Asset(way) => asset::from_cdn(way, &site, response),
            _ => Ok(()),
        }
    }

    fn upstream_response_body_filter(
        &self,
        _: &mut Session,
        chunk: &mut Option<Bytes>,
        end: bool,
        context: &mut Context,
    ) -> Result<Option<Duration>> {
        if !matches!(context.way, Way::Asset(_)) {
            return Ok(None);
        }
        let Some(site) = context.site.clone() else { return Ok(None) };
        let Way::Asset(mut way) = std::mem::replace(&mut context.way, Way::Here) else {
            return Ok(None);
        };
        let sdk = sdk(&way, &site)?;
        let done = asset::body(context, &mut way, &site, sdk, chunk, end);
        context.way = Way::Asset(way);
        done.map(|()| None)
    }

    fn response_cache_filter(
        &self,
        _: &Session,
        response: &ResponseHeader,
        _: &mut Context,
    ) -> Result<RespCacheable> {
        Ok(asset::cacheable(response))
    }

    /// An old SDK file is served while a new one is fetched, and when the CDN fails.
    fn should_serve_stale(&self, _: &mut Session, _: &mut Context, error: Option<&Error>) -> bool {
        error.is_none_or(|error| error.esource() == &ErrorSource::Upstream)
    }

    /// Behind the cache: what belongs to this visitor.
    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        context: &mut Context,
    ) -> Result<()> {
        if response.status.is_informational() {
            response::drop_own(response);
            return Ok(());
        }
        let has_no_body = response::has_no_body(&session.req_header().method, response);
        if !has_no_body && !context.background {
            self.begin_answer(context, response)?;
        }
        match &mut context.way {
            Way::Page(_) => {
                context.origin.answer_began();
                if has_no_body {
                    context.origin.answer_ended();
                }
                self.to_visitor(session, context, response)?;
            }
            Way::Asset(way) => asset::to_visitor(way, response)?,
            Way::Here => {}
        }
        if session.req_header().version == Version::HTTP_10
            && response.headers.contains_key(header::TRANSFER_ENCODING)
        {
            // Such a client knows no chunks (RFC 9112, 6.1): the end of the connection is the end of the body.
            response.remove_header(&header::TRANSFER_ENCODING);
            session.set_keepalive(None);
        }
        Ok(())
    }

    fn response_body_filter(
        &self,
        _: &mut Session,
        chunk: &mut Option<Bytes>,
        end: bool,
        context: &mut Context,
    ) -> Result<Option<Duration>> {
        if let (Some(held), Some(piece)) = (&mut context.unread, &chunk) {
            held.piece(piece.len()).or_else(unread::refuse)?;
        }
        match &mut context.way {
            Way::Asset(way) => asset::make(way, chunk, end),
            _ => {
                if end {
                    context.origin.answer_ended();
                }
                page_body::body(context, &self.plans, chunk, end)?;
            }
        }
        Ok(None)
    }

    /// What the visitor gets when nothing else can be had.
    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        context: &mut Context,
    ) -> FailToProxy {
        let code = failure_status(error, context);
        if context.raw.as_ref().is_some_and(RawRequest::is_broken) {
            let label = strict::Malformed::Chunk.label();
            REJECTED.with_label_values(&[label]).inc();
            context.refused = Some(label);
        }
        if code == 0 || has_answer(session) {
            return FailToProxy { error_code: code, can_reuse_downstream: false };
        }
        let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        session.set_keepalive(None);
        let answer = match context.route {
            RouteName::Page if context.refused.is_none() => error_page(status),
            _ => failure_answer(status, error, context),
        };
        // The client may be gone: then there is nobody to tell.
        let _ = answer.send(session).await;
        FailToProxy { error_code: code, can_reuse_downstream: false }
    }

    fn suppress_error_log(&self, _: &Session, _: &Context, _: &Error) -> bool {
        true
    }

    /// One record, and the counters.
    async fn logging(&self, session: &mut Session, error: Option<&Error>, context: &mut Context) {
        context.finish();
        if context.background {
            return;
        }
        let status = answer_written(session);
        let code = status.map_or_else(
            || error.map_or(0, |error| failure_status(error, context)),
            |status| status.as_u16(),
        );
        if let Some(site) = &context.site {
            let counted = status.or_else(|| StatusCode::from_u16(code).ok());
            // 499, as nginx says it: the client left before it had an answer.
            let counted = counted.or_else(|| StatusCode::from_u16(499).ok()).unwrap_or_default();
            site.metrics.request(context.route, counted, context.started.elapsed().as_secs_f64());
            if let Way::Page(page) = &context.way
                && let Some(view) = &page.view
                && error.is_none()
            {
                self.tell_view(session, context, site, view, page.consent());
            }
            if let Way::Page(page) = &context.way
                && let Some(sights) = &page.sights
                && error.is_none()
            {
                self.tell_sights(session, context, site, (sights, None), page.consent());
            }
            match context.way {
                Way::Page(_) => site.metrics.added.observe(context.added.as_secs_f64()),
                Way::Asset(_) => site.metrics.lookup(asset::lookup(session.cache.phase())),
                Way::Here => {}
            }
        }
        if error.is_some() || context.snapshot.access_log.wants(code) {
            write_record(session, error, context, code);
        }
    }
}

/// Whose file is on its way.
fn sdk<'s>(way: &AssetWay, site: &'s Site) -> Result<&'s Sdk> {
    let why = "the site does not have this vendor";
    let sdk = site.sdk(way.file.vendor());
    sdk.ok_or_else(|| Error::explain(ErrorType::InternalError, why))
}

/// Who is asked for what is not served here.
fn upstream(context: &Context) -> Option<&Arc<Upstream>> {
    match (&context.way, context.site.as_deref()) {
        (Way::Asset(way), Some(site)) => Some(sdk(way, site).ok()?.source(&way.file)),
        (Way::Page(page), Some(site)) => page::origin(page, site),
        _ => None,
    }
}
