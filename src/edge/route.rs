//! What serves a request: its site, its route, and for a page all decisions. Routes of the edge's own are
//! answered here.

use std::sync::Arc;

use http::{StatusCode, header};
use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;

use super::Edge;
use super::answer::Answer;
use super::asset_name::FileHost;
use super::context::{AssetWay, Context, Page, Way};
use super::form::Form;
use super::page;
use super::target::Authority;
use crate::decide::{Consent, Target};
use crate::site::{Route, normal_path};
use crate::telemetry::{Personalization, RouteName};

impl Edge {
    /// Where a request that came over a plain listener is sent instead, if it is.
    fn https_target(session: &Session, context: &Context) -> Option<String> {
        let ports = &context.snapshot.redirect_ports;
        if context.client.secure || ports.is_empty() {
            return None;
        }
        let port = session.server_addr()?.as_inet()?.port();
        if !ports.contains(&port) {
            return None;
        }
        let target = session.req_header().uri.path_and_query();
        Some(format!(
            "https://{}{}",
            context.authority.host(),
            target.map_or("/", http::uri::PathAndQuery::as_str)
        ))
    }

    /// Leads a request on its way. `true` where it has been answered here.
    pub(super) async fn route(&self, session: &mut Session, context: &mut Context) -> Result<bool> {
        let Some(authority) = Authority::of(session.req_header()) else {
            context.refused = Some("host");
            return Err(Error::explain(ErrorType::HTTPStatus(400), "Host is malformed"));
        };
        context.authority = authority;
        let Some(site) = context.snapshot.sites.find(context.authority.host()).cloned() else {
            return Box::pin(unknown_host().send(session)).await;
        };
        context.site = Some(Arc::clone(&site));
        if let Some(target) = Self::https_target(session, context) {
            let moved = Answer::empty(StatusCode::PERMANENT_REDIRECT);
            return Box::pin(moved.with(header::LOCATION, target).send(session)).await;
        }
        let Some(path) = normal_path(session.req_header().uri.path()) else {
            context.refused = Some("target");
            return Err(Error::explain(ErrorType::HTTPStatus(400), "the path leads nowhere"));
        };
        let route = Route::of(&site, &path);
        context.route = name_of(&route);
        match route {
            Route::Page => {
                let mut page = Box::new(Page::of(session, &site, &path, &self.deciders));
                let decides = page.concerned.personal || page::is_previewed(&site, session);
                if decides || (page.form.is_page() && !site.consent.is_empty()) {
                    page.who = Some(self.who(&site, session.req_header(), context));
                }
                page.tells_view =
                    page.form == Form::Shown && self.tells_view(session, context, &site, &mut page);
                if page.consent() == Consent::Denied {
                    page.outcome = Some(Personalization::Denied);
                } else if decides {
                    let of_data = page.data.map(|_| page.path.clone());
                    let about = of_data.as_deref().unwrap_or(&path);
                    Box::pin(self.decide(session, &site, about, &mut page, context)).await;
                    // Of data no framework could read the page that a redirect leads to.
                    if let (Some(Target::Elsewhere { to, status }), None) =
                        (page.target(), page.data)
                    {
                        let moved = page::moved(to, *status, session.req_header().uri.query());
                        site.metrics.page(Personalization::Personalized);
                        return Box::pin(moved.send(session)).await;
                    }
                } else if page.form.is_document() && site.check.is_some() {
                    // No rule asks who it is, but the snippet says so.
                    Box::pin(self.check_page(session, &site, &mut page, context)).await;
                }
                context.way = Way::Page(page);
                Ok(false)
            }
            Route::Asset(asset) => {
                let request = session.req_header();
                if !matches!(request.method, http::Method::GET | http::Method::HEAD) {
                    return Box::pin(only_get().send(session)).await;
                }
                if !site.consent.is_empty()
                    && self.who(&site, request, context).consent == Consent::Denied
                {
                    return Box::pin(Answer::empty(StatusCode::NO_CONTENT).send(session)).await;
                }
                let listens = session.server_addr().and_then(|at| Some(at.as_inet()?.port()));
                let secure = context.client.scheme() == "https";
                let host = FileHost::of(&context.authority, &site, secure, listens);
                let mut way = Box::new(AssetWay::new(asset, request, host));
                if site.origin.is_none() && way.file.is_sdk() {
                    Box::pin(self.lead(session, context, &site, &mut way)).await;
                }
                context.way = Way::Asset(way);
                // A body that nobody reads must not be taken for the next request.
                if !session.as_downstream_mut().is_body_empty() {
                    session.set_keepalive(None);
                }
                Ok(false)
            }
            // Boxed: what a page's request takes must not be as large as the largest of these.
            Route::Event(vendor, kind) => {
                Box::pin(self.event(session, context, &site, vendor, kind)).await
            }
            Route::Webhook => {
                let caller = context.client.address;
                Box::pin(self.webhook(session, &site, caller)).await
            }
            Route::Snippet => Box::pin(self.snippet(session, context, &site)).await,
            Route::Keep => Box::pin(keep_script().send(session)).await,
            Route::Traits => Box::pin(self.traits(session, context, &site)).await,
            Route::Reset => Box::pin(self.reset(session, context, &site)).await,
            Route::Seen => Box::pin(self.page_is_seen(session, context, &site)).await,
            Route::Cookies => Box::pin(self.cookies(session, context, &site)).await,
            Route::Generic => {
                let below = site.prefix.below(&path).unwrap_or_default().to_owned();
                Box::pin(self.generic(session, context, &site, &below)).await
            }
            Route::Nothing => Box::pin(nothing().send(session)).await,
        }
    }
}

fn unknown_host() -> Answer {
    let why = "no site of this node has this host";
    Answer::error(StatusCode::MISDIRECTED_REQUEST, "unknown_host", why)
}

/// The same for everybody.
fn keep_script() -> Answer {
    Answer::new(StatusCode::OK, "text/javascript; charset=utf-8", crate::html::keep_script())
        .with_caching("public, max-age=300")
}

fn nothing() -> Answer {
    Answer::error(StatusCode::NOT_FOUND, "not_found", "no such route")
}

fn only_get() -> Answer {
    Answer::error(StatusCode::METHOD_NOT_ALLOWED, "method", "not with this method")
        .with(header::ALLOW, "GET, HEAD")
}

/// How metrics and the log call it.
fn name_of(route: &Route) -> RouteName {
    match route {
        Route::Page => RouteName::Page,
        Route::Asset(_) => RouteName::Asset,
        Route::Event(..) | Route::Generic => RouteName::Event,
        Route::Webhook => RouteName::Webhook,
        Route::Snippet
        | Route::Keep
        | Route::Traits
        | Route::Reset
        | Route::Seen
        | Route::Cookies => RouteName::Visitor,
        Route::Nothing => RouteName::Other,
    }
}
