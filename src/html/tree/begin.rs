//! What a start tag brings with it (HTML, 13.2.6.4).

use super::{Name, Place, Space, Stand, Step, Tree};

const INSIDE: Step = Step::Stands(Stand::Inside);
const IGNORED: Step = Step::Stands(Stand::Ignored);

impl<E> Tree<E> {
    /// What comes to pass before text that is no space. None where nothing does.
    pub(in super::super) fn before_text(&self) -> Option<Step> {
        let Some(top) = self.open.last() else { return Some(Step::Begins(Name::Html)) };
        if self.is_hidden() {
            return None;
        }
        match top.place {
            Place::Root if !self.had_head => Some(Step::Begins(Name::Head)),
            Place::Root => Some(Step::Begins(Name::Body)),
            Place::Head | Place::Columns if !top.name.traits().is_text() => Some(Step::Ends),
            _ => None,
        }
    }

    /// What comes to pass before the end tag of this name. None where nothing does.
    #[inline]
    pub(in super::super) fn before_end(&self, name: Name) -> Option<Step> {
        let may = matches!(name, Name::P | Name::Br | Name::Form | Name::Body | Name::Html);
        if may { self.before_odd_end(name) } else { None }
    }

    fn before_odd_end(&self, name: Name) -> Option<Step> {
        let top = self.open.last().filter(|_| !self.is_hidden());
        if matches!(name, Name::P | Name::Br) && self.is_in_foreign() {
            return top.map(|_| Step::Ends);
        }
        if name == Name::Form && self.form && self.here(|own| own == name).is_some() {
            return top.filter(|top| top.name.traits().is_implied()).map(|_| Step::Ends);
        }
        let is_body = matches!(name, Name::Body | Name::Html | Name::Br);
        let is_before = top.is_none_or(|top| top.place != Place::Columns);
        self.before_text().filter(|_| is_body && is_before)
    }

    /// What comes to pass before an element of this name begins. In a template it is not asked.
    pub(in super::super) fn before(&self, name: Name) -> Step {
        let Some(top) = self.open.last() else {
            return if name == Name::Html { INSIDE } else { Step::Begins(Name::Html) };
        };
        if top.is_over {
            return Step::Ends;
        }
        if top.space == Space::Foreign {
            return if name.traits().breaks_out() { Step::Ends } else { INSIDE };
        }
        if name == Name::Html {
            let is_new = self.open.iter().all(|open| open.is_unwritten);
            return if is_new { Step::Stands(Stand::Root) } else { IGNORED };
        }
        if (name, top.name, top.is_unwritten) == (Name::Body, Name::Body, true) {
            return Step::Ends;
        }
        match top.place {
            Place::Root => self.before_body(name),
            Place::Head if name == Name::Head => IGNORED,
            Place::Head if name.traits().is_of_head() => INSIDE,
            Place::Columns if matches!(name, Name::Col | Name::Template) => INSIDE,
            Place::Head | Place::Columns => Step::Ends,
            Place::Cell | Place::Caption if name.traits().is_of_table() => Step::Ends,
            Place::Body | Place::Cell | Place::Caption => self.in_body(name),
            Place::Table | Place::Section | Place::Row => self.in_table(name, top.place),
        }
    }

    fn before_body(&self, name: Name) -> Step {
        match name {
            Name::Head if self.had_head => IGNORED,
            Name::Head | Name::Body if self.had_head || name == Name::Head => INSIDE,
            _ if self.had_body => Step::Begins(Name::Body),
            _ if !self.had_head => Step::Begins(Name::Head),
            _ if name.traits().is_of_head() && name != Name::Noscript => Step::Begins(Name::Head),
            _ => Step::Begins(Name::Body),
        }
    }

