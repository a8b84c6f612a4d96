//! Whatever a value holds, a text is what the configuration says it is.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use super::*;
use crate::decide::RequestFacts;
use crate::geo::Place;
use crate::identity::Visitor;
use crate::profile::{Profile, Update};

struct Asked;
impl RequestFacts for Asked {
    fn method(&self) -> &'static str {
        "GET"
    }
    fn path(&self) -> &'static str {
        "/a"
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

/// In markup and in `href` of an `a`, with hosts that a value may choose.
fn html() -> Landing {
    Landing::Html(hosts(&["cdn.example", "*.shop.example"]))
}

fn href() -> Landing {
    Landing::Attribute("href".into(), AttributeUse::of(Some("a"), "href"), hosts(&[]))
}

fn hosts(names: &[&str]) -> Arc<Hosts> {
    let mut hosts = Hosts::default();
    for name in names {
        hosts.add(name).unwrap();
    }
    hosts.into()
}

fn made(source: &str, landing: Landing) -> Result<String, Unmade> {
    made_by(source, landing, false)
}

/// As the engine makes it, or in the shorter way where there is one.
fn made_by(source: &str, landing: Landing, engine: bool) -> Result<String, Unmade> {
    let mut profile = Profile::default();
    let traits = json!({
        "evil": "</script><script>alert(1)", "js": "javascript:alert(1)", "name": "J\u{fc}rgen",
        "url": "https://x.example/?a=b&c", "age": 41, "list": ["<a>", "b"], "braces": "{{ 7*7 }}",
        "percent": "{% 7*7 %}", "brace": "{", "java": "javascript", "script": "script",
        "long": "x".repeat(60_000), "no": null,
    });
    let traits = traits.as_object().unwrap().clone().into_iter();
    let update = Update::new(1, traits.map(|(name, value)| (name.into(), value)));
    profile.merge(&update, 1).unwrap();
    let visitor = Visitor::default();
    let facts = Facts::new(&visitor, Some(&profile), &Asked);
    let mut templates = Templates::default();
    let mut template = templates.add(source, landing).unwrap();
    if let (Template(Kind::Made { parts, .. }), true) = (&mut template, engine) {
        *parts = None;
    }
    templates.make(&template, &facts).map(|text| text.to_string())
}

#[test]
fn values_are_safe_where_they_land() {
    use Landing::{Json, Text};
    for (source, landing, expected) in [
        ("plain", html(), "plain"),
        ("a | b {{ traits.age }}", Text, "a | b 41"),
        ("Hi {{ traits.name }}, {{ traits.age }}", Text, "Hi J\u{fc}rgen, 41"),
        ("{{ traits.percent }}", Text, "{% 7*7 %}"),
        (
            "<b title={{ traits.evil }}>{{ traits.evil }}</b>",
            html(),
            "<b title=\"&lt;/script&gt;&lt;script&gt;alert(1)\">&#60;&#47;script&#62;&#60;script&#62;alert&#40;1&#41;</b>",
        ),
        (
            "<a href=\"{{ traits.url }}\" class=x></a>",
            html(),
            "<a href=\"https://x.example/?a=b&amp;c\" class=x></a>",
        ),
        (
            "<a href=\"/u?q={{ traits.url }}\"></a>",
            html(),
            "<a href=\"/u?q=https%3A%2F%2Fx.example%2F%3Fa%3Db%26c\"></a>",
        ),
        ("/u/{{ traits.name }}/", href(), "/u/J%C3%BCrgen/"),
        ("{{ traits.url }}", href(), "https://x.example/?a=b&c"),
        (
            "{\"a\": {{ traits.evil }}, \"b\": {{ traits.list }}, \"\u{fc}\": 1}",
            Json,
            "{\"a\": \"\\u003c/script\\u003e\\u003cscript\\u003ealert(1)\", \"b\": [\"\\u003ca\\u003e\",\"b\"], \"\\u00fc\": 1}",
        ),
        (
            "{% for x in traits.list %}<li>{{ x }}</li>{% endfor %}",
            html(),
            "<li>&#60;a&#62;</li><li>b</li>",
        ),
        (
            "<a {% if traits.age > 40 %}class='old'{% endif %} title='{% if traits.age < 40 %}x{% else %}{{ traits.name }}{% endif %}'></a>",
            html(),
            "<a class='old' title=\"J&#252;rgen\"></a>",
        ),
        ("{% set n = traits.name %}{{ n | upper }}", html(), "J&#220;RGEN"),
        ("{{ traits.gone | default('a|b') }}", Text, "a|b"),
        ("{% if traits.age > 40 %}old{% endif %}", Text, "old"),
        ("{% filter upper %}a{{ traits.name }}{% endfilter %}", Text, "AJ\u{dc}RGEN"),
        ("{{ request.path }}", Text, "/a"),
        ("rgb({{ traits.age }}, 0, 0)", Landing::Style, "rgb(41, 0, 0)"),
    ] {
        assert_eq!(made(source, landing).as_deref(), Ok(expected), "{source}");
    }
}

