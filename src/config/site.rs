//! One site of the file → a compiled [`Site`].

use std::sync::Arc;

use super::compile::Checking;
use super::file::{self, File};
use super::identity::{identity, identity_check, signing_keys, user_hash};
use super::origin::{client_headers, origin, origin_host, timeouts};
use super::profiles::compile_source;
use super::rules::rules;
use super::secret::Secret;
use super::vendors::{generic, sdks};
use super::warnings::{warn_of_short_cookies, warn_of_unsigned_ids};
use crate::decide::{ConsentRules, Expression, ExpressionError, RoutePattern};
use crate::profile::Signature;
use crate::site::{
    BasicLogin, Enrich, Exposures, HostPattern, IpDetail, Leads, RoutePrefix, Site, WebhookLogin,
};
use crate::telemetry::SiteMetrics;
use crate::upstream::{Endpoint, Timeouts};
use crate::vendor::{Part, REDACTED, Snippet, rudderstack, segment};

pub(super) fn compile_site(
    checking: &mut Checking<'_>,
    at: &str,
    file: &File,
    site: &file::Site,
    hosts: &[HostPattern],
) -> Option<Site> {
    let prefix = checking.take(&format!("{at}/prefix"), RoutePrefix::parse(&site.prefix));
    let (origin, origin_host, client_headers) = match &site.origin {
        file::OriginChoice::At(given) => (
            origin(checking, at, given).map(Some),
            origin_host(checking, at, given.host.as_deref()),
            client_headers(checking, at, &given.client_headers),
        ),
        file::OriginChoice::None(_) => (Some(None), Some(None), Some(Vec::new())),
    };
    let cors = cors(checking, at, &site.cors);
    let sdks = sdks(checking, &format!("{at}/vendor"), file, site, prefix.as_ref());
    let generic = generic(checking, &format!("{at}/vendor/generic"), file, site);
    let webhook = site.webhook.as_ref().map(|login| webhook(checking, at, login));
    let source = compile_source(checking, at, site);
    let identity = identity(checking, at, site, hosts);
    let timeouts = match &site.origin {
        file::OriginChoice::At(given) => timeouts(given),
        file::OriginChoice::None(_) => Timeouts::default(),
    };
    let rules = rules(checking, at, site, timeouts);
    let signing_keys = signing_keys(checking, at, site);
    let user_hash = user_hash(checking, at, &site.identity);
    let check = identity_check(checking, at, &site.identity);
    let consent = consent(checking, &format!("{at}/consent"), &site.consent);
    let views = site.inject.edge_page_views.as_deref();
    let views = about_requests(checking, &format!("{at}/inject/edge_page_views"), views);
    let shells = shells(checking, at, site);
    let bots = about_requests(checking, &format!("{at}/bots"), site.bots.as_deref());

    let (prefix, (segment, rudderstack)) = (prefix?, sdks?);
    let used = [(segment.as_ref(), segment::SNIPPET), (rudderstack.as_ref(), rudderstack::SNIPPET)];
    let used = used.iter().filter_map(|(sdk, snippet)| Some((sdk.as_ref()?, *snippet)));
    let snippet = site.inject.enabled.then(|| {
        let parts: Vec<Part<'_>> = used
            .map(|(sdk, source)| Part {
                source,
                key: if sdk.redact { REDACTED } else { sdk.write_key.expose() },
                sdk: sdk.paths.sdk(),
            })
            .collect();
        let own_cookies = site.identity.server_side_cookies;
        Snippet::new(&parts, prefix.as_str(), site.inject.page_call, own_cookies)
            .with(site.identity.signed, site.inject.restored_pages)
    });
    let keeps = site.identity.server_side_cookies;
    let lead = |source| {
        Snippet::new(&[Part { source, key: "", sdk: None }], prefix.as_str(), false, keeps)
    };
    let leads = Leads { segment: lead(segment::LEAD), rudderstack: lead(rudderstack::LEAD) };
    let (rules, other_origins) = rules?;
    warn_of_unsigned_ids(checking, at, site, &rules);
    warn_of_short_cookies(checking, at, site);
    let experiments = rules.experiments.all().iter().map(|experiment| {
        let variants = experiment.variants.iter().map(|variant| variant.name.as_str());
        (experiment.key.as_str(), variants.collect())
    });
    let metrics = Arc::new(SiteMetrics::new(&site.name, experiments.collect()));
    Some(Site {
        name: site.name.as_str().into(),
        edition: checking.edition(at),
        keep_path: format!("{}/keep.js", prefix.as_str()).into(),
        prefix,
        origin: origin?,
        origin_host: origin_host?,
        client_headers: client_headers?,
        other_origins,
        segment,
        rudderstack,
        generic: generic?,
        cors: cors?,
        cors_own_hosts: site.cors_own_hosts,
        hosts: hosts.to_vec(),
        leads,
        source: source?,
        webhook: match webhook {
            Some(login) => Some(login?),
            None => None,
        },
        snippet,
        identity: identity?,
        signing_keys: signing_keys?,
        user_hash: user_hash?,
        check: check?,
        exposures: exposures(site.exposures),
        enrich: enrich(&site.enrich),
        consent: consent?,
        bots: bots?,
        edge_page_views: views?,
        shells: shells?,
        rules,
        metrics,
    })
}

