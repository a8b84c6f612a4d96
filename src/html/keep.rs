//! The script that keeps edits while a framework makes the page anew.

use std::sync::LazyLock;

use serde_json::{Value, json};

use super::edit::{Change, Edit};
use super::script::{minify, push_script_json};

/// The script, up to the bracket that its argument stands in.
static SCRIPT: LazyLock<String> = LazyLock::new(|| minify(include_str!("keep.js")));

/// The script as a file, for pages whose CSP forbids it inline: it reads its edits from the page.
#[must_use]
pub fn keep_script() -> String {
    // A script element: no rule puts one into a page with what a visitor says in it.
    let data = format!("document.querySelector(\"script#{DATA_ID}\")");
    format!("(function(data){{{}(data&&JSON.parse(data.textContent))}})({data});", *SCRIPT)
}

/// The id of the element that holds the edits for the script as a file.
const DATA_ID: &str = "doorstep-keep";

/// What a page needs to keep its edits.
#[derive(Debug, Clone)]
pub struct Keep {
    /// JSON, safe inside a script element.
    edits: String,
    /// Path of the script as a file, safe inside an attribute.
    path: String,
}

impl Keep {
    /// What of `edits` is to be kept; `None` where nothing is. `path` is where the script is as a file.
    #[must_use]
    pub fn of(edits: &[Edit], path: &str) -> Option<Self> {
        if !edits.iter().any(|edit| edit.keep) {
            return None;
        }
        let kept: Vec<Value> = edits.iter().filter(|edit| edit.keep).map(told).collect();
        let mut edits = String::new();
        push_script_json(&mut edits, &Value::from(kept).to_string());
        Some(Self { edits, path: path.to_owned() })
    }

    /// As it stands in a script element.
    pub(super) fn inline(&self) -> String {
        format!("{}({});", *SCRIPT, self.edits)
    }

    /// As markup that refers to the file, which is at `base`.
    pub(super) fn external(&self, base: &str, nonce: &str) -> String {
        format!(
            "<script type=\"application/json\" id=\"{DATA_ID}\">{}</script><script src=\"{base}{}\"{nonce}></script>",
            self.edits, self.path
        )
    }
}

/// An edit as the script reads it.
fn told(edit: &Edit) -> Value {
    let changes: Vec<Value> = edit.changes.iter().flat_map(one).collect();
    json!({ "s": edit.select.as_str(), "f": edit.first, "c": changes })
}

fn one(change: &Change) -> Vec<Value> {
    let classes = |what: &str, names: &str| {
        names.split_ascii_whitespace().map(|name| json!([what, name])).collect()
    };
    match change {
        Change::Text(text) => vec![json!(["text", &**text])],
        Change::Html(markup) => vec![json!(["html", &**markup])],
        Change::Attribute(name, value) => vec![json!(["set", &**name, &**value])],
        Change::NoAttribute(name) => vec![json!(["unset", &**name])],
        Change::Class(names) => classes("add", names),
        Change::NoClass(names) => classes("drop", names),
        Change::Style(property, value) => {
            let (value, important) =
                value.strip_suffix("!important").map_or((&**value, ""), |rest| (rest, "important"));
            vec![json!(["style", &**property, value.trim(), important])]
        }
        // The framework still has the element, and would fail without it: nobody sees it.
        Change::Hide | Change::Remove => vec![json!(["style", "display", "none", "important"])],
        Change::Json(_)
        | Change::Before(_)
        | Change::Prepend(_)
        | Change::Append(_)
        | Change::After(_)
        | Change::LinksFrom(_)
        | Change::Custom(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::html::select::Select;

    #[test]
    fn only_what_is_to_be_kept_is_told() {
        let edit = |keep, changes| Edit {
            keep,
            ..Edit::new(Arc::new(Select::parse("a.b").unwrap()), changes)
        };
        assert!(Keep::of(&[edit(false, vec![Change::Hide])], "/k").is_none());
        let text = Change::Text("</script>\u{e9}".into());
        let style = Change::Style("color".into(), "red !important".into());
        let keep = Keep::of(&[edit(true, vec![text, style, Change::Remove])], "/k").unwrap();
        assert_eq!(
            keep.edits,
            r#"[{"c":[["text","\u003c/script\u003e\u00e9"],["style","color","red","important"],["style","display","none","important"]],"f":false,"s":"a.b"}]"#
        );
        assert!(keep.inline().starts_with("(function (edits) {\nif"));
        assert!(keep.external("//h", "").contains("<script src=\"//h/k\"></script>"));
    }
}
