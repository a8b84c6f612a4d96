//! One site of the file → a compiled [`Site`].

use std::sync::Arc;

use super::compile::Checking;
use super::file::{self, File};
use super::profiles::compile_source;
use super::secret::Secret;
use crate::collect::Lane;
use crate::decide::{Choice, ConsentRules, Expression, Variations};
use crate::identity::{CookieDomain, IdentityPolicy};
use crate::profile::Signature;
use crate::site::{
    BasicLogin, ClientTraits, Enrich, HostPattern, IpDetail, Leads, RoutePrefix, Sdk, Site,
    WebhookLogin,
};
use crate::telemetry::{LaneMetrics, SiteMetrics};
use crate::upstream::{Endpoint, Timeouts, Upstream, basic};
use crate::vendor::{Generic, REDACTED, Rule, Snippet, Vendor, WriteKey, rudderstack, segment};

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

type Sdks = (Option<Sdk>, Option<Sdk>);

/// What a vendor's configuration has in common with others'.
struct Given<'g> {
    vendor: Vendor,
    write_key: Option<&'g Secret>,
    write_key_file: Option<&'g str>,
    redact: bool,
    cdn: &'g str,
    config_api: Option<&'g str>,
    events: (&'static str, &'g str),
}

fn sdks(checking: &mut Checking<'_>, at: &str, file: &File, site: &file::Site) -> Option<Sdks> {
    let vendor = &site.vendor;
    if vendor.segment.is_none() && vendor.rudderstack.is_none() && vendor.generic.is_empty() {
        checking.problem(at, "expected `segment`, `rudderstack` or `generic`");
        return None;
    }
    let segment = vendor.segment.as_ref().map(|segment| Given {
        vendor: Vendor::Segment,
        write_key: segment.write_key.as_ref(),
        write_key_file: segment.write_key_file.as_deref(),
        redact: segment.redact_write_key,
        cdn: &segment.cdn,
        config_api: None,
        events: ("tracking_api", &segment.tracking_api),
    });
    let rudderstack = vendor.rudderstack.as_ref().map(|rudder| Given {
        vendor: Vendor::RudderStack,
        write_key: rudder.write_key.as_ref(),
        write_key_file: rudder.write_key_file.as_deref(),
        redact: rudder.redact_write_key,
        cdn: &rudder.cdn,
        config_api: Some(&rudder.config_api),
        events: ("data_plane", &rudder.data_plane),
    });
    let mut compile = |given: Option<Given<'_>>| match given {
        Some(given) => sdk(checking, at, file, &site.name, &given).map(Some),
        None => Some(None),
    };
    let (segment, rudderstack) = (compile(segment), compile(rudderstack));
    Some((segment?, rudderstack?))
}

