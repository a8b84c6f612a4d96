//! What each step of a request costs. Real pages come in chunks as from a socket.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::format_collect,
    reason = "a benchmark may panic, and is set up once"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use doorstep::cache::{MemoryStorage, key};
use doorstep::config::{Config, load};
use doorstep::decide::{Asking, Earlier, ExperimentKey, Facts, RequestFacts, Wants};
use doorstep::html::{
    Body, Change, Coding, Csp, Edit, Editor, Injector, Markup, OwnFiles, Rewriter, Select,
};
use doorstep::identity::{UserId, Visitor, read};
use doorstep::profile::{Lifetimes, Memory, Profile, ProfileKey, State, Update};
use doorstep::site::{Route, normal_path};
use doorstep::vendor::segment::{COOKIES, SNIPPET};
use doorstep::vendor::{Handover, Part, Snippet};
use pingora::cache::CacheMeta;
use pingora::cache::storage::Storage;
use pingora::http::ResponseHeader;

struct Asked;
impl RequestFacts for Asked {
    fn method(&self) -> &'static str {
        "GET"
    }
    fn path(&self) -> &'static str {
        "/"
    }
    fn query(&self) -> &'static str {
        "q=1"
    }
    fn place(&self) -> Option<doorstep::geo::Place> {
        None
    }
    fn headers(&self) -> Vec<(String, String)> {
        vec![("accept".into(), "text/html".into())]
    }
}

/// A site with ten rules about `/`, and `elsewhere` rules about other pages.
fn config(elsewhere: usize) -> Config {
    let routes: String = (0..elsewhere)
        .map(|n| {
            let route = if n % 2 == 0 { format!("/p{n}") } else { format!("/p{n}/*") };
            format!(
                "  - {{ route: {route}, choose: [{{ when: traits.red_group, path: /red }}] }}\n"
            )
        })
        .collect();
    let changes: String = (0..elsewhere)
        .map(|n| format!("  - {{ select: a, route: /p{n}, when: traits.red_group, hide: true }}\n"))
        .collect();
    let yaml = format!(
        "listeners: [{{ address: '127.0.0.1:1' }}]\nsites:\n- name: shop{elsewhere}\n  hosts: [www.shop.example, '*.shop.example']\n  \
         origin: {{ address: 127.0.0.1:1 }}\n  vendor: {{ segment: {{ write_key: bench-write-key }} }}\n  variations:\n  \
         - route: /\n    choose:\n    - {{ when: 'traits.age > 90', path: /old }}\n    - {{ when: 'traits.age > 80', path: /old }}\n    \
         - {{ when: \"traits.city == 'Vancouver'\", path: /v }}\n    - {{ when: has(traits.gone), path: /g }}\n    \
         - {{ when: traits.red_group && traits.trait_150 == 150, path: /red }}\n{routes}  rewrite:\n  \
         - {{ select: '#a', when: traits.red_group, set: {{ text: Hello }} }}\n  \
         - {{ select: '#b', when: 'traits.age > 40', set: {{ attributes: {{ href: /b }} }} }}\n  \
         - {{ select: '#c', when: traits.gone, hide: true }}\n  \
         - {{ select: '#d', when: \"traits.trait_20 > 19 && traits.trait_199 < 200\", set: {{ add_class: x }} }}\n  \
         - {{ select: '#e', when: traits.trait_3 == 4, remove: true }}\n{changes}"
    );
    load("bench", &yaml, |_| None).map_err(|problems| problems.to_string()).unwrap()
}

/// A visitor with 200 traits.
fn john() -> (Visitor, Profile) {
    let mut profile = Profile::default();
    let traits = (0..198).map(|n| (format!("trait_{n}").into(), serde_json::json!(n)));
    let traits = traits.chain([("red_group".into(), true.into()), ("age".into(), 41.into())]);
    profile.merge(&Update::new(1, traits), 1).unwrap();
    (Visitor { user: UserId::parse("john").ok(), ..Visitor::default() }, profile)
}

struct First;
impl Earlier for First {
    fn previewed(&self, _: &ExperimentKey) -> Option<&str> {
        None
    }
    fn kept(&self, _: &ExperimentKey) -> Option<&str> {
        None
    }
}

