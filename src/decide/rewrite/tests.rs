//! Whatever a trait holds, a page differs only where a rule says so: as a browser's parser reads it.

use std::fmt::Write;

use proptest::prelude::*;
use scraper::{Html, Node, node::Element};
use serde_json::{Value, json};

use crate::config::{Config, load};
use crate::decide::{Asking, Earlier, ExperimentKey, Facts, RequestFacts, Wants};
use crate::geo::Place;
use crate::html::Editor;
use crate::identity::Visitor;
use crate::profile::{Profile, Update};

const PAGE: &str = "<!doctype html><html><head><title id=t-title>Shop</title></head><body>\
    <p id=t-text>a</p><div id=t-html>b</div><a id=t-href href=x>c</a><a id=t-path href=x>d</a>\
    <p id=t-attribute data-x=1>e</p><p id=t-class class=own>f</p><p id=t-style>g</p><textarea id=t-area>h</textarea>\
    <script id=t-json type=application/json>{}</script><ul><li id=t-insert>i</li></ul>\
    <table><tr><td id=t-cell>j</td></tr></table><svg><text id=t-svg>k</text></svg><footer>end</footer></body></html>";

const RULES: &str = r#"
  - { select: '#t-title', set: { text: 'Hi {{ traits.v }}' } }
  - { select: '#t-text', set: { text: '{{ traits.v }}' } }
  - { select: '#t-html', set: { html: '<b title={{ traits.v }} class="{{ traits.v }}">{{ traits.v }}</b><a href="/x?q={{ traits.v }}">{{ traits.v }}</a>' } }
  - { select: '#t-href', set: { attributes: { href: '{{ traits.v }}' } } }
  - { select: '#t-path', set: { attributes: { href: '/u/{{ traits.v }}/x' } } }
  - { select: '#t-attribute', set: { attributes: { data-x: '{{ traits.v }}', title: "it's {{ traits.v }}" } } }
  - { select: '#t-class', set: { add_class: '{{ traits.v }}' } }
  - { select: '#t-style', set: { style: { color: '{{ traits.v }}', --x: '{{ traits.v }}' } } }
  - { select: '#t-area', set: { text: '{{ traits.v }}' } }
  - { select: '#t-json', set: { json: '{"v": {{ traits.v }}}' } }
  - { select: '#t-insert', insert: { before: '<li class=ds>{{ traits.v }}</li>', append: '<i class=ds title={{ traits.v }}>{{ traits.v }}</i>', after: '<li class=ds>{{ traits.v }}</li>' } }
  - { select: '#t-cell', set: { html: '{{ traits.v }}' } }
  - { select: '#t-svg', set: { text: '{{ traits.v }}' } }
"#;

fn config() -> Config {
    let yaml = format!(
        "listeners: [{{ address: '127.0.0.1:0' }}]\nsites:\n- name: rewriting\n  hosts: [shop.example]\n  \
         origin: {{ address: 127.0.0.1:1 }}\n  vendor: {{ segment: {{ write_key: test-write-key }} }}\n  rewrite:{RULES}"
    );
    load("test", &yaml, |_| None).map_err(|problems| problems.to_string()).unwrap()
}

struct Asked;
impl RequestFacts for Asked {
    fn method(&self) -> &'static str {
        "GET"
    }
    fn path(&self) -> &'static str {
        "/"
    }
    fn query(&self) -> &'static str {
        ""
    }
    fn headers(&self) -> Vec<(String, String)> {
        Vec::new()
    }
    fn place(&self) -> Option<Place> {
        None
    }
}
impl Earlier for Asked {
    fn previewed(&self, _: &ExperimentKey) -> Option<&str> {
        None
    }
    fn kept(&self, _: &ExperimentKey) -> Option<&str> {
        None
    }
}

