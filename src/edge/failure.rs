//! What becomes of a request whose upstream fails.

use http::{StatusCode, header};
use pingora::http::ResponseHeader;
use pingora::{BError, Error, ErrorSource, ErrorType, ImmutStr};
use pingora_proxy::Session;

use super::answer::Answer;
use super::confirm::{Said, said_by_origin};
use super::context::Page;
use super::context::{Context, Way};
use super::page::host_asked;
use super::raw_request::RawRequest;
use super::response::{cookie_lines, ends_user};
use crate::decide::Target;
use crate::site::{Route, Site, normal_path};
use crate::telemetry::Personalization;

/// The page that was chosen for the visitor could not be had.
pub(super) const FELL_BACK: &str = "chosen page failed";
/// The page that was chosen for the visitor stands elsewhere by now.
pub(super) const FOLLOWED: &str = "chosen page moved";

/// The status of the answer that the visitor has begun to get: what goes ahead of it (RFC 9110, 15.2) is none.
pub(super) fn answer_written(session: &Session) -> Option<StatusCode> {
    let status = session.response_written()?.status;
    let ahead = status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS;
    (!ahead).then_some(status)
}

/// Whether the visitor has begun to get an answer.
pub(super) fn has_answer(session: &Session) -> bool {
    answer_written(session).is_some()
}

/// Whether the request goes out again, and why: the page that was chosen has moved, or failed. What its answer has said
/// of the visitor comes with the last one.
pub(super) fn asks_again(
    context: &mut Context,
    site: &Site,
    response: &mut ResponseHeader,
) -> Option<&'static str> {
    let status = response.status;
    let moved = status.is_redirection() && status != StatusCode::NOT_MODIFIED;
    let failed = status == StatusCode::NOT_FOUND || status.is_server_error();
    let Way::Page(page) = &mut context.way else { return None };
    if !(moved || failed) || !matches!(page.target(), Some(Target::Other { .. })) {
        return None;
    }
    let other = remember_said(page, site, response);
    let why = if moved && !other && follows(context, response) {
        FOLLOWED
    } else if falls_back(context) {
        FELL_BACK
    } else {
        return None;
    };
    if let Way::Page(page) = &mut context.way {
        page.brought.extend(cookie_lines(response));
        if let (true, Some(decision)) = (other, &mut page.decision) {
            // It was decided for somebody else.
            decision.without_visitor();
        }
    }
    Some(why)
}

/// Keeps what the answer says of the visitor. Whether that is another one than the page was chosen for.
fn remember_said(page: &mut Page, site: &Site, response: &mut ResponseHeader) -> bool {
    let ends = site.identity.server_side_cookies && ends_user(site, &cookie_lines(response));
    let said = said_by_origin(site, response).or(ends.then_some(Said::Nobody));
    let other = match &said {
        Some(Said::User(user)) => page.known.user() != Some(user),
        Some(Said::Nobody) => page.known.user().is_some(),
        None => false,
    };
    if page.said != Some(Said::Nobody) {
        page.said = said.or(page.said.take());
    }
    other
}

/// Gives a chosen page that has failed up for the one that everybody gets.
pub(super) fn falls_back(context: &mut Context) -> bool {
    let Way::Page(page) = &mut context.way else { return false };
    let falls = page.fall_back();
    if falls {
        page.outcome = Some(Personalization::FellBack);
    }
    if let (true, Some(site)) = (falls, &context.site) {
        site.metrics.fallbacks.inc();
    }
    falls
}

