//! What an end tag ends (HTML, 13.2.6.4).

use super::{Ended, Name, Open, Place, Space, Tree};

impl<E> Tree<E> {
    /// What the end tag of this name does.
    pub(in super::super) fn end(&mut self, name: Name, text: &[u8]) -> Ended {
        let Some(top) = self.open.last() else { return Ended::Nothing };
        let is_usual = !matches!(name, Name::Other | Name::Html | Name::Body | Name::Form);
        if is_usual && top.name == name && !top.is_over {
            return Ended::To(self.open.len() - 1);
        }
        if top.space != Space::Html
            && let Some(number) = self.in_foreign_end(text)
        {
            return Ended::To(number);
        }
        if name == Name::Template {
            return self.last_of(Name::Template).map_or(Ended::Nothing, Ended::To);
        }
        if self.is_hidden() {
            return Ended::Nothing;
        }
        match name {
            Name::Html | Name::Body => {
                // Once: a page may end many times, and each time all that is open would be gone through.
                let number = self.last_of(name).filter(|number| !self.is_through(*number));
                return number.map_or(Ended::Nothing, Ended::Still);
            }
            Name::Form => return self.end_form(),
            _ => {}
        }
        let number = match name {
            _ if self
                .open
                .last()
                .is_some_and(|top| top.place == Place::Head || top.place == Place::Root) =>
            {
                let is_own = self.is_called(text);
                is_own.then(|| self.open.len() - 1)
            }
            Name::P => self
                .in_scope(|own| own == name, |own| own.traits().is_scope() || own == Name::Button),
            Name::Li => self.in_scope(
                |own| own == name,
                |own| own.traits().is_scope() || matches!(own, Name::Ol | Name::Ul),
            ),
            Name::Table => {
                self.in_scope(|own| own == name, |own| matches!(own, Name::Html | Name::Template))
            }
            _ if name.traits().is_heading() => self.here(|own| own.traits().is_heading()),
            _ if name.traits().is_of_table() => self.in_scope(
                |own| own == name,
                |own| matches!(own, Name::Html | Name::Table | Name::Template),
            ),
            Name::Dd | Name::Dt => self.here(|own| own == name),
            _ if name.traits().is_block() => self.here(|own| own == name),
            _ if name.traits().is_format() => return self.end_format(text, name),
            _ => self.any(name, text),
        };
        number.map_or(Ended::Nothing, Ended::To)
    }

    /// Whether the end tag of `name` ends the innermost picture, or more.
    pub(in super::super) fn ends_svg(&self, text: &[u8]) -> bool {
        let is = |name: &[u8]| {
            self.open.iter().rposition(|open| self.text(open).eq_ignore_ascii_case(name))
        };
        is(text).is_some_and(|number| Some(number) <= is(b"svg"))
    }

    fn is_called(&self, text: &[u8]) -> bool {
        self.open.last().is_some_and(|open| self.is_text(open, text))
    }

    /// The element of a picture or a formula that this ends.
    fn in_foreign_end(&self, text: &[u8]) -> Option<usize> {
        for (number, open) in self.open.iter().enumerate().rev() {
            if open.space == Space::Html {
                return None;
            }
            if self.is_text(open, text) {
                return Some(number);
            }
        }
        None
    }

    fn end_form(&mut self) -> Ended {
        if !std::mem::take(&mut self.form) {
            return Ended::Nothing;
        }
        let Some(number) = self.here(|own| own == Name::Form) else { return Ended::Nothing };
        let inner = self.open.iter().skip(number + 1);
        let all_end = inner.into_iter().all(|open| open.name.traits().is_implied());
        if all_end { Ended::To(number) } else { Ended::Over(number) }
    }

    fn end_format(&self, text: &[u8], name: Name) -> Ended {
        let Some(number) = self.formatting(name) else {
            return self.any(name, text).map_or(Ended::Nothing, Ended::To);
        };
        if self.here(|own| own == name).is_none() {
            return Ended::Nothing;
        }
        if self.holds_block(number) { Ended::Over(number) } else { Ended::To(number) }
    }

    /// The element of formatting that is open and may still end.
    pub(super) fn formatting(&self, name: Name) -> Option<usize> {
        for (number, open) in self.open.iter().enumerate().rev() {
            if open.name == name && !open.is_over {
                return Some(number);
            }
            let marks = matches!(
                open.name,
                Name::Td
                    | Name::Th
                    | Name::Caption
                    | Name::Applet
                    | Name::Object
                    | Name::Marquee
                    | Name::Template
            );
            if marks {
                return None;
            }
        }
        None
    }

    /// Whether an element is open in this one that does not end with it.
    pub(super) fn holds_block(&self, number: usize) -> bool {
        self.open
            .iter()
            .skip(number + 1)
            .any(|open| open.name.traits().is_special() || open.space == Space::Door)
    }

    fn any(&self, name: Name, text: &[u8]) -> Option<usize> {
        let is_own = |open: &Open<E>| {
            open.space == Space::Html
                && open.name == name
                && (name != Name::Other || self.is_text(open, text))
        };
        for (number, open) in self.open.iter().enumerate().rev() {
            if is_own(open) {
                return Some(number);
            }
            if open.name.traits().is_special() || open.space == Space::Door {
                return None;
            }
        }
        None
    }
}
