//! Edits of elements that are named by their id, made without a parser: to build one and to read a page with
//! it costs more than all the rest. Anything unusual leaves the page to the parser, which reads it from the
//! beginning, so that it knows what is open, and goes on where this has stopped.

use memchr::{memchr, memmem};

use super::edit::{Change, Edit, as_ascii, escape};

/// Looks for elements in a page as it comes.
pub(super) struct Seeker {
    /// Edits that are still to be made.
    open: Vec<Edit>,
    /// Bytes that are not through.
    held: Vec<u8>,
    /// All before them, as the page had it.
    seen: Vec<u8>,
    changed: usize,
}

/// How it stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sought {
    /// More of the page is needed.
    More,
    /// All is made: the rest passes as it is.
    Done,
    /// The parser has to go on.
    Odd,
}

/// What a parser goes on with.
pub(super) struct Left {
    pub(super) open: Vec<Edit>,
    pub(super) seen: Vec<u8>,
    pub(super) held: Vec<u8>,
    pub(super) changed: usize,
}

/// Why there is no answer.
enum Stop {
    /// It is not all there yet.
    More,
    /// It is unusual.
    Odd,
}

type Found<T> = Result<T, Stop>;

/// A longer tag, comment or element is left to the parser.
const MAX_HELD: usize = 64 * 1024;
/// So is a page whose elements come later.
const MAX_SEEN: usize = 256 * 1024;

impl Seeker {
    /// Makes `edits`, if they are such that this can.
    pub(super) fn new(edits: Vec<Edit>) -> Result<Self, Vec<Edit>> {
        if edits.is_empty() || !can(&edits) {
            return Err(edits);
        }
        Ok(Self { open: edits, held: Vec::new(), seen: Vec::new(), changed: 0 })
    }

    /// How many elements have been changed.
    pub(super) fn changed(&self) -> usize {
        self.changed
    }

    /// What is left for the parser.
    pub(super) fn left(self) -> Left {
        let Self { open, held, seen, changed } = self;
        Left { open, seen, held, changed }
    }

    /// Adds to `out` what comes of the page's next `bytes`.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Sought {
        self.held.extend_from_slice(bytes);
        let page = std::mem::take(&mut self.held);
        // Up to where `out` stands for the page, and up to where it is through.
        let (mut written, mut at) = (0, 0);
        let stop = loop {
            if self.open.is_empty() {
                out.extend_from_slice(page.get(written..).unwrap_or_default());
                return Sought::Done;
            }
            match self.step(&page, at, &mut written, out) {
                Ok(next) => at = next,
                Err(stop) => break stop,
            }
        };
        // Text passes at once: only what begins with `<` may have to wait.
        let text = memchr(b'<', page.get(at..).unwrap_or_default());
        let at = text.map_or(page.len(), |text| at + text);
        out.extend_from_slice(page.get(written..at).unwrap_or_default());
        self.seen.extend_from_slice(page.get(..at).unwrap_or_default());
        self.held = page.get(at..).unwrap_or_default().to_vec();
        match stop {
            Stop::More if self.held.len() < MAX_HELD && self.seen.len() < MAX_SEEN => Sought::More,
            Stop::More | Stop::Odd => Sought::Odd,
        }
    }

    /// One tag further: where the page goes on behind it.
    fn step(
        &mut self,
        page: &[u8],
        at: usize,
        written: &mut usize,
        out: &mut Vec<u8>,
    ) -> Found<usize> {
        let Step { what, end, .. } = next(page, at)?;
        let What::Start(tag) = what else { return Ok(end) };
        let is = |edit: &Edit, tag: &Tag<'_>| {
            let id = tag.id();
            id.is_some() && edit.select.id().map(str::as_bytes) == id
        };
        let Some(position) = self.open.iter().position(|edit| is(edit, &tag)) else {
            return past(page, &tag, end, &|inner| self.open.iter().any(|edit| is(edit, inner)));
        };
        // Two edits of one element are the parser's, and so are elements without markup in them.
        let others = self.open.iter().enumerate().filter(|(index, _)| *index != position);
        if others.clone().any(|(_, edit)| is(edit, &tag)) || tag.is_special() {
            return Err(Stop::Odd);
        }
        let edit = self.open.get(position).ok_or(Stop::Odd)?;
        let mut made = Vec::new();
        let behind = make(page, &tag, end, edit, &mut made)?;
        let mut gone = page.get(end..behind).unwrap_or_default();
        if edit.changes.iter().any(|change| matches!(change, Change::Remove)) {
            // Its end tag has gone as well.
            let end = gone.iter().rposition(|byte| *byte == b'<').unwrap_or(0);
            gone = gone.get(..end).unwrap_or_default();
        }
        let in_it = |edit: &Edit| {
            memmem::find(gone, edit.select.id().unwrap_or_default().as_bytes()).is_some()
        };
        if others.clone().any(|(_, edit)| in_it(edit)) {
            return Err(Stop::Odd);
        }
        out.extend_from_slice(page.get(*written..tag.start).unwrap_or_default());
        out.extend_from_slice(&made);
        *written = behind;
        self.open.remove(position);
        self.changed += 1;
        Ok(behind)
    }
}

