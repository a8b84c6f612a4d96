//! Doorstep: first-party analytics, identity and personalisation in front of a web site, on Pingora.

pub mod admin;
pub mod cache;
pub mod cli;
pub mod collect;
pub mod config;
pub mod decide;
pub mod demo;
pub mod edge;
pub mod geo;
pub mod html;
pub mod identity;
pub mod node;
pub mod profile;
pub mod site;
pub mod telemetry;
pub mod upstream;
pub mod vendor;
