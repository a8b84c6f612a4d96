use proptest::prelude::*;
use scraper::{Html, Node, Selector};

use super::super::skeleton::push_value;
use super::*;

/// What a rule is told when it is loaded: `@` is a value, `[`, `|` and `]` are the edges of a block.
fn checked(markup: &str) -> std::result::Result<(), String> {
    let mut skeleton = Skeleton::default();
    for char in markup.chars() {
        match char {
            '@' => skeleton.push_place(),
            '[' => skeleton.push_edge(Edge::Begin),
            '|' => skeleton.push_edge(Edge::Middle),
            ']' => skeleton.push_edge(Edge::End),
            other => skeleton.push_fixed(other.encode_utf8(&mut [0; 4])).unwrap(),
        }
    }
    skeleton.markup(&Hosts::default()).map(drop).map_err(|why| why.to_string())
}

#[test]
fn markup_is_whole_in_itself() {
    for good in [
        "",
        "a &lt; b",
        "<b class=x title='>'>x</b><br><img src=/a alt=\"@\">",
        "<p>a<!-- b --></p><!---->",
        "<DIV><p>x</P></div >",
        "<textarea><b></textarea><title>@</title>",
        "<script>if (a < b) { c('</b>') }</script><style>a > b {}</style>",
        "<svg viewBox='0 0 1 1'><path d='M0 0'/><title>@</title><foreignObject><p>x</p></foreignObject></svg>",
        "<svg/><hr/><a href=/x/>y</a>",
        "<noscript><img src='/p?u=@'></noscript>",
        "[<b>@</b>|<i></i>]",
        "<p [class='a'|title='@'] id=x>[a]</p>",
        "<a href='/[a|b@]/c'></a>",
        "<script>[a|b]</script>",
        "<ul>[<li>@</li>]</ul>",
        "<iframe src='https://a.example/@'></iframe>",
        "<p data-x='@' aria-label=@></p>",
    ] {
        assert_eq!(checked(good), Ok(()), "{good}");
    }
}

/// Each of these is refused, and its message has that in it.
fn refused(all: &[(&str, &str)]) {
    for (wrong, why) in all {
        let got = checked(wrong);
        assert!(got.as_ref().is_err_and(|message| message.contains(why)), "{wrong}: {got:?}");
    }
}

#[test]
fn markup_that_takes_what_follows_is_refused() {
    refused(&[
        ("<b>x</b><!-- ", "inside a comment"),
        ("<!--x-->y<!--", "inside a comment"),
        ("<textarea>", "inside a `title`"),
        ("<title>x</titlex>", "inside a `title`"),
        ("<script>x", "inside a script"),
        ("<style>@</style>", "in a script, a style"),
        ("<svg><style>a</style><script>@</script></svg>", "in a script, a style"),
        ("<xmp>@</xmp>", "in a script, a style"),
        ("<plaintext>", "`<plaintext>`"),
        ("</i", "inside a tag"),
        ("a <", "inside a tag"),
        ("a </", "inside a tag"),
        ("a < b", "write `&lt;`"),
        ("<a", "inside a tag"),
        ("<a ", "inside a tag"),
        ("<a href", "inside a tag"),
        ("<a href=x", "inside the value"),
        ("<a href=\"x", "inside the value"),
        ("<a href='x>", "inside the value"),
        ("<![CDATA[", "`<!"),
        ("<!doctype html>", "`<!"),
        ("<?php", "`<?"),
        ("</3>", "`<`"),
        ("</>", "`<`"),
        ("<b>", "`<b>` is not closed"),
        ("<p>x", "`<p>` is not closed"),
        ("<b><i></b></i>", "`<i>` is not closed"),
        ("</b>", "`</b>` closes no element"),
        ("<p></p></p>", "`</p>` closes no element"),
        ("</br>", "`</br>` closes no element"),
        ("<div/>", "by an end tag alone"),
        ("<path/>", "by an end tag alone"),
        ("<body class=x></body>", "`<body>`"),
        ("<svg><p>x</p></svg>", "inside `svg` and `math`: it ends them"),
        ("<svg><title><b></title></svg>", "inside `svg`"),
        ("<script><!-- <script></script>", "inside a script"),
        ("<!-- a --!> b -->", "inside a comment"),
        ("<!--> b -->", "inside a comment"),
        ("<!---> b -->", "inside a comment"),
        ("<a href=x\"y></a>", "in quotes"),
        ("<a =x></a>", "in a tag"),
        ("<a \"x\"></a>", "in a tag"),
        ("<a / b></a>", "in a tag"),
        ("<b@>", "in the name of an element"),
        ("<@>", "in the name of an element"),
        ("<b @>", "in a tag"),
        ("<b a@=x>", "in the name of an attribute"),
        ("<!-- @ -->", "in a comment"),
        ("</b@>", "in the name of an element"),
    ]);
}

