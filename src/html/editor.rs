//! Changes a page's elements while it streams through: all changes in one pass, which ends as soon as
//! nothing more can match.

mod feed;
mod making;

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use encoding_rs::WINDOWS_1252;
use lol_html::html_content::EndTag;
use lol_html::send::{Element, ElementContentHandlers, HtmlRewriter, Settings};
use lol_html::{AsciiCompatibleEncoding, MemorySettings};

use super::edit::{Change, Edit};
use super::seek::{Left, Patches, Places, Seeker, Standing, Went};
use super::tree::Tree;
use crate::telemetry::{Feature, guard};
use feed::Feed;
use making::make;

/// A page whose elements are being changed.
pub struct Editor {
    parsing: Parsing,
    memory: Memory,
    state: Arc<Mutex<State>>,
}

enum Parsing {
    /// Nothing has come of the page: these are to be made.
    NotYet(Vec<Edit>),
    /// As a page that has been seen before.
    Patching(Box<Patches>),
    /// Without a parser, as long as the page is plain.
    Seeking(Box<Seeker>),
    Now(Box<Mutex<Feed>>),
    Over,
}

/// What is known of a page whose bytes somebody vouches for.
enum Memory {
    /// Nobody does.
    Off,
    Wanted,
    Learned(Arc<Places>),
}

type Parser = HtmlRewriter<'static, Sink>;
type Sink = Box<dyn FnMut(&[u8]) + Send>;

#[derive(Default)]
struct State {
    out: Vec<u8>,
    /// Elements changed.
    changed: usize,
    /// Edits that may still find an element, or are not through with theirs.
    open: usize,
    gave_up: bool,
    /// What comes is in no page, or nobody wrote it: nothing is found in it.
    is_hidden: bool,
}

/// The most that the parser may hold. It is told whole tags, and of no more elements than [`Tree`] takes: it needs less.
const MAX_PARSER_BYTES: usize = 1024 * 1024;
/// What is parsed before a look at whether more has to be.
const PIECE_BYTES: usize = 2048;

impl Editor {
    /// Makes `edits` in a page.
    #[must_use]
    pub fn new(edits: Vec<Edit>) -> Self {
        Self { parsing: Parsing::NotYet(edits), memory: Memory::Off, state: Arc::default() }
    }

    /// Of a page that will be the same the next time: with the places that it had the last time, if it has
    /// been seen.
    #[must_use]
    pub fn with_places(mut self, places: Option<Arc<Places>>) -> Self {
        self.memory = Memory::Wanted;
        if let (Parsing::NotYet(edits), Some(places)) = (&self.parsing, places)
            && let Some(patches) =
                guard(Feature::Rewriting, || Patches::new(places, edits)).flatten()
        {
            lock(&self.state).changed = patches.changed();
            self.parsing = Parsing::Patching(Box::new(patches));
            self.memory = Memory::Off;
        }
        self
    }

    /// By how much the page grows at most, in bytes, if that is known before it comes.
    #[must_use]
    pub fn grows(&self) -> Option<isize> {
        match &self.parsing {
            Parsing::Patching(patches) => patches.grows(),
            _ => None,
        }
    }

    /// The places that it turned out to have: for the next time.
    #[must_use]
    pub fn learned(&self) -> Option<&Arc<Places>> {
        match &self.memory {
            Memory::Learned(places) => Some(places),
            Memory::Off | Memory::Wanted => None,
        }
    }

    /// The same by the parser alone.
    #[cfg(test)]
    pub(crate) fn parsed(edits: &[Edit]) -> Self {
        let mut editor = Self::new(Vec::new());
        editor.parsing = editor.parse(edits, Tree::default(), None);
        editor
    }

