//! A request in the access log.

use pingora::protocols::http::ServerSession;
use pingora::{Error, ErrorType};
use pingora_proxy::Session;

use super::context::{Context, Way};
use super::failure::said;
use crate::telemetry::{AccessLog, Personalization, Record};

pub(super) fn write_record(
    session: &Session,
    error: Option<&Error>,
    context: &Context,
    status: u16,
) {
    let downstream: &ServerSession = session.as_downstream();
    let request = downstream.req_header();
    let path = request.uri.path();
    let end = path
        .char_indices()
        .map(|(at, char)| at + char.len_utf8())
        .take_while(|end| *end <= 512)
        .last();
    let page = match &context.way {
        Way::Page(page) => Some(page),
        _ => None,
    };
    AccessLog::write(&Record {
        time: humantime::format_rfc3339_millis(std::time::SystemTime::now()).to_string(),
        site: context.site.as_ref().map_or("-", |site| &site.name),
        route: context.route.label(),
        method: request.method.as_str(),
        path: path.get(..end.unwrap_or(0)).unwrap_or_default(),
        status,
        ms: (context.started.elapsed().as_secs_f64() * 1e6).round() / 1e3,
        bytes: downstream.body_bytes_sent(),
        client: context.client.address,
        request: std::str::from_utf8(&context.id).unwrap_or_default(),
        personalization: page.and_then(|page| page.outcome).map(Personalization::label),
        stale_profile: page.is_some_and(|page| page.stale),
        error: error.map(|error| cause(error, context)),
    });
}

/// Why it failed, in a word or a sentence.
fn cause(error: &Error, context: &Context) -> String {
    match (context.refused, error.etype()) {
        (Some(rule), _) => format!("refused: {rule}"),
        // The status stands beside it.
        (None, ErrorType::HTTPStatus(_)) => said(error).unwrap_or("failed").to_owned(),
        (None, kind) => kind.as_str().to_owned(),
    }
}
