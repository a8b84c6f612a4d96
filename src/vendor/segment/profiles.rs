//! Segment's Profiles API.
//! <https://segment.com/docs/unify/profile-api/>

use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::profile::ProfileKey;
use crate::profile::source::{Api, Asking, Page, in_url};

/// The API of one space.
#[derive(Debug)]
pub struct ProfilesApi {
    /// Path up to the id.
    front: String,
    query: String,
    /// The path that the API's own links begin with.
    base: String,
}

/// The most that the API gives at one time.
const LIMIT: usize = 200;

impl ProfilesApi {
    /// The API of `space`, for traits of `class` alone where one is given. `base` is the path of its
    /// address.
    #[must_use]
    pub fn new(base: &str, space: &str, class: Option<&str>) -> Self {
        let class = class.map(|class| format!("&class={class}")).unwrap_or_default();
        Self {
            front: format!("/spaces/{space}/collections/users/profiles/"),
            query: format!("limit={LIMIT}{class}"),
            base: base.to_owned(),
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    traits: Map<String, Value>,
    #[serde(default)]
    cursor: Cursor,
}

#[derive(Deserialize, Default)]
struct Cursor {
    #[serde(default)]
    has_more: bool,
    #[serde(default)]
    next: String,
}

impl Api for ProfilesApi {
    fn ask(&self, key: &ProfileKey, next: Option<&str>) -> Asking {
        let Self { front, query, base } = self;
        let path = match next {
            // A path of its own, as its documentation shows it.
            Some(link) if link.starts_with('/') && is_target(link) => {
                link.strip_prefix(base.as_str()).unwrap_or(link).to_owned()
            }
            other => {
                let kind = in_url(key.id_type());
                let id = in_url(key.id());
                let next =
                    other.map(|token| format!("&next={}", in_url(token))).unwrap_or_default();
                format!("{front}{kind}:{id}/traits?{query}{next}")
            }
        };
        Asking { method: Method::GET, path, body: Bytes::new() }
    }

    fn read(&self, body: &[u8]) -> Result<Page, &'static str> {
        let answer: Answer = serde_json::from_slice(body).map_err(|_| "no `traits`")?;
        let traits = answer.traits.into_iter().map(|(name, value)| (name.into(), value)).collect();
        let Cursor { has_more, next } = answer.cursor;
        Ok(Page {
            traits,
            next: Some(next).filter(|next| has_more && !next.is_empty()),
            nobody: false,
        })
    }
}

/// Whether it can stand in a request line.
fn is_target(link: &str) -> bool {
    link.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn asks_as_documented_and_follows_cursors() {
        let api = ProfilesApi::new("/v1", "spa_1", Some("audience"));
        let key = ProfileKey::parse("s", "email:jo/e@x").unwrap();
        let front = "/spaces/spa_1/collections/users/profiles/email:jo%2Fe%40x/traits";
        assert_eq!(api.ask(&key, None).path, format!("{front}?limit=200&class=audience"));
        assert_eq!(
            api.ask(&key, Some("a=b")).path,
            format!("{front}?limit=200&class=audience&next=a%3Db")
        );
        assert_eq!(api.ask(&key, Some("/v1/spaces/x?next=2")).path, "/spaces/x?next=2");
        let page = api
            .read(br#"{"traits": {"a": 1}, "cursor": {"url": "", "has_more": true, "next": "n", "limit": 1}}"#)
            .unwrap();
        assert_eq!(page.traits, [("a".into(), json!(1))]);
        assert_eq!(page.next.as_deref(), Some("n"));
        let last =
            api.read(br#"{"traits": {}, "cursor": {"has_more": false, "next": "n"}}"#).unwrap();
        assert_eq!(last, Page::default());
        assert!(api.read(b"{}").is_err());
    }
}
