//! What a running process can't change: a configuration that differs in it is taken by the next one.

use serde_json::Value;
use xxhash_rust::xxh3::xxh3_128;

/// Equal for two configurations between which a running process can change over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fixed(u128);

/// What can change, below the file's root. Everything else can't.
const CHANGES: &[&[&str]] = &[
    &["sites"],
    &["trusted_proxies"],
    &["access_log"],
    &["connections"],
    &["environment_file"],
    &["shutdown"],
    &["profiles", "wait"],
    &["profiles", "store", "redis", "urls"],
    &["profiles", "store", "redis", "mode"],
    &["profiles", "store", "redis", "master"],
    &["profiles", "store", "redis", "timeout"],
    &["profiles", "store", "redis", "connect_timeout"],
    &["profiles", "store", "redis", "read_from_replicas"],
    &["profiles", "store", "redis", "ca_file"],
    &["events", "per_client"],
    &["events", "bytes_per_client"],
    &["events", "at_once"],
    &["listeners", "*", "redirect_to_https"],
    &["listeners", "*", "tls", "certificate"],
    &["listeners", "*", "tls", "key"],
    &["listeners", "*", "tls", "certificates"],
];

impl Fixed {
    /// Of the values of a file.
    pub(super) fn of(file: &Value) -> Self {
        let mut rest = file.clone();
        for path in CHANGES {
            remove(&mut rest, path);
        }
        // Members of an object stand in the order of their names.
        Self(xxh3_128(rest.to_string().as_bytes()))
    }
}

fn remove(value: &mut Value, path: &[&str]) {
    match (value, path) {
        (Value::Object(map), [last]) => drop(map.remove(*last)),
        (Value::Object(map), [first, rest @ ..]) => {
            if let Some(inner) = map.get_mut(*first) {
                remove(inner, rest);
            }
        }
        (Value::Array(list), ["*", rest @ ..]) => {
            for one in list {
                remove(one, rest);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_listed_can_change() {
        let file = |port: u16, key: &str, sites: Value, disk: &str| {
            json!({
                "listeners": [{"address": port, "tls": {"key": key, "http2": true}}],
                "events": {"disk": disk, "at_once": key.len()}, "sites": sites,
            })
        };
        let fixed = Fixed::of(&file(1, "a", json!([]), "1GiB"));
        assert_eq!(fixed, Fixed::of(&file(1, "other", json!([1, 2]), "1GiB")));
        assert_ne!(fixed, Fixed::of(&file(2, "a", json!([]), "1GiB")));
        assert_ne!(fixed, Fixed::of(&file(1, "a", json!([]), "2GiB")));
        let mut more = file(1, "a", json!([]), "1GiB");
        more["what_is_not_known_yet"] = json!(1);
        assert_ne!(fixed, Fixed::of(&more));
    }
}
