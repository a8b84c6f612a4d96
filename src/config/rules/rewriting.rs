//! Changes of elements.

use std::sync::Arc;

use super::super::file;
use super::Compiler;
use crate::decide::{Landing, Planned, RewriteRule, Template};
use crate::html::{AttributeError, AttributeUse, Hosts, Select, UrlUse, is_safe_url};

/// What the changes of a rule are about.
struct Subject<'s> {
    select: &'s Select,
    hosts: Arc<Hosts>,
}

/// What else can be done about an attribute of elements that a selector does not name.
const UNNAMED: &str =
    "; or name the elements in `select`, such as `a#more` or `img.logo`, if it is about others";

impl Compiler<'_, '_> {
    pub(super) fn rewrites(&mut self, list: &[file::Rewrite]) -> Option<()> {
        let mut good = true;
        for (index, given) in list.iter().enumerate() {
            let at = format!("{}/rewrite/{index}", self.at);
            let routes = match &given.route {
                Some(route) => self.routes(&format!("{at}/route"), route),
                None => Some(Vec::new()),
            };
            match (routes, self.rewrite(&at, given)) {
                (Some(routes), Some(rule)) => self.rules.rewrite.add(&routes, rule),
                _ => good = false,
            }
        }
        good.then_some(())
    }

    pub(super) fn rewrite(&mut self, at: &str, given: &file::Rewrite) -> Option<RewriteRule> {
        let select = self.checking.take(&format!("{at}/select"), Select::parse(&given.select));
        let when = self.when(&format!("{at}/when"), given.when.as_deref());
        let hosts = self.hosts(at, given);
        let (select, hosts) = (Arc::new(select?), Arc::new(hosts?));
        let subject = Subject { select: &select, hosts: Arc::clone(&hosts) };
        let mut changes = Vec::new();
        let mut good = self.set(at, given, &subject, &mut changes).is_some();
        if let Some(insert) = &given.insert {
            type Make = fn(Template) -> Planned;
            let all: [(&str, &Option<String>, Make); 4] = [
                ("before", &insert.before, Planned::Before),
                ("prepend", &insert.prepend, Planned::Prepend),
                ("append", &insert.append, Planned::Append),
                ("after", &insert.after, Planned::After),
            ];
            for (name, text, make) in all {
                let Some(text) = text else { continue };
                let landing = Landing::Html(Arc::clone(&hosts));
                match self.template(&format!("{at}/insert/{name}"), text, landing) {
                    Some(template) => changes.push(make(template)),
                    None => good = false,
                }
            }
        }
        if given.hide {
            changes.push(Planned::Hide);
        }
        if given.remove {
            if !changes.is_empty() {
                self.problem(&format!("{at}/remove"), "what is removed can't be changed as well");
                good = false;
            }
            changes.push(Planned::Remove);
        }
        if changes.is_empty() && good {
            self.problem(at, "expected `set`, `insert`, `remove` or `hide`");
            return None;
        }
        let json = given.set.as_ref().is_some_and(|set| set.json.is_some());
        if given.persist && (given.insert.is_some() || json) {
            self.problem(&format!("{at}/persist"), "`insert` and `json` can't be kept");
            return None;
        }
        let (keep, first) = (given.persist, given.first);
        let name = self.name(at);
        good.then_some(RewriteRule { name, select, when: when?, changes, keep, first })
    }

    fn hosts(&mut self, at: &str, given: &file::Rewrite) -> Option<Hosts> {
        let (mut hosts, mut good) = (Hosts::default(), true);
        for (index, text) in given.hosts.iter().enumerate() {
            let added = hosts.add(text);
            good &= self.checking.take(&format!("{at}/hosts/{index}"), added).is_some();
        }
        good.then_some(hosts)
    }

