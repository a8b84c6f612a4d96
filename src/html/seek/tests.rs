use std::sync::Arc;

use proptest::prelude::*;

use super::{Places, Seeker, Standing};
use crate::html::edit::{Change, Edit};
use crate::html::editor::Editor;
use crate::html::links::LINKED;
use crate::html::select::Select;

fn edit(select: &str, changes: Vec<Change>) -> Edit {
    Edit::new(Arc::new(Select::parse(select).unwrap()), changes)
}

fn edits() -> Vec<Edit> {
    vec![
        edit("#a", vec![Change::Text("<t>".into()), Change::Class("k".into())]),
        edit(
            "#b",
            vec![
                Change::Before("<i>n</i>".into()),
                Change::Hide,
                Change::Attribute("title".into(), "\"q'".into()),
            ],
        ),
        edit("#c", vec![Change::Remove]),
        edit(
            "#d",
            vec![
                Change::Prepend("<u>p</u>".into()),
                Change::NoAttribute("x".into()),
                Change::NoClass("y".into()),
            ],
        ),
        edit(
            "#e",
            vec![Change::Html("<b>h</b>".into()), Change::Style("color".into(), "red".into())],
        ),
        edit("body", vec![Change::Prepend("<hr>".into()), Change::Append("<hr>".into())]),
        edit("h1", vec![Change::Text("t".into())]),
        Edit { first: true, ..edit("p", vec![Change::Append("<i>".into())]) },
        edit(".k", vec![Change::Attribute("TITLE".into(), "\u{e9}".into())]),
        edit("p.z", vec![Change::Hide, Change::After("<b>\u{e9}</b>".into())]),
        edit("ul .y", vec![Change::Before("1".into()), Change::After("2".into())]),
        edit("ul > li", vec![Change::Class("q".into()), Change::Before("3".into())]),
        edit("div *", vec![Change::Style("top".into(), "0".into())]),
        Edit { first: true, ..edit("div p, main h1", vec![Change::Html("x".into())]) },
        edit("[data-x='1 2'], my-box", vec![Change::NoAttribute("data-x".into())]),
        edit(LINKED, vec![Change::LinksFrom("/f/".into())]),
        edit(".y", vec![Change::Remove, Change::Before("4".into()), Change::After("5".into())]),
        edit("script", vec![Change::Attribute("nonce".into(), "1".into())]),
        edit("script, style", vec![Change::Append("x".into()), Change::Prepend("<i>".into())]),
        edit(
            "textarea, title",
            vec![Change::Append("8".into()), Change::Text("\u{1b}\r\0".into())],
        ),
        edit("img", vec![Change::After("6".into()), Change::Prepend("7".into())]),
        edit("nothing", vec![Change::Hide]),
    ]
}

fn seeker(edits: Vec<Edit>) -> Seeker {
    Seeker::new(edits).map_err(|_| "can't be sought").unwrap()
}

fn made(page: &[u8], mut editor: Editor, size: usize) -> (String, usize) {
    let mut out = Vec::new();
    for chunk in page.chunks(size) {
        editor.push(chunk, &mut out).unwrap();
    }
    editor.end(&mut out).unwrap();
    (String::from_utf8_lossy(&out).into_owned(), editor.changed())
}

