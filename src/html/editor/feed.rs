//! What the parser is told of a page. It knows elements by their tags alone: it is told of the others, too, by tags that
//! do not go out, so that an element is in it what it is in a browser.

use std::sync::{Arc, Mutex};

use lol_html::errors::RewritingError;

use super::super::seek::{
    EndTag, Held, MAX_HELD, Script, Stop, Tag, Token, end_of_odd_text, next, next_odd,
};
use super::super::tree::{Ended, Name, Stand, Step, Tree};
use super::{Parser, State, lock};

mod long;
mod skip;

use long::TooLong;
use skip::Skip;

/// The parser, and what the page is in.
pub(super) struct Feed {
    parser: Parser,
    state: Arc<Mutex<State>>,
    tree: Tree<()>,
    /// The page is such that nothing more is made of it.
    is_lost: bool,
    /// What comes is the text of an element of this name.
    text: Option<&'static str>,
    script: Script,
    /// What comes belongs to a tag or comment that is too long to be held.
    long: Option<TooLong>,
    /// What comes is not looked at, and goes.
    skip: Option<Skip>,
    /// What comes is in a template, and the parser is told nothing of it: whether it goes out.
    template: Option<bool>,
    /// Bytes of a tag that is not all there.
    held: Held,
}

/// Why it does not go on.
enum Halt {
    Stop(Stop),
    Failed(RewritingError),
}

/// What is being told.
struct Part<'p> {
    page: &'p [u8],
    /// What is before is read.
    at: usize,
    /// The parser knows what is before.
    told: usize,
}

/// What a tag has that nobody wrote: pages don't write that.
const OURS: &[u8] = b"\n\x0c\n";
type Told = Result<(), RewritingError>;

impl From<Stop> for Halt {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl From<RewritingError> for Halt {
    fn from(error: RewritingError) -> Self {
        Self::Failed(error)
    }
}

impl Feed {
    /// For `parser`, which writes to `state`, of a page that is in `tree`, and in the text of an element called `text`.
    pub(super) fn new(
        parser: Parser,
        state: &Arc<Mutex<State>>,
        tree: Tree<()>,
        text: Option<&'static str>,
    ) -> Result<Self, RewritingError> {
        let state = Arc::clone(state);
        let mut feed = Self {
            parser,
            state,
            tree,
            is_lost: false,
            text,
            script: Script::default(),
            long: None,
            skip: None,
            template: None,
            held: Held::default(),
        };
        let known = feed.tree.template().map_or(feed.tree.depth(), |template| template + 1);
        for number in 0..known {
            let tag = feed.tree.tag(number).to_vec();
            if feed.tree.is_found(number) {
                feed.parser.write(&tag)?;
            } else {
                feed.begin_again(&tag)?;
            }
        }
        feed.enter_template()?;
        Ok(feed)
    }

    /// Tells the page's next `bytes`.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Told {
        if self.held.waits(bytes) {
            return Ok(());
        }
        let mut held = self.held.take();
        let page = if held.is_empty() {
            bytes
        } else {
            held.extend_from_slice(bytes);
            &held
        };
        let mut part = Part { page, at: 0, told: 0 };
        loop {
            match self.step(&mut part) {
                Ok(()) => {}
                Err(Halt::Stop(Stop::More)) if page.len() - part.at < MAX_HELD => break,
                Err(Halt::Stop(Stop::More)) => self.too_long(&mut part)?,
                Err(Halt::Stop(Stop::Odd)) => self.too_deep(&mut part)?,
                Err(Halt::Failed(error)) => return Err(error),
            }
            if self.is_lost {
                lock(&self.state).out.extend_from_slice(page.get(part.told..).unwrap_or_default());
                return Ok(());
            }
        }
        if self.skip.is_some() || self.long.is_some() {
            part.told = part.at;
        }
        let read = part.at;
        self.tell(&mut part, read)?;
        self.held.hold(page.get(part.at..).unwrap_or_default());
        Ok(())
    }

