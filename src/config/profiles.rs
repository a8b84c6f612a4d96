//! Where profiles are kept, and where they come from: the file's words → what does it.

use std::path::Path;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, header};

use super::compile::Checking;
use super::file::{self, Pull, RedisMode, Store};
use super::site::secret;
use super::snapshot::StoreChoice;
use crate::profile::IdType;
use crate::profile::source::{Api, HttpJson, ProfileSource, Pulling, Terms};
use crate::profile::store::{Mode, RedisOptions, RedisTls};
use crate::upstream::{Endpoint, Timeouts, USER_AGENT, Upstream, basic};
use crate::vendor::rudderstack::ActivationApi;
use crate::vendor::segment::ProfilesApi;

pub(super) fn compile_store(
    checking: &mut Checking<'_>,
    profiles: &file::Profiles,
) -> Option<StoreChoice> {
    let Store::Redis(store) = &profiles.store else { return Some(StoreChoice::Embedded) };
    let (redis, at) = (&store.redis, "/profiles/store/redis");
    let mut good = true;
    for (index, url) in redis.urls.iter().enumerate() {
        let scheme = url.expose().split_once("://").map(|(scheme, _)| scheme);
        if !matches!(scheme, Some("redis" | "rediss")) || !is_redis(url.expose()) {
            let expected = "expected `redis://host:6379` or, with TLS, `rediss://host:6379`, with \
                            user, password and database where they are needed";
            checking.problem(&format!("{at}/urls/{index}"), expected);
            good = false;
        }
    }
    let mode = match (redis.mode, &redis.master) {
        (RedisMode::Sentinel, Some(master)) => Mode::Sentinel {
            master: master.name.as_str().into(),
            username: master.username.as_deref().map(Into::into),
            password: master.password.clone(),
            tls: master.tls,
        },
        (RedisMode::Sentinel, None) => {
            checking
                .problem(at, "`master` is missing here: the name that the sentinels know it by");
            return None;
        }
        (_, Some(_)) => {
            checking.problem(&format!("{at}/master"), "`master` is for `mode: sentinel` alone");
            return None;
        }
        (RedisMode::Single, None) => Mode::Single,
        (RedisMode::Cluster, None) => Mode::Cluster,
    };
    let authorities = match &redis.ca_file {
        Some(file) => Some(authorities(checking, &format!("{at}/ca_file"), file)?),
        None => None,
    };
    let options = RedisOptions {
        urls: redis.urls.clone(),
        mode,
        key_prefix: redis.key_prefix.as_str().into(),
        timeout: redis.timeout.get(),
        connect_timeout: redis.connect_timeout.get(),
        expire_after: profiles.expire_after.map(super::units::Duration::get),
        read_from_replicas: redis.read_from_replicas,
        tls: RedisTls { authorities },
    };
    good.then(|| StoreChoice::Redis(Box::new(options)))
}

fn is_redis(url: &str) -> bool {
    use redis::IntoConnectionInfo;
    url.into_connection_info().is_ok()
}

fn authorities(checking: &mut Checking<'_>, place: &str, file: &str) -> Option<Arc<[u8]>> {
    let read = std::fs::read(Path::new(file))
        .map_err(|error| format!("`{file}` can't be read: {error}"))
        .and_then(|pem| {
            use rustls::pki_types::{CertificateDer, pem::PemObject};
            let whole = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
            let found = whole.is_ok_and(|list| !list.is_empty());
            found.then(|| Arc::from(pem)).ok_or_else(|| format!("`{file}` holds no certificates"))
        });
    checking.take(place, read)
}

/// One of a site's ways to be told of profiles that no store has, ready to be asked.
#[allow(clippy::option_option, reason = "outer: is it right; inner: is it set")]
pub(super) fn compile_source(
    checking: &mut Checking<'_>,
    at: &str,
    site: &file::Site,
) -> Option<Option<Arc<dyn ProfileSource>>> {
    let segment = site.vendor.segment.as_ref().and_then(|segment| segment.profiles_api.as_ref());
    let other = site.profile_source.as_ref();
    let rudderstack = other.and_then(|source| source.rudderstack.as_ref());
    let http_json = other.and_then(|source| source.http_json.as_ref());
    let place = format!("{at}/profile_source");
    let plan = match (segment, rudderstack, http_json) {
        (None, None, None) if other.is_none() => return Some(None),
        (Some(api), None, None) if other.is_none() => {
            segment_api(checking, &format!("{at}/vendor/segment/profiles_api"), api)
        }
        (None, Some(api), None) => activation_api(checking, &format!("{place}/rudderstack"), api),
        (None, None, Some(api)) => http_json_api(checking, &format!("{place}/http_json"), api),
        _ => {
            let expected = "a site has one source of profiles: `profiles_api` of its vendor, \
                            `rudderstack` or `http_json`";
            checking.problem(&place, expected);
            return None;
        }
    }?;
    let mut headers = vec![
        (header::USER_AGENT, USER_AGENT),
        (header::ACCEPT, HeaderValue::from_static("application/json")),
    ];
    headers.extend(plan.headers);
    let source = Pulling::new(&site.name, plan.api, plan.upstream, headers, plan.terms);
    Some(Some(Arc::new(source)))
}

