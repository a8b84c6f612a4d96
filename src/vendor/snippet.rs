//! The snippet of one site, with one visitor's ids put in: a function for each vendor's SDK.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::html::{Script, minify, push_script_json};
use crate::identity::Visitor;

/// The snippet, minified when the site is loaded.
#[allow(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct Snippet {
    /// Of each vendor's SDK its function and the beginning of its argument, up to where our routes are.
    begins: Arc<[Box<str>]>,
    /// As JSON that may stand in a script.
    prefix: String,
    external_path: Arc<str>,
    silent_path: Arc<str>,
    page_call: bool,
    restored: bool,
    own_cookies: bool,
    signed: bool,
}

/// What a snippet has of one vendor's SDK.
#[derive(Debug, Clone, Copy)]
pub struct Part<'p> {
    /// Its function.
    pub source: &'p str,
    /// The key that browsers may know.
    pub key: &'p str,
    /// Path of the SDK, where it is not below the prefix.
    pub sdk: Option<&'p str>,
}

/// The query of the script as a file that sends no page call.
pub const SILENT: &str = "page=0";

/// What a page hands over to the SDK.
#[derive(Debug, Clone, Copy)]
pub struct Handover<'h> {
    /// The visitor.
    pub visitor: &'h Visitor,
    /// When an identity has ended in this browser, in milliseconds since 1970: what the SDK keeps from before goes.
    pub ended: Option<i64>,
    /// When the edge says who the visitor is, or that it is nobody: now, in milliseconds since 1970. `None`: what the
    /// browser has stays.
    pub says: Option<i64>,
    /// Client traits by name, all that there are. `None`: what the page has from before stays.
    pub traits: Option<&'h Map<String, Value>>,
    /// Variants by experiment.
    pub flags: &'h Map<String, Value>,
    /// The page was fetched ahead: it says when its variants are seen.
    pub ahead: bool,
    /// URL below which our routes are, where that is not the page's own host.
    pub base: Option<&'h str>,
    /// The page tells that it was seen, where the site wants it: nobody else does.
    pub page_call: bool,
}

/// More than the ids and the names of members take.
const VISITOR_BYTES: usize = 256;

impl Snippet {
    /// The snippet of a site whose routes live below `prefix`. `own_cookies` keeps the SDKs from writing identity cookies of their own, and makes the edge's
    /// word the identity.
    #[must_use]
    pub fn new(sdks: &[Part<'_>], prefix: &str, page_call: bool, own_cookies: bool) -> Self {
        let begin = |part: &Part<'_>| {
            let mut begin = minify(part.source) + "({\"k\":";
            push_json(&mut begin, part.key);
            if let Some(sdk) = part.sdk {
                begin.push_str(",\"d\":");
                push_json(&mut begin, sdk);
            }
            begin.push_str(",\"b\":");
            begin.into()
        };
        let external = format!("{prefix}/snippet.js");
        let mut json = String::new();
        push_json(&mut json, prefix);
        Self {
            begins: sdks.iter().map(begin).collect(),
            prefix: json,
            silent_path: format!("{external}?{SILENT}").into(),
            external_path: external.into(),
            page_call,
            restored: false,
            own_cookies,
            signed: false,
        }
    }

    /// `signed`: the site has users vouched for, so that a link must not say who somebody is. `restored`: a page that the
    /// browser shows again as it was left (from its back/forward cache) counts as seen once more.
    #[must_use]
    pub fn with(self, signed: bool, restored: bool) -> Self {
        Self { restored, signed, ..self }
    }

