//! Whether a call of its own names a person: by any whole value of its path, query, headers and body.
//! Which of them is an id, only its vendor knows.

use std::borrow::Cow;
use std::io::Read;

use base64::Engine;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use flate2::read::GzDecoder;
use serde_json::Value;

use super::{Person, plain};
use crate::collect::Call;
use crate::identity::value_as_id;

/// A shorter id is the value of so many things that it has to stand under the name of an id.
const TELLING_BYTES: usize = 3;
/// How often one form stands in another, such as JSON in a query in JSON.
const MAX_NESTED: usize = 5;
/// As much of a compressed body is looked at.
const MAX_UNPACKED: u64 = 1024 * 1024;
const GZIP: &[u8] = &[0x1f, 0x8b];
/// How base64 of `{"`, `[{` and `["` begins.
const JSON_IN_BASE64: [&str; 3] = ["eyJ", "W3s", "WyJ"];

/// Whether `call` with `body`, taken at `at`, has an id of `person`.
pub(super) fn names(person: &Person, call: &Call, body: &[u8], at: i64) -> bool {
    let search = Search { person, at };
    let (path, query) = call.path.split_once('?').unwrap_or((&*call.path, ""));
    let header = |value: &http::HeaderValue| {
        search.text("", &String::from_utf8_lossy(value.as_bytes()), MAX_NESTED)
    };
    search.path(path)
        || search.pairs(query, MAX_NESTED)
        || call.headers.iter().any(|(_, value)| header(value))
        || search.body(body)
}

struct Search<'p> {
    person: &'p Person,
    at: i64,
}

impl Search<'_> {
    fn is(&self, name: &str, text: &str) -> bool {
        self.person.has_any(text).is_some_and(|until| self.at <= until)
            && (text.len() >= TELLING_BYTES || is_name_of_an_id(name))
    }

    /// Each part, under the one before it: `/users/5`.
    fn path(&self, path: &str) -> bool {
        let parts: Vec<Cow<'_, str>> = path.split('/').map(|part| decoded(part)).collect();
        parts.windows(2).any(|pair| match pair {
            [name, part] => self.is(name, part),
            _ => false,
        })
    }

    fn body(&self, body: &[u8]) -> bool {
        let mut unpacked = Vec::new();
        let plain = if body.starts_with(GZIP) {
            // What could be unpacked before an error is looked at.
            let _ = GzDecoder::new(body).take(MAX_UNPACKED).read_to_end(&mut unpacked);
            &unpacked
        } else {
            body
        };
        self.text("", &String::from_utf8_lossy(plain), MAX_NESTED)
    }

    /// A text under `name`: the id itself, or JSON or a query that has it.
    fn text(&self, name: &str, text: &str, nested: usize) -> bool {
        let text = text.trim();
        if self.is(name, text) {
            return true;
        }
        let Some(nested) = nested.checked_sub(1) else { return false };
        if text.starts_with(['{', '[']) {
            let documents = serde_json::Deserializer::from_str(text).into_iter::<Value>();
            return documents.map_while(Result::ok).any(|value| self.value(name, &value, nested));
        }
        if let Some(json) = from_base64(text) {
            return self.text(name, &json, nested);
        }
        text.contains(['=', '\n']) && self.pairs(text, nested)
    }

    /// A form, a query, an address with one, cookies, or lines.
    fn pairs(&self, text: &str, nested: usize) -> bool {
        text.split(SEPARATORS).any(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or(("", pair));
            self.text(&decoded(name), &decoded(&value.replace('+', " ")), nested)
                // An id may have a plus sign that nobody has encoded.
                || self.is(&decoded(name), &decoded(value))
        })
    }

    fn value(&self, name: &str, value: &Value, nested: usize) -> bool {
        match value {
            Value::Array(list) => list.iter().any(|one| self.value(name, one, nested)),
            Value::Object(members) => {
                members.iter().any(|(own, value)| self.value(own, value, nested))
            }
            Value::String(text) => self.text(name, text, nested),
            other => value_as_id(other).is_some_and(|text| self.is(name, &text)),
        }
    }
}

/// What stands between the pairs of queries and cookies, and between lines.
const SEPARATORS: [char; 6] = ['?', '&', ';', '#', '\n', '\r'];

fn decoded(text: &str) -> Cow<'_, str> {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy()
}