/// Follows a chosen page to where it has moved for good, once: the URL that the visitor sees stays. Whether it does.
/// What leads elsewhere for now, such as to a login, is no page to show in its place.
fn follows(context: &mut Context, response: &ResponseHeader) -> bool {
    let for_good = [StatusCode::MOVED_PERMANENTLY, StatusCode::PERMANENT_REDIRECT];
    let Some(site) = context.site.clone() else { return false };
    let Way::Page(page) = &mut context.way else { return false };
    let Some(Target::Other { own_links, .. }) = page.target() else { return false };
    let (own_links, first) = (*own_links, page.safe && page.followed.is_none());
    if !first || !for_good.contains(&response.status) {
        return false;
    }
    let asked = host_asked(page, &site).unwrap_or_else(|| context.authority.as_str().into());
    let hosts = match page.other_origin() {
        Some(_) => vec![&*asked],
        None => vec![&*asked, context.authority.as_str()],
    };
    let location = response.headers.get(header::LOCATION).and_then(|to| to.to_str().ok());
    let Some(target) = location.and_then(|to| on_hosts(to, &hosts, &site)) else { return false };
    if let (true, Some(decision)) = (own_links, &mut page.decision) {
        let path = target.split('?').next().unwrap_or_default();
        decision.link_from(path, &page.path);
    }
    page.followed = Some(target.into());
    true
}

/// Path and query of a URL that leads to a page on one of `hosts`, and to none of our own routes.
fn on_hosts(location: &str, hosts: &[&str], site: &Site) -> Option<String> {
    let uri: http::Uri = location.parse().ok()?;
    let known = uri
        .authority()
        .is_none_or(|to| hosts.iter().any(|host| host.eq_ignore_ascii_case(to.as_str())));
    let target = uri.path_and_query()?.as_str();
    let path = normal_path(uri.path())?;
    let leads = target.starts_with('/') && !target.starts_with("//");
    (known && leads && matches!(Route::of(site, &path), Route::Page)).then(|| target.to_owned())
}

/// The status for an error: 0 when the client is gone.
pub(super) fn failure_status(error: &Error, context: &Context) -> u16 {
    if context.raw.as_ref().is_some_and(RawRequest::is_broken) {
        // The stream ended with it; the client is still there.
        return 400;
    }
    match (error.etype(), error.esource()) {
        (ErrorType::HTTPStatus(code), _) => *code,
        (
            ErrorType::ConnectTimedout
            | ErrorType::ReadTimedout
            | ErrorType::WriteTimedout
            | ErrorType::TLSHandshakeTimedout,
            ErrorSource::Upstream,
        ) => 504,
        (_, ErrorSource::Upstream) => 502,
        (
            ErrorType::WriteError
            | ErrorType::ReadError
            | ErrorType::ConnectionClosed
            | ErrorType::WriteTimedout,
            ErrorSource::Downstream,
        ) => 0,
        (ErrorType::ReadTimedout, ErrorSource::Downstream) => 408,
        (_, ErrorSource::Downstream) => 400,
        (_, ErrorSource::Internal | ErrorSource::Unset) => 500,
    }
}

/// What the first of an error's causes says.
pub(super) fn said(error: &Error) -> Option<&str> {
    let first = error.cause.as_ref().and_then(|cause| cause.downcast_ref::<BError>());
    first.and_then(|first| said(first)).or_else(|| error.context.as_ref().map(ImmutStr::as_str))
}

/// What a program reads of a failure: of a request that was refused, what is wrong with it. What is wrong with an
/// upstream is the operator's to know.
pub(super) fn failure_answer(status: StatusCode, error: &Error, context: &Context) -> Answer {
    match (context.refused, status) {
        (Some(rule), _) => {
            let is_own = matches!(error.etype(), ErrorType::HTTPStatus(_));
            let said = Some(error).filter(|_| is_own).and_then(said);
            Answer::error(status, rule, said.unwrap_or("the request is malformed"))
        }
        (None, StatusCode::SERVICE_UNAVAILABLE) => {
            let why = "there is no room for this at the moment";
            Answer::error(status, "try_again", why).with(header::RETRY_AFTER, "1")
        }
        (None, _) => {
            let reason = status.canonical_reason().unwrap_or("failed");
            Answer::error(status, "failed", reason)
        }
    }
}

/// The page for a status.
pub(super) fn error_page(status: StatusCode) -> Answer {
    let reason = status.canonical_reason().unwrap_or("Error");
    let code = status.as_u16();
    Answer::new(
        status,
        "text/html; charset=utf-8",
        format!(
            "<!doctype html><html lang=en><meta charset=utf-8><title>{code} {reason}</title>\
             <h1>{code} {reason}</h1><p>The page can't be shown at the moment. Please try again.</html>\n"
        ),
    )
}