fn exposures(given: file::Exposures) -> Exposures {
    match given {
        file::Exposures::Track => Exposures::Track,
        file::Exposures::Identify => Exposures::Identify,
        file::Exposures::None => Exposures::None,
    }
}

/// Pages that scripts fetch to show them later.
fn shells(checking: &mut Checking<'_>, at: &str, site: &file::Site) -> Option<Vec<RoutePattern>> {
    let mut all = Vec::new();
    for (index, text) in site.inject.also.iter().enumerate() {
        let place = format!("{at}/inject/also/{index}");
        all.extend(checking.take(&place, RoutePattern::parse(text)));
    }
    (all.len() == site.inject.also.len()).then_some(all)
}

/// What events say beside what the page has said.
fn enrich(given: &file::Enrich) -> Enrich {
    Enrich {
        ip: match given.ip {
            file::IpDetail::Full => IpDetail::Full,
            file::IpDetail::Anonymised => IpDetail::Anonymised,
            file::IpDetail::None => IpDetail::None,
        },
        profile: given.profile.iter().map(|name| name.as_str().into()).collect(),
    }
}

/// A secret that stands in the file or in a file of its own, in exactly one of them.
pub(super) fn secret(
    checking: &mut Checking<'_>,
    at: &str,
    name: &str,
    inline: Option<&Secret>,
    path: Option<&str>,
) -> Option<Secret> {
    match (inline, path) {
        (Some(secret), None) => Some(secret.clone()),
        (None, Some(path)) => {
            let read = std::fs::read_to_string(path)
                .map_err(|error| format!("`{path}` can't be read: {error}"));
            let text = checking.take(&format!("{at}/{name}_file"), read)?;
            Some(Secret::new(text.trim()))
        }
        (Some(_), Some(_)) => {
            checking.problem(
                &format!("{at}/{name}_file"),
                format!("`{name}` and `{name}_file` are both set: keep one"),
            );
            None
        }
        (None, None) => {
            checking.problem(at, format!("expected `{name}` or `{name}_file`"));
            None
        }
    }
}

