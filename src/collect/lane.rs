//! The way of one site's events to one vendor.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Method, header};

use super::spool::Limits;
use super::{Event, Way};
use crate::telemetry::LaneMetrics;
use crate::upstream::{USER_AGENT, Upstream};

/// The way of one site's events to one vendor.
pub struct Lane {
    /// `{site}.{vendor}`: its folder below `data.path`.
    pub name: Box<str>,
    /// Where events go.
    pub upstream: Arc<Upstream>,
    /// Sent with every call.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Path that takes batches, below the upstream's base.
    pub batch_path: &'static str,
    /// What one call may hold.
    pub limits: Limits,
    /// Each event says when it was sent, not only the batch.
    pub stamps_each: bool,
    /// Its counters.
    pub metrics: LaneMetrics,
}

/// A call, ready to be made.
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) path: Box<str>,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Bytes,
}

impl Lane {
    /// Whose events go this way.
    #[must_use]
    pub fn site(&self) -> &str {
        self.name.split_once('.').map_or(&*self.name, |(site, _)| site)
    }

    /// The call that delivers `events`: one, or several that go in a batch.
    pub(super) fn request(&self, events: &[Event]) -> Request {
        let mut headers = self.headers.clone();
        headers.push((header::USER_AGENT, USER_AGENT));
        if let [Event { parcel, .. }] = events
            && let Way::Call(call) = &parcel.way
        {
            headers.extend(call.headers.iter().cloned());
            if !call.headers.iter().any(|(name, _)| name == header::CONTENT_TYPE) {
                headers.push((header::CONTENT_TYPE, JSON));
            }
            let (method, path) = (call.method.clone(), call.path.clone());
            return Request { method, path, headers, body: parcel.body.clone() };
        }
        headers.push((header::CONTENT_TYPE, JSON));
        let body = batch(events, self.stamps_each);
        Request { method: Method::POST, path: self.batch_path.into(), headers, body }
    }
}

/// Most bytes that an event gets in a batch: `"sentAt":"2026-11-26T12:00:00.000Z",`.
pub const STAMP_BYTES: usize = 40;
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// `sentAt` is when this batch is sent: by it the vendor corrects clocks, and ours is the sender's.
fn batch(events: &[Event], stamps_each: bool) -> Bytes {
    let now = humantime::format_rfc3339_millis(std::time::SystemTime::now());
    let stamp = format!("\"sentAt\":\"{now}\"");
    let bytes: usize = events.iter().map(|event| event.parcel.body.len() + stamp.len() + 2).sum();
    let mut body = BytesMut::with_capacity(bytes + 64);
    body.put_slice(b"{\"batch\":[");
    for (number, event) in events.iter().enumerate() {
        if number > 0 {
            body.put_u8(b',');
        }
        match event.parcel.body.strip_prefix(b"{") {
            // Events have been read and written anew: there is no `sentAt` in them, and no space.
            Some(rest) if stamps_each => {
                body.put_u8(b'{');
                body.put_slice(stamp.as_bytes());
                if rest != b"}" {
                    body.put_u8(b',');
                }
                body.put_slice(rest);
            }
            _ => body.put_slice(&event.parcel.body),
        }
    }
    body.put_slice(b"],");
    body.put_slice(stamp.as_bytes());
    body.put_u8(b'}');
    body.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::Parcel;

    #[test]
    fn batches_are_json_and_say_when_they_were_sent() {
        let event = |text: &str| Event { at: 1, parcel: Parcel::batched(text.as_bytes().to_vec()) };
        let events = [event(r#"{"a":1}"#), event("{}")];
        for each in [false, true] {
            let read: serde_json::Value = serde_json::from_slice(&batch(&events, each)).unwrap();
            assert!(read["sentAt"].is_string());
            assert_eq!(read["batch"][0]["a"], 1);
            assert_eq!(read["batch"][1]["sentAt"].is_string(), each);
        }
    }
}
