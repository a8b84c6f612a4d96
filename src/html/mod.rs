//! A page's body on its way to one visitor.
//! In: the origin's bytes in any chunks. Out: the same bytes with some elements changed and the snippet
//! in its place. Pure:
//! nothing here waits. Knows nothing of Pingora.

mod attribute;
mod beginning;
mod body;
mod coding;
mod csp;
mod edit;
mod editor;
mod fragment;
mod gunzip;
mod hydration;
mod injector;
mod keep;
mod links;
mod marks;
mod place;
mod plan;
mod rewriter;
mod script;
mod seek;
mod select;
mod skeleton;
mod splice;
mod title;
mod tree;
mod url;

pub use attribute::{AttributeError, AttributeUse};
pub use beginning::Wanted;
pub use body::{Body, Broken, Passed};
pub use coding::Coding;
pub use csp::{Csp, OwnFiles, Way};
pub use edit::{Change, Custom, Edit};
pub use editor::Editor;
pub use fragment::FragmentError;
pub use hydration::framework;
pub use injector::{Injector, Markup};
pub use keep::{Keep, keep_script};
pub use links::LINKED;
pub use plan::{Known, PageKey, Plan, Plans};
pub use rewriter::{Edited, Rewriter};
pub use script::{Script, minify, push_script_json};
pub use seek::Places;
pub use select::Select;
pub use skeleton::{ControlCharacter, Edge, OpensTemplate, Skeleton, push_value};
pub use splice::splice;
pub use title::Title;
pub use url::{Hosts, UrlError, UrlUse, is_safe_url};
