//! What browsers do with the attributes of elements, as far as a value may stand in them.

use super::edit::is_safe_style;
use super::skeleton::{OpensTemplate, Part, plain};
use super::url::{Hosts, UrlError, UrlUse, image_set, is_code_url, url, urls};

/// What a browser does with an attribute. A value may stand only in those that are known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttributeUse {
    /// Shows it, counts with it, or nothing.
    Text,
    /// Text about the page, unless the element's `http-equiv` makes it a header of the answer.
    Content,
    /// Words by which styles and scripts find the element.
    Class,
    /// A name by which scripts find the element, also as a variable of the page.
    Name,
    /// Whatever scripts of the page do with it.
    Data,
    /// A value of a style.
    Style,
    /// Fetches it or goes there.
    Url(UrlUse),
    /// As [`AttributeUse::Url`], of several links.
    Links,
    /// As [`AttributeUse::Url`], of one image in several sizes.
    ImageSet,
    /// Runs it, decides by it what the element is, or nobody knows what.
    Other,
}

/// Why a value can't stand in an attribute.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttributeError {
    /// It is none of those where a value may.
    #[error("a value can't stand in the attribute `{0}`{hint}", hint = hint(.0))]
    Attribute(Box<str>),
    /// In `content` of an element that may be `http-equiv`.
    #[error(
        "a value can't stand in `content` where it may be a header of the page: select a meta element by its \
         `name`, `property` or `itemprop`, such as `meta[name=description]`"
    )]
    Content,
    /// A name that is all of the value.
    #[error(
        "here a value needs fixed text before it, such as `item-`: alone it could take the name of something \
         that the page's scripts use"
    )]
    Name,
    /// What is more than a word.
    #[error("a value in a class has letters, digits, `-`, `_` and spaces alone")]
    Class,
    /// No value of a style.
    #[error(
        "expected one value of a style: words, numbers, colours and functions such as `calc()`, without quotes, `;`, \
         braces, addresses and `attr()`"
    )]
    Style,
    /// What scripts would run if they took it for a URL.
    #[error("a value would make a URL of it that is code")]
    Code,
    /// No URL that leads to where it may.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// See [`OpensTemplate`].
    #[error(transparent)]
    Template(#[from] OpensTemplate),
}

fn hint(name: &str) -> &'static str {
    if name.eq_ignore_ascii_case("style") { ": use `style` of `set`" } else { "" }
}

/// Attributes that are text wherever they stand.
const TEXTS: &str = "abbr accesskey align alt autocomplete autofocus bgcolor border checked color cols \
    colspan coords datetime default dir disabled draggable enterkeyhint for headers height hidden high \
    inputmode kind label lang list loading low max maxlength min minlength multiple open optimum placeholder \
    readonly required role rows rowspan scope selected shape size sizes span spellcheck srclang start step \
    summary tabindex title translate width";

/// Attributes of pictures that are numbers, colours and the like, and could name another file.
const STYLES: &str = "cx cy d dx dy fill fill-opacity font-size font-weight offset opacity pathlength points \
    preserveaspectratio r rx ry stop-color stop-opacity stroke stroke-dasharray stroke-dashoffset \
    stroke-opacity stroke-width text-anchor transform viewbox x x1 x2 y y1 y2";

/// Attributes for scripts that a library is known to read as code (`AngularJS`, Knockout, htmx, hyperscript,
/// Datastar, `RequireJS`), by what follows `data-`.
const CODE_DATA: &str = "init main script effect";
/// The same by the first word of what follows.
const CODE_DATA_WORDS: &str = "ng bind hx on signals computed";

pub(super) fn is_one_of(name: &str, list: &str) -> bool {
    list.split_ascii_whitespace().any(|known| known == name)
}

impl AttributeUse {
    /// Of the attribute `name` of an element called `element`; of any element, where that is not known.
    #[must_use]
    pub fn of(element: Option<&str>, name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        let element = element.map(str::to_ascii_lowercase);
        let element = element.as_deref();
        if let Some(own) = of_url(element, &name) {
            return own;
        }
        if let Some(rest) = name.strip_prefix("data-") {
            return of_data(element, rest);
        }
        match &*name {
            "class" => Self::Class,
            "id" | "name" => Self::Name,
            "content" => Self::Content,
            // Of a `param` it could be a URL.
            "value" if element.is_none_or(|element| element == "param") => Self::Data,
            "value" => Self::Text,
            _ if name.starts_with("aria-") || is_one_of(&name, TEXTS) => Self::Text,
            _ if is_one_of(&name, STYLES) => Self::Style,
            _ => Self::Other,
        }
    }

