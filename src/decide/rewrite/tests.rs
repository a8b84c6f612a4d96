//! Whatever traits hold, a page differs only where a rule says so, and nothing of them is code: as a browser's
//! parser reads it.

use std::collections::HashSet;
use std::fmt::Write;

use percent_encoding::percent_decode_str;
use proptest::prelude::*;
use scraper::node::Element;
use scraper::{ElementRef, Html, Node, Selector};
use serde_json::{Value, json};

use crate::config::{Config, load};
use crate::decide::{Asking, Earlier, ExperimentKey, Facts, RequestFacts, Wants};
use crate::geo::Place;
use crate::html::{Edit, Editor};
use crate::identity::Visitor;
use crate::profile::{Profile, Update};

/// Elements, and a rule about each: `$` is its number, and its id is `t$`.
const CASES: &[(&str, &str)] = &[
    ("<p id=t$>a</p>", "select: '#t$', set: { text: 'Hi {{ traits.v }}{{ traits.w }}' }"),
    ("<textarea id=t$>a</textarea>", "select: '#t$', set: { text: '{{ traits.v }}' }"),
    ("<svg><text id=t$>a</text></svg>", "select: '#t$', set: { text: '{{ traits.v }}' }"),
    ("<svg><style id=t$>a</style></svg>", "select: '#t$', set: { text: '{{ traits.v }}' }"),
    ("<style id=t$>a</style>", "select: '#t$', set: { text: '{{ traits.v }}' }"),
    ("<noscript id=t$>a</noscript>", "select: '#t$', set: { text: '{{ traits.v }}' }"),
    ("<script id=t$>var a</script>", "select: '#t$', set: { text: '{{ traits.v }}' }"),
    ("<script id=t$>var a</script>", "select: '#t$', insert: { append: ' = {{ traits.v }}' }"),
    ("<style id=t$>a{}</style>", "select: '#t$', insert: { prepend: '{{ traits.v }}' }"),
    ("<xmp id=t$>a</xmp>", "select: '#t$', insert: { append: '{{ traits.v }}' }"),
    (
        "<div id=t$>a</div>",
        "select: '#t$', set: { html: '<b title={{ traits.v }} class=\"x {{ traits.v }}\" {% if traits.w %}lang=\"{{ traits.w }}\"{% endif %}>{{ traits.w }}</b>' }",
    ),
    (
        "<div id=t$>a</div>",
        "select: '#t$', set: { html: '<a href=\"{{ traits.v }}://{{ traits.w }}\">x</a><a href={{ traits.v }}>y</a><a href=\"/{{ traits.v }}/{{ traits.w }}\">z</a>' }",
    ),
    (
        "<div id=t$>a</div>",
        "select: '#t$', set: { html: '<a href=\"java&#115;cript{{ traits.v }}\">x</a><a href=\"{{ traits.v }}&colon;{{ traits.w }}\" ping=\"{{ traits.v }} /x\">y</a>' }",
    ),
    (
        "<div id=t$>a</div>",
        "select: '#t$', set: { html: '<img src=\"{{ traits.v }}\" srcset=\"{{ traits.v }} 1x, {{ traits.w }} 2x\" alt=\"{{ traits.v }}\"><video poster=\"{{ traits.v }}\" src=\"/v/{{ traits.w }}\"></video>' }",
    ),
    (
        "<div id=t$>a</div>",
        "select: '#t$', set: { html: '<svg><a href=\"{{ traits.v }}\" xlink:href=\"{{ traits.w }}\"><title>{{ traits.v }}</title><path d=\"{{ traits.v }}\" fill=\"{{ traits.w }}\"/></a></svg>' }",
    ),
    (
        "<div id=t$>a</div>",
        "select: '#t$', set: { html: '<input value=\"{{ traits.v }}\" name=\"x-{{ traits.w }}\"><p id=\"x-{{ traits.v }}\" data-a=\"{{ traits.v }}:{{ traits.w }}\" data-lazy-src=\"/x?{{ traits.v }}\"></p>' }",
    ),
    (
        "<div id=t$>a</div>",
        "select: '#t$', set: { html: '<form action=\"/x/{{ traits.v }}\"><button formaction=\"/y?{{ traits.w }}\">{{ traits.v }}</button></form><object data=\"/o/{{ traits.v }}\"></object>' }",
    ),
    (
        "<div id=t$>a</div>",
        "select: '#t$', set: { html: '<textarea>{{ traits.v }}</textarea><select><option value=\"{{ traits.v }}\">{{ traits.w }}</option></select><table><tr><td>{{ traits.v }}</td></tr></table>' }",
    ),
    (
        "<div id=t$>a</div>",
        "select: '#t$', hosts: [cdn.example, '*.shop.example'], set: { html: '<script src=\"{{ traits.v }}\"></script>' }",
    ),
    (
        "<div id=t$>a</div>",
        "select: '#t$', hosts: [cdn.example, '*.shop.example'], set: { html: '<iframe src=\"{{ traits.v }}{{ traits.w }}\"></iframe>' }",
    ),
    (
        "<div id=t$>a</div>",
        "select: '#t$', hosts: [cdn.example, '*.shop.example'], set: { html: '<embed src=\"https://{{ traits.v }}/x\">' }",
    ),
    (
        "<div id=t$>a</div>",
        "select: '#t$', set: { html: '<script src=\"https://cdn.example/{{ traits.v }}/{{ traits.w }}.js\"></script>' }",
    ),
    (
        "<div id=t$>a</div>",
        "select: '#t$', hosts: [cdn.example], set: { html: '<link rel=stylesheet href=\"//{{ traits.v }}/x\">' }",
    ),
    (
        "<div id=t$>a</div>",
        "select: '#t$', hosts: [cdn.example], set: { html: '<object data=\"{{ traits.v }}://{{ traits.w }}/x\"></object>' }",
    ),
    ("<a id=t$ href=x>a</a>", "select: 'a#t$', set: { attributes: { href: '{{ traits.v }}' } }"),
    (
        "<a id=t$ href=x>a</a>",
        "select: 'a#t$', set: { attributes: { href: '{{ traits.v }}:{{ traits.w }}', ping: '{{ traits.v }}' } }",
    ),
    (
        "<a id=t$ href=x>a</a>",
        "select: '#t$', set: { attributes: { href: '/u/{{ traits.v }}/x' } }",
    ),
    (
        "<img id=t$ src=x>",
        "select: 'img#t$', persist: true, set: { attributes: { src: '{{ traits.v }}', srcset: '{{ traits.v }}, {{ traits.w }} 2x', alt: '{{ traits.v }}' } }",
    ),
    (
        "<iframe id=t$ src=x></iframe>",
        "select: '#t$', hosts: [cdn.example, '*.shop.example'], set: { attributes: { src: '{{ traits.v }}{{ traits.w }}' } }",
    ),
    (
        "<meta id=t$ name=description content=x>",
        "select: 'meta#t$[name]', set: { attributes: { content: '{{ traits.v }}' } }",
    ),
    (
        "<p id=t$ data-x=1>a</p>",
        "select: '#t$', set: { attributes: { data-x: '{{ traits.v }}{{ traits.w }}', title: \"it's {{ traits.v }}\" } }",
    ),
    (
        "<p id=t$ class=own>a</p>",
        "select: '#t$', set: { add_class: '{{ traits.v }}', remove_class: '{{ traits.w }}' }",
    ),
    (
        "<p id=t$ style='top: 0'>a</p>",
        "select: '#t$', set: { style: { color: '{{ traits.v }}', --x: '{{ traits.v }}{{ traits.w }}' } }",
    ),
    (
        "<script id=t$ type=application/json>{}</script>",
        "select: '#t$', set: { json: '{\"v\": {{ traits.v }}, \"w\": [{{ traits.w }}]}' }",
    ),
    (
        "<ul><li id=t$>a</li></ul>",
        "select: '#t$', insert: { before: '<li>{{ traits.v }}</li>', append: '<i title={{ traits.v }}>{{ traits.v }}</i>', after: '<li>{{ traits.v }}</li>', prepend: 'x{{ traits.w }}' }",
    ),
    ("<table><tr><td id=t$>a</td></tr></table>", "select: '#t$', set: { html: '{{ traits.v }}' }"),
    (
        "<p id=t$>a</p>",
        "select: '#t$', insert: { prepend: '{% for x in traits.l %}<i class=\"{{ x }}\">{{ x }}</i>{% endfor %}' }",
    ),
];

