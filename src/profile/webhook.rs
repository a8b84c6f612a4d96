//! What the vendor pushes about a profile: Segment's Engage webhook.
//! <https://segment.com/docs/engage/> sends an `identify` for computed traits and audiences, or a
//! `track` when somebody enters or leaves an audience; one document, an array of them, or one a line.
//! Senders of RudderStack's webhook destination send the same types.

use std::time::Duration;

use ring::hmac;
use serde_json::{Map, Value};

use super::{IdType, KeyError, ProfileKey, Update};
use crate::config::Secret;
use crate::identity::{IdError, value_as_id};

/// One push.
#[derive(Debug, PartialEq)]
pub struct Push {
    /// Whose profile it is about.
    pub key: ProfileKey,
    /// Other ids of the same person.
    pub linked: Vec<ProfileKey>,
    /// When it was made, in milliseconds since 1970.
    pub at: i64,
    /// What becomes of the profile; `None` deletes it.
    pub update: Option<Update>,
}

/// Why a push is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not a JSON object.
    #[error("expected a JSON object")]
    NotAnObject,
    /// Of another type than those known.
    #[error("expected `type` to be `identify`, `alias`, `delete`, or `track` of an audience")]
    NotIdentify,
    /// Nobody is named.
    #[error("expected a valid `userId` or `anonymousId`")]
    NoSubject,
    /// No traits.
    #[error("expected `traits` to be an object")]
    NoTraits,
}

/// How far a sender's clock may be ahead of this node's: its times count as they are until then, and as none beyond.
const CLOCKS_APART: Duration = Duration::from_mins(5);

/// Reads all documents of a body: one, an array, or one a line.
///
/// # Errors
/// When it is not JSON. Nothing of it is taken then: the sender did not mean a part of it.
pub fn documents(body: &[u8]) -> Result<Vec<Value>, serde_json::Error> {
    let mut out = Vec::new();
    for document in serde_json::Deserializer::from_slice(body).into_iter() {
        match document? {
            Value::Array(list) => out.extend(list),
            one => out.push(one),
        }
    }
    Ok(out)
}

/// Reads one push to `site`. `now` (milliseconds since 1970) orders those without a readable
/// `timestamp`.
///
/// # Errors
/// What is wrong with it.
pub fn read(push: &Value, site: &str, now: i64) -> Result<Push, Refused> {
    let push = push.as_object().ok_or(Refused::NotAnObject)?;
    let text = |name: &str| push.get(name).and_then(Value::as_str);
    // A time far in the future would beat every later update. A little ahead is only another clock.
    let ahead = i64::try_from(CLOCKS_APART.as_millis()).unwrap_or(0);
    let at = text("timestamp").and_then(millis).filter(|at| *at <= now.saturating_add(ahead));
    let at = at.unwrap_or(now);
    let mut ids = ids(push, site)?.into_iter();
    let key = ids.next();
    let mut linked: Vec<ProfileKey> = ids.collect();
    let update = match text("type") {
        Some("identify") => {
            let traits = push.get("traits").and_then(Value::as_object).ok_or(Refused::NoTraits)?;
            let traits = traits.iter().map(|(name, value)| (name.as_str().into(), value.clone()));
            Some(Update::new(at, traits))
        }
        Some("track") => Some(Update::new(at, [audience(push).ok_or(Refused::NotIdentify)?])),
        Some("alias") => {
            let previous = push.get("previousId").and_then(value_as_id);
            let previous = previous.ok_or(Refused::NoSubject)?;
            let of = |kind| ProfileKey::parse(site, &format!("{kind}:{previous}"));
            linked.extend(["anonymous_id", "user_id"].into_iter().filter_map(|kind| of(kind).ok()));
            Some(Update::default())
        }
        Some("delete") => None,
        _ => return Err(Refused::NotIdentify),
    };
    let key = key.ok_or(Refused::NoSubject)?;
    linked.retain(|other| *other != key);
    Ok(Push { key, linked, at, update })
}

