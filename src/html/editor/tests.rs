use std::fmt::Write;

use proptest::prelude::*;

use super::*;
use crate::html::select::Select;

fn edit(select: &str, changes: Vec<Change>) -> Edit {
    let select = Arc::new(Select::parse(select).unwrap());
    Edit::new(select, changes)
}

fn through(page: &[u8], edits: &[Edit], size: usize) -> (Vec<u8>, Editor) {
    let (mut editor, mut out) = (Editor::new(edits.to_vec()), Vec::new());
    for chunk in page.chunks(size) {
        editor.push(chunk, &mut out).unwrap();
    }
    editor.end(&mut out).unwrap();
    (out, editor)
}

fn made(page: &str, select: &str, change: Change) -> String {
    let (out, _) = through(page.as_bytes(), &[edit(select, vec![change])], 7);
    String::from_utf8(out).unwrap()
}

#[test]
fn every_change_is_made() {
    for (page, select, change, expected) in [
        (
            "<p>a<b>c</b></p>",
            "p",
            Change::Text("<x> & \u{fc}".into()),
            "<p>&lt;x&gt; &amp; &#252;</p>",
        ),
        ("<p>a</p>", "p", Change::Html("<b>\u{fc}</b>".into()), "<p><b>&#252;</b></p>"),
        (
            "<a href=x title='a\"b'>",
            "a",
            Change::Attribute("href".into(), "/\"'<&>".into()),
            "<a href=\"/&quot;&#39;&lt;&amp;&gt;\" title='a\"b'>",
        ),
        ("<a href=x id=y>", "a", Change::NoAttribute("href".into()), "<a id=\"y\">"),
        ("<a class='b  c'>", "a", Change::Class("d b".into()), "<a class=\"b c d\">"),
        ("<a>", "a", Change::Class("d".into()), "<a class=\"d\">"),
        ("<a class='b c'>", "a", Change::NoClass("b x".into()), "<a class=\"c\">"),
        ("<p>", "p", Change::Style("color".into(), "red".into()), "<p style=\"color: red\">"),
        (
            "<p style='top:1px;'>",
            "p",
            Change::Style("color".into(), "red".into()),
            "<p style=\"top:1px; color: red\">",
        ),
        ("<p>", "p", Change::Hide, "<p style=\"display: none !important\">"),
        ("a<p>b</p>c", "p", Change::Remove, "ac"),
        ("<p>b</p>", "p", Change::Before("<i>".into()), "<i><p>b</p>"),
        ("<p>b</p>", "p", Change::Prepend("<i>".into()), "<p><i>b</p>"),
        ("<p>b</p>", "p", Change::Append("<i>".into()), "<p>b<i></p>"),
        ("<p>b</p>", "p", Change::After("<i>".into()), "<p>b</p><i>"),
        ("<script>a</script>", "script", Change::Text("b".into()), "<script>a</script>"),
        (
            "<script type=application/json>a</script>",
            "script",
            Change::Json("{}".into()),
            "<script type=application/json>{}</script>",
        ),
        ("<script>a</script>", "script", Change::Json("{}".into()), "<script>a</script>"),
        (
            "<img src=a.png srcset='b.png 1x, /c.png 2x'><a href='#x'>",
            crate::html::LINKED,
            Change::LinksFrom("/red/".into()),
            "<img src=\"/red/a.png\" srcset=\"/red/b.png 1x, /c.png 2x\"><a href='#x'>",
        ),
        (
            "<p title='\u{e9}'>",
            "[title='\u{e9}']",
            Change::Class("x".into()),
            "<p title='\u{e9}' class=\"x\">",
        ),
    ] {
        // Attributes that are not touched may be written anew; the browser reads the same.
        let got = made(page, select, change);
        let plain = |text: &str| text.replace(['"', '\''], "").replace("&quot;", "");
        assert_eq!(plain(&got), plain(expected), "{page}");
    }
}

#[test]
fn parsing_ends_with_the_last_possible_match() {
    let page = format!("<p id=a>x</p><p id=b>y</p>{}", "<i>tail</i>".repeat(5000));
    let edits =
        [edit("#a", vec![Change::Text("1".into())]), edit("#b", vec![Change::Class("c".into())])];
    let mut editor = Editor::new(edits.to_vec());
    let mut out = Vec::new();
    editor.push(&page.as_bytes()[..10_000], &mut out).unwrap();
    assert!(editor.is_over());
    editor.push(&page.as_bytes()[10_000..], &mut out).unwrap();
    editor.end(&mut out).unwrap();
    let expected = page.replace(">x<", ">1<").replace("id=b", "id=b class=\"c\"");
    assert_eq!(String::from_utf8(out).unwrap(), expected);
    assert_eq!(editor.changed(), 2);

    let (_, open) = through(page.as_bytes(), &[edit("i", vec![Change::Class("c".into())])], 1000);
    assert_eq!(open.changed(), 5000);
    let first = Edit { first: true, ..edit("i", vec![Change::Class("c".into())]) };
    let (out, editor) = through(page.as_bytes(), &[first], 1000);
    assert_eq!(editor.changed(), 1);
    assert_eq!(out.len(), page.len() + " class=\"c\"".len());
}