fn sdk(
    checking: &mut Checking<'_>,
    at: &str,
    file: &File,
    site: &str,
    given: &Given<'_>,
) -> Option<Sdk> {
    let name = given.vendor.label();
    let at = format!("{at}/{name}");
    let key = secret(checking, &at, "write_key", given.write_key, given.write_key_file);
    let write_key = key.and_then(|key| {
        let inline = given.write_key.is_some();
        let place = format!("{at}/{}", if inline { "write_key" } else { "write_key_file" });
        checking.take(&place, WriteKey::parse(key.expose()))
    });
    let cdn = vendor_upstream(checking, &format!("{at}/cdn"), given.cdn, file);
    let config = given
        .config_api
        .map(|address| vendor_upstream(checking, &format!("{at}/config_api"), address, file));
    let (events, address) = given.events;
    let upstream = vendor_upstream(checking, &format!("{at}/{events}"), address, file);
    let write_key = write_key?;
    let lane = Lane {
        name: format!("{site}.{name}").into(),
        upstream: upstream?,
        headers: vec![(http::header::AUTHORIZATION, basic(write_key.expose(), ""))],
        batch_path: match given.vendor {
            Vendor::Segment => "/batch",
            Vendor::RudderStack => "/v1/batch",
        },
        limits: match given.vendor {
            Vendor::Segment => segment::LIMITS,
            Vendor::RudderStack => rudderstack::LIMITS,
        },
        stamps_each: given.vendor == Vendor::RudderStack,
        metrics: LaneMetrics::new(site, name),
    };
    Some(Sdk {
        write_key,
        redact: given.redact,
        cdn: cdn?,
        config_api: match config {
            Some(config) => Some(config?),
            None => None,
        },
        lane: Arc::new(lane),
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

fn vendor_upstream(
    checking: &mut Checking<'_>,
    place: &str,
    address: &str,
    file: &File,
) -> Option<Arc<Upstream>> {
    let endpoint = checking.take(place, Endpoint::parse(address))?;
    let timeouts = Timeouts {
        connect: std::time::Duration::from_secs(5),
        read: file.events.timeout.get(),
        write: file.events.timeout.get(),
        idle: std::time::Duration::from_mins(1),
    };
    Some(Arc::new(Upstream::new(endpoint, timeouts, None, true)))
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

fn generic(
    checking: &mut Checking<'_>,
    at: &str,
    file: &File,
    site: &file::Site,
) -> Option<Vec<Generic>> {
    let mut out = Vec::new();
    let mut names = vec!["segment".to_owned(), "rudderstack".to_owned()];
    for (index, given) in site.vendor.generic.iter().enumerate() {
        let at = format!("{at}/{index}");
        if names.contains(&given.name) {
            let taken = format!("another vendor is called `{}`", given.name);
            checking.problem(&format!("{at}/name"), taken);
        }
        names.push(given.name.clone());
        let upstream = vendor_upstream(checking, &format!("{at}/address"), &given.address, file);
        let headers = given.headers.iter().filter_map(|(name, value)| {
            let header = name.parse::<http::HeaderName>().ok();
            let value = http::HeaderValue::from_str(value.expose()).ok();
            let pair = header.zip(value);
            if pair.is_none() {
                let place = format!("{at}/headers/{}", name.replace('~', "~0").replace('/', "~1"));
                checking.problem(&place, "this is no name and value of a header");
            }
            pair
        });
        let headers: Vec<_> = headers.collect();
        let rules: Vec<Rule> = given
            .rules
            .iter()
            .enumerate()
            .filter_map(|(number, rule)| {
                generic_rule(checking, &format!("{at}/rules/{number}"), rule)
            })
            .collect();
        let Some(upstream) = upstream.filter(|_| rules.len() == given.rules.len()) else {
            continue;
        };
        let lane = Lane {
            name: format!("{}.{}", site.name, given.name).into(),
            upstream: Arc::clone(&upstream),
            headers: Vec::new(),
            batch_path: "/",
            limits: segment::LIMITS,
            stamps_each: false,
            metrics: LaneMetrics::new(&site.name, &given.name),
        };
        out.push(Generic { upstream, lane: Arc::new(lane), headers, rules });
    }
    (out.len() == site.vendor.generic.len()).then_some(out)
}

/// Half of what the spool can hold in one piece.
const MAX_SPOOLED_BYTES: usize = 4 * 1024 * 1024;

fn generic_rule(checking: &mut Checking<'_>, at: &str, rule: &file::GenericRule) -> Option<Rule> {
    let (path, below) = match rule.path.strip_suffix("/*") {
        Some(path) => (path, true),
        None => (rule.path.as_str(), false),
    };
    let wanted =
        rule.upstream.as_deref().map(|upstream| upstream.strip_suffix("/*").unwrap_or(upstream));
    let upstream = page_path(checking, &format!("{at}/upstream"), wanted.unwrap_or(path));
    let mut methods = Vec::new();
    for (index, name) in rule.methods.iter().enumerate() {
        match name.parse::<http::Method>() {
            Ok(method) if ["GET", "POST", "PUT", "PATCH", "DELETE"].contains(&method.as_str()) => {
                methods.push(method);
            }
            _ => {
                let place = format!("{at}/methods/{index}");
                checking.problem(&place, "expected GET, POST, PUT, PATCH or DELETE");
            }
        }
    }
    if rule.methods.is_empty() {
        methods.push(http::Method::GET);
    }
    let mut forward = Vec::new();
    for (index, name) in rule.forward.iter().enumerate() {
        let place = format!("{at}/forward/{index}");
        let hop = ["host", "connection", "content-length", "transfer-encoding", "upgrade", "te"];
        match name.parse::<http::HeaderName>() {
            Ok(name) if !hop.contains(&name.as_str()) => forward.push(name),
            _ => checking.problem(&place, format!("`{name}` is no header that can be passed on")),
        }
    }
    if rule.spooled && rule.body.bytes() > MAX_SPOOLED_BYTES {
        checking.problem(&format!("{at}/body"), "what is spooled has at most 4MiB");
    }
    Some(Rule {
        path: path.into(),
        below,
        upstream: upstream?,
        methods,
        body: rule.body.bytes(),
        headers: forward,
        spooled: rule.spooled,
    })
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
fn page_path(checking: &mut Checking<'_>, place: &str, path: &str) -> Option<Box<str>> {
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
