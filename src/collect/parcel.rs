//! What is kept of an event until the vendor has it: how it is sent, and its bytes.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};

/// One thing to deliver.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Parcel {
    /// How it is sent.
    pub way: Way,
    /// JSON for a batch, anything for a call.
    pub body: Bytes,
}

/// How a parcel is sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Way {
    /// As a member of a batch.
    Batched,
    /// By a call of its own.
    Call(Box<Call>),
}

/// A call of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Call {
    /// Method.
    pub method: Method,
    /// Path below the API's base, with query.
    pub path: Box<str>,
    /// Headers that are this call's own.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

const BATCHED: u8 = 0;
const CALL: u8 = 1;

impl Parcel {
    /// A member of a batch.
    #[must_use]
    pub fn batched(event: Vec<u8>) -> Self {
        Self { way: Way::Batched, body: event.into() }
    }

    /// A call of its own, JSON by POST.
    #[must_use]
    pub fn post(path: &str, body: Vec<u8>) -> Self {
        let call = Call { method: Method::POST, path: path.into(), headers: Vec::new() };
        Self { way: Way::Call(Box::new(call)), body: body.into() }
    }

    /// Adds to `out` what [`Parcel::decode`] reads.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match &self.way {
            Way::Batched => out.push(BATCHED),
            Way::Call(call) => {
                out.push(CALL);
                let mut head = format!("{} {}\n", call.method, call.path).into_bytes();
                for (name, value) in &call.headers {
                    head.extend_from_slice(name.as_str().as_bytes());
                    head.push(b':');
                    head.extend_from_slice(value.as_bytes());
                    head.push(b'\n');
                }
                out.extend_from_slice(&u32::try_from(head.len()).unwrap_or(u32::MAX).to_le_bytes());
                out.extend_from_slice(&head);
            }
        }
        out.extend_from_slice(&self.body);
    }

    /// Reads what [`Parcel::encode`] wrote. `None` for what no version wrote.
    #[must_use]
    pub fn decode(bytes: &Bytes) -> Option<Self> {
        match *bytes.first()? {
            BATCHED => Some(Self { way: Way::Batched, body: bytes.slice(1..) }),
            CALL => {
                let length = u32::from_le_bytes(*bytes.get(1..)?.first_chunk()?) as usize;
                // Bytes, not text: a header of a browser's may have any (RFC 9110, 5.5).
                let head = bytes.get(5..5 + length)?.strip_suffix(b"\n")?;
                let mut lines = head.split(|byte| *byte == b'\n');
                let (method, path) = std::str::from_utf8(lines.next()?).ok()?.split_once(' ')?;
                let headers = lines
                    .map(|line| {
                        let colon = memchr::memchr(b':', line)?;
                        let (name, value) = (line.get(..colon)?, line.get(colon + 1..)?);
                        let name = HeaderName::from_bytes(name).ok()?;
                        Some((name, HeaderValue::from_bytes(value).ok()?))
                    })
                    .collect::<Option<_>>()?;
                let call = Call { method: method.parse().ok()?, path: path.into(), headers };
                Some(Self { way: Way::Call(Box::new(call)), body: bytes.slice(5 + length..) })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let call = Call {
            method: Method::PUT,
            path: "/a?b=c".into(),
            headers: vec![(http::header::ACCEPT, HeaderValue::from_static("text/x: y"))],
        };
        for parcel in [
            Parcel::batched(b"{}".to_vec()),
            Parcel::batched(Vec::new()),
            Parcel::post("/m", b"\0\n".to_vec()),
            Parcel { way: Way::Call(Box::new(call)), body: Bytes::from_static(b"x") },
        ] {
            let mut bytes = Vec::new();
            parcel.encode(&mut bytes);
            assert_eq!(Parcel::decode(&bytes.into()), Some(parcel));
        }
        for wrong in [&b""[..], b"\x02", b"\x01", b"\x01\x05\0\0\0a", b"\x01\x02\0\0\0a\n"] {
            assert_eq!(Parcel::decode(&Bytes::copy_from_slice(wrong)), None, "{wrong:?}");
        }
    }

    proptest! {
        /// Whatever can be taken can be read back: a call with any header that a browser can send.
        #[test]
        fn any_call_is_read_back(
            method in "GET|POST|PUT|PATCH|DELETE",
            path in "/[!-~\u{80}-\u{2fff}]{0,20}",
            headers in proptest::collection::vec(
                ("[a-z-]{1,9}", proptest::collection::vec(any::<u8>(), 0..20)), 0..4),
            body in proptest::collection::vec(any::<u8>(), 0..50),
        ) {
            let headers = headers.into_iter().filter_map(|(name, value)| {
                Some((name.parse().ok()?, HeaderValue::from_bytes(&value).ok()?))
            });
            let (method, headers) = (method.parse().unwrap(), headers.collect());
            let call = Call { method, path: path.into(), headers };
            let parcel = Parcel { way: Way::Call(Box::new(call)), body: body.into() };
            let mut bytes = Vec::new();
            parcel.encode(&mut bytes);
            prop_assert_eq!(Parcel::decode(&bytes.into()), Some(parcel));
        }
    }
}