#[test]
fn a_tag_too_long_to_be_held_ends_nothing() {
    let x = "x".repeat(700_000);
    for (long, tail) in [
        (format!("<img title='>{x}' class=a>"), ""),
        (format!("<div title=\">{x}\" class=a>"), "</div>"),
        (format!("<!-- {x}> -->"), ""),
        (format!("<?{x}?>"), ""),
        (format!("<p title={x}>"), ""),
        (format!("<textarea title='{x}'><li>"), "</textarea>"),
        (format!("<svg><path d='{x}'/><g>"), "</g></svg>"),
        (format!("<svg><![CDATA[ > {x}]]>"), "</svg>"),
        (format!("<template title='{x}'><li>"), "</template>"),
        (format!("<script>{x}<!-- {x}"), "</script>"),
        (format!("<style title='{x}'>{x}"), "</style >"),
        (format!("</html title='{x}'>"), ""),
    ] {
        let page = format!("<body><ul><li>a<li>b{long}{tail}<li>c</ul></body>");
        let followed = !long.starts_with("</");
        for size in [5000, 1 << 21] {
            let append = Change::Append("<i>".into());
            let (out, editor) = through(page.as_bytes(), &[edit("li", vec![append])], size);
            let out = String::from_utf8(out).unwrap();
            let expected = format!("<body><ul><li>a<i><li>b{long}{tail}<i><li>c<i></ul></body>");
            assert_eq!(editor.gave_up(), !followed, "{}", &long[..20]);
            assert!(!followed || out == expected, "{} {}", &long[..20], out.replace(&x, "x"));
            assert_eq!(out.replace("<i>", ""), page, "{}", &long[..20]);
            let classed = edit(".gone", vec![Change::Remove]);
            let page = page.replace("<li>b", "<li><b class=gone>b").replace("<li>c", "</b><li>c");
            let (out, _) = through(page.as_bytes(), &[classed], size);
            let out = String::from_utf8(out).unwrap();
            assert_eq!(out, "<body><ul><li>a<li><li>c</ul></body>", "{}", &long[..20]);
        }
    }
    // Up to 256 KiB it is looked at.
    let page = format!("<p>a</p><a title='{}' class=b>b</a>", "x".repeat(250_000));
    let (out, editor) = through(page.as_bytes(), &[edit(".b", vec![Change::Hide])], 3000);
    assert!(String::from_utf8(out).unwrap().contains(" style=") && !editor.gave_up());
}

#[test]
fn where_a_page_is_too_deep_what_goes_still_goes() {
    let deep = |name: &str, depth: usize| format!("<{name}>").repeat(depth);
    let ends = |name: &str, depth: usize| format!("</{name}>").repeat(depth);
    for name in ["div", "b", "section"] {
        let inner = format!("{}secret{}", deep(name, 5000), ends(name, 5000));
        let page = format!(
            "<body><p><div class=x>{inner}<!-- </div> --><script>'</div>'</script></div><p>a</body>b"
        );
        for (change, made) in [
            (Change::Remove, "<body><p><p>a</body>b"),
            (Change::Text("t".into()), "<body><p><div class=x>t</div><p>a</body>b"),
            (Change::Html("<i>".into()), "<body><p><div class=x><i></div><p>a</body>b"),
        ] {
            for size in [37, 100_000] {
                let (out, editor) =
                    through(page.as_bytes(), &[edit(".x", vec![change.clone()])], size);
                assert_eq!(String::from_utf8(out).unwrap(), made, "{name} {size}");
                assert!(!editor.gave_up());
            }
        }
    }
    // One that has no end tag goes up to the end of the page.
    let page = format!("<body><li class=x>{}secret</body>", deep("div", 5000));
    let (out, _) = through(page.as_bytes(), &[edit(".x", vec![Change::Remove])], 64);
    assert_eq!(String::from_utf8(out).unwrap(), "<body></body>");
}

#[test]
fn a_page_that_is_given_up_on_comes_out_whole() {
    let mut deep = String::new();
    for depth in 0..200_000 {
        let _ = write!(deep, "<b{depth}>");
    }
    for select in ["i b1 b2", "b1, #x"] {
        let change = Change::Append("<i>".into());
        let (out, editor) = through(deep.as_bytes(), &[edit(select, vec![change])], 4096);
        assert!(out == deep.as_bytes() && editor.gave_up());
    }
}

/// What a page may be made of.
const PIECES: [&[u8]; 16] = [
    b"<p id=a class=x>",
    b"</p>",
    b"<a href=\"x\">",
    b"</a>",
    b"text",
    b"<!-- <p> -->",
    b"<script><p></script>",
    b"<",
    b"<textarea><p></textarea>",
    b"\xff\xe9",
    b"<p",
    b"\"",
    b"<svg><p/></svg>",
    b"<table><p>",
    b"\0",
    b"<p id='",
];

proptest! {
    /// However a page comes, and whatever bytes it has, the same comes out; and where nothing matches,
    /// what went in.
    #[test]
    fn chunks_do_not_matter(
        page in proptest::collection::vec(
            proptest::sample::select(PIECES.to_vec()),
            0..30,
        ),
        size in 1_usize..20,
    ) {
        let page = page.concat();
        let edits = [
            edit("p", vec![Change::Text("t".into()), Change::Class("k".into())]),
            edit("#a", vec![Change::Before("<i>".into()), Change::Hide]),
            edit("a[href]", vec![Change::Remove]),
        ];
        let (whole, _) = through(&page, &edits, page.len().max(1));
        let (pieces, _) = through(&page, &edits, size);
        prop_assert_eq!(whole, pieces);
        let (same, _) = through(&page, &[edit("nothing", vec![Change::Hide])], size);
        prop_assert_eq!(same, page);
    }
}
