//! Changes of elements in pages as they stream through.

use serde_json::{Value, json};

use crate::browser::{Visit, visit_with};
use crate::pages::{gunzip, gzip};
use crate::support::edge::{Edge, Setup};
use crate::support::server::{Reply, Server};

const PAGE: &str = "<html><head><title>t</title></head><body><h1 id=h>Hello</h1><p class=a>one</p><p class=a>two</p></body></html>";

async fn origin() -> Server {
    Server::start(|asked| {
        let html = "Content-Type: text/html; charset=utf-8";
        match asked.target.as_str() {
            "/gzip" => Reply::new(200, &[html, "Content-Encoding: gzip"], gzip(PAGE)),
            "/odd" => Reply::new(200, &[html, "Content-Encoding: zstd"], PAGE),
            "/utf16" => Reply::new(200, &["Content-Type: text/html; charset=utf-16le"], PAGE),
            "/etag" => Reply::new(
                200,
                &[html, "ETag: \"1\"", "Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT"],
                PAGE,
            ),
            "/missing" => Reply::new(404, &[html], PAGE),
            "/data" => {
                Reply::new(200, &["Content-Type: application/json"], "{\"h1\":\"<h1 id=h>\"}")
            }
            "/large" => Reply::html(PAGE.replace("one", &"<i>x</i>".repeat(700_000))),
            "/long-tag" => Reply::html(PAGE.replace(
                "<p class=a>one",
                &format!("<p class=a title='{}'>one", "x".repeat(400_000)),
            )),
            "/deep" => Reply::html(PAGE.replace("one", &"<b>".repeat(3000))),
            "/strict" => {
                Reply::new(200, &[html, "Content-Security-Policy: default-src 'self'"], PAGE)
            }
            "/latin" => Reply::new(
                200,
                &["Content-Type: text/html; charset=iso-8859-1"],
                [PAGE.as_bytes(), b"\xe9"].concat(),
            ),
            _ => Reply::html(PAGE),
        }
    })
    .await
}

async fn edge(origin: &Server, more: &str) -> Edge {
    let edge = Setup::new(origin.port)
        .site(&format!(
            "webhook: {{ username: u, password: p }}
consent: {{ denied: request.cookies.no == '1' }}
client_traits: {{ path: request.path }}
rewrite:
- {{ select: h1, when: has(traits.name), set: {{ text: 'Hi {{{{ traits.name }}}}' }} }}
- {{ select: .a, route: [/gzip, /etag, /long-tag, /deep, /latin, /], set: {{ add_class: b }} }}
- {{ select: '*', route: /all, set: {{ attributes: {{ data-seen: '1' }} }} }}
- {{ select: nothing-at-all, route: /none, hide: true }}
- {{ select: h1, route: /kept, when: has(traits.name), persist: true, set: {{ text: Kept }} }}
{more}"
        ))
        .start()
        .await;
    let push = json!({"type": "identify", "userId": "ann", "traits": {"name": "<Ann> \u{fc}"}});
    let pushed =
        edge.request("POST", "/seg/profiles-webhook").header("Authorization", "Basic dTpw");
    assert_eq!(pushed.body(push.to_string()).send().await.status, 200);
    edge
}

