//! Puts the snippet into a page as it streams through, and stops parsing as soon as it is in.
//!
//! The place is the end of the head; without a head, before the body, or else before the first
//! content. The parser gets the page in pieces that end where that place can be, so that no more
//! of the page is parsed than needed. Whatever the parser does, every byte of the page comes out:
//! bytes that it has taken and not given back are kept here.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use encoding_rs::WINDOWS_1252;
use lol_html::html_content::{ContentType, EndTag, TextChunk, TextType};
use lol_html::send::{
    DocumentContentHandlers, Element, ElementContentHandlers, HtmlRewriter, Settings,
};
use lol_html::{AsciiCompatibleEncoding, MemorySettings, Selector};
use memchr::{memchr, memchr_iter};

use super::marks::{self, Marks};
use super::place::plain_place;
use super::{Csp, Keep, OwnFiles, Plan, Script, Title, Way};
use crate::telemetry::{Feature, Rewrite, guard};

/// What is put into a page: the same thing in two forms.
#[derive(Debug, Clone)]
pub struct Markup {
    /// The snippet itself, safe inside a script element. Empty where the site wants none.
    pub script: Script,
    /// Path of the snippet as a file, safe inside an attribute.
    pub path: Arc<str>,
    /// What keeps edits, where they are to be kept.
    pub keep: Option<Keep>,
    /// The policies in the page's header.
    pub csp: Csp,
    /// The edge's own files, for policies in the page.
    pub own: OwnFiles,
}

impl Markup {
    /// Adds to `out` what stands in a page, which has the vendor's snippet where `present`. `false` where
    /// there is nothing to put in, or no way to.
    fn put(&self, way: &Way, present: bool, out: &mut Vec<u8>) -> bool {
        let with_snippet = !present && !self.script.is_empty();
        if !with_snippet && self.keep.is_none() {
            return false;
        }
        let nonced = |nonce: &Option<Box<str>>| {
            nonce.as_ref().map_or_else(String::new, |nonce| format!(" nonce=\"{nonce}\""))
        };
        let mut put = |text: &str| out.extend_from_slice(text.as_bytes());
        match way {
            Way::Inline(nonce) => {
                put("<script");
                put(&nonced(nonce));
                put(">");
                if with_snippet {
                    self.script.pieces().for_each(&mut put);
                }
                if let Some(keep) = &self.keep {
                    put(&keep.inline());
                }
                put("</script>");
            }
            Way::External(nonce) => {
                let nonce = nonced(nonce);
                if with_snippet {
                    let base = self.own.base();
                    for piece in ["<script src=\"", &base, &self.path, "\"", &nonce, "></script>"] {
                        put(piece);
                    }
                }
                if let Some(keep) = &self.keep {
                    put(&keep.external(&self.own.base(), &nonce));
                }
            }
            Way::Forbidden => return false,
        }
        true
    }

    /// How many bytes it adds to a page that has no policy beside those of its header. `None` where that
    /// is not certain.
    #[must_use]
    pub fn length(&self) -> Option<usize> {
        self.length_in(&self.csp.way())
    }

    fn length_in(&self, way: &Way) -> Option<usize> {
        if self.keep.is_some() || self.script.is_empty() {
            return None;
        }
        let (tags, nonce, content) = match way {
            Way::Inline(nonce) => ("<script></script>", nonce, self.script.len()),
            Way::External(nonce) => {
                let length = self.own.base().len() + self.path.len();
                ("<script src=\"\"></script>", nonce, length)
            }
            Way::Forbidden => return None,
        };
        let nonce = nonce.as_ref().map_or(0, |nonce| " nonce=\"\"".len() + nonce.len());
        Some(tags.len() + nonce + content)
    }
}

/// A page that waits for its snippet.
pub struct Injector {
    /// Made when a page can't be read without, dropped once nothing more can match.
    parser: Parsing,
    state: Arc<Mutex<State>>,
    /// Bytes that the parser has taken and not given back.
    held: Vec<u8>,
    /// The place, where the page has been seen before; then where it was found, for the next time.
    plan: Option<Plan>,
    /// Reads the page's title, where somebody wants it.
    title: Option<Arc<Mutex<Title>>>,
}

enum Parsing {
    /// Nothing has come of the page.
    NotYet,
    Now(Box<Mutex<Parser>>),
    Over,
}

