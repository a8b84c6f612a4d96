//! Changes of a page's elements, as the configuration declares them.

use std::sync::Arc;

use super::{Expression, Facts, Outcome, Template, Templates, Unmade};
use crate::html::{Change, Edit, Select};

/// One rule: which elements, when, and what is done to them.
#[derive(Debug)]
pub struct RewriteRule {
    /// Where it stands in the site's configuration: names it in metrics.
    pub name: Arc<str>,
    /// The elements.
    pub select: Arc<Select>,
    /// When it is true; always, where it says nothing.
    pub when: Option<Expression>,
    /// What is done.
    pub changes: Vec<Planned>,
    /// A script keeps it that way.
    pub keep: bool,
    /// To the first element alone.
    pub first: bool,
}

/// A change whose texts are made for each visitor.
#[derive(Debug)]
pub enum Planned {
    /// The content as text.
    Text(Template),
    /// The content as markup.
    Html(Template),
    /// The content as JSON.
    Json(Template),
    /// An attribute.
    Attribute(Arc<str>, Template),
    /// An attribute less.
    NoAttribute(Arc<str>),
    /// Classes.
    Class(Template),
    /// Classes less.
    NoClass(Template),
    /// A property of the style.
    Style(Arc<str>, Template),
    /// Hidden.
    Hide,
    /// Gone.
    Remove,
    /// Markup before.
    Before(Template),
    /// Markup at the beginning.
    Prepend(Template),
    /// Markup at the end.
    Append(Template),
    /// Markup behind.
    After(Template),
}

/// What became of a rule for one visitor.
#[derive(Debug)]
pub enum Ruled {
    /// It applies.
    Edit(Edit),
    /// Its condition is false.
    No,
    /// It can't be made for this visitor: the page stays as it is there.
    Unmade(Unmade),
}

impl RewriteRule {
    /// What the rule makes for the visitor of `facts`. One text that can't be made leaves all of it out:
    /// half a change is worse than none.
    #[must_use]
    pub fn of(&self, templates: &Templates, facts: &Facts<'_>) -> Ruled {
        match self.when.as_ref().map(|when| when.test(facts)) {
            None | Some(Outcome::True) => {}
            Some(Outcome::False) => return Ruled::No,
            Some(Outcome::Failed(why)) => return Ruled::Unmade(Unmade::Failed(why)),
        }
        let changes = self.changes.iter().map(|planned| planned.of(templates, facts));
        match changes.collect::<Result<Vec<_>, _>>() {
            Ok(changes) => Ruled::Edit(Edit {
                select: Arc::clone(&self.select),
                changes,
                keep: self.keep,
                first: self.first,
                of_page: false,
            }),
            Err(why) => Ruled::Unmade(why),
        }
    }

    /// Whether it puts traits into the page.
    #[must_use]
    pub fn shows_traits(&self) -> bool {
        let templates = self.changes.iter().filter_map(Planned::template);
        templates.into_iter().any(Template::asks_for_traits)
    }

    /// Whether it says anything about a visitor.
    #[must_use]
    pub fn is_personal(&self) -> bool {
        self.when.is_some() || self.changes.iter().any(Planned::is_made)
    }
}

impl Planned {
    fn template(&self) -> Option<&Template> {
        match self {
            Self::Text(template)
            | Self::Html(template)
            | Self::Json(template)
            | Self::Attribute(_, template)
            | Self::Class(template)
            | Self::NoClass(template)
            | Self::Style(_, template)
            | Self::Before(template)
            | Self::Prepend(template)
            | Self::Append(template)
            | Self::After(template) => Some(template),
            Self::NoAttribute(_) | Self::Hide | Self::Remove => None,
        }
    }

    fn is_made(&self) -> bool {
        self.template().is_some_and(|template| template.fixed().is_none())
    }

    fn of(&self, templates: &Templates, facts: &Facts<'_>) -> Result<Change, Unmade> {
        let make = |template: &Template| templates.make(template, facts);
        Ok(match self {
            Self::Text(text) => Change::Text(make(text)?),
            Self::Html(text) => Change::Html(make(text)?),
            Self::Json(text) => Change::Json(make(text)?),
            Self::Attribute(name, text) => Change::Attribute(Arc::clone(name), make(text)?),
            Self::NoAttribute(name) => Change::NoAttribute(Arc::clone(name)),
            Self::Class(text) => Change::Class(make(text)?),
            Self::NoClass(text) => Change::NoClass(make(text)?),
            Self::Style(property, text) => Change::Style(Arc::clone(property), make(text)?),
            Self::Hide => Change::Hide,
            Self::Remove => Change::Remove,
            Self::Before(text) => Change::Before(make(text)?),
            Self::Prepend(text) => Change::Prepend(make(text)?),
            Self::Append(text) => Change::Append(make(text)?),
            Self::After(text) => Change::After(make(text)?),
        })
    }
}

#[cfg(test)]
mod tests;
