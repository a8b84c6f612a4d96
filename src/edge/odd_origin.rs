//! What Pingora can't write or read between the edge and an origin goes over a connection of its own.

use http::header;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType};
use pingora_proxy::Session;

use super::context::{Context, Way};
use super::failure::has_answer;
use super::raw_request::RawRequest;
use crate::decide::Target;
use crate::upstream::Upstream;

/// The path that the origin is asked for.
fn asked<'c>(session: &'c Session, context: &'c Context) -> Option<&'c str> {
    let Way::Page(page) = &context.way else { return None };
    match page.target() {
        Some(Target::Other { path: Some(path), .. }) => Some(path),
        _ => Some(session.req_header().uri.path()),
    }
}

/// Lets a request go its own way to `peer` where the usual one is known not to do. Whether it does.
pub(super) fn bridge(
    session: &Session,
    context: &Context,
    upstream: &Upstream,
    peer: &mut HttpPeer,
) -> bool {
    let Some(path) = asked(session, context) else { return false };
    let target = context.raw.as_ref().and_then(RawRequest::target);
    let odd = target.is_some() || upstream.is_odd(path);
    if odd {
        upstream.bridge(peer, target);
    }
    odd
}

/// Whether `error` is that the head of the answer can't be read, and the request may go again on a way on which it can.
pub(super) fn goes_again(
    session: &Session,
    context: &Context,
    upstream: Option<&Upstream>,
    error: &Error,
) -> bool {
    // An origin that agrees to what nobody offered is another thing.
    let is_of_head = *error.etype() == ErrorType::InvalidHTTPHeader
        && !session.req_header().headers.contains_key(header::UPGRADE)
        && *error.esource() == ErrorSource::Upstream
        && !has_answer(session);
    let (true, false, Some(upstream), Some(path)) =
        (is_of_head, context.bridged, upstream, asked(session, context))
    else {
        return false;
    };
    upstream.found_odd(path) && session.req_header().method.is_safe()
}