type Parser = HtmlRewriter<'static, Box<dyn FnMut(&[u8]) + Send>>;

struct State {
    markup: Markup,
    out: Vec<u8>,
    /// Bytes put in that were not the page's.
    added: usize,
    outcome: Option<Rewrite>,
    /// The most that may be put in, in bytes, where that is bounded.
    most: Option<usize>,
    /// Inside elements whose content is no content of the page: `<template>`.
    inert: usize,
    /// Where in `out` the bytes begin that have not been searched for the vendor's snippet.
    unsearched: usize,
    /// What has been searched before.
    marks: Marks,
}

/// The most that the parser may hold: a longer tag or comment ends the attempt.
const MAX_PARSER_BYTES: usize = 256 * 1024;
/// Pieces of a page that has neither head nor body in sight.
const PIECE_BYTES: usize = 4096;

impl Injector {
    /// Waits for the place of `markup`.
    #[must_use]
    pub fn new(markup: Markup) -> Self {
        let state = State {
            markup,
            out: Vec::new(),
            added: 0,
            outcome: None,
            most: None,
            inert: 0,
            unsearched: 0,
            marks: Marks::default(),
        };
        Self {
            parser: Parsing::NotYet,
            state: Arc::new(Mutex::new(state)),
            held: Vec::new(),
            plan: None,
            title: None,
        }
    }

    /// Lets `title` read the page.
    #[must_use]
    pub fn with_title(mut self, title: Option<Arc<Mutex<Title>>>) -> Self {
        self.title = title;
        self
    }

    /// With the place that the page had the last time.
    #[must_use]
    pub fn with_plan(mut self, plan: Option<Plan>) -> Self {
        self.plan = plan;
        self
    }

    /// The page grows by `most` bytes at most, whatever policies it has itself: its length has been told.
    #[must_use]
    pub fn within(self, most: Option<usize>) -> Self {
        lock(&self.state).most = most;
        self
    }

    /// Where the place was, if it was plain to see: for the next time.
    #[must_use]
    pub fn plan(&self) -> Option<Plan> {
        self.plan
    }

    /// What has become of the snippet, once that is certain. All later bytes pass as they are.
    #[must_use]
    pub fn outcome(&self) -> Option<Rewrite> {
        lock(&self.state).outcome
    }

    /// Whether all that comes passes as it is, and is read by nobody.
    pub(super) fn is_through(&self) -> bool {
        matches!(self.parser, Parsing::Over) && self.title.is_none()
    }

    /// The most bytes that it adds to a page.
    #[must_use]
    pub fn adds(&self) -> usize {
        const TAGS: usize = 256;
        lock(&self.state).markup.script.len() + TAGS
    }

    /// Lets whoever wants the title read the page's next `bytes`.
    pub(super) fn read_title(&self, bytes: &[u8]) {
        if let Some(title) = &self.title {
            title.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
        }
    }

