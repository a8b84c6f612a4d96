//! Deleting a person reaches what waits for a vendor, and what no vendor has taken.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use memchr::memmem;

use super::{DeadLetters, Event, FOLDER, Object, Parcel, spool};
use crate::profile::ProfileKey;

/// The ids of one person or several, and until when (milliseconds since 1970) what was taken of each goes.
#[derive(Debug, Default)]
pub struct Person {
    keys: Vec<ProfileKey>,
    until: HashMap<(Box<str>, Box<str>), i64>,
}

/// With more ids than these, reading an event costs less than looking for each of them in it.
const MAX_SEARCHED: usize = 8;

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
        let id = (key.id_type().into(), key.id().into());
        let latest = self.until.entry(id).or_insert(until);
        *latest = until.max(*latest);
        self.keys.push(key.clone());
    }

    /// Whether an event, taken at `at`, is about this person.
    fn is_in(&self, parcel: &Parcel, at: i64) -> bool {
        let body = &parcel.body;
        // Reading each event of a long spool would take long: most do not have the id at all.
        let named = |key: &ProfileKey| {
            memmem::find(body, key.id().as_bytes()).is_some() || body.contains(&b'\\')
        };
        if self.keys.len() <= MAX_SEARCHED && !self.keys.iter().any(named) {
            return false;
        }
        let Ok(event) = serde_json::from_slice::<Object>(body) else { return false };
        let batch = event.list("batch");
        batch.iter().chain([&event]).any(|event| self.owns(event, at))
    }

    fn owns(&self, event: &Object, at: i64) -> bool {
        let is = |kind: &str, id: Option<String>| {
            let known = id.and_then(|id| self.until.get(&(kind.into(), id.into())));
            known.is_some_and(|until| at <= *until)
        };
        let own = ["userId", "previousId"].iter().any(|name| is("user_id", event.text(name)));
        let browser =
            ["anonymousId", "previousId"].iter().any(|name| is("anonymous_id", event.text(name)));
        let external = || {
            let context = event.object("context").unwrap_or_default();
            let traits = [event.object("traits"), context.object("traits")];
            self.keys.iter().map(ProfileKey::id_type).any(|kind| {
                let of = |traits: &Option<Object>| traits.as_ref().and_then(|map| map.text(kind));
                !matches!(kind, "user_id" | "anonymous_id")
                    && traits.iter().any(|traits| is(kind, of(traits)))
            })
        };
        own || browser || external()
    }
}

/// Erases what waits of `person` for any vendor of `site`, below `data`, and what is put aside. Tells how
/// many events that were. Waits for the disk.
///
/// # Errors
/// The disk's.
pub fn forget(data: &Path, site: &str, person: &Person) -> io::Result<usize> {
    let mut erased = 0;
    for lane in lanes(data)? {
        let (name, folder) = (&lane, data.join(FOLDER).join(&lane));
        if name.split_once('.').is_none_or(|(of, _)| of != site) {
            continue;
        }
        erased += spool::erase(&folder, |event: &Event| person.is_in(&event.parcel, event.at))?;
        let dead = DeadLetters::new(&folder, 0);
        erased += dead.erase(|letter| {
            let is_in = |parcel| person.is_in(&parcel, letter.accepted);
            letter.parcel().is_some_and(is_in)
        })?;
    }
    Ok(erased)
}

/// The names of all lanes that have a folder below `data`.
///
/// # Errors
/// The disk's.
pub fn lanes(data: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(data.join(FOLDER)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.contains('.'))
        .collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_found_by_every_id_and_nobody_else_is() {
        let key = |text: &str| ProfileKey::parse("shop", text).unwrap();
        let person =
            Person::of(&[key("user_id:jöhn"), key("anonymous_id:b1"), key("email:j@x.example")], 5);
        let is_in = |body: &str| person.is_in(&Parcel::batched(body.as_bytes().to_vec()), 5);
        for own in [
            r#"{"userId":"jöhn"}"#,
            r#"{"userId":"j\u00f6hn"}"#,
            r#"{"anonymousId":"b1","userId":"mary"}"#,
            r#"{"type":"alias","previousId":"b1","userId":"new"}"#,
            r#"{"traits":{"email":"j@x.example"}}"#,
            r#"{"context":{"traits":{"email":"j@x.example"}}}"#,
            r#"{"batch":[{"userId":"x"},{"userId":"jöhn"}]}"#,
        ] {
            assert!(is_in(own), "{own}");
        }
        for other in [
            r#"{"userId":"jöhn2"}"#,
            r#"{"anonymousId":"jöhn"}"#,
            r#"{"userId":"b1"}"#,
            r#"{"properties":{"text":"jöhn said b1"}}"#,
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
