use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use scraper::{ElementRef, Html, Selector};

use super::super::edit::{Change, Edit};
use super::super::editor::Editor;
use super::super::select::Select;

/// What a page may be made of. Each `*` becomes an id of its own.
const PIECES: &[&str] = &[
    "<ul*>",
    "</ul>",
    "<ol*>",
    "</ol>",
    "<li*>",
    "<li* class=a>",
    "</li>",
    "<p*>",
    "<p* class=a>",
    "</p>",
    "<div*>",
    "<div* class=a>",
    "</div>",
    "<dl*>",
    "</dl>",
    "<dt*>",
    "<dd*>",
    "</dd>",
    "<table*>",
    "</table>",
    "<tr*>",
    "</tr>",
    "<td*>",
    "<td* class=a>",
    "</td>",
    "<th*>",
    "<tbody*>",
    "</tbody>",
    "<thead*>",
    "<tfoot*>",
    "<caption*>",
    "</caption>",
    "<colgroup*>",
    "<col*>",
    "<h1*>",
    "<h2*>",
    "</h1>",
    "<a* href=x>",
    "</a>",
    "<span*>",
    "</span>",
    "<button*>",
    "</button>",
    "<section*>",
    "</section>",
    "<select*>",
    "</select>",
    "<option*>",
    "</option>",
    "<optgroup*>",
    "<ruby*>",
    "</ruby>",
    "<rt*>",
    "<rp*>",
    "<form*>",
    "</form>",
    "<hr*>",
    "<img*>",
    "<br*>",
    "<input*>",
    "text",
    " ",
    "<!-- <p> -->",
    "<script*>'<li>'</script>",
    "<textarea*><li></textarea>",
    "<template*>",
    "<template*><li* class=a></template>",
    "</template>",
    "<svg*><path* /></svg>",
    "<svg*><g*>",
    "</g>",
    "</svg>",
    "<foreignObject*>",
    "</foreignObject>",
    "<html>",
    "<head>",
    "</head>",
    "<body>",
    "</body>",
    "</html>",
    "<title*>t</title>",
    "<meta*>",
    "<link*>",
    "<style*>x</style>",
    "<main*>",
    "</main>",
    "<details*>",
    "<summary*>",
    "</details>",
    "<article* class=a>",
    "</article>",
    "<my-box*>",
    "<!-->",
    "<?php x ?>",
    "<!x>",
    "<p/*>",
    "</b x=1>",
    "<b* =x>",
    "<br / >",
    "<span \"x\">",
    "<!-- a --!>",
    "</ x>",
    "<script*><!-- <script> --></script></script>",
    "<script><!-- <script></script> --></script>",
    "<script><!--></script>",
    "<style>x</style >",
    "</my-box>",
];

const SELECTORS: &[&str] = &[
    "ul > li",
    "li li",
    "td > td",
    "tr > td",
    "table > tr",
    "tbody > tr",
    "p p",
    "p > div",
    "div > p",
    "dl > dt",
    "dt dd",
    "select > option",
    "option option",
    "li",
    ".a",
    ".a > *",
    ".a *",
    "body > p",
    "head > *",
    "html > *",
    "body *",
    "colgroup > col",
    "p > ul",
    "a a",
    "tr tr",
    "td td",
    "thead > tr",
    "h1 h2",
    "button button",
    "form form",
    "form > *",
    "table *",
    "div div",
    "#e3",
    "section > p, li > ul",
    "ruby > rt",
    "template *",
    "svg *",
    "svg > p",
    "main .a",
    "caption > *",
];

/// The ids of what `select` finds in `page`, and whether it took a parser from the beginning.
fn edited(page: &str, select: &str, size: usize, is_parsed: bool) -> BTreeSet<String> {
    let marked = vec![Change::Attribute("data-hit".into(), "y".into())];
    let edits = [Edit::new(Arc::new(Select::parse(select).unwrap()), marked)];
    let mut editor = if is_parsed { Editor::parsed(&edits) } else { Editor::new(edits.to_vec()) };
    let mut out = Vec::new();
    page.as_bytes().chunks(size).for_each(|chunk| editor.push(chunk, &mut out).unwrap());
    editor.end(&mut out).unwrap();
    let out = String::from_utf8(out).unwrap();
    let tags = out.split('<').filter(|tag| tag.contains(" data-hit=\"y\""));
    tags.filter_map(id).collect()
}

