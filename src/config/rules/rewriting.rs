//! Changes of elements.

use std::sync::Arc;

use super::super::file;
use super::Compiler;
use crate::decide::{Landing, Planned, RewriteRule, Template};
use crate::html::{Select, is_code_attribute, is_safe_url, is_url_attribute};

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
        let mut changes = Vec::new();
        let mut good = self.set(at, given, &mut changes).is_some();
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
                match self.template(&format!("{at}/insert/{name}"), text, Landing::Html) {
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
        let select = Arc::new(select?);
        let name = self.name(at);
        good.then_some(RewriteRule { name, select, when: when?, changes, keep, first })
    }

    fn set(&mut self, at: &str, given: &file::Rewrite, out: &mut Vec<Planned>) -> Option<()> {
        let Some(set) = &given.set else { return Some(()) };
        let at = format!("{at}/set");
        let contents = [
            ("text", &set.text, Landing::Plain, Planned::Text as fn(Template) -> Planned),
            ("html", &set.html, Landing::Html, Planned::Html),
            ("json", &set.json, Landing::Json, Planned::Json),
        ];
        if contents.iter().filter(|(_, text, ..)| text.is_some()).count() > 1 {
            self.problem(&at, "an element has one content: `text`, `html` or `json`");
            return None;
        }
        let mut good = true;
        for (name, text, landing, make) in contents {
            let Some(text) = text else { continue };
            let ends_script = text.to_ascii_lowercase().contains("</script");
            if landing == Landing::Json && (ends_script || text.contains("<!--")) {
                self.problem(
                    &format!("{at}/{name}"),
                    "JSON in a page can't hold `</script` or `<!--`",
                );
                return None;
            }
            match self.template(&format!("{at}/{name}"), text, landing) {
                Some(template) => out.push(make(template)),
                None => good = false,
            }
        }
        for (name, value) in &set.attributes {
            let place = format!("{at}/attributes/{}", name.replace('~', "~0").replace('/', "~1"));
            match self.attribute(&place, name, value.as_deref()) {
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
            match self.template(&format!("{at}/{name}"), text, Landing::Plain) {
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

    fn attribute(&mut self, place: &str, name: &str, value: Option<&str>) -> Option<Planned> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_:.@".contains(&byte);
        if name.is_empty() || !name.bytes().all(fits) {
            self.problem(place, format!("`{name}` is not the name of an attribute"));
            return None;
        }
        let Some(value) = value else { return Some(Planned::NoAttribute(name.into())) };
        let landing = if is_url_attribute(name) { Landing::Url } else { Landing::Plain };
        let template = self.template(place, value, landing)?;
        let fixed = template.fixed().is_some();
        if !fixed && is_code_attribute(name) {
            let hint = if name.eq_ignore_ascii_case("style") { ": use `style`" } else { "" };
            self.problem(place, format!("a value can't stand in the attribute `{name}`{hint}"));
            return None;
        }
        if landing == Landing::Url && fixed && !is_safe_url(value) {
            self.problem(place, format!("`{value}` does not lead to a page"));
            return None;
        }
        Some(Planned::Attribute(name.into(), template))
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
        let template = self.template(place, value, Landing::Plain)?;
        if template.fixed().is_some() && value.contains([';', '{', '}']) {
            self.problem(place, "expected one value, without `;` and braces");
            return None;
        }
        Some(Planned::Style(property.into(), template))
    }
}