/// Whether all of `edits` can be made here.
fn can(edits: &[Edit]) -> bool {
    edits.iter().all(|edit| {
        let contents = edit.changes.iter().filter(|change| is_content(change)).count();
        let known = edit.changes.iter().all(|change| is_content(change) || is_of_tag(change));
        edit.select.id().is_some() && contents <= 1 && known
    })
}

fn is_content(change: &Change) -> bool {
    matches!(change, Change::Text(_) | Change::Html(_) | Change::Prepend(_) | Change::Remove)
}

fn is_of_tag(change: &Change) -> bool {
    matches!(
        change,
        Change::Attribute(..)
            | Change::NoAttribute(_)
            | Change::Class(_)
            | Change::NoClass(_)
            | Change::Style(..)
            | Change::Hide
            | Change::Before(_)
    )
}

/// Makes `edit` at `tag`, and says where the page goes on.
fn make(page: &[u8], tag: &Tag<'_>, end: usize, edit: &Edit, out: &mut Vec<u8>) -> Found<usize> {
    let mut attributes = tag.attributes.clone();
    let mut changed = false;
    let (mut content, mut behind) = (None, end);
    for change in &edit.changes {
        match change {
            Change::Before(markup) => out.extend_from_slice(as_ascii(markup).as_bytes()),
            Change::Remove => {
                return if tag.is_void() { Ok(end) } else { Ok(close(page, tag, end)?.1) };
            }
            Change::Prepend(markup) if !tag.is_void() => content = Some(as_ascii(markup)),
            Change::Text(text) if !tag.is_void() => {
                behind = close(page, tag, end)?.0;
                content = Some(escape(text));
            }
            Change::Html(markup) if !tag.is_void() => {
                behind = close(page, tag, end)?.0;
                content = Some(as_ascii(markup));
            }
            Change::Text(_) | Change::Html(_) | Change::Prepend(_) => {}
            other => {
                changed = true;
                alter(&mut attributes, other);
            }
        }
    }
    if changed {
        out.push(b'<');
        out.extend_from_slice(tag.name);
        for attribute in &attributes {
            out.push(b' ');
            attribute.write(out);
        }
        out.extend_from_slice(if tag.closes { b"/>" } else { b">" });
    } else {
        out.extend_from_slice(page.get(tag.start..end).unwrap_or_default());
    }
    out.extend_from_slice(content.unwrap_or_default().as_bytes());
    Ok(behind)
}

