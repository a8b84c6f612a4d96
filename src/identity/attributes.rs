//! What the edge's cookies have beside name, value and domain.

use std::borrow::Cow;

use cookie::{Cookie, SameSite, time::Duration};
use percent_encoding::utf8_percent_encode;

use super::COOKIE_VALUE;

/// The attributes of a site's cookies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CookieAttributes {
    /// Browsers send them from frames on pages of other sites as well (`SameSite=None`).
    pub in_frames: bool,
    /// Those of one framing page are not those of another (CHIPS: `Partitioned`).
    pub partitioned: bool,
    /// They are `Secure` also where the edge can't tell that the visitor's connection is.
    pub always_secure: bool,
    /// How long ids live, in seconds.
    pub lives_for: i64,
}

impl Default for CookieAttributes {
    /// A year is the SDK's own lifetime, and below the 400 days that browsers allow.
    fn default() -> Self {
        Self {
            in_frames: false,
            partitioned: false,
            always_secure: false,
            lives_for: 365 * 24 * 3600,
        }
    }
}

impl CookieAttributes {
    /// Whether a cookie is `Secure`, on a connection that is or isn't. Browsers take cookies of frames no other way.
    fn is_secure(&self, secure: bool) -> bool {
        secure || self.always_secure || self.in_frames || self.partitioned
    }

    /// Puts them on `cookie`: closed to scripts, for all paths.
    pub(super) fn put(&self, cookie: &mut Cookie<'_>, secure: bool) {
        cookie.set_http_only(true);
        cookie.set_secure(self.is_secure(secure));
        cookie.set_same_site(if self.in_frames { SameSite::None } else { SameSite::Lax });
        cookie.set_partitioned(self.partitioned.then_some(true));
        cookie.set_path("/");
        cookie.set_max_age(Duration::seconds(self.lives_for));
    }

    /// The cookie of an id as the general way makes it, without that: every page of a visitor has one.
    pub(super) fn id_cookie(
        &self,
        name: &str,
        id: &str,
        domain: Option<&str>,
        secure: bool,
    ) -> String {
        let id = Cow::from(utf8_percent_encode(id, COOKIE_VALUE));
        let same_site = if self.in_frames { "None" } else { "Lax" };
        let partitioned = if self.partitioned { "; Partitioned" } else { "" };
        let path = if self.is_secure(secure) { "; Secure; Path=/" } else { "; Path=/" };
        let (attribute, domain) = domain.map_or(("", ""), |domain| ("; Domain=", domain));
        let seconds = self.lives_for.to_string();
        // Its length is known, so that nothing is made anew for the header.
        [
            name,
            "=",
            &id,
            "; HttpOnly; SameSite=",
            same_site,
            partitioned,
            path,
            attribute,
            domain,
            "; Max-Age=",
            &seconds,
        ]
        .concat()
    }

    /// Adds the lines that end `cookie`: where it is partitioned, also the one from before it was.
    pub(super) fn push_ends(&self, out: &mut Vec<String>, cookie: &Cookie<'_>) {
        out.push(cookie.to_string());
        self.push_end_of_whole(out, cookie);
    }

    /// Adds the line that ends the cookie of before there were partitions.
    pub(super) fn push_end_of_whole(&self, out: &mut Vec<String>, cookie: &Cookie<'_>) {
        if self.partitioned {
            let mut whole = cookie.clone();
            whole.set_partitioned(None);
            out.push(whole.to_string());
        }
    }
}
