//! Edits of a page's elements without a parser: to build one and to read a page with it costs more than all
//! the rest. What comes out is byte for byte what the parser would have made. Anything unusual is left to
//! it: it is told what is open, and goes on where this has stopped.

mod find;
mod interest;
mod kind;
mod long;
mod made;
mod odd;
mod patches;
mod places;
mod tag;

use std::ops::Range;

use find::Finding;
use interest::Interest;
use kind::{Kind, is_plain_in_svg, label};
pub(super) use long::{Held, Kind as LongKind, Long, MAX_HELD};
use made::{AtEnd, Made};
pub(super) use odd::{Script, end_of_odd_text, next_odd};
pub(super) use patches::{Patches, Went};
pub use places::Places;
pub(super) use tag::{EndTag, Stop, Tag, Token, next};

use super::edit::Edit;
use super::tree::{Ended, Name, Stand, Step, Tree};

/// Looks for elements in a page as it comes.
pub(super) struct Seeker {
    edits: Vec<Sought>,
    /// How many of them may still find an element.
    open: usize,
    /// What they look for.
    interest: Interest,
    /// What the page is in.
    tree: Tree<Box<End>>,
    /// How many of those elements have something to be done at their end.
    unfinished: usize,
    /// What comes is in an element whose content goes.
    emptying: bool,
    /// What comes is the text of an element of this name.
    text: Option<&'static str>,
    svg: Svg,
    /// Bytes that are not through.
    held: Held,
    changed: usize,
    /// Where in the page the first of them is.
    from: usize,
    /// Where elements were found, if somebody wants to know.
    places: Option<Places>,
}

/// The end of an element that has been changed.
struct End {
    /// By these: a bit for each.
    edits: u64,
    /// The element's number among the places.
    place: Option<usize>,
    made: AtEnd,
}

/// Where a page is as to pictures in it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Svg {
    Outside,
    Inside,
    /// In the text that a picture has for those who do not see it, up to the end tag of this name.
    Label(&'static str),
}

struct Sought {
    edit: Edit,
    /// It has not found all that it may find.
    open: bool,
    /// The first of the bits that stand for the parts of its ways.
    bit: u32,
}

/// How it stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// More of the page is needed.
    More,
    /// All is made: the rest passes as it is.
    Done,
    /// The parser has to go on.
    Odd,
}

/// What a parser goes on with.
pub(super) struct Left {
    /// What it may still find, or has to finish.
    pub(super) edits: Vec<Edit>,
    /// What is open: what it makes of the tags has gone out.
    pub(super) tree: Tree<()>,
    /// What comes is the text of an element of this name.
    pub(super) text: Option<&'static str>,
    pub(super) held: Vec<u8>,
    pub(super) changed: usize,
}

/// The part of a page that is being looked at.
struct Part<'p, 'o> {
    page: &'p [u8],
    /// What is before is through.
    at: usize,
    /// `out` stands for what is before.
    written: usize,
    out: &'o mut Vec<u8>,
}

impl Part<'_, '_> {
    fn pass(&mut self, to: usize) {
        self.out.extend_from_slice(self.page.get(self.written..to).unwrap_or_default());
        self.written = to;
    }
}

impl Seeker {
    /// Makes `edits`, if they are such that this can.
    pub(super) fn new(edits: Vec<Edit>) -> Result<Self, Vec<Edit>> {
        let mut bits = 0;
        let mut firsts = Vec::with_capacity(edits.len());
        for edit in &edits {
            let Some(paths) = edit.select.plain() else { return Err(edits) };
            firsts.push(bits);
            // The last of a way needs no bit: it is the element itself.
            bits += paths.iter().map(|path| path.len() - 1).sum::<usize>();
        }
        let max = u64::BITS as usize;
        if edits.is_empty() || edits.len() > max || bits > max {
            return Err(edits);
        }
        let open = edits.len();
        let mut interest = Interest::default();
        let paths = edits.iter().flat_map(|edit| edit.select.plain().unwrap_or_default());
        paths.flatten().for_each(|compound| interest.add(compound));
        let sought = edits.into_iter().zip(firsts).map(|(edit, first)| Sought {
            edit,
            open: true,
            bit: u32::try_from(first).unwrap_or_default(),
        });
        Ok(Self {
            edits: sought.collect(),
            open,
            interest,
            tree: Tree::default(),
            unfinished: 0,
            emptying: false,
            text: None,
            svg: Svg::Outside,
            held: Held::default(),
            changed: 0,
            from: 0,
            places: None,
        })
    }

