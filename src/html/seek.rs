//! Edits of elements that are named by their id, made without a parser where all of them are in the first
//! bytes of a page: to build one and to read a page with it costs more than all the rest. Anything unusual
//! in front of the last of them leaves the whole page to the parser.

use memchr::{memchr, memmem};

use super::edit::{Change, Edit, as_ascii, escape};

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

/// What comes of `page`, the first bytes of one, where all of `edits` can be made in them; `None` where
/// that is not certain.
pub(super) fn all(page: &[u8], edits: &[Edit]) -> Option<Vec<u8>> {
    let there = |edit: &Edit| {
        let id = edit.select.id().unwrap_or_default();
        memmem::find(page, id.as_bytes()).is_some()
    };
    if edits.is_empty() || !can(edits) || !edits.iter().all(there) {
        return None;
    }
    let mut open: Vec<&Edit> = edits.iter().collect();
    let mut out = Vec::with_capacity(page.len() + 512);
    // Up to where `out` stands for the page.
    let (mut written, mut at) = (0, 0);
    while !open.is_empty() {
        let Step { what, end, .. } = next(page, at)?;
        let What::Start(tag) = what else {
            at = end;
            continue;
        };
        let id = tag.id();
        let is_it = |edit: &&Edit| id.is_some() && edit.select.id().map(str::as_bytes) == id;
        let Some(position) = open.iter().position(is_it) else {
            at = past(page, &tag, end, &|inner: &Tag<'_>| {
                open.iter().any(|edit| inner.id() == edit.select.id().map(str::as_bytes))
            })?;
            continue;
        };
        let edit = open.remove(position);
        // Two edits of one element are the parser's, and so are elements without markup in them.
        if open.iter().any(is_it) || tag.is_special() {
            return None;
        }
        out.extend_from_slice(page.get(written..tag.start)?);
        at = make(page, &tag, end, edit, &mut out)?;
        written = at;
    }
    out.extend_from_slice(page.get(written..)?);
    Some(out)
}

