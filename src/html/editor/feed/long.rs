//! Tags and comments that are too long to be held: they pass as they are, or go with what they are in. The parser is told
//! of a short tag in place of a long one, so that what is open is the same.

use super::super::super::seek::{Long, LongKind, Stop};
use super::super::super::tree::{Name, Stand};
use super::skip::Skipped;
use super::{Feed, Halt, OURS, Part, RewritingError, Told, lock};

/// A tag or comment that has begun.
pub(super) struct TooLong {
    long: Long,
    /// It goes out.
    is_there: bool,
    /// Its element ends with it.
    ends: Ends,
}

/// When an element ends with its start tag.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    Never,
    /// In a picture: where the tag closes itself.
    IfClosed,
    Always,
}

impl Feed {
    /// What begins here is too long.
    pub(super) fn too_long(&mut self, part: &mut Part<'_>) -> Told {
        let rest = part.page.get(part.at..).unwrap_or_default();
        let (long, kind) = Long::begin(rest, self.tree.is_in_foreign());
        if let Some(mut skip) = self.skip.take() {
            // Its end is not there yet: it counts as a short one.
            let here = part.at..part.at + 1;
            let skipped = match kind {
                LongKind::Start(name) => self.skip_start(name, here.clone(), false, &mut skip),
                LongKind::End(name) => self.skip_end(name, here.clone(), &mut skip),
                LongKind::Comment => Skipped::On(here.end),
            };
            part.told = part.at;
            let is_outside = skipped == Skipped::Over(here.start);
            match kind {
                LongKind::Start(name) if is_outside => return self.begin_long(long, name, part),
                LongKind::End(_) if is_outside => return self.too_deep(part),
                _ => {}
            }
            self.skip = matches!(skipped, Skipped::On(_)).then_some(skip);
            self.long = Some(TooLong { long, is_there: false, ends: Ends::Never });
            return Ok(());
        }
        match kind {
            LongKind::Start(name) => self.begin_long(long, name, part),
            LongKind::End(_) if self.template.is_none() => self.too_deep(part),
            LongKind::End(_) | LongKind::Comment => self.pass_long(long, part),
        }
    }

    /// Something long that means nothing.
    fn pass_long(&mut self, long: Long, part: &mut Part<'_>) -> Told {
        self.tell(part, part.at)?;
        let is_there = self.is_there()?;
        self.long = Some(TooLong { long, is_there, ends: Ends::Never });
        Ok(())
    }

    fn begin_long(&mut self, long: Long, text: &[u8], part: &mut Part<'_>) -> Told {
        let name = Name::of(text);
        let bare = [b"<", text, OURS, b">"].concat();
        if self.template.is_some() {
            self.tree.leave_foreign(name);
            let foreign = self.tree.begins_foreign(name);
            let is_known = (foreign || name == Name::Template) && self.tree.takes(&bare);
            if is_known {
                self.tree.push(name, text, &bare, 0, Stand::Inside, None);
            }
            self.text = (!foreign && name.traits().is_text()).then(|| name.text());
            self.pass_long(long, part)?;
            if let Some(long) = self.long.as_mut().filter(|_| foreign && is_known) {
                long.ends = Ends::IfClosed;
            }
            return Ok(());
        }
        let stand = self.stand(name, part.at, part)?;
        if stand == Stand::Ignored {
            return self.pass_long(long, part);
        }
        if matches!(stand, Stand::Ends(_)) || !self.tree.takes(&bare) {
            return self.too_deep(part);
        }
        self.tell(part, part.at)?;
        let is_there = self.begin_again(&bare)?;
        let foreign = self.tree.begins_foreign(name);
        let mut ends = Ends::Never;
        if foreign || !name.traits().is_void() {
            self.tree.push(name, text, &bare, 0, stand, None);
            self.text = self.tree.text_name();
            ends = match stand {
                Stand::Empty => Ends::Always,
                _ if foreign => Ends::IfClosed,
                _ => Ends::Never,
            };
        }
        self.enter_template()?;
        self.long = Some(TooLong { long, is_there, ends });
        Ok(())
    }

    /// As far as it is there.
    pub(super) fn go_on(&mut self, mut long: TooLong, part: &mut Part<'_>) -> Result<(), Halt> {
        let rest = part.page.get(part.at..).unwrap_or_default();
        let ended = long.long.read(rest);
        let end = ended.map_or(rest.len(), |(end, _)| end);
        if long.is_there {
            lock(&self.state).out.extend_from_slice(rest.get(..end).unwrap_or_default());
        }
        part.at += end;
        part.told = part.at;
        let Some((_, closes)) = ended else {
            self.long = Some(long);
            return Err(Halt::Stop(Stop::More));
        };
        let ends = long.ends == Ends::Always || (long.ends == Ends::IfClosed && closes);
        if ends && self.template.is_some() {
            let _nothing: Option<()> = self.tree.pop();
        } else if ends {
            self.end_innermost()?;
        }
        Ok(())
    }

    /// Whether what comes here goes out: in an element whose content goes, it does not.
    pub(super) fn is_there(&mut self) -> Result<bool, RewritingError> {
        if let Some(is_there) = self.template {
            return Ok(is_there);
        }
        self.replace(&[b"<!--", OURS, b"-->"].concat(), &[])
    }
}