/// The page for somebody with this trait.
fn page(config: &Config, value: &Value) -> String {
    let rules = &config.snapshot.all_sites[0].rules;
    let mut profile = Profile::default();
    let _ = profile.merge(&Update::new(1, [("v".into(), value.clone())]), 1);
    let visitor = Visitor::default();
    let mut facts = Facts::new(&visitor, Some(&profile), &Asked);
    let wants = Wants { html: true, safe: true };
    let asking = Asking { site: "rewriting", wants, earlier: &Asked, deciders: &[] };
    let concerned = rules.concerning("rewriting", "/", wants, &[]);
    let decision = rules.decide(&concerned, &mut facts, &asking, None);
    let (mut editor, mut out) = (Editor::new(decision.edits.clone()), Vec::new());
    editor.push(PAGE.as_bytes(), &mut out).unwrap();
    editor.end(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// The tree without what the rules are about.
fn rest(page: &str) -> String {
    fn is_target(element: &Element) -> bool {
        element.id().is_some_and(|id| id.starts_with("t-"))
    }
    let html = Html::parse_document(page);
    let mut out = String::new();
    let mut stack = vec![(html.tree.root(), 0)];
    while let Some((node, depth)) = stack.pop() {
        let mut inside = true;
        match node.value() {
            Node::Element(element)
                if element.classes().any(|class| class == "ds") && !is_target(element) =>
            {
                continue;
            }
            Node::Element(element) if is_target(element) => {
                let _ = writeln!(out, "{depth} {} {:?}", element.name(), element.id());
                inside = false;
            }
            Node::Element(element) => {
                let attributes: Vec<_> = element.attrs().collect();
                let _ = writeln!(out, "{depth} {} {attributes:?}", element.name());
            }
            Node::Text(text) => drop(writeln!(out, "{depth} {:?}", &**text)),
            other => drop(writeln!(out, "{depth} {other:?}")),
        }
        if inside {
            stack.extend(node.children().rev().map(|child| (child, depth + 1)));
        }
    }
    out
}

fn check(config: &Config, value: &Value) {
    let made = page(config, value);
    assert!(made.is_ascii(), "{made}");
    assert_eq!(rest(&made), rest(PAGE), "{value}\n{made}");
    let html = Html::parse_document(&made);
    let mut scripts = 0;
    for node in html.tree.nodes() {
        let Node::Element(element) = node.value() else { continue };
        scripts += usize::from(element.name() == "script");
        for (name, value) in element.attrs() {
            assert!(!name.starts_with("on"), "{made}");
            let lower = value
                .trim_start_matches(|char: char| char.is_control() || char == ' ')
                .to_ascii_lowercase();
            assert!(name != "href" || !lower.starts_with("javascript:"), "{made}");
        }
    }
    assert_eq!(scripts, 1, "{made}");
    let select = |id: &str| {
        let selector = scraper::Selector::parse(id).unwrap();
        let found: Vec<_> =
            html.select(&selector).map(|one| one.text().collect::<String>()).collect();
        assert_eq!(found.len(), 1, "{id}: {made}");
        found[0].clone()
    };
    if let Value::String(text) = value {
        // As it was, but for what HTML has no form for.
        let plain = text.replace('\0', "\u{fffd}").replace("\r\n", "\n").replace('\r', "\n");
        let shown = select("#t-text").replace("\r\n", "\n").replace('\r', "\n");
        let common = |text: &str| {
            text.chars()
                .filter(|char| !char.is_control() && !(0x80..0xa0).contains(&u32::from(*char)))
                .collect::<String>()
        };
        assert_eq!(common(&shown), common(&plain), "{made}");
        let data: Value = serde_json::from_str(&select("#t-json")).unwrap();
        assert_eq!(data, json!({ "v": text }), "{made}");
    }
}

#[test]
fn hostile_values_stay_values() {
    let config = config();
    for text in [
        "</script><script>alert(1)</script>",
        "</title></textarea><script>alert(1)</script>",
        "<!-- <script> -->",
        "\"'><img src=x onerror=alert(1)>",
        "x onmouseover=alert(1)",
        "javascript:alert(1)",
        " \u{1}javascript:alert(1)",
        "java\tscript:alert(1)",
        "JAVASCRIPT&colon;alert(1)",
        "data:text/html,<script>alert(1)</script>",
        "red;background:url(//evil)",
        "red}</style><script>",
        "\\72 ed",
        "{{ 7 * 7 }}{% raw %}",
        "&lt;script&gt;&#60;",
        "\u{2028}\u{2029}\u{feff}\u{202e}\u{0}",
        "]]><![CDATA[",
        "`${1}`",
        "",
    ] {
        check(&config, &json!(text));
    }
    for value in [
        json!(null),
        json!(1.5e300),
        json!(-0.0),
        json!([1, "<b>", {"a": "</script>"}]),
        json!({"</script>": "<b>"}),
        json!(true),
        json!("x".repeat(60_000)),
    ] {
        check(&config, &value);
    }
    let mut deep = json!("</script>");
    for _ in 0..60 {
        deep = json!([deep]);
    }
    check(&config, &deep);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn any_value_changes_only_what_a_rule_says(
        text in proptest::collection::vec(
            prop_oneof![
                proptest::sample::select(vec![
                    "<", ">", "\"", "'", "&", "</", "script", "style", "javascript:", "on", "=", " ", "/", "\\", ";",
                    "{{", "}}", "{%", "(", ")", "url", "<!--", "-->", "]]>", "`", "\t", "\n", "\r", ":", "#", "title", "svg",
                ]).prop_map(str::to_owned),
                "\\PC{1,3}",
            ],
            0..12,
        )
    ) {
        thread_local!(static CONFIG: Config = config());
        CONFIG.with(|config| check(config, &json!(text.concat())));
    }
}
