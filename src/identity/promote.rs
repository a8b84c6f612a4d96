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

#[cfg(test)]
mod tests {
    use super::*;

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
