//! A configuration file as it may be shown: without its secrets.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::problem::Place;

/// User and password in front of a host.
#[allow(clippy::unwrap_used, reason = "a test compiles it")]
static LOGIN: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#"[^\s'"`/\[{,(]*:[^\s'"`/@]+@"#).unwrap());

/// What is mostly a secret, by its key: of keys with a typing error, and of files that can't be read.
#[allow(clippy::unwrap_used, reason = "a test compiles it")]
static NAMED: LazyLock<Regex> = LazyLock::new(|| {
    let names = "pass?wo?r?d|secret|token|write_?key|authorization|api[_-]?key";
    let key = format!(r"(?i)([\w-]*(?:{names})[\w-]*)");
    Regex::new(&format!(r#"{key}(["']?[ \t]*:[ \t]*)([^\s{{\[,}}][^,}}\n]*)"#)).unwrap()
});

/// `text` without what stands at `secrets`, and without what looks like one. Everything else stays at its place.
pub(super) fn without_secrets(text: &str, secrets: &[Place]) -> String {
    let mut lines: Vec<Vec<char>> = text.lines().map(|line| line.chars().collect()).collect();
    for place in secrets {
        hide(&mut lines, *place);
    }
    let lines: Vec<String> = lines.into_iter().map(String::from_iter).collect();
    let hidden = NAMED
        .replace_all(&lines.join("\n"), |found: &Captures<'_>| {
            let part = |index| found.get(index).map_or("", |part| part.as_str());
            let (key, colon, value) = (part(1), part(2), part(3));
            let public =
                key.ends_with("_file") || value.starts_with('…') || value.starts_with("${");
            let value = if public { value.to_owned() } else { dots(value.chars().count()) };
            format!("{key}{colon}{value}")
        })
        .into_owned();
    without_logins(&hidden).into_owned()
}

/// `text` without users and passwords of URLs.
pub(super) fn without_logins(text: &str) -> Cow<'_, str> {
    LOGIN.replace_all(text, |found: &Captures<'_>| {
        let width = found.get(0).map_or(0, |login| login.as_str().chars().count());
        format!("{}@", dots(width.saturating_sub(1)))
    })
}

fn dots(width: usize) -> String {
    format!("…{}", " ".repeat(width.saturating_sub(1)))
}

/// Takes the value at `place` out, which may go on in the lines behind.
fn hide(lines: &mut [Vec<char>], place: Place) {
    let number = |of: u64| usize::try_from(of.saturating_sub(1)).unwrap_or(usize::MAX);
    let (first, mut from) = (number(place.line), number(place.column));
    let mut left = usize::try_from(place.width).unwrap_or(usize::MAX);
    let mut mark = Some('…');
    for line in lines.iter_mut().skip(first) {
        for char in line.iter_mut().skip(from).take(left) {
            *char = mark.take().unwrap_or(' ');
        }
        left = left.saturating_sub(line.len().saturating_sub(from) + 1);
        from = 0;
        if left == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_and_all_else_stays_where_it_is() {
        let place = |line, column, width| Place { line, column, width };
        let text = "a: hunter2\nb: { x: two\n  lines, c: d }\nc: e";
        let shown = without_secrets(text, &[place(1, 4, 7), place(2, 9, 11)]);
        assert_eq!(shown, "a: …      \nb: { x: …  \n       , c: d }\nc: e");
        let text = "{ pasword: hunter2, write_key: ab, token_file: /x, password: '${P}', redis: 'redis://u:p1@h:1/0' }";
        let shown = without_secrets(text, &[]);
        assert!(
            !shown.contains("hunter2") && !shown.contains("ab,") && !shown.contains("p1"),
            "{shown}"
        );
        assert!(shown.contains("token_file: /x") && shown.contains("@h:1/0"), "{shown}");
        assert_eq!(shown.chars().count(), text.chars().count());
        for (text, shown) in [
            ("u:p@h:1", "…  @h:1"),
            ("http://:p@h", "http://… @h"),
            ("http://a@h, x: y@z", "http://a@h, x: y@z"),
        ] {
            assert_eq!(without_logins(text), shown);
        }
    }
}
