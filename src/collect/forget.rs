//! Deleting a person reaches what waits for a vendor, and what no vendor has taken.

use std::io;
use std::path::Path;

use memchr::memmem;

use super::{DeadLetters, Event, FOLDER, Object, Parcel, spool};
use crate::profile::ProfileKey;

/// The ids of one person.
#[derive(Debug)]
pub struct Person(Vec<ProfileKey>);

impl Person {
    /// Whoever all of `keys` lead to.
    #[must_use]
    pub fn of(keys: &[ProfileKey]) -> Self {
        Self(keys.to_vec())
    }

    /// Whether an event is about this person.
    fn is_in(&self, parcel: &Parcel) -> bool {
        let body = &parcel.body;
        // Reading each event of a long spool would take long: most do not have the id at all.
        let named = |key: &ProfileKey| {
            let quoted = serde_json::Value::from(key.id()).to_string();
            memmem::find(body, key.id().as_bytes()).is_some()
                || memmem::find(body, quoted.trim_matches('"').as_bytes()).is_some()
                || body.contains(&b'\\')
        };
        if !self.0.iter().any(named) {
            return false;
        }
        let Ok(event) = serde_json::from_slice::<Object>(body) else { return false };
        let batch = event.list("batch");
        batch.iter().chain([&event]).any(|event| self.owns(event))
    }

    fn owns(&self, event: &Object) -> bool {
        self.0.iter().any(|key| {
            let names: &[&str] = match key.id_type() {
                "user_id" => &["userId", "previousId"],
                "anonymous_id" => &["anonymousId", "previousId"],
                kind => {
                    let of = |object: Option<Object>| {
                        object.and_then(|object| object.text(kind)).is_some_and(|id| id == key.id())
                    };
                    let context = event.object("context").unwrap_or_default();
                    return of(event.object("traits")) || of(context.object("traits"));
                }
            };
            names.iter().any(|name| event.text(name).is_some_and(|id| id == key.id()))
        })
    }
}

/// Erases what waits of `person` for any vendor of `site`, below `data`, and what is put aside: what was
/// taken until `until` (milliseconds since 1970). Tells how many events that were. Waits for the disk.
///
/// # Errors
/// The disk's.
pub fn forget(data: &Path, site: &str, person: &Person, until: i64) -> io::Result<usize> {
    let mut erased = 0;
    for lane in lanes(data)? {
        let (name, folder) = (&lane, data.join(FOLDER).join(&lane));
        if name.split_once('.').is_none_or(|(of, _)| of != site) {
            continue;
        }
        erased += spool::erase(&folder, |event: &Event| {
            event.at <= until && person.is_in(&event.parcel)
        })?;
        let dead = DeadLetters::new(&folder, 0);
        erased += dead.erase(|letter| {
            let is_in = |parcel| person.is_in(&parcel);
            letter.accepted <= until && letter.parcel().is_some_and(is_in)
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
            Person::of(&[key("user_id:jöhn"), key("anonymous_id:b1"), key("email:j@x.example")]);
        let is_in = |body: &str| person.is_in(&Parcel::batched(body.as_bytes().to_vec()));
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
    }
}
