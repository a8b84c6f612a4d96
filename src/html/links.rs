//! Relative links of a page that is shown under another path than its own.

use super::edit::escape;

/// Elements that may have links.
pub const LINKED: &str = "[href], [src], [action], [formaction], [poster], [srcset], [data]";

/// The attributes that are or have links.
pub(super) const NAMES: [&str; 7] =
    ["href", "src", "action", "formaction", "poster", "data", "srcset"];

/// The value of the attribute `name`, whose relative links are to lead where they led from `folder`, which
/// ends with a slash. None where nothing is to be changed. The value has its references, as in a page.
pub(super) fn rebased(name: &str, value: &str, folder: &str) -> Option<String> {
    // A folder may have parts that the visitor's URL says: no references, and no host.
    let folder = escape(folder.trim_start_matches('/'));
    let rebase = |link: &str| format!("/{folder}{}", link.trim_ascii_start());
    if name != "srcset" {
        return is_relative(value).then(|| rebase(value));
    }
    let links = value.split(", ").map(str::trim_ascii_start);
    links.clone().any(is_relative).then(|| {
        let rebased = |one| if is_relative(one) { rebase(one) } else { one.to_owned() };
        links.map(rebased).collect::<Vec<_>>().join(", ")
    })
}

/// Whether a link is relative to the folder of its page (RFC 3986, 4.2). Queries and fragments are about
/// the page itself, which the browser knows under its own URL.
fn is_relative(link: &str) -> bool {
    let link = link.trim_ascii_start();
    let scheme =
        link.find([':', '/', '?', '#']).is_some_and(|at| link.get(at..at + 1) == Some(":"));
    !link.is_empty() && !link.starts_with(['/', '?', '#', '\\']) && !scheme
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_never_a_host() {
        for (folder, expected) in [
            ("/a/", "/a/x.js"),
            ("/&sol;evil.example/", "/&amp;sol;evil.example/x.js"),
            ("/a\"'\u{e9}/", "/a&quot;&#39;&#233;/x.js"),
            ("//evil.example/", "/evil.example/x.js"),
            ("/", "/x.js"),
        ] {
            assert_eq!(rebased("src", "x.js", folder).as_deref(), Some(expected), "{folder}");
        }
        assert_eq!(rebased("src", "/x.js", "/a/"), None);
    }

    #[test]
    fn only_links_to_the_same_folder_are_relative() {
        for relative in ["a.png", "./a", "../b", " a?b:c", "a/b:c"] {
            assert!(is_relative(relative), "{relative}");
        }
        for other in ["", "/a", "//a", "?a", "#a", "https://a", "mailto:a", "data:x", "\\a"] {
            assert!(!is_relative(other), "{other}");
        }
    }
}