    /// Adds to `out` what comes of the page's next `bytes`.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.read_title(bytes);
        if matches!(self.parser, Parsing::NotYet) && !bytes.is_empty() && self.begin(bytes, out) {
            return;
        }
        let mut rest = bytes;
        while matches!(self.parser, Parsing::Now(_)) && !rest.is_empty() {
            let (piece, behind) = rest.split_at(next_piece(rest));
            rest = behind;
            self.parse(piece, out);
        }
        out.extend_from_slice(rest);
    }

    /// The first bytes of a page. Most of the time they are all that has to be read: then this is
    /// true, and they are in `out`.
    fn begin(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> bool {
        // UTF-16 by its byte order mark: nothing that we could write would be text there.
        if matches!(bytes, [0xFE | 0xFF] | [0xFE, 0xFF, ..] | [0xFF, 0xFE, ..]) {
            lock(&self.state).outcome = Some(Rewrite::Unreadable);
            self.parser = Parsing::Over;
            out.extend_from_slice(bytes);
            return true;
        }
        let known = self.plan.take().and_then(|plan| plan.place(bytes));
        let place = known.or_else(|| plain_place(bytes));
        let Some((head, rest)) = place.and_then(|place| bytes.split_at_checked(place)) else {
            self.parser = Parsing::Now(Box::new(Mutex::new(parser(&self.state))));
            return false;
        };
        // What is known had no snippet, and needs no second look.
        let present = known.is_none() && marks::is_in(head);
        let mut state = lock(&self.state);
        let way = state.decide(present);
        out.extend_from_slice(head);
        if state.markup.put(&way, present, out) {
            self.plan = (known.is_none() && !present).then(|| Plan::at(head.len(), bytes));
        }
        drop(state);
        out.extend_from_slice(rest);
        self.parser = Parsing::Over;
        true
    }

    /// Adds to `out` what is left at the end of the page.
    pub fn end(&mut self, out: &mut Vec<u8>) {
        self.give_back(out);
        lock(&self.state).outcome.get_or_insert(Rewrite::NoPlace);
    }

    fn parse(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let Parsing::Now(parser) = &mut self.parser else { return };
        let parser = parser.get_mut().unwrap_or_else(PoisonError::into_inner);
        let before = out.len();
        {
            let mut state = lock(&self.state);
            state.unsearched = before;
            std::mem::swap(out, &mut state.out);
        }
        let parsed = guard(Feature::Rewriting, || parser.write(piece));
        let mut state = lock(&self.state);
        if state.outcome.is_none() && state.has_snippet() {
            state.outcome = Some(Rewrite::Present);
        }
        std::mem::swap(out, &mut state.out);
        if !matches!(parsed, Some(Ok(()))) {
            state.outcome.get_or_insert(Rewrite::GaveUp);
        }
        let added = std::mem::take(&mut state.added);
        let given_back = (out.len() - before).saturating_sub(added);
        let done = state.outcome.is_some();
        drop(state);
        match given_back.checked_sub(self.held.len()) {
            Some(of_piece) => {
                self.held.clear();
                self.held.extend_from_slice(piece.get(of_piece..).unwrap_or_default());
            }
            None => {
                self.held.drain(..given_back);
                self.held.extend_from_slice(piece);
            }
        }
        if done {
            self.give_back(out);
        }
    }

    /// Ends parsing: what the parser holds goes out as it came.
    fn give_back(&mut self, out: &mut Vec<u8>) {
        self.parser = Parsing::Over;
        out.append(&mut self.held);
    }
}

/// Up to behind the next tag that can be the place, or a piece.
fn next_piece(bytes: &[u8]) -> usize {
    let place = memchr_iter(b'<', bytes).take_while(|at| *at < PIECE_BYTES).find(|at| {
        let tag = bytes.get(at + 1..).unwrap_or_default();
        starts(tag, b"/head") || starts(tag, b"body")
    });
    let Some(place) = place else { return bytes.len().min(PIECE_BYTES) };
    let tag = bytes.get(place..).unwrap_or_default();
    memchr(b'>', tag).map_or(bytes.len().min(place + PIECE_BYTES), |end| place + end + 1)
}

fn starts(bytes: &[u8], name: &[u8]) -> bool {
    bytes.get(..name.len()).is_some_and(|given| given.eq_ignore_ascii_case(name))
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn parser(state: &Arc<Mutex<State>>) -> Parser {
    let for_elements = Arc::clone(state);
    let for_text = Arc::clone(state);
    let for_sink = Arc::clone(state);
    let elements =
        ElementContentHandlers::default().element(move |element: &mut Element<'_, '_>| {
            on_element(&for_elements, element);
            Ok(())
        });
    let text = DocumentContentHandlers::default().text(move |text: &mut TextChunk<'_>| {
        let mut state = lock(&for_text);
        if state.outcome.is_none()
            && state.inert == 0
            && text.text_type() == TextType::Data
            && !text.as_str().trim_ascii().is_empty()
            && let Some(markup) = state.take_markup()
        {
            // Behind the white space, wherever a chunk of text begins.
            let content = text.as_str().trim_ascii_start().to_owned();
            let space = text.as_str().len() - content.len();
            let space = text.as_str().get(..space).unwrap_or_default().to_owned();
            text.before(&(space + &markup), ContentType::Html);
            text.set_str(content);
        }
        Ok(())
    });
    // Every byte means the same in this encoding as in any other that ASCII is a part of, and
    // every byte comes back as it was, also where the page breaks the rules of its own encoding.
    let encoding =
        AsciiCompatibleEncoding::new(WINDOWS_1252).unwrap_or_else(AsciiCompatibleEncoding::utf_8);
    let mut settings = Settings::new_send()
        .with_strict(false)
        .with_encoding(encoding)
        .with_memory_settings(
            MemorySettings::new()
                .with_preallocated_parsing_buffer_size(0)
                .with_max_allowed_memory_usage(MAX_PARSER_BYTES),
        )
        .append_document_content_handler(text);
    if let Some(all) = &*ALL {
        settings = settings.append_element_content_handler((Cow::Borrowed(all), elements));
    }
    HtmlRewriter::new(
        settings,
        Box::new(move |bytes: &[u8]| lock(&for_sink).out.extend_from_slice(bytes)),
    )
}