    fn set(
        &mut self,
        at: &str,
        given: &file::Rewrite,
        subject: &Subject<'_>,
        out: &mut Vec<Planned>,
    ) -> Option<()> {
        let Some(set) = &given.set else { return Some(()) };
        let at = format!("{at}/set");
        let html = Landing::Html(Arc::clone(&subject.hosts));
        let contents = [
            ("text", &set.text, Landing::Text, Planned::Text as fn(Template) -> Planned),
            ("html", &set.html, html, Planned::Html),
            ("json", &set.json, Landing::Json, Planned::Json),
        ];
        if contents.iter().filter(|(_, text, ..)| text.is_some()).count() > 1 {
            self.problem(&at, "an element has one content: `text`, `html` or `json`");
            return None;
        }
        let mut good = true;
        for (name, text, landing, make) in contents {
            let Some(text) = text else { continue };
            match self.template(&format!("{at}/{name}"), text, landing) {
                Some(template) => out.push(make(template)),
                None => good = false,
            }
        }
        for (name, value) in &set.attributes {
            let place = format!("{at}/attributes/{}", name.replace('~', "~0").replace('/', "~1"));
            let makes_header =
                set.attributes.keys().any(|own| own.eq_ignore_ascii_case("http-equiv"));
            let names = ["name", "property", "itemprop"];
            let is_text = !makes_header && subject.select.has_one_of(&names);
            match self.attribute(&place, name, value.as_deref(), subject, is_text) {
                Some(change) => out.push(change),
                None => good = false,
            }
        }
        let classes = [
            ("add_class", &set.add_class, Planned::Class as fn(Template) -> Planned),
            ("remove_class", &set.remove_class, Planned::NoClass),
        ];
        for (name, text, make) in classes {
            let Some(text) = text else { continue };
            match self.template(&format!("{at}/{name}"), text, Landing::Classes) {
                Some(template) => out.push(make(template)),
                None => good = false,
            }
        }
        for (property, value) in &set.style {
            match self.style(&format!("{at}/style/{property}"), property, value) {
                Some(change) => out.push(change),
                None => good = false,
            }
        }
        good.then_some(())
    }

    /// `is_text`: `content` of the element is no header of the page.
    fn attribute(
        &mut self,
        place: &str,
        name: &str,
        value: Option<&str>,
        subject: &Subject<'_>,
        is_text: bool,
    ) -> Option<Planned> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_:.@".contains(&byte);
        if name.is_empty() || !name.bytes().all(fits) {
            self.problem(place, format!("`{name}` is not the name of an attribute"));
            return None;
        }
        let name: Arc<str> = name.into();
        let Some(value) = value else { return Some(Planned::NoAttribute(name)) };
        let elements = subject.select.elements();
        let its_use = AttributeUse::of_all(elements.as_deref(), &name);
        let landing = Landing::Attribute(Arc::clone(&name), its_use, Arc::clone(&subject.hosts));
        let is_unnamed = elements.is_none() && its_use == AttributeUse::Url(UrlUse::Code);
        let hint = if is_unnamed { UNNAMED } else { "" };
        let template = self.template_or(place, value, landing, hint)?;
        let is_fixed = template.fixed().is_some();
        if is_fixed && matches!(its_use, AttributeUse::Url(_)) && !is_safe_url(value) {
            self.problem(place, format!("`{value}` does not lead to a page"));
            return None;
        }
        if !is_fixed && its_use == AttributeUse::Content && !is_text {
            self.problem(place, AttributeError::Content.to_string());
            return None;
        }
        Some(Planned::Attribute(name, template))
    }

    fn template(&mut self, place: &str, text: &str, landing: Landing) -> Option<Template> {
        self.template_or(place, text, landing, "")
    }

    /// The template, or a complaint with `hint` behind it.
    fn template_or(
        &mut self,
        place: &str,
        text: &str,
        landing: Landing,
        hint: &str,
    ) -> Option<Template> {
        let added = self.rules.templates.add(text, landing);
        if text.contains("experiments") {
            self.asked.extend(self.keys.iter().cloned());
        }
        self.checking.take(place, added.map_err(|why| format!("{why}{hint}")))
    }

    fn style(&mut self, place: &str, property: &str, value: &str) -> Option<Planned> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if property.is_empty() || !property.bytes().all(fits) {
            self.problem(
                place,
                format!("`{property}` is not a property such as `background-color`"),
            );
            return None;
        }
        let template = self.template(place, value, Landing::Style)?;
        if template.fixed().is_some() && value.contains([';', '{', '}']) {
            self.problem(place, "expected one value, without `;` and braces");
            return None;
        }
        Some(Planned::Style(property.into(), template))
    }
}
