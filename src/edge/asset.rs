//! A file of the SDK: from the cache, else from the vendor's CDN, rewritten once for the site's own
//! host and encoded once. Nothing of a visitor goes to the vendor or into the cache.

use bytes::Bytes;
use http::{HeaderName, StatusCode, header};
use pingora::cache::cache_control::CacheControl;
use pingora::cache::filters::resp_cacheable;
use pingora::cache::{CacheMetaDefaults, CachePhase, NoCacheReason, RespCacheable};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType, Result};

use super::context::{AssetWay, Context};
use super::response::Changed;
use crate::cache::key;
use crate::html::{Coding, splice};
use crate::site::{Sdk, Site};
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
    pub(super) fn new(file: SdkFile, request: &RequestHeader) -> Self {
        let accept = request
            .headers
            .get(header::ACCEPT_ENCODING)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        Self {
            file,
            coding: Coding::best(accept),
            spliceable: Coding::best_spliceable(accept),
            from_cdn: Coding::Identity,
            collected: Vec::new(),
            lead: None,
            rewrite: false,
        }
    }

    /// Everything that the served bytes depend on.
    pub(super) fn key(
        &self,
        context: &Context,
        site: &Site,
        sdk: &Sdk,
    ) -> pingora::cache::CacheKey {
        key(&[
            REWRITE_VERSION,
            &site.name,
            context.client.scheme(),
            context.authority.as_str(),
            self.file.vendor().label(),
            &self.file.target(&sdk.write_key),
            self.coding.name().unwrap_or("identity"),
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
        if let Some(name) = way.coding.name() {
            clean.insert_header(header::CONTENT_ENCODING, name)?;
        }
        // A file whose CDN names its bytes: the served ones follow from those, the way of
        // rewriting and the key. Otherwise the storage names them by their content.
        if let Some(tag) = response.headers.get(header::ETAG) {
            let parts = [
                tag.as_bytes(),
                REWRITE_VERSION.as_bytes(),
                site.prefix.as_str().as_bytes(),
                way.coding.name().unwrap_or("identity").as_bytes(),
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
    let sent = std::mem::take(&mut way.collected);
    if !way.rewrite {
        *chunk = Some(Bytes::from_static(b"not found\n"));
        return Ok(());
    }
    let own = Own {
        scheme: context.client.scheme(),
        host: context.authority.as_str(),
        prefix: site.prefix.as_str(),
        elsewhere: site.origin.is_none(),
        redact: sdk.redact.then_some(&sdk.write_key),
    };
    let made =
        guard(Feature::Asset, || -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
            let plain = way.from_cdn.decode_all(&sent, MAX_DECODED_BYTES)?;
            Ok(way.coding.encode_once(&way.file.rewrite(plain, own)?)?)
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
    }
    let Some(lead) = &way.lead else { return Ok(()) };
    Changed { bytes: true, ..Changed::default() }.tell(response)?;
    response.insert_header(header::CACHE_CONTROL, "private, no-cache")?;
    response.remove_header(&header::CONTENT_LENGTH);
    response.remove_header(&header::ACCESS_CONTROL_ALLOW_ORIGIN);
    response.insert_header("cross-origin-resource-policy", "same-site")?;
    response.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    for line in &lead.cookies {
        response.append_header(header::SET_COOKIE, line)?;
    }
    Ok(())
}

/// Puts the lead in front of the stored file, once that has come.
pub(super) fn with_lead(way: &mut AssetWay, chunk: &mut Option<Bytes>, end: bool) {
    let coding = way.coding;
    let Some(lead) = &mut way.lead else { return };
    if let Some(bytes) = chunk.take() {
        lead.collected.extend_from_slice(&bytes);
    }
    *chunk = Some(Bytes::new());
    if !end || lead.collected.is_empty() {
        return;
    }
    let file = std::mem::take(&mut lead.collected);
    // Without it the file is still the SDK.
    let spliced = splice(coding, lead.script.as_bytes(), &file).unwrap_or(file);
    *chunk = Some(spliced.into());
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
