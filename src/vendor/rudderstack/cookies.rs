//! The SDK's request for cookies set by a server (`rsaRequest`), so that browsers that cap the life of
//! cookies set by scripts keep them. Read in `@rudderstack/analytics-js` 3.34.

use serde::Deserialize;

/// What the SDK asks for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    req_type: String,
    data: Data,
}

#[derive(Debug, Deserialize)]
struct Data {
    #[serde(default)]
    options: Options,
    cookies: Vec<Pair>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Options {
    /// In milliseconds, as the SDK keeps it.
    max_age: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Pair {
    name: String,
    /// Encoded for a cookie; nothing where it is to go.
    #[serde(default)]
    value: serde_json::Value,
}

/// A cookie to set.
#[derive(Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name, one of the SDK's.
    pub name: Box<str>,
    /// Its value, encoded; empty to take it away.
    pub value: String,
    /// Its life in seconds.
    pub max_age: i64,
}

/// Why nothing is set.
#[derive(Debug, thiserror::Error)]
pub enum BadRequest {
    /// Not the SDK's JSON.
    #[error("expected the SDK's request: {0}")]
    Json(#[from] serde_json::Error),
    /// Some other request.
    #[error("expected `reqType` to be `setCookies`")]
    Kind,
    /// A cookie that is not the SDK's.
    #[error("cookies of the SDK are called `rl_…` and have at most {MAX_BYTES} bytes")]
    Cookie,
}

/// A cookie that browsers take (RFC 6265bis).
const MAX_BYTES: usize = 4000;
const MAX_COOKIES: usize = 16;
/// The longest that browsers keep one: 400 days.
const MAX_AGE: i64 = 400 * 24 * 3600;
const YEAR: i64 = 365 * 24 * 3600;

/// The cookies that `body` asks for.
///
/// # Errors
/// What is wrong with it.
pub fn wanted(body: &[u8]) -> Result<Vec<Wanted>, BadRequest> {
    let asked: Asked = serde_json::from_slice(body)?;
    if asked.req_type != "setCookies" {
        return Err(BadRequest::Kind);
    }
    #[allow(clippy::cast_possible_truncation, reason = "bounded right after")]
    let max_age = asked.data.options.max_age.map_or(YEAR, |millis| (millis / 1000.0) as i64);
    let max_age = max_age.clamp(0, MAX_AGE);
    if asked.data.cookies.len() > MAX_COOKIES {
        return Err(BadRequest::Cookie);
    }
    let cookie = |pair: Pair| {
        let value = pair.value.as_str().unwrap_or_default();
        let name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        // What may stand in a cookie's value (RFC 6265, 4.1.1).
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"\",;\\".contains(&byte);
        let good = pair.name.starts_with("rl_")
            && pair.name.bytes().all(name)
            && value.bytes().all(plain)
            && pair.name.len() + value.len() <= MAX_BYTES;
        let max_age = if value.is_empty() { 0 } else { max_age };
        good.then(|| Wanted { name: pair.name.into(), value: value.to_owned(), max_age })
            .ok_or(BadRequest::Cookie)
    };
    asked.data.cookies.into_iter().map(cookie).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sdks_own_cookies_are_set_and_no_others() {
        let body = br#"{"reqType":"setCookies","workspaceId":"w","data":{"options":{"maxAge":31536000000,"path":"/","sameSite":"Lax"},"cookies":[{"name":"rl_session","value":"RS_ENC_v3_e30%3D"},{"name":"rl_trait","value":""}]}}"#;
        let set = wanted(body).unwrap();
        assert_eq!(
            set[0],
            Wanted { name: "rl_session".into(), value: "RS_ENC_v3_e30%3D".into(), max_age: YEAR }
        );
        assert_eq!(set[1].max_age, 0);
        for wrong in [
            "{}",
            r#"{"reqType":"x","data":{"cookies":[]}}"#,
            r#"{"reqType":"setCookies","data":{"cookies":[{"name":"sid","value":"x"}]}}"#,
            r#"{"reqType":"setCookies","data":{"cookies":[{"name":"rl_a;b","value":"x"}]}}"#,
            r#"{"reqType":"setCookies","data":{"cookies":[{"name":"rl_a","value":"x; Domain=evil"}]}}"#,
            r#"{"reqType":"setCookies","data":{"cookies":[{"name":"rl_a","value":"x\r\nSet-Cookie: y"}]}}"#,
        ] {
            assert!(wanted(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
