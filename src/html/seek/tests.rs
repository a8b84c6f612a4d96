use std::sync::Arc;

use proptest::prelude::*;

use super::{Seeker, Sought};
use crate::html::edit::{Change, Edit, Select};
use crate::html::editor::Editor;

fn edits() -> Vec<Edit> {
    let edit = |id: &str, changes| Edit::new(Arc::new(Select::parse(id).unwrap()), changes);
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
    ]
}

fn seeker(edits: Vec<Edit>) -> Seeker {
    Seeker::new(edits).map_err(|_| "can't be sought").unwrap()
}

/// What a browser's parser sees of what comes of `page`.
fn made(page: &[u8], edits: Vec<Edit>, size: usize) -> String {
    let (mut editor, mut out) = (Editor::new(edits), Vec::new());
    for chunk in page.chunks(size) {
        editor.push(chunk, &mut out).unwrap();
    }
    editor.end(&mut out).unwrap();
    let text = String::from_utf8_lossy(&out).into_owned();
    scraper::Html::parse_document(&text).html()
}

const PIECES: [&str; 51] = [
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
];

#[test]
fn plain_pages_need_no_parser() {
    let page = "<!doctype html><html><head><title>x</title></head><body><div><p id=a class=z>1<i>2</i></p>\
        <p id=b>x</p><section id=c><p>3</p></section><span id=d x=1>s</span><em id=e>4</em></div></body></html>";
    let mut out = Vec::new();
    assert_eq!(seeker(edits()).push(page.as_bytes(), &mut out), Sought::Done);
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
    let edit = |id: &str, change| Edit::new(Arc::new(Select::parse(id).unwrap()), vec![change]);
    let edits = vec![
        edit("#main-content", Change::Class("red".into())),
        edit("#copy-path", Change::Text("x".into())),
        edit("#rustdoc-toc", Change::Hide),
    ];
    let (mut seeker, mut out) = (seeker(edits), Vec::new());
    // As it comes from a socket: what is plain goes out at once.
    assert_eq!(seeker.push(&page[..4000], &mut out), Sought::More);
    assert!(out.len() > 3000);
    assert_eq!(seeker.push(&page[4000..], &mut out), Sought::Done);
    assert!(out.ends_with(&page[20_000..]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    /// Whichever of the two makes it, a browser sees the same.
    #[test]
    fn the_parser_would_have_made_the_same(
        pieces in proptest::collection::vec(proptest::sample::select(PIECES.to_vec()), 0..14),
        size in 1_usize..60,
    ) {
        let page = pieces.concat();
        // Those that the page may have: with one more, the parser would always be asked.
        let found = |edit: &Edit| page.contains(&format!("id={}", edit.select.id().unwrap()));
        let edits: Vec<Edit> = edits().into_iter().filter(found).collect();
        let sought = |size| made(page.as_bytes(), edits.clone(), size);
        // A change that can't be sought leaves all to the parser.
        let mut with_more = edits.clone();
        let nothing = Arc::new(Select::parse("nothing").unwrap());
        with_more.push(Edit::new(nothing, vec![Change::Hide]));
        let parsed = made(page.as_bytes(), with_more, page.len().max(1));
        prop_assert_eq!(&parsed, &sought(page.len().max(1)), "{}", page);
        prop_assert_eq!(&parsed, &sought(1), "{}", page);
        prop_assert_eq!(&parsed, &sought(size), "{}", page);
    }
}
