//! Doorstep: first-party analytics, identity and personalisation in front of a web site, on Pingora.
//!
//! # What YAML can't say
//! A site's configuration decides most of what visitors see. What it can't say is written in Rust: a
//! [`decide::Decide`] is asked behind the configuration's rules, and may change what they have decided.
//! It is called on the request's own thread for every page that it concerns, so it must not block; a
//! panic in it costs the page's decisions and nothing else.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use doorstep::decide::{Decide, Decision, Facts};
//! use doorstep::html::{Change, Edit, Select};
//! use doorstep::node::{Start, run};
//!
//! /// Greets visitors by a name that is made of two traits, and marks what they have bought.
//! struct Greeting {
//!     title: Arc<Select>,
//!     products: Arc<Select>,
//! }
//!
//! impl Decide for Greeting {
//!     fn concerns(&self, site: &str, path: &str) -> bool {
//!         site == "shop" && path == "/"
//!     }
//!
//!     fn decide(&self, _site: &str, facts: &Facts<'_>, decision: &mut Decision) {
//!         let Some(profile) = facts.profile() else { return };
//!         let text = |name: &str| profile.get(name).and_then(|one| one.value().as_str().map(str::to_owned));
//!         if let (Some(first), Some(last)) = (text("first_name"), text("last_name")) {
//!             // Texts are escaped where they land.
//!             let name = Change::Text(format!("Welcome, {first} {last}").into());
//!             decision.traits.insert("greeted".into(), true.into());
//!             decision.edits.push(Edit::new(Arc::clone(&self.title), vec![name]));
//!         }
//!         let bought = text("last_product").unwrap_or_default();
//!         // A handler of one's own sees each element as it comes.
//!         let mark = Change::Custom(Arc::new(move |element| {
//!             if element.get_attribute("data-product").as_deref() == Some(&*bought) {
//!                 let _ = element.set_attribute("data-bought", "yes");
//!             }
//!         }));
//!         decision.edits.push(Edit::new(Arc::clone(&self.products), vec![mark]));
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let text = std::fs::read_to_string("doorstep.yaml")?;
//! let config = doorstep::config::load("doorstep.yaml", &text, |name| std::env::var(name).ok())
//!     .map_err(|problems| problems.to_string())?;
//! let greeting = Greeting {
//!     title: Arc::new(Select::parse("h1")?),
//!     products: Arc::new(Select::parse("[data-product]")?),
//! };
//! run(config, Start { deciders: vec![Arc::new(greeting)], ..Start::default() })?;
//! # Ok(())
//! # }
//! ```

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
pub mod private;
pub mod profile;
mod shares;
pub mod site;
mod spare;
pub mod telemetry;
pub mod upstream;
pub mod vendor;
