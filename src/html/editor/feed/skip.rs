//! The rest of an element whose content goes, where too many elements are open for the parser: without this, it would be
//! shown. The elements are followed all the same, so that it ends where it ends in a browser.

use std::ops::Range;

use super::super::super::seek::Token;
use super::super::super::tree::{Ended, Name, Stand, Step};
use super::{Feed, Halt, OURS, Part, Told, read};

/// Of what the parser is told nothing.
pub(super) struct Skip {
    /// The number of the element.
    number: usize,
    /// So many elements are open in it that have found no room.
    beyond: usize,
}

/// What a tag is to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Skipped {
    /// What is before there goes, and so does what follows.
    On(usize),
    /// The element has ended there.
    Over(usize),
}

impl Feed {
    /// The page can't be followed from here on. Where what is here goes, the element whose content it is ends for all
    /// that is made of it, and what the page has up to its end is skipped. Elsewhere nothing more is made of the page.
    pub(super) fn too_deep(&mut self, part: &mut Part<'_>) -> Told {
        self.tell(part, part.at)?;
        self.leave_template();
        let mut number = self.tree.depth();
        let mut is_there = self.is_there()?;
        self.is_lost = is_there;
        while !is_there && number > 0 {
            number -= 1;
            let name = self.tree.called(number);
            let [ours, own] = [OURS, b""].map(|ours| [b"</", name, ours, b">"].concat());
            self.replace(&ours, &own)?;
            is_there = self.is_there()?;
        }
        self.skip = (!self.is_lost).then_some(Skip { number, beyond: 0 });
        Ok(())
    }

    /// One tag further, of which nothing is told.
    pub(super) fn skip(&mut self, mut skip: Skip, part: &mut Part<'_>) -> Result<(), Halt> {
        let skipped = match read(part.page, &mut part.at, self.tree.is_in_foreign()) {
            Err(stop) => {
                self.skip = Some(skip);
                return Err(Halt::Stop(stop));
            }
            Ok(Token::Start(tag)) => {
                self.skip_start(tag.name, tag.start..tag.end, tag.closes, &mut skip)
            }
            Ok(Token::End(tag)) => self.skip_end(tag.name, tag.start..tag.end, &mut skip),
            Ok(Token::Comment(end) | Token::Doctype(_, end)) => Skipped::On(end),
        };
        let (Skipped::On(at) | Skipped::Over(at)) = skipped;
        (part.at, part.told) = (at, at);
        if matches!(skipped, Skipped::On(_)) {
            self.skip = Some(skip);
        } else if self.tree.depth() > skip.number {
            // What follows the end tag of a body is in it as well.
            let tag = self.tree.tag(skip.number).to_vec();
            self.begin_again(&tag)?;
        }
        Ok(())
    }

    /// Takes `step`. Whether the element is still open.
    fn skip_step(&mut self, step: Step, skip: &Skip) -> bool {
        match step {
            Step::Ends => {
                let _nothing: Option<()> = self.tree.pop();
            }
            Step::Begins(name) => self.tree.begin(name, 0),
            Step::Overs(number) => self.tree.over(number),
            Step::Stands(_) => {}
        }
        self.tree.depth() > skip.number
    }

    /// The elements from this number on end with a tag.
    fn skip_to(&mut self, number: usize, tag: Range<usize>, skip: &Skip) -> Skipped {
        while self.tree.depth() > number.max(skip.number) {
            let _nothing: Option<()> = self.tree.pop();
        }
        while self.tree.is_over() && self.tree.depth() > skip.number {
            let _nothing: Option<()> = self.tree.pop();
        }
        match self.tree.depth() > skip.number {
            true => Skipped::On(tag.end),
            // The tag is of an element around it, and means something there.
            false if number < skip.number => Skipped::Over(tag.start),
            false => Skipped::Over(tag.end),
        }
    }

    pub(super) fn skip_start(
        &mut self,
        text: &[u8],
        tag: Range<usize>,
        closes: bool,
        skip: &mut Skip,
    ) -> Skipped {
        let name = Name::of(text);
        let mut stand = Stand::Inside;
        while !self.tree.is_hidden() {
            match self.tree.before(name) {
                Step::Stands(there) => {
                    stand = there;
                    break;
                }
                step if self.skip_step(step, skip) => {}
                _ => return Skipped::Over(tag.start),
            }
        }
        if let Stand::Ends(number) = stand {
            return self.skip_to(number, tag, skip);
        }
        self.tree.leave_foreign(name);
        let was_hidden = self.tree.is_hidden();
        let foreign = self.tree.begins_foreign(name);
        let is_open = if foreign { !closes } else { !name.traits().is_void() };
        let is_known = !was_hidden || foreign || name == Name::Template;
        if is_open && !self.tree.takes_more() {
            skip.beyond += 1;
        } else if is_open && is_known && stand != Stand::Ignored {
            self.tree.push(name, text, &[b"<", text].concat(), 0, stand, None);
            self.text = self.tree.text_name();
            if stand == Stand::Empty {
                let _nothing: Option<()> = self.tree.pop();
            }
        }
        if was_hidden && !foreign && name.traits().is_text() {
            self.text = Some(name.text());
        }
        Skipped::On(tag.end)
    }

    pub(super) fn skip_end(&mut self, text: &[u8], tag: Range<usize>, skip: &mut Skip) -> Skipped {
        let name = Name::of(text);
        if skip.beyond > 0 {
            let is_last = matches!(name, Name::Body | Name::Html);
            skip.beyond = if is_last { 0 } else { skip.beyond - 1 };
            if !is_last {
                return Skipped::On(tag.end);
            }
        }
        while let Some(step) = self.tree.before_end(name) {
            if !self.skip_step(step, skip) {
                return Skipped::Over(tag.start);
            }
        }
        match self.tree.end(name, text) {
            Ended::To(number) => self.skip_to(number, tag, skip),
            Ended::Still(number) if number < skip.number => self.skip_to(number, tag, skip),
            Ended::Still(number) if number == skip.number => {
                let _all_in_it = self.skip_to(number + 1, tag.clone(), skip);
                Skipped::Over(tag.end)
            }
            Ended::Over(number) => {
                self.tree.over(number);
                Skipped::On(tag.end)
            }
            Ended::Still(_) | Ended::Nothing => Skipped::On(tag.end),
        }
    }
}
