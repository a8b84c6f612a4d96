//! What an element's changes make of it, byte for byte as the parser makes it.

use encoding_rs::WINDOWS_1252;

use super::super::edit::{Change, Edit, as_ascii, escape};
use super::super::links;
use super::super::tree::Name;
use super::tag::{Tag, words};

/// An element with its changes.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Made<'p> {
    /// Its attributes, once one of them was looked at.
    attributes: Option<Vec<Attribute<'p>>>,
    /// One of them is not as it was.
    is_changed: bool,
    before: String,
    /// Right behind its start tag.
    first: String,
    /// Right before its end tag.
    last: String,
    after: String,
    /// Neither its start nor its end is in the page.
    is_gone: bool,
    /// What the page has in it is not.
    is_emptied: bool,
    /// It has content now, and its start tag no slash.
    opens: bool,
    /// There is something to do at its end.
    ends: bool,
}

/// What is left to do where an element ends.
#[derive(Debug)]
pub(super) struct AtEnd {
    pub(super) is_emptied: bool,
    is_gone: bool,
    before: String,
    after: String,
}

enum Attribute<'p> {
    /// As the page has it: all of it, its name, its value.
    Own(&'p [u8], &'p [u8], &'p [u8]),
    /// Its name, and another value with its references.
    Changed(&'p [u8], Vec<u8>),
    /// One more.
    Added(String, Vec<u8>),
}

impl<'p> Made<'p> {
    /// What `edits` make of `tag`. None where only the parser can make it.
    pub(super) fn of<'e>(edits: impl Iterator<Item = &'e Edit>, tag: &Tag<'p>) -> Option<Self> {
        let mut made = Self::default();
        let is_void = Name::of(tag.name).traits().is_void();
        for change in edits.flat_map(|edit| &edit.changes) {
            if !made.make(change, tag, is_void) {
                return None;
            }
        }
        Some(made)
    }

    fn make(&mut self, change: &Change, tag: &Tag<'p>, is_void: bool) -> bool {
        self.ends |= !is_void && change.needs_end();
        match change {
            Change::Before(markup) => self.before.push_str(&as_ascii(markup)),
            Change::After(markup) if is_void => self.first.insert_str(0, &as_ascii(markup)),
            Change::After(markup) => self.after.insert_str(0, &as_ascii(markup)),
            Change::Remove => {
                self.is_gone = true;
                if !is_void {
                    self.empty();
                }
            }
            Change::Text(_) | Change::Html(_) | Change::Prepend(_) | Change::Append(_)
                if is_void => {}
            Change::Text(text) => {
                self.empty();
                self.put_first(&escape(text));
            }
            Change::Html(markup) => {
                self.empty();
                self.put_first(&as_ascii(markup));
            }
            Change::Prepend(markup) => self.put_first(&as_ascii(markup)),
            Change::Append(markup) => {
                self.opens = true;
                self.last.push_str(&as_ascii(markup));
            }
            Change::Json(_) | Change::Custom(_) => return false,
            of_tag => {
                let own =
                    || tag.attributes().map(|own| Attribute::Own(own.raw, own.name, own.value));
                let attributes = self.attributes.get_or_insert_with(|| own().collect());
                self.is_changed |= alter(attributes, of_tag);
            }
        }
        true
    }

    fn empty(&mut self) {
        self.is_emptied = true;
        self.first.clear();
        self.last.clear();
    }

    fn put_first(&mut self, markup: &str) {
        self.opens = true;
        self.first.insert_str(0, markup);
    }

    /// Adds what comes of the element's start tag, which is `raw` in the page.
    pub(super) fn write(&self, tag: &Tag<'_>, raw: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(self.before.as_bytes());
        match self.attributes.as_ref().filter(|_| self.is_changed) {
            _ if self.is_gone => {}
            None => out.extend_from_slice(raw),
            Some(attributes) => {
                let closes = tag.closes && !self.opens;
                out.push(b'<');
                out.extend_from_slice(tag.name);
                for attribute in attributes {
                    out.push(b' ');
                    attribute.write(out);
                }
                out.extend_from_slice(match (closes, attributes.is_empty()) {
                    (true, false) => b" />",
                    (true, true) => b"/>",
                    (false, _) => b">",
                });
            }
        }
        out.extend_from_slice(self.first.as_bytes());
    }

    /// Whether what is written ends with its tag.
    pub(super) fn ends_with_tag(&self) -> bool {
        !self.is_gone && self.first.is_empty()
    }

    /// What is to be done at its end, if something is.
    pub(super) fn at_end(self) -> Option<AtEnd> {
        let Self { last, after, is_gone, is_emptied, ends, .. } = self;
        ends.then_some(AtEnd { is_emptied, is_gone, before: last, after })
    }
}