fn alter(attributes: &mut Vec<Attribute<'_>>, change: &Change) {
    let own = |attributes: &[Attribute<'_>], name: &str| {
        let found = attributes.iter().find(|attribute| attribute.is(name));
        found.map(|attribute| attribute.value().to_vec())
    };
    let set = |attributes: &mut Vec<Attribute<'_>>, name: &str, value: Vec<u8>| {
        let made = Attribute::Made(name.as_bytes().to_vec(), value);
        match attributes.iter_mut().find(|attribute| attribute.is(name)) {
            Some(attribute) => *attribute = made,
            None => attributes.push(made),
        }
    };
    match change {
        Change::Attribute(name, value) => set(attributes, name, escape(value).into_bytes()),
        Change::NoAttribute(name) => attributes.retain(|attribute| !attribute.is(name)),
        Change::Class(names) => {
            let class = own(attributes, "class").unwrap_or_default();
            let new = escape(names);
            let mut all: Vec<&[u8]> = Vec::new();
            for one in words(&class).chain(words(new.as_bytes())) {
                if !all.contains(&one) {
                    all.push(one);
                }
            }
            set(attributes, "class", all.join(&b' '));
        }
        Change::NoClass(names) => {
            if let Some(class) = own(attributes, "class") {
                let gone = escape(names);
                let gone: Vec<&[u8]> = words(gone.as_bytes()).collect();
                let left: Vec<&[u8]> = words(&class).filter(|one| !gone.contains(one)).collect();
                set(attributes, "class", left.join(&b' '));
            }
        }
        Change::Style(property, value) => restyle(attributes, property, &escape(value), own, set),
        Change::Hide => restyle(attributes, "display", "none !important", own, set),
        _ => {}
    }
}

fn restyle<'p>(
    attributes: &mut Vec<Attribute<'p>>,
    property: &str,
    value: &str,
    own: impl Fn(&[Attribute<'p>], &str) -> Option<Vec<u8>>,
    set: impl Fn(&mut Vec<Attribute<'p>>, &str, Vec<u8>),
) {
    let style = own(attributes, "style").unwrap_or_default();
    let mut style = style.trim_ascii();
    while let Some(shorter) = style.strip_suffix(b";") {
        style = shorter;
    }
    let mut made = style.to_vec();
    if !made.is_empty() {
        made.extend_from_slice(b"; ");
    }
    made.extend_from_slice(format!("{property}: {value}").as_bytes());
    set(attributes, "style", made);
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// What stands at a place of a page.
struct Step<'p> {
    what: What<'p>,
    start: usize,
    /// Behind it.
    end: usize,
}

enum What<'p> {
    Start(Tag<'p>),
    /// An end tag of this name.
    End(&'p [u8]),
    /// A comment or a doctype.
    Other,
}

/// A start tag that is all there.
struct Tag<'p> {
    start: usize,
    name: &'p [u8],
    attributes: Vec<Attribute<'p>>,
    /// `/>`.
    closes: bool,
}

#[derive(Clone)]
enum Attribute<'p> {
    /// As the page has it: all of it, its name, its value.
    Own(&'p [u8], &'p [u8], &'p [u8]),
    /// Made anew: name and value, with its references.
    Made(Vec<u8>, Vec<u8>),
}

impl Attribute<'_> {
    fn is(&self, name: &str) -> bool {
        let own = match self {
            Self::Own(_, own, _) => own,
            Self::Made(own, _) => &**own,
        };
        own.eq_ignore_ascii_case(name.as_bytes())
    }

    fn value(&self) -> &[u8] {
        match self {
            Self::Own(_, _, value) => value,
            Self::Made(_, value) => value,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Own(raw, ..) => out.extend_from_slice(raw),
            Self::Made(name, value) => {
                out.extend_from_slice(name);
                out.extend_from_slice(b"=\"");
                for byte in value {
                    match byte {
                        b'"' => out.extend_from_slice(b"&quot;"),
                        byte => out.push(*byte),
                    }
                }
                out.push(b'"');
            }
        }
    }
}

impl Tag<'_> {
    fn id(&self) -> Option<&[u8]> {
        self.attributes.iter().find(|attribute| attribute.is("id")).map(Attribute::value)
    }

    fn is(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.name.eq_ignore_ascii_case(name.as_bytes()))
    }

    fn is_void(&self) -> bool {
        self.is(&[
            "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param",
            "source", "track", "wbr", "basefont", "bgsound", "frame", "keygen",
        ])
    }

    /// Elements whose content is no markup, or is read in ways of its own.
    fn is_special(&self) -> bool {
        self.is(&[
            "script",
            "style",
            "title",
            "textarea",
            "svg",
            "math",
            "template",
            "iframe",
            "xmp",
            "noembed",
            "noframes",
            "noscript",
            "plaintext",
            "select",
            "frameset",
        ])
    }
}

