use serde_json::json;

use super::*;
use crate::config::{Config, load};
use crate::decide::{ExperimentKey, RequestFacts};
use crate::geo::Place;
use crate::identity::{AnonymousId, Visitor};

struct Asked;
impl RequestFacts for Asked {
    fn method(&self) -> &'static str {
        "GET"
    }
    fn path(&self) -> &'static str {
        "/a/7"
    }
    fn query(&self) -> &'static str {
        ""
    }
    fn headers(&self) -> Vec<(String, String)> {
        vec![("x-text".into(), "text".into())]
    }
    fn place(&self) -> Option<Place> {
        None
    }
}

/// Wants these variants.
struct Wanted(&'static [(&'static str, &'static str)]);
impl Earlier for Wanted {
    fn previewed(&self, _: &ExperimentKey) -> Option<&str> {
        None
    }
    fn kept(&self, experiment: &ExperimentKey) -> Option<&str> {
        self.0.iter().find(|(key, _)| *key == experiment.as_str()).map(|(_, variant)| *variant)
    }
}

fn config(rules: &str) -> Config {
    let yaml = format!(
        "listeners: [{{ address: '127.0.0.1:1' }}]\nsites:\n- name: rules\n  hosts: [shop.example]\n  \
         origin: {{ address: 127.0.0.1:1 }}\n  vendor: {{ segment: {{ write_key: test-write-key }} }}\n{rules}"
    );
    load("test", &yaml, |_| None).map_err(|problems| problems.to_string()).unwrap()
}

fn decide(rules: &str, earlier: &Wanted, deciders: &[Arc<dyn Decide>]) -> (Decision, Vec<Value>) {
    let config = config(rules);
    let site = &config.snapshot.all_sites[0];
    let visitor = Visitor { anonymous: AnonymousId::parse("a").ok(), ..Visitor::default() };
    let wants = Wants::PAGE;
    let mut facts = Facts::new(&visitor, None, &Asked);
    let concerned = site.rules.concerning("rules", facts.path(), wants, deciders);
    let asking = Asking { site: "rules", wants, earlier, deciders };
    let mut trace = Trace::new();
    let decision = site.rules.decide(&concerned, &mut facts, &asking, Some(&mut trace));
    (decision, trace.told())
}

fn page(decision: &Decision) -> Option<String> {
    decision.target.as_ref().and_then(|target| told(target).as_str().map(str::to_owned))
}

#[test]
fn what_contradicts_itself_is_decided_and_told() {
    let rules = "  variations:
  - { route: '/a/{n}', choose: [{ when: \"int(request.headers['x-text']) > 1\", path: /failed }, { path: '/v/{n}' }] }
  - { route: /a/7, choose: [{ path: /never }] }
  experiments:
  - { key: one, route: /a/**, variants: [{ name: a }, { name: b, path: /one }] }
  - { key: two, route: /a/7, variants: [{ name: a, path: /two }] }
";
    // A rule that fails is false, and the first that matches counts.
    let (decision, trace) = decide(rules, &Wanted(&[("one", "a"), ("two", "gone")]), &[]);
    assert_eq!((page(&decision).as_deref(), decision.failed.len()), (Some("/two"), 0));
    let (decision, _) = decide(rules.split("  experiments").next().unwrap(), &Wanted(&[]), &[]);
    let failed: Vec<_> = decision.failed.iter().map(|name| &**name).collect();
    assert_eq!(page(&decision).as_deref(), Some("/v/7"));
    assert_eq!(failed, ["variations[0].choose[0]"]);
    assert_eq!(trace[2]["outcome"], "not asked: it is decided");
    // Of two experiments with a page the first has it, and the other does not count.
    let (decision, _) = decide(rules, &Wanted(&[("one", "b")]), &[]);
    assert_eq!(page(&decision).as_deref(), Some("/one"));
    let why: Vec<_> = decision.assigned.iter().map(|one| (one.variant, one.why)).collect();
    assert_eq!(why, [(Some(1), Why::Sticky), (None, Why::Overruled)]);
    assert!(!Why::Overruled.counts());
}

#[test]
fn code_has_the_last_word() {
    struct Own;
    impl Decide for Own {
        fn concerns(&self, site: &str, path: &str) -> bool {
            (site, path) == ("rules", "/a/7")
        }
        fn decide(&self, _: &str, facts: &Facts<'_>, decision: &mut Decision) {
            decision.traits.insert("path".into(), facts.path().into());
            decision.target = None;
            let select = Arc::new(Select::parse("p").unwrap());
            let mark = Change::Custom(Arc::new(|element| {
                let _ = element.set_attribute("seen", "1");
            }));
            decision.edits.push(Edit::new(select, vec![mark]));
        }
    }
    let rules = "  variations: [{ route: /a/7, choose: [{ path: /b }] }]\n";
    let (decision, _) = decide(rules, &Wanted(&[]), &[Arc::new(Own)]);
    assert_eq!(
        (page(&decision), Value::from(decision.traits.clone())),
        (None, json!({"path": "/a/7"}))
    );
    let (mut editor, mut out) = (crate::html::Editor::new(decision.edits.clone()), Vec::new());
    editor.push(b"<p>x</p>", &mut out).unwrap();
    editor.end(&mut out).unwrap();
    assert_eq!(out, b"<p seen=\"1\">x</p>");
}

#[test]
#[allow(clippy::too_many_lines, reason = "a list")]
fn rules_that_can_not_be_meant_are_refused() {
    let refused = |rules: &str| {
        let yaml = format!(
            "listeners: [{{ address: '127.0.0.1:1' }}]\nsites:\n- name: refused\n  hosts: [shop.example]\n  \
             origin: {{ address: 127.0.0.1:1 }}\n  vendor: {{ segment: {{ write_key: test-write-key }} }}\n  {rules}\n"
        );
        load("d.yaml", &yaml, |_| None)
            .map(|_| ())
            .map_err(|problems| problems.to_string())
            .unwrap_err()
    };
    for (rules, why) in [
        ("variations: [{ route: /a*, choose: [{ path: /b }] }]", "`*` stands for a whole part"),
        ("variations: [{ route: /a, choose: [{ path: '/{n}' }] }]", "`/a` has no part called `n`"),
        (
            "variations: [{ route: /a, choose: [{ path: /b }, { path: /c }] }]",
            "those behind it are never reached",
        ),
        (
            "variations: [{ route: /a, choose: [{ when: traits.a }] }]",
            "expected `path`, `origin` or `redirect`",
        ),
        (
            "variations: [{ route: /a, choose: [{ when: \"'a'\", path: /b }] }]",
            "expected true or false",
        ),
        (
            "variations: [{ route: /a, choose: [{ redirect: 'https://evil.example/' }] }]",
            "needs `allow_other_site: true`",
        ),
        (
            "variations: [{ route: /a, choose: [{ redirect: //evil.example }] }]",
            "expected a path of this site",
        ),
        (
            "variations: [{ route: /a, choose: [{ redirect: /b, path: /c }] }]",
            "`redirect` stands alone",
        ),
        ("variations: [{ route: /a/*, choose: [{ redirect: /a/b }] }]", "this leads to itself"),
        (
            "variations: [{ route: /a, choose: [{ redirect: /b, status: 301 }] }]",
            "expected 302 or 307",
        ),
        (
            "variations: [{ route: /a, choose: [{ share: 101%, path: /b }] }]",
            "a share such as `50%`",
        ),
        ("rewrite: [{ select: 'a:hover', hide: true }]", "not a selector"),
        ("rewrite: [{ select: a }]", "expected `set`, `insert`, `remove` or `hide`"),
        ("rewrite: [{ select: a, remove: true, hide: true }]", "can't be changed as well"),
        ("rewrite: [{ select: a, set: { text: a, html: b } }]", "one content"),
        (
            "rewrite: [{ select: a, set: { attributes: { onclick: '{{ traits.a }}' } } }]",
            "a value can't stand in the attribute `onclick`",
        ),
        (
            "rewrite: [{ select: a, set: { attributes: { style: 'a: {{ traits.a }}' } } }]",
            "use `style`",
        ),
        (
            "rewrite: [{ select: a, set: { attributes: { href: 'javascript:x' } } }]",
            "does not lead to a page",
        ),
        ("rewrite: [{ select: a, set: { style: { color: 'red; a: b' } } }]", "expected one value"),
        (
            "rewrite: [{ select: a, set: { html: '<script>{{ traits.a }}</script>' } }]",
            "only in text",
        ),
        ("rewrite: [{ select: script, set: { json: '</script>' } }]", "not JSON"),
        (
            "rewrite: [{ select: a, set: { html: '<b>x</b><!-- ' } }]",
            "sites[0].rewrite[0].set.html\n  it ends inside a comment",
        ),
        ("rewrite: [{ select: a, insert: { after: '</i' } }]", "ends inside a tag"),
        (
            "rewrite: [{ select: '#a', set: { attributes: { href: '{{ traits.a }}' } } }]",
            "name the elements in `select`",
        ),
        (
            "rewrite: [{ select: script, set: { attributes: { src: '{{ traits.a }}' } } }]",
            "list the hosts that may be meant in `hosts`",
        ),
        (
            "rewrite: [{ select: meta, set: { attributes: { content: '{{ traits.a }}' } } }]",
            "select a meta element by its `name`",
        ),
        ("rewrite: [{ select: a, hide: true, hosts: ['*'] }]", "rewrite[0].hosts[0]"),
        ("rewrite: [{ select: a, persist: true, insert: { before: x } }]", "can't be kept"),
        ("client_traits: { a: \"experiments.nope\" }", "no experiment `nope` here"),
        (
            "experiments: [{ key: k, route: /a, unit: device, variants: [{ name: a }] }]",
            "expected `anonymous_id`",
        ),
        (
            "experiments: [{ key: k, route: /a, variants: [{ name: a, weight: 50% }, { name: b, weight: 40% }] }]",
            "add up to 90%",
        ),
        (
            "experiments: [{ key: k, route: /a, starts: soon, variants: [{ name: a }] }]",
            "expected a time",
        ),
        (
            "experiments: [{ key: k, route: /a, force: { x: b }, variants: [{ name: a }] }]",
            "no variant is called `b`",
        ),
        (
            "experiments: [{ key: k, route: /a, when: experiments.k == 'a', variants: [{ name: a }] }]",
            "can't depend on experiments",
        ),
        (
            "experiments: [{ key: k, route: /a, variants: [{ name: a }] }, { key: k, route: /b, variants: [{ name: a }] }]",
            "has the key `k`",
        ),
        ("trait_cookies: [{ name: ajs_user_id, value: traits.a }]", "of the SDK's"),
        ("request_headers: { X-Other: traits.a }", "such as `X-Doorstep-Plan`"),
        ("identity: { signed: true }", "need `signing_keys`"),
        ("signing_keys: [short]", "32 bytes or more"),
    ] {
        let told = refused(rules);
        assert!(told.contains(why), "{rules}\n{told}");
        assert!(told.starts_with("d.yaml:7:"), "{told}");
    }
}
