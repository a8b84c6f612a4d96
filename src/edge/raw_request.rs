//! What the bytes of an HTTP/1 request show that Pingora mends before any hook. The connection's stream looks at
//! them as they come; the strict check asks what it has seen.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::ReadBuf;

use super::chunks::Chunks;
use crate::upstream::OddTarget;

/// Characters of a target that its parser refuses. Browsers send the last of them as it is.
const UNREAD: &[u8] = b"\"<>`";

/// The bytes of the request that a connection is at: seen by its stream, judged by the edge.
#[derive(Debug, Clone, Default)]
pub struct RawRequest(Arc<Mutex<RequestBytes>>);

/// What has been seen of it.
#[derive(Debug, Default)]
struct RequestBytes {
    /// Spaces in the request line.
    spaces: usize,
    /// The request line has begun, and ended.
    line: Line,
    /// The target, where it was escaped.
    target: Option<OddTarget>,
    frame: Frame,
    /// What has come and is not through: of the body, or of the next request.
    behind: Vec<u8>,
    /// The body is not framed as it should be.
    broken: bool,
}

/// What follows the head.
#[derive(Debug, Default)]
enum Frame {
    /// Nothing, or it is not known yet.
    #[default]
    Nothing,
    /// So many bytes.
    Bytes(u64),
    Chunks(Chunks),
    /// All that comes: a tunnel's, or frames of HTTP/2.
    All,
}

