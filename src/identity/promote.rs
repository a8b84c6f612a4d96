//! The origin's own Set-Cookie of an identity cookie, closed to scripts.

use super::CookieNames;

/// `line` with HttpOnly (and Secure on TLS) when it sets one of `names` and lacks it; `None` when
/// the line stays as it is.
#[must_use]
pub fn promote(names: &[CookieNames], line: &str, secure: bool) -> Option<String> {
    let (name, _) = line.split_once('=')?;
    let name = name.trim();
    if !names.iter().any(|names| name == names.user || name == names.anonymous) {
        return None;
    }
    let has = |wanted: &str| {
        line.split(';').skip(1).any(|attribute| attribute.trim().eq_ignore_ascii_case(wanted))
    };
    let mut out = line.trim_end().trim_end_matches(';').to_owned();
    if !has("HttpOnly") {
        out.push_str("; HttpOnly");
    }
    if secure && !has("Secure") {
        out.push_str("; Secure");
    }
    (out != line).then_some(out)
}

/// What a line of Set-Cookie does to a user's cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserCookie {
    /// It names a user.
    Names,
    /// It takes the cookie away.
    Ends,
}

/// What `line` does to a user's cookie of `names`. `None` where it is about another one.
#[must_use]
pub fn user_in(names: &[CookieNames], line: &str) -> Option<UserCookie> {
    let (name, _) = line.split_once('=')?;
    if !names.iter().any(|names| name.trim() == names.user) {
        return None;
    }
    let cookie = cookie::Cookie::parse(line).ok()?;
    let past =
        cookie.expires_datetime().is_some_and(|at| at <= cookie::time::OffsetDateTime::now_utc());
    let over = match cookie.max_age() {
        // It counts before Expires (RFC 6265, 5.3).
        Some(age) => age <= cookie::time::Duration::ZERO,
        None => past,
    };
    let empty = matches!(cookie.value(), "" | "\"\"" | "null");
    Some(if over || empty { UserCookie::Ends } else { UserCookie::Names })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origins_logout_is_known() {
        let names = [crate::vendor::segment::COOKIES];
        for (line, does) in [
            ("ajs_user_id=; Path=/", Some(UserCookie::Ends)),
            ("ajs_user_id=john; Max-Age=0", Some(UserCookie::Ends)),
            ("ajs_user_id=deleted; expires=Thu, 01 Jan 1970 00:00:00 GMT", Some(UserCookie::Ends)),
            (
                "ajs_user_id=x; Expires=Thu, 01-Jan-1970 00:00:01 GMT; path=/",
                Some(UserCookie::Ends),
            ),
            (
                "ajs_user_id=john; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
                Some(UserCookie::Names),
            ),
            ("ajs_user_id=john", Some(UserCookie::Names)),
            ("ajs_anonymous_id=; Max-Age=0", None),
            ("sid=; Max-Age=0", None),
            ("nonsense", None),
        ] {
            assert_eq!(user_in(&names, line), does, "{line}");
        }
    }

    #[test]
    fn only_identity_cookies_change() {
        let names = [crate::vendor::segment::COOKIES];
        for same in ["sid=1; Path=/", "ajs_user_id=x; httponly", "no cookie", "ajs_user_idx=1"] {
            assert_eq!(promote(&names, same, false), None, "{same}");
        }
        assert_eq!(
            promote(&names, "ajs_user_id=john; Path=/;", true).as_deref(),
            Some("ajs_user_id=john; Path=/; HttpOnly; Secure")
        );
    }
}