/// From host and target to site and route.
fn routing(c: &mut Criterion) {
    let snapshot = config(1).snapshot;
    let mut group = c.benchmark_group("site/route");
    for (name, path) in [
        ("page", "/products/cups?x"),
        ("asset", "/seg/assets/sdk.js"),
        ("encoded", "/x/%2e%2e/seg/evs/t"),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| {
                let site = snapshot.sites.find(black_box("www.shop.example")).unwrap();
                Route::of(site, &normal_path(black_box(path)).unwrap())
            });
        });
    }
}

/// From a Cookie header to a visitor.
fn cookies(c: &mut Criterion) {
    let id = "ajs_anonymous_id=8b3f2c1e-5a67-4b1c-9f0e-2d4c6b8a0e1f; ajs_user_id=john";
    let many =
        (0..40).map(|n| format!("cookie_{n}=value-{n}")).collect::<Vec<_>>().join("; ") + "; " + id;
    for (name, header) in [("two", id), ("forty", &many)] {
        c.bench_function(&format!("identity/read/{name}"), |b| {
            b.iter(|| read(&[COOKIES], [black_box(header.as_bytes())].into_iter()));
        });
    }
}

/// Ten rules, and what rules about other pages cost: nothing, or they are not found by route.
fn decision(c: &mut Criterion) {
    let (visitor, profile) = john();
    let wants = Wants::PAGE;
    let asking = Asking { site: "shop", wants, earlier: &First, deciders: &[] };
    let mut group = c.benchmark_group("decide/ten rules");
    for elsewhere in [0, 1000] {
        let config = config(elsewhere);
        let rules = &config.snapshot.all_sites.first().unwrap().rules;
        group.bench_with_input(BenchmarkId::from_parameter(elsewhere), rules, |b, rules| {
            b.iter(|| {
                let concerned = rules.concerning("shop", black_box("/"), wants, &[]);
                let mut facts = Facts::new(&visitor, Some(&profile), &Asked);
                let decision = rules.decide(&concerned, &mut facts, &asking, None);
                assert!(decision.target.is_some() && decision.edits.len() == 2);
            });
        });
    }
}

/// A profile in memory.
fn profile(c: &mut Criterion) {
    let long = Duration::from_mins(10);
    let lifetimes = Lifetimes { fresh: long, missing: long, stale_if_error: long };
    let memory = Memory::new(1 << 26, lifetimes);
    let (visitor, profile) = john();
    let key = ProfileKey::user("shop", &visitor.user.unwrap());
    memory.put(&key, State::Profile(profile), Instant::now());
    c.bench_function("profile/memory", |b| {
        b.iter(|| memory.fresh(black_box(&key), Instant::now()));
    });
}

const PAGES: [(&str, &[u8]); 3] = [
    ("8k", include_bytes!("data/8k.html")),
    ("40k", include_bytes!("data/40k.html")),
    ("400k", include_bytes!("data/400k.html")),
];

fn new_snippet() -> Snippet {
    let part = Part { source: SNIPPET, key: "REDACTED", sdk: None };
    Snippet::new(&[part], "/seg", true, true)
}

fn markup() -> Markup {
    let snippet = new_snippet();
    let (visitor, traits) = (john().0, serde_json::Map::new());
    Markup {
        keep: None,
        script: snippet.script(Handover {
            visitor: &visitor,
            ended: None,
            says: Some(1_795_852_813_644),
            traits: Some(&traits),
            flags: &serde_json::Map::new(),
            ahead: false,
            base: None,
            page_call: true,
        }),
        path: snippet.external_path(true),
        csp: Csp::default(),
        own: OwnFiles { host: "www.shop.example".into(), port: None, below: "/seg/".into() },
    }
}

