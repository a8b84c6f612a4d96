//! Edits of a page's elements without a parser: to build one and to read a page with it costs more than all
//! the rest. What comes out is byte for byte what the parser would have made. Anything unusual is left to
//! it: it is told what is open, and goes on where this has stopped.

mod elements;
mod find;
mod interest;
mod kind;
mod made;
mod patches;
mod places;
mod tag;

use elements::Elements;
use find::Finding;
use interest::Interest;
use kind::{Kind, is_plain_in_svg, label};
use made::{AtEnd, Made};
pub(super) use patches::{Patches, Went};
pub use places::Places;
use tag::{EndTag, Stop, Tag, Token};

use super::edit::{Change, Edit};

/// Looks for elements in a page as it comes.
pub(super) struct Seeker {
    edits: Vec<Sought>,
    /// How many of them may still find an element.
    open: usize,
    /// What they look for.
    interest: Interest,
    /// What the page is in, if an edit needs to know.
    elements: Option<Elements<Box<End>>>,
    /// How many of those elements have something to be done at their end.
    unfinished: usize,
    /// What comes is in an element whose content goes.
    emptying: bool,
    /// What comes is the text of an element of this name.
    text: Option<&'static str>,
    svg: Svg,
    /// Bytes that are not through.
    held: Vec<u8>,
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
    /// The start tags of what is open: what it makes of them has gone out.
    pub(super) tags: Vec<u8>,
    pub(super) held: Vec<u8>,
    pub(super) changed: usize,
}

/// A longer tag or comment is left to the parser.
const MAX_HELD: usize = 64 * 1024;

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
        let mut is_told = false;
        for edit in &edits {
            let Some(paths) = edit.select.plain() else { return Err(edits) };
            firsts.push(bits);
            // The last of a way needs no bit: it is the element itself.
            bits += paths.iter().map(|path| path.len() - 1).sum::<usize>();
            is_told |= edit.changes.iter().any(Change::needs_end);
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
            elements: (is_told || bits > 0).then(Elements::default),
            unfinished: 0,
            emptying: false,
            text: None,
            svg: Svg::Outside,
            held: Vec::new(),
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

    /// What is not through and passes as it is where the page ends here. None where the parser has to end it.
    pub(super) fn last(&self) -> Option<&[u8]> {
        (self.unfinished == 0).then_some(&*self.held)
    }

    /// What is left for the parser.
    pub(super) fn left(self) -> Left {
        let ends = self.elements.iter().flat_map(Elements::ends);
        let unfinished = ends.fold(0, |edits, end| edits | end.edits);
        let is_left = |number: u64, sought: &Sought| sought.open || unfinished & number != 0;
        let left = self.numbered().filter(|(number, sought)| is_left(*number, sought));
        let edits = left.map(|(_, sought)| sought.edit.clone()).collect();
        let mut tags = match &self.elements {
            Some(elements) => elements.tags().to_vec(),
            None => match self.svg {
                Svg::Outside => Vec::new(),
                Svg::Inside => b"<svg>".to_vec(),
                Svg::Label(name) => format!("<svg><{name}>").into_bytes(),
            },
        };
        if let (None, Some(name)) = (&self.elements, self.text) {
            tags.extend_from_slice(format!("<{name}>").as_bytes());
        }
        Left { edits, tags, held: self.held, changed: self.changed }
    }

    /// Adds to `out` what comes of the page's next `bytes`.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Standing {
        let mut held = std::mem::take(&mut self.held);
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
        self.held = page.get(part.at..).unwrap_or_default().to_vec();
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
        match tag::next(part.page, &mut part.at)? {
            Token::Start(tag) => self.start(&tag, part),
            Token::End(tag) => self.end(&tag, part),
            Token::Other(end) => {
                part.at = end;
                Ok(())
            }
        }
    }

    fn start(&mut self, tag: &Tag<'_>, part: &mut Part<'_, '_>) -> tag::Found<()> {
        let kind = Kind::of(tag.name);
        let found = if self.interest.has(tag) { self.find(tag) } else { Finding::default() };
        let usual = match kind {
            _ if self.svg == Svg::Inside => {
                is_plain_in_svg(tag.name) || (label(tag.name).is_some() && !tag.closes)
            }
            _ if self.svg != Svg::Outside => false,
            Kind::Usual | Kind::Void => true,
            // The parser and browsers do not agree about what follows one that closes itself.
            Kind::Text(_) | Kind::Svg => !tag.closes,
            Kind::Strange => false,
        };
        let in_svg = self.svg != Svg::Outside;
        let editable = !in_svg && matches!(kind, Kind::Usual | Kind::Void);
        let raw = part.page.get(tag.start..tag.end).unwrap_or_default();
        let fits = self.elements.as_ref().is_none_or(|elements| elements.takes(raw));
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
        if let Some(elements) = self.elements.as_mut().filter(|_| is_open) {
            self.unfinished += usize::from(end.is_some());
            self.emptying |= end.as_ref().is_some_and(|end| end.made.is_emptied);
            elements.push(tag.name, raw, found.parts, end);
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

    fn end(&mut self, tag: &EndTag<'_>, part: &mut Part<'_, '_>) -> tag::Found<()> {
        let svg = match self.svg {
            Svg::Outside => Svg::Outside,
            Svg::Inside if tag.name.eq_ignore_ascii_case(b"svg") => Svg::Outside,
            Svg::Inside if is_plain_in_svg(tag.name) && !self.ends_svg(tag) => Svg::Inside,
            Svg::Label(name) if label(tag.name) == Some(name) => Svg::Inside,
            Svg::Inside | Svg::Label(_) => return Err(Stop::Odd),
        };
        if let Some(elements) = &mut self.elements
            && let Some(end) = elements.pop(tag.name)?
        {
            let raw = part.page.get(tag.start..tag.end).unwrap_or_default();
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
        self.svg = svg;
        part.at = tag.end;
        Ok(())
    }

    /// Whether an end tag ends a picture and is not its own.
    fn ends_svg(&self, tag: &EndTag<'_>) -> bool {
        self.elements.as_ref().is_some_and(|elements| elements.ends_svg(tag.name))
    }
}

#[cfg(test)]
mod tests;
