//! Values with a unit, as people write them in the configuration: `256MiB`, `25ms`.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

/// A number of bytes, written `512`, `64KiB`, `256MiB` or `10GB`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(u64);

impl ByteSize {
    /// `mebibytes` × 1024 × 1024 bytes.
    #[must_use]
    pub const fn mib(mebibytes: u64) -> Self {
        Self(mebibytes * 1024 * 1024)
    }

    /// `kibibytes` × 1024 bytes.
    #[must_use]
    pub const fn kib(kibibytes: u64) -> Self {
        Self(kibibytes * 1024)
    }

    /// The number of bytes, at most what the machine can address.
    #[must_use]
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Debug for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", bytesize::ByteSize(self.0))
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Scalar::deserialize(deserializer)?;
        text.0.parse::<bytesize::ByteSize>().map(|size| Self(size.0)).map_err(de::Error::custom)
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "integer"],
            "pattern": r"^[0-9]+(\.[0-9]+)? ?([kKMGTP](i?[bB])?|[bB])?$",
            "minimum": 0,
            "x-expected": "a size such as `64KiB`, `256MiB` or `10GiB`",
        })
    }
}

/// A length of time, written `25ms`, `60s`, `10m` or `72h`; at most some decades, which every clock can add.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(std::time::Duration);

impl Duration {
    /// That many milliseconds.
    #[must_use]
    pub const fn millis(millis: u64) -> Self {
        Self(std::time::Duration::from_millis(millis))
    }

    /// That many seconds.
    #[must_use]
    pub const fn secs(secs: u64) -> Self {
        Self(std::time::Duration::from_secs(secs))
    }

    /// As the standard library has it.
    #[must_use]
    pub const fn get(self) -> std::time::Duration {
        self.0
    }
}

impl fmt::Debug for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Scalar::deserialize(deserializer)?;
        humantime::parse_duration(&text.0).map(Self).map_err(de::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            // Without a bound of its digits a time is found out where nobody knows any more which key had it.
            "pattern": r"^( ?([0-9]{1,12} ?ms|[0-9]{1,9} ?(s|sec)|[0-9]{1,7} ?(m|min)|[0-9]{1,5} ?h|[0-9]{1,4} ?(d|days?))){1,5}$",
            "x-expected": "a time with its unit, such as `25ms`, `60s`, `10m` or `72h`, and at most `9999d`",
        })
    }
}

/// A part of a whole, written `50%` or `12.5%`.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
pub struct Share(f64);

impl Share {
    /// All of it.
    #[must_use]
    pub const fn all() -> Self {
        Self(1.0)
    }

    /// From 0 to 1.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0 * 100.0)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Scalar::deserialize(deserializer)?;
        let percent = text.0.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
        match percent {
            Some(percent) if (0.0..=100.0).contains(&percent) => Ok(Self(percent / 100.0)),
            _ => Err(de::Error::custom("expected a share from `0%` to `100%`")),
        }
    }
}

impl JsonSchema for Share {
    fn schema_name() -> Cow<'static, str> {
        "Share".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^(100(\.0+)?|[0-9]{1,2}(\.[0-9]+)?) ?%$",
            "x-expected": "a share such as `50%` or `12.5%`, at most `100%`",
        })
    }
}

/// A string, or a number read as the string that stands in the file.
struct Scalar(String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Ok(Self(text)),
            serde_json::Value::Number(number) => Ok(Self(number.to_string())),
            other => Err(de::Error::custom(format!("expected text with a unit, found {other}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_read_as_written() {
        let size = |text: &str| serde_json::from_str::<ByteSize>(text).ok().map(ByteSize::bytes);
        assert_eq!(size("\"many\""), None);
        assert_eq!(size("\"1KiB\""), Some(1024));
        assert_eq!(size("\"256MiB\""), Some(256 << 20));
        assert_eq!(size("512"), Some(512));

        let time = |text: &str| serde_json::from_str::<Duration>(text).ok().map(Duration::get);
        assert_eq!(time("\"25\""), None);
        assert_eq!(time("\"25ms\""), Some(std::time::Duration::from_millis(25)));
        assert_eq!(time("\"10m\""), Some(std::time::Duration::from_mins(10)));
    }
}
