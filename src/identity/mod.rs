//! Who asks: ids read from cookies, minted for newcomers, written back as HttpOnly cookies.
//! In: Cookie headers and a site's policy. Out: a [`Visitor`] and Set-Cookie values.
//! Knows nothing of Pingora.

mod attributes;
mod confirmed;
mod cookies;
mod domain;
mod ended;
mod id;
mod json;
mod prolong;
mod promote;
mod signing;
mod vouch;

pub use attributes::CookieAttributes;
pub use confirmed::{Confirmed, Standing};
pub use cookies::{CookieForm, CookieNames, CookieSent, cookie, read, sent, values};
pub use domain::{CookieDomain, host_without_port, registrable};
pub use ended::{ENDED, Ended};
pub use id::{AnonymousId, IdError, MAX_ID_BYTES, UserId};
pub use json::{as_id, number_as_text, value_as_id};
pub use prolong::ProlongedCookie;
pub use promote::{UserCookie, promote, user_in};
pub use signing::{MIN_KEY_BYTES, Purpose, SigningKeys};
pub use vouch::Vouch;

use std::borrow::Cow;

use cookie::{Cookie, time::Duration};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// A visitor as far as the request tells. Either id may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Visitor {
    /// The id that the site's own systems use, once the visitor has logged in.
    pub user: Option<UserId>,
    /// The id of the browser.
    pub anonymous: Option<AnonymousId>,
    /// The anonymous id was made for this very request.
    pub minted: bool,
    /// Which ids came in cookies that don't count.
    pub conflicts: Conflicts,
}

/// Ids of which a browser has several cookies with different values, of its host alone and of a domain, or that were
/// ended and have come back with an answer from before. None of them counts, and all but the one that is kept are to
/// end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Conflicts {
    /// The user's.
    pub user: bool,
    /// The browser's.
    pub anonymous: bool,
}

impl Conflicts {
    /// Of each id.
    pub const ALL: Self = Self { user: true, anonymous: true };
}

/// How one site keeps identity. Compiled from its configuration.
#[derive(Debug, Clone)]
pub struct IdentityPolicy {
    /// Keep ids in HttpOnly cookies.
    pub server_side_cookies: bool,
    /// Give newcomers an anonymous id.
    pub mint: bool,
    /// Domain attribute of the cookies.
    pub domain: CookieDomain,
    /// Their other attributes.
    pub attributes: CookieAttributes,
    /// Cookies of others that are set again with each page.
    pub prolonged: Vec<ProlongedCookie>,
    /// What each vendor of the site calls them.
    pub names: Vec<CookieNames>,
    /// A user id counts for what a page shows only with the edge's signature beside it.
    pub signed: bool,
    /// How long the signature counts, in seconds.
    pub signed_for: i64,
}

/// A cookie that is not an id's.
#[derive(Debug, Clone, Copy)]
pub struct OtherCookie<'c> {
    /// Name.
    pub name: &'c str,
    /// Value, encoded.
    pub value: &'c str,
    /// Scripts can read it.
    pub readable: bool,
}

/// The cookie beside the user's, with the edge's signature.
pub const USER_SIGNATURE: &str = "doorstep_user";

/// Any text as it can stand in a cookie.
#[must_use]
pub fn cookie_value(text: &str) -> String {
    utf8_percent_encode(text, COOKIE_VALUE).to_string()
}

/// What a cookie value can't hold as it is (RFC 6265, 4.1.1), and `%` itself. The SDK reads values
/// with `decodeURIComponent`.
const COOKIE_VALUE: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'%').add(b'=').add(b',').add(b';').add(b'\\');

impl IdentityPolicy {
    /// Set-Cookie values that keep `visitor`'s ids, for a page or event of `host`.
    #[must_use]
    pub fn keep(&self, visitor: &Visitor, host: &str, secure: bool) -> Vec<String> {
        let mut out = Vec::with_capacity(2 * self.names.len());
        if !self.server_side_cookies {
            return out;
        }
        let Conflicts { user, anonymous } = visitor.conflicts;
        if user && self.signed && visitor.user.is_none() {
            out.extend(self.end_others(USER_SIGNATURE, false, host, secure));
        }
        let kept = |name, form: CookieForm, id: &str| {
            let id = form.write(id);
            self.attributes.id_cookie(name, &id, self.domain.of(host), secure)
        };
        for names in &self.names {
            if anonymous {
                let is_kept = visitor.anonymous.is_some();
                out.extend(self.end_others(names.anonymous, is_kept, host, secure));
            }
            if user {
                out.extend(self.end_others(names.user, visitor.user.is_some(), host, secure));
            }
            if let Some(id) = &visitor.anonymous {
                out.push(kept(names.anonymous, names.form, id.as_str()));
            }
            if let Some(id) = &visitor.user {
                out.push(kept(names.user, names.form, id.as_str()));
            }
        }
        out
    }

