use memchr::memmem;
use proptest::prelude::*;

use super::*;

fn markup() -> Markup {
    Markup {
        keep: None,
        script: "S".into(),
        path: "/seg/snippet.js".into(),
        csp: Csp::default(),
        own: OwnFiles { host: "shop.example".into(), port: None, below: "/seg/".into() },
    }
}

fn inject(chunks: &[&[u8]]) -> (Vec<u8>, Option<Rewrite>) {
    let mut injector = Injector::new(markup());
    let mut out = Vec::new();
    for chunk in chunks {
        injector.push(chunk, &mut out);
    }
    injector.end(&mut out);
    (out, injector.outcome())
}

const S: &str = "<script>S</script>";

#[test]
fn the_snippet_has_one_place() {
    for (page, rewrite) in [
        ("<html><head><title>t</title>|</head><body>x</body></html>", Rewrite::Injected),
        ("<!doctype html><HTML><HEAD\n>|</HEAD ><body>", Rewrite::Injected),
        ("<head><script>'</head>'</script><!-- </head> -->|</head>", Rewrite::Injected),
        ("<head><title></head></title>|</head>", Rewrite::Injected),
        ("<head><style>a</style>|<body class='a>b'>x", Rewrite::Injected),
        ("<title>t</title>|<p>x", Rewrite::Injected),
        (" \n<!-- c -->|Hello <b>x</b>", Rewrite::Injected),
        ("<html>|<body>x", Rewrite::Injected),
        ("<head><template><p>x</p></template>|</head>", Rewrite::Injected),
        ("<head><template><p>x</p></head><body><p>y</body>", Rewrite::NoPlace),
        ("<head><title>SNIPPET_VERSION</title>|</head>", Rewrite::Injected),
        ("<head><noscript><img src=x></noscript>|</head>", Rewrite::Injected),
        ("<head><link a='</head>'>|</head>", Rewrite::Injected),
        ("<header>|".trim_end_matches('|'), Rewrite::Injected),
        ("", Rewrite::NoPlace),
        ("<title>only</title>", Rewrite::NoPlace),
        ("<head><script>analytics.SNIPPET_VERSION='4'</script></head><body>", Rewrite::Present),
        (
            "<head><script src='https://cdn.segment.com/analytics.js/v1/k/analytics.min.js'></script></head>",
            Rewrite::Present,
        ),
    ] {
        let expected = match page {
            "<header>" => format!("{S}<header>"),
            page => page.replace('|', S),
        };
        let page = page.replace('|', "");
        let (out, outcome) = inject(&[page.as_bytes()]);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        assert_eq!(outcome, Some(rewrite), "{page}");
    }
}

#[test]
fn a_policy_in_the_page_counts() {
    let page =
        "<head><meta http-equiv=Content-Security-Policy content=\"script-src 'self', x\"></head>";
    let (out, outcome) = inject(&[page.as_bytes()]);
    assert_eq!(outcome, Some(Rewrite::External));
    let out = String::from_utf8(out).unwrap();
    assert!(
        out.contains("<script src=\"//shop.example/seg/snippet.js\"></script></head>"),
        "{out}"
    );
    let page = "<head><meta http-equiv=content-security-policy content=\"script-src &#39;none&#39;\"></head>";
    let (out, outcome) = inject(&[page.as_bytes()]);
    assert_eq!((out, outcome), (page.into(), Some(Rewrite::Forbidden)));
}

#[test]
fn nothing_is_parsed_behind_the_snippet() {
    let mut injector = Injector::new(markup());
    let mut out = Vec::new();
    injector.push(b"<head></head><body>", &mut out);
    assert!(matches!(injector.parser, Parsing::Over));
    injector.push(b"<head></head>", &mut out);
    assert_eq!(out, format!("<head>{S}</head><body><head></head>").into_bytes());
}

#[test]
fn a_tag_without_end_costs_the_snippet_and_not_the_page() {
    let mut page = b"<head><title>t</title><meta content='".to_vec();
    page.extend(std::iter::repeat_n(b'x', 2 * MAX_PARSER_BYTES));
    page.extend_from_slice(b"'></head><body>");
    for size in [1000, 1 << 20] {
        let chunks: Vec<&[u8]> = page.chunks(size).collect();
        assert_eq!(inject(&chunks), (page.clone(), Some(Rewrite::GaveUp)));
    }
}