/// What is to be read of the request that a connection is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Nothing: what comes is of the next one.
    Nothing,
    /// At most so many bytes.
    Bytes(u64),
    /// Chunks.
    Chunks,
    /// All that comes.
    All,
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
    /// What comes on a connection whose requests are not looked at.
    pub(crate) fn unframed() -> Self {
        Self(Arc::new(Mutex::new(RequestBytes { frame: Frame::All, ..RequestBytes::default() })))
    }

    fn bytes(&self) -> MutexGuard<'_, RequestBytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another request begins, with what has come of it.
    pub(crate) fn begin(&self) {
        let mut bytes = self.bytes();
        let behind = std::mem::take(&mut bytes.behind);
        *bytes = RequestBytes { behind, ..RequestBytes::default() };
    }

    /// A part of the head has come. `behind` is what came behind its end, and waits. Gives the part where it is not all
    /// that came: with the characters of the target that Pingora can't read, and servers can, as they should have been sent
    /// (RFC 3986, 2.1).
    pub(crate) fn head_came(&self, head: &[u8], behind: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = self.bytes();
        if matches!(bytes.frame, Frame::All) {
            return None;
        }
        bytes.behind.extend_from_slice(behind);
        bytes.escape(head).or_else(|| (!behind.is_empty()).then(|| head.to_vec()))
    }

    /// What has come of the next head.
    pub(crate) fn take_behind(&self) -> Vec<u8> {
        std::mem::take(&mut self.bytes().behind)
    }

    /// What is to be read of it.
    pub(crate) fn due(&self) -> Due {
        match &self.bytes().frame {
            Frame::Nothing | Frame::Bytes(0) => Due::Nothing,
            Frame::Bytes(left) => Due::Bytes(*left),
            Frame::Chunks(chunks) if chunks.is_over() => Due::Nothing,
            Frame::Chunks(_) => Due::Chunks,
            Frame::All => Due::All,
        }
    }

    /// Puts at most `most` bytes that have come already into `buf`. Whether there were any.
    pub(crate) fn put_behind(&self, buf: &mut ReadBuf<'_>, most: usize) -> bool {
        let mut bytes = self.bytes();
        let here = bytes.behind.len().min(most).min(buf.remaining());
        buf.put_slice(bytes.behind.get(..here).unwrap_or_default());
        if here == bytes.behind.len() {
            bytes.behind = Vec::new();
        } else {
            bytes.behind.drain(..here);
        }
        here > 0
    }

    /// So many bytes of a body with a length are through.
    pub(crate) fn bytes_came(&self, came: usize) {
        if let Frame::Bytes(left) = &mut self.bytes().frame {
            *left = left.saturating_sub(came as u64);
        }
    }

    /// A part of a body in chunks has come. How many of its bytes are the body's: the others wait.
    ///
    /// # Errors
    /// It is not framed as it should be: nothing of the connection can be believed any more.
    pub(crate) fn chunks_came(&self, came: &[u8]) -> Result<usize, BadBody> {
        let mut bytes = self.bytes();
        let own = match &mut bytes.frame {
            Frame::Chunks(chunks) => chunks.read(came),
            Frame::Nothing | Frame::Bytes(_) | Frame::All => Ok(came.len()),
        };
        if bytes.broken || own.is_err() {
            bytes.broken = true;
            return Err(BadBody);
        }
        let own = own.unwrap_or_default();
        let mut behind = came.get(own..).unwrap_or_default().to_vec();
        behind.append(&mut bytes.behind);
        bytes.behind = behind;
        Ok(own)
    }

    /// These bytes are the next request's.
    pub(crate) fn put_back(&self, came: &[u8]) {
        self.bytes().behind.extend_from_slice(came);
    }

    /// Whether something has come that is not through.
    pub(crate) fn is_followed(&self) -> bool {
        !self.bytes().behind.is_empty()
    }

    /// The target, where it was escaped.
    pub(super) fn target(&self) -> Option<OddTarget> {
        self.bytes().target.clone()
    }

    /// Whether the request line has the two spaces that divide it, and no other. Pingora escapes a space in the
    /// target.
    pub(super) fn is_divided(&self) -> bool {
        self.bytes().spaces == 2
    }

    /// The body comes in chunks.
    pub(super) fn expect_chunks(&self) {
        self.bytes().frame = Frame::Chunks(Chunks::default());
    }

    /// The body has so many bytes.
    pub(super) fn expect_bytes(&self, length: u64) {
        self.bytes().frame = Frame::Bytes(length);
    }

    /// All that comes from now on is the tunnel's.
    pub(super) fn expect_all(&self) {
        self.bytes().frame = Frame::All;
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

    /// A part of the head with the characters of the target escaped that are not read. `None` where there are none.
    fn escape(&mut self, head: &[u8]) -> Option<Vec<u8>> {
        let mut spaces = self.spaces;
        let line = self.line(head);
        let (before, rest) = head.split_at_checked(line.start)?;
        let (line, rest) = rest.split_at_checked(line.len())?;
        // Bytes that are no text are of an older encoding.
        let is_text = std::str::from_utf8(line).is_ok();
        let unread = |byte: &u8| UNREAD.contains(byte) || (!is_text && !byte.is_ascii());
        if !line.iter().any(unread) {
            return None;
        }
        let came = line.split(|byte| *byte == b' ').nth(1).filter(|_| spaces == 0);
        let mut out = before.to_vec();
        for byte in line {
            spaces += usize::from(*byte == b' ');
            match byte {
                // The target stands between two spaces.
                byte if spaces == 1 && unread(byte) => {
                    out.extend_from_slice(format!("%{byte:02X}").as_bytes());
                }
                byte => out.push(*byte),
            }
        }
        // One that comes in several pieces is asked for as it is escaped.
        let written = out.get(before.len()..).unwrap_or_default();
        let written = written.split(|byte| *byte == b' ').nth(1);
        let whole = written.zip(came).filter(|_| spaces == 2);
        self.target =
            whole.map(|(written, came)| OddTarget { written: written.into(), came: came.into() });
        out.extend_from_slice(rest);
        Some(out)
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
        let raw = RawRequest::default();
        let latin = raw.head_came(b"GET /caf\xe9?\xe9 HTTP/1.1\r\n\r\n", b"");
        assert_eq!(latin.as_deref(), Some(&b"GET /caf%E9?%E9 HTTP/1.1\r\n\r\n"[..]));
        let target = raw.target().unwrap();
        assert_eq!(&*target.written, b"/caf%E9?%E9");
        assert_eq!(&*target.came, b"/caf\xe9?\xe9");
        for head in [
            &b"P`OST / HTTP/1.1\r\n"[..],
            "GET /caf\u{e9} HTTP/1.1\r\n".as_bytes(),
            b"GE<T /\r\n",
            b"GET / HTTP/1.1\"\r\n",
        ] {
            let raw = RawRequest::default();
            let all = raw.head_came(head, b"").unwrap_or_else(|| head.to_vec());
            assert_eq!(all, head, "it is the target alone");
        }
    }

    /// What is left of `bytes` behind a request of this frame.
    fn read(raw: &RawRequest, bytes: &[u8]) -> Result<usize, BadBody> {
        match raw.due() {
            Due::Chunks => raw.chunks_came(bytes),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_stands_behind_a_request_waits_for_the_next() {
        let raw = RawRequest::default();
        let head = b"POST / HTTP/1.1\r\n\r\n";
        assert_eq!(raw.head_came(head, b"abGET").as_deref(), Some(&head[..]));
        assert_eq!(raw.due(), Due::Nothing, "it is not known yet");
        raw.expect_bytes(2);
        assert_eq!(raw.due(), Due::Bytes(2));
        let mut space = [0; 8];
        let mut buf = ReadBuf::new(&mut space);
        assert!(raw.put_behind(&mut buf, 2));
        raw.bytes_came(2);
        assert_eq!((buf.filled(), raw.due()), (&b"ab"[..], Due::Nothing));
        raw.put_back(b" /");
        raw.begin();
        assert_eq!(raw.take_behind(), b"GET /");
        assert!(!raw.is_followed() && !raw.put_behind(&mut buf, 2));
    }

    #[test]
    fn chunks_are_judged_and_end() {
        let raw = RawRequest::default();
        let _ = raw.head_came(b"POST / HTTP/1.1\r\n\r\n", b"");
        raw.expect_chunks();
        assert_eq!(read(&raw, b"5\r\nhello\r\n0\r\n\r\nGET"), Ok(15));
        assert_eq!((raw.due(), raw.take_behind()), (Due::Nothing, b"GET".to_vec()));
        raw.begin();
        raw.expect_chunks();
        assert_eq!(read(&raw, b"5\r\nhello\r\n\r\n"), Err(BadBody));
        assert!(raw.is_broken());
        assert_eq!(read(&raw, b"0\r\n\r\n"), Err(BadBody), "it stays so");
        raw.begin();
        assert!(!raw.is_broken());
    }
}