#[tokio::test]
async fn pages_of_every_kind_are_changed_or_left_alone() {
    let origin = origin().await;
    let edge = edge(&origin, "").await;
    let get = |path: &str| {
        edge.request("GET", path).header("Accept", "text/html").header("Cookie", "ajs_user_id=ann")
    };
    let hello = "<h1 id=h>Hi &lt;Ann&gt; &#252;</h1>";
    for path in ["/", "/etag", "/strict"] {
        let page = get(path).send().await;
        assert!(
            page.text().contains(hello) && page.text().contains("</script>"),
            "{path}: {}",
            page.text()
        );
        assert_eq!(page.header("cache-control"), Some("private, no-cache"));
        assert_eq!((page.header("etag"), page.header("last-modified")), (None, None), "{path}");
    }
    assert!(get("/").send().await.text().contains("<p class=\"a b\">two</p>"));
    let packed = get("/gzip").header("Accept-Encoding", "gzip").send().await;
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    let text = gunzip(&packed.body);
    assert!(text.contains(hello) && text.contains("<p class=\"a b\">one</p>"), "{text}");
    let latin = get("/latin").send().await;
    assert!(latin.text().contains(hello) && latin.body.ends_with(b"\xe9"));
    for path in ["/odd", "/utf16", "/missing"] {
        let page = get(path).send().await;
        assert!(page.text() == PAGE, "{path}: {}", page.text());
    }
    assert_eq!(get("/data").send().await.text(), "{\"h1\":\"<h1 id=h>\"}");
    let head = edge
        .request("HEAD", "/")
        .header("Accept", "text/html")
        .header("Cookie", "ajs_user_id=ann")
        .send()
        .await;
    assert_eq!((head.status, head.header("content-length")), (200, None));
    // Nobody is known: the heading stays, what is for everybody is changed.
    let nobody = edge.request("GET", "/").header("Accept", "text/html").send().await.text();
    assert!(nobody.contains("<h1 id=h>Hello</h1>") && nobody.contains("a b"), "{nobody}");
    // Who allows nothing gets the origin's page.
    assert_eq!(get("/").header("Cookie", "no=1").send().await.text(), PAGE);
    let all = get("/all").send().await.text();
    for tag in ["<html data-seen=\"1\">", "<title data-seen=\"1\">", "<body data-seen=\"1\">"] {
        assert!(all.contains(tag), "{all}");
    }
    get("/none").send().await;
    for (outcome, count) in [("changed", 8.0), ("unreadable", 2.0)] {
        edge.reaches("doorstep_html_edits_total", &[("outcome", outcome)], count).await;
    }
}

#[tokio::test]
async fn large_pages_long_tags_and_deep_ones_come_out_whole() {
    let origin = origin().await;
    let edge = edge(&origin, "").await;
    let get = |path: &str| {
        edge.request("GET", path).header("Accept", "text/html").header("Cookie", "ajs_user_id=ann")
    };
    let large = get("/large").send().await.text();
    assert_eq!(large.matches("<i>x</i>").count(), 700_000);
    assert!(large.contains("<h1 id=h>Hi") && large.ends_with("<p class=a>two</p></body></html>"));
    let long = get("/long-tag").send().await.text();
    assert!(
        long.contains("<h1 id=h>Hi")
            && long.contains(&format!("<p class=a title='{}'>one", "x".repeat(400_000)))
            && long.ends_with("<p class=\"a b\">two</p></body></html>"),
        "{}",
        long.replace(&"x".repeat(1000), "x")
    );
    let deep = get("/deep").send().await.text();
    assert!(
        deep.contains("<p class=\"a b\"><b>") && deep.ends_with("<p class=a>two</p></body></html>")
    );
    edge.becomes("doorstep_html_edits_total", &[("outcome", "gave_up")], 1.0).await;
}

#[tokio::test]
async fn pages_that_have_been_seen_are_changed_for_whoever_comes() {
    let turn = std::sync::atomic::AtomicUsize::new(0);
    let origin = Server::start(move |_| {
        let turn = turn.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        // The fourth is another page, which the origin calls by the same name.
        let page = if turn == 3 { PAGE.replace("h1 id=h", "h2 id=h") } else { PAGE.into() };
        Reply::new(200, &["Content-Type: text/html", "ETag: \"same\""], page)
    })
    .await;
    let edge = edge(&origin, "").await;
    for (user, name) in [("bea", "Bea"), ("carl", "Carl, who has a longer one")] {
        let push = json!({"type": "identify", "userId": user, "traits": {"name": name}});
        let pushed =
            edge.request("POST", "/seg/profiles-webhook").header("Authorization", "Basic dTpw");
        assert_eq!(pushed.body(push.to_string()).send().await.status, 200);
    }
    let get = async |user: &str| {
        let page = edge.request("GET", "/").header("Accept", "text/html");
        let page = page.header("Cookie", &format!("ajs_user_id={user}")).send().await;
        // Spaces make up for what it could have become longer: in a tag, or behind another page.
        let mut text = page.text().trim_end().to_owned();
        while text.contains(" >") {
            text = text.replace(" >", ">");
        }
        (text, page.header("content-length").is_some())
    };
    let tail = "<p class=\"a b\">one</p><p class=\"a b\">two</p></body></html>";
    for (user, heading) in [
        ("ann", "<h1 id=h>Hi &lt;Ann&gt; &#252;</h1>"),
        ("carl", "<h1 id=h>Hi Carl, who has a longer one</h1>"),
        ("bea", "<h1 id=h>Hi Bea</h1>"),
    ] {
        let (page, known) = get(user).await;
        assert!(page.ends_with(&format!("</script></head><body>{heading}{tail}")), "{page}");
        assert_eq!(known, user != "ann", "its length is known when it has been seen");
    }
    // Nothing of it is lost, and the name is not trusted again.
    let other = PAGE.replace("h1 id=h", "h2 id=h");
    let (_, rest) = other.split_once("<body>").unwrap();
    let (page, _) = get("ann").await;
    assert!(page.ends_with(rest), "{page}");
    edge.becomes("doorstep_html_edits_total", &[("outcome", "gave_up")], 1.0).await;
    for heading in ["Hi Bea", "Hi Bea"] {
        let (page, known) = get("bea").await;
        assert!(page.ends_with(&format!("<h1 id=h>{heading}</h1>{tail}")) && !known, "{page}");
    }
}

