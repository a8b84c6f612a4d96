//! A file of the SDK: from the cache, else from the vendor's CDN, rewritten once for the site's own
//! host and encoded once. Nothing of a visitor goes to the vendor or into the cache.

use bytes::Bytes;
use http::{HeaderName, StatusCode, header};
use pingora::cache::cache_control::CacheControl;
use pingora::cache::filters::resp_cacheable;
use pingora::cache::{CacheMetaDefaults, CachePhase, NoCacheReason, RespCacheable};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType, Result};

use super::asset_name::{Codings, FileHost};
use super::context::{AssetWay, Context};
use super::response::Changed;
use crate::cache::key;
use crate::html::{Coding, splice};
use crate::site::{Sdk, SdkPaths, Site};
use crate::telemetry::{AssetLookup, Feature, guard};
use crate::upstream::basic;
use crate::vendor::{Own, SdkFile};

/// Most bytes of a file as the CDN sends it.
const MAX_SENT_BYTES: usize = 4 * 1024 * 1024;
/// Most bytes of a file once it is decoded.
const MAX_DECODED_BYTES: usize = 12 * 1024 * 1024;
/// Changes when the way of rewriting does, so that an upgrade never confirms an old file.
const REWRITE_VERSION: &str = "1";

/// A file that the CDN gives no lifetime lives five minutes, one that it doesn't have ten seconds.
/// Old ones serve for a day while a new one is fetched, and for a week while the CDN is down.
const LIFETIMES: CacheMetaDefaults = CacheMetaDefaults::new(
    |status| match status {
        StatusCode::OK => Some(std::time::Duration::from_mins(5)),
        StatusCode::NOT_FOUND => Some(std::time::Duration::from_secs(10)),
        _ => None,
    },
    24 * 3600,
    7 * 24 * 3600,
);

impl AssetWay {
    /// `file` for who sends `request`, which asks for it by the name of `host`.
    pub(super) fn new(file: SdkFile, request: &RequestHeader, host: FileHost) -> Self {
        Self {
            file,
            codings: Codings::of(request, &host),
            host,
            from_cdn: Coding::Identity,
            collected: Vec::new(),
            fetching: None,
            rewrite: false,
            lead: None,
            held: Vec::new(),
        }
    }

    /// Whether what the visitor gets is made of the stored file.
    fn is_made(&self) -> bool {
        self.lead.is_some() || self.host.is_filled_in()
    }

    /// Everything that the stored bytes depend on. No part of it is a client's to choose freely.
    pub(super) fn key(
        &self,
        context: &Context,
        site: &Site,
        sdk: &Sdk,
    ) -> pingora::cache::CacheKey {
        key(&[
            REWRITE_VERSION,
            &site.name,
            &site.edition,
            context.client.scheme(),
            self.host.text(),
            self.file.vendor().label(),
            &self.file.target(&sdk.write_key),
            self.codings.stored.name().unwrap_or("identity"),
        ])
    }
}

/// The CDN's request, made anew: of the visitor's it has nothing.
pub(super) fn to_cdn(way: &AssetWay, sdk: &Sdk, request: &mut RequestHeader) -> Result<()> {
    let endpoint = sdk.source(&way.file).endpoint();
    let target = format!("{}{}", endpoint.base(), way.file.target(&sdk.write_key));
    let mut fresh = RequestHeader::build(http::Method::GET, target.as_bytes(), Some(4))?;
    fresh.insert_header(header::HOST, endpoint.authority())?;
    fresh.insert_header(header::ACCEPT_ENCODING, "gzip, br")?;
    fresh.insert_header(header::USER_AGENT, concat!("doorstep/", env!("CARGO_PKG_VERSION")))?;
    fresh.insert_header(header::ACCEPT, "*/*")?;
    if way.file.is_configuration() {
        fresh.insert_header(header::AUTHORIZATION, basic(sdk.write_key.expose(), ""))?;
    }
    *request = fresh;
    Ok(())
}

/// Headers of the CDN that browsers get.
const KEPT: [HeaderName; 4] =
    [header::CONTENT_TYPE, header::CACHE_CONTROL, header::EXPIRES, header::DATE];