#[test]
fn what_is_wrong_for_a_visitor_is_not_made() {
    use Landing::{Json, Style, Text};
    for (source, landing, why) in [
        ("{{ traits.gone }}", Text, Unmade::Absent),
        ("{{ traits.no }}", Text, Unmade::Absent),
        ("{{ geo.city }}", html(), Unmade::Absent),
        ("{{ traits.js }}", href(), Unmade::Unsafe),
        ("{{ traits.java }}{{ ':x' }}", href(), Unmade::Unsafe),
        ("{{ traits.java }}:alert(1)", href(), Unmade::Unsafe),
        ("<a href='{{ traits.js }}'></a>", html(), Unmade::Unsafe),
        ("<a href='{{ traits.java }}://{{ traits.name }}'></a>", html(), Unmade::Unsafe),
        ("<a href='{{ traits.java }}&colon;{{ traits.name }}'></a>", html(), Unmade::Unsafe),
        ("<a href='java{{ traits.script }}:x'></a>", html(), Unmade::Unsafe),
        ("<p data-a='{{ traits.java }}:{{ traits.name }}'></p>", html(), Unmade::Unsafe),
        ("<script src='{{ traits.url }}'></script>", html(), Unmade::Unsafe),
        ("{{ traits.braces }}", Text, Unmade::Unsafe),
        ("<p title='{{ traits.brace }}{{ traits.brace }}'></p>", html(), Unmade::Unsafe),
        ("<p>{{ traits.brace }}{{ traits.brace }}</p>", html(), Unmade::Unsafe),
        ("{{ traits.long }}{{ traits.long }}", Text, Unmade::Unsafe),
        ("{{ traits.evil }}", Style, Unmade::Unsafe),
        ("{% if traits.age %}[\"{{ traits.comma }}\"]{% endif %}", Json, Unmade::Absent),
        ("{% if traits.age %}[\"{{ traits.name }}\"]{% endif %}", Json, Unmade::Unsafe),
    ] {
        let got = made(source, landing);
        if source.contains("':x'") {
            // A part of a path, and nothing else.
            assert_eq!(got.as_deref(), Ok("javascript%3Ax"));
            continue;
        }
        assert_eq!(got, Err(why), "{source}");
    }
    assert!(matches!(
        made("{% for a in range(1000) %}{% for b in range(1000) %}x{% endfor %}{% endfor %}", Text),
        Err(Unmade::Failed(_))
    ));
}

#[test]
fn what_could_be_code_is_refused_at_load() {
    for (source, why) in [
        ("<script>var a = {{ traits.a }}</script>", "only in text"),
        ("<style>a{color:{{ traits.a }}}</style>", "only in text"),
        ("<a onclick='{{ traits.a }}'></a>", "`onclick`"),
        ("<a style='color:{{ traits.a }}'></a>", "use `style` of `set`"),
        ("<{{ traits.a }}>", "only in text"),
        ("<a{{ traits.a }}>", "only in text"),
        ("<a {{ traits.a }}=1>", "only in text"),
        ("<!-- {{ traits.a }} -->", "only in text"),
        ("{% filter upper %}<b>{{ traits.a }}</b>{% endfilter %}", "`{% filter %}`"),
        ("{{ trait.a }}", "unknown name `trait`"),
        ("{{ traits.a", "not a template"),
        ("{{ traits.a | nofilter }}", "not a template"),
        ("\u{1}{{ traits.a }}", "U+0001"),
    ] {
        let got = Templates::default().add(source, html()).map(|_| ());
        assert!(got.as_ref().is_err_and(|wrong| wrong.contains(why)), "{source}: {got:?}");
    }
    for (source, landing, why) in [
        ("url(/{{ traits.a }})", Landing::Style, "one value of a style"),
        ("{\"a\": \"{{ traits.a }}\"}", Landing::Json, "without quotes"),
        ("{\"a\": }", Landing::Json, "not JSON"),
        ("javascript:{{ traits.a }}", href(), "http"),
    ] {
        let got = Templates::default().add(source, landing).map(|_| ());
        assert!(got.as_ref().is_err_and(|wrong| wrong.contains(why)), "{source}: {got:?}");
    }
}

/// What a template without conditions is made of, and what the engine reads in some other way.
fn piece() -> impl Strategy<Value = &'static str> {
    let traits =
        ["{{ traits.name }}", "{{traits.evil}}", "{{- traits.url -}}", "{{ traits.braces }}"];
    let others =
        ["{{ traits.age }}", "{{ traits.gone }}", "{{ traits.name|upper }}", "{{ request.path }}"];
    let texts = [
        " ",
        "\n",
        "a",
        "&amp;",
        "/",
        "{# no #}",
        "{%- raw %} {{ x }} {% endraw -%}",
        "}}",
        "{",
        "\u{fc}",
    ];
    prop_oneof![select(traits.to_vec()), select(others.to_vec()), select(texts.to_vec())]
}

proptest! {
    #[test]
    fn texts_and_traits_are_as_the_engine_makes_them(pieces in vec(piece(), 0..6)) {
        let source = pieces.concat();
        let landings = [Landing::Text, Landing::Classes, href(), html()];
        for landing in landings {
            if Templates::default().add(&source, landing.clone()).is_err() {
                continue;
            }
            let short = made_by(&source, landing.clone(), false);
            let engine = made_by(&source, landing, true);
            prop_assert_eq!(short, engine, "{}", source);
        }
    }
}
