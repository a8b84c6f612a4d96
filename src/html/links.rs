//! Relative links of a page that is shown under another path than its own.

use lol_html::send::Element;

use super::editor::set;

/// Elements that may have links.
pub const LINKED: &str = "[href], [src], [action], [formaction], [poster], [srcset], [data]";

const SINGLE: [&str; 6] = ["href", "src", "action", "formaction", "poster", "data"];

/// Makes the relative links of `element` lead where they led from `folder`, which ends with a slash.
pub(super) fn rebase(element: &mut Element<'_, '_>, folder: &str) {
    // Where a page says itself what its links are relative to, only that has to be right.
    for name in SINGLE {
        if let Some(link) = element.get_attribute(name)
            && is_relative(&link)
        {
            set(element, name, &format!("{folder}{}", link.trim_start()));
        }
    }
    if let Some(list) = element.get_attribute("srcset") {
        let rebased: Vec<String> = list
            .split(", ")
            .map(|one| {
                let one = one.trim_start();
                if is_relative(one) { format!("{folder}{one}") } else { one.to_owned() }
            })
            .collect();
        set(element, "srcset", &rebased.join(", "));
    }
}

/// Whether a link is relative to the folder of its page (RFC 3986, 4.2). Queries and fragments are about
/// the page itself, which the browser knows under its own URL.
fn is_relative(link: &str) -> bool {
    let link = link.trim_start();
    let scheme =
        link.find([':', '/', '?', '#']).is_some_and(|at| link.get(at..at + 1) == Some(":"));
    !link.is_empty() && !link.starts_with(['/', '?', '#', '\\']) && !scheme
}

#[cfg(test)]
mod tests {
    use super::*;

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