fn id(tag: &str) -> Option<String> {
    let (_, id) = tag.split_once("id=\"").or_else(|| tag.split_once("id="))?;
    Some(id.split(['"', ' ', '>', '/']).next()?.to_owned())
}

fn in_browser(page: &str, select: &str) -> BTreeSet<String> {
    let html = Html::parse_document(page);
    let is_shown = |found: &ElementRef<'_>| {
        let mut around = found.ancestors().filter_map(ElementRef::wrap);
        !around.any(|around| around.value().name() == "template")
    };
    let select = Selector::parse(select).unwrap();
    let shown = html.select(&select).filter(is_shown);
    shown.filter_map(|found| found.attr("id").map(str::to_owned)).collect()
}

/// Whether elements of formatting are opened anew, which are then twice in the page.
fn has_copies(page: &str) -> bool {
    let html = Html::parse_document(page);
    let mut seen = BTreeSet::new();
    html.select(&Selector::parse("[id]").unwrap()).any(|found| !seen.insert(found.attr("id")))
}

fn page(pieces: &[&str]) -> String {
    let (mut page, mut number) = ("<!doctype html>".to_owned(), 0);
    for char in pieces.concat().chars() {
        if char == '*' {
            page.push_str(" id=e");
            page.push_str(&number.to_string());
            number += 1;
        } else {
            page.push(char);
        }
    }
    page
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    #[test]
    fn selectors_find_what_they_find_in_a_browser(
        pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..14),
        selectors in proptest::sample::subsequence(SELECTORS, 6),
        size in 1_usize..60,
    ) {
        let page = page(&pieces);
        for select in selectors {
            let expected = in_browser(&page, select);
            // A tag that means nothing may be changed: nobody sees it.
            let there = in_browser(&page, "[id]");
            if has_copies(&page) {
                continue;
            }
            for is_parsed in [false, true] {
                // The parser knows nothing of elements that are not where their tags are.
                let strays = ["<table", "<a ", "<form"].iter().any(|tag| page.contains(tag));
                let odd = ["<svg", "<style", "<script", "<textarea", "<title", "<!-->", "<?", "<!x", "<p/", "x=1", "=x", "/ >", "\"x\"", "--!", "</ x"];
                let both = |one, other| page.contains(one) && page.contains(other);
                // html5ever has an item end another one that is around the picture that it is in.
                let items = ["<li", "<dt", "<dd"].iter().any(|item| page.contains(item) && page.contains("<foreignObject"));
                if items || both("<a ", "<table") || both("<template", "<svg") || strays && (is_parsed || odd.iter().any(|tag| page.contains(tag))) {
                    continue;
                }
                let mut found = edited(&page, select, size, is_parsed);
                found.retain(|id| there.contains(id));
                prop_assert_eq!(&found, &expected, "{} in {} ({})", select, page, is_parsed);
            }
        }
    }
}

#[test]
fn pictures_end_where_a_browser_ends_them() {
    for (page, select) in [
        ("<p id=e0 class=a><svg id=e1><g id=e2></p><script id=e3></script>", ".a > *"),
        ("<p id=e0><svg id=e1><g id=e2></br><b id=e3>", "p > *"),
        ("<svg id=e0><foreignObject id=e1><option id=e2></foreignObject><ol id=e3>", "svg *"),
        ("<svg id=e0><foreignObject id=e1><p id=e2></svg><ol id=e3>", "svg *"),
        ("<svg id=e0><desc id=e1></p><ol id=e2></ol></desc></p><i id=e3>", "svg *"),
    ] {
        let page = format!("<!doctype html>{page}");
        for is_parsed in [false, true] {
            assert_eq!(edited(&page, select, 3, is_parsed), in_browser(&page, select), "{page}");
        }
    }
}

#[test]
fn references_in_attributes_are_what_they_stand_for() {
    let page =
        "<!doctype html><p id=e0 class='b &#97;'><p id=e1 data-x='&amp;'><p id='&#101;2' class=a>";
    for (select, found) in
        [(".a", "e0"), ("[data-x='&']", "e1"), ("body > .a", "e0"), ("#e1", "e1")]
    {
        let got = edited(page, select, 7, false);
        assert!(got.contains(found), "{select}: {got:?}");
    }
}