    /// Nothing more is made of the page.
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// The page has ended, and what is open with it, unless that is in the middle of a tag or of a script.
    pub(super) fn end(mut self) -> Told {
        let is_between = self.held.is_empty() && self.text.is_none();
        let ends = is_between && !self.is_lost && self.long.is_none() && self.skip.is_none();
        if ends {
            self.leave_template();
        }
        while ends && self.tree.depth() > 0 {
            self.end_innermost()?;
        }
        let held = self.held.take();
        if self.skip.is_none() {
            self.hand(&held)?;
        }
        self.parser.end()
    }

    fn tell(&mut self, part: &mut Part<'_>, to: usize) -> Told {
        let bytes = part.page.get(part.told..to).unwrap_or_default();
        part.told = to;
        if bytes.is_empty() { Ok(()) } else { self.hand(bytes) }
    }

    /// Bytes of the page go to the parser, or past it.
    fn hand(&mut self, bytes: &[u8]) -> Told {
        match self.template {
            None => return self.parser.write(bytes),
            Some(true) => lock(&self.state).out.extend_from_slice(bytes),
            Some(false) => {}
        }
        Ok(())
    }

    /// From here on the page is in a template, if it is: nothing is found there.
    fn enter_template(&mut self) -> Told {
        if self.template.is_none() && self.tree.is_hidden() {
            self.template = Some(self.is_there()?);
        }
        Ok(())
    }

    /// The templates end that are in the outermost one, of which alone the parser knows.
    fn leave_template(&mut self) {
        while let Some(outermost) = self.tree.template().filter(|_| self.template.is_some()) {
            if self.tree.depth() == outermost + 1 {
                break;
            }
            let _nothing: Option<()> = self.tree.pop();
        }
        self.template = None;
    }

    fn step(&mut self, part: &mut Part<'_>) -> Result<(), Halt> {
        if let Some(long) = self.long.take() {
            return self.go_on(long, part);
        }
        if let Some(name) = self.text {
            self.end_text(name, part)?;
        }
        if let Some(skip) = self.skip.take() {
            return self.skip(skip, part);
        }
        let from = part.at;
        let token = read(part.page, &mut part.at, self.tree.is_in_foreign());
        self.text(from, part)?;
        match token? {
            Token::Start(tag) => self.start(&tag, part)?,
            Token::End(tag) => self.end_tag(&tag, part)?,
            Token::Comment(end) => {
                let is_usual =
                    part.page.get(part.at..).is_some_and(|text| text.starts_with(b"<!--"));
                part.at = end;
                if !is_usual {
                    // The parser would hold back what follows.
                    self.tell(part, end)?;
                    self.is_there()?;
                }
            }
            Token::Doctype(text, end) => {
                self.tree.doctype(text);
                part.at = end;
            }
        }
        Ok(())
    }

    fn end_text(&mut self, name: &str, part: &mut Part<'_>) -> Result<(), Stop> {
        match name {
            "script" => self.script.end(part.page, &mut part.at)?,
            name => end_of_odd_text(part.page, &mut part.at, name)?,
        }
        self.script = Script::default();
        self.text = None;
        Ok(())
    }

    /// What text between `from` and where the page is begins and ends.
    fn text(&mut self, from: usize, part: &mut Part<'_>) -> Told {
        let text = part.page.get(from..part.at).unwrap_or_default();
        let minds = self.tree.minds_text();
        let Some(begin) = text.iter().position(|byte| minds && !byte.is_ascii_whitespace()) else {
            return Ok(());
        };
        while let Some(step) = self.tree.before_text() {
            self.tell(part, from + begin)?;
            self.take(step)?;
        }
        Ok(())
    }

    /// What comes to pass where nobody wrote a tag.
    fn take(&mut self, step: Step) -> Told {
        match step {
            Step::Ends => self.end_innermost(),
            Step::Begins(name) => {
                self.tree.begin(name, 0);
                let tag = self.tree.tag(self.tree.depth().saturating_sub(1)).to_vec();
                self.begin_again(&tag).map(drop)
            }
            Step::Overs(number) => {
                self.tree.over(number);
                Ok(())
            }
            Step::Stands(_) => Ok(()),
        }
    }

