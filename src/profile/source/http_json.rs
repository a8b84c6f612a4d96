//! Any API that answers a GET with JSON that holds the traits.

use bytes::Bytes;
use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::{Api, Asking, Page};
use crate::profile::ProfileKey;

/// Everything but what never means anything in a URL (RFC 3986, 2.3).
const IN_URL: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// `text` as one part of a URL's path or query. A part of dots alone is encoded as well: as it is, it would lead
/// elsewhere (RFC 3986, 5.2.4).
pub(crate) fn in_url(text: &str) -> String {
    if matches!(text, "." | "..") {
        return text.replace('.', "%2E");
    }
    utf8_percent_encode(text, IN_URL).to_string()
}

/// One such API.
#[derive(Debug)]
pub struct HttpJson {
    /// Path and query, with `{id}` and `{id_type}`.
    template: Box<str>,
    /// Where the traits are in the answer (RFC 6901).
    pointer: Box<str>,
}

/// Why text is no template of a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HttpJsonError {
    /// No place for the id.
    #[error("expected `{{id}}` in the path or the query, where the visitor's id goes")]
    NoId,
    /// The placeholder stands in scheme, host or port.
    #[error("`{{id}}` and `{{id_type}}` may stand in the path and the query alone")]
    InAuthority,
}

impl HttpJson {
    /// Splits `url` into the address and what is asked there.
    ///
    /// # Errors
    /// When the id has no place in it, or one where it would choose the server.
    pub fn parse(url: &str, pointer: &str) -> Result<(String, Self), HttpJsonError> {
        let host = url.find("://").map_or(0, |at| at + 3);
        let path =
            url.get(host..).and_then(|rest| rest.find('/')).map_or(url.len(), |at| host + at);
        let (address, template) = url.split_at_checked(path).unwrap_or((url, ""));
        if address.contains('{') {
            return Err(HttpJsonError::InAuthority);
        }
        if !template.contains("{id}") {
            return Err(HttpJsonError::NoId);
        }
        Ok((address.to_owned(), Self { template: template.into(), pointer: pointer.into() }))
    }
}

impl Api for HttpJson {
    fn ask(&self, key: &ProfileKey, _: Option<&str>) -> Asking {
        let path = self
            .template
            .replace("{id_type}", &in_url(key.id_type()))
            .replace("{id}", &in_url(key.id()));
        Asking { method: Method::GET, path, body: Bytes::new() }
    }

    fn read(&self, body: &[u8]) -> Result<Page, &'static str> {
        let mut answer: Value = serde_json::from_slice(body).map_err(|_| "not JSON")?;
        match answer.pointer_mut(&self.pointer).map(Value::take) {
            Some(Value::Object(traits)) => {
                let traits = traits.into_iter().map(|(name, value)| (name.into(), value)).collect();
                Ok(Page { traits, ..Page::default() })
            }
            Some(Value::Null) | None => Ok(Page { nobody: true, ..Page::default() }),
            Some(_) => Err("no object where the traits should be"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_id_can_only_be_an_id() {
        let (address, api) =
            HttpJson::parse("https://api.example/v1/{id_type}/{id}?x={id}", "/data").unwrap();
        assert_eq!(address, "https://api.example");
        let key = ProfileKey::parse("s", "user_id:../a b?&=#{id_type}").unwrap();
        let asked = api.ask(&key, None).path;
        assert_eq!(
            asked,
            "/v1/user_id/..%2Fa%20b%3F%26%3D%23%7Bid_type%7D?x=..%2Fa%20b%3F%26%3D%23%7Bid_type%7D"
        );
        for (id, path) in [("..", "/v1/user_id/%2E%2E?x=%2E%2E"), (".", "/v1/user_id/%2E?x=%2E")] {
            let key = ProfileKey::parse("s", &format!("user_id:{id}")).unwrap();
            assert_eq!(api.ask(&key, None).path, path);
        }
        let wrong = |url| HttpJson::parse(url, "").map(|_| ()).unwrap_err();
        assert_eq!(wrong("https://{id}.example/{id}"), HttpJsonError::InAuthority);
        assert_eq!(wrong("https://api.example/x"), HttpJsonError::NoId);
        assert_eq!(wrong("https://api.example"), HttpJsonError::NoId);
    }

    #[test]
    fn traits_are_read_where_they_are() {
        let read = |pointer: &str, body: &str| {
            HttpJson { template: "".into(), pointer: pointer.into() }.read(body.as_bytes())
        };
        let page = read("/data/0", r#"{"data": [{"red": true}]}"#).unwrap();
        assert_eq!(page.traits, [("red".into(), json!(true))]);
        assert!(read("", r#"{"red": true}"#).is_ok_and(|page| page.traits.len() == 1));
        assert!(read("/data", "{}").is_ok_and(|page| page.nobody));
        assert!(read("", "[]").is_err() && read("", "x").is_err());
    }
}
