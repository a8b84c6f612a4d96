//! RudderStack's Activation API: feature views of one entity as traits.
//! <https://www.rudderstack.com/docs/profiles/activation-api/>

use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::profile::ProfileKey;
use crate::profile::source::{Api, Asking, Page};

/// The API of one destination.
#[derive(Debug)]
pub struct ActivationApi {
    entity: Box<str>,
    destination: Box<str>,
}

impl ActivationApi {
    /// The API of `destination`, for profiles of `entity`.
    #[must_use]
    pub fn new(entity: &str, destination: &str) -> Self {
        Self { entity: entity.into(), destination: destination.into() }
    }
}

#[derive(Deserialize)]
struct Answer {
    data: Map<String, Value>,
}

impl Api for ActivationApi {
    fn ask(&self, key: &ProfileKey, _: Option<&str>) -> Asking {
        let body = json!({
            "entity": self.entity,
            "destinationId": self.destination,
            "id": { "type": key.id_type(), "value": key.id() },
        });
        let body = Bytes::from(body.to_string());
        Asking { method: Method::POST, path: "/activation".into(), body }
    }

    /// Features of all views together. Of two of one name the one of the later view counts.
    fn read(&self, body: &[u8]) -> Result<Page, &'static str> {
        let answer: Answer = serde_json::from_slice(body).map_err(|_| "no `data`")?;
        let mut traits = Map::new();
        for (_, view) in answer.data {
            let Value::Object(features) = view else { return Err("a view is not an object") };
            traits.extend(features);
        }
        let nobody = traits.is_empty();
        let traits = traits.into_iter().map(|(name, value)| (name.into(), value)).collect();
        Ok(Page { traits, next: None, nobody })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_as_documented_and_reads_all_views() {
        let api = ActivationApi::new("user", "dst");
        let asked = api.ask(&ProfileKey::parse("s", "anonymous_id:\"x").unwrap(), None);
        let body: Value = serde_json::from_slice(&asked.body).unwrap();
        assert_eq!((asked.method, &*asked.path), (Method::POST, "/activation"));
        let id = json!({"type": "anonymous_id", "value": "\"x"});
        assert_eq!(body, json!({"entity": "user", "destinationId": "dst", "id": id}));
        let page = api
            .read(br#"{"entity": "user", "id": {}, "data": {"p:a": {"x": 1}, "p:b": {"y": 2, "x": 3}}}"#)
            .unwrap();
        assert_eq!(page.traits, [("x".into(), json!(3)), ("y".into(), json!(2))]);
        assert!(api.read(br#"{"data": {}}"#).unwrap().nobody);
        assert!(api.read(br#"{"data": {"p": 1}}"#).is_err() && api.read(b"[]").is_err());
    }
}