const PIECES: &[&str] = &[
    "<p id=a class='k z'>",
    "<div id=\"a\">",
    "</p>",
    "</div>",
    "<p ID='b' style='top:1px;'>",
    "<img id=b>",
    "<br id=a />",
    "<section id=c>",
    "</section>",
    "<span id=d x=1 class='y z'>",
    "</span>",
    "<em id=e>",
    "</em>",
    "<p>",
    "<div>",
    "<br>",
    "text",
    "<",
    "< ",
    "<3",
    "<!-- <p id=a> -->",
    "<!-->",
    "<!--",
    "-->",
    "<script>'<p id=a>'</script>",
    "<script><!-- </script>",
    "<style><p id=b></style>",
    "<textarea><p id=c></textarea>",
    "<textarea id=a>x</textarea>",
    "<title>t</title>",
    "<svg><p id=a></svg>",
    "<svg viewBox=x><path id=b /><g></g></svg>",
    "<svg/>",
    "<svg class=y><title>t</title><linearGradient id=a /><style>a>b</style><a class=k>",
    "<svg><desc>d",
    "</title>",
    "</desc>",
    "<text>",
    "</text>",
    "<font>",
    "<script><!-- x --></script>",
    "<script><!-- <script> --></script>",
    "<script><!-- </script> -->",
    "<script>a<!b <!--> <!---></script>",
    "<script>'<!--",
    "<svg><g>",
    "</svg>",
    "<template><p id=d></p></template>",
    "<noscript><p id=e></noscript>",
    "<noscript>",
    "</noscript>",
    "<iframe><p id=a></iframe>",
    "<!doctype html>",
    "<?php <p id=a> ?>",
    "<p id = a>",
    "<p id=a",
    ">",
    "\"",
    "<a title='>' id=d>",
    "</a>",
    "<p id=a id=b>",
    "<p/id=a>",
    "</p id=a>",
    "<ul class=k><li id=d>",
    "<LI data-x='1 2' class=\"z  y\"/>",
    "</li>",
    "</UL>",
    "<h1>",
    "</h1>",
    "<my-box data-x>",
    "</My-Box>",
    "<body class=z><main>",
    "</main></body>",
    "<select><option class=y>",
    "</select>",
    "<a href=x.png class=y>",
    "<a href='/x'id=e src=\"y\">",
    "<script data-x src=a>",
    "</script>",
    "\u{e9}",
    "<p title='\u{e9}' style='x:\u{e0}'>",
    "<!-- x -->",
    "<math><mi id=a></math>",
];

#[test]
fn plain_pages_need_no_parser() {
    let page = "<!doctype html><html><head><title>x</title></head><body><div><p id=a class=z>1<i>2</i></p>\
        <p id=b>x</p><section id=c><p>3</p></section><span id=d x=1>s</span><em id=e>4</em></div></body></html>";
    let mut out = Vec::new();
    let ids = edits().into_iter().take(5).collect();
    assert_eq!(seeker(ids).push(page.as_bytes(), &mut out), Standing::Done);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "<!doctype html><html><head><title>x</title></head><body><div><p id=a class=\"z k\">&lt;t&gt;</p>\
        <i>n</i><p id=b style=\"display: none !important\" title=\"&quot;q&#39;\">x</p><span id=d><u>p</u>s</span>\
        <em id=e style=\"color: red\"><b>h</b></em></div></body></html>"
    );
}

#[test]
fn a_real_page_is_plain_enough() {
    let page = include_bytes!("../../../benches/data/40k.html");
    let edits = vec![
        edit("#main-content", vec![Change::Class("red".into())]),
        edit("#copy-path", vec![Change::Text("x".into())]),
        edit("#rustdoc-toc", vec![Change::Hide]),
    ];
    let (mut ids, mut out) = (seeker(edits), Vec::new());
    // As it comes from a socket: what is plain goes out at once.
    assert_eq!(ids.push(&page[..4000], &mut out), Standing::More);
    assert!(out.len() > 3000);
    assert_eq!(ids.push(&page[4000..], &mut out), Standing::Done);
    assert!(out.ends_with(&page[20_000..]));

    let edits = vec![
        edit("h1", vec![Change::Text("x".into())]),
        edit("section > h2 a", vec![Change::Class("red".into())]),
        edit(".src", vec![Change::Hide]),
    ];
    let (mut all, mut out) = (seeker(edits.clone()), Vec::new());
    assert_eq!(all.push(page, &mut out), Standing::More);
    let through = out.len();
    all.end(&mut out);
    assert_eq!(out.len(), through);
    let (parsed, changed) = made(page, Editor::parsed(&edits), 4096);
    assert!(changed > 10);
    assert_eq!((String::from_utf8(out).unwrap(), all.changed()), (parsed, changed));
}

/// What a page that has been seen becomes with `edits`, and whether it was taken for that page.
fn again(page: &[u8], places: Arc<Places>, edits: &[Edit], size: usize) -> ((String, usize), bool) {
    let (mut editor, mut out) = (Editor::new(edits.to_vec()).with_places(Some(places)), Vec::new());
    for chunk in page.chunks(size) {
        editor.push(chunk, &mut out).unwrap();
    }
    editor.end(&mut out).unwrap();
    ((String::from_utf8_lossy(&out).into_owned(), editor.changed()), !editor.gave_up())
}

