//! One site of the file → a compiled [`Site`].

use std::sync::Arc;

use super::compile::Checking;
use super::file::{self, File};
use super::profiles::compile_source;
use super::secret::Secret;
use super::vendors::{generic, sdks};
use crate::decide::{Choice, ConsentRules, Expression, Variations};
use crate::identity::{CookieDomain, IdentityPolicy};
use crate::profile::Signature;
use crate::site::{
    BasicLogin, ClientTraits, Enrich, HostPattern, IpDetail, Leads, RoutePrefix, Site, WebhookLogin,
};
use crate::telemetry::SiteMetrics;
use crate::upstream::{Endpoint, Timeouts, Upstream};
use crate::vendor::{REDACTED, Snippet, rudderstack, segment};

pub(super) fn compile_site(
    checking: &mut Checking<'_>,
    at: &str,
    file: &File,
    site: &file::Site,
    hosts: &[HostPattern],
) -> Option<Site> {
    let prefix = checking.take(&format!("{at}/prefix"), RoutePrefix::parse(&site.prefix));
    let (origin, origin_host) = match &site.origin {
        file::OriginChoice::At(given) => (
            origin(checking, at, given).map(Some),
            origin_host(checking, at, given.host.as_deref()),
        ),
        file::OriginChoice::None(_) => (Some(None), Some(None)),
    };
    let cors = cors(checking, at, &site.cors);
    let sdks = sdks(checking, &format!("{at}/vendor"), file, site);
    let generic = generic(checking, &format!("{at}/vendor/generic"), file, site);
    let webhook = site.webhook.as_ref().map(|login| webhook(checking, at, login));
    let source = compile_source(checking, at, site);
    let domain = domain(checking, &format!("{at}/identity/domain"), &site.identity.domain, hosts);
    let variations = variations(checking, at, &site.variations);
    let client_traits = client_traits(checking, at, site);
    let consent = consent(checking, &format!("{at}/consent"), &site.consent);
    let views = site.inject.edge_page_views.as_deref();
    let views = about_requests(checking, &format!("{at}/inject/edge_page_views"), views);
    let bots = about_requests(checking, &format!("{at}/bots"), site.bots.as_deref());

    let (prefix, (segment, rudderstack)) = (prefix?, sdks?);
    let used = [
        (segment.as_ref(), segment::SNIPPET, segment::COOKIES),
        (rudderstack.as_ref(), rudderstack::SNIPPET, rudderstack::COOKIES),
    ];
    let used =
        || used.iter().filter_map(|(sdk, snippet, names)| Some((sdk.as_ref()?, *snippet, *names)));
    let snippet = site.inject.enabled.then(|| {
        let parts: Vec<(&str, &str)> = used()
            .map(|(sdk, snippet, _)| {
                (snippet, if sdk.redact { REDACTED } else { sdk.write_key.expose() })
            })
            .collect();
        let own_cookies = site.identity.server_side_cookies;
        Snippet::new(&parts, prefix.as_str(), site.inject.page_call, own_cookies)
    });
    let names = used().map(|(_, _, names)| names).collect();
    let lead = |source| Snippet::new(&[(source, "")], prefix.as_str(), false, false);
    let leads = Leads { segment: lead(segment::LEAD), rudderstack: lead(rudderstack::LEAD) };
    let metrics = Arc::new(SiteMetrics::new(&site.name));
    Some(Site {
        name: site.name.as_str().into(),
        prefix,
        origin: origin?,
        origin_host: origin_host?,
        segment,
        rudderstack,
        generic: generic?,
        cors: cors?,
        leads,
        source: source?,
        webhook: match webhook {
            Some(login) => Some(login?),
            None => None,
        },
        snippet,
        identity: IdentityPolicy {
            server_side_cookies: site.identity.server_side_cookies,
            mint: site.identity.mint_anonymous_id,
            domain: domain?,
            names,
        },
        enrich: Enrich {
            ip: match site.enrich.ip {
                file::IpDetail::Full => IpDetail::Full,
                file::IpDetail::Anonymised => IpDetail::Anonymised,
                file::IpDetail::None => IpDetail::None,
            },
            profile: site.enrich.profile.iter().map(|name| name.as_str().into()).collect(),
        },
        consent: consent?,
        bots: bots?,
        edge_page_views: views?,
        variations: variations?,
        client_traits: client_traits?,
        metrics,
    })
}