/// What stands at the next `<` from `at` on.
fn next(page: &[u8], at: usize) -> Found<Step<'_>> {
    let mut at = at;
    loop {
        at += memchr(b'<', slice(page.get(at..))?).ok_or(Stop::More)?;
        let rest = slice(page.get(at..))?;
        match rest {
            [b'<', b'!', b'-', b'-', ..] => {
                let inner = slice(rest.get(4..))?;
                let end = memmem::find(inner, b"-->").ok_or(Stop::More)?;
                let odd = inner.starts_with(b">") || inner.starts_with(b"->");
                if odd || memmem::find(slice(inner.get(..end))?, b"--!>").is_some() {
                    return Err(Stop::Odd);
                }
                return Ok(Step { what: What::Other, start: at, end: at + 4 + end + 3 });
            }
            [b'<', b'!', ..] => {
                let doctype = slice(rest.get(2..9))?.eq_ignore_ascii_case(b"doctype");
                if !doctype {
                    return Err(Stop::Odd);
                }
                let end = memchr(b'>', rest).ok_or(Stop::More)?;
                return Ok(Step { what: What::Other, start: at, end: at + end + 1 });
            }
            [b'<', b'/', letter, ..] if letter.is_ascii_alphabetic() => {
                let end = memchr(b'>', rest).ok_or(Stop::More)?;
                let name = slice(rest.get(2..end))?.trim_ascii_end();
                let bare = name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
                if !bare {
                    return Err(Stop::Odd);
                }
                return Ok(Step { what: What::End(name), start: at, end: at + end + 1 });
            }
            [b'<', letter, ..] if letter.is_ascii_alphabetic() => {
                let (tag, end) = read_tag(page, at)?;
                return Ok(Step { what: What::Start(tag), start: at, end });
            }
            [b'<'] | [b'<', b'/'] => return Err(Stop::More),
            [b'<', b'/' | b'?', ..] => return Err(Stop::Odd),
            // Text.
            _ => at += 1,
        }
    }
}

fn read_tag(page: &[u8], start: usize) -> Found<(Tag<'_>, usize)> {
    let space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'\x0c');
    let mut at = start + 1;
    while byte(page, at)?.is_ascii_alphanumeric() || byte(page, at)? == b'-' {
        at += 1;
    }
    let name = slice(page.get(start + 1..at))?;
    let (mut attributes, mut closes) = (Vec::new(), false);
    loop {
        let from = at;
        while space(&byte(page, at)?) {
            at += 1;
        }
        match byte(page, at)? {
            b'>' => break,
            b'/' if byte(page, at + 1)? == b'>' => {
                closes = true;
                at += 1;
                break;
            }
            // Behind a name comes a space; quotes and the like in names are unusual.
            byte if from == at || matches!(byte, b'/' | b'"' | b'\'' | b'=' | b'<') => {
                return Err(Stop::Odd);
            }
            _ => {}
        }
        let begun = at;
        while !space(&byte(page, at)?) && !matches!(&byte(page, at)?, b'=' | b'>' | b'/') {
            if matches!(&byte(page, at)?, b'"' | b'\'' | b'<' | 0) {
                return Err(Stop::Odd);
            }
            at += 1;
        }
        let own_name = slice(page.get(begun..at))?;
        let mut value: &[u8] = b"";
        if byte(page, at)? == b'=' {
            at += 1;
            match byte(page, at)? {
                quote @ (b'"' | b'\'') => {
                    let length = memchr(quote, slice(page.get(at + 1..))?).ok_or(Stop::More)?;
                    value = slice(page.get(at + 1..at + 1 + length))?;
                    at += length + 2;
                }
                byte if space(&byte) || byte == b'>' => return Err(Stop::Odd),
                _ => {
                    let from = at;
                    while !space(&byte(page, at)?) && byte(page, at)? != b'>' {
                        if matches!(&byte(page, at)?, b'"' | b'\'' | b'<' | b'=' | b'`') {
                            return Err(Stop::Odd);
                        }
                        at += 1;
                    }
                    value = slice(page.get(from..at))?;
                }
            }
        }
        let raw = slice(page.get(begun..at))?;
        attributes.push(Attribute::Own(raw, own_name, value));
    }
    Ok((Tag { start, name, attributes, closes }, at + 1))
}