    /// Remembers where it finds elements.
    pub(super) fn remember(&mut self) {
        self.places = Some(Places::default());
    }

    /// Where it has found elements, once it is done or the page has ended.
    pub(super) fn places(&mut self) -> Option<Places> {
        self.places.take().filter(|_| self.unfinished == 0)
    }

    /// How many elements have been changed.
    pub(super) fn changed(&self) -> usize {
        self.changed
    }

    /// Adds to `out` what is not through where the page ends here. Elements that are open end with it, unless that is in
    /// the middle of a tag or of a script: there nothing can be put in.
    pub(super) fn end(&mut self, out: &mut Vec<u8>) {
        let held = self.held.take();
        if self.unfinished > 0 {
            // The next time it may be longer.
            self.places = None;
        }
        if self.emptying && !held.is_empty() {
            return;
        }
        out.extend_from_slice(&held);
        if !held.is_empty() || self.text.is_some() {
            return;
        }
        let mut part = Part { page: &[], at: 0, written: 0, out };
        while self.tree.depth() > 0 {
            self.end_innermost(&mut part, 0);
        }
    }

    /// What is left for the parser.
    pub(super) fn left(mut self) -> Left {
        let unfinished = self.tree.ends().fold(0, |edits, end| edits | end.edits);
        let is_left = |number: u64, sought: &Sought| sought.open || unfinished & number != 0;
        let left = self.numbered().filter(|(number, sought)| is_left(*number, sought));
        let edits = left.map(|(_, sought)| sought.edit.clone()).collect();
        let held = self.held.take();
        let tree = self.tree.bare();
        Left { edits, tree, text: self.text, held, changed: self.changed }
    }

