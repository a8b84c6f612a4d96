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
            // The end of a page ends what a rule removes.
            let end = if followed { String::new() } else { format!("{long}</b>") };
            let expected = format!("<body><ul><li>a<li>{end}<li>c</ul></body>");
            assert!(out == expected, "{}", &long[..20]);
        }
    }
    // Up to 256 KiB it is looked at.
    let page = format!("<p>a</p><a title='{}' class=b>b</a>", "x".repeat(250_000));
    let (out, editor) = through(page.as_bytes(), &[edit(".b", vec![Change::Hide])], 3000);
    assert!(String::from_utf8(out).unwrap().contains(" style=") && !editor.gave_up());
}

/// `page` with `change` made to what `.x` finds, one way and the other, however it comes.
fn cut(page: &str, change: &Change) -> String {
    let edits = [edit(".x", vec![change.clone()])];
    let mut made: Option<String> = None;
    for size in [7, 1000, 1 << 21] {
        for mut editor in [Editor::new(edits.to_vec()), Editor::parsed(&edits)] {
            let mut out = Vec::new();
            page.as_bytes().chunks(size).for_each(|chunk| editor.push(chunk, &mut out).unwrap());
            editor.end(&mut out).unwrap();
            let out = String::from_utf8(out).unwrap();
            let before = made.get_or_insert_with(|| out.clone());
            assert!(*before == out, "{size} {}", &page[..page.len().min(80)]);
        }
    }
    made.unwrap()
}

#[test]
fn where_a_page_is_too_deep_what_goes_still_goes() {
    let deep = "<b>".repeat(2100);
    let long = "y".repeat(300_000);
    for (page, removed) in [
        ("1<div class=x>DEEP secret</div>2", "12"),
        ("1<div class=x>DEEP<!-- </div> --><script>'</div>'</script> secret</div>2", "12"),
        ("1<div class=x>DEEP<template></div></template>secret</div>2", "12"),
        ("1<div class=x>DEEP<table><tr><td></div>secret</table></div>2", "12"),
        ("1<div class=x>DEEP<select><option></div>secret</select></div>2", "12"),
        ("1<span class=x>DEEP<div></span>secret</div></span>2", "12"),
        ("1<div class=x>DEEP<svg><![CDATA[ > </div> ]]> secret</svg></div>2", "12"),
        ("1<div class=x>DEEP<svg><div/></svg>secret</div></div>2", "12"),
        ("1<div class=x>DEEP<svg><title/><style/></svg>secret</div>2", "12"),
        ("1<div class=x>DEEP<!--!></div>LONG-->secret</div>2", "12"),
        ("1<div class=x>DEEP<script a='LONG'>'</div> secret'</script></div>2", "12"),
        ("1<div class=x>DEEP secret</div LONG>2", "12"),
        ("<ul><li class=x>DEEP secret<li>next</ul><p>a", "<ul><li>next</ul><p>a"),
        ("<table><tr><td class=x>DEEP secret<td>n</table>a", "<table><tr><td>n</table>a"),
        ("<p class=x>DEEP secret<p>n", "<p>n"),
        ("<p class=x>DEEP secret<div>n</div>", "<div>n</div>"),
        ("<h1 class=x>DEEP secret</h2>n", "n"),
        ("<div><span class=x>DEEP secret</div>n", "<div></div>n"),
        ("<ul><li class=x>DEEP secret<li a='LONG'>next</ul>", "<ul><li a='LONG'>next</ul>"),
        ("<body><li class=x>DEEP secret</body>n", "<body></body>n"),
        ("1<div class=x><template>DEEPDEEPDEEPDEEPDEEP</template>secret</div>2", "12"),
        ("1<div class=x><NAME>secret</NAME></div>2", "12"),
        (
            "<body>1<div class=x>DEEPDEEPDEEP<i>a</i><div>b</div>secret</div>2</body>",
            "<body>1</body>",
        ),
        ("1<section><div class=x>DEEP secret</section LONG>2", "1<section></section LONG>2"),
        ("1<select class=x><option>a<select LONG>2", "12"),
        ("1<div class=x>DEEP<div class=x>DEEP</div>secret</div>2<i class=x>3</i>", "12"),
    ] {
        let whole = |page: &str| {
            let named = page.replace("NAME", &"a".repeat(300_000));
            named.replace("DEEP", &deep).replace("LONG", &long)
        };
        assert!(cut(&whole(page), &Change::Remove) == whole(removed), "{page}");
        let inner = cut(&whole(page), &Change::Text("t".into()));
        assert!(!inner.contains("secret"), "{page}");
    }
    let body = format!("<body class=x>{deep}secret</body></html>");
    assert_eq!(cut(&body, &Change::Html("<i>".into())), "<body class=x><i></body></html>");
}

#[test]
fn what_the_parser_holds_back_comes_out() {
    let long = "y".repeat(300_000);
    for page in [
        "<!doctype html><table></ x>hello<td>x</table>",
        "<!doctype html><html></ x><p>q",
        "<!doctype html></ x><p>q",
        "<!doctype html><p></ x>hello<img a='LONG'>",
        "<!doctype html><table><<td>x</table>",
        "1 <<img src='LONG'>",
        "<div><template></ x>a<svg><title a='LONG'/></svg><</template></div><",
        "<template><svg><title/><style/><template/><path/></svg></template>",
        "<template><svg><![CDATA[ > <script> </template> ]]></svg></template>",
    ] {
        let page = page.replace("LONG", &long);
        assert!(cut(&page, &Change::Remove) == page, "{}", page.replace(&long, "LONG"));
    }
    // What is in a template ends where it ends.
    for inner in [
        "<svg><title/></svg>",
        "<svg><script href=a /><template/></svg>",
        "<svg><title a='LONG'/></svg>",
        "<svg><![CDATA[ > <script></template> ]]></svg>",
        "<svg><foreignObject><p></foreignObject></svg>",
        "<svg><g><div></svg><title>'</template>'</title>",
    ] {
        let template = format!("<template>{inner}</template>").replace("LONG", &long);
        let page = format!("1<i class=x>a{template}secret</i>2{template}<i class=x>b</i>3");
        assert!(cut(&page, &Change::Remove) == format!("12{template}3"), "{inner}");
    }
    // Nor does it hold so much that it gives up.
    let secret = "secret ".repeat(200_000);
    let page = format!("1<div class=x></ x>{secret}</div>2<i class=x>g</i>");
    assert_eq!(cut(&page, &Change::Remove), "12");
    let list = "<li>a".repeat(9000);
    let page = format!("<template><ul>{list}</ul></template><p class=x>g</p>2");
    assert_eq!(cut(&page, &Change::Remove), page.replace("<p class=x>g</p>", ""));
}

#[test]
fn a_tag_is_too_long_however_it_comes() {
    for more in [-2_i32, -1, 0, 1, 1000, 60_000] {
        let length = usize::try_from(256 * 1024 + more).unwrap();
        let tag = format!("<section class=x a='{}'>", "y".repeat(length - 23));
        assert_eq!(tag.len(), length - 1);
        let page = format!("{tag}secret</section>2");
        let made = cut(&page, &Change::Remove);
        assert!(made == if more <= 0 { "2" } else { &page }, "{more} {}", made.len());
    }
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