    /// Seeks what it can. `true` when nothing is left for a parser to do with `bytes`.
    fn seek(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<bool, Lost> {
        if let Parsing::NotYet(edits) = &mut self.parsing {
            let edits = std::mem::take(edits);
            self.parsing = self.begin(edits);
        }
        match &mut self.parsing {
            Parsing::Patching(patches) => {
                let went = guard(Feature::Rewriting, || patches.push(bytes, out)).ok_or(Lost)?;
                if went != Went::On {
                    lock(&self.state).gave_up = went == Went::Astray;
                    self.parsing = Parsing::Over;
                }
            }
            Parsing::Seeking(seeker) => {
                let sought = guard(Feature::Rewriting, || seeker.push(bytes, out)).ok_or(Lost)?;
                lock(&self.state).changed = seeker.changed();
                match sought {
                    Standing::More => {}
                    Standing::Done => self.remember(),
                    Standing::Odd => self.go_on(out)?,
                }
            }
            Parsing::NotYet(_) | Parsing::Now(_) | Parsing::Over => return Ok(false),
        }
        Ok(true)
    }

    fn begin(&mut self, edits: Vec<Edit>) -> Parsing {
        match Seeker::new(edits) {
            Ok(mut seeker) => {
                if matches!(self.memory, Memory::Wanted) {
                    seeker.remember();
                }
                Parsing::Seeking(Box::new(seeker))
            }
            Err(edits) => self.parse(&edits, Tree::default(), None),
        }
    }

    /// All has been sought.
    fn remember(&mut self) {
        if let Parsing::Seeking(mut seeker) = std::mem::replace(&mut self.parsing, Parsing::Over)
            && let Some(places) = seeker.places()
        {
            self.memory = Memory::Learned(Arc::new(places));
        }
    }

    /// A parser goes on where seeking has stopped: it reads the tags of what is open.
    fn go_on(&mut self, out: &mut Vec<u8>) -> Result<(), Lost> {
        let Parsing::Seeking(seeker) = std::mem::replace(&mut self.parsing, Parsing::Over) else {
            return Ok(());
        };
        let Left { edits, tree, text, held, changed } = seeker.left();
        self.parsing = self.parse(&edits, tree, text);
        // What comes of the tags has gone out.
        let mut state = lock(&self.state);
        state.out.clear();
        state.changed = changed;
        drop(state);
        self.push(&held, out)
    }

    fn parse(&self, edits: &[Edit], tree: Tree<()>, text: Option<&'static str>) -> Parsing {
        lock(&self.state).open = edits.len();
        let begun = guard(Feature::Rewriting, || {
            Feed::new(parser(edits, &self.state), &self.state, tree, text)
        });
        match begun {
            Some(Ok(feed)) => Parsing::Now(Box::new(Mutex::new(feed))),
            Some(Err(_)) | None => {
                lock(&self.state).gave_up = true;
                Parsing::Over
            }
        }
    }

    /// Adds to `out` what comes of the page's next `bytes`.
    ///
    /// # Errors
    /// The parser panicked: what it held is lost.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Lost> {
        let mut rest = bytes;
        if !bytes.is_empty() && self.seek(bytes, out)? {
            return Ok(());
        }
        while let Parsing::Now(parser) = &mut self.parsing
            && !rest.is_empty()
        {
            let (piece, behind) = rest.split_at(rest.len().min(PIECE_BYTES));
            rest = behind;
            std::mem::swap(out, &mut lock(&self.state).out);
            let parser = parser.get_mut().unwrap_or_else(PoisonError::into_inner);
            let parsed = guard(Feature::Rewriting, || parser.push(piece));
            let is_lost = parser.is_lost();
            let mut state = lock(&self.state);
            std::mem::swap(out, &mut state.out);
            state.gave_up |= is_lost;
            let over = state.open == 0 || is_lost;
            match parsed {
                None => return Err(Lost),
                // All that it held has come out.
                Some(Err(_)) => {
                    state.gave_up = true;
                    drop(state);
                    self.parsing = Parsing::Over;
                }
                Some(Ok(())) if over => {
                    drop(state);
                    self.end(out)?;
                }
                Some(Ok(())) => {}
            }
        }
        out.extend_from_slice(rest);
        Ok(())
    }