fn webhook(checking: &mut Checking<'_>, at: &str, login: &file::Webhook) -> Option<WebhookLogin> {
    let at = format!("{at}/webhook");
    let basic = match &login.username {
        Some(username) => {
            let (inline, path) = (login.password.as_ref(), login.password_file.as_deref());
            let password = secret(checking, &at, "password", inline, path)?;
            if username.contains(':') || username.is_empty() {
                let place = format!("{at}/username");
                checking.problem(&place, "a user name can't be empty or hold a colon");
                return None;
            }
            Some(BasicLogin { username: Secret::new(username.as_str()), password })
        }
        None if login.password.is_some() || login.password_file.is_some() => {
            checking.problem(&at, "`username` is missing beside the password");
            return None;
        }
        None => None,
    };
    let signed = (login.signing_secret.as_ref(), login.signing_secret_file.as_deref());
    let signature = match signed {
        (None, None) => None,
        (inline, path) => {
            Some(Signature::new(secret(checking, &at, "signing_secret", inline, path)?))
        }
    };
    if basic.is_none() && signature.is_none() {
        checking.problem(&at, "expected `username` and `password`, or `signing_secret`");
        return None;
    }
    Some(WebhookLogin { basic, signature })
}

pub(super) fn expression(
    checking: &mut Checking<'_>,
    place: &str,
    text: &str,
) -> Option<Expression> {
    compiled(checking, place, Expression::compile(text))
}

/// An expression that is true or false.
pub(super) fn condition(
    checking: &mut Checking<'_>,
    place: &str,
    text: &str,
) -> Option<Expression> {
    compiled(checking, place, Expression::condition(text))
}

fn compiled(
    checking: &mut Checking<'_>,
    place: &str,
    compiled: Result<Expression, ExpressionError>,
) -> Option<Expression> {
    match compiled {
        Ok(expression) => Some(expression),
        Err(error) => {
            let (start, width) = error.at;
            checking.problem_within(place, start, width, error.message);
            None
        }
    }
}

/// Origins as browsers write them (RFC 6454, 6.2).
fn cors(checking: &mut Checking<'_>, at: &str, origins: &[String]) -> Option<Vec<Box<str>>> {
    let mut good = Vec::new();
    for (index, text) in origins.iter().enumerate() {
        let plain = Endpoint::parse(text).is_ok_and(|end| end.base().is_empty());
        if plain && text.contains("://") && !text.ends_with('/') {
            good.push(text.to_ascii_lowercase().into());
        } else {
            let expected = "expected an origin such as `https://other.example`";
            checking.problem(&format!("{at}/cors/{index}"), format!("{expected}, found `{text}`"));
        }
    }
    (good.len() == origins.len()).then_some(good)
}

fn consent(checking: &mut Checking<'_>, at: &str, consent: &file::Consent) -> Option<ConsentRules> {
    let mut rule = |name: &str, text: Option<&str>| {
        let place = format!("{at}/{name}");
        let Some(plain) = about_requests(checking, &place, text)? else { return Some(None) };
        let compiled = Expression::compile_for_null(plain.source());
        checking.take(&place, compiled).map(Some)
    };
    let denied = rule("denied", consent.denied.as_deref());
    let limited = rule("limited", consent.limited.as_deref());
    let clear_cookies = consent.clear_cookies;
    Some(ConsentRules { denied: denied?, limited: limited?, clear_cookies })
}

/// An expression that is decided before any profile is known.
#[allow(clippy::option_option, reason = "outer: is it right; inner: is it set")]
fn about_requests(
    checking: &mut Checking<'_>,
    place: &str,
    text: Option<&str>,
) -> Option<Option<Expression>> {
    let Some(text) = text else { return Some(None) };
    let compiled = condition(checking, place, text)?;
    if compiled.asks("traits") {
        checking.problem(
            place,
            "this is decided before a profile is known: it can't ask about `traits`",
        );
        return None;
    }
    Some(Some(compiled))
}

/// A path as it can stand in a request line. Its query is the visitor's.
pub(super) fn page_path(checking: &mut Checking<'_>, place: &str, path: &str) -> Option<Box<str>> {
    let plain = path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#".contains(&byte));
    if !plain
        || !path.starts_with('/')
        || path.starts_with("//")
        || http::Uri::try_from(path).is_err()
    {
        checking.problem(
            place,
            format!(
                "expected a path such as `/red`, percent-encoded and without query, found `{path}`"
            ),
        );
        return None;
    }
    Some(path.into())
}
