//! Doorstep stands in front of a web site on the site's own edge nodes: first-party analytics,
//! HttpOnly identity, profiles and personalisation, built on Pingora.

pub mod config;
pub mod decide;
pub mod identity;
pub mod profile;
pub mod upstream;
