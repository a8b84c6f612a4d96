//! What becomes of a request whose upstream fails.

use http::StatusCode;
use pingora::{Error, ErrorSource, ErrorType};

use super::answer::Answer;
use super::context::{Context, Way};
use super::raw_request::RawRequest;

/// Gives a chosen page that has failed up for the one that everybody gets.
pub(super) fn falls_back(context: &mut Context) -> bool {
    let Way::Page(page) = &mut context.way else { return false };
    let falls = page.fall_back();
    if let (true, Some(site)) = (falls, &context.site) {
        site.metrics.fallbacks.inc();
    }
    falls
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
