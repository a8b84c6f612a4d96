//! The rest of an element whose content goes, where the page can't be followed: without this, the rest of it would be
//! shown.

use super::super::super::seek::Token;
use super::super::super::tree::Name;
use super::{Feed, Halt, OURS, Part, Told, read};

/// Up to where nothing is looked at.
pub(super) struct Skip {
    /// The element's name.
    name: Vec<u8>,
    /// How many elements of that name are open, itself included.
    open: usize,
}

impl Skip {
    /// An element of this name begins.
    pub(super) fn begin(&mut self, name: &[u8]) {
        let is_same = self.name.eq_ignore_ascii_case(name);
        self.open += usize::from(is_same && !Name::of(name).traits().is_void());
    }
}

impl Feed {
    /// The page can't be followed from here on. Where what is here goes, the element whose content it is ends for all
    /// that is made of it, and what the page has up to its end is skipped. Elsewhere nothing more is made of the page.
    pub(super) fn too_deep(&mut self, part: &mut Part<'_>) -> Told {
        self.tell(part, part.at)?;
        let mut names = Vec::new();
        while !self.is_there()? && self.tree.depth() > 0 {
            let name = self.tree.innermost().to_vec();
            let _nothing: Option<()> = self.tree.pop();
            let [ours, own] = [OURS, b""].map(|ours| [b"</", &*name, ours, b">"].concat());
            self.replace(&ours, &own)?;
            names.push(name);
        }
        self.hide();
        match names.pop() {
            Some(name) => {
                let same = names.iter().filter(|inner| inner.eq_ignore_ascii_case(&name));
                self.skip = Some(Skip { open: 1 + same.count(), name });
            }
            None => self.is_lost = true,
        }
        Ok(())
    }

    /// One tag further, of which nothing is told.
    pub(super) fn skip(&mut self, mut skip: Skip, part: &mut Part<'_>) -> Result<(), Halt> {
        match read(part.page, &mut part.at, false) {
            Err(stop) => {
                self.skip = Some(skip);
                return Err(Halt::Stop(stop));
            }
            Ok(Token::Start(tag)) => {
                skip.begin(tag.name);
                let name = Name::of(tag.name);
                self.text = name.traits().is_text().then(|| name.text());
                part.at = tag.end;
            }
            // The page's own end is never skipped.
            Ok(Token::End(tag)) if matches!(Name::of(tag.name), Name::Body | Name::Html) => {
                part.told = part.at;
                return Ok(());
            }
            Ok(Token::End(tag)) => {
                part.at = tag.end;
                skip.open -= usize::from(skip.name.eq_ignore_ascii_case(tag.name));
            }
            Ok(Token::Comment(end) | Token::Doctype(_, end)) => part.at = end,
        }
        part.told = part.at;
        if skip.open > 0 {
            self.skip = Some(skip);
        }
        Ok(())
    }
}
