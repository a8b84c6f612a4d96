//! What the bytes of an HTTP/1 request show that Pingora mends before any hook. The connection's stream looks at
//! them as they come; the strict check asks what it has seen.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::chunks::{BadChunk, Chunks};

/// Characters of a target that its parser refuses. Browsers send the last of them as it is.
const UNREAD: &[u8] = b"\"<>`";

/// The bytes of the request that a connection is at: seen by its stream, judged by the edge.
#[derive(Debug, Clone, Default)]
pub struct RawRequest(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    bytes: Mutex<RequestBytes>,
    /// The body comes in chunks: of others nothing has to be looked at.
    in_chunks: AtomicBool,
}

/// What has been seen of it.
#[derive(Debug, Default)]
struct RequestBytes {
    /// Spaces in the request line.
    spaces: usize,
    /// The request line has begun, and ended.
    line: Line,
    /// What has come of the body together with the head's end.
    behind: Vec<u8>,
    /// How far the body has come, where it comes in chunks.
    chunks: Option<Chunks>,
    /// The body is not framed as it should be.
    broken: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Line {
    #[default]
    Before,
    In,
    Behind,
}

/// A request's body is framed in a way that servers could read in two ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a chunk of the request's body is malformed")]
pub struct BadBody;

impl RawRequest {
    fn bytes(&self) -> MutexGuard<'_, RequestBytes> {
        self.0.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another request begins.
    pub(crate) fn begin(&self) {
        self.0.in_chunks.store(false, Ordering::Relaxed);
        *self.bytes() = RequestBytes::default();
    }

    /// A part of the head has come. `behind` is what came behind its end. Where the target has characters that Pingora
    /// can't read, and servers can, the same part with these as they should have been sent (RFC 3986, 2.1).
    pub(crate) fn head_came(&self, head: &[u8], behind: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = self.bytes();
        bytes.behind.extend_from_slice(behind);
        let mut spaces = bytes.spaces;
        let line = bytes.line(head);
        let (before, rest) = head.split_at_checked(line.start)?;
        let (line, rest) = rest.split_at_checked(line.len())?;
        if !line.iter().any(|byte| UNREAD.contains(byte)) {
            return None;
        }
        let mut out = before.to_vec();
        for byte in line {
            spaces += usize::from(*byte == b' ');
            match byte {
                // The target stands between two spaces.
                byte if spaces == 1 && UNREAD.contains(byte) => {
                    out.extend_from_slice(format!("%{byte:02X}").as_bytes());
                }
                byte => out.push(*byte),
            }
        }
        out.extend_from_slice(rest);
        Some(out)
    }

    /// A part of the body has come.
    ///
    /// # Errors
    /// It is not framed as it should be: nothing of the connection can be believed any more.
    pub(crate) fn body_came(&self, came: &[u8]) -> Result<(), BadBody> {
        if !self.0.in_chunks.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.bytes().body(came)
    }

    /// Whether the request line has the two spaces that divide it, and no other. Pingora escapes a space in the
    /// target.
    pub(super) fn is_divided(&self) -> bool {
        self.bytes().spaces == 2
    }

    /// The body comes in chunks: what has come of it is judged, and what comes.
    ///
    /// # Errors
    /// What has come is not framed as it should be.
    pub(super) fn expect_chunks(&self) -> Result<(), BadBody> {
        self.0.in_chunks.store(true, Ordering::Relaxed);
        let mut bytes = self.bytes();
        bytes.chunks = Some(Chunks::default());
        let behind = std::mem::take(&mut bytes.behind);
        bytes.body(&behind)
    }

    /// Whether another request has come with this one, whose body has `length` bytes: Pingora has read it by now, and
    /// can't answer it.
    pub(super) fn is_followed(&self, length: u64) -> bool {
        self.bytes().behind.len() as u64 > length
    }

    /// The body has a length, or there is none: nothing of it has to be looked at.
    pub(super) fn expect_no_chunks(&self) {
        self.bytes().behind = Vec::new();
    }