    /// A Set-Cookie value for a cookie that is not an id's, which lives for `max_age` seconds: until the
    /// browser is closed, where it says nothing. Its value is encoded.
    #[must_use]
    pub fn other(
        &self,
        other: &OtherCookie<'_>,
        max_age: Option<i64>,
        host: &str,
        secure: bool,
    ) -> String {
        let mut cookie = self.build(other.name.to_owned(), other.value, host, secure);
        if other.readable {
            cookie.set_http_only(None);
        }
        cookie.set_max_age(max_age.map(Duration::seconds));
        cookie.to_string()
    }

    /// The signature that a browser is a user, given at `now` (seconds since 1970), as a Set-Cookie value. It ends
    /// when the policy says, or at `ends` where an older one is renewed. `None` without a key.
    #[must_use]
    pub fn vouch(
        &self,
        keys: &SigningKeys,
        word: &Vouch<'_>,
        (now, ends): (i64, Option<i64>),
        host: &str,
        secure: bool,
    ) -> Option<String> {
        let seconds = ends.map_or(self.signed_for, |ends| ends.saturating_sub(now));
        let signature = word.give(keys, now, seconds)?;
        let mut cookie = self.build(USER_SIGNATURE, &signature, host, secure);
        cookie.set_max_age(Duration::seconds(seconds));
        Some(cookie.to_string())
    }

    /// The mark that an identity has ended, as a Set-Cookie value.
    #[must_use]
    pub fn mark(&self, ended: &Ended, host: &str, secure: bool) -> String {
        self.build(ENDED, &ended.text(), host, secure).to_string()
    }

    /// Set-Cookie values that end `host`'s identity in this browser, and the cookies of `own` names.
    #[must_use]
    pub fn forget(&self, own: &[&'static str], host: &str, secure: bool) -> Vec<String> {
        let ids = self.names.iter().flat_map(|names| [names.anonymous, names.user]);
        let signature = self.signed.then_some(USER_SIGNATURE);
        self.end(ids.chain(signature).chain(own.iter().copied()), host, secure)
    }

    /// Set-Cookie values that end a login: the browser stays known, the user does not.
    #[must_use]
    pub fn forget_user(&self, host: &str, secure: bool) -> Vec<String> {
        let users = self.names.iter().map(|names| names.user);
        self.end(users.chain([USER_SIGNATURE]), host, secure)
    }

    /// Set-Cookie values that take the cookies of these names away.
    #[must_use]
    pub fn end<'n>(
        &self,
        names: impl Iterator<Item = &'n str>,
        host: &str,
        secure: bool,
    ) -> Vec<String> {
        let mut out = Vec::new();
        for name in names {
            let mut cookie = self.build(name, "", host, secure);
            cookie.set_max_age(Duration::ZERO);
            // A cookie of this host alone would survive the one with a domain.
            if cookie.domain().is_some() {
                let mut own = cookie.clone();
                own.unset_domain();
                self.attributes.push_ends(&mut out, &own);
            }
            self.attributes.push_ends(&mut out, &cookie);
        }
        out
    }

    /// Set-Cookie values that let the cookies of others live on that the site has named, of those of a page's request.
    #[must_use]
    pub fn prolong(
        &self,
        headers: &http::HeaderMap,
        allowed: bool,
        host: &str,
        secure: bool,
    ) -> Vec<String> {
        let named = self.prolonged.iter().filter(|named| allowed || named.always);
        let line = |named: &ProlongedCookie| {
            let value = named.value(headers.get_all(http::header::COOKIE))?;
            let mut cookie = self.build(&*named.name, value, host, secure);
            named.put(&mut cookie);
            Some(cookie.to_string())
        };
        named.filter_map(line).collect()
    }

