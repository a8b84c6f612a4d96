//! Where a profile comes from that no store has yet: the vendor's own API, asked when a visitor
//! comes.

mod http_json;
mod pace;
mod pulling;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use super::ProfileKey;
use crate::upstream::Upstream;

pub(crate) use http_json::in_url;
pub use http_json::{HttpJson, HttpJsonError};
pub use pulling::{Pulling, Terms};

/// Traits as a source has them.
pub type Traits = Vec<(Box<str>, Value)>;

/// Why a source has no answer.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The call failed.
    #[error(transparent)]
    Call(#[from] crate::upstream::CallError),
    /// An answer that says nothing about the profile.
    #[error("the profile source answered {0}")]
    Status(http::StatusCode),
    /// An answer of another form.
    #[error("the profile source's answer is not what was expected: {0}")]
    Malformed(&'static str),
    /// It is not asked at the moment, because it failed or asked for a pause.
    #[error("the profile source is given a pause")]
    Paused,
    /// It asks for a pause of this length.
    #[error("the profile source asks for a pause of {0:?}")]
    SlowDown(std::time::Duration),
    /// Too many other profiles are asked for.
    #[error("too many profiles are asked for at one time")]
    Busy,
}

/// For whom a source is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// Somebody vouches for the visitor, or the visitor is known.
    Vouched,
    /// Anybody from this network: the id may be made up.
    Stranger(u128),
}

/// A source of profiles.
#[async_trait]
pub trait ProfileSource: Send + Sync {
    /// Whether it can be asked for ids of this type.
    fn serves(&self, key: &ProfileKey) -> bool;

    /// What it knows of `key`, which `asker` asks for; `None` when it knows nobody.
    ///
    /// # Errors
    /// When it has no answer.
    async fn pull(&self, key: &ProfileKey, asker: Asker) -> Result<Option<Traits>, PullError>;

    /// For how long an answer holds, `known` or not.
    fn holds(&self, known: bool) -> Duration;

    /// Where it is: its name has to be resolved.
    fn upstream(&self) -> &Arc<Upstream>;
}

/// What is to be asked.
#[derive(Debug)]
pub struct Asking {
    /// Method.
    pub method: http::Method,
    /// Path below the API's base path, with query.
    pub path: String,
    /// JSON, or nothing.
    pub body: bytes::Bytes,
}

/// A part of an answer.
#[derive(Debug, Default, PartialEq)]
pub struct Page {
    /// Traits.
    pub traits: Traits,
    /// Where the next part is, if there is one.
    pub next: Option<String>,
    /// Set when the answer says that nobody is known.
    pub nobody: bool,
}

/// What is special about one API.
pub trait Api: Send + Sync {
    /// What to ask for `key`; `next` is where another part was said to be.
    fn ask(&self, key: &ProfileKey, next: Option<&str>) -> Asking;

    /// Reads an answer of status 200.
    ///
    /// # Errors
    /// What is wrong with it.
    fn read(&self, body: &[u8]) -> Result<Page, &'static str>;
}