/// What a source is made of.
struct Plan {
    api: Box<dyn Api>,
    upstream: Arc<Upstream>,
    headers: Vec<(HeaderName, HeaderValue)>,
    terms: Terms,
}

fn segment_api(checking: &mut Checking<'_>, at: &str, api: &file::ProfilesApi) -> Option<Plan> {
    let token = secret(checking, at, "token", api.token.as_ref(), api.token_file.as_deref());
    let upstream = upstream(checking, &format!("{at}/address"), &api.address, &api.pull);
    let terms = terms(checking, at, &api.pull);
    let (token, upstream) = (token?, upstream?);
    let base = upstream.endpoint().base().to_owned();
    Some(Plan {
        api: Box::new(ProfilesApi::new(&base, &api.space, api.class.as_deref())),
        upstream,
        headers: vec![(header::AUTHORIZATION, basic(token.expose(), ""))],
        terms: terms?,
    })
}

fn activation_api(
    checking: &mut Checking<'_>,
    at: &str,
    api: &file::ActivationApi,
) -> Option<Plan> {
    let token = secret(checking, at, "token", api.token.as_ref(), api.token_file.as_deref());
    let upstream = upstream(checking, &format!("{at}/address"), &api.address, &api.pull);
    let terms = terms(checking, at, &api.pull);
    let bearer = HeaderValue::try_from(format!("Bearer {}", token?.expose()))
        .map_err(|_| "a token has no line breaks and no control characters");
    let mut bearer = checking.take(&format!("{at}/token"), bearer)?;
    bearer.set_sensitive(true);
    Some(Plan {
        api: Box::new(ActivationApi::new(&api.entity, &api.destination)),
        upstream: upstream?,
        headers: vec![
            (header::AUTHORIZATION, bearer),
            (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        ],
        terms: terms?,
    })
}

fn http_json_api(checking: &mut Checking<'_>, at: &str, api: &file::HttpJson) -> Option<Plan> {
    let place = format!("{at}/url");
    let parsed = checking.take(&place, HttpJson::parse(&api.url, &api.pointer));
    let terms = terms(checking, at, &api.pull);
    let mut headers = Vec::new();
    for (name, value) in &api.headers {
        let place = format!("{at}/headers/{}", name.replace('~', "~0").replace('/', "~1"));
        let parsed = HeaderName::try_from(name.as_str()).ok();
        match parsed.zip(HeaderValue::try_from(value.expose()).ok()) {
            Some((name, mut value)) => {
                value.set_sensitive(true);
                headers.push((name, value));
            }
            None => checking.problem(&place, "this can't be sent as a header"),
        }
    }
    let (address, json) = parsed?;
    let upstream = upstream(checking, &place, &address, &api.pull);
    Some(Plan { api: Box::new(json), upstream: upstream?, headers, terms: terms? })
}

fn upstream(
    checking: &mut Checking<'_>,
    place: &str,
    address: &str,
    pull: &Pull,
) -> Option<Arc<Upstream>> {
    let endpoint = checking.take(place, Endpoint::parse(address))?;
    let timeouts = Timeouts {
        connect: pull.timeout.get(),
        read: pull.timeout.get(),
        write: pull.timeout.get(),
        ..Timeouts::default()
    };
    Some(Arc::new(Upstream::new(endpoint, timeouts, None, true)))
}

fn terms(checking: &mut Checking<'_>, at: &str, pull: &Pull) -> Option<Terms> {
    let ids =
        pull.ids.iter().enumerate().map(|(index, kind)| {
            checking.take(&format!("{at}/pull/ids/{index}"), IdType::parse(kind))
        });
    Some(Terms {
        ids: ids.collect::<Option<_>>()?,
        timeout: pull.timeout.get(),
        in_flight: pull.in_flight,
        fresh_for: pull.fresh_for.get(),
        missing_for: pull.missing_for.get(),
    })
}