#[tokio::test]
async fn a_change_is_kept_with_and_without_a_snippet() {
    let origin = origin().await;
    for (more, snippet) in [("", true), ("inject: { enabled: false }", false)] {
        let edge = edge(&origin, more).await;
        let get = |path: &str, cookie: &str| {
            edge.request("GET", path).header("Accept", "text/html").header("Cookie", cookie)
        };
        let page = get("/kept", "ajs_user_id=ann").send().await.text();
        assert!(page.contains(r#"[{"c":[["text","Kept"]],"f":false,"s":"h1"}]"#), "{page}");
        assert_eq!(page.contains("analytics.load"), snippet);
        assert!(!get("/kept", "x=y").send().await.text().contains("MutationObserver"));
        assert!(!get("/", "ajs_user_id=ann").send().await.text().contains("MutationObserver"));
    }
    let edge = edge(&origin, "").await;
    let keep = edge.get("/seg/keep.js").await;
    assert_eq!(
        (keep.status, keep.header("content-type")),
        (200, Some("text/javascript; charset=utf-8"))
    );
    assert!(keep.text().contains("doorstep-keep"));
}

#[tokio::test]
async fn a_snippet_as_a_file_knows_its_page() {
    let origin = origin().await;
    let edge = edge(&origin, "").await;
    let get = |referrer: &str| edge.request("GET", "/seg/snippet.js").header("Referer", referrer);
    let own = get("http://shop.example/strict?x=1").send().await.text();
    assert!(own.contains(r#""t":{"path":"/strict"}"#), "{own}");
    let other = get("http://evil.example/strict").send().await.text();
    assert!(other.contains(r#""t":{"path":"/seg/snippet.js"}"#), "{other}");
}

/// Elements for rules to change, and a script that makes another one later, as a framework does. In an encoding
/// in which some characters change what others mean.
const SHOP: &str = "<!doctype html><html><head><meta charset=iso-2022-jp><title>t</title><link rel=icon href=data:,></head><body>\
    <div id=links></div><div id=parts></div><p id=text>a</p><textarea id=area></textarea><a id=more href='#'>more</a>\
    <script id=code type=text/plain>1</script><p class=note>b</p><div id=frame></div><i id=icon></i><script>\
    var late = document.createElement('script'); late.className = 'note'; document.body.appendChild(late);\
    window.loaded = true;</script></body></html>";

/// Rules with traits in all places where a value may stand, in the forms that let code through most easily.
const RULES: &str = r#"
inject: { enabled: false }
webhook: { username: u, password: p }
rewrite:
- { select: '#links', set: { html: '<a href="{{ traits.scheme }}://{{ traits.host }}">1</a>' } }
- { select: '#links', insert: { after: '<a href="{{ traits.js }}">2</a>' } }
- { select: '#links', insert: { after: '<a href="{{ traits.java }}script:{{ traits.code }}">3</a>' } }
- { select: '#links', insert: { after: '<a href="{{ traits.scheme }}&colon;{{ traits.code }}">4</a>' } }
- { select: 'a#more', persist: true, set: { attributes: { href: '{{ traits.js }}' } } }
- { select: '#parts', set: { html: '<b title={{ traits.markup }} lang="{{ traits.quote }}">{{ traits.markup }}</b>' } }
- { select: '#text', persist: true, set: { text: '{{ traits.markup }}' } }
- { select: '#area', set: { text: '{{ traits.markup }}' } }
- { select: '#code', insert: { append: ';{{ traits.code }}' } }
- { select: .note, persist: true, set: { text: '{{ traits.code }}' } }
- { select: '#frame', hosts: ['*.shop.example'], set: { html: '<iframe src="{{ traits.frame }}"></iframe>' } }
- { select: '#icon', set: { html: '<img alt="{{ traits.escape }}" src=/a.png><img alt="{{ traits.back }}" src=/a.png>' } }
"#;

/// A visit by somebody with these traits.
async fn visit_by(traits: Value) -> Visit {
    let origin = Server::start(|asked| match asked.target.as_str() {
        "/" => Reply::new(200, &["Content-Type: text/html"], SHOP),
        _ => Reply::new(200, &["Content-Type: text/html"], "<p>framed"),
    })
    .await;
    let edge = Setup::new(origin.port).site(RULES).start().await;
    let push = json!({"type": "identify", "userId": "ann", "traits": traits});
    let pushed =
        edge.request("POST", "/seg/profiles-webhook").header("Authorization", "Basic dTpw");
    assert_eq!(pushed.body(push.to_string()).send().await.status, 200);
    let cookies = json!([{
        "name": "ajs_user_id", "value": "ann", "domain": ".shop.example", "path": "/", "httpOnly": true,
    }]);
    // Links to other pages stay where they are; those that are code would run.
    let click = "document.querySelectorAll('a').forEach((link) => { if (/^http/.test(link.protocol)) \
        link.addEventListener('click', (event) => event.preventDefault()); link.click(); })";
    let url = format!("http://www.shop.example:{}", edge.port);
    let steps = json!([
        { "open": "/", "when": "window.loaded && document.readyState === 'complete'" },
        // What a framework puts in later is changed as well.
        { "run": "document.querySelector('p.note').firstChild.nodeValue = 'again'",
          "when": "document.querySelector('p.note').textContent !== 'again'" },
        { "run": click, "quiet": true, "value": "({
            boom: window.boom || window.name === 'boom', links: [...document.querySelectorAll('a')].map((a) => a.protocol),
            text: document.getElementById('text').textContent, note: document.querySelector('p.note').textContent,
            title: (document.querySelector('#parts b') || {}).title, code: document.getElementById('code').text,
            area: document.getElementById('area').value, frames: window.length,
            handlers: [...document.querySelectorAll('*')].filter((one) => [...one.attributes].some((own) => /^on/.test(own.name))).length,
            scripts: document.scripts.length, images: document.querySelectorAll('#icon img').length })" },
    ]);
    visit_with(&url, steps, cookies, Value::Null).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_browser_no_value_becomes_code() {
    let markup = "</textarea></title><img src=x onerror=window.boom=1><script>boom=1</script>";
    let visit = visit_by(json!({
        "scheme": "javascript", "host": "x%0Awindow.boom=1", "js": " JavaScript:window.boom=1", "java": "java",
        "code": "window.boom=1", "markup": markup, "quote": "x\" onmouseover=\"boom=1\" autofocus onfocus=\"boom=1",
        "frame": "https://a.shop.example@evil.example/", "escape": "\u{1b}$B",
        "back": "\u{1b}(B\" onerror=window.boom=1 x=\"",
    }))
    .await;
    let seen = visit.value(2);
    assert_eq!((&seen["boom"], &seen["handlers"]), (&json!(false), &json!(0)), "{seen}");
    assert_eq!(seen["links"], json!(["http:"]), "{seen}");
    assert_eq!((&seen["scripts"], &seen["frames"]), (&json!(4), &json!(0)), "{seen}");
    for shown in ["text", "title", "area"] {
        assert_eq!(seen[shown], markup, "{seen}");
    }
    assert_eq!((&seen["note"], &seen["code"]), (&json!("window.boom=1"), &json!("1")), "{seen}");
    assert_eq!(seen["images"], 2, "{seen}");
    assert!(!visit.requests().iter().any(|request| request.contains("evil.example")));

    // The same rules with what they are meant for.
    let visit = visit_by(json!({
        "scheme": "https", "host": "a.shop.example", "js": "/more", "java": "/", "code": "b", "markup": "m",
        "quote": "q", "frame": "//www.shop.example/framed", "escape": "e", "back": "b",
    }))
    .await;
    let seen = visit.value(2);
    assert_eq!(seen["links"], json!(["https:", "http:", "http:", "http:"]), "{seen}");
    assert_eq!((&seen["note"], &seen["text"]), (&json!("b"), &json!("m")), "{seen}");
    assert_eq!((&seen["scripts"], &seen["frames"]), (&json!(4), &json!(1)), "{seen}");
}

/// Rules about HTML say nothing of what is none: a download that breaks off goes on where it was, and is kept as the origin
/// says.
#[tokio::test]
async fn what_is_no_html_keeps_its_validators() {
    let origin = Server::start(|asked| {
        let headers =
            ["Cache-Control: public, max-age=600", "ETag: \"v1\"", "Accept-Ranges: bytes"];
        let kind = if asked.target == "/page" {
            "Content-Type: text/html"
        } else {
            "Content-Type: application/zip"
        };
        let headers: Vec<&str> = headers.into_iter().chain([kind]).collect();
        match (asked.header("range"), asked.header("if-none-match")) {
            (Some(_), _) => {
                Reply::new(206, &[&headers[..], &["Content-Range: bytes 1-2/9"]].concat(), "yt")
            }
            (None, Some(_)) => Reply::new(304, &headers[..2], ""),
            (None, None) => Reply::new(200, &headers, "<head></head>bytes"),
        }
    })
    .await;
    let rule =
        "rewrite: [{ select: h1, when: has(traits.color), set: { text: '{{ traits.color }}' } }]";
    let edge = Setup::new(origin.port).site(rule).start().await;
    let get = |path, name, value| {
        let request = edge.request("GET", path).header("Accept", "text/html,*/*");
        request.header("Sec-Fetch-Dest", "document").header(name, value).send()
    };
    for (name, value, status) in [("X-Any", "1", 200), ("Range", "bytes=1-2", 206)] {
        let file = get("/a.zip", name, value).await;
        assert_eq!(file.status, status);
        assert_eq!(file.header("cache-control"), Some("public, max-age=600"), "{status}");
        assert_eq!(
            (file.header("etag"), file.header("accept-ranges")),
            (Some("\"v1\""), Some("bytes"))
        );
    }
    let page = get("/page", "X-Any", "1").await;
    assert_eq!(
        (page.header("etag"), page.header("cache-control")),
        (None, Some("private, no-cache"))
    );
    // A script's image is the same for everybody, and so is what confirms it.
    let image =
        edge.request("GET", "/a.png").header("Sec-Fetch-Dest", "image").header("Accept", "image/*");
    let image = image.header("If-None-Match", "\"v1\"").send().await;
    assert_eq!((image.status, image.header("vary")), (304, None));
    assert_eq!(image.header("cache-control"), Some("public, max-age=600"));
}

#[tokio::test]
async fn an_attribute_that_is_null_goes() {
    let origin = origin().await;
    let rule = "rewrite: [{ select: h1, set: { attributes: { id: null } } }]";
    let edge = Setup::new(origin.port).site(rule).start().await;
    assert!(edge.get("/").await.text().contains("<h1>Hello</h1>"));
}

/// One odd piece of markup costs nothing of what is known of tags that were left out, on the first view and on those of a page
/// that has been seen.
#[tokio::test]
async fn what_is_removed_ends_where_a_browser_ends_it_also_behind_odd_markup() {
    let list = |odd: &str| format!("<body><ul>{odd}<li class=ad>ad<li>keep</ul>rest");
    let origin = Server::start(move |asked| {
        let odd = match asked.target.as_str() {
            "/php" => "<?php x ?>",
            "/comment" => "<!-->",
            _ => "",
        };
        Reply::new(200, &["Content-Type: text/html", "ETag: \"1\""], list(odd))
    })
    .await;
    let rule = "inject: { enabled: false }\nrewrite: [{ select: .ad, remove: true }]";
    let edge = Setup::new(origin.port).site(rule).start().await;
    for (path, odd) in [("/", ""), ("/php", "<?php x ?>"), ("/comment", "<!-->")] {
        for _ in 0..3 {
            let page = edge.get(path).await.text();
            assert_eq!(page.trim_end(), format!("<body><ul>{odd}<li>keep</ul>rest"), "{path}");
        }
    }
}