fn page() -> String {
    let mut page =
        "<!doctype html><html><head><title id=title>Shop</title></head><body>".to_owned();
    for (number, (element, _)) in CASES.iter().enumerate() {
        let element = element.replace('$', &number.to_string());
        let _ =
            write!(page, "<section id=s{number}>{element}<footer>end {number}</footer></section>");
    }
    page + "<p id=last>last</p></body></html>"
}

fn config() -> Config {
    let mut yaml = "listeners: [{ address: '127.0.0.1:1' }]\nsites:\n- name: rewriting\n  hosts: [shop.example]\n  \
        origin: { address: 127.0.0.1:1 }\n  vendor: { segment: { write_key: test-write-key } }\n  rewrite:\n  \
        - { select: title, set: { text: 'Hi {{ traits.v }}' } }\n"
        .to_owned();
    for (number, (_, rule)) in CASES.iter().enumerate() {
        let _ = writeln!(yaml, "  - {{ {} }}", rule.replace('$', &number.to_string()));
    }
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

/// What the rules make for somebody with these traits.
fn edits(config: &Config, v: &Value, w: &Value) -> Vec<Edit> {
    let rules = &config.snapshot.all_sites[0].rules;
    let mut profile = Profile::default();
    let traits = [("v", v.clone()), ("w", w.clone()), ("l", json!([v, w]))];
    let traits = traits.map(|(name, value)| (name.into(), value));
    let _ = profile.merge(&Update::new(1, traits), 1);
    let visitor = Visitor::default();
    let mut facts = Facts::new(&visitor, Some(&profile), &Asked);
    let wants = Wants::PAGE;
    let asking = Asking { site: "rewriting", wants, earlier: &Asked, deciders: &[] };
    let concerned = rules.concerning("rewriting", "/", wants, &[]);
    rules.decide(&concerned, &mut facts, &asking, None).edits.clone()
}

fn through(page: &str, mut editor: Editor) -> String {
    let mut out = Vec::new();
    editor.push(page.as_bytes(), &mut out).unwrap();
    editor.end(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// Whether texts in an element are a script, a style or the like, and no data.
fn has_code(element: &Element) -> bool {
    matches!(element.name(), "script" | "style" | "xmp" | "iframe")
        && element.attr("type") != Some("application/json")
}

/// The elements and the names of their attributes, code, and the texts at which a case ends.
fn shape(of: ElementRef<'_>) -> String {
    let mut out = String::new();
    let mut stack = vec![(*of, 0)];
    while let Some((node, depth)) = stack.pop() {
        match node.value() {
            Node::Element(element) => {
                let mut names: Vec<_> = element.attrs().map(|(name, _)| name).collect();
                names.sort_unstable();
                let _ = writeln!(out, "{depth} {} {names:?}", element.name());
            }
            Node::Text(text)
                if text.starts_with("end")
                    || node
                        .parent()
                        .and_then(|of| of.value().as_element())
                        .is_some_and(has_code) =>
            {
                let _ = writeln!(out, "{depth} {:?}", &**text);
            }
            Node::Text(_) => {}
            other => drop(writeln!(out, "{depth} {other:?}")),
        }
        stack.extend(node.children().rev().map(|child| (child, depth + 1)));
    }
    out
}

/// The shape of each case in a page.
fn shapes(html: &Html) -> Vec<String> {
    let sections = Selector::parse("body > section").unwrap();
    html.select(&sections).map(shape).collect()
}

/// Values that mean no harm, and each of which fits some of the rules.
const HARMLESS: [(&str, &str); 7] = [
    ("", ""),
    ("https://cdn.example/a", "b"),
    ("red", "b"),
    ("https", "//cdn.example/x"),
    ("https", "cdn.example"),
    ("a.shop.example", "b"),
    ("cdn.example", "b"),
];

struct Test {
    config: Config,
    page: String,
    /// What each case may look like: as it was, and with values that mean no harm.
    known: Vec<HashSet<String>>,
}

impl Test {
    fn new() -> Self {
        let (config, page) = (config(), page());
        let mut known: Vec<HashSet<String>> =
            shapes(&Html::parse_document(&page)).into_iter().map(|own| [own].into()).collect();
        assert_eq!(known.len(), CASES.len());
        for (v, w) in HARMLESS {
            let made = through(&page, Editor::new(edits(&config, &json!(v), &json!(w))));
            let shapes = shapes(&Html::parse_document(&made));
            known.iter_mut().zip(shapes).for_each(|(known, shape)| known.extend([shape]));
        }
        Self { config, page, known }
    }

    fn check(&self, v: &Value, w: &Value) {
        let edits = edits(&self.config, v, w);
        let made = through(&self.page, Editor::new(edits.clone()));
        assert_eq!(made, through(&self.page, Editor::parsed(&edits)), "{v} {w}");
        assert!(made.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n' | b'\t')), "{made}");
        let html = Html::parse_document(&made);
        let shapes = shapes(&html);
        assert_eq!(shapes.len(), CASES.len(), "{v} {w}\n{made}");
        for ((shape, known), (_, rule)) in shapes.iter().zip(&self.known).zip(CASES) {
            assert!(known.contains(shape), "{rule}: {v} {w}\n{shape}{known:?}\n{made}");
        }
        for node in html.tree.nodes() {
            let Node::Element(element) = node.value() else { continue };
            for (name, value) in element.attrs() {
                assert!(!name.starts_with("on"), "{v} {w}\n{made}");
                check_url(element.name(), name, value);
            }
        }
        let last = Selector::parse("html > body > p#last").unwrap();
        assert_eq!(html.select(&last).count(), 1, "{v} {w}\n{made}");
    }
}

/// What a browser would do with a URL, read as leniently as it reads it.
fn check_url(element: &str, name: &str, value: &str) {
    let is_url = matches!(
        name,
        "href" | "src" | "action" | "formaction" | "data" | "poster" | "ping" | "srcset"
    ) || name.ends_with(":href")
        || name.starts_with("data-");
    if !is_url {
        return;
    }
    let all: Vec<&str> = match name {
        "ping" => value.split_ascii_whitespace().collect(),
        "srcset" => value.split_ascii_whitespace().map(|one| one.trim_matches(',')).collect(),
        _ => vec![value],
    };
    for url in all {
        let url = url.trim_matches(|char: char| char <= ' ');
        let url: String = url.chars().filter(|char| !matches!(char, '\t' | '\n' | '\r')).collect();
        let url = url.replace('\\', "/").to_ascii_lowercase();
        let fits = |char: char| char.is_ascii_alphanumeric() || "+-.".contains(char);
        let (scheme, rest) = match url.split_once(':') {
            Some((scheme, rest)) if !scheme.is_empty() && scheme.chars().all(fits) => {
                (scheme, rest)
            }
            _ => ("", &*url),
        };
        let known = ["", "http", "https", "mailto", "tel", "sms"];
        let harmless =
            name.starts_with("data-") && !["javascript", "vbscript", "data"].contains(&scheme);
        assert!(known.contains(&scheme) || harmless, "{element} {name}: {value}");
        if matches!(element, "script" | "iframe" | "embed" | "link" | "object" | "form" | "button")
        {
            check_host(&format!("{element} {name}: {value}"), scheme, rest);
        }
    }
}

/// Whose it is what a browser runs.
fn check_host(what: &str, scheme: &str, rest: &str) {
    let is_own = scheme.is_empty() && !rest.starts_with("//");
    if is_own {
        assert!(["/x/", "/y?", "/o/", "x"].iter().any(|own| rest.starts_with(own)), "{what}");
        return;
    }
    let behind = rest.trim_start_matches('/');
    let authority = behind.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let host = percent_decode_str(host).decode_utf8_lossy().into_owned();
    assert!(host == "cdn.example" || host.ends_with(".shop.example"), "{what}");
}

thread_local!(static TEST: Test = Test::new());

#[test]
fn harmless_values_are_put_in() {
    TEST.with(|test| {
        let all: HashSet<String> = HARMLESS
            .iter()
            .flat_map(|(v, w)| edits(&test.config, &json!(v), &json!(w)))
            .map(|edit| edit.select.as_str().to_owned())
            .collect();
        for (number, (_, rule)) in CASES.iter().enumerate() {
            let id = format!("#t{number}");
            let is_made =
                |one: &String| one.split('[').next().is_some_and(|one| one.ends_with(&id));
            assert!(all.iter().any(is_made), "{rule}");
        }
    });
}

/// What is shown of the element with this id.
fn shown(html: &Html, id: &str) -> String {
    let selector = Selector::parse(id).unwrap();
    html.select(&selector).flat_map(|one| one.text().collect::<Vec<_>>()).collect()
}

#[test]
fn a_value_is_shown_as_it_is() {
    TEST.with(|test| {
        for text in [
            "</script><script>alert(1)</script>",
            "</title></textarea><b>",
            "&lt;b&gt;&#60;&amp",
            "{% raw %}{# a #}",
            "\u{2028}\u{2029}\u{feff}\u{202e} J\u{fc}rgen \u{1f600}",
            "\u{1b}$B a \u{1}\u{7f}",
            "a\u{0}\u{85}",
            "]]><![CDATA[",
            "`${1}`",
            "a\n\tb",
            "",
        ] {
            let page =
                through(&test.page, Editor::new(edits(&test.config, &json!(text), &json!(""))));
            let html = Html::parse_document(&page);
            // The marks of values are none of a value.
            let plain = text.replace('\u{1}', "").replace(['\u{0}', '\u{85}'], "\u{fffd}");
            let json = CASES.iter().position(|(_, rule)| rule.contains("json:")).unwrap();
            assert_eq!(shown(&html, "title"), format!("Hi {plain}"), "{page}");
            assert_eq!(shown(&html, "#t0"), format!("Hi {plain}"), "{page}");
            assert_eq!(shown(&html, "#t1"), plain, "{page}");
            assert_eq!(shown(&html, "#t2"), plain, "{page}");
            let data: Value = serde_json::from_str(&shown(&html, &format!("#t{json}"))).unwrap();
            assert_eq!(data, json!({ "v": text, "w": [""] }), "{page}");
        }
        for value in [
            json!(null),
            json!(1.5e300),
            json!(-0.0),
            json!([1, "<b>", {"a": "</script>"}]),
            json!({"</script>": "<b>"}),
            json!(true),
            json!("x".repeat(60_000)),
            (0..60).fold(json!("</script>"), |deep, _| json!([deep])),
        ] {
            test.check(&value, &json!("b"));
        }
    });
}

/// What hostile values are made of.
const PIECES: &[&str] = &[
    "<",
    ">",
    "\"",
    "'",
    "&",
    "</",
    "/>",
    "=",
    " ",
    "/",
    "//",
    "\\",
    ";",
    ":",
    "#",
    "?",
    "@",
    ",",
    ".",
    "..",
    "%2e",
    "script",
    "style",
    "svg",
    "title",
    "textarea",
    "<b>",
    "</b>",
    "</p>",
    "</section>",
    "</script>",
    "</style>",
    "</title>",
    "</textarea>",
    "</noscript>",
    "<!--",
    "-->",
    "--!>",
    "]]>",
    "<![CDATA[",
    "<?",
    "<plaintext>",
    "<img src=x onerror=alert(1)>",
    "onclick=",
    "autofocus onfocus=a",
    "javascript",
    "javascript:",
    "JaVaScript:",
    "java\tscript:",
    "vbscript:",
    "data:",
    "data:text/html,",
    "blob:",
    "http:",
    "https:",
    "https",
    "//evil.example",
    "evil.example",
    "cdn.example",
    "https://cdn.example",
    "https://cdn.example@evil.example/",
    ".shop.example",
    "&colon;",
    "&#x3a;",
    "&#58",
    "&Tab;",
    "&lt;",
    "%0A",
    "%3A",
    "%",
    "\u{0}",
    "\u{1}",
    "\u{2}",
    "\t",
    "\n",
    "\r",
    "\u{c}",
    "\u{1b}$B",
    "\u{1b}(J",
    "\u{7f}",
    "\u{80}",
    "\u{85}",
    "\u{a0}",
    "\u{ad}",
    "\u{2028}",
    "\u{2029}",
    "\u{202e}",
    "\u{feff}",
    "\u{3002}",
    "\u{ff1a}",
    "\u{ff0f}",
    "{{",
    "}}",
    "{",
    "{%",
    "{#",
    "${",
    "`",
    "(",
    ")",
    "url(",
    "red",
    "calc(1px)",
    "expression(",
    "attr(x)",
    "!important",
    "/*",
    "*/",
    "0;url=",
    "a",
    "1x",
    "\u{e9}",
];

/// What hostile URLs are made of.
const URL_PIECES: &[&str] = &[
    "/",
    "//",
    "\\",
    ":",
    "://",
    "#",
    "?",
    "@",
    ".",
    "..",
    "%2e",
    "%2F",
    "%5c",
    "javascript",
    "javascript:",
    "data:",
    "http",
    "https",
    "https:",
    "https://",
    "HTTPS:",
    "evil.example",
    "cdn.example",
    "shop.example",
    "a.shop.example",
    ".shop.example",
    "evilshop.example",
    "cdn.example:443",
    "cdn.example.",
    "user@",
    "&colon;",
    "&#58;",
    "&sol;",
    "%09",
    "\t",
    "\n",
    "\r",
    " ",
    "\u{0}",
    "\u{b}",
    "\u{ad}",
    "\u{2028}",
    "\u{3002}",
    "\u{ff0e}",
    "\u{ff1a}",
    "\u{ff0f}",
    "\u{2024}",
    "[::1]",
    "a",
    "1x",
    ",",
    ";",
];

fn concatenated(pieces: &'static [&'static str]) -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        12 => proptest::sample::select(pieces).prop_map(str::to_owned),
        1 => "\\PC{1,3}",
    ];
    proptest::collection::vec(piece, 0..7).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]
    /// Whoever it is for, a page has the same elements and attributes, and nothing else is run.
    #[test]
    fn no_value_becomes_code(v in concatenated(PIECES), w in concatenated(PIECES)) {
        TEST.with(|test| test.check(&json!(v), &json!(w)));
    }

    /// The same where both values are of URLs.
    #[test]
    fn no_value_leads_elsewhere(v in concatenated(URL_PIECES), w in concatenated(URL_PIECES)) {
        TEST.with(|test| test.check(&json!(v), &json!(w)));
    }
}
