//! What the vendor pushes about a profile: Segment's Engage webhook.
//! <https://segment.com/docs/engage/> sends an `identify` for computed traits and audiences, or a
//! `track` when somebody enters or leaves an audience.

use serde_json::Value;

use super::Update;
use crate::identity::{AnonymousId, UserId};

/// Whose profile a push is about.
#[derive(Debug, PartialEq)]
pub enum Subject {
    /// A user, and the browser that is the user's where the push names one.
    User(UserId, Option<AnonymousId>),
    /// A browser without a known user.
    Anonymous(AnonymousId),
}

/// Why a push is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not a JSON object.
    #[error("expected a JSON object")]
    NotAnObject,
    /// Of another type than those known.
    #[error("expected `type` to be `identify`, or `track` of an audience")]
    NotIdentify,
    /// Nobody is named.
    #[error("expected a valid `userId` or `anonymousId`")]
    NoSubject,
    /// No traits.
    #[error("expected `traits` to be an object")]
    NoTraits,
}

/// Reads one push. `now` (milliseconds since 1970) orders those without a readable `timestamp`.
///
/// # Errors
/// What is wrong with it.
pub fn read(push: &Value, now: i64) -> Result<(Subject, Update), Refused> {
    let push = push.as_object().ok_or(Refused::NotAnObject)?;
    let text = |name: &str| push.get(name).and_then(Value::as_str);
    let traits = match text("type") {
        Some("identify") => push
            .get("traits")
            .and_then(Value::as_object)
            .ok_or(Refused::NoTraits)?
            .iter()
            .map(|(name, value)| (name.as_str().into(), value.clone()))
            .collect(),
        Some("track") => vec![audience(push).ok_or(Refused::NotIdentify)?],
        _ => return Err(Refused::NotIdentify),
    };
    let user = text("userId").and_then(|id| UserId::parse(id).ok());
    let anonymous = text("anonymousId").and_then(|id| AnonymousId::parse(id).ok());
    let subject = match (user, anonymous) {
        (Some(user), anonymous) => Subject::User(user, anonymous),
        (None, Some(anonymous)) => Subject::Anonymous(anonymous),
        (None, None) => return Err(Refused::NoSubject),
    };
    // A time in the future would beat every later update.
    let at = text("timestamp").and_then(millis).map_or(now, |at| at.min(now));
    Ok((subject, Update { at, traits }))
}

/// `Audience Entered` and `Audience Exited` as the trait that the audience is.
fn audience(push: &serde_json::Map<String, Value>) -> Option<(Box<str>, Value)> {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
        ] {
            assert_eq!(read(&push, 5), Err(why), "{push}");
        }
    }

    #[test]
    fn identify_and_audience_events_become_updates() {
        let push = json!({"type": "identify", "userId": "john", "anonymousId": "b",
            "traits": {"red": true}, "timestamp": "1970-01-01T00:00:01.500Z"});
        let (subject, update) = read(&push, 10_000).unwrap();
        let (john, b) = (UserId::parse("john").unwrap(), AnonymousId::parse("b").unwrap());
        assert_eq!(subject, Subject::User(john, Some(b)));
        assert_eq!(update, Update { at: 1500, traits: vec![("red".into(), json!(true))] });

        let push = json!({"type": "track", "event": "Audience Exited", "anonymousId": "b",
            "properties": {"audience_key": "red", "red": false}, "timestamp": "2999-01-01T00:00:00Z"});
        let (_, update) = read(&push, 10_000).unwrap();
        assert_eq!(update, Update { at: 10_000, traits: vec![("red".into(), json!(false))] });
    }
}