/// Without those in tags, which mean nothing.
fn without_spaces(mut page: String) -> String {
    while page.contains(" >") {
        page = page.replace(" >", ">");
    }
    page
}

fn learned(page: &[u8], edits: &[Edit]) -> Option<Arc<Places>> {
    let (mut editor, mut out) = (Editor::new(edits.to_vec()).with_places(None), Vec::new());
    page.chunks(7).for_each(|chunk| editor.push(chunk, &mut out).unwrap());
    editor.end(&mut out).unwrap();
    editor.learned().map(Arc::clone)
}

#[test]
fn a_page_that_is_not_the_one_after_all_passes_as_it_is() {
    let edits = [edit(".k", vec![Change::Hide]), edit("h1", vec![Change::Text("t".into())])];
    let page = b"<body><p class=k>a</p><h1>b</h1><p>c";
    let places = learned(page, &edits).unwrap();
    assert!(places.size() > 100);
    let hidden = "<p class=k style=\"display: none !important\">";
    for (other, expected, same) in [
        (
            "<body><p class=k>a</p><h1>b</h1><p>c",
            format!("<body>{hidden}a</p><h1>t</h1><p>c"),
            true,
        ),
        (
            "<body><p class=k>z</p><h1>y</h1><p>x",
            format!("<body>{hidden}z</p><h1>t</h1><p>x"),
            true,
        ),
        (
            "<body><p class=x>a</p><h1>b</h1><p>c",
            "<body><p class=x>a</p><h1>b</h1><p>c".into(),
            false,
        ),
        (
            "<body><p class=k>a</p><hr>b</h1><p>c",
            format!("<body>{hidden}a</p><hr>b</h1><p>c"),
            false,
        ),
        ("<body><p class=k>a</p><h1", format!("<body>{hidden}a</p><h1"), false),
        (
            "<body><p class=k>a</p><h1>bc</h1><p>",
            format!("<body>{hidden}a</p><h1>tbc</h1><p>"),
            false,
        ),
        ("<body><p class=k>a</p><h1>b</", format!("<body>{hidden}a</p><h1>tb</"), false),
        ("<body><p cl", "<body><p cl".into(), false),
        ("", String::new(), false),
    ] {
        for size in [1, 3, 100] {
            let grows = Editor::new(edits.to_vec()).with_places(Some(Arc::clone(&places))).grows();
            let ((out, _), taken) = again(other.as_bytes(), Arc::clone(&places), &edits, size);
            // More than was promised could not be sent.
            assert!(out.len() <= other.len().strict_add_signed(grows.unwrap()), "{other}");
            assert_eq!((&without_spaces(out), taken), (&expected, same), "{other} {size}");
        }
    }
    // Other edits find other elements: it is read.
    let others =
        [edit(".k", vec![Change::Hide]), edit("h1", vec![Change::Custom(Arc::new(|_| ()))])];
    let ((out, _), _) = again(page, places, &others, 9);
    assert_eq!(out, format!("<body>{hidden}a</p><h1>b</h1><p>c"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    /// Whichever of the two makes it, it is the same.
    #[test]
    fn the_parser_would_have_made_the_same(
        pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..25),
        edits in proptest::sample::subsequence(edits(), 1..4),
        size in 1_usize..60,
    ) {
        let page = pieces.concat();
        let parsed = made(page.as_bytes(), Editor::parsed(&edits), page.len().max(1));
        for size in [page.len().max(1), 1, size] {
            let sought = made(page.as_bytes(), Editor::new(edits.clone()), size);
            prop_assert_eq!(&parsed, &sought, "{} of {:?} in {}", size, edits, page);
            if let Some(places) = learned(page.as_bytes(), &edits) {
                let editor = Editor::new(edits.clone()).with_places(Some(Arc::clone(&places)));
                let grows = editor.grows();
                let (mut again, taken) = again(page.as_bytes(), places, &edits, size);
                if let Some(grows) = grows {
                    prop_assert_eq!(again.0.len(), page.len().strict_add_signed(grows), "{}", page);
                }
                again.0 = without_spaces(again.0);
                let parsed = (without_spaces(parsed.0.clone()), parsed.1);
                prop_assert_eq!((&parsed, true), (&again, taken), "{} again", page);
            }
        }
    }
}
