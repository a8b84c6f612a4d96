//! The real binary between real parts: one test binary, a file for each subject.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::format_push_string,
    reason = "a test fails by a panic, and may take its time"
)]

mod advisories;
mod assets;
mod browser;
mod bundled;
mod caching;
mod config;
mod consent;
mod events;
mod examples;
mod experiments;
mod framing;
mod generic;
mod hand_over;
mod hostile;
mod identity;
mod marks;
mod navigation;
mod odd_origins;
mod operator;
mod page_views;
mod pages;
mod pass_through;
mod profile_tools;
mod profiles;
mod prometheus;
mod promises;
mod redis;
mod reload;
mod rewriting;
mod rudderstack;
mod sdk_paths;
mod shared_computer;
mod signed_identity;
mod slow_readers;
mod sources;
mod spool;
mod sub_domain;
#[allow(unreachable_pub, reason = "written as a library: what is public is for the tests above")]
mod support;
mod tls;
mod trying;
mod unit;
mod variations;