impl AtEnd {
    /// Whether what is written ends with its tag.
    pub(super) fn ends_with_tag(&self) -> bool {
        !self.is_gone && self.after.is_empty()
    }

    /// Adds what comes of the element's end tag, which is `raw` in the page.
    pub(super) fn write(&self, raw: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(self.before.as_bytes());
        if !self.is_gone {
            out.extend_from_slice(raw);
        }
        out.extend_from_slice(self.after.as_bytes());
    }
}

impl Attribute<'_> {
    fn name(&self) -> &[u8] {
        match self {
            Self::Own(_, name, _) | Self::Changed(name, _) => name,
            Self::Added(name, _) => name.as_bytes(),
        }
    }

    fn value(&self) -> &[u8] {
        match self {
            Self::Own(_, _, value) => value,
            Self::Changed(_, value) | Self::Added(_, value) => value,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Own(raw, ..) => out.extend_from_slice(raw),
            Self::Changed(..) | Self::Added(..) => {
                out.extend_from_slice(self.name());
                out.extend_from_slice(b"=\"");
                for byte in self.value() {
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

/// Whether something is not as it was.
fn alter(attributes: &mut Vec<Attribute<'_>>, change: &Change) -> bool {
    match change {
        Change::Attribute(name, value) => set(attributes, name, escape(value).into_bytes()),
        Change::NoAttribute(name) => {
            let before = attributes.len();
            attributes.retain(|own| !own.name().eq_ignore_ascii_case(name.as_bytes()));
            return attributes.len() < before;
        }
        Change::Class(names) => {
            let class = value(attributes, "class").unwrap_or_default().to_vec();
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
            let Some(class) = value(attributes, "class") else { return false };
            let gone = escape(names);
            let gone: Vec<&[u8]> = words(gone.as_bytes()).collect();
            let left: Vec<&[u8]> = words(class).filter(|one| !gone.contains(one)).collect();
            let left = left.join(&b' ');
            set(attributes, "class", left);
        }
        Change::Style(property, value) => restyle(attributes, property, &escape(value)),
        Change::Hide => restyle(attributes, "display", "none !important"),
        Change::LinksFrom(folder) => {
            let mut changed = false;
            for name in links::NAMES {
                let Some(own) = value(attributes, name) else { continue };
                let (own, _) = WINDOWS_1252.decode_without_bom_handling(own);
                if let Some(rebased) = links::rebased(name, &own, folder) {
                    set(attributes, name, WINDOWS_1252.encode(&rebased).0.into_owned());
                    changed = true;
                }
            }
            return changed;
        }
        _ => return false,
    }
    true
}

fn value<'a>(attributes: &'a [Attribute<'_>], name: &str) -> Option<&'a [u8]> {
    let is = |own: &&Attribute<'_>| own.name().eq_ignore_ascii_case(name.as_bytes());
    attributes.iter().find(is).map(Attribute::value)
}

fn set(attributes: &mut Vec<Attribute<'_>>, name: &str, value: Vec<u8>) {
    let is = |own: &&mut Attribute<'_>| own.name().eq_ignore_ascii_case(name.as_bytes());
    match attributes.iter_mut().find(is) {
        Some(Attribute::Added(_, own)) => *own = value,
        Some(own) => {
            if let Attribute::Own(_, name, _) | Attribute::Changed(name, _) = own {
                *own = Attribute::Changed(name, value);
            }
        }
        None => attributes.push(Attribute::Added(name.to_ascii_lowercase(), value)),
    }
}

fn restyle(attributes: &mut Vec<Attribute<'_>>, property: &str, made: &str) {
    let own = value(attributes, "style").unwrap_or_default();
    let mut own = own.trim_ascii();
    while let Some(shorter) = own.strip_suffix(b";") {
        own = shorter;
    }
    let mut style = own.to_vec();
    if !style.is_empty() {
        style.extend_from_slice(b"; ");
    }
    style.extend_from_slice(format!("{property}: {made}").as_bytes());
    set(attributes, "style", style);
}
