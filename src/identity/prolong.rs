//! Cookies that scripts set, set again by the server: Safari lets a script's live for seven days.

use cookie::{Cookie, time::Duration};
use http::HeaderValue;

use super::cookies::{CookieSent, sent};

/// A cookie of somebody else's that the site has named, such as `_ga`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProlongedCookie {
    /// Its name.
    pub name: Box<str>,
    /// How long it lives from the last page on, in seconds.
    pub lives_for: i64,
    /// Scripts don't see it any more.
    pub http_only: bool,
    /// Also of visitors who don't allow all: it is the one that says so.
    pub always: bool,
}

impl ProlongedCookie {
    /// Its value as the browser has sent it. `None` where it has none, two, or one that can't be sent back.
    pub(super) fn value<'h>(
        &self,
        headers: impl IntoIterator<Item = &'h HeaderValue>,
    ) -> Option<&'h str> {
        let CookieSent::One(value) = sent(headers, &self.name) else { return None };
        // What ends a value is not in it; controls are nobody's.
        let is_text = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
        value.bytes().all(is_text).then_some(value).filter(|value| !value.is_empty())
    }

    /// Puts its own attributes on `cookie`.
    pub(super) fn put(&self, cookie: &mut Cookie<'_>) {
        cookie.set_http_only(self.http_only.then_some(true));
        cookie.set_max_age(Duration::seconds(self.lives_for));
        if self.name.starts_with("__Host-") {
            cookie.unset_domain();
        }
    }
}
