//! A request's path, normalised once, before anything is decided by it.

use std::borrow::Cow;

use percent_encoding::percent_decode;

/// The path as every server would read it: percent-decoded once, dot segments resolved. `None`
/// where it leads above the root or holds a NUL.
#[must_use]
pub fn normal_path(raw: &str) -> Option<Cow<'_, str>> {
    // Most paths are normal.
    if is_normal(raw) {
        return Some(Cow::Borrowed(raw));
    }
    let decoded = percent_decode(raw.as_bytes()).decode_utf8_lossy();
    // Servers that are written in C would read it up to there.
    if decoded.contains('\0') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    let mut open = false;
    for part in decoded.split(['/', '\\']) {
        open = matches!(part, "" | "." | "..");
        match part {
            "" | "." => {}
            // The origin would read another path than we do.
            ".." if has_hidden_slash(raw) => return None,
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    let mut out = String::with_capacity(decoded.len());
    for part in &parts {
        out.push('/');
        out.push_str(part);
    }
    if open || out.is_empty() {
        out.push('/');
    }
    Some(Cow::Owned(out))
}

/// Whether there is a slash that some servers don't see as one, and others do.
fn has_hidden_slash(raw: &str) -> bool {
    raw.contains('\\')
        || raw
            .as_bytes()
            .windows(3)
            .any(|three| three.eq_ignore_ascii_case(b"%2f") || three.eq_ignore_ascii_case(b"%5c"))
}

/// Whether every server reads the path as it stands: one walk, because every request has one.
fn is_normal(raw: &str) -> bool {
    let mut before = b' ';
    let odd = |byte: u8| {
        let odd = matches!(byte, b'%' | b'\\') || (before == b'/' && matches!(byte, b'/' | b'.'));
        before = byte;
        odd
    };
    raw.starts_with('/') && !raw.bytes().any(odd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised_once() {
        for (raw, normal) in [
            ("/", Some("/")),
            ("/a/b", Some("/a/b")),
            ("/a/", Some("/a/")),
            ("/a/./b", Some("/a/b")),
            ("/a/../b", Some("/b")),
            ("/a/..", Some("/")),
            ("//seg//t", Some("/seg/t")),
            ("/%73eg/t", Some("/seg/t")),
            ("/seg%2ft", Some("/seg/t")),
            ("/x/%2e%2e/seg/t", Some("/seg/t")),
            ("/x/..%2fseg", None),
            ("/seg/p/..%2F..%2Fadmin", None),
            ("/x\\..\\seg", None),
            ("/x%5c%2e%2e/seg", None),
            ("/x%2fy", Some("/x/y")),
            ("/%252e", Some("/%2e")),
            ("/..", None),
            ("/a/../../b", None),
            ("/%00", None),
            ("/a%0d%0ab%09", Some("/a\r\nb\t")),
        ] {
            assert_eq!(normal_path(raw).as_deref(), normal, "{raw}");
        }
    }
}