/// Where the page goes on behind `tag`, which ends at `end`: behind all of it where its content is read in
/// ways of its own. None of what is `wanted` may be in there.
fn past(page: &[u8], tag: &Tag<'_>, end: usize, wanted: &dyn Fn(&Tag<'_>) -> bool) -> Found<usize> {
    if !tag.is_special() {
        return Ok(end);
    }
    if tag.is(&["svg"]) {
        return past_svg(page, tag, end, wanted);
    }
    let raw = ["script", "style", "title", "textarea", "noscript", "iframe"];
    if tag.closes || !tag.is(&raw) {
        return Err(Stop::Odd);
    }
    let script = tag.is(&["script"]);
    let mut at = end;
    loop {
        at += memchr(b'<', slice(page.get(at..))?).ok_or(Stop::More)?;
        let rest = slice(page.get(at..))?;
        // In a script this opens states in which an end tag is none.
        if script && byte(rest, 1)? == b'!' {
            return Err(Stop::Odd);
        }
        if byte(rest, 1)? == b'/'
            && slice(rest.get(2..2 + tag.name.len()))?.eq_ignore_ascii_case(tag.name)
        {
            return match byte(rest, 2 + tag.name.len())? {
                b'>' => Ok(at + 3 + tag.name.len()),
                _ => Err(Stop::Odd),
            };
        }
        at += 1;
    }
}

/// A picture in the page: plain elements up to its end.
fn past_svg(
    page: &[u8],
    tag: &Tag<'_>,
    end: usize,
    wanted: &dyn Fn(&Tag<'_>) -> bool,
) -> Found<usize> {
    // The parser and browsers do not agree about what follows.
    if tag.closes {
        return Err(Stop::Odd);
    }
    let plain =
        ["path", "g", "circle", "rect", "line", "polyline", "polygon", "ellipse", "use", "defs"];
    let mut at = end;
    loop {
        let step = next(page, at)?;
        at = step.end;
        match step.what {
            What::Start(inner) if !inner.is(&plain) || wanted(&inner) => return Err(Stop::Odd),
            What::End(name) if name.eq_ignore_ascii_case(b"svg") => return Ok(at),
            What::End(name)
                if !plain.iter().any(|one| name.eq_ignore_ascii_case(one.as_bytes())) =>
            {
                return Err(Stop::Odd);
            }
            What::Start(_) | What::End(_) | What::Other => {}
        }
    }
}

/// Where the end tag of `tag`, whose content begins at `end`, begins and ends.
fn close(page: &[u8], tag: &Tag<'_>, end: usize) -> Found<(usize, usize)> {
    let mut inside: Vec<&[u8]> = Vec::new();
    let mut at = end;
    loop {
        let step = next(page, at)?;
        at = step.end;
        match step.what {
            What::Other => {}
            What::Start(inner) => {
                at = past(page, &inner, step.end, &|_| false)?;
                if !inner.is_void() && !inner.is_special() {
                    inside.push(inner.name);
                }
            }
            What::End(name) => {
                match inside.iter().rposition(|open| open.eq_ignore_ascii_case(name)) {
                    Some(position) => inside.truncate(position),
                    None if tag.name.eq_ignore_ascii_case(name) => {
                        return Ok((step.start, step.end));
                    }
                    // It may end an element around this one.
                    None => return Err(Stop::Odd),
                }
            }
        }
    }
}

fn byte(page: &[u8], at: usize) -> Found<u8> {
    page.get(at).copied().ok_or(Stop::More)
}

fn slice(found: Option<&[u8]>) -> Found<&[u8]> {
    found.ok_or(Stop::More)
}

#[cfg(test)]
mod tests;
