//! A profile as a hash of Redis, and its keys.
//!
//! `{prefix}{site:type:id}` is a hash. Fields: `t:NAME` = `TIME:JSON` for each trait, `link` =
//! `TIME:site:type:id`, `claimed` where only an event says so, and `cut`, `count`, `bytes`, `pulled`, `until`.
//! Beside it stand `{prefix}{site:type:id}:links` and `…:claims`, sorted sets of what is linked to it. The braces
//! are a hash tag: all are in one slot of a cluster.

use redis::Value;

use crate::profile::store::Stored;
use crate::profile::{Assignment, Profile, ProfileKey, Pulled};

/// `site:type:id`: no site and no type holds a colon.
pub(super) fn name(key: &ProfileKey) -> String {
    format!("{}:{}:{}", key.site(), key.id_type(), key.id())
}

/// Reads what [`name`] wrote.
pub(super) fn key_of(name: &str) -> Option<ProfileKey> {
    let (site, rest) = name.split_once(':')?;
    ProfileKey::parse(site, rest).ok().filter(|_| !site.is_empty())
}

/// `TIME:site:type:id`.
pub(super) fn link_of(text: &str) -> Option<ProfileKey> {
    key_of(text.split_once(':')?.1)
}

/// Reads a hash. `None` for one that is not there, or that says nothing.
pub(super) fn read(fields: &[(Value, Value)]) -> Option<Stored> {
    let (mut traits, mut cut, mut pulled) = (Vec::new(), 0, Pulled::default());
    for (field, value) in fields {
        let (Some(field), Some(value)) = (text(field), text(value)) else { continue };
        let time = || value.parse().unwrap_or(0);
        match field {
            "link" => return link_of(value).map(Stored::Linked),
            "cut" => cut = time(),
            "pulled" => pulled.at = time(),
            "until" => pulled.until = time(),
            _ => traits.extend(assignment(field, value)),
        }
    }
    (!traits.is_empty() || cut != 0 || pulled.at != 0)
        .then(|| Stored::Profile(Profile::from_parts(traits, cut, pulled)))
}

/// The traits of a hash, also where it has become a link.
pub(super) fn traits(fields: &[(Value, Value)]) -> Vec<Assignment> {
    let pairs = fields.iter().filter_map(|(field, value)| Some((text(field)?, text(value)?)));
    pairs.filter_map(|(field, value)| assignment(field, value)).collect()
}

fn assignment(field: &str, value: &str) -> Option<Assignment> {
    let name = field.strip_prefix("t:")?;
    let (at, json) = value.split_once(':')?;
    let value = serde_json::from_str(json).ok()?;
    Some(Assignment { name: name.into(), at: at.parse().ok()?, value })
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_whatever_the_id_is() {
        for id in ["user_id:john", "email:a:b@x}", "anonymous_id:{x", "user_id:x:links"] {
            let key = ProfileKey::parse("shop", id).unwrap();
            assert_eq!(key_of(&name(&key)), Some(key));
        }
        for text in ["", "shop", "shop:john", ":user_id:john", "shop:user_id:"] {
            assert_eq!(key_of(text), None, "{text}");
        }
    }

    #[test]
    fn what_others_wrote_into_a_hash_is_passed_over() {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let fields = [
            (bulk("t:a"), bulk("5:{\"x\":1}")),
            (bulk("t:b"), bulk("no time")),
            (bulk("t:c"), bulk("5:no json")),
            (bulk("other"), bulk("1")),
            (bulk("t:d"), Value::BulkString(vec![0xff])),
        ];
        let Some(Stored::Profile(profile)) = read(&fields) else { panic!("no profile") };
        assert_eq!(profile.traits().map(|one| one.name).collect::<Vec<_>>(), ["a"]);
        assert_eq!(read(&[]), None);
    }
}
