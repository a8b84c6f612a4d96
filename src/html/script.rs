//! Our own scripts, made for pages.

/// Takes comments, indents and empty lines out. Line ends stay, so the script's meaning does.
#[must_use]
pub fn minify(source: &str) -> String {
    let lines =
        source.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// JSON as it may stand in a script element in any ASCII-compatible encoding: what could end the
/// script or start a comment occurs in JSON inside strings alone, where an escape means the same.
pub fn push_script_json(out: &mut String, json: &str) {
    use std::fmt::Write;
    let mut rest = json;
    // Nearly all of it is plain.
    while let Some(at) = rest.bytes().position(|byte| matches!(byte, b'<' | b'>' | b'&' | 0x7f..)) {
        let (plain, behind) = rest.split_at(at);
        out.push_str(plain);
        let mut chars = behind.chars();
        if let Some(char) = chars.next() {
            let mut units = [0; 2];
            for unit in char.encode_utf16(&mut units) {
                // Writing to a String can't fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
}
