//! Whether what waits for a vendor names a person: an event by the members that ids stand under, a call of its
//! own by any of its values, as only its vendor knows which of them is an id.

mod call;

use std::collections::HashMap;

use memchr::memmem;
use serde_json::{Map, Value};

use super::{Parcel, Way};
use crate::identity::value_as_id;
use crate::profile::ProfileKey;

/// The ids of one person or several, and until when (milliseconds since 1970) what was taken of each goes.
#[derive(Debug, Default)]
pub struct Person {
    keys: Vec<ProfileKey>,
    /// By type, in the form that names of members are compared in, and id.
    until: HashMap<Box<str>, HashMap<Box<str>, i64>>,
}

/// With more ids than these, reading an event costs less than looking for each of them in it.
const MAX_SEARCHED: usize = 8;
const USER: &str = "userid";
const ANONYMOUS: &str = "anonymousid";

impl Person {
    /// Whoever all of `keys` lead to: what was taken until `until`.
    #[must_use]
    pub fn of(keys: &[ProfileKey], until: i64) -> Self {
        let mut person = Self::default();
        for key in keys {
            person.add(key, until);
        }
        person
    }

    /// One more id.
    pub fn add(&mut self, key: &ProfileKey, until: i64) {
        let of_type = self.until.entry(plain(key.id_type()).into()).or_default();
        let latest = of_type.entry(key.id().into()).or_insert(until);
        *latest = until.max(*latest);
        self.keys.push(key.clone());
    }

    /// Whether `parcel`, taken at `at`, is about this person.
    pub(super) fn is_in(&self, parcel: &Parcel, at: i64) -> bool {
        match &parcel.way {
            Way::Batched => self.is_in_event(&parcel.body, at),
            Way::Call(call) => call::names(self, call, &parcel.body, at),
        }
    }

    fn is_in_event(&self, body: &[u8], at: i64) -> bool {
        // Reading each event of a long spool would take long: most do not have the id at all.
        let named = |key: &ProfileKey| {
            memmem::find(body, key.id().as_bytes()).is_some() || body.contains(&b'\\')
        };
        if self.keys.len() <= MAX_SEARCHED && !self.keys.iter().any(named) {
            return false;
        }
        serde_json::from_slice(body).is_ok_and(|event| self.is_under("", "", &event, at))
    }

    /// Whether `value`, under `name` in what is called `of`, has one of the ids where ids of its type stand.
    fn is_under(&self, of: &str, name: &str, value: &Value, at: i64) -> bool {
        match value {
            Value::Array(list) => list.iter().any(|one| self.is_under(of, name, one, at)),
            Value::Object(members) => {
                self.is_external(name, members, at)
                    || members
                        .iter()
                        .any(|(own, value)| self.is_under(name, &plain(own), value, at))
            }
            scalar => value_as_id(scalar).is_some_and(|id| match name {
                "previousid" => self.has(USER, &id, at) || self.has(ANONYMOUS, &id, at),
                "id" if of == "traits" => self.has(USER, &id, at),
                name => self.has(name, &id, at),
            }),
        }
    }

    /// `{id, type}`, as `context.externalIds` (Segment) and `context.externalId` (RudderStack) list them.
    fn is_external(&self, list: &str, id: &Map<String, Value>, at: i64) -> bool {
        let Some(text) = id.get("id").and_then(value_as_id) else { return false };
        match id.get("type").and_then(Value::as_str) {
            Some(kind) => self.has(&plain(kind), &text, at),
            None => {
                matches!(list, "externalids" | "externalid")
                    && self.has_any(&text).is_some_and(|until| at <= until)
            }
        }
    }

    fn has(&self, kind: &str, id: &str, at: i64) -> bool {
        self.until.get(kind).and_then(|ids| ids.get(id)).is_some_and(|until| at <= *until)
    }

    /// Until when what has this id goes, whatever its type.
    fn has_any(&self, id: &str) -> Option<i64> {
        self.until.values().filter_map(|ids| ids.get(id)).max().copied()
    }
}

/// `userId`, `user_id` and `User-Id` are one name.
fn plain(name: &str) -> String {
    let letters = name.chars().filter(|char| char.is_alphanumeric());
    letters.flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> ProfileKey {
        ProfileKey::parse("shop", text).unwrap()
    }

    #[test]
    fn a_person_is_found_by_every_id_and_nobody_else_is() {
        let keys =
            ["user_id:jöhn", "user_id:777", "anonymous_id:b1", "email:j@x.example", "crm_id:5"];
        let person = Person::of(&keys.map(key), 5);
        let is_in = |body: &str| person.is_in(&Parcel::batched(body.as_bytes().to_vec()), 5);
        for own in [
            r#"{"userId":"jöhn"}"#,
            r#"{"userId":"j\u00f6hn"}"#,
            r#"{"user\u0049d":"jöhn"}"#,
            r#"{"userId":777}"#,
            r#"{"userId":777.0}"#,
            r#"{"anonymousId":"b1","userId":"mary"}"#,
            r#"{"type":"alias","previousId":"b1","userId":"new"}"#,
            r#"{"type":"alias","previousId":777,"userId":"new"}"#,
            r#"{"traits":{"email":"j@x.example"}}"#,
            r#"{"traits":{"id":"jöhn"}}"#,
            r#"{"traits":{"crmId":5}}"#,
            r#"{"context":{"traits":{"email":"j@x.example"}}}"#,
            r#"{"context":{"traits":{"id":777}}}"#,
            r#"{"context":{"profile":{"email":"j@x.example"}}}"#,
            r#"{"context":{"externalIds":[{"id":"jöhn","type":"user_id","collection":"users"}]}}"#,
            r#"{"context":{"externalIds":[{"id":"x","type":"email"},{"id":"b1","type":"anonymous_id"}]}}"#,
            r#"{"context":{"externalIds":[{"id":"j@x.example","type":"email"}]}}"#,
            r#"{"context":{"externalIds":[{"id":5,"type":"crm_id"}]}}"#,
            r#"{"context":{"externalIds":[{"id":"jöhn"}]}}"#,
            r#"{"context":{"externalId":[{"id":"777","type":"userId"}]}}"#,
            r#"{"properties":{"email":"j@x.example"}}"#,
            r#"{"properties":{"customer":{"user_id":777}}}"#,
            r#"{"properties":{"email":["x","j@x.example"]}}"#,
            r#"{"batch":[{"userId":"x"},{"userId":"jöhn"}]}"#,
        ] {
            assert!(is_in(own), "{own}");
        }
        for other in [
            r#"{"userId":"jöhn2"}"#,
            r#"{"anonymousId":"jöhn"}"#,
            r#"{"userId":"b1"}"#,
            r#"{"userId":7770}"#,
            r#"{"properties":{"text":"jöhn said b1"}}"#,
            r#"{"properties":{"price":777,"id":"jöhn","items":[5,"5"]}}"#,
            r#"{"context":{"externalIds":[{"id":"jöhn","type":"email"}]}}"#,
            r#"{"traits":{"id":"b1","email":"jöhn"}}"#,
            "jöhn",
        ] {
            assert!(!is_in(other), "{other}");
        }
        let own = Parcel::batched(r#"{"userId":"jöhn"}"#.as_bytes().to_vec());
        assert!(!person.is_in(&own, 6), "who comes back is taken again");
        // With many at one time the same ones are found.
        let mut many = person;
        for n in 0..20 {
            many.add(&key(&format!("user_id:u{n}")), 5);
        }
        let other = Parcel::batched(br#"{"userId":"u77"}"#.to_vec());
        assert!(many.is_in(&own, 5) && !many.is_in(&other, 5));
    }
}
