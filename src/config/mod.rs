//! YAML → checked, compiled configuration.
//! In: the text of a file and the environment. Out: a [`Config`], or every problem at once with
//! line, column, path and what was expected.

mod certificate;
mod compile;
pub mod file;
mod fixed;
mod identity;
mod load;
mod origin;
mod problem;
mod profiles;
mod public;
mod remains;
mod rules;
mod schema;
mod scrub;
mod secret;
mod shown;
mod site;
mod snapshot;
mod source;
mod units;
mod vendors;
mod warnings;

pub use certificate::{CertificateError, Certificates, LiveCertificates, show_ends};
pub use compile::load;
pub use fixed::Fixed;
pub use load::{LoadError, load_file};
pub use problem::{Place, Problem, Problems};
pub use schema::schema;
pub use secret::Secret;
pub use snapshot::{
    Config, ConnectionBounds, End, ListenOn, Node, Snapshot, StoreChoice, UnreadBounds,
};
pub use source::Source;
pub use units::{ByteSize, Duration};