    /// Whether a part of the body was not framed as it should be.
    pub(super) fn is_broken(&self) -> bool {
        self.bytes().broken
    }
}

impl RequestBytes {
    /// Counts the spaces of the request line, and says where it stands in `head`. Empty lines before it are none of it
    /// (RFC 9112, 2.2).
    fn line(&mut self, head: &[u8]) -> Range<usize> {
        let is_empty = |byte: &&u8| matches!(byte, b'\r' | b'\n');
        let begin = match self.line {
            Line::Before => head.iter().take_while(is_empty).count(),
            Line::In => 0,
            Line::Behind => head.len(),
        };
        let line = head.get(begin..).unwrap_or_default();
        if line.is_empty() {
            return 0..0;
        }
        let end = memchr::memchr(b'\n', line);
        self.line = if end.is_some() { Line::Behind } else { Line::In };
        let line = line.get(..end.unwrap_or(line.len())).unwrap_or_default();
        self.spaces += memchr::memchr_iter(b' ', line).count();
        begin..begin + line.len()
    }

    fn body(&mut self, bytes: &[u8]) -> Result<(), BadBody> {
        let Some(chunks) = &mut self.chunks else { return Ok(()) };
        if self.broken || matches!(chunks.read(bytes), Err(BadChunk)) {
            self.broken = true;
            return Err(BadBody);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_line_is_counted_however_it_comes() {
        for (head, divided) in [
            (&b"GET / HTTP/1.1\r\nA: b c d\r\n\r\n"[..], true),
            (b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", true),
            (b"GET /a b HTTP/1.1\r\n\r\n", false),
            (b"GET  / HTTP/1.1\r\n\r\n", false),
            (b"GET / HTTP/1.1 \r\n\r\n", false),
            (b"GET /\r\n\r\n", false),
        ] {
            for size in 1..=head.len() {
                let raw = RawRequest::default();
                for part in head.chunks(size) {
                    assert_eq!(raw.head_came(part, b""), None);
                }
                assert_eq!(raw.is_divided(), divided, "{}", head.escape_ascii());
            }
        }
    }

    #[test]
    fn characters_of_a_target_that_are_not_read_are_escaped() {
        let head = b"\r\nGET /a\"b?<`> HTTP/1.1\r\nA: \"<b>`\"\r\n\r\n";
        let whole = b"\r\nGET /a%22b?%3C%60%3E HTTP/1.1\r\nA: \"<b>`\"\r\n\r\n";
        for size in 1..=head.len() {
            let raw = RawRequest::default();
            let part = |part: &[u8]| raw.head_came(part, b"").unwrap_or_else(|| part.to_vec());
            let all: Vec<u8> = head.chunks(size).flat_map(part).collect();
            assert_eq!(all.escape_ascii().to_string(), whole.escape_ascii().to_string(), "{size}");
            assert!(raw.is_divided());
        }
        for head in [&b"P`OST / HTTP/1.1\r\n"[..], b"GE<T /\r\n", b"GET / HTTP/1.1\"\r\n"] {
            let raw = RawRequest::default();
            let all = raw.head_came(head, b"").unwrap_or_else(|| head.to_vec());
            assert_eq!(all, head, "it is the target alone");
        }
    }

    #[test]
    fn a_request_that_came_with_another_is_noticed() {
        let raw = RawRequest::default();
        assert_eq!(raw.head_came(b"POST / HTTP/1.1\r\n\r\n", b"ab"), None);
        assert!(!raw.is_followed(2) && !raw.is_followed(3) && raw.is_followed(0));
    }

    #[test]
    fn a_body_is_judged_once_it_is_known_to_come_in_chunks() {
        let raw = RawRequest::default();
        let _ = raw.head_came(b"POST / HTTP/1.1\r\n\r\n", b"5\r\nhe");
        assert_eq!(raw.expect_chunks(), Ok(()));
        assert_eq!(raw.body_came(b"llo\r\n\r\n"), Err(BadBody));
        assert!(raw.is_broken());
        assert_eq!(raw.body_came(b"0\r\n\r\n"), Err(BadBody), "it stays so");
        raw.begin();
        let _ = raw.head_came(b"POST / HTTP/1.1\r\n\r\n", b"\r\n");
        raw.expect_no_chunks();
        assert_eq!(raw.body_came(b"\r\n"), Ok(()), "a body that has a length");
        assert!(!raw.is_broken());
        let _ = raw.head_came(b"", b"\r\n");
        assert_eq!(raw.expect_chunks(), Err(BadBody));
    }
}