fn origin(checking: &mut Checking<'_>, at: &str, origin: &file::Origin) -> Option<Arc<Upstream>> {
    let place = format!("{at}/origin/address");
    let endpoint = checking.take(&place, Endpoint::parse(&origin.address))?;
    if !endpoint.base().is_empty() {
        checking.problem(&place, "an origin has no path: pages are asked for under their own");
        return None;
    }
    let timeouts = Timeouts {
        connect: origin.connect_timeout.get(),
        read: origin.read_timeout.get(),
        write: origin.write_timeout.get(),
        idle: origin.keepalive.get(),
    };
    let upstream =
        Upstream::new(endpoint, timeouts, origin.tls.server_name.clone(), origin.tls.verify);
    Some(Arc::new(upstream))
}

#[allow(clippy::option_option, reason = "outer: is it right; inner: is it set")]
fn origin_host(
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

fn domain(
    checking: &mut Checking<'_>,
    place: &str,
    text: &str,
    hosts: &[HostPattern],
) -> Option<CookieDomain> {
    match text {
        "auto" => Some(CookieDomain::Registrable),
        "host" => Some(CookieDomain::Host),
        text => {
            let domain = text.trim_start_matches('.').to_ascii_lowercase();
            if let Err(error) = HostPattern::parse(&domain) {
                checking.problem(place, format!("expected `auto`, `host` or a domain: {error}"));
                return None;
            }
            let outside = hosts.iter().find(|host| {
                let (HostPattern::Exact(name) | HostPattern::Below(name)) = host;
                **name != *domain && !name.ends_with(&format!(".{domain}"))
            });
            if let Some(HostPattern::Exact(name) | HostPattern::Below(name)) = outside {
                checking.problem(
                    place,
                    format!("browsers refuse a cookie of `{domain}` from the site's host `{name}`"),
                );
                return None;
            }
            Some(CookieDomain::Fixed(domain.into()))
        }
    }
}

fn expression(checking: &mut Checking<'_>, place: &str, text: &str) -> Option<Expression> {
    match Expression::compile(text) {
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
    let compiled = expression(checking, place, text)?;
    if compiled.asks("traits") {
        checking.problem(
            place,
            "this is decided before a profile is known: it can't ask about `traits`",
        );
        return None;
    }
    Some(Some(compiled))
}

fn variations(
    checking: &mut Checking<'_>,
    at: &str,
    list: &[file::Variation],
) -> Option<Variations> {
    let (mut out, mut good) = (Variations::default(), true);
    let mut routes = std::collections::HashSet::new();
    for (index, variation) in list.iter().enumerate() {
        let at = format!("{at}/variations/{index}");
        if !routes.insert(&variation.route) {
            checking.problem(
                &format!("{at}/route"),
                format!(
                    "route `{}` is listed twice: put all its choices in one place",
                    variation.route
                ),
            );
            good = false;
        }
        let mut choices = Vec::new();
        for (number, choice) in variation.choose.iter().enumerate() {
            let at = format!("{at}/choose/{number}");
            let path = page_path(checking, &format!("{at}/path"), &choice.path);
            let when = expression(checking, &format!("{at}/when"), &choice.when);
            match (when, path) {
                (Some(when), Some(path)) => choices.push(Choice { when, path }),
                _ => good = false,
            }
        }
        out.add(&variation.route, choices);
    }
    good.then_some(out)
}

/// A path as it can stand in a request line. Its query is the visitor's.
pub(super) fn page_path(checking: &mut Checking<'_>, place: &str, path: &str) -> Option<Box<str>> {
    let plain = path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#".contains(&byte));
    if !plain || path.starts_with("//") || http::Uri::try_from(path).is_err() {
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

fn client_traits(checking: &mut Checking<'_>, at: &str, site: &file::Site) -> Option<ClientTraits> {
    let (mut out, mut good) = (Vec::new(), true);
    for (name, text) in &site.client_traits {
        let escaped = name.replace('~', "~0").replace('/', "~1");
        match expression(checking, &format!("{at}/client_traits/{escaped}"), text) {
            Some(expression) => out.push((name.as_str().into(), expression)),
            None => good = false,
        }
    }
    good.then(|| ClientTraits::new(out))
}
