//! Where profiles live between requests.

mod embedded;

use async_trait::async_trait;

use super::{Profile, ProfileKey, TooMuch, Update};
use crate::identity::UserId;

pub use embedded::Embedded;

/// Why a store did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The update itself is refused; trying again changes nothing.
    #[error(transparent)]
    Refused(#[from] TooMuch),
    /// The store can't at the moment: the sender should try again.
    #[error("the profile store failed: {0}")]
    Unavailable(String),
}

/// A store of profiles. What it has acknowledged survives a crash.
#[async_trait]
pub trait ProfileStore: Send + Sync {
    /// The profile under `key`, through the link where `key` is a browser's.
    ///
    /// # Errors
    /// When the store can't be asked.
    async fn get(&self, key: &ProfileKey) -> Result<Option<Profile>, StoreError>;

    /// Merges `update` into the profile under `key`, which is made when missing.
    ///
    /// # Errors
    /// When the update is refused or the store can't take it.
    async fn merge(&self, key: &ProfileKey, update: Update) -> Result<(), StoreError>;

    /// Lets the browser under `anonymous` be found as `user`. The newest link wins.
    ///
    /// # Errors
    /// When the store can't take it.
    async fn link(&self, anonymous: &ProfileKey, user: &UserId) -> Result<(), StoreError>;
}
