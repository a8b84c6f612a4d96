//! Decisions about one page, as the configuration declares them.
//! In: facts of a request and its visitor. Out: a path, client traits. Pure: nothing here waits,
//! and nothing fails a page. Knows nothing of Pingora.

mod bits;
mod bucket;
mod client;
mod consent;
mod experiment;
mod expression;
mod facts;
mod gpp;
mod kept;
mod lazy;
mod lenient;
mod pattern;
mod preview;
mod rewrite;
mod rules;
mod tcf;
mod template;
mod us_privacy;
mod variation;

pub use bucket::{Version as HashVersion, ranges};
pub use client::{ClientTraits, TraitCookie, TraitHeader};
pub use consent::{Consent, ConsentRules};
pub use experiment::{
    Assigned, Earlier, Experiment, ExperimentKey, HELD_OUT, Holdout, Unit, Variant, Why,
};
pub use expression::{Expression, ExpressionError, Kind, Outcome, VARIABLES};
pub use facts::{Facts, RequestFacts};
pub use kept::{KEPT, Kept};
pub use pattern::{Found, PathTemplate, PatternError, RoutePattern, Routes};
pub use preview::{PREVIEW, Preview, PreviewError};
pub use rewrite::{Planned, RewriteRule};
pub use rules::{Asking, Concerned, Decide, Decision, Rules, Trace, Wants, told};
pub use template::{Landing, Template, Templates, Unmade};
pub use variation::{Choice, Page, Share, Target, Variation};
