//! A site's own server: where it is, how long it may take, and what it is told of clients.

use std::sync::Arc;

use http::HeaderName;

use super::compile::Checking;
use super::file;
use crate::upstream::{Endpoint, Timeouts, Upstream};

pub(super) fn origin(
    checking: &mut Checking<'_>,
    at: &str,
    origin: &file::Origin,
) -> Option<Arc<Upstream>> {
    let place = format!("{at}/origin/address");
    let endpoint = checking.take(&place, Endpoint::parse(&origin.address))?;
    if !endpoint.base().is_empty() {
        checking.problem(&place, "an origin has no path: pages are asked for under their own");
        return None;
    }
    let server_name = origin.tls.server_name.clone();
    let upstream = Upstream::new(endpoint, timeouts(origin), server_name, origin.tls.verify);
    Some(Arc::new(upstream))
}

pub(super) fn timeouts(origin: &file::Origin) -> Timeouts {
    Timeouts {
        connect: origin.connect_timeout.get(),
        read: origin.read_timeout.get(),
        write: origin.write_timeout.get(),
        idle: origin.keepalive.get(),
        fallback: origin.fallback_after.get(),
    }
}

#[allow(clippy::option_option, reason = "outer: is it right; inner: is it set")]
pub(super) fn origin_host(
    checking: &mut Checking<'_>,
    at: &str,
    host: Option<&str>,
) -> Option<Option<Box<str>>> {
    let Some(host) = host else { return Some(None) };
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    if host.is_empty() || !host.bytes().all(fits) {
        checking.problem(
            &format!("{at}/origin/host"),
            format!(
                "expected a host such as `shop.internal` or `shop.internal:8080`, found `{host}`"
            ),
        );
        return None;
    }
    Some(Some(host.into()))
}

/// Headers by which clients say who they are that the origin gets all the same.
pub(super) fn client_headers(
    checking: &mut Checking<'_>,
    at: &str,
    names: &[String],
) -> Option<Vec<HeaderName>> {
    let mut good = Vec::with_capacity(names.len());
    for (index, text) in names.iter().enumerate() {
        let lower = text.to_ascii_lowercase();
        let plain = |char: char| if char.is_ascii_alphanumeric() { char } else { '-' };
        let own = lower.chars().map(plain).collect::<String>().starts_with("x-doorstep-");
        match HeaderName::try_from(lower) {
            Ok(name) if !own => good.push(name),
            _ => checking.problem(
                &format!("{at}/origin/client_headers/{index}"),
                format!("expected the name of a header such as `CF-Connecting-IP`, found `{text}`"),
            ),
        }
    }
    (good.len() == names.len()).then_some(good)
}
