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
    /// Spaces in the request line, its other control characters, and those that end it.
    spaces: usize,
    controls: usize,
    returns: usize,
    /// The request line has begun, and ended.
    line: Line,
    /// The target, where it was escaped.
    target: Option<OddTarget>,
    /// The host, where the target names it.
    host: Option<Box<str>>,
    frame: Frame,
    /// What has come and is not through: of the body, or of the next request.
    behind: Vec<u8>,
    /// The body is not framed as it should be.
    broken: bool,
    /// The edge has seen the request.
    judged: bool,
    /// All of the head has come.
    whole: bool,
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
    pub(crate) fn head_came(&self, head: &[u8], behind: &[u8], is_whole: bool) -> Option<Vec<u8>> {
        let mut bytes = self.bytes();
        if matches!(bytes.frame, Frame::All) {
            return None;
        }
        bytes.behind.extend_from_slice(behind);
        bytes.whole = is_whole;
        bytes.rewrite(head).or_else(|| (!behind.is_empty()).then(|| head.to_vec()))
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

    /// Whether Pingora answers the request without having shown it to the edge: it can't read it.
    pub(crate) fn is_unread(&self) -> bool {
        let bytes = self.bytes();
        bytes.whole && !bytes.judged && !matches!(bytes.frame, Frame::All)
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

    /// The host that the target names: `Host` does not count beside it.
    pub(super) fn host(&self) -> Option<Box<str>> {
        self.bytes().host.clone()
    }

    /// Whether the request line has the two spaces that divide it, and no other, nor a control character. Pingora escapes
    /// them in the target.
    pub(super) fn is_divided(&self) -> bool {
        let bytes = self.bytes();
        bytes.spaces == 2 && bytes.controls == 0 && bytes.returns <= 1
    }

    /// The edge sees the request.
    pub(crate) fn judge(&self) {
        self.bytes().judged = true;
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
    pub(crate) fn is_broken(&self) -> bool {
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
        self.returns += memchr::memchr_iter(b'\r', line).count();
        let is_control = |byte: &&u8| **byte < b' ' && **byte != b'\r' || **byte == 0x7f;
        self.controls += line.iter().filter(is_control).count();
        begin..begin + line.len()
    }

    /// A part of the head with its target as Pingora reads it: without characters that it refuses, and without the host,
    /// which it wants in one place alone. `None` where it is as it came.
    fn rewrite(&mut self, head: &[u8]) -> Option<Vec<u8>> {
        let spaces = self.spaces;
        let line = self.line(head);
        let (before, rest) = head.split_at_checked(line.start)?;
        let (line, rest) = rest.split_at_checked(line.len())?;
        // Bytes that are no text are of an older encoding.
        let is_text = std::str::from_utf8(line).is_ok();
        let unread = |byte: &u8| UNREAD.contains(byte) || (!is_text && !byte.is_ascii());
        let mut words = line.splitn(3, |byte| *byte == b' ');
        let words = (words.next(), words.next(), words.next());
        let (method, came, version) = match words {
            (Some(method), Some(target), Some(version)) if spaces == 0 => (method, target, version),
            // It comes in several pieces: what is in this one is escaped.
            _ if line.iter().any(unread) => {
                let escaped = escaped_in_line(line, spaces, unread);
                return Some([before, &escaped, rest].concat());
            }
            _ => return None,
        };
        let host = absolute(came);
        let came = host.map_or(came, |(_, path)| path);
        if host.is_none() && !came.iter().any(unread) {
            return None;
        }
        self.host = host.map(|(host, _)| host.into());
        let written = escaped(came, unread);
        if written != came {
            let (written, came) = (written.as_slice().into(), came.into());
            self.target = Some(OddTarget { written, came });
        }
        Some([before, method, b" ", &written, b" ", version, rest].concat())
    }
}

/// Host and path of a target that is a whole URL (RFC 9112, 3.2.2). One with anything else in it is left to Pingora.
fn absolute(target: &[u8]) -> Option<(&str, &[u8])> {
    let scheme = [&b"http://"[..], b"https://"].into_iter().find(|scheme| {
        target.get(..scheme.len()).is_some_and(|own| own.eq_ignore_ascii_case(scheme))
    })?;
    let rest = target.get(scheme.len()..)?;
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let (host, path) = rest.split_at_checked(end)?;
    let host = std::str::from_utf8(host).ok()?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    let plain = !host.is_empty() && host.bytes().all(is_plain);
    match path.first() {
        _ if !plain => None,
        None => Some((host, b"/")),
        Some(b'/') => Some((host, path)),
        Some(_) => None,
    }
}

fn escaped(text: &[u8], unread: impl Fn(&u8) -> bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for byte in text {
        if unread(byte) {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        } else {
            out.push(*byte);
        }
    }
    out
}

/// A piece of a request line that had so many spaces before it: the target stands between two.
fn escaped_in_line(line: &[u8], mut spaces: usize, unread: impl Fn(&u8) -> bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(line.len());
    for byte in line {
        spaces += usize::from(*byte == b' ');
        if spaces == 1 {
            out.extend(escaped(std::slice::from_ref(byte), &unread));
        } else {
            out.push(*byte);
        }
    }
    out
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
            (b"GET /a\rb HTTP/1.1\r\n\r\n", false),
            (b"GET /a\tb HTTP/1.1\r\n\r\n", false),
            (b"GET /a\x7fb HTTP/1.1\r\n\r\n", false),
        ] {
            for size in 1..=head.len() {
                let raw = RawRequest::default();
                for part in head.chunks(size) {
                    assert_eq!(raw.head_came(part, b"", false), None);
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
            let part =
                |part: &[u8]| raw.head_came(part, b"", false).unwrap_or_else(|| part.to_vec());
            let all: Vec<u8> = head.chunks(size).flat_map(part).collect();
            assert_eq!(all.escape_ascii().to_string(), whole.escape_ascii().to_string(), "{size}");
            assert!(raw.is_divided());
        }
        let raw = RawRequest::default();
        let latin = raw.head_came(b"GET /caf\xe9?\xe9 HTTP/1.1\r\n\r\n", b"", false);
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
            let all = raw.head_came(head, b"", false).unwrap_or_else(|| head.to_vec());
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
        assert_eq!(raw.head_came(head, b"abGET", false).as_deref(), Some(&head[..]));
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
        let _ = raw.head_came(b"POST / HTTP/1.1\r\n\r\n", b"", false);
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

    #[test]
    fn a_url_is_taken_apart() {
        for (target, host, path) in [
            ("http://Shop.example:81/a?b", Some("Shop.example:81"), "/a?b"),
            ("HTTPS://[::1]/", Some("[::1]"), "/"),
            ("http://shop.example", Some("shop.example"), "/"),
            ("http://u@shop.example/", None, "http://u@shop.example/"),
            ("http:///a", None, "http:///a"),
            ("http://shop.example?a", None, "http://shop.example?a"),
            ("/http://shop.example/", None, "/http://shop.example/"),
        ] {
            let raw = RawRequest::default();
            let head = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
            let read = raw.head_came(head.as_bytes(), b"", false).unwrap_or_else(|| head.into());
            let read = String::from_utf8(read).unwrap();
            assert!(read.starts_with(&format!("GET {path} HTTP/1.1\r\nHost: x")), "{read}");
            assert_eq!(raw.host().as_deref(), host, "{target}");
        }
    }
}
