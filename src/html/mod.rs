//! A page's body on its way to one visitor.
//! In: the origin's bytes in any chunks. Out: the same bytes with the snippet in its place. Pure:
//! nothing here waits. Knows nothing of Pingora.

mod body;
mod coding;
mod csp;
mod injector;
mod place;
mod plan;
mod splice;
mod title;

pub use body::{Body, Broken, Passed};
pub use coding::Coding;
pub use csp::{Csp, Way};
pub use injector::{Injector, Markup};
pub use plan::{PageKey, Plan, Plans};
pub use splice::splice;
pub use title::Title;
