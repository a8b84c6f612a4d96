//! What is particular to a vendor: its SDK's paths, its snippet, its payloads, its cookies.
//! A vendor is a folder here; nothing outside knows its names. Knows nothing of Pingora.

pub mod rudderstack;
pub mod segment;