fn from_base64(text: &str) -> Option<String> {
    if !JSON_IN_BASE64.iter().any(|begins| text.starts_with(begins)) {
        return None;
    }
    let bare = text.trim_end_matches('=');
    let read = |engine: &GeneralPurpose| engine.decode(bare).ok();
    String::from_utf8(read(&STANDARD_NO_PAD).or_else(|| read(&URL_SAFE_NO_PAD))?).ok()
}

/// `uid`, `user_id`, `cid`, `_id`, `users`.
fn is_name_of_an_id(name: &str) -> bool {
    let name = plain(name);
    name.ends_with("id") || name.contains("user")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use http::{HeaderValue, Method};

    use crate::collect::{Call, Parcel, Person, Way};
    use crate::profile::ProfileKey;

    fn parcel(path: &str, header: &str, body: &[u8]) -> Parcel {
        let header = HeaderValue::from_str(header).unwrap();
        let call = Call {
            method: Method::POST,
            path: path.into(),
            headers: vec![(http::header::COOKIE, header)],
        };
        Parcel { way: Way::Call(Box::new(call)), body: body.to_vec().into() }
    }

    fn person() -> Person {
        let ids =
            ["user_id:jöhn+1", "user_id:777", "user_id:5", "anonymous_id:b1", "email:j@x.example"];
        Person::of(&ids.map(|id| ProfileKey::parse("shop", id).unwrap()), 5)
    }

    #[test]
    fn an_id_is_found_wherever_it_is_a_whole_value() {
        let person = person();
        for path in [
            "/track?uid=j%C3%B6hn%2B1",
            "/track?uid=j%C3%B6hn+1",
            "/track?a=b&_id=777",
            "/track?uid=5",
            "/track?data=%7B%22distinct%22%3A%22777%22%7D",
            "/track?url=https%3A%2F%2Fshop.example%2F%3Fmail%3Dj%2540x.example%23top",
            "/users/777/track",
            "/users/5",
        ] {
            assert!(person.is_in(&parcel(path, "a=b", b""), 5), "{path}");
        }
        for body in [
            r#"{"user":{"id":777}}"#,
            r#"{"a":[{"b":"j\u00f6hn+1"}]}"#,
            "{\"uid\":\"x\"}\n{\"uid\":\"777\"}",
            r#"{"requests":["?idsite=1&uid=777","?idsite=1"]}"#,
            r#"{"data":"{\"mail\":\"j@x.example\"}"}"#,
            "a=b&mail=j%40x.example",
            "mail=j@x.example",
            "uid=777&url=https://shop.example/?a=b",
            "en=view&uid=x\r\nen=view&uid=777",
            "--x\r\nContent-Disposition: form-data; name=\"uid\"\r\n\r\n777\r\n--x--",
            "777",
        ] {
            assert!(person.is_in(&parcel("/t", "a=b", body.as_bytes()), 5), "{body}");
        }
        let json = br#"{"uid":"777"}"#;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(json).unwrap();
        assert!(person.is_in(&parcel("/t", "a=b", &gzip.finish().unwrap()), 5));
        let form = format!("data={}", STANDARD.encode(json).replace('=', "%3D"));
        assert!(person.is_in(&parcel("/t", "a=b", form.as_bytes()), 5), "{form}");
        for header in ["777", "a=b; uid=777", "{\"uid\":777}"] {
            assert!(person.is_in(&parcel("/t", header, b""), 5), "{header}");
        }
        assert!(!person.is_in(&parcel("/track?uid=777", "a=b", b""), 6), "taken later");
    }

    #[test]
    fn what_only_looks_like_an_id_is_nobodys() {
        let person = person();
        for path in
            ["/track?uid=7777", "/track?idsite=5&rec=5", "/5/track", "/track?q=about+777+things"]
        {
            assert!(!person.is_in(&parcel(path, "a=b", b""), 5), "{path}");
        }
        for body in [
            r#"{"quantity":5,"items":[5,"5"],"text":"777 said"}"#,
            "5",
            "a=5&b=77",
            "[[[[",
            r#"{"777":"a name"}"#,
            "\u{1f}\u{8b}",
            "",
        ] {
            assert!(!person.is_in(&parcel("/t", "a=b", body.as_bytes()), 5), "{body}");
        }
        // Nested without an end.
        let deep =
            (0..200).fold("777".to_owned(), |inner, _| format!("a={}", inner.replace('=', "%3D")));
        let _ = person.is_in(&parcel("/t", "a=b", deep.as_bytes()), 5);
    }
}
