//! Decisions about one page, as the configuration declares them.
//! In: facts of a request and its visitor. Out: a path, client traits. Pure: nothing here waits,
//! and nothing fails a page. Knows nothing of Pingora.

mod consent;
mod expression;
mod facts;
mod lenient;
mod tcf;
mod variation;

pub use consent::{Consent, ConsentRules};
pub use expression::{Expression, ExpressionError, Outcome, VARIABLES};
pub use facts::{Facts, RequestFacts};
pub use variation::{Choice, Chosen, Variations};