/// All ids of the person, the one that the profile is kept under first: the user's where it has one.
///
/// # Errors
/// A user is named by what is no id: nobody else must be taken for that user.
fn ids(push: &Map<String, Value>, site: &str) -> Result<Vec<ProfileKey>, Refused> {
    let named = |name: &str, kind: &str| {
        let Some(id) = push.get(name).filter(|id| !id.is_null()) else { return Ok(None) };
        let id = value_as_id(id).ok_or(Refused::NoSubject)?;
        match ProfileKey::parse(site, &format!("{kind}:{id}")) {
            Ok(key) => Ok(Some(key)),
            Err(KeyError::Id(IdError::Empty | IdError::Placeholder)) => Ok(None),
            Err(_) => Err(Refused::NoSubject),
        }
    };
    // A browser's id that is none is left out; a user's could be taken for nobody.
    let user = named("userId", "user_id")?;
    let browser = named("anonymousId", "anonymous_id").unwrap_or(None);
    let external = push
        .get("context")
        .and_then(|context| context.get("externalIds"))
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|id| {
            let kind = IdType::parse(id.get("type")?.as_str()?).ok()?;
            let key: Result<_, KeyError> =
                ProfileKey::new(site, &kind, &value_as_id(id.get("id")?)?);
            // A user is named by the push itself, and has the browsers that it lists.
            key.ok().filter(|key| !key.is_user() && (user.is_some() || !key.is_anonymous()))
        });
    let external = external.filter(|key| browser.as_ref() != Some(key)).take(MAX_EXTERNAL);
    Ok([user.clone(), browser.clone()].into_iter().flatten().chain(external).collect())
}

/// Most other ids of one push.
const MAX_EXTERNAL: usize = 16;

/// `Audience Entered` and `Audience Exited` as the trait that the audience is.
fn audience(push: &Map<String, Value>) -> Option<(Box<str>, Value)> {
    let inside = match push.get("event")?.as_str()? {
        "Audience Entered" => true,
        "Audience Exited" => false,
        _ => return None,
    };
    let key = push.get("properties")?.get("audience_key")?.as_str()?;
    Some((key.into(), inside.into()))
}

/// RFC 3339 → milliseconds since 1970.
fn millis(text: &str) -> Option<i64> {
    let time = humantime::parse_rfc3339_weak(text).ok()?;
    let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok()
}

/// The secret that a sender signs its bodies with: `X-Signature` holds the hexadecimal HMAC of the
/// body, by SHA-1 as Segment makes it or by SHA-256.
#[derive(Debug)]
pub struct Signature(Secret);

impl Signature {
    /// With this secret.
    #[must_use]
    pub fn new(secret: Secret) -> Self {
        Self(secret)
    }

