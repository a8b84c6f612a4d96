//! The head of an answer as Pingora reads it: without the fields that it refuses, each of which would cost the page.

/// A head that can be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) bytes: Vec<u8>,
    /// It comes before the answer's own (RFC 9110, 15.2).
    pub(super) is_ahead: bool,
}

/// Most fields: Pingora reads a few more.
const MAX_FIELDS: usize = 250;
/// What frames an answer: where one of them is odd, nobody knows what follows.
const FRAMING: [&[u8]; 3] = [b"content-length", b"transfer-encoding", b"connection"];
/// What a page is not without, wherever in the head it stands.
const NEEDED: [&[u8]; 11] = [
    b"content-length",
    b"transfer-encoding",
    b"connection",
    b"content-type",
    b"content-encoding",
    b"cache-control",
    b"location",
    b"set-cookie",
    b"vary",
    b"content-security-policy",
    b"x-doorstep-user",
];

/// `head` without its odd fields, and without the last of too many. `None` where they say how the answer is framed.
pub(super) fn readable(head: &[u8]) -> Option<Head> {
    let mut lines =
        head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let status = lines.next()?;
    let mut out = [status, b"\r\n"].concat();
    let fields = fields(lines)?;
    let needed = |name: &[u8]| NEEDED.iter().any(|one| name.eq_ignore_ascii_case(one));
    let mut room =
        MAX_FIELDS.saturating_sub(fields.iter().filter(|(name, _)| needed(name)).count());
    for (name, value) in &fields {
        if !needed(name) {
            if room == 0 {
                continue;
            }
            room -= 1;
        }
        for part in [name, &b": "[..], value, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    out.extend_from_slice(b"\r\n");
    let code = status.get(b"HTTP/1.1 ".len()..).unwrap_or_default();
    let is_ahead = code.starts_with(b"1") && !code.starts_with(b"101");
    Some(Head { bytes: out, is_ahead })
}

type Field<'h> = (&'h [u8], Vec<u8>);

/// The fields that can be read. A line that begins with a space goes on with the one before (RFC 9112, 5.2).
fn fields<'h>(lines: impl Iterator<Item = &'h [u8]>) -> Option<Vec<Field<'h>>> {
    let mut all: Vec<Field<'h>> = Vec::new();
    let mut goes_on = false;
    for line in lines.filter(|line| !line.is_empty()) {
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            if let (true, Some((_, value))) = (goes_on, all.last_mut()) {
                value.push(b' ');
                value.extend_from_slice(line.trim_ascii());
            }
            continue;
        }
        let colon = memchr::memchr(b':', line);
        let (name, value) = line.split_at(colon.unwrap_or(line.len()));
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        goes_on = colon.is_some() && is_name(name) && is_value(value);
        if goes_on {
            all.push((name, value.to_vec()));
        } else if frames(name) {
            return None;
        }
    }
    let is_whole = |(name, value): &Field<'_>| is_value(value) || !frames(name);
    all.iter().all(is_whole).then_some(())?;
    all.retain(|(_, value)| is_value(value));
    Some(all)
}

/// Whether a name is one that frames the answer, or could be read as one.
fn frames(name: &[u8]) -> bool {
    let letters: Vec<u8> = name
        .iter()
        .map(|byte| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() })
        .filter(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
        .collect();
    FRAMING.contains(&&*letters)
}

/// A token (RFC 9110, 5.6.2).
fn is_name(name: &[u8]) -> bool {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty() && name.iter().all(is_token)
}

/// No control characters but tabs.
fn is_value(value: &[u8]) -> bool {
    value.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &str) -> Option<String> {
        let head = readable(format!("HTTP/1.1 200 OK\r\n{fields}\r\n").as_bytes())?;
        let text = String::from_utf8(head.bytes).unwrap();
        Some(text.strip_prefix("HTTP/1.1 200 OK\r\n")?.strip_suffix("\r\n")?.to_owned())
    }

    #[test]
    fn an_odd_field_goes_and_the_others_stay() {
        for odd in [
            "X-Foo[]: a\r\n",
            "X@y: a\r\n",
            "X Foo: a\r\n",
            "X-\u{fc}: a\r\n",
            ": a\r\n",
            "no colon\r\n",
            "X: a\u{1}b\r\n",
            "X: a\0b\r\n",
            "X: a\u{7f}\r\n",
            "X: a\rb\r\n",
            "X[]: a\r\n and more\r\n",
            "X: a\r\n \u{1}\r\n",
        ] {
            let all = format!("A: b\r\n{odd}Content-Length: 3\r\n");
            assert_eq!(read(&all).as_deref(), Some("A: b\r\nContent-Length: 3\r\n"), "{odd:?}");
        }
        assert_eq!(read("A: b\n\tc\r\nD:\r\n").as_deref(), Some("A: b c\r\nD: \r\n"));
    }

    #[test]
    fn what_frames_an_answer_is_not_guessed() {
        for odd in [
            "Content-Length : 3\r\n",
            "Content-Length: 3\u{1}\r\n",
            "Transfer_Encoding[]: chunked\r\n",
            "Transfer-Encoding: chun\0ked\r\n",
            "Con\u{1}nection: close\r\n",
        ] {
            assert_eq!(read(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn of_too_many_fields_those_stay_that_a_page_needs() {
        let many: String = (0..300).map(|n| format!("X-H{n}: 1\r\n")).collect::<Vec<_>>().concat();
        let read = read(&format!("{many}Content-Type: text/html\r\n")).unwrap();
        assert_eq!(read.lines().count(), MAX_FIELDS);
        assert!(read.starts_with("X-H0: 1\r\n") && read.ends_with("Content-Type: text/html\r\n"));
    }

    #[test]
    fn what_comes_before_the_answer_is_known() {
        for (status, is_ahead) in
            [("103 Early Hints", true), ("101 Switching Protocols", false), ("200 OK", false)]
        {
            let head = readable(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).unwrap();
            assert_eq!(head.is_ahead, is_ahead, "{status}");
        }
    }
}