/// Every element. Parsed once.
static ALL: LazyLock<Option<Selector>> = LazyLock::new(|| "*".parse().ok());

/// Elements that may stand in a head: behind them its end may still come.
const HEAD_ELEMENTS: [&str; 11] = [
    "html", "head", "title", "base", "link", "meta", "style", "script", "noscript", "template",
    "bgsound",
];

fn on_element(shared: &Arc<Mutex<State>>, element: &mut Element<'_, '_>) {
    let mut state = lock(shared);
    if state.outcome.is_some() || (state.inert > 0 && !is(element, "template")) {
        return;
    }
    let name = element.tag_name();
    match name.as_str() {
        "head" => {
            let at_end = Arc::clone(shared);
            drop(state);
            // A head can always have content, so that registering can't fail.
            let _ = element.on_end_tag(Box::new(move |end: &mut EndTag<'_>| {
                let mut state = lock(&at_end);
                // The end of a head inside of a template ends nothing (WHATWG HTML, 13.2.6.4.22).
                if state.outcome.is_none()
                    && state.inert == 0
                    && let Some(markup) = state.take_markup()
                {
                    end.before(&markup, ContentType::Html);
                }
                Ok(())
            }));
        }
        "template" => {
            state.inert += 1;
            let at_end = Arc::clone(shared);
            drop(state);
            let _ = element.on_end_tag(Box::new(move |end: &mut EndTag<'_>| {
                // Only its own tag ends it.
                if end.name() == "template" {
                    let mut state = lock(&at_end);
                    state.inert = state.inert.saturating_sub(1);
                }
                Ok(())
            }));
        }
        "meta" => {
            let policy = element
                .get_attribute("http-equiv")
                .filter(|name| name.eq_ignore_ascii_case("content-security-policy"))
                .and_then(|_| element.get_attribute("content"));
            if let Some(policy) = policy {
                let Markup { csp, own, .. } = &mut state.markup;
                // A comma separates policies in headers alone.
                csp.add_of_page(&unescape(&policy).replace(',', " "), own);
            }
        }
        head if HEAD_ELEMENTS.contains(&head) => {}
        _ => {
            if let Some(markup) = state.take_markup() {
                element.before(&markup, ContentType::Html);
            }
        }
    }
}

fn is(element: &Element<'_, '_>, name: &str) -> bool {
    element.tag_name() == name
}

/// The character references that generators write into policies.
fn unescape(attribute: &str) -> String {
    attribute
        .replace("&#39;", "'")
        .replace("&#x27;", "'")
        .replace("&apos;", "'")
        .replace("&amp;", "&")
}

impl State {
    /// Whether what stands before this place holds the vendor's snippet, or ours.
    fn has_snippet(&mut self) -> bool {
        let new = self.out.get(self.unsearched..).unwrap_or_default();
        let found = self.marks.find(new);
        self.unsearched = self.out.len();
        found
    }

    /// The markup in the form that the page's policies allow; the outcome is certain then.
    fn take_markup(&mut self) -> Option<String> {
        let present = self.has_snippet();
        let way = self.decide(present);
        let mut markup = Vec::new();
        let put = self.markup.put(&way, present, &mut markup);
        self.added += markup.len();
        // It was text before.
        put.then(|| String::from_utf8(markup).unwrap_or_default())
    }

    /// What becomes of the markup in a page that has the vendor's snippet where `present`.
    fn decide(&mut self, present: bool) -> Way {
        let mut way = self.markup.csp.way();
        let fits = |most| self.markup.length_in(&way).is_none_or(|length| length <= most);
        if !self.most.is_none_or(fits) {
            way = Way::Forbidden;
        }
        self.outcome = Some(match way {
            _ if present => Rewrite::Present,
            Way::Inline(_) => Rewrite::Injected,
            Way::External(_) => Rewrite::External,
            Way::Forbidden => Rewrite::Forbidden,
        });
        way
    }
}

#[cfg(test)]
mod tests;
