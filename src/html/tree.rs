//! The elements that a page is in, as a browser has them: many begin and end without a tag (HTML, 13.1.2.4 and 13.2.6).
//! Whoever reads the page asks before each tag what comes to pass first, step by step.
//!
//! Left out: formatting that is opened anew behind the paragraph that it was begun in, and `frameset`.

mod begin;
mod end;
mod name;

pub(super) use name::Name;

/// Open elements, from the outermost to the innermost, each with what is to be done at its end.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Tree<E> {
    open: Vec<Open<E>>,
    /// Their start tags, one behind the other.
    tags: Vec<u8>,
    /// How many templates are open: what is in one is in no page.
    templates: usize,
    had_head: bool,
    had_body: bool,
    /// A form has begun whose end tag has not come: another does not begin.
    form: bool,
    /// It has no doctype: a table does not end a paragraph.
    is_quirky: bool,
}

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Open<E> {
    name: Name,
    /// Where its tag begins, and how long its name is.
    tag: usize,
    length: usize,
    space: Space,
    place: Place,
    /// A paragraph is in scope, which a block ends.
    in_p: bool,
    /// Its end tag has come while others were open in it: it ends with them.
    is_over: bool,
    /// It has no start tag: nobody wrote it.
    is_unwritten: bool,
    /// What was to be done at its end is done.
    is_through: bool,
    around: Around,
    at_end: Option<E>,
}

/// The language that an element is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Space {
    Html,
    /// A picture or a formula.
    Foreign,
    /// An element of one that has HTML in it.
    Door,
}

/// What an element is in, as far as it decides what may begin there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    Head,
    Body,
    Table,
    Section,
    Row,
    Cell,
    Caption,
    Columns,
}

/// The parts of ways that lead to where the page is: a bit for each.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Around {
    /// By the element right around.
    pub(super) parent: u64,
    /// By any that is around.
    pub(super) any: u64,
}

/// What comes to pass before a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The innermost element ends.
    Ends,
    /// An element begins that has no tag.
    Begins(Name),
    /// The end tag of the element with this number counts as having come.
    Overs(usize),
    /// Nothing more: the tag itself.
    Stands(Stand),
}

/// Where the element of a start tag is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stand {
    /// In the innermost.
    Inside,
    /// Before the innermost table, though its tag is in there.
    Fostered,
    /// At the root: it is the one that began without a tag.
    Root,
    /// In the innermost, and nothing is in it.
    Empty,
    /// Nowhere: the tag ends the element with this number.
    Ends(usize),
    /// Nowhere: the tag means nothing.
    Ignored,
}

/// What an end tag does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Nothing.
    Nothing,
    /// It ends the element with this number, and all in it.
    To(usize),
    /// The element with this number is over when what is in it is.
    Over(usize),
    /// The element with this number, though what follows is in it as well: `body`.
    Still(usize),
}

/// A page that is deeper is not followed.
const MAX_DEPTH: usize = 2000;
/// Nor is one whose open tags are longer, in bytes.
const MAX_TAGS: usize = 512 * 1024;

impl<E> Default for Tree<E> {
    fn default() -> Self {
        Self {
            open: Vec::new(),
            tags: Vec::new(),
            templates: 0,
            had_head: false,
            had_body: false,
            form: false,
            is_quirky: true,
        }
    }
}

impl<E> Tree<E> {
    /// Around an element that is there.
    pub(super) fn around(&self, stand: Stand) -> Around {
        let inner = match stand {
            Stand::Fostered => self.last_of(Name::Table).and_then(|table| table.checked_sub(1)),
            Stand::Root => None,
            Stand::Inside | Stand::Empty | Stand::Ends(_) | Stand::Ignored => {
                self.open.len().checked_sub(1)
            }
        };
        inner.and_then(|inner| self.open.get(inner)).map(|open| open.around).unwrap_or_default()
    }

    /// Whether the page is in a template.
    pub(super) fn is_hidden(&self) -> bool {
        self.templates > 0
    }

    /// Whether there is room for one more, with this start tag.
    pub(super) fn takes(&self, tag: &[u8]) -> bool {
        self.open.len() < MAX_DEPTH && self.tags.len() + tag.len() <= MAX_TAGS
    }

    /// Whether there is room for one more where nothing is made of them: their tags need none.
    pub(super) fn takes_more(&self) -> bool {
        self.open.len() < 3 * MAX_DEPTH && self.tags.len() < 2 * MAX_TAGS
    }

    /// What is to be done at the ends of those that are open.
    pub(super) fn ends(&self) -> impl Iterator<Item = &E> {
        self.open.iter().filter_map(|open| open.at_end.as_ref())
    }

    /// The number of elements that are open.
    pub(super) fn depth(&self) -> usize {
        self.open.len()
    }