    /// Adds to `out` what is left.
    ///
    /// # Errors
    /// As [`Editor::push`].
    pub fn end(&mut self, out: &mut Vec<u8>) -> Result<(), Lost> {
        match &mut self.parsing {
            Parsing::Seeking(seeker) => {
                guard(Feature::Rewriting, || seeker.end(out)).ok_or(Lost)?;
                self.remember();
            }
            Parsing::Patching(patches) => {
                patches.end(out);
                lock(&self.state).gave_up = true;
            }
            Parsing::NotYet(_) | Parsing::Now(_) | Parsing::Over => {}
        }
        let Parsing::Now(parser) = std::mem::replace(&mut self.parsing, Parsing::Over) else {
            return Ok(());
        };
        let parser = parser.into_inner().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(out, &mut lock(&self.state).out);
        let ended = guard(Feature::Rewriting, || parser.end());
        let mut state = lock(&self.state);
        std::mem::swap(out, &mut state.out);
        match ended {
            None => Err(Lost),
            Some(ended) => {
                state.gave_up |= ended.is_err();
                Ok(())
            }
        }
    }

    /// Whether all bytes pass as they are from here on.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.parsing, Parsing::Over)
    }

    /// How many elements have been changed.
    #[must_use]
    pub fn changed(&self) -> usize {
        lock(&self.state).changed
    }

    /// Whether the parser gave up: the rest of the page was left as it is.
    #[must_use]
    pub fn gave_up(&self) -> bool {
        lock(&self.state).gave_up
    }
}

/// The parser panicked, and what it held is lost.
#[derive(Debug, thiserror::Error)]
#[error("the rewriter panicked in the middle of a page")]
pub struct Lost;

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn parser(edits: &[Edit], state: &Arc<Mutex<State>>) -> Parser {
    let for_sink = Arc::clone(state);
    // Every byte means the same in this encoding as in any other that ASCII is a part of, and
    // every byte comes back as it was. What is put in is ASCII.
    let encoding =
        AsciiCompatibleEncoding::new(WINDOWS_1252).unwrap_or_else(AsciiCompatibleEncoding::utf_8);
    let mut settings =
        Settings::new_send().with_strict(false).with_encoding(encoding).with_memory_settings(
            MemorySettings::new()
                .with_preallocated_parsing_buffer_size(0)
                .with_max_allowed_memory_usage(MAX_PARSER_BYTES)
                .with_graceful_bail_out_on_memory_limit_exceeded(true),
        );
    for edit in edits {
        let handler = handler(edit.clone(), Arc::clone(state));
        settings = settings
            .append_element_content_handler((Cow::Borrowed(edit.select.selector()), handler));
    }
    let sink: Sink = Box::new(move |bytes: &[u8]| {
        lock(&for_sink).out.extend_from_slice(bytes);
    });
    HtmlRewriter::new(settings, sink)
}

fn handler(edit: Edit, state: Arc<Mutex<State>>) -> ElementContentHandlers<'static> {
    let once = edit.is_once();
    let mut done = false;
    ElementContentHandlers::default().element(move |element: &mut Element<'_, '_>| {
        if (once && done) || lock(&state).is_hidden {
            return Ok(());
        }
        done = true;
        lock(&state).changed += 1;
        for change in &edit.changes {
            make(change, element);
        }
        if once {
            // What is inside or behind the element is made at its end.
            let to_the_end = edit.changes.iter().any(Change::needs_end);
            let for_end = Arc::clone(&state);
            let at_end: lol_html::send::EndTagHandler<'static> =
                Box::new(move |_: &mut EndTag<'_>| {
                    let mut state = lock(&for_end);
                    state.open = state.open.saturating_sub(1);
                    Ok(())
                });
            if !to_the_end || element.on_end_tag(at_end).is_err() {
                let mut state = lock(&state);
                state.open = state.open.saturating_sub(1);
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests;