/// Makes `edit` at `tag`, and says where the page goes on. `None` where that can't be known here.
fn make(page: &[u8], tag: &Tag<'_>, end: usize, edit: &Edit, out: &mut Vec<u8>) -> Option<usize> {
    let mut attributes = tag.attributes.clone();
    let mut changed = false;
    let (mut content, mut behind) = (None, end);
    for change in &edit.changes {
        match change {
            Change::Before(markup) => out.extend_from_slice(as_ascii(markup).as_bytes()),
            Change::Remove => {
                return if tag.is_void() { Some(end) } else { close(page, tag, end)?.1.into() };
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
        out.extend_from_slice(page.get(tag.start..end)?);
    }
    out.extend_from_slice(content.unwrap_or_default().as_bytes());
    Some(behind)
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

/// What stands at the next `<` from `at` on. `None` where it is not all there, or unusual.
fn next(page: &[u8], at: usize) -> Option<Step<'_>> {
    let mut at = at;
    loop {
        at += memchr(b'<', page.get(at..)?)?;
        let rest = page.get(at..)?;
        match rest {
            [b'<', b'!', b'-', b'-', ..] => {
                let inner = rest.get(4..)?;
                let end = memmem::find(inner, b"-->")?;
                let odd = inner.starts_with(b">") || inner.starts_with(b"->");
                if odd || memmem::find(inner.get(..end)?, b"--!>").is_some() {
                    return None;
                }
                return Some(Step { what: What::Other, start: at, end: at + 4 + end + 3 });
            }
            [b'<', b'!', ..] => {
                let doctype = rest.get(2..9)?.eq_ignore_ascii_case(b"doctype");
                let end = memchr(b'>', rest).filter(|_| doctype)?;
                return Some(Step { what: What::Other, start: at, end: at + end + 1 });
            }
            [b'<', b'/', letter, ..] if letter.is_ascii_alphabetic() => {
                let end = memchr(b'>', rest)?;
                let name = rest.get(2..end)?.trim_ascii_end();
                let bare = name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
                return bare.then_some(Step {
                    what: What::End(name),
                    start: at,
                    end: at + end + 1,
                });
            }
            [b'<', letter, ..] if letter.is_ascii_alphabetic() => {
                let (tag, end) = read_tag(page, at)?;
                return Some(Step { what: What::Start(tag), start: at, end });
            }
            [b'<', b'/' | b'?', ..] | [b'<'] => return None,
            // Text.
            _ => at += 1,
        }
    }
}

fn read_tag(page: &[u8], start: usize) -> Option<(Tag<'_>, usize)> {
    let space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'\x0c');
    let mut at = start + 1;
    while page.get(at)?.is_ascii_alphanumeric() || *page.get(at)? == b'-' {
        at += 1;
    }
    let name = page.get(start + 1..at)?;
    let (mut attributes, mut closes) = (Vec::new(), false);
    loop {
        let from = at;
        while space(page.get(at)?) {
            at += 1;
        }
        match *page.get(at)? {
            b'>' => break,
            b'/' if *page.get(at + 1)? == b'>' => {
                closes = true;
                at += 1;
                break;
            }
            // Behind a name comes a space; quotes and the like in names are unusual.
            byte if from == at || matches!(byte, b'/' | b'"' | b'\'' | b'=' | b'<') => return None,
            _ => {}
        }
        let begun = at;
        while !space(page.get(at)?) && !matches!(page.get(at)?, b'=' | b'>' | b'/') {
            if matches!(page.get(at)?, b'"' | b'\'' | b'<' | 0) {
                return None;
            }
            at += 1;
        }
        let own_name = page.get(begun..at)?;
        let mut value: &[u8] = b"";
        if *page.get(at)? == b'=' {
            at += 1;
            match *page.get(at)? {
                quote @ (b'"' | b'\'') => {
                    let length = memchr(quote, page.get(at + 1..)?)?;
                    value = page.get(at + 1..at + 1 + length)?;
                    at += length + 2;
                }
                byte if space(&byte) || byte == b'>' => return None,
                _ => {
                    let from = at;
                    while !space(page.get(at)?) && *page.get(at)? != b'>' {
                        if matches!(page.get(at)?, b'"' | b'\'' | b'<' | b'=' | b'`') {
                            return None;
                        }
                        at += 1;
                    }
                    value = page.get(from..at)?;
                }
            }
        }
        let raw = page.get(begun..at)?;
        attributes.push(Attribute::Own(raw, own_name, value));
    }
    Some((Tag { start, name, attributes, closes }, at + 1))
}

/// Where the page goes on behind `tag`, which ends at `end`: behind all of it where its content is read in
/// ways of its own. None of what is `wanted` may be in there.
fn past(
    page: &[u8],
    tag: &Tag<'_>,
    end: usize,
    wanted: &dyn Fn(&Tag<'_>) -> bool,
) -> Option<usize> {
    if !tag.is_special() {
        return Some(end);
    }
    if tag.is(&["svg"]) {
        return past_svg(page, tag, end, wanted);
    }
    let raw = ["script", "style", "title", "textarea", "noscript", "iframe"];
    if tag.closes || !tag.is(&raw) {
        return None;
    }
    let script = tag.is(&["script"]);
    let mut at = end;
    loop {
        at += memchr(b'<', page.get(at..)?)?;
        let rest = page.get(at..)?;
        // In a script this opens states in which an end tag is none.
        if script && rest.starts_with(b"<!--") {
            return None;
        }
        let named = rest.get(2..2 + tag.name.len())?.eq_ignore_ascii_case(tag.name);
        if rest.get(1) == Some(&b'/') && named && rest.get(2 + tag.name.len())? == &b'>' {
            return Some(at + 3 + tag.name.len());
        }
        if rest.get(1) == Some(&b'/') && named {
            return None;
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
) -> Option<usize> {
    if tag.closes {
        return Some(end);
    }
    let plain =
        ["path", "g", "circle", "rect", "line", "polyline", "polygon", "ellipse", "use", "defs"];
    let mut at = end;
    loop {
        let step = next(page, at)?;
        at = step.end;
        match step.what {
            What::Start(inner) if !inner.is(&plain) || wanted(&inner) => return None,
            What::End(name) if name.eq_ignore_ascii_case(b"svg") => return Some(at),
            What::End(name)
                if !plain.iter().any(|one| name.eq_ignore_ascii_case(one.as_bytes())) =>
            {
                return None;
            }
            What::Start(_) | What::End(_) | What::Other => {}
        }
    }
}

/// Where the end tag of `tag`, whose content begins at `end`, begins and ends.
fn close(page: &[u8], tag: &Tag<'_>, end: usize) -> Option<(usize, usize)> {
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
                        return Some((step.start, step.end));
                    }
                    // It may end an element around this one.
                    None => return None,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
