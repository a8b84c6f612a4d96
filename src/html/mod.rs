//! A page's body on its way to one visitor.
//! In: the origin's bytes in any chunks. Out: the same bytes with some elements changed and the snippet
//! in its place. Pure:
//! nothing here waits. Knows nothing of Pingora.

mod body;
mod coding;
mod csp;
mod edit;
mod editor;
mod hydration;
mod injector;
mod keep;
mod links;
mod place;
mod plan;
mod rewriter;
mod script;
mod seek;
mod select;
mod splice;
mod title;

pub use body::{Body, Broken, Passed};
pub use coding::Coding;
pub use csp::{Csp, Way};
pub use edit::{
    Change, Custom, Edit, escape_everywhere, is_code_attribute, is_safe_style, is_safe_url,
    is_url_attribute,
};
pub use editor::Editor;
pub use hydration::framework;
pub use injector::{Injector, Markup};
pub use keep::{Keep, keep_script};
pub use links::LINKED;
pub use plan::{Known, PageKey, Plan, Plans};
pub use rewriter::{Edited, Rewriter};
pub use script::{Script, minify, push_script_json};
pub use seek::Places;
pub use select::Select;
pub use splice::splice;
pub use title::Title;
