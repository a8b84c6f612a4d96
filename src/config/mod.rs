//! YAML → checked configuration.
//! In: the text of a file and the environment. Out: a [`file::File`], or every problem at once with
//! line, column, path and what was expected.

pub mod file;
mod problem;
mod schema;
mod secret;
mod source;
mod units;

pub use problem::{Place, Problem, Problems};
pub use schema::{read, schema};
pub use secret::Secret;
pub use source::Source;
pub use units::{ByteSize, Duration};
