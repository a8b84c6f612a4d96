//! A profile as a line of NDJSON, for people and their tools: `doorstep profile` and the admin API.
//!
//! `{"id":"user_id:john","traits":{"red":true},"times":{"red":1767225600000}}` is a profile;
//! `{"id":"anonymous_id:b","link":"user_id:john"}` leads to one. `times` are milliseconds since 1970;
//! a trait without one was set when the line is read. A trait of `null` is deleted.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::store::{LinkedBy, ProfileStore, StoreError, Stored};
use super::{Assignment, KeyError, Profile, ProfileKey, Update};

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    traits: Option<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    times: Map<String, Value>,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    /// Traits of a profile.
    Traits(ProfileKey, Update),
    /// A key that leads to another.
    Link(ProfileKey, ProfileKey),
}

/// Why a line is not taken.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// Not JSON, or of another form.
    #[error(
        "expected `{{\"id\": \"user_id:john\", \"traits\": {{…}}}}` or `{{\"id\": …, \"link\": …}}`: {0}"
    )]
    Form(#[from] serde_json::Error),
    /// One of its ids.
    #[error("{0}")]
    Id(#[from] KeyError),
    /// Neither traits nor a link, or both.
    #[error("expected `traits` or `link`")]
    Nothing,
    /// A time is not a number.
    #[error("expected `times` to be milliseconds since 1970")]
    Time,
    /// The store's own.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Line {
    /// Reads a line about `site`. `now` (milliseconds since 1970) is the time of what has none.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(line: &[u8], site: &str, now: i64) -> Result<Self, LineError> {
        let text: Text = serde_json::from_slice(line)?;
        let key = ProfileKey::parse(site, &text.id)?;
        match (text.link, text.traits) {
            (Some(to), None) => Ok(Self::Link(key, ProfileKey::parse(site, &to)?)),
            (None, Some(traits)) => {
                let time = |name: &str| match text.times.get(name) {
                    Some(time) => time.as_i64().ok_or(LineError::Time),
                    None => Ok(now),
                };
                let traits = traits.into_iter().map(|(name, value)| {
                    Ok(Assignment { at: time(&name)?, name: name.into(), value })
                });
                let traits = traits.collect::<Result<_, LineError>>()?;
                Ok(Self::Traits(key, Update { traits, pulled: None }))
            }
            _ => Err(LineError::Nothing),
        }
    }

    /// Writes what is stored under `key`. `None` for what says nothing to people.
    #[must_use]
    pub fn write(key: &ProfileKey, stored: &Stored) -> Option<String> {
        let mut text = Text { id: key.text(), link: None, traits: None, times: Map::new() };
        match stored {
            Stored::Linked(to) => text.link = Some(to.text()),
            Stored::Profile(profile) if profile.is_empty() => return None,
            Stored::Profile(profile) => {
                text.times = times(profile);
                let traits = profile.entries().map(|one| (one.name.to_owned(), one.value()));
                text.traits = Some(traits.collect());
            }
        }
        serde_json::to_string(&text).ok()
    }

    /// Does what it says. A line may be taken twice.
    ///
    /// # Errors
    /// As the store has it.
    pub async fn take(&self, store: &dyn ProfileStore, now: i64) -> Result<(), StoreError> {
        match self {
            Self::Traits(key, update) => store.merge(key, update).await.map(drop),
            Self::Link(from, to) => store.link(from, to, now, LinkedBy::Site).await.map(drop),
        }
    }
}

fn times(profile: &Profile) -> Map<String, Value> {
    profile.entries().map(|one| (one.name.to_owned(), one.at.into())).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::profile::model::tests::update;

    #[test]
    fn what_a_line_lacks_is_told() {
        let why = |line: &str| Line::parse(line.as_bytes(), "shop", 1).unwrap_err().to_string();
        assert!(why("{").contains("expected `{\"id\""));
        assert!(why(r#"{"id": "user_id:a", "trait": {}}"#).contains("unknown field `trait`"));
        assert!(why(r#"{"id": "john", "traits": {}}"#).contains("user_id:john"));
        assert!(why(r#"{"id": "user_id:a"}"#).contains("`traits` or `link`"));
        let times = r#"{"id": "user_id:a", "traits": {"a": 1}, "times": {"a": "x"}}"#;
        assert!(why(times).contains("milliseconds"));
    }

    proptest! {
        #[test]
        fn profiles_come_back(updates in proptest::collection::vec(update(), 1..5)) {
            let mut profile = Profile::default();
            for update in &updates {
                profile.merge(update, 9).unwrap();
            }
            let key = ProfileKey::parse("shop", "email:a@b").unwrap();
            let line = Line::write(&key, &Stored::Profile(profile.clone())).unwrap();
            let Line::Traits(read, update) = Line::parse(line.as_bytes(), "shop", 7).unwrap() else {
                panic!("no traits")
            };
            prop_assert_eq!(read, key);
            let mut again = Profile::default();
            again.merge(&update, 9).unwrap();
            prop_assert_eq!(again, profile);
        }
    }
}