    /// Of the attribute `name` of whichever of `elements` it turns out to be; of any element, where they are
    /// not known.
    #[must_use]
    pub fn of_all(elements: Option<&[String]>, name: &str) -> Self {
        let Some(elements) = elements else { return Self::of(None, name) };
        let uses = elements.iter().map(|element| Self::of(Some(element), name));
        uses.reduce(Self::stricter).unwrap_or(Self::Other)
    }

    /// What holds for both.
    fn stricter(self, other: Self) -> Self {
        match (self, other) {
            (one, other) if one == other => one,
            (Self::Url(UrlUse::Code), Self::Url(_)) | (Self::Url(_), Self::Url(UrlUse::Code)) => {
                Self::Url(UrlUse::Code)
            }
            (Self::Url(_), Self::Url(_)) => Self::Url(UrlUse::Media),
            (Self::Text, strict) | (strict, Self::Text) => strict,
            _ => Self::Other,
        }
    }

    /// The text of the attribute `name` that `parts` are together, with a value among them.
    ///
    /// # Errors
    /// A browser would do with it what no value may bring about.
    pub(super) fn compose(
        self,
        name: &str,
        parts: &[Part<'_>],
        hosts: &Hosts,
    ) -> Result<String, AttributeError> {
        match self {
            Self::Text | Self::Content => Ok(plain(parts)?),
            // AngularJS reads what follows a colon in a class as code.
            Self::Class => {
                let plain_char = |char: char| {
                    char.is_alphanumeric()
                        || char.is_ascii_whitespace()
                        || matches!(char, '-' | '_')
                };
                let fits = |part: &Part<'_>| match part {
                    Part::Value(value) => value.chars().all(plain_char),
                    Part::Fixed(_) | Part::Unknown => true,
                };
                if parts.iter().all(fits) { Ok(plain(parts)?) } else { Err(AttributeError::Class) }
            }
            Self::Name => {
                let fixed = parts.first().is_some_and(
                    |part| matches!(part, Part::Fixed(text) if !text.trim().is_empty()),
                );
                if fixed { Ok(plain(parts)?) } else { Err(AttributeError::Name) }
            }
            Self::Data => {
                let text = plain(parts)?;
                if is_code_url(&text) { Err(AttributeError::Code) } else { Ok(text) }
            }
            Self::Style => {
                // Of what is not known yet, what is fixed around it is judged.
                let mut parts = parts.to_vec();
                for part in parts.iter_mut().filter(|part| **part == Part::Unknown) {
                    *part = Part::Value("0");
                }
                let text = plain(&parts)?;
                if is_safe_style(&text) { Ok(text) } else { Err(AttributeError::Style) }
            }
            Self::Url(its_use) => Ok(url(parts, its_use, hosts)?),
            Self::Links => Ok(urls(parts)?),
            Self::ImageSet => Ok(image_set(parts)?),
            Self::Other => Err(AttributeError::Attribute(name.into())),
        }
    }
}

/// Of attributes whose value is a URL.
fn of_url(element: Option<&str>, name: &str) -> Option<AttributeUse> {
    let its_use = match name {
        "href" | "xlink:href" | "src" => of_element(element),
        "action" | "formaction" | "data" | "codebase" | "manifest" => UrlUse::Code,
        "poster" | "background" => UrlUse::Media,
        "cite" | "longdesc" | "usemap" | "itemid" | "itemtype" | "profile" => UrlUse::Link,
        "ping" => return Some(AttributeUse::Links),
        "srcset" | "imagesrcset" => return Some(AttributeUse::ImageSet),
        _ => return None,
    };
    Some(AttributeUse::Url(its_use))
}

/// What an element does with the URL that it is about.
fn of_element(element: Option<&str>) -> UrlUse {
    match element {
        Some("a" | "area") => UrlUse::Link,
        Some("img" | "image" | "feimage" | "input" | "audio" | "video" | "source" | "track") => {
            UrlUse::Media
        }
        // `script`, `iframe`, `link`, `base`, `embed`, `use`, and what is not known.
        _ => UrlUse::Code,
    }
}

