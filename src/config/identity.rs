//! What the file says of visitors' ids → a compiled [`IdentityPolicy`], and who vouches for them.

use std::sync::Arc;

use super::compile::Checking;
use super::file::{self, SameSite, Secure};
use super::site::secret;
use crate::identity::{
    CookieAttributes, CookieDomain, CookieNames, ENDED, IdentityPolicy, MIN_KEY_BYTES,
    ProlongedCookie, SigningKeys, USER_SIGNATURE,
};
use crate::site::{Breaker, HostPattern, IdentityCheck, UserHash};
use crate::upstream::{Endpoint, Timeouts, Upstream};
use crate::vendor::{rudderstack, segment};

/// The most cookies of others.
const MAX_PROLONGED: usize = 16;

/// How a site keeps ids, in cookies as its vendors name them.
pub(super) fn identity(
    checking: &mut Checking<'_>,
    at: &str,
    site: &file::Site,
    hosts: &[HostPattern],
) -> Option<IdentityPolicy> {
    let (given, vendor) = (&site.identity, &site.vendor);
    let at = format!("{at}/identity");
    let segment = vendor.segment.is_some().then_some(segment::COOKIES);
    let rudderstack = vendor.rudderstack.is_some().then_some(rudderstack::COOKIES);
    let names: Vec<CookieNames> = segment.into_iter().chain(rudderstack).collect();
    let domain = domain(checking, &format!("{at}/domain"), &given.domain, hosts);
    let lives_for = lifetime(checking, &format!("{at}/cookies/lives_for"), given.cookies.lives_for);
    let prolonged = prolonged(checking, &format!("{at}/prolong"), &given.prolong, &names);
    Some(IdentityPolicy {
        server_side_cookies: given.server_side_cookies,
        mint: given.mint_anonymous_id,
        domain: domain?,
        attributes: CookieAttributes {
            in_frames: given.cookies.same_site == SameSite::None,
            partitioned: given.cookies.partitioned,
            always_secure: given.cookies.secure == Secure::Always,
            lives_for: lives_for?,
        },
        prolonged: prolonged?,
        names,
        signed: given.signed,
        signed_for: i64::try_from(given.signed_for.get().as_secs()).unwrap_or(i64::MAX),
    })
}

/// Seconds that a cookie may live.
fn lifetime(checking: &mut Checking<'_>, place: &str, given: super::Duration) -> Option<i64> {
    let seconds = given.get().as_secs();
    if (3600..=400 * 24 * 3600).contains(&seconds) {
        return i64::try_from(seconds).ok();
    }
    checking
        .problem(place, "expected a time between `1h` and `400d`, the most that browsers allow");
    None
}

/// The cookies of others.
fn prolonged(
    checking: &mut Checking<'_>,
    at: &str,
    given: &[file::Prolonged],
    names: &[CookieNames],
) -> Option<Vec<ProlongedCookie>> {
    if given.len() > MAX_PROLONGED {
        checking.problem(at, format!("at most {MAX_PROLONGED} cookies, found {}", given.len()));
        return None;
    }
    let own = names.iter().flat_map(|names| [names.user, names.anonymous]);
    let own: Vec<&str> = own.chain([USER_SIGNATURE, ENDED]).collect();
    let mut all: Vec<ProlongedCookie> = Vec::new();
    for (index, one) in given.iter().enumerate() {
        let place = format!("{at}/{index}/name");
        let known = all.iter().any(|before| *before.name == *one.name);
        if !is_cookie_name(&one.name) {
            let why = format!("expected the name of a cookie, found `{}`", one.name);
            checking.problem(&place, why);
        } else if known || own.contains(&&*one.name) {
            checking.problem(&place, format!("`{}` is set already", one.name));
        } else if let Some(lives_for) =
            lifetime(checking, &format!("{at}/{index}/lives_for"), one.lives_for)
        {
            let (http_only, always) = (one.http_only, one.always);
            all.push(ProlongedCookie {
                name: one.name.as_str().into(),
                lives_for,
                http_only,
                always,
            });
        }
    }
    (all.len() == given.len()).then_some(all)
}

/// Whether a text can stand where a cookie's name does (RFC 6265, 4.1.1).
fn is_cookie_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_graphic() && !b"=;,\"\\".contains(&byte);
    !text.is_empty() && text.bytes().all(fits)
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

pub(super) fn signing_keys(
    checking: &mut Checking<'_>,
    at: &str,
    site: &file::Site,
) -> Option<SigningKeys> {
    let mut good = true;
    for (index, key) in site.signing_keys.iter().enumerate() {
        if key.expose().len() < MIN_KEY_BYTES {
            let place = format!("{at}/signing_keys/{index}");
            let why = format!("a key has {MIN_KEY_BYTES} bytes or more: `openssl rand -hex 32`");
            checking.problem(&place, why);
            good = false;
        }
    }
    let identity = &site.identity;
    if site.signing_keys.is_empty() && (identity.signed || identity.check.is_some()) {
        checking.problem(&format!("{at}/identity"), "signed ids need `signing_keys` of the site");
        good = false;
    }
    let lives = identity.signed_for.get().as_secs();
    if !(60..=365 * 24 * 3600).contains(&lives) {
        let place = format!("{at}/identity/signed_for");
        checking.problem(&place, "expected a time between `1m` and `365d`");
        good = false;
    }
    if identity.signed && !identity.server_side_cookies {
        let place = format!("{at}/identity/signed");
        checking.problem(&place, "signed ids are kept in cookies: `server_side_cookies` is off");
        good = false;
    }
    good.then(|| SigningKeys::new(&site.signing_keys))
}

#[allow(clippy::option_option, reason = "outer: is it right; inner: is it set")]
pub(super) fn user_hash(
    checking: &mut Checking<'_>,
    at: &str,
    identity: &file::Identity,
) -> Option<Option<UserHash>> {
    let (inline, path) =
        (identity.user_hash_secret.as_ref(), identity.user_hash_secret_file.as_deref());
    if inline.is_none() && path.is_none() {
        return Some(None);
    }
    let at = format!("{at}/identity");
    let secret = secret(checking, &at, "user_hash_secret", inline, path)?;
    Some(Some(UserHash::new(secret)))
}

#[allow(clippy::option_option, reason = "outer: is it right; inner: is it set")]
pub(super) fn identity_check(
    checking: &mut Checking<'_>,
    at: &str,
    identity: &file::Identity,
) -> Option<Option<IdentityCheck>> {
    let Some(given) = &identity.check else { return Some(None) };
    let at = format!("{at}/identity/check");
    let endpoint = checking.take(&format!("{at}/url"), Endpoint::parse(&given.url));
    if !is_cookie_name(&given.cookie) {
        let why = format!("expected the name of a cookie, found `{}`", given.cookie);
        checking.problem(&format!("{at}/cookie"), why);
        return None;
    }
    let timeout = given.timeout.get();
    let timeouts =
        Timeouts { connect: timeout, read: timeout, write: timeout, ..Timeouts::default() };
    Some(Some(IdentityCheck {
        upstream: Arc::new(Upstream::new(endpoint?, timeouts, None, true)),
        cookie: given.cookie.as_str().into(),
        fresh_for: given.fresh_for.get(),
        timeout,
        breaker: Breaker::new(CHECK_PAUSE),
    }))
}

/// A check that does not answer is left alone that long: pages must not wait for it one by one.
const CHECK_PAUSE: std::time::Duration = std::time::Duration::from_secs(5);