#[test]
fn a_block_ends_where_it_begins() {
    refused(&[
        ("[<b>]x</b>", "has to end where it begins"),
        ("<b>[</b>|x</b>]", "has to end where it begins"),
        ("<b>[</b><b>]</b>", "has to end where it begins"),
        ("[<a href='x'|<a href='y'] class=z></a>", "has to end where it begins"),
        ("<a href='[x' class='y]'></a>", "has to end where it begins"),
        ("<a href=[x]></a>", "in quotes"),
        ("[<!--] x -->", "has to end where it begins"),
        ("[x", "has to end where it begins"),
    ]);
}

#[test]
fn a_value_stands_in_known_attributes_alone() {
    refused(&[
        ("<a onclick='@'></a>", "`onclick`"),
        ("<iframe srcdoc='@'></iframe>", "`srcdoc`"),
        ("<svg><animate attributeName=href values='@'/></svg>", "`values`"),
        ("<svg><set to='@'/></svg>", "`to`"),
        ("<script type='@'></script>", "`type`"),
        ("<p v-html='@'></p>", "`v-html`"),
        ("<p data-hx-get='@'></p>", "`data-hx-get`"),
        ("<p id='@'></p>", "fixed text before it"),
        ("<meta content='@' http-equiv=refresh>", "a header of the page"),
        ("<a href='javascript:@'></a>", "http"),
        ("<a href='java&#x73;cript&colon;@'></a>", "http"),
        ("<script src='@'></script>", "in `hosts`"),
        ("<script src='https://@/a.js'></script>", "in `hosts`"),
        ("<script src='//@/a.js'></script>", "in `hosts`"),
        ("<script src='https:@'></script>", "in `hosts`"),
        ("<script src='https://a@'></script>", "in `hosts`"),
        ("<script src='[https://a.example/]@'></script>", "in `hosts`"),
        ("<base href='@'>", "in `hosts`"),
        ("<svg><use href='@'/></svg>", "in `hosts`"),
        ("<form action='@'></form>", "in `hosts`"),
        ("<my-frame src='@'></my-frame>", "in `hosts`"),
    ]);
}

/// What markup of rules may be made of.
const PIECES: &[&str] = &[
    "<b>",
    "</b>",
    "<p>",
    "</p>",
    "<i class=x>",
    "</i>",
    "<a href=\"",
    "\"",
    "'",
    ">",
    "<",
    "</a>",
    "<!--",
    "-->",
    "--",
    "<textarea>",
    "</textarea>",
    "<title>",
    "</title>",
    "<script>",
    "</script>",
    "<style>",
    "</style>",
    "<svg>",
    "</svg>",
    "<math>",
    "</math>",
    "<path/>",
    "<br>",
    "<img src=x>",
    "<table>",
    "</table>",
    "<tr>",
    "</tr>",
    "<td>",
    "</td>",
    "<select>",
    "</select>",
    "<option>",
    "</option>",
    "<div>",
    "</div>",
    "<div/>",
    "<ul><li>",
    "</li></ul>",
    "<h1>",
    "</h1>",
    "<h2>",
    "</h2>",
    "<template>",
    "</template>",
    "<noscript>",
    "</noscript>",
    "<iframe>",
    "</iframe>",
    "<![CDATA[",
    "]]>",
    "<?",
    "</",
    "<!",
    "text",
    " ",
    "=",
    "/",
    "<foreignObject>",
    "</foreignObject>",
    "<desc>",
    "</desc>",
    "<button>",
    "</button>",
    "<form>",
    "</form>",
    "<xmp>",
    "</xmp>",
    "&amp",
    "<a>",
    "<span title='",
    "</span>",
];