/// A page with `change` made to what `select` finds, one way and the other.
fn changed(page: &str, select: &str, change: &Change) -> String {
    let edits = [Edit::new(Arc::new(Select::parse(select).unwrap()), vec![change.clone()])];
    let made = [Editor::new(edits.to_vec()), Editor::parsed(&edits)].map(|mut editor| {
        let mut out = Vec::new();
        page.as_bytes().chunks(5).for_each(|chunk| editor.push(chunk, &mut out).unwrap());
        editor.end(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    });
    let [sought, parsed] = made;
    assert_eq!(sought, parsed, "{select} in {page}");
    sought
}

#[test]
fn elements_without_end_tags_end_where_a_browser_ends_them() {
    let append = Change::Append("<i>".into());
    for (page, select, change, expected) in [
        ("<ul><li>a<li>b</ul>c", "li", &append, "<ul><li>a<i><li>b<i></ul>c"),
        ("<p>a<div>b</div>", "p", &append, "<p>a<i><div>b</div>"),
        ("<p>a", "p", &append, "<p>a<i>"),
        ("<p>a<", "p", &append, "<p>a<"),
        ("<body><p>a", "body", &append, "<body><p>a<i>"),
        (
            "<body><p>a</body><script></script>",
            "body",
            &append,
            "<body><p>a<i></body><script></script>",
        ),
        (
            "<table><tr><td>a<td>b<tr><td>c</table>",
            "td",
            &append,
            "<table><tr><td>a<i><td>b<i><tr><td>c<i></table>",
        ),
        ("<dl><dt>a<dd>b</dl>", "dt", &Change::After("<i>".into()), "<dl><dt>a<i><dd>b</dl>"),
        ("<ul><li>a<li>b</ul>c", "li", &Change::Text("x".into()), "<ul><li>x<li>x</ul>c"),
        ("<ul><li class=a>a<b>b<li>c</ul>", ".a", &Change::Remove, "<ul><li>c</ul>"),
        ("<template><p>a</template><p>b</p>", "p", &append, "<template><p>a</template><p>b<i></p>"),
        ("<ul><!--><li>a<li>b</ul>c", "li", &append, "<ul><!--><li>a<i><li>b<i></ul>c"),
        (
            "<?xml version='1.0'?><html><body><p>a",
            "body",
            &append,
            "<?xml version='1.0'?><html><body><p>a<i>",
        ),
        ("<ul><li class=a>a<?php ?>b<li>c</ul>", ".a", &Change::Remove, "<ul><li>c</ul>"),
        (
            "<?x?><template><p>a</template><p>b</p>",
            "p",
            &append,
            "<?x?><template><p>a</template><p>b<i></p>",
        ),
        (
            "<body><!--><p>a</body></body>b</html></body>c",
            "body",
            &append,
            "<body><!--><p>a<i></body></body>b</html></body>c",
        ),
        (
            "<body><p>a</body></body>b</html></body>c",
            "body",
            &append,
            "<body><p>a<i></body></body>b</html></body>c",
        ),
        ("<h1>a</h2>b", "h1", &append, "<h1>a<i></h2>b"),
    ] {
        assert_eq!(changed(page, select, change), expected, "{select}");
    }
}

#[test]
fn elements_that_end_at_one_place_end_in_their_order_the_next_time_too() {
    let edit = |select: &str, change: Change| {
        Edit::new(Arc::new(Select::parse(select).unwrap()), vec![change])
    };
    let append = |select: &str, markup: &str| edit(select, Change::Append(markup.into()));
    let after = |select: &str, markup: &str| edit(select, Change::After(markup.into()));
    for (page, edits, expected) in [
        (
            "<table><tr><td>1</table><p>z",
            vec![append("td", "!"), after("table", "<i>")],
            "<table><tr><td>1!</table><i><p>z",
        ),
        (
            "<body><div>x</div><p>last</body></html>",
            vec![append("p", "<b>"), append("body", "<hr>")],
            "<body><div>x</div><p>last<b><hr></body></html>",
        ),
        (
            "<table><tr><td>1<tr><td>2</table>",
            vec![append("td", "<b>"), append("tr", "<i>")],
            "<table><tr><td>1<b><i><tr><td>2<b><i></table>",
        ),
    ] {
        let mut places = None;
        for time in 0..2 {
            let (mut editor, mut out) =
                (Editor::new(edits.clone()).with_places(places.clone()), Vec::new());
            page.as_bytes().chunks(4).for_each(|chunk| editor.push(chunk, &mut out).unwrap());
            editor.end(&mut out).unwrap();
            let made = String::from_utf8(out).unwrap().replace(" >", ">");
            assert_eq!(made, expected, "time {time}");
            places = places.or_else(|| editor.learned().map(Arc::clone));
        }
        assert!(places.is_some(), "{page}");
    }
}
