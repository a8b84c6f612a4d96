//! What becomes of a request whose upstream fails.

use http::{StatusCode, header};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorSource, ErrorType};

use super::answer::Answer;
use super::context::{Context, Way};
use super::raw_request::RawRequest;
use crate::decide::Target;
use crate::site::normal_path;

/// Gives a chosen page that has failed up for the one that everybody gets.
pub(super) fn falls_back(context: &mut Context) -> bool {
    let Way::Page(page) = &mut context.way else { return false };
    let falls = page.fall_back();
    if let (true, Some(site)) = (falls, &context.site) {
        site.metrics.fallbacks.inc();
    }
    falls
}

/// Follows a chosen page to where it has moved, once: the URL that the visitor sees stays. Whether it does.
pub(super) fn follows(context: &mut Context, response: &ResponseHeader) -> bool {
    let hosts = context.site.as_ref().map(|site| {
        let own = site.origin_host.as_deref().unwrap_or_default().to_owned();
        [context.authority.as_str().to_owned(), own]
    });
    let Way::Page(page) = &mut context.way else { return false };
    let first = page.safe && page.followed.is_none();
    if !first || !matches!(page.target(), Some(Target::Other { .. })) {
        return false;
    }
    let location = response.headers.get(header::LOCATION).and_then(|to| to.to_str().ok());
    let target = location.and_then(|to| same_host(to, hosts.as_ref()?));
    page.followed = target;
    page.followed.is_some()
}

/// Path and query of a URL that leads to one of `hosts`, where it leads to a page at all.
fn same_host(location: &str, hosts: &[String; 2]) -> Option<Box<str>> {
    let uri: http::Uri = location.parse().ok()?;
    let known = uri.authority().is_none_or(|authority| {
        hosts.iter().any(|host| host.eq_ignore_ascii_case(authority.as_str()))
    });
    let target = uri.path_and_query()?.as_str();
    let leads =
        target.starts_with('/') && !target.starts_with("//") && normal_path(uri.path()).is_some();
    (known && leads).then(|| target.into())
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