/// Elements that browsers put elsewhere, end early or know from before.
const NAMES: &[&str] = &[
    "a",
    "b",
    "nobr",
    "p",
    "div",
    "ul",
    "li",
    "dl",
    "dt",
    "h1",
    "h2",
    "table",
    "caption",
    "colgroup",
    "tbody",
    "tr",
    "td",
    "th",
    "select",
    "option",
    "optgroup",
    "button",
    "form",
    "label",
    "svg",
    "math",
    "mi",
    "desc",
    "foreignObject",
    "annotation-xml",
    "g",
    "template",
    "noscript",
    "textarea",
    "title",
    "iframe",
    "object",
    "pre",
    "ruby",
    "rt",
    "font",
    "marquee",
    "details",
    "span",
    "center",
    "listing",
    "video",
    "canvas",
    "my-box",
];

/// Elements in one another.
fn nested() -> impl Strategy<Value = String> {
    let leaf =
        proptest::sample::select(vec!["", "x", "<br>", "<input>", "<img src=x>", "<hr>", "<svg/>"]);
    leaf.prop_map(str::to_owned).prop_recursive(6, 8, 2, |inner| {
        let name = proptest::sample::select(NAMES);
        (name, proptest::collection::vec(inner, 1..4))
            .prop_map(|(name, inner)| format!("<{name}>{}</{name}>", inner.concat()))
    })
}

/// Whether `value` is the text of an element, or in an attribute. The parser is a browser's that runs scripts, to which
/// what is in `noscript` is raw: whoever runs none reads it as markup.
fn is_there(html: &Html, value: &str) -> bool {
    html.tree.nodes().any(|node| match node.value() {
        Node::Text(text) => {
            let parent = node.parent().and_then(|parent| Some(parent.value().as_element()?.name()));
            text.contains(value)
                || (parent == Some("noscript") && is_there(&Html::parse_fragment(text), value))
        }
        Node::Element(element) => element.attrs().any(|(_, own)| own.contains("val")),
        _ => false,
    })
}

#[test]
fn a_value_for_those_without_scripts_is_there() {
    for value in ["\"", "<b>", "a&b", "'"] {
        let mut made = "<noscript>".to_owned();
        push_value(&mut made, value);
        made.push_str("</noscript>");
        let markup = Skeleton::of_text(&made).markup(&Hosts::default()).unwrap();
        let html = Html::parse_document(&format!("<!doctype html><body><main>{markup}</main>"));
        assert!(is_there(&html, value), "{markup}");
        assert!(!is_there(&html, "another"), "{markup}");
    }
}

fn stays(markup: &str) -> std::result::Result<(), TestCaseError> {
    if Skeleton::of_text(markup).markup(&Hosts::default()).is_ok() {
        let page = format!(
            "<!doctype html><body><main>{markup}<footer id=f class=k>end<u>x</u></footer></main>"
        );
        let html = Html::parse_document(&page);
        let footer = Selector::parse("body > main > footer#f.k").unwrap();
        let found: Vec<_> = html.select(&footer).collect();
        prop_assert_eq!(found.len(), 1, "{}", page);
        prop_assert_eq!(found[0].inner_html(), "end<u>x</u>", "{}", page);
        let main = found[0].parent().unwrap();
        prop_assert_eq!(main.last_child().unwrap().id(), found[0].id(), "{}", page);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6000))]
    /// Markup that is taken leaves what follows in the page where it was.
    #[test]
    fn what_follows_stays_as_it_is(pieces in proptest::collection::vec(proptest::sample::select(PIECES), 1..8)) {
        stays(&pieces.concat())?;
    }

    /// The same of elements that are all closed.
    #[test]
    fn what_follows_stays_behind_elements(markup in nested()) {
        stays(&markup)?;
    }

    /// Markup that is taken is read by a browser as it was read here: a value in each text and attribute is there.
    #[test]
    fn values_are_where_they_were_put(
        pieces in proptest::collection::vec(proptest::sample::select(PIECES), 1..8),
        place in 0_usize..8,
        value in "[<>\"'&= a/-]{1,8}",
    ) {
        let mut made = pieces.get(..place.min(pieces.len())).unwrap().concat();
        push_value(&mut made, &format!("val:{value}"));
        made.push_str(&pieces.get(place.min(pieces.len())..).unwrap().concat());
        if let Ok(markup) = Skeleton::of_text(&made).markup(&Hosts::default()) {
            let html = Html::parse_document(&format!("<!doctype html><body><main>{markup}</main>"));
            prop_assert!(is_there(&html, &format!("val:{value}")), "{}", markup);
        }
    }
}
