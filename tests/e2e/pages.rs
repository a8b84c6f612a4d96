//! The snippet in pages, and what becomes of everything around it.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::support::client::Connection;
use crate::support::edge::Setup;
use crate::support::nginx::Nginx;
use crate::support::server::{Piece, Reply, Server};

const PAGE: &str = "<!doctype html><html><head><title>t</title></head><body>Hello</body></html>";
const SNIPPET: &str = "<script>(function (edge) {";

pub(crate) fn gzip(text: &str) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();
    gzip.finish().unwrap()
}

pub(crate) fn gunzip(bytes: &[u8]) -> String {
    let mut out = flate2::write::MultiGzDecoder::new(Vec::new());
    out.write_all(bytes).unwrap();
    String::from_utf8(out.finish().unwrap()).unwrap()
}

fn brotli(text: &str) -> Vec<u8> {
    let mut brotli = brotli::CompressorWriter::new(Vec::new(), 4096, 4, 20);
    brotli.write_all(text.as_bytes()).unwrap();
    brotli.into_inner()
}

fn unbrotli(bytes: &[u8]) -> String {
    let mut out = Vec::new();
    brotli::BrotliDecompress(&mut &bytes[..], &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[tokio::test]
async fn a_page_of_nginx_gets_the_snippet_and_keeps_the_rest() {
    let nginx = Nginx::start("", |root| {
        std::fs::write(root.join("index.html"), PAGE).unwrap();
        std::fs::write(root.join("data.txt"), PAGE).unwrap();
    })
    .await;
    let edge = Setup::new(nginx.port).start().await;

    let page = edge.get("/").await;
    let (head, tail) = PAGE.split_at(PAGE.find("</head>").unwrap());
    let text = page.text();
    assert_eq!(page.status, 200);
    assert!(
        text.starts_with(&format!("{head}{SNIPPET}"))
            && text.ends_with(&format!("</script>{tail}")),
        "{text}"
    );
    assert!(text.contains(r#""k":"REDACTED""#) && !text.contains("test-write-key"));
    assert_eq!(page.header("cache-control"), Some("private, no-cache"));
    for gone in ["etag", "last-modified", "accept-ranges", "content-length"] {
        assert_eq!(page.header(gone), None, "{gone}");
    }
    assert!(page.cookie("ajs_anonymous_id").is_some());

    let file = edge.get("/data.txt").await;
    assert_eq!(file.text(), PAGE);
    assert!(file.header("etag").is_some() && file.header("set-cookie").is_none());
    let missing = edge.get("/missing.html").await;
    assert_eq!(missing.status, 404);
    assert!(!missing.text().contains("edge") && missing.header("set-cookie").is_none());
    edge.becomes("doorstep_html_rewrites_total", &[("outcome", "injected")], 1.0).await;
    edge.becomes("doorstep_personalization_total", &[("outcome", "off")], 1.0).await;
}

#[tokio::test]
async fn compressed_pages_are_opened_and_closed_again() {
    let origin = Server::start(|asked| {
        let accept = asked.header("accept-encoding").unwrap_or_default().to_owned();
        match asked.target.as_str() {
            "/gzip" => {
                Reply::new(200, &["Content-Type: text/html", "Content-Encoding: gzip"], gzip(PAGE))
            }
            "/br" => {
                Reply::new(200, &["Content-Type: text/html", "Content-Encoding: br"], brotli(PAGE))
            }
            "/zstd" => {
                Reply::new(200, &["Content-Type: text/html", "Content-Encoding: zstd"], "???")
            }
            _ => Reply::html(format!("<head></head>{accept}")),
        }
    })
    .await;
    let edge = Setup::new(origin.port).start().await;

    let answer = edge.request("GET", "/gzip").header("Accept-Encoding", "gzip, br").send().await;
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    assert!(gunzip(&answer.body).contains(SNIPPET));
    let answer = edge.request("GET", "/br").header("Accept-Encoding", "br").send().await;
    assert_eq!(answer.header("content-encoding"), Some("br"));
    assert!(unbrotli(&answer.body).contains(SNIPPET));
    let answer = edge.get("/zstd").await;
    assert_eq!((answer.text(), answer.header("content-encoding")), ("???".into(), Some("zstd")));
    edge.becomes("doorstep_html_rewrites_total", &[("outcome", "unreadable")], 1.0).await;

    for (theirs, ours) in
        [("gzip, deflate, br, zstd", "gzip, br"), ("gzip;q=0, br", "br"), ("zstd", "identity")]
    {
        let answer = edge.request("GET", "/").header("Accept-Encoding", theirs).send().await;
        assert!(answer.text().ends_with(&format!("</head>{ours}")), "{theirs}");
    }
    // What a page uses is none of our business.
    let answer = edge
        .request("GET", "/")
        .header("Accept-Encoding", "zstd")
        .header("Sec-Fetch-Dest", "image")
        .send()
        .await;
    assert_eq!(answer.text(), "<head></head>zstd");
}

#[tokio::test]
async fn the_first_bytes_leave_before_the_last_arrive() {
    for compressed in [false, true] {
        let go = Arc::new(Notify::new());
        let wait = Arc::clone(&go);
        let origin = Server::start(move |_| {
            let chunk = |bytes: &[u8]| [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
            let (first, second) = if compressed {
                let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                gzip.write_all(b"<head></head><body>first").unwrap();
                gzip.flush().unwrap();
                let first = std::mem::take(gzip.get_mut());
                gzip.write_all(b"second").unwrap();
                (first, gzip.finish().unwrap())
            } else {
                (b"<head></head><body>first".to_vec(), b"second".to_vec())
            };
            let coding = if compressed { "Content-Encoding: gzip\r\n" } else { "" };
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n{coding}Transfer-Encoding: chunked\r\n\r\n");
            Reply(vec![
                Piece::Bytes([head.as_bytes(), &chunk(&first)].concat()),
                Piece::Wait(Arc::clone(&wait)),
                Piece::Bytes([&chunk(&second)[..], b"0\r\n\r\n"].concat()),
            ])
        })
        .await;
        let edge = Setup::new(origin.port).start().await;
        let mut connection = Connection::open(edge.port).await;
        connection.write(edge.request("GET", "/").header("Accept-Encoding", "gzip").bytes()).await;
        assert_eq!(connection.head().await.unwrap().status, 200);
        // The first chunk comes while the origin holds the second back.
        let size = String::from_utf8(connection.until(b"\r\n").await.unwrap()).unwrap();
        assert!(usize::from_str_radix(size.trim(), 16).unwrap() > 500, "{size}");
        if !compressed {
            connection.until(b"<body>first").await.unwrap();
        }
        go.notify_one();
        connection.until(b"\r\n0\r\n\r\n").await.expect("the end of the page");
    }
}

#[tokio::test]
async fn early_hints_pass_and_the_wait_behind_them_is_the_origins() {
    const WAIT: Duration = Duration::from_millis(200);
    let go = Arc::new(Notify::new());
    let wait = Arc::clone(&go);
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n";
    let origin = Server::start(move |_| {
        let mut pieces =
            vec![Piece::Bytes(hints.as_bytes().to_vec()), Piece::Wait(Arc::clone(&wait))];
        pieces.extend(Reply::html(PAGE).0);
        Reply(pieces)
    })
    .await;
    let edge = Setup::new(origin.port).start().await;
    let mut connection = Connection::open(edge.port).await;
    connection.write(edge.request("GET", "/").header("Accept", "text/html").bytes()).await;
    let early = connection.head().await.unwrap();
    assert_eq!((early.status, early.header("link").is_some()), (103, true));
    // Waits for nothing: so long the origin takes to make its page, which is what is to be measured.
    tokio::time::sleep(WAIT).await;
    go.notify_one();
    let page = connection.answer("GET").await.unwrap();
    assert!(page.status == 200 && page.text().contains(SNIPPET), "{}", page.text());
    let site = [("site", "shop")];
    edge.reaches("doorstep_added_duration_seconds_count", &site, 1.0).await;
    let added = edge.metric("doorstep_added_duration_seconds_sum", &site).await;
    let origin =
        edge.metric("doorstep_upstream_duration_seconds_sum", &[("upstream", "origin")]).await;
    let waited = WAIT.as_secs_f64();
    assert!(origin >= waited && added < waited, "origin {origin} s, added {added} s");
}

#[tokio::test]
async fn a_policy_decides_how_the_snippet_comes() {
    let origin = Server::start(|asked| {
        let policy = match asked.target.as_str() {
            "/nonce" => "script-src 'nonce-abc123'",
            "/self" => "default-src 'self'",
            _ => "script-src 'none'",
        };
        Reply::new(
            200,
            &["Content-Type: text/html", &format!("Content-Security-Policy: {policy}")],
            PAGE,
        )
    })
    .await;
    let edge = Setup::new(origin.port).start().await;
    assert!(edge.get("/nonce").await.text().contains("<script nonce=\"abc123\">(function"));
    let page = edge.get("/self").await;
    assert!(page.text().contains("<script src=\"//shop.example/seg/snippet.js\"></script></head>"));
    assert_eq!(edge.get("/none").await.text(), PAGE);
    edge.becomes("doorstep_html_rewrites_total", &[("outcome", "forbidden")], 1.0).await;

    let id = page.cookie("ajs_anonymous_id").unwrap();
    let snippet = edge
        .request("GET", "/seg/snippet.js")
        .header("Cookie", &format!("ajs_anonymous_id={id}"))
        .send()
        .await;
    assert_eq!(snippet.header("content-type"), Some("text/javascript; charset=utf-8"));
    assert_eq!(snippet.header("cache-control"), Some("private, no-store"));
    assert!(snippet.text().contains(&id));
    let foreign =
        edge.request("GET", "/seg/snippet.js").header("Cookie", &format!("ajs_anonymous_id={id}"));
    let foreign = foreign.header("Sec-Fetch-Site", "cross-site").send().await;
    assert_eq!(foreign.status, 403);
    assert!(!foreign.text().contains(&id));
}

#[tokio::test]
async fn clients_without_chunks_and_without_bodies_are_served() {
    let origin = Server::start(|asked| match asked.method.as_str() {
        "HEAD" => Reply::raw(format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\nETag: \"x\"\r\n\r\n", PAGE.len())),
        _ => Reply::html(PAGE),
    })
    .await;
    let edge = Setup::new(origin.port).start().await;
    let mut old = Connection::open(edge.port).await;
    old.write("GET / HTTP/1.0\r\nHost: shop.example\r\nConnection: keep-alive\r\n\r\n").await;
    let page = old.answer("GET").await.unwrap();
    assert_eq!(page.header("transfer-encoding"), None);
    assert!(page.text().contains(SNIPPET) && page.text().ends_with("</html>"));
    assert!(old.is_closed().await);

    let head = edge.request("HEAD", "/").send().await;
    assert_eq!(
        (head.status, head.header("etag"), head.header("content-length")),
        (200, None, None)
    );
    assert!(head.cookie("ajs_anonymous_id").is_some());
}

#[tokio::test]
async fn an_empty_page_is_whole() {
    let origin = Server::start(|asked| match asked.target.as_str() {
        "/etag" => Reply::new(200, &["Content-Type: text/html", "ETag: \"x\""], ""),
        "/gzip" => Reply::new(200, &["Content-Type: text/html", "Content-Encoding: gzip"], ""),
        _ => Reply::html(""),
    })
    .await;
    let edge = Setup::new(origin.port).start().await;
    let mut connection = Connection::open(edge.port).await;
    for target in ["/", "/etag", "/etag", "/gzip", "/"] {
        connection
            .write(edge.request("GET", target).header("Accept-Encoding", "gzip").bytes())
            .await;
        let page = connection.answer("GET").await.expect("a whole answer");
        assert_eq!((page.status, page.body.len()), (200, 0), "{target}");
        assert!(page.cookie("ajs_anonymous_id").is_some());
    }
}

#[tokio::test]
async fn confirmations_of_a_page_are_not_asked_for() {
    let origin = Server::start(|asked| match asked.header("if-none-match") {
        Some(_) => Reply::new(304, &["ETag: \"x\""], ""),
        None => Reply::new(200, &["Content-Type: text/html", "ETag: \"x\""], PAGE),
    })
    .await;
    let edge = Setup::new(origin.port).start().await;
    let page = edge.request("GET", "/").header("Accept", "text/html,*/*;q=0.8");
    let page = page.header("If-None-Match", "\"x\"").send().await;
    assert_eq!(page.status, 200);
    assert!(page.text().contains(SNIPPET));
    // Nor where a browser may have stored the page in another form.
    for (name, value) in
        [("X-Up-Version", "3"), ("HX-Boosted", "true"), ("Sec-Fetch-Dest", "iframe")]
    {
        let page = edge.request("GET", "/").header("Accept", "*/*").header(name, value);
        assert_eq!(page.header("If-None-Match", "\"x\"").send().await.status, 200, "{name}");
    }
    // A client that says nothing of itself has stored what came to it so.
    let other = edge.request("GET", "/").header("If-None-Match", "\"x\"").send().await;
    assert_eq!(other.status, 304);
}

#[tokio::test]
async fn fragments_for_scripts_and_pages_with_a_snippet_stay_as_they_are() {
    let with_snippet = PAGE.replace("</head>", "<script>analytics.load('k')</script></head>");
    let own = with_snippet.clone();
    let origin = Server::start(move |_| Reply::html(&with_snippet)).await;
    let edge = Setup::new(origin.port).start().await;
    assert_eq!(edge.get("/").await.text(), own);
    edge.becomes("doorstep_html_rewrites_total", &[("outcome", "present")], 1.0).await;
    let fragment = edge.request("GET", "/").header("Sec-Fetch-Dest", "empty").send().await;
    assert_eq!((fragment.text(), fragment.header("set-cookie")), (own.clone(), None));
    let fragment =
        edge.request("GET", "/").header("X-Requested-With", "XMLHttpRequest").send().await;
    assert_eq!(fragment.header("set-cookie"), None);
}

#[tokio::test]
async fn a_page_that_was_seen_before_has_a_length() {
    let nginx =
        Nginx::start("", |root| std::fs::write(root.join("index.html"), PAGE).unwrap()).await;
    let edge = Setup::new(nginx.port).start().await;
    let get = || {
        let request = edge.request("GET", "/").header("Accept", "text/html");
        request.header("Cookie", "ajs_anonymous_id=browser").send()
    };
    let first = get().await;
    assert_eq!(first.header("transfer-encoding"), Some("chunked"));
    let second = get().await;
    assert_eq!(second.header("content-length"), Some(second.body.len().to_string().as_str()));
    // But for when the edge has said it.
    let without_time = |page: String| {
        let (before, rest) = page.split_once("\"c\":").unwrap();
        let (time, behind) = rest.split_once(',').unwrap();
        assert!(time.parse::<i64>().is_ok(), "{time}");
        format!("{before}{behind}")
    };
    assert_eq!(second.header("transfer-encoding"), None);
    assert_eq!(without_time(second.text()), without_time(first.text()));
    edge.becomes("doorstep_html_rewrites_total", &[("outcome", "injected")], 2.0).await;
}

#[tokio::test]
async fn a_page_without_an_etag_has_the_length_that_was_told_whatever_has_become_of_it() {
    let policy = format!(
        "<head><meta http-equiv=content-security-policy content=\"script-src 'nonce-{}'\"></head>",
        "x".repeat(8000)
    );
    // Each page, whether it gets the snippet, and whether its length is told before it comes.
    let pages = [
        ("<head><title>first</title></head><body>", true, false),
        ("<head><title>first</title></head><body>", true, true),
        ("<head><title>another</title></head><body>and longer", true, true),
        ("<head><script>analytics.load('k')</script></head>", false, true),
        ("<head><script>analytics.load('k')</script></head>", false, false),
        ("<head></head>", true, false),
        (&policy, false, true),
        ("", false, false),
        ("<p>", true, false),
    ];
    let turn = std::sync::atomic::AtomicUsize::new(0);
    let given = pages.map(|(page, ..)| page.to_owned());
    let origin = Server::start(move |_| {
        let turn = turn.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Reply::new(200, &["Content-Type: text/html", "ETag: W/\"weak\""], &given[turn])
    })
    .await;
    let edge = Setup::new(origin.port).start().await;
    for (turn, (page, injected, told)) in pages.into_iter().enumerate() {
        let request = edge.request("GET", "/").header("Sec-Fetch-Dest", "document");
        let answer = request.header("Cookie", "ajs_anonymous_id=browser").send().await;
        let length = answer.header("content-length").map(str::to_owned);
        assert_eq!(length, told.then(|| answer.body.len().to_string()), "{turn}");
        let text = answer.text();
        let (begin, end) = page.split_once("</head>").unwrap_or(("", page));
        let as_it_was = if injected {
            text.starts_with(begin) && text.ends_with(end)
        } else {
            text.trim_end() == page
        };
        assert!(as_it_was, "{turn}");
        assert_eq!(text.contains(SNIPPET), injected, "{turn}");
        assert_eq!(text.len() > text.trim_end().len(), told && !injected, "{turn}");
    }
}

#[tokio::test]
async fn the_length_of_a_page_that_may_change_is_told_to_browsers_that_show_it_alone() {
    let origin = Server::start(|_| Reply::html(PAGE)).await;
    let edge = Setup::new(origin.port).start().await;
    let get = |to: &str| edge.request("GET", "/").header("Sec-Fetch-Dest", to).send();
    assert_eq!(get("document").await.header("content-length"), None);
    assert!(get("document").await.header("content-length").is_some());
    assert_eq!(edge.get("/").await.header("content-length"), None);
    let form = edge.request("POST", "/").header("Sec-Fetch-Dest", "document").body("a=b");
    assert_eq!(form.send().await.header("content-length"), None);
    // A script gets the page as it is.
    assert_eq!(get("empty").await.text(), PAGE);
}

#[tokio::test]
async fn an_origin_that_gives_two_pages_one_name_harms_nobody() {
    let pages = [
        "<head><title>t</title></head><body>one",
        "<head><title>tt</title></head><body>on",
        "<title>analytics.load( is here</title>",
    ];
    assert!(pages.iter().all(|page| page.len() == pages[0].len()));
    let turn = std::sync::atomic::AtomicUsize::new(0);
    let origin = Server::start(move |_| {
        let turn = turn.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Reply::new(200, &["Content-Type: text/html", "ETag: \"same\""], pages[turn % 3])
    })
    .await;
    let edge = Setup::new(origin.port).start().await;
    for turn in 0..6 {
        // An answer of another length than it says would not be read to its end.
        let page = edge.get("/").await.text();
        match turn % 3 {
            2 => assert_eq!(page.trim_end(), pages[2]),
            turn => {
                let tail = pages[turn].split_once("</head>").unwrap().1;
                assert!(
                    page.contains(SNIPPET) && page.ends_with(&format!("</head>{tail}")),
                    "{page}"
                );
            }
        }
    }
}

#[tokio::test]
async fn the_page_that_a_form_leads_to_is_a_page() {
    let origin = Server::start(|asked| Reply::html(format!("<head></head>{}", asked.target))).await;
    let edge = Setup::new(origin.port)
        .site("variations:\n- { route: /, choose: [{ when: 'true', path: /other }] }")
        .start()
        .await;
    let form = || edge.request("POST", "/").header("Accept", "text/html,*/*").body("a=b");
    for request in [form(), form().header("Sec-Fetch-Dest", "document")] {
        let page = request.send().await;
        assert!(
            page.text().contains(SNIPPET) && page.text().ends_with("</head>/"),
            "{}",
            page.text()
        );
        assert!(page.cookie("ajs_anonymous_id").is_some());
    }
    let api = edge.request("POST", "/").header("Accept", "*/*").body("{}").send().await;
    assert_eq!(api.text(), "<head></head>/");
    let get = edge.request("GET", "/").header("Accept", "text/html").send().await;
    assert!(get.text().ends_with("</head>/other"));
}

#[tokio::test]
async fn a_broken_origin_gives_an_answer_or_a_clean_close() {
    let origin = Server::start(|asked| match asked.target.as_str() {
        "/damaged" => {
            let numbers: Vec<String> = (0..500).map(|n: u32| n.to_string()).collect();
            let mut body = gzip(&numbers.join(" paragraphs <p>"));
            body.truncate(300);
            body.extend([0xff; 200]);
            Reply::new(200, &["Content-Type: text/html", "Content-Encoding: gzip"], body)
        }
        "/no-gzip" => {
            Reply::new(200, &["Content-Type: text/html", "Content-Encoding: gzip"], [0xff; 200])
        }
        "/short" => Reply(vec![
            Piece::Bytes(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 1000\r\n\r\n<head></head>".to_vec()),
            Piece::Close,
        ]),
        "/garbage" => Reply(vec![Piece::Bytes(b"not http\r\n\r\n".to_vec()), Piece::Close]),
        _ => Reply(vec![Piece::Close]),
    })
    .await;
    let edge = Setup::new(origin.port).start().await;
    // A browser shows what it could unpack.
    let damaged = edge.request("GET", "/damaged").header("Accept", "text/html").send().await;
    assert_eq!(damaged.status, 200);
    let mut shown = Vec::new();
    flate2::read::GzDecoder::new(&damaged.body[..]).read_to_end(&mut shown).unwrap();
    let shown = String::from_utf8_lossy(&shown);
    assert!(shown.contains("0 paragraphs <p>1 paragraphs"), "{shown}");
    for target in ["/no-gzip", "/short"] {
        let mut connection = Connection::open(edge.port).await;
        connection
            .write(edge.request("GET", target).header("Accept-Encoding", "gzip").bytes())
            .await;
        let answer = connection.answer("GET").await;
        let whole = answer.is_some_and(|answer| answer.status != 502);
        assert!(!whole, "{target}: a broken page must not look whole");
    }
    edge.becomes("doorstep_html_rewrites_total", &[("outcome", "broken")], 1.0).await;
    for target in ["/garbage", "/closed"] {
        let answer = edge.get(target).await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (502, Some("text/html; charset=utf-8"))
        );
    }
    let nobody = Setup::new(1).start().await;
    assert_eq!(nobody.get("/").await.status, 502);
}

/// A download that was cut goes on where it was, whatever a navigation asks for; of a page nobody makes a part.
#[tokio::test]
async fn downloads_go_on_and_parts_of_pages_stay_as_they_are() {
    const PART: &str = "HTTP/1.1 206 Partial Content\r\nContent-Type: text/html\r\n\
        Content-Range: bytes 0-5/500\r\nContent-Length: 6\r\nETag: \"x\"\r\n\r\n<head>";
    let origin = Server::start(|_| Reply::raw(PART)).await;
    let edge = Setup::new(origin.port).start().await;
    let request = edge.request("GET", "/big.zip").header("Accept", "text/html,*/*;q=0.8");
    let request = request.header("Sec-Fetch-Dest", "document").header("If-Range", "\"x\"");
    let part = request.header("Range", "bytes=0-5").send().await;
    assert_eq!((part.status, part.text()), (206, "<head>".into()));
    let asked = origin.asked().pop().unwrap();
    assert_eq!(
        (asked.header("range"), asked.header("if-range")),
        (Some("bytes=0-5"), Some("\"x\""))
    );
}

/// What a browser saves, what the origin wants as it is, AMP, and files that are typed as HTML.
#[tokio::test]
async fn what_is_not_shown_as_a_page_stays_as_it_is() {
    let html = "Content-Type: text/html; charset=UTF-8";
    let csv = "id,name\n1,x\n";
    let files: [(&str, &[&str], &[u8]); 9] = [
        ("/csv", &[html, "Content-Disposition: attachment; filename=\"a.csv\""], csv.as_bytes()),
        ("/upper", &[html, "Content-Disposition: ATTACHMENT"], PAGE.as_bytes()),
        ("/unknown", &[html, "Content-Disposition: form-data; name=a"], PAGE.as_bytes()),
        ("/fixed", &[html, "Cache-Control: public, No-Transform", "ETag: \"x\""], PAGE.as_bytes()),
        (
            "/amp",
            &[html],
            b"<!doctype html><html \xe2\x9a\xa1 lang=en><head></head><body></body></html>",
        ),
        ("/amp2", &[html], b"<!doctype html><html amp lang=en><head></head><body></body></html>"),
        ("/pdf", &[html], b"%PDF-1.7\n<head></head>"),
        ("/png", &[html], b"\x89PNG\r\n\x1a\n<head></head>"),
        ("/zip", &[html, "Content-Disposition: inline"], b"PK\x03\x04<head></head>"),
    ];
    let all: Vec<(String, Vec<String>, Vec<u8>)> = files
        .iter()
        .map(|(path, lines, body)| {
            let lines = lines.iter().map(|line| (*line).to_owned()).collect();
            ((*path).to_owned(), lines, body.to_vec())
        })
        .collect();
    let origin = Server::start(move |asked| {
        let found = all.iter().find(|(path, ..)| *path == asked.target);
        let Some((_, lines, body)) = found else {
            return Reply::new(
                200,
                &["Content-Type: text/html", "Content-Disposition: inline"],
                PAGE,
            );
        };
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        Reply::new(200, &lines, body.clone())
    })
    .await;
    let edge = Setup::new(origin.port).start().await;
    for (path, _, body) in files {
        let request = edge.request("GET", path).header("Accept", "text/html,*/*;q=0.8");
        let answer = request.header("Sec-Fetch-Dest", "document").send().await;
        assert_eq!((answer.status, &*answer.body), (200, body), "{path}");
    }
    edge.becomes("doorstep_html_rewrites_total", &[("outcome", "no_document")], 5.0).await;
    assert!(edge.get("/shown").await.text().contains(SNIPPET));
}

/// Scripts that navigate get what a browser gets; parts of a page stay parts, with and without `Sec-Fetch-Dest`.
#[tokio::test]
async fn fragments_get_no_snippet_and_whole_documents_do() {
    const FRAGMENT: &str = "<li>one</li><li>two</li>";
    let document = format!("<!doctype html><html>{PAGE}</html>");
    let own = document.clone();
    let origin = Server::start(move |asked| {
        Reply::html(if asked.target == "/list" { FRAGMENT.to_owned() } else { own.clone() })
    })
    .await;
    let edge = Setup::new(origin.port).site("inject: { also: [/app/**] }").start().await;
    let (html, any) = (("Accept", "text/html,*/*;q=0.8"), ("Accept", "*/*"));
    let fetched = ("Sec-Fetch-Dest", "empty");
    for (headers, whole) in [
        (&[any][..], true),
        (&[], true),
        (&[html, fetched], true),
        (&[any, ("HX-Request", "true"), ("HX-Boosted", "true")], true),
        (&[any, fetched, ("X-Up-Version", "3.10.2")], true),
        (&[any, ("HX-Request", "true"), ("HX-Target", "list")], false),
        (&[html, fetched, ("Turbo-Frame", "list")], false),
        (&[html, ("X-PJAX", "true")], false),
        (&[html, ("X-Requested-With", "XMLHttpRequest")], false),
        (&[any, fetched, ("RSC", "1")], false),
        (&[any, fetched], false),
    ] {
        let get = |path: &str| {
            let request = edge.request("GET", path);
            headers
                .iter()
                .fold(request, |request, (name, value)| request.header(name, value))
                .send()
        };
        assert_eq!(get("/list").await.text(), FRAGMENT, "{headers:?}");
        let page = get("/").await;
        assert_eq!(page.text().contains(SNIPPET), whole, "{headers:?}");
        assert!(whole || page.text() == document, "{headers:?}");
        assert!(page.all("vary").join(", ").contains("Sec-Fetch-Dest") || headers.len() < 2);
    }
    // The shell of an app, which a service worker stores.
    let shell = edge.request("GET", "/app/shell").header("Accept", "*/*");
    let shell = shell.header("Sec-Fetch-Dest", "empty").send().await;
    assert!(
        shell.text().contains(SNIPPET)
            && shell.header("cache-control") == Some("private, no-cache")
    );
}