    /// The script for one visitor: ASCII, and safe inside a `<script>` element.
    #[must_use]
    pub fn script(&self, handover: Handover<'_>) -> Script {
        let visitor = handover.visitor;
        let mut own = String::with_capacity(self.prefix.len() + VISITOR_BYTES);
        match handover.base {
            Some(base) => push_json(&mut own, base),
            None => own.push_str(&self.prefix),
        }
        let page = self.page_call && handover.page_call;
        own.push_str(if page { ",\"p\":true" } else { ",\"p\":false" });
        if self.restored {
            own.push_str(",\"r\":true");
        }
        own.push_str(",\"c\":");
        match handover.says.filter(|_| self.own_cookies) {
            Some(at) => own.push_str(&at.to_string()),
            None => own.push_str("false"),
        }
        if self.signed {
            own.push_str(",\"q\":true");
        }
        if let Some(id) = &visitor.anonymous {
            own.push_str(",\"a\":");
            push_id(&mut own, id.as_str());
        }
        if visitor.minted {
            own.push_str(",\"m\":true");
        }
        if let Some(id) = &visitor.user {
            own.push_str(",\"u\":");
            push_id(&mut own, id.as_str());
        }
        if let Some(ended) = handover.ended {
            own.push_str(",\"e\":");
            own.push_str(&ended.to_string());
        }
        if let Some(traits) = handover.traits {
            own.push_str(",\"t\":");
            push_json(&mut own, traits);
        }
        if !handover.flags.is_empty() {
            own.push_str(",\"x\":");
            push_json(&mut own, handover.flags);
            if handover.ahead {
                own.push_str(",\"s\":true");
            }
        }
        own.push_str("});");
        Script::new(Arc::clone(&self.begins), own)
    }

    /// Path of the same script as a file, for pages whose CSP forbids it inline; with or without its page
    /// call.
    #[must_use]
    pub fn external_path(&self, page_call: bool) -> Arc<str> {
        Arc::clone(if page_call { &self.external_path } else { &self.silent_path })
    }
}

/// Adds an id as it may stand in a script: nearly every one means the same there as it is.
fn push_id(out: &mut String, id: &str) {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'@');
    if id.bytes().all(plain) {
        out.push('"');
        out.push_str(id);
        out.push('"');
    } else {
        push_json(out, id);
    }
}

/// Adds `value` as it may stand in a script.
fn push_json<T: Serialize + ?Sized>(out: &mut String, value: &T) {
    // Strings and JSON values: writing them can't fail.
    let json = serde_json::to_string(value).unwrap_or_else(|_| "null".into());
    push_script_json(out, &json);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::identity::{AnonymousId, UserId};

    fn snippet() -> Snippet {
        let part = Part { source: crate::vendor::segment::SNIPPET, key: "REDACTED", sdk: None };
        Snippet::new(&[part], "/seg", true, true)
    }

    #[test]
    fn nothing_can_leave_the_script() {
        let user = "</script><!--\u{2028}\u{2029}'\"`\\ü😀&";
        let visitor = Visitor {
            user: UserId::parse(user).ok(),
            anonymous: AnonymousId::parse("a'</script>").ok(),
            ..Visitor::default()
        };
        let traits = json!({"</script>": ["<!--", {"ü": "]]>"}]});
        let script = snippet().script(Handover {
            visitor: &visitor,
            ended: None,
            says: Some(5),
            traits: traits.as_object(),
            flags: &Map::new(),
            ahead: false,
            base: None,
            page_call: true,
        });
        let script = script.text();
        let argument = script.split_once("})({").unwrap().1;
        assert!(script.is_ascii());
        assert!(!argument.contains(['<', '>', '&']), "{argument}");
        let json = format!("{{{}", argument.trim_end_matches(");"));
        let read: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (&read["u"], &read["t"], &read["k"]),
            (&json!(user), &traits, &json!("REDACTED"))
        );
        assert!(!script.contains("\n  "));
    }

    #[test]
    fn every_id_is_read_as_it_is() {
        for id in ["6a1e1c0e-5a0b-4f0e", "jo.hn_1@shop", "a\\b\"c", "<b>&", "ü\u{2028}😀"] {
            let mut script = String::new();
            push_id(&mut script, id);
            assert_eq!(serde_json::from_str::<String>(&script).unwrap(), id);
            assert!(!script.contains(['<', '>', '&']) && script.is_ascii(), "{script}");
        }
    }

    #[test]
    fn what_is_not_known_is_not_said() {
        let visitor = Visitor::default();
        let script = snippet().script(Handover {
            visitor: &visitor,
            ended: None,
            says: Some(5),
            traits: None,
            flags: &Map::new(),
            ahead: false,
            base: None,
            page_call: true,
        });
        let script = script.text();
        assert!(script.ends_with(r#"})({"k":"REDACTED","b":"/seg","p":true,"c":5});"#));
    }
}
