//! A vendor that is known by its rules: what a rule names goes there, kept first or in line.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use pingora::Result;
use pingora_proxy::Session;

use super::Edge;
use super::answer::{Answer, read_body};
use super::context::Context;
use super::event::{ip, not_taken, refused};
use super::limits::To;
use super::visitor::admitted;
use crate::collect::{Call as Kept, Parcel, Way};
use crate::decide::Consent;
use crate::site::Site;
use crate::telemetry::EventDrop;
use crate::upstream::Call;
use crate::vendor::{Generic, Ip, Rule};

/// A browser sends a body in one go.
const BODY_DEADLINE: Duration = Duration::from_secs(15);
/// What a vendor answers in line has at most that many bytes; more is a failure.
const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

impl Edge {
    /// Takes a request that a rule names.
    pub(super) async fn generic(
        &self,
        session: &mut Session,
        context: &Context,
        site: &Site,
        path: &str,
    ) -> Result<bool> {
        let found = site.generic.iter().find_map(|vendor| Some((vendor, vendor.rule(path)?)));
        let Some((vendor, rule)) = found else {
            let none = Answer::error(StatusCode::NOT_FOUND, "not_found", "no such route");
            return none.send(session).await;
        };
        let mut methods = rule.methods.clone();
        if methods.contains(&Method::GET) {
            methods.push(Method::HEAD);
        }
        let origin = match admitted(session, context, site, &methods) {
            Ok(origin) => origin,
            Err(answer) => return answer.send(session).await,
        };
        let answer = self.by_rule(session, context, site, vendor, rule, path).await;
        answer.with_cors(origin).send(session).await
    }

    async fn by_rule(
        &self,
        session: &mut Session,
        context: &Context,
        site: &Site,
        vendor: &Generic,
        rule: &Rule,
        path: &str,
    ) -> Answer {
        let (client, limits) = (context.client.address, context.snapshot.event_limits);
        let has_others = context.snapshot.all_sites.len() > 1;
        let to = To { site: &site.name, has_others };
        let _room = match self.limits.admit(client, to, limits) {
            Ok(room) => room,
            Err(why) => return refused(site, why).closing(),
        };
        let body = match read_body(session, rule.body, BODY_DEADLINE).await {
            Ok(body) => body,
            Err(unread) => {
                site.metrics.event_refused(unread.refusal());
                return unread.answer(rule.body);
            }
        };
        if let Err(why) = self.limits.charge(client, body.len(), limits) {
            return refused(site, why).closing();
        }
        let request = session.req_header();
        let who = self.who(site, request, context);
        let bot = self.is_true(("bots", site.bots.as_ref()), site, &who.visitor, request, context);
        // What is in it is not known, so nothing of it can be left out: less than all is nothing.
        if who.consent != Consent::Given || bot {
            site.metrics.event_dropped(if bot { EventDrop::Bot } else { EventDrop::Consent });
            return Answer::empty(StatusCode::NO_CONTENT);
        }
        let mut headers = vendor.headers.clone();
        for name in &rule.headers {
            headers.extend(request.headers.get(name).map(|value| (name.clone(), value.clone())));
        }
        if let Ip::Is(address) | Ip::Only(address) = ip(context, site, who.consent)
            && let Ok(value) = HeaderValue::try_from(address.to_string())
        {
            headers.push((X_FORWARDED_FOR, value));
        }
        let method = request.method.clone();
        let target = rule.target(path, request.uri.query());
        // What a query and headers hold is kept and sent as a body is.
        let head = headers.iter().map(|(name, value)| name.as_str().len() + value.len());
        let sender = self.limits.add(client, head.sum::<usize>() + target.len());
        if !rule.spooled {
            return self.in_line(context, vendor, method, &target, &headers, body).await;
        }
        let call = Kept { method, path: target.into(), headers };
        let parcel = Parcel { way: Way::Call(Box::new(call)), body: body.into() };
        match self.outbox.accept(&vendor.lane, &[parcel], sender).await {
            Ok(()) => {
                site.metrics.events_accepted.inc();
                Answer::empty(StatusCode::NO_CONTENT)
            }
            Err(error) => not_taken(site, &error),
        }
    }

    async fn in_line(
        &self,
        context: &Context,
        vendor: &Generic,
        method: Method,
        target: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Vec<u8>,
    ) -> Answer {
        let failed = || Answer::error(StatusCode::BAD_GATEWAY, "vendor", "the vendor failed");
        let call =
            Call { method, path: target, headers, body: body.into(), most: MAX_ANSWER_BYTES };
        let deadline = context.snapshot.vendor_timeout;
        match self.client.send(&vendor.upstream, call, deadline).await {
            // A redirect would lead the browser to the vendor.
            Ok(answer) if answer.status.is_redirection() && answer.status != 304 => failed(),
            Ok(answer) if answer.body.len() >= MAX_ANSWER_BYTES => failed(),
            Ok(answer) => {
                let told = |text: &Option<String>, other: &str| {
                    text.as_deref().unwrap_or(other).to_owned()
                };
                let kind = told(&answer.content_type, "application/octet-stream");
                let caching = told(&answer.cache_control, "private, no-store");
                Answer::new(answer.status, &kind, answer.body).with_caching(&caching)
            }
            Err(error) => {
                tracing::debug!(%error, "a vendor did not answer in line");
                failed()
            }
        }
    }
}