    /// The start tag of the element with this number.
    pub(super) fn tag(&self, number: usize) -> &[u8] {
        let from = self.open.get(number).map_or(self.tags.len(), |open| open.tag);
        let to = self.open.get(number + 1).map_or(self.tags.len(), |open| open.tag);
        self.tags.get(from..to).unwrap_or_default()
    }

    /// The name of the innermost element, as its tag has it.
    pub(super) fn innermost(&self) -> &[u8] {
        self.open.last().map_or(&[], |open| self.text(open))
    }

    /// The name of the element with this number, as its tag has it.
    pub(super) fn called(&self, number: usize) -> &[u8] {
        self.open.get(number).map_or(&[], |open| self.text(open))
    }

    /// Ends the picture or formula that the page is in, within a template, where an element of this name can't be in it.
    pub(super) fn leave_foreign(&mut self, name: Name) {
        while self.is_hidden() && self.is_in_foreign() && name.traits().breaks_out() {
            let _ = self.pop();
        }
    }

    /// The number of the outermost template, if the page is in one.
    pub(super) fn template(&self) -> Option<usize> {
        self.open.iter().position(|open| open.name == Name::Template)
    }

    fn text(&self, open: &Open<E>) -> &[u8] {
        self.tags.get(open.tag + 1..open.tag + 1 + open.length).unwrap_or_default()
    }

    /// Whether its name is that, in letters of either case.
    fn is_text(&self, open: &Open<E>, text: &[u8]) -> bool {
        open.length == text.len() && self.text(open).eq_ignore_ascii_case(text)
    }

    /// The page has this doctype.
    pub(super) fn doctype(&mut self, text: &[u8]) {
        let text = String::from_utf8_lossy(text).to_ascii_lowercase();
        let old = ["dtd html 2", "dtd html 3", "dtd html 4.0 ", "dtd html 4.0//", "dtd w3 html"];
        let has_system = text.contains("http");
        let loose = text.contains("transitional") || text.contains("frameset");
        self.is_quirky &= self.open.is_empty()
            && (old.iter().any(|old| text.contains(old)) && !has_system
                || (loose && text.contains("html 4.0") && !has_system));
    }

    /// An element begins that has no start tag.
    pub(super) fn begin(&mut self, name: Name, parts: u64) {
        let text = name.text().as_bytes();
        self.push(name, text, &[b"<", text, b">"].concat(), parts, Stand::Inside, None);
        if let Some(open) = self.open.last_mut() {
            open.is_unwritten = true;
        }
    }

    /// Whether the element with this number has a start tag, and something may have to be done at its end.
    pub(super) fn is_found(&self, number: usize) -> bool {
        self.open.get(number).is_some_and(|open| !open.is_unwritten && !open.is_through)
    }

    /// Whether what was to be done at the end of the element with this number is done.
    fn is_through(&self, number: usize) -> bool {
        self.open.get(number).is_some_and(|open| open.is_through)
    }

    /// One element deeper: its name, as it is known and as its tag has it, its start tag, the parts of ways that it is.
    pub(super) fn push(
        &mut self,
        known: Name,
        name: &[u8],
        tag: &[u8],
        parts: u64,
        stand: Stand,
        at_end: Option<E>,
    ) {
        let outer = self.around(stand);
        let around = Around { parent: parts, any: outer.any | parts };
        let (place, in_p, above) = self
            .open
            .last()
            .map_or((Place::Root, false, Space::Html), |open| (open.place, open.in_p, open.space));
        let space = match (above, known) {
            (Space::Html | Space::Door, Name::Svg | Name::Math) => Space::Foreign,
            (Space::Html | Space::Door, _) => Space::Html,
            (Space::Foreign, _) if is_door(name) => Space::Door,
            (Space::Foreign, _) => Space::Foreign,
        };
        let is_html = space == Space::Html;
        let own = if is_html { known } else { Name::Other };
        if own == Name::Template {
            self.templates += 1;
        }
        self.had_head |= matches!(own, Name::Head | Name::Body);
        self.had_body |= own == Name::Body;
        self.form |= own == Name::Form;
        let bounds = space == Space::Door || own.traits().is_scope() || own == Name::Button;
        self.open.push(Open {
            name: own,
            tag: self.tags.len(),
            length: name.len(),
            space,
            place: Place::of(own).unwrap_or(place),
            in_p: own == Name::P || (in_p && !bounds),
            is_over: false,
            is_unwritten: false,
            is_through: false,
            around,
            at_end,
        });
        self.tags.extend_from_slice(tag);
    }

    /// Whether an element of this name, which is not open yet, is one of a picture or of a formula.
    pub(super) fn begins_foreign(&self, name: Name) -> bool {
        self.is_in_foreign() || matches!(name, Name::Svg | Name::Math)
    }