    /// Whether `header` is a signature of one of `bodies`: the body as it came, and as it was before
    /// it was compressed. Takes the same time however much of it is right.
    #[must_use]
    pub fn admits(&self, header: &str, bodies: &[&[u8]]) -> bool {
        let header = header.trim();
        let hex = header.split_once('=').map_or(header, |(_, hex)| hex);
        let Some(given) = unhex(hex) else { return false };
        let algorithm = match given.len() {
            20 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            32 => hmac::HMAC_SHA256,
            _ => return false,
        };
        let key = hmac::Key::new(algorithm, self.0.expose().as_bytes());
        bodies.iter().any(|body| hmac::verify(&key, body, &given).is_ok())
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |[high, low]: &[u8; 2]| u8::try_from(digit(*high)? * 16 + digit(*low)?).ok();
    rest.is_empty().then(|| pairs.iter().map(byte).collect())?
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(text: &str) -> ProfileKey {
        ProfileKey::parse("shop", text).unwrap()
    }

    #[test]
    fn what_is_no_push_is_refused_with_the_reason() {
        for (push, why) in [
            (json!([]), Refused::NotAnObject),
            (json!({}), Refused::NotIdentify),
            (
                json!({"type": "track", "event": "Order Completed", "userId": "a"}),
                Refused::NotIdentify,
            ),
            (json!({"type": "identify", "userId": "a"}), Refused::NoTraits),
            (json!({"type": "identify", "userId": "", "traits": {}}), Refused::NoSubject),
            (json!({"type": "identify", "userId": "a\n", "traits": {}}), Refused::NoSubject),
            // Nobody else must be taken for whom this names.
            (
                json!({"type": "identify", "userId": ["a"], "anonymousId": "b", "traits": {}}),
                Refused::NoSubject,
            ),
            (json!({"type": "delete", "userId": {}, "anonymousId": "b"}), Refused::NoSubject),
            (json!({"type": "identify", "userId": "null", "traits": {}}), Refused::NoSubject),
            (json!({"type": "alias", "userId": "a"}), Refused::NoSubject),
            (json!({"type": "delete"}), Refused::NoSubject),
        ] {
            assert_eq!(read(&push, "shop", 5), Err(why), "{push}");
        }
    }

    #[test]
    fn identify_and_audience_events_become_updates() {
        let push = json!({"type": "identify", "userId": "john", "anonymousId": "b",
        "traits": {"red": true}, "timestamp": "1970-01-01T00:00:01.500Z",
        "context": {"externalIds": [
            {"id": "j@x", "type": "email"}, {"id": "john", "type": "user_id"}, {"id": 5, "type": "x"},
            {"id": "b", "type": "anonymous_id"}, {"id": "phone", "type": "anonymous_id"},
        ]}});
        let pushed = read(&push, "shop", 10_000).unwrap();
        assert_eq!((&pushed.key, pushed.at), (&key("user_id:john"), 1500));
        let linked = ["anonymous_id:b", "email:j@x", "x:5", "anonymous_id:phone"].map(key);
        assert_eq!(pushed.linked, linked);
        assert_eq!(pushed.update, Some(Update::new(1500, [("red".into(), json!(true))])));

        let push = json!({"type": "track", "event": "Audience Exited", "anonymousId": "b",
            "context": {"externalIds": [{"id": "phone", "type": "anonymous_id"}]},
            "properties": {"audience_key": "red", "red": false}, "timestamp": "2999-01-01T00:00:00Z"});
        let pushed = read(&push, "shop", 10_000).unwrap();
        assert_eq!((pushed.key, pushed.linked), (key("anonymous_id:b"), vec![]));
        assert_eq!(pushed.update, Some(Update::new(10_000, [("red".into(), json!(false))])));
    }

    #[test]
    fn a_clock_may_be_ahead_by_minutes() {
        let at = |timestamp: &str| {
            let push =
                json!({"type": "identify", "userId": "a", "traits": {}, "timestamp": timestamp});
            read(&push, "shop", 60_000).unwrap().at
        };
        assert_eq!(at("1970-01-01T00:00:30Z"), 30_000);
        assert_eq!(at("1970-01-01T00:06:00Z"), 360_000);
        assert_eq!(at("1970-01-01T00:06:00.001Z"), 60_000);
        assert_eq!(at("soon"), 60_000);
    }

    #[test]
    fn aliases_link_and_deletions_delete() {
        let push = json!({"type": "alias", "userId": "john", "previousId": "old"});
        let pushed = read(&push, "shop", 7).unwrap();
        assert_eq!(pushed.linked, [key("anonymous_id:old"), key("user_id:old")]);
        assert_eq!(pushed.update, Some(Update::default()));
        let push = json!({"type": "alias", "userId": "john", "previousId": "john"});
        assert_eq!(read(&push, "shop", 7).unwrap().linked, [key("anonymous_id:john")]);
        let push = json!({"type": "delete", "userId": "john"});
        assert_eq!(read(&push, "shop", 7).unwrap().update, None);
        // Numbers name people, too.
        let push = json!({"type": "delete", "userId": 777, "anonymousId": 8.0, "context": {"externalIds": [{"type": "crm", "id": 9}]}});
        let pushed = read(&push, "shop", 7).unwrap();
        assert_eq!(
            (pushed.key, pushed.linked),
            (key("user_id:777"), vec![key("anonymous_id:8"), key("crm:9")])
        );
    }

    #[test]
    fn documents_come_alone_in_arrays_and_in_lines() {
        let (a, b) = (json!({"a": 1}), json!({"b": 2}));
        for body in [
            "{\"a\":1}{\"b\":2}",
            "{\"a\":1}\n{\"b\":2}\n",
            "[{\"a\":1},{\"b\":2}]",
            " {\"a\":1}\r\n\n[{\"b\":2}]",
        ] {
            assert_eq!(documents(body.as_bytes()).unwrap(), [a.clone(), b.clone()], "{body}");
        }
        assert!(documents(b"").unwrap().is_empty());
        for wrong in ["{", "{\"a\":1}x", "[{\"a\":1}"] {
            assert!(documents(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_the_right_signature_is_admitted() {
        // printf '{"a":1}' | openssl dgst -sha1 -hmac secret; the same with -sha256
        let sha1 = "f8446672f033e4b2beafc5ca3a71eafcd2cafb6e";
        let sha256 = "aa9e2e3575f5d7098b6caccd790888c36d5fdb63342a73bada2d6a51747a8494";
        let signature = Signature::new(Secret::new("secret"));
        let body = br#"{"a":1}"#;
        for right in [sha1, sha256, &format!("sha256={sha256}"), &format!(" sha1={sha1} ")] {
            assert!(signature.admits(right, &[body]), "{right}");
            assert!(signature.admits(right, &[b"gzipped", body]));
            assert!(!signature.admits(right, &[br#"{"a":2}"#]));
        }
        for wrong in ["", "sha1=", &sha1[1..], &sha1[2..], &sha1.replace('a', "b"), "zz"] {
            assert!(!signature.admits(wrong, &[body]), "{wrong}");
        }
        assert!(!Signature::new(Secret::new("other")).admits(sha1, &[body]));
    }
}
