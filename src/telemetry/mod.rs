//! What operators see: metrics, the log of requests, panics that cost one step.

mod access_log;
mod guard;
mod lines;
mod log;
pub mod metrics;
mod outcome;
mod seldom;
mod site;

pub use access_log::{AccessLog, Record};
pub use guard::guard;
pub use log::{settle as settle_logs, start as start_log};
pub use outcome::{
    AssetLookup, Edits, EventDrop, EventEnd, EventRefusal, Feature, Personalization, ProfileResult,
    Rewrite, RouteName, Tier,
};
pub use seldom::Seldom;
pub use site::{LaneMetrics, SiteMetrics};