/// The CDN's answer before the cache: what is stored is the same for everyone.
pub(super) fn from_cdn(
    way: &mut AssetWay,
    site: &Site,
    response: &mut ResponseHeader,
) -> Result<()> {
    let status = response.status;
    if status.is_server_error() {
        // Named so that an old copy is served in its place.
        return Error::e_explain(ErrorType::HTTPStatus(status.as_u16()), "the CDN failed")
            .map_err(pingora::Error::into_up);
    }
    let found = status == StatusCode::OK;
    if !found && !status.is_client_error() {
        // A redirect would lead the browser to the vendor.
        return Error::e_explain(
            ErrorType::HTTPStatus(502),
            "the CDN answered neither file nor error",
        )
        .map_err(pingora::Error::into_up);
    }
    let mut clean = ResponseHeader::build(
        if found { StatusCode::OK } else { StatusCode::NOT_FOUND },
        Some(10),
    )?;
    for name in KEPT.iter().filter(|_| found) {
        if let Some(value) = response.headers.get(name) {
            clean.insert_header(name, value)?;
        }
    }
    clean.insert_header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")?;
    clean.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    way.rewrite = found;
    if found {
        let coding = response.headers.get(header::CONTENT_ENCODING).map(|value| value.to_str());
        let coding = Coding::of(coding.map(|text| text.unwrap_or("unreadable")));
        let Some(coding) = coding else {
            return Error::e_explain(ErrorType::HTTPStatus(502), "the CDN sent an unknown coding")
                .map_err(pingora::Error::into_up);
        };
        way.from_cdn = coding;
        clean.insert_header(header::VARY, "accept-encoding")?;
        clean.insert_header(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")?;
        clean.insert_header("cross-origin-resource-policy", "cross-origin")?;
        if let Some(name) = way.codings.stored.name() {
            clean.insert_header(header::CONTENT_ENCODING, name)?;
        }
        // A file whose CDN names its bytes: the served ones follow from those, the way of
        // rewriting and the key. Otherwise the storage names them by their content.
        if let Some(tag) = response.headers.get(header::ETAG) {
            let paths = site.sdk(way.file.vendor()).map(|sdk| &sdk.paths);
            let events = paths.and_then(SdkPaths::events).unwrap_or_default();
            let own = paths.and_then(SdkPaths::sdk).unwrap_or_default();
            let parts = [
                tag.as_bytes(),
                REWRITE_VERSION.as_bytes(),
                site.prefix.as_str().as_bytes(),
                own.as_bytes(),
                events.as_bytes(),
                way.codings.stored.name().unwrap_or("identity").as_bytes(),
            ];
            let named = xxhash_rust::xxh3::xxh3_128(&parts.join(&0));
            clean.insert_header(header::ETAG, format!("\"{named:032x}\""))?;
        }
    } else {
        clean.insert_header(header::CACHE_CONTROL, "no-store")?;
    }
    *response = clean;
    Ok(())
}

/// Collects the CDN's bytes; at their end puts the served ones in their place.
pub(super) fn body(
    context: &mut Context,
    way: &mut AssetWay,
    site: &Site,
    sdk: &Sdk,
    chunk: &mut Option<Bytes>,
    end: bool,
) -> Result<()> {
    let bytes = chunk.take().unwrap_or_default();
    if way.collected.len() + bytes.len() > MAX_SENT_BYTES {
        return Error::e_explain(ErrorType::HTTPStatus(502), "the CDN's file is too large");
    }
    way.collected.extend_from_slice(&bytes);
    *chunk = Some(Bytes::new());
    if !end {
        return Ok(());
    }
    way.fetching = None;
    let sent = std::mem::take(&mut way.collected);
    if !way.rewrite {
        *chunk = Some(Bytes::from_static(b"not found\n"));
        return Ok(());
    }
    let events = format!("{}/evs", site.prefix.as_str());
    let own = Own {
        scheme: context.client.scheme(),
        host: way.host.text(),
        prefix: site.prefix.as_str(),
        events: sdk.paths.events().unwrap_or(&events),
        renamed: sdk.paths.sdk().is_some(),
        elsewhere: site.origin.is_none(),
        redact: sdk.redact.then_some(&sdk.write_key),
    };
    let made =
        guard(Feature::Asset, || -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
            let plain = way.from_cdn.decode_all(&sent, MAX_DECODED_BYTES)?;
            Ok(way.codings.stored.encode_once(&way.file.rewrite(plain, own)?)?)
        });
    match made {
        Some(Ok(served)) => {
            *chunk = Some(served.into());
            Ok(())
        }
        Some(Err(why)) => Error::e_because(ErrorType::HTTPStatus(502), "the CDN's file", why),
        None => Error::e_explain(ErrorType::InternalError, "rewriting an SDK file panicked"),
    }
}