    /// An element begins whose tag does not go out. Says whether it would have, as all that is there.
    fn begin_again(&mut self, tag: &[u8]) -> Result<bool, RewritingError> {
        let (was_hidden, before) = {
            let mut state = lock(&self.state);
            (std::mem::replace(&mut state.is_hidden, true), state.out.len())
        };
        let told = self.parser.write(tag);
        let mut state = lock(&self.state);
        let came = state.out.get(before..).unwrap_or_default();
        // Text that the parser held back comes with it.
        let is_there = came.ends_with(tag);
        let own = if is_there { tag.len() } else { 0 };
        let left = state.out.len() - own;
        state.out.truncate(left);
        state.is_hidden = was_hidden;
        told.map(|()| is_there)
    }

    /// The innermost element ends with a tag that does not go out.
    fn end_innermost(&mut self) -> Told {
        let tag = [b"</", self.tree.innermost(), OURS, b">"].concat();
        let _nothing: Option<()> = self.tree.pop();
        self.replace(&tag, &[]).map(drop)
    }

    /// Tells `tag` where the page has `own`. Says whether that goes out.
    fn replace(&mut self, tag: &[u8], own: &[u8]) -> Result<bool, RewritingError> {
        let before = lock(&self.state).out.len();
        let told = self.parser.write(tag);
        let mut state = lock(&self.state);
        let came = state.out.get(before..).unwrap_or_default();
        let at = memchr::memmem::find(came, tag);
        if let Some(at) = at {
            let range = before + at..before + at + tag.len();
            state.out.splice(range, own.iter().copied());
        }
        told.map(|()| at.is_some())
    }

    /// Where the element of a start tag is, after all that its tag brings with it.
    fn stand(
        &mut self,
        name: Name,
        at: usize,
        part: &mut Part<'_>,
    ) -> Result<Stand, RewritingError> {
        self.tree.leave_foreign(name);
        while !self.tree.is_hidden() {
            match self.tree.before(name) {
                Step::Stands(stand) => return Ok(stand),
                step => {
                    self.tell(part, at)?;
                    self.take(step)?;
                }
            }
        }
        Ok(Stand::Inside)
    }

    fn start(&mut self, tag: &Tag<'_>, part: &mut Part<'_>) -> Result<(), Halt> {
        let name = Name::of(tag.name);
        let raw = part.page.get(tag.start..tag.end).unwrap_or_default();
        let was_hidden = self.tree.is_hidden();
        let stand = self.stand(name, tag.start, part)?;
        if let Stand::Ends(number) = stand {
            self.tell(part, tag.start)?;
            while self.tree.depth() > number {
                self.end_innermost()?;
            }
        }
        if matches!(stand, Stand::Ends(_) | Stand::Ignored) {
            return Ok(self.ignore(tag.start..tag.end, part)?);
        }
        if !self.tree.takes(raw) {
            return Err(Halt::Stop(Stop::Odd));
        }
        let foreign = self.tree.begins_foreign(name);
        let is_open = if foreign { !tag.closes } else { !name.traits().is_void() };
        if is_open && (!was_hidden || foreign || name == Name::Template) {
            self.tree.push(name, tag.name, raw, 0, stand, None);
            self.text = self.tree.text_name();
        }
        if was_hidden && !foreign && name.traits().is_text() {
            self.text = Some(name.text());
        }
        part.at = tag.end;
        if stand == Stand::Empty {
            self.tell(part, tag.end)?;
            self.end_innermost()?;
        }
        if !was_hidden && self.tree.is_hidden() {
            self.tell(part, tag.end)?;
            self.enter_template()?;
        }
        Ok(())
    }

