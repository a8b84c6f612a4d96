//! One change of one element, by the parser.

use lol_html::html_content::ContentType;
use lol_html::send::Element;

use super::super::edit::{Change, as_ascii, escape};
use super::super::links;

/// Makes `change` of `element`.
pub(super) fn make(change: &Change, element: &mut Element<'_, '_>) {
    let html = |markup: &str| as_ascii(markup);
    match change {
        Change::Text(text) if !is_raw(element) => {
            element.set_inner_content(&escape(text), ContentType::Html);
        }
        Change::Html(markup) if !is_raw(element) => {
            element.set_inner_content(&html(markup), ContentType::Html);
        }
        Change::Json(json) if element.tag_name() == "script" && is_data(element) => {
            element.set_inner_content(json, ContentType::Html);
        }
        Change::Prepend(markup) if !is_raw(element) => {
            element.prepend(&html(markup), ContentType::Html);
        }
        Change::Append(markup) if !is_raw(element) => {
            element.append(&html(markup), ContentType::Html);
        }
        // Text has no meaning there, and would be code.
        Change::Text(_)
        | Change::Html(_)
        | Change::Json(_)
        | Change::Prepend(_)
        | Change::Append(_) => {}
        Change::Attribute(name, value) => set(element, name, &escape(value)),
        Change::NoAttribute(name) => element.remove_attribute(name),
        Change::Class(names) => {
            let own = element.get_attribute("class").unwrap_or_default();
            let mut all: Vec<&str> = own.split_ascii_whitespace().collect();
            let new = escape(names);
            all.extend(new.split_ascii_whitespace());
            let mut seen = Vec::with_capacity(all.len());
            all.retain(|name| {
                !seen.contains(name) && {
                    seen.push(*name);
                    true
                }
            });
            set(element, "class", &all.join(" "));
        }
        Change::NoClass(names) => {
            if let Some(own) = element.get_attribute("class") {
                let gone = escape(names);
                let gone: Vec<&str> = gone.split_ascii_whitespace().collect();
                let left: Vec<&str> =
                    own.split_ascii_whitespace().filter(|name| !gone.contains(name)).collect();
                set(element, "class", &left.join(" "));
            }
        }
        Change::Style(property, value) => style(element, property, value),
        Change::Hide => style(element, "display", "none !important"),
        Change::Remove => element.remove(),
        Change::Before(markup) => element.before(&html(markup), ContentType::Html),
        Change::After(markup) => element.after(&html(markup), ContentType::Html),
        Change::LinksFrom(folder) => {
            for name in links::NAMES {
                let own = element.get_attribute(name);
                if let Some(rebased) = own.and_then(|own| links::rebased(name, &own, folder)) {
                    set(element, name, &rebased);
                }
            }
        }
        Change::Custom(custom) => custom(element),
    }
}

/// Elements whose text is no markup: what is escaped would be shown as it is, or run.
fn is_raw(element: &Element<'_, '_>) -> bool {
    matches!(
        &*element.tag_name(),
        "script" | "style" | "iframe" | "noembed" | "noframes" | "xmp" | "plaintext"
    )
}

/// A script element that holds data and no code.
fn is_data(element: &Element<'_, '_>) -> bool {
    element.get_attribute("type").is_some_and(|kind| kind.to_ascii_lowercase().contains("json"))
}

fn style(element: &mut Element<'_, '_>, property: &str, value: &str) {
    let own = element.get_attribute("style").unwrap_or_default();
    // Of pages in UTF-8, what looks like a space behind ASCII is half a character.
    let own = own.trim_ascii().trim_end_matches(';');
    let own = if own.is_empty() { String::new() } else { format!("{own}; ") };
    set(element, "style", &format!("{own}{property}: {}", escape(value)));
}

/// `value` is escaped. What the page itself says keeps its references.
fn set(element: &mut Element<'_, '_>, name: &str, value: &str) {
    // Names are checked when they are loaded. The parser escapes quotes alone.
    let _ = element.set_attribute(name, &value.replace('"', "&quot;"));
}