    /// The name of the innermost element, if what is in it is text.
    pub(super) fn text_name(&self) -> Option<&'static str> {
        let name = self.open.last()?.name;
        name.traits().is_text().then(|| name.text())
    }

    /// Out of the innermost element. Gives what is to be done at its end.
    pub(super) fn pop(&mut self) -> Option<E> {
        let open = self.open.pop()?;
        self.tags.truncate(open.tag);
        if open.name == Name::Template {
            self.templates = self.templates.saturating_sub(1);
        }
        open.at_end
    }

    /// What is to be done at the end of the element with this number, though what follows is in it as well.
    pub(super) fn take_end(&mut self, number: usize) -> Option<E> {
        let open = self.open.get_mut(number)?;
        open.is_through = true;
        open.at_end.take()
    }

    /// The element with this number is over when what is in it is, which is around it from now on, and not in it
    /// (13.2.6.4.7, the adoption agency). A form stays around it.
    pub(super) fn over(&mut self, number: usize) {
        if let Some(form) = self.open.get_mut(number).filter(|open| open.name == Name::Form) {
            form.is_over = true;
            return;
        }
        let outer = number.checked_sub(1).and_then(|outer| self.open.get(outer));
        let mut outer = outer.map(|open| open.around).unwrap_or_default();
        for (own, open) in self.open.iter_mut().enumerate().skip(number) {
            if own == number {
                open.is_over = true;
                open.around = outer;
            } else {
                open.around.any = outer.any | open.around.parent;
                outer = open.around;
            }
        }
    }

    /// Whether the innermost element has had its end tag.
    pub(super) fn is_over(&self) -> bool {
        self.open.last().is_some_and(|open| open.is_over)
    }

    /// Whether text that is no space begins or ends elements here.
    pub(super) fn minds_text(&self) -> bool {
        self.open.last().is_none_or(|open| {
            let minds = matches!(open.place, Place::Root | Place::Head | Place::Columns);
            minds && !open.name.traits().is_text() && !self.is_hidden()
        })
    }

    /// The same, with nothing to be done at the ends.
    pub(super) fn bare<F>(self) -> Tree<F> {
        let bare = |open: Open<E>| Open {
            at_end: None,
            name: open.name,
            tag: open.tag,
            length: open.length,
            space: open.space,
            place: open.place,
            in_p: open.in_p,
            is_over: open.is_over,
            is_unwritten: open.is_unwritten,
            is_through: open.is_through,
            around: open.around,
        };
        let Self { open, tags, templates, had_head, had_body, form, is_quirky } = self;
        let open = open.into_iter().map(bare).collect();
        Tree { open, tags, templates, had_head, had_body, form, is_quirky }
    }

    /// The number of the innermost element of this name.
    fn last_of(&self, name: Name) -> Option<usize> {
        self.open.iter().rposition(|open| open.name == name)
    }

    /// The number of the innermost element that `wanted` holds for, if no other is around it that `bounds` holds for.
    fn in_scope(
        &self,
        wanted: impl Fn(Name) -> bool,
        bounds: impl Fn(Name) -> bool,
    ) -> Option<usize> {
        for (number, open) in self.open.iter().enumerate().rev() {
            if wanted(open.name) {
                return Some(number);
            }
            if bounds(open.name) || open.space == Space::Door {
                return None;
            }
        }
        None
    }

    /// The same in the scope of most elements (13.2.4.2).
    fn here(&self, wanted: impl Fn(Name) -> bool) -> Option<usize> {
        self.in_scope(wanted, |name| name.traits().is_scope())
    }

    /// Whether the page is in a picture or a formula.
    pub(super) fn is_in_foreign(&self) -> bool {
        self.open.last().is_some_and(|open| open.space == Space::Foreign)
    }
}

impl Place {
    /// What an element of this name is to those in it, if it is something of its own.
    fn of(name: Name) -> Option<Self> {
        match name {
            Name::Html => Some(Self::Root),
            Name::Head => Some(Self::Head),
            Name::Body => Some(Self::Body),
            Name::Table => Some(Self::Table),
            Name::Tbody | Name::Thead | Name::Tfoot => Some(Self::Section),
            Name::Tr => Some(Self::Row),
            Name::Td | Name::Th => Some(Self::Cell),
            Name::Caption => Some(Self::Caption),
            Name::Colgroup => Some(Self::Columns),
            _ => None,
        }
    }
}

/// Whether an element of a picture or of a formula has HTML in it.
fn is_door(name: &[u8]) -> bool {
    ["foreignobject", "desc", "title", "mi", "mo", "mn", "ms", "mtext"]
        .iter()
        .any(|door| name.eq_ignore_ascii_case(door.as_bytes()))
}

#[cfg(test)]
mod tests;
