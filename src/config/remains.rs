//! What is left of a file once its broken values are out. It is judged as well, so that an operator sees at
//! once all that is wrong.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

/// A file without some of its values.
#[derive(Debug)]
pub(super) struct Remains {
    /// What is left.
    pub(super) value: Value,
    /// Of each list that has lost entries: where those that are left stand in the file.
    left: HashMap<String, Vec<usize>>,
}

impl Remains {
    /// `whole` without the values at these pointers (RFC 6901).
    pub(super) fn of(whole: &Value, without: &BTreeSet<String>) -> Self {
        let mut left = HashMap::new();
        let value = copy(whole, "", without, &mut left).unwrap_or_default();
        Self { value, left }
    }

    /// Where in the file the value stands that is at `pointer` here.
    pub(super) fn in_file(&self, pointer: &str) -> String {
        let mut out = String::new();
        for part in pointer.split('/').skip(1) {
            let left = self.left.get(&out);
            let index = left.and_then(|left| left.get(part.parse::<usize>().ok()?));
            out.push('/');
            match index {
                Some(index) => out.push_str(&index.to_string()),
                None => out.push_str(part),
            }
        }
        out
    }
}

fn copy(
    value: &Value,
    pointer: &str,
    without: &BTreeSet<String>,
    left: &mut HashMap<String, Vec<usize>>,
) -> Option<Value> {
    if without.contains(pointer) {
        return None;
    }
    Some(match value {
        Value::Object(entries) => {
            let kept = entries.iter().filter_map(|(key, value)| {
                let at = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
                Some((key.clone(), copy(value, &at, without, left)?))
            });
            Value::Object(kept.collect())
        }
        Value::Array(entries) => {
            let (mut kept, mut places) = (Vec::new(), Vec::new());
            for (index, value) in entries.iter().enumerate() {
                if let Some(value) = copy(value, &format!("{pointer}/{index}"), without, left) {
                    kept.push(value);
                    places.push(index);
                }
            }
            if kept.len() < entries.len() {
                left.insert(pointer.to_owned(), places);
            }
            Value::Array(kept)
        }
        other => other.clone(),
    })
}

/// Whether a complaint about the value at `pointer` may follow from what is wrong at `broken`: it is that
/// value, a part of it, or what it is a part of.
pub(super) fn follows(pointer: &str, broken: &str) -> bool {
    let around = broken.rsplit_once('/').map_or("", |(around, _)| around);
    pointer == around
        || pointer.strip_prefix(broken).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_left_knows_where_it_stood() {
        let whole = json!({ "a": [{ "b": [0, 1, 2] }, 1, { "c/d": 3, "e": 4 }], "f": 5 });
        let without = ["/a/0/b/1", "/a/1", "/a/2/c~1d", "/f"].map(str::to_owned).into();
        let remains = Remains::of(&whole, &without);
        assert_eq!(remains.value, json!({ "a": [{ "b": [0, 2] }, { "e": 4 }] }));
        for (here, there) in [
            ("", ""),
            ("/a/0/b/1", "/a/0/b/2"),
            ("/a/1/e", "/a/2/e"),
            ("/a/1/b/1", "/a/2/b/1"),
            ("/x/0", "/x/0"),
        ] {
            assert_eq!(remains.in_file(here), there, "{here}");
        }
        assert!(
            follows("/a/0", "/a/0/b")
                && follows("/a/0/b/1", "/a/0/b")
                && follows("/a/0/b", "/a/0/b")
        );
        assert!(
            !follows("/a", "/a/0/b")
                && !follows("/a/0/bc", "/a/0/b")
                && !follows("/a/0/c", "/a/0/b")
        );
    }
}