/// Of the attribute `data-` with `rest` behind it.
fn of_data(element: Option<&str>, rest: &str) -> AttributeUse {
    let words = || rest.split(['-', '_', '.', ':']);
    let is_code = words().next().is_some_and(|first| is_one_of(first, CODE_DATA_WORDS));
    if is_code || is_one_of(rest, CODE_DATA) {
        return AttributeUse::Other;
    }
    match words().next_back().unwrap_or(rest) {
        // Scripts that fetch late put it into the attribute itself.
        "src" | "href" | "url" | "uri" | "link" => AttributeUse::Url(of_element(element)),
        "action" => AttributeUse::Url(UrlUse::Code),
        "srcset" => AttributeUse::ImageSet,
        "poster" | "background" | "bg" | "image" | "img" => AttributeUse::Url(UrlUse::Media),
        _ => AttributeUse::Data,
    }
}

#[cfg(test)]
mod tests {
    use super::AttributeUse::{
        Class, Content, Data, ImageSet, Links, Name, Other, Style, Text, Url,
    };
    use super::UrlUse::{Code, Link, Media};
    use super::*;

    #[test]
    fn what_is_not_known_is_no_place_for_a_value() {
        for (element, name, its_use) in [
            (Some("a"), "HREF", Url(Link)),
            (Some("area"), "href", Url(Link)),
            (Some("a"), "xlink:href", Url(Link)),
            (Some("link"), "href", Url(Code)),
            (Some("base"), "href", Url(Code)),
            (Some("use"), "xlink:href", Url(Code)),
            (None, "href", Url(Code)),
            (Some("IMG"), "src", Url(Media)),
            (Some("script"), "src", Url(Code)),
            (Some("my-player"), "src", Url(Code)),
            (None, "src", Url(Code)),
            (Some("form"), "action", Url(Code)),
            (Some("button"), "formaction", Url(Code)),
            (Some("object"), "data", Url(Code)),
            (Some("img"), "srcset", ImageSet),
            (Some("a"), "ping", Links),
            (Some("video"), "poster", Url(Media)),
            (Some("blockquote"), "cite", Url(Link)),
            (Some("meta"), "content", Content),
            (Some("p"), "class", Class),
            (Some("p"), "id", Name),
            (Some("input"), "value", Text),
            (Some("param"), "value", Data),
            (None, "value", Data),
            (Some("p"), "title", Text),
            (Some("p"), "aria-label", Text),
            (Some("p"), "data-name", Data),
            (Some("p"), "data-x", Data),
            (Some("a"), "data-href", Url(Link)),
            (Some("iframe"), "data-lazy-src", Url(Code)),
            (Some("img"), "data-src", Url(Media)),
            (Some("img"), "data-srcset", ImageSet),
            (Some("div"), "data-url", Url(Code)),
            (Some("path"), "fill", Style),
        ] {
            assert_eq!(AttributeUse::of(element, name), its_use, "{element:?} {name}");
        }
        for name in [
            "onclick",
            "OnClick",
            "style",
            "srcdoc",
            "type",
            "rel",
            "http-equiv",
            "is",
            "nonce",
            "integrity",
            "sandbox",
            "allow",
            "attributename",
            "values",
            "to",
            "from",
            "by",
            "classid",
            "archive",
            "code",
            "target",
            "is",
            "slot",
            "x-data",
            "v-html",
            ":href",
            "@click",
            "hx-get",
            "hx-on:click",
            "ng-click",
            "_",
            "wire:click",
            "up-href",
            "data-hx-get",
            "data-hx-on:click",
            "data-ng-init",
            "data-bind",
            "data-on-click",
            "data-on:click",
            "data-main",
            "filter",
            "clip-path",
            "encoding",
            "charset",
            "method",
            "referrerpolicy",
            "form",
            "whatever",
        ] {
            assert_eq!(AttributeUse::of(Some("p"), name), Other, "{name}");
            assert_eq!(AttributeUse::of(None, name), Other, "{name}");
        }
    }

    #[test]
    fn of_several_elements_the_strictest_counts() {
        let of = |elements: &[&str], name: &str| {
            let elements: Vec<String> = elements.iter().map(|one| (*one).to_owned()).collect();
            AttributeUse::of_all(Some(&elements), name)
        };
        assert_eq!(of(&["a", "area"], "href"), Url(Link));
        assert_eq!(of(&["a", "link"], "href"), Url(Code));
        assert_eq!(of(&["a", "img"], "href"), Url(Media));
        assert_eq!(of(&["input", "param"], "value"), Data);
        assert_eq!(of(&[], "title"), Other);
        assert_eq!(AttributeUse::of_all(None, "title"), Text);
    }
}