/// The head of what a visitor gets: with a lead it is this visitor's alone.
pub(super) fn to_visitor(way: &mut AssetWay, response: &mut ResponseHeader) -> Result<()> {
    if response.status != StatusCode::OK {
        way.lead = None;
        way.host.leave();
        return Ok(());
    }
    if !way.is_made() {
        return Ok(());
    }
    response.remove_header(&header::CONTENT_LENGTH);
    response.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    if way.host.is_filled_in() {
        if let Some(name) = way.codings.made.name() {
            response.insert_header(header::CONTENT_ENCODING, name)?;
        }
        weaken_tag(response)?;
    }
    let Some(lead) = &way.lead else { return Ok(()) };
    Changed { bytes: true, ..Changed::default() }.tell(response)?;
    response.insert_header(header::CACHE_CONTROL, "private, no-cache")?;
    response.remove_header(&header::ACCESS_CONTROL_ALLOW_ORIGIN);
    response.insert_header("cross-origin-resource-policy", "same-site")?;
    for line in &lead.cookies {
        response.append_header(header::SET_COOKIE, line)?;
    }
    Ok(())
}

/// The stored file's tag names what it says, and no longer its bytes.
fn weaken_tag(response: &mut ResponseHeader) -> Result<()> {
    let tag = response.headers.get(header::ETAG).and_then(|tag| tag.to_str().ok());
    let Some(weak) = tag.filter(|tag| tag.starts_with('"')).map(|tag| format!("W/{tag}")) else {
        return Ok(());
    };
    response.insert_header(header::ETAG, weak)
}

/// Makes the visitor's file of the stored one, once that has come: with its host, and the lead in front.
pub(super) fn make(way: &mut AssetWay, chunk: &mut Option<Bytes>, end: bool) {
    if !way.is_made() {
        return;
    }
    if let Some(bytes) = chunk.take() {
        way.held.extend_from_slice(&bytes);
    }
    *chunk = Some(Bytes::new());
    if !end || way.held.is_empty() {
        return;
    }
    let mut file = std::mem::take(&mut way.held);
    if way.host.is_filled_in() {
        let filled = way.host.fill_in(file);
        file = way.codings.made.encode_now(&filled).unwrap_or_default();
    }
    if let Some(lead) = &way.lead {
        // Without it the file is still the SDK.
        file = splice(way.codings.made, lead.script.as_bytes(), &file).unwrap_or(file);
    }
    *chunk = Some(file.into());
}

/// Whether the CDN's answer may be stored, and for how long.
pub(super) fn cacheable(response: &ResponseHeader) -> RespCacheable {
    let found = response.status == StatusCode::OK;
    let control = CacheControl::from_resp_headers(response).filter(|_| found);
    match control {
        Some(control) if control.no_store() || control.private() => {
            RespCacheable::Uncacheable(NoCacheReason::OriginNotCache)
        }
        control => resp_cacheable(control.as_ref(), response.clone(), false, &LIFETIMES),
    }
}

/// What the cache had of it.
pub(super) fn lookup(phase: CachePhase) -> AssetLookup {
    match phase {
        CachePhase::Hit => AssetLookup::Hit,
        CachePhase::Stale | CachePhase::StaleUpdating => AssetLookup::Stale,
        CachePhase::Expired | CachePhase::Revalidated | CachePhase::RevalidatedNoCache(_) => {
            AssetLookup::Expired
        }
        CachePhase::Miss => AssetLookup::Miss,
        _ => AssetLookup::Bypass,
    }
}