    fn in_table(&self, name: Name, place: Place) -> Step {
        let is_top = |names: &[Name]| self.open.last().is_some_and(|top| names.contains(&top.name));
        let sections = &[Name::Tbody, Name::Thead, Name::Tfoot];
        let is_cell = matches!(name, Name::Td | Name::Th);
        match (name, place) {
            _ if is_cell && place == Place::Row => right_in(is_top(&[Name::Tr]), INSIDE),
            (Name::Tr, Place::Section) => right_in(is_top(sections), INSIDE),
            _ if is_cell && place == Place::Section => {
                right_in(is_top(sections), Step::Begins(Name::Tr))
            }
            (
                Name::Caption
                | Name::Col
                | Name::Colgroup
                | Name::Tbody
                | Name::Tfoot
                | Name::Thead,
                Place::Section | Place::Row,
            )
            | (Name::Tr, Place::Row)
            | (Name::Table, _) => Step::Ends,
            (Name::Caption | Name::Colgroup | Name::Tbody | Name::Tfoot | Name::Thead, _) => {
                right_in(is_top(&[Name::Table]), INSIDE)
            }
            (Name::Col, _) => right_in(is_top(&[Name::Table]), Step::Begins(Name::Colgroup)),
            (Name::Tr | Name::Td | Name::Th, _) => {
                right_in(is_top(&[Name::Table]), Step::Begins(Name::Tbody))
            }
            (Name::Style | Name::Script | Name::Template, _) => INSIDE,
            (Name::Form, _) if !self.form => Step::Stands(Stand::Empty),
            _ => match self.in_body(name) {
                Step::Stands(Stand::Inside) if self.is_in_table() => Step::Stands(Stand::Fostered),
                other => other,
            },
        }
    }

    /// Whether the innermost element is a table or a part of it, whose content has to be cells.
    fn is_in_table(&self) -> bool {
        let names = [Name::Table, Name::Tbody, Name::Thead, Name::Tfoot, Name::Tr];
        self.open.last().is_some_and(|top| names.contains(&top.name))
    }

    fn in_body(&self, name: Name) -> Step {
        let traits = name.traits();
        let Some(top) = self.open.last() else { return INSIDE };
        let wanted = |own: Name| own == name;
        match name {
            Name::Body | Name::Head | Name::Frame | Name::Frameset => return IGNORED,
            _ if traits.is_of_table() => return IGNORED,
            _ if traits.is_of_head() => return INSIDE,
            Name::Select => {
                if let Some(first) = self.select() {
                    return Step::Stands(Stand::Ends(first));
                }
            }
            Name::Nobr if self.here(wanted).is_none() => {}
            Name::A | Name::Nobr => {
                if let Some(first) = self.formatting(name) {
                    // It can't be in itself (13.2.6.4.7, the adoption agency).
                    return if self.holds_block(first) { Step::Overs(first) } else { Step::Ends };
                }
            }
            Name::Form if self.form => return IGNORED,
            Name::Li if self.item(&[Name::Li]) => return Step::Ends,
            Name::Dd | Name::Dt if self.item(&[Name::Dd, Name::Dt]) => return Step::Ends,
            Name::Button if self.here(wanted).is_some() => return Step::Ends,
            Name::Input if self.in_select() => return Step::Ends,
            Name::Option if self.in_select() => {
                let ends = top.name.traits().is_implied() && top.name != Name::Optgroup;
                return if ends { Step::Ends } else { INSIDE };
            }
            Name::Optgroup | Name::Hr if self.in_select() && top.name.traits().is_implied() => {
                return Step::Ends;
            }
            Name::Option | Name::Optgroup if top.name == Name::Option => return Step::Ends,
            Name::Rb | Name::Rtc | Name::Rp | Name::Rt
                if self.here(|own| own == Name::Ruby).is_some() =>
            {
                let keeps = matches!(name, Name::Rp | Name::Rt) && top.name == Name::Rtc;
                return if top.name.traits().is_implied() && !keeps { Step::Ends } else { INSIDE };
            }
            _ => {}
        }
        let ends_p = traits.ends_p() || (name == Name::Table && !self.is_quirky);
        if ends_p && top.in_p {
            return Step::Ends;
        }
        if traits.is_heading() && top.name.traits().is_heading() {
            return Step::Ends;
        }
        INSIDE
    }

    fn in_select(&self) -> bool {
        self.select().is_some()
    }

    fn select(&self) -> Option<usize> {
        self.here(|own| own == Name::Select)
    }

    /// Whether an item of one of these names is open that another one ends.
    fn item(&self, names: &[Name]) -> bool {
        for open in self.open.iter().rev() {
            if names.contains(&open.name) {
                return true;
            }
            let passes = matches!(open.name, Name::Address | Name::Div | Name::P);
            if (open.name.traits().is_special() && !passes) || open.space == Space::Door {
                return false;
            }
        }
        false
    }
}

/// `then`, once the page is right in that part of a table: all that is open in the part ends first.
const fn right_in(is_there: bool, then: Step) -> Step {
    if is_there { then } else { Step::Ends }
}
