//! Ids in JSON, in the one form that vendors take and that cookies, links and deletions compare: text.

use serde_json::Value;
use serde_json::value::RawValue;

/// `raw` as an id: text as it is, a number, true or false in their text, so that `777`, `777.0` and `"777"`
/// are one id. `None` for `null`, lists and objects.
#[must_use]
pub fn as_id(raw: &RawValue) -> Option<String> {
    let json = raw.get();
    match json.as_bytes().first()? {
        b'"' => serde_json::from_str(json).ok(),
        b't' | b'f' => Some(json.to_owned()),
        b'-' | b'0'..=b'9' => Some(number_as_text(json)),
        _ => None,
    }
}

/// A number in plain digits. What has more of them than JavaScript can keep stays as written.
#[must_use]
pub fn number_as_text(json: &str) -> String {
    /// Integers up to here are exact (`Number.MAX_SAFE_INTEGER`).
    const MAX_EXACT: f64 = 9_007_199_254_740_991.0;
    let is_integer = json.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    match json.parse::<f64>() {
        // -0 as well.
        Ok(0.0) => "0".to_owned(),
        Ok(number) if !is_integer && number.abs() <= MAX_EXACT => format!("{number}"),
        _ => json.to_owned(),
    }
}

/// The same of JSON that has been read.
#[must_use]
pub fn value_as_id(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) => Some(value.to_string()),
        Value::Number(number) => Some(number_as_text(&number.to_string())),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_text_however_it_is_written() {
        for (json, id) in [
            ("777", Some("777")),
            ("777.0", Some("777")),
            ("7.77e2", Some("777")),
            ("-0", Some("0")),
            ("1.5", Some("1.5")),
            ("123456789012345678901234567890", Some("123456789012345678901234567890")),
            ("1e400", Some("1e400")),
            ("true", Some("true")),
            (r#""j\u00f6hn""#, Some("jöhn")),
            (r#""""#, Some("")),
            ("null", None),
            ("[777]", None),
            (r#"{"id":777}"#, None),
        ] {
            let raw = RawValue::from_string(json.to_owned()).unwrap();
            assert_eq!(as_id(&raw).as_deref(), id, "{json}");
        }
    }
}