    /// Set-Cookie values that end the cookies of `name` which a browser may have beside the one that is set, and that
    /// one as well where none `is_kept`. One of a path can't be known.
    fn end_others(&self, name: &str, is_kept: bool, host: &str, secure: bool) -> Vec<String> {
        let own = self.domain.of(host);
        let mut domains = vec![None, registrable(host)];
        domains.extend(Some(own).filter(|own| !domains.contains(own)));
        domains.dedup();
        let mut out = Vec::new();
        for domain in domains {
            let mut cookie = self.build(name, "", host, secure);
            cookie.set_max_age(Duration::ZERO);
            match domain {
                Some(domain) => cookie.set_domain(domain.to_owned()),
                None => cookie.unset_domain(),
            }
            if is_kept && domain == own {
                self.attributes.push_end_of_whole(&mut out, &cookie);
            } else {
                self.attributes.push_ends(&mut out, &cookie);
            }
        }
        out
    }

    fn build<'c>(
        &self,
        name: impl Into<Cow<'c, str>>,
        value: &str,
        host: &str,
        secure: bool,
    ) -> Cookie<'c> {
        let mut cookie = Cookie::new(name, value.to_owned());
        self.attributes.put(&mut cookie, secure);
        if let Some(domain) = self.domain.of(host) {
            cookie.set_domain(domain.to_owned());
        }
        cookie
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> IdentityPolicy {
        IdentityPolicy {
            server_side_cookies: true,
            mint: true,
            domain: CookieDomain::Registrable,
            attributes: CookieAttributes::default(),
            prolonged: Vec::new(),
            names: vec![crate::vendor::segment::COOKIES],
            signed: false,
            signed_for: 60,
        }
    }

    #[test]
    fn cookies_are_closed_to_scripts_and_live_a_year() {
        let visitor = Visitor { user: UserId::parse("jo hn;ü").ok(), ..Visitor::default() };
        let set = policy().keep(&visitor, "www.shop.co.uk:8443", true);
        assert_eq!(
            set,
            ["ajs_user_id=jo%20hn%3B%C3%BC; HttpOnly; SameSite=Lax; Secure; Path=/; \
              Domain=shop.co.uk; Max-Age=31536000"]
        );
        let plain = policy().keep(&visitor, "127.0.0.1:8080", false);
        assert!(!plain[0].contains("Domain") && !plain[0].contains("Secure"), "{plain:?}");
    }

    /// The short way writes what the long one does.
    #[test]
    fn every_identity_cookie_is_written_alike() {
        let lives_for = 3600;
        let plain = CookieAttributes::default();
        let all = [
            plain,
            CookieAttributes { in_frames: true, ..plain },
            CookieAttributes { in_frames: true, partitioned: true, lives_for, ..plain },
            CookieAttributes { always_secure: true, ..plain },
        ];
        for attributes in all {
            for (domain, secure) in [(CookieDomain::Host, true), (CookieDomain::Registrable, false)]
            {
                let policy = IdentityPolicy { domain, attributes, ..policy() };
                let user = UserId::parse("jo hn;ü").unwrap();
                let visitor = Visitor { user: Some(user), ..Visitor::default() };
                let short = policy.keep(&visitor, "www.shop.co.uk", secure);
                let value = cookie_value("jo hn;ü");
                let long = policy.build("ajs_user_id", &value, "www.shop.co.uk", secure);
                assert_eq!(short, [long.to_string()]);
            }
        }
    }

    #[test]
    fn cookies_of_frames_are_secure_and_end_with_those_from_before() {
        let attributes =
            CookieAttributes { in_frames: true, partitioned: true, ..CookieAttributes::default() };
        let policy = IdentityPolicy { attributes, domain: CookieDomain::Host, ..policy() };
        let visitor = Visitor { anonymous: AnonymousId::parse("a-1").ok(), ..Visitor::default() };
        assert_eq!(
            policy.keep(&visitor, "www.shop.example", false),
            [
                "ajs_anonymous_id=a-1; HttpOnly; SameSite=None; Partitioned; Secure; Path=/; Max-Age=31536000"
            ]
        );
        let ends = |partitioned| {
            format!("; HttpOnly; SameSite=None{partitioned}; Secure; Path=/; Max-Age=0")
        };
        let (both, name) = ([ends("; Partitioned"), ends("")], "ajs_user_id=");
        let ended = policy.end(["ajs_user_id"].into_iter(), "www.shop.example", false);
        assert_eq!(ended, both.map(|rest| format!("{name}{rest}")));
        let conflicts = Conflicts { anonymous: true, ..Conflicts::default() };
        let lines = policy.keep(&Visitor { conflicts, ..visitor }, "www.shop.example", false);
        let ends_whole = |line: &&String| line.contains("Max-Age=0") && !line.contains("Domain");
        assert_eq!(
            lines.iter().filter(ends_whole).collect::<Vec<_>>(),
            [&format!("ajs_anonymous_id={}", ends(""))]
        );
    }

    #[test]
    fn cookies_of_others_live_on_as_they_are() {
        let named = |name: &str, http_only, always| ProlongedCookie {
            name: name.into(),
            lives_for: 60,
            http_only,
            always,
        };
        let prolonged = vec![named("_ga", false, false), named("__Host-cmp", true, true)];
        let policy = IdentityPolicy { prolonged, ..policy() };
        let lines = |text: &'static str, allowed| {
            let cookie = http::HeaderValue::from_static(text);
            let fields = http::HeaderMap::from_iter([(http::header::COOKIE, cookie)]);
            policy.prolong(&fields, allowed, "www.shop.example", true)
        };
        let ga = "; SameSite=Lax; Secure; Path=/; Domain=shop.example; Max-Age=60";
        let cmp = "__Host-cmp=\"a,b\"; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=60";
        assert_eq!(
            lines("_ga=GA1.1.5%20=x; __Host-cmp=\"a,b\"; sid=1", true),
            [&format!("_ga=GA1.1.5%20=x{ga}"), cmp]
        );
        assert_eq!(lines("_ga=1; __Host-cmp=\"a,b\"", false), [cmp], "what is not allowed ends");
        for nothing in ["sid=1", "_ga=", "_ga=1; _ga=2", "_ga=a\tb"] {
            assert!(lines(nothing, true).is_empty(), "{nothing}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for id in ["john", "a b", "50%", "\"quoted\"", "ü;,\\", "a=b"] {
            let visitor = Visitor {
                user: UserId::parse(id).ok(),
                anonymous: Some(AnonymousId::mint()),
                ..Visitor::default()
            };
            let lines = policy().keep(&visitor, "localhost", false);
            let pairs: Vec<&[u8]> =
                lines.iter().map(|line| line.split(';').next().unwrap().as_bytes()).collect();
            assert_eq!(read(&policy().names, pairs.into_iter()), visitor, "{id}");
        }
    }

    #[test]
    fn of_two_cookies_of_one_name_the_one_that_is_kept_stays() {
        let id = AnonymousId::parse("fresh").unwrap();
        let conflicts = Conflicts { user: true, anonymous: true };
        let visitor = Visitor { anonymous: Some(id), conflicts, ..Visitor::default() };
        let lines = |domain: CookieDomain| {
            let policy = IdentityPolicy { domain, ..policy() };
            let lines = policy.keep(&visitor, "www.shop.example", true);
            let about = |line: &String| {
                let ends = if line.contains("Max-Age=0") { "ends " } else { "" };
                let name = line.split('=').next().unwrap_or_default();
                let domain = line.split("Domain=").nth(1).and_then(|rest| rest.split(';').next());
                format!("{ends}{name} {}", domain.unwrap_or("host"))
            };
            lines.iter().map(about).collect::<Vec<_>>()
        };
        assert_eq!(
            lines(CookieDomain::Registrable),
            [
                "ends ajs_anonymous_id host",
                "ends ajs_user_id host",
                "ends ajs_user_id shop.example",
                "ajs_anonymous_id shop.example",
            ]
        );
        let host = lines(CookieDomain::Host);
        assert_eq!(host.first().unwrap(), "ends ajs_anonymous_id shop.example");
        assert_eq!(host.last().unwrap(), "ajs_anonymous_id host");
    }

    #[test]
    fn forgetting_ends_both_cookies_on_host_and_domain() {
        let set = policy().forget(&[], "www.shop.example", false);
        assert_eq!(set.len(), 4);
        assert!(set.iter().all(|line| line.contains("Max-Age=0")));
        assert_eq!(set.iter().filter(|line| line.contains("Domain=shop.example")).count(), 2);
    }
}