/// The snippet in a page, as it streams through.
fn injection(c: &mut Criterion) {
    for coding in [Coding::Identity, Coding::Gzip, Coding::Brotli] {
        let mut group = c.benchmark_group(format!("html/inject/{coding:?}"));
        for (name, page) in PAGES {
            let body = Bytes::from(coding.encode_once(page).unwrap());
            group.throughput(Throughput::Bytes(page.len() as u64));
            group.bench_with_input(BenchmarkId::from_parameter(name), &body, |b, body| {
                b.iter_batched(
                    markup,
                    |markup| {
                        let mut page =
                            Body::new(coding, Rewriter::new(None, Some(Injector::new(markup))));
                        let mut at = 0;
                        while at < body.len() {
                            let end = (at + 65_536).min(body.len());
                            let mut chunk = Some(body.slice(at..end));
                            page.pass(&mut chunk, end == body.len()).unwrap();
                            black_box(chunk);
                            at = end;
                        }
                    },
                    BatchSize::SmallInput,
                );
            });
        }
    }
}

/// Three rules in a page, as it streams through: up to the last of three ids, to its end, and to its end by
/// the parser.
fn editing(c: &mut Criterion) {
    for (kind, selectors) in [
        ("ids", ["#main-content", "#copy-path", "#rustdoc-toc"]),
        ("any", [".src", "h1", "section > h2 a"]),
        ("parser", [".src", "h1:not(.x)", "section > h2 a"]),
    ] {
        let changes = [Change::Class("red".into()), Change::Text("x".into()), Change::Hide];
        let select = |select: &str| Arc::new(Select::parse(select).unwrap());
        let edits = selectors.iter().zip(changes);
        let edits: Vec<Edit> =
            edits.map(|(one, change)| Edit::new(select(one), vec![change])).collect();
        let mut group = c.benchmark_group(format!("html/edit/{kind}"));
        for (name, page) in PAGES {
            group.throughput(Throughput::Bytes(page.len() as u64));
            group.bench_with_input(BenchmarkId::from_parameter(name), page, |b, page| {
                b.iter_batched(
                    || (Editor::new(edits.clone()), Vec::with_capacity(page.len() + 1024)),
                    |(mut editor, mut out)| {
                        for chunk in page.chunks(65_536) {
                            editor.push(chunk, &mut out).unwrap();
                        }
                        editor.end(&mut out).unwrap();
                        out
                    },
                    BatchSize::SmallInput,
                );
            });
        }
    }
}

/// The snippet itself, with one visitor's ids.
fn snippet(c: &mut Criterion) {
    let snippet = new_snippet();
    let (visitor, traits) = (john().0, serde_json::Map::new());
    let handover = Handover {
        visitor: &visitor,
        ended: None,
        says: Some(1_795_852_813_644),
        traits: Some(&traits),
        flags: &traits,
        ahead: false,
        base: None,
        page_call: true,
    };
    c.bench_function("vendor/snippet", |b| b.iter(|| snippet.script(black_box(handover))));
}

/// An SDK file from memory: header and body.
fn asset(c: &mut Criterion) {
    let storage: &'static MemoryStorage = Box::leak(Box::default());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let span = pingora::cache::trace::Span::inactive().handle();
    let key = key(&["1", "shop", "https", "www.shop.example", "/analytics.js", "br"]);
    let now = std::time::SystemTime::now();
    let mut header = ResponseHeader::build(200, None).unwrap();
    for (name, value) in [
        ("content-type", "text/javascript"),
        ("etag", "\"x\""),
        ("content-encoding", "br"),
        ("vary", "accept-encoding"),
    ] {
        header.insert_header(name, value).unwrap();
    }
    runtime.block_on(async {
        let meta = CacheMeta::new(now + Duration::from_mins(10), now, 0, 0, header);
        let mut miss = storage.get_miss_handler(&key, &meta, &span).await.unwrap();
        miss.write_body(Bytes::from(vec![b'x'; 30_000]), true).await.unwrap();
        miss.finish().await.unwrap();
    });
    c.bench_function("cache/hit", |b| {
        b.iter(|| {
            runtime.block_on(async {
                let (meta, mut hit) =
                    storage.lookup(black_box(&key), &span).await.unwrap().unwrap();
                (meta, hit.read_body().await.unwrap())
            })
        });
    });
}

criterion_group!(rooms, routing, cookies, decision, profile, snippet, injection, editing, asset);
criterion_main!(rooms);