#[test]
fn bytes_of_any_encoding_stay_as_they_are() {
    let page = b"<head><title>\xff\xfe\x81\x00 \x8d</title></head>\xe4\xf6\xfc<p>\xf0\x9f";
    let (out, outcome) = inject(&[page]);
    assert_eq!(outcome, Some(Rewrite::Injected));
    let out: Vec<u8> = {
        let at = memmem::find(&out, S.as_bytes()).unwrap();
        [&out[..at], &out[at + S.len()..]].concat()
    };
    assert_eq!(out, page);
    let utf16 = b"\xff\xfe<\0p\0>\0";
    assert_eq!(inject(&[utf16]), (utf16.to_vec(), Some(Rewrite::Unreadable)));
}

fn page() -> impl Strategy<Value = Vec<u8>> {
    let part = prop::sample::select(vec![
        "<head>",
        "</head>",
        "<body a='>'>",
        "<title>",
        "</title>",
        "<!--",
        "-->",
        "<script>",
        "</script>",
        "<template>",
        "</template>",
        "<p>",
        "text",
        " ",
        "\n",
        "<",
        ">",
        "'",
        "<select><xmp>",
        "</head",
        "<meta charset=utf-8>",
        "<svg><title>",
        "]]>",
        "<![CDATA[",
        "<plaintext>",
        "\u{fc}",
        "&lt;",
        "</body></html>",
        "<!doctype html>",
        "<HEAD\n>",
        "<html lang=en>",
        "<link rel=x href='a>b'>",
        "<meta name=\"a\" content=b/>",
        "<meta http-equiv=x>",
        "<noscript>",
        "</noscript>",
        "<style>",
        "</style >",
        "<script src='</head>'>",
        "</SCRIPT>",
        "<base/href>",
        "</head\t>",
        "</headx>",
        "\t",
        "=\"",
        "--!>",
        "<?x?>",
        "<!x>",
        "</ head>",
        "<heads>",
        "<img/>",
        "SNIPPET_VERSION",
    ]);
    prop::collection::vec(part, 0..24).prop_map(|parts| parts.concat().into_bytes())
}

/// A page as a browser without scripts builds it, without the snippet.
fn tree(page: &[u8]) -> String {
    let mut html = scraper::Html::parse_document(&String::from_utf8_lossy(page));
    let script = scraper::Selector::parse("script").unwrap();
    let own: Vec<_> = html.select(&script).filter(|found| found.inner_html() == "S").collect();
    let own: Vec<_> = own.iter().map(|found| found.id()).collect();
    for id in own {
        html.tree.get_mut(id).unwrap().detach();
    }
    html.html()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    /// The page beside the snippet is the origin's, in its bytes and as a browser builds it.
    #[test]
    fn a_page_beside_its_snippet_is_the_same(page in page(), size in 1usize..40) {
        let (out, outcome) = inject(&page.chunks(size).collect::<Vec<_>>());
        let added = usize::from(outcome == Some(Rewrite::Injected)) * S.len();
        prop_assert_eq!(out.len(), page.len() + added);
        let text = String::from_utf8_lossy(&out).into_owned();
        let page_text = String::from_utf8_lossy(&page).into_owned();
        prop_assert_eq!(text.replacen(S, "", 1), page_text.clone());
        // With scripts, what is in `noscript` is text.
        if !page_text.contains("noscript") {
            prop_assert_eq!(tree(&out), tree(&page), "{} of {}", text, page_text);
        }
    }
}

proptest! {
    /// However a page is cut into chunks, the same bytes come out.
    #[test]
    fn chunking_does_not_matter(page in page(), cuts in prop::collection::vec(1usize..20, 1..40)) {
        let whole = inject(&[&page]);
        let mut chunks = Vec::new();
        let mut rest = &page[..];
        for cut in cuts.iter().cycle() {
            if rest.is_empty() { break; }
            let (chunk, behind) = rest.split_at((*cut).min(rest.len()));
            chunks.push(chunk);
            rest = behind;
        }
        prop_assert_eq!(inject(&chunks), whole);
    }

    /// What is found without the parser is where the parser finds it.
    #[test]
    fn the_short_way_leads_to_the_same_place(page in page()) {
        let mut injector = Injector::new(markup());
        injector.parser = Parsing::Now(Box::new(Mutex::new(parser(&injector.state))));
        let mut out = Vec::new();
        injector.push(&page, &mut out);
        injector.end(&mut out);
        prop_assert_eq!(inject(&[&page]), (out, injector.outcome()));
    }

    /// The page itself is never changed: without the snippet it is what came.
    #[test]
    fn only_the_snippet_is_added(page in prop::collection::vec(any::<u8>(), 0..300)) {
        let (out, outcome) = inject(&[&page]);
        let without = match memmem::find(&out, S.as_bytes()) {
            Some(at) if outcome == Some(Rewrite::Injected) => [&out[..at], &out[at + S.len()..]].concat(),
            _ => out,
        };
        prop_assert_eq!(without, page);
    }
}