    /// Adds to `out` what comes of the page's next `bytes`.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Standing {
        if self.held.waits(bytes) {
            return Standing::More;
        }
        let mut held = self.held.take();
        let page = if held.is_empty() {
            bytes
        } else {
            held.extend_from_slice(bytes);
            &held
        };
        let mut part = Part { page, at: 0, written: 0, out };
        let stop = loop {
            if self.open == 0 && self.unfinished == 0 {
                part.pass(page.len());
                return Standing::Done;
            }
            if let Err(stop) = self.step(&mut part) {
                break stop;
            }
        };
        if !self.emptying {
            part.pass(part.at);
        }
        self.from += part.at;
        self.held.hold(page.get(part.at..).unwrap_or_default());
        match stop {
            Stop::More if self.held.len() < MAX_HELD => Standing::More,
            Stop::More | Stop::Odd => Standing::Odd,
        }
    }

    /// One tag further.
    fn step(&mut self, part: &mut Part<'_, '_>) -> tag::Found<()> {
        if let Some(name) = self.text {
            tag::end_of_text(part.page, &mut part.at, name)?;
            self.text = None;
        }
        let from = part.at;
        let token = tag::next(part.page, &mut part.at);
        if self.tree.minds_text() {
            self.text(from, part);
        }
        let token = token?;
        if token.end().saturating_sub(part.at) >= MAX_HELD {
            // However it comes, it is too long.
            return Err(Stop::Odd);
        }
        match token {
            Token::Start(tag) => self.start(&tag, part),
            Token::End(tag) => self.end_tag(&tag, part),
            Token::Comment(end) => {
                part.at = end;
                Ok(())
            }
            Token::Doctype(text, end) => {
                self.tree.doctype(text);
                part.at = end;
                Ok(())
            }
        }
    }

    /// What text between `from` and where the page is begins and ends.
    fn text(&mut self, from: usize, part: &mut Part<'_, '_>) {
        let text = part.page.get(from..part.at).unwrap_or_default();
        let Some(begin) = text.iter().position(|byte| !byte.is_ascii_whitespace()) else { return };
        while let Some(step) = self.tree.before_text() {
            self.take(step, from + begin, part);
        }
    }

    /// What comes to pass at a place of the page where nobody wrote a tag.
    fn take(&mut self, step: Step, at: usize, part: &mut Part<'_, '_>) {
        match step {
            Step::Ends => self.end_innermost(part, at),
            Step::Begins(name) => {
                let tag = Tag::bare(name.text().as_bytes());
                let parts = self.find(&tag, Stand::Inside).parts;
                self.tree.begin(name, parts);
            }
            Step::Overs(number) => self.tree.over(number),
            Step::Stands(_) => {}
        }
    }

    /// The innermost element ends at a place of the page where nobody wrote that.
    fn end_innermost(&mut self, part: &mut Part<'_, '_>, at: usize) {
        if let Some(end) = self.tree.pop() {
            self.finish(&end, part, at..at);
        }
    }

    /// Does what is to be done at the end of an element, whose tag is there.
    fn finish(&mut self, end: &End, part: &mut Part<'_, '_>, tag: Range<usize>) {
        let raw = part.page.get(tag.clone()).unwrap_or_default();
        self.unfinished -= 1;
        if end.made.is_emptied {
            self.emptying = false;
            part.written = tag.start;
        }
        part.pass(tag.start);
        end.made.write(raw, part.out);
        part.written = tag.end;
        self.place(|places, from| places.end(end.place?, from + tag.start, raw));
    }

    /// Where the element of a start tag is, after all that its tag brings with it.
    fn stand(&mut self, name: Name, at: usize, part: &mut Part<'_, '_>) -> Stand {
        while self.svg == Svg::Outside && !self.tree.is_hidden() {
            match self.tree.before(name) {
                Step::Stands(stand) => return stand,
                step => self.take(step, at, part),
            }
        }
        Stand::Inside
    }

    fn start(&mut self, tag: &Tag<'_>, part: &mut Part<'_, '_>) -> tag::Found<()> {
        let name = Name::of(tag.name);
        let kind = Kind::of(name);
        let stand = self.stand(name, tag.start, part);
        if let Stand::Ends(number) = stand {
            self.end_to(number, &EndTag { start: tag.start, end: tag.end, name: tag.name }, part);
            part.at = tag.end;
            return Ok(());
        }
        let is_hidden = self.tree.is_hidden();
        let is_there = !is_hidden && stand != Stand::Ignored;
        let found = if is_there && self.interest.has(tag) {
            self.find(tag, stand)
        } else {
            Finding::default()
        };
        let usual = match kind {
            _ if self.svg == Svg::Inside => {
                is_plain_in_svg(tag.name) || (label(tag.name).is_some() && !tag.closes)
            }
            _ if self.svg != Svg::Outside => false,
            Kind::Usual | Kind::Void => true,
            // The parser and browsers do not agree about what follows one that closes itself.
            Kind::Text(_) | Kind::Svg => !tag.closes && is_there,
            Kind::Strange => false,
        };
        let in_svg = self.svg != Svg::Outside;
        let editable = !in_svg && matches!(kind, Kind::Usual | Kind::Void);
        let raw = part.page.get(tag.start..tag.end).unwrap_or_default();
        let fits = self.tree.takes(raw);
        if !usual || !fits || (found.edits != 0 && (!editable || self.emptying)) {
            return Err(Stop::Odd);
        }
        let mut end = None;
        if found.edits != 0 {
            let edits = self.numbered().filter(|(number, _)| found.edits & number != 0);
            let edits = edits.map(|(_, sought)| &sought.edit);
            let made = Made::of(edits, tag).ok_or(Stop::Odd)?;
            let place = self.place(|places, from| places.add(found.edits, from + tag.start, raw));
            part.pass(tag.start);
            made.write(tag, raw, part.out);
            part.written = tag.end;
            let edits = found.edits;
            end = made.at_end().map(|made| Box::new(End { edits, place, made }));
            self.close(found.edits);
        }
        let is_open = if in_svg { !tag.closes } else { kind != Kind::Void };
        let is_template = !in_svg && name == Name::Template;
        if is_open && stand != Stand::Ignored && (!is_hidden || is_template) {
            self.unfinished += usize::from(end.is_some());
            self.emptying |= end.as_ref().is_some_and(|end| end.made.is_emptied);
            self.tree.push(name, tag.name, raw, found.parts, stand, end);
            if stand == Stand::Empty {
                self.end_innermost(part, tag.end);
            }
        }
        match kind {
            _ if in_svg => {
                if let Some(name) = label(tag.name) {
                    self.svg = Svg::Label(name);
                }
            }
            Kind::Text(name) => self.text = Some(name),
            Kind::Svg => self.svg = Svg::Inside,
            Kind::Usual | Kind::Void | Kind::Strange => {}
        }
        part.at = tag.end;
        Ok(())
    }

    /// Adds to what is remembered of the page, if that is wanted. All is forgotten where it gets too much.
    fn place<T>(&mut self, add: impl FnOnce(&mut Places, usize) -> Option<T>) -> Option<T> {
        let added = add(self.places.as_mut()?, self.from);
        if added.is_none() {
            self.places = None;
        }
        added
    }

    /// Those that want one element alone have had it.
    fn close(&mut self, found: u64) {
        for (index, sought) in self.edits.iter_mut().enumerate() {
            if found & (1 << index) != 0 {
                self.changed += 1;
                if sought.edit.is_once() {
                    sought.open = false;
                    self.open -= 1;
                }
            }
        }
    }

    fn end_tag(&mut self, tag: &EndTag<'_>, part: &mut Part<'_, '_>) -> tag::Found<()> {
        let svg = match self.svg {
            Svg::Outside => Svg::Outside,
            Svg::Inside if tag.name.eq_ignore_ascii_case(b"svg") => Svg::Outside,
            Svg::Inside if is_plain_in_svg(tag.name) && !self.ends_svg(tag) => Svg::Inside,
            Svg::Label(name) if label(tag.name) == Some(name) => Svg::Inside,
            Svg::Inside | Svg::Label(_) => return Err(Stop::Odd),
        };
        let name = Name::of(tag.name);
        while let Some(step) = self.tree.before_end(name) {
            self.take(step, tag.start, part);
        }
        match self.tree.end(name, tag.name) {
            Ended::To(number) => self.end_to(number, tag, part),
            Ended::Over(number) => self.tree.over(number),
            Ended::Still(number) => self.end_still(number, tag, part),
            Ended::Nothing => {}
        }
        self.svg = svg;
        part.at = tag.end;
        Ok(())
    }

    /// The element with this number ends with this tag, and all that is open in it before.
    fn end_to(&mut self, number: usize, tag: &EndTag<'_>, part: &mut Part<'_, '_>) {
        while self.tree.depth() > number + 1 {
            self.end_innermost(part, tag.start);
        }
        if let Some(end) = self.tree.pop() {
            self.finish(&end, part, tag.start..tag.end);
        }
        while self.tree.is_over() {
            self.end_innermost(part, tag.end);
        }
    }

    /// This tag is the end of the element with this number, but what follows is in it as well.
    fn end_still(&mut self, number: usize, tag: &EndTag<'_>, part: &mut Part<'_, '_>) {
        let depth = self.tree.depth();
        for inner in (number..depth).rev() {
            if let Some(end) = self.tree.take_end(inner) {
                let own = if inner == number { tag.end } else { tag.start };
                self.finish(&end, part, tag.start..own);
            }
        }
    }

    /// Whether an end tag ends a picture and is not its own.
    fn ends_svg(&self, tag: &EndTag<'_>) -> bool {
        self.tree.ends_svg(tag.name)
    }
}

#[cfg(test)]
mod tests;