    /// A tag that means nothing.
    fn ignore(&mut self, tag: std::ops::Range<usize>, part: &mut Part<'_>) -> Told {
        self.tell(part, tag.start)?;
        let ours = [b"</ignored", OURS, b">"].concat();
        self.replace(&ours, part.page.get(tag.clone()).unwrap_or_default())?;
        (part.at, part.told) = (tag.end, tag.end);
        Ok(())
    }

    fn end_tag(&mut self, tag: &EndTag<'_>, part: &mut Part<'_>) -> Told {
        if self.tree.is_hidden() {
            return self.end_in_template(tag, part);
        }
        let name = Name::of(tag.name);
        while let Some(step) = self.tree.before_end(name) {
            self.tell(part, tag.start)?;
            self.take(step)?;
        }
        match self.tree.end(name, tag.name) {
            Ended::Nothing => self.ignore(tag.start..tag.end, part),
            Ended::Over(number) => {
                self.tree.over(number);
                self.ignore(tag.start..tag.end, part)
            }
            Ended::To(number) => self.end_to(number, tag, part),
            Ended::Still(number) => self.end_still(number, tag, part),
        }
    }

    /// Of these, only the outermost template's own ends anything for the parser.
    fn end_in_template(&mut self, tag: &EndTag<'_>, part: &mut Part<'_>) -> Told {
        if let Ended::To(number) = self.tree.end(Name::of(tag.name), tag.name) {
            while self.tree.depth() > number {
                let _nothing: Option<()> = self.tree.pop();
            }
            if !self.tree.is_hidden() {
                self.tell(part, tag.start)?;
                self.template = None;
            }
        }
        part.at = tag.end;
        Ok(())
    }

    /// The element with this number ends with this tag, and all that is open in it before.
    fn end_to(&mut self, number: usize, tag: &EndTag<'_>, part: &mut Part<'_>) -> Told {
        while self.tree.depth() > number + 1 {
            self.tell(part, tag.start)?;
            self.end_innermost()?;
        }
        if !self.tree.innermost().eq_ignore_ascii_case(tag.name) {
            // One heading's tag ends another.
            self.tell(part, tag.start)?;
            self.end_innermost()?;
            return self.ignore(tag.start..tag.end, part);
        }
        let _nothing: Option<()> = self.tree.pop();
        part.at = tag.end;
        while self.tree.is_over() {
            self.tell(part, tag.end)?;
            self.end_innermost()?;
        }
        Ok(())
    }

    /// This tag is the end of the element with this number, but what follows is in it as well.
    fn end_still(&mut self, number: usize, tag: &EndTag<'_>, part: &mut Part<'_>) -> Told {
        let open = number..self.tree.depth();
        let tags: Vec<Vec<u8>> = open.map(|inner| self.tree.tag(inner).to_vec()).collect();
        self.tell(part, tag.start)?;
        let inner = tags.iter().skip(1).rev();
        for name in inner.map(|tag| name_of(tag)) {
            self.replace(&[b"</", name, OURS, b">"].concat(), &[])?;
        }
        self.tell(part, tag.end)?;
        part.at = tag.end;
        for inner in number..self.tree.depth() {
            let _nothing: Option<()> = self.tree.take_end(inner);
        }
        tags.iter().try_for_each(|tag| self.begin_again(tag).map(drop))
    }
}

/// Reads what stands at `at`, however it is written. What is too long is not read, however it comes.
fn read<'p>(page: &'p [u8], at: &mut usize, in_foreign: bool) -> Result<Token<'p>, Stop> {
    let token = match next(page, at) {
        Err(Stop::Odd) => next_odd(page, *at, in_foreign),
        token => token,
    }?;
    if token.end().saturating_sub(*at) < MAX_HELD { Ok(token) } else { Err(Stop::More) }
}

/// The name in a start tag.
fn name_of(tag: &[u8]) -> &[u8] {
    let name = tag.get(1..).unwrap_or_default();
    let end = name.iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'-');
    name.get(..end.unwrap_or(name.len())).unwrap_or_default()
}
