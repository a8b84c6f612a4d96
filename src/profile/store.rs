//! Where profiles live between requests.

mod embedded;
mod redis;

use std::time::Instant;

use async_trait::async_trait;

use super::{Profile, ProfileKey, TooMuch, Update};

pub use embedded::Embedded;
pub use redis::{Mode, Options as RedisOptions, Redis, Tls as RedisTls};

/// What is stored under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// A profile.
    Profile(Profile),
    /// The profile is kept under another key.
    Linked(ProfileKey),
}

/// Why a store did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The update itself is refused; trying again changes nothing.
    #[error(transparent)]
    Refused(#[from] TooMuch),
    /// The link would lead back to where it begins, or through too many others.
    #[error("a link to this profile would lead in a circle")]
    Circle,
    /// The store can't at the moment: the sender should try again.
    #[error("the profile store failed: {0}")]
    Unavailable(String),
}

/// What became known about a store from outside of this process's own calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A profile has changed.
    Profile(ProfileKey),
    /// Anything may have changed. What is read from then on is right again.
    Everything(Instant),
    /// Changes are not heard of any more.
    Deaf,
}

/// A part of everything that a store holds, and where the next part begins.
#[derive(Debug, Default)]
pub struct Part {
    /// Profiles and links. One that is written meanwhile may come twice or not at all.
    pub records: Vec<(ProfileKey, Stored)>,
    /// To be given for the next part; `None` at the end.
    pub next: Option<String>,
}

/// How long it is known who was deleted. No event waits longer for its vendor.
pub const DELETED_FOR: std::time::Duration = std::time::Duration::from_hours(8 * 24);

/// Most links that are followed from one key to its profile.
pub const MAX_HOPS: usize = 4;

/// Who says that an id is somebody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkedBy {
    /// An event that nobody vouches for: anybody can send it. Such a link ends [`CLAIM_FOR`] after it was said last,
    /// and a profile has at most [`MAX_CLAIMS`] of them.
    Claim,
    /// The site, its vendor, or an operator.
    Site,
}

/// How long a link counts that only an event says.
pub const CLAIM_FOR: std::time::Duration = std::time::Duration::from_hours(90 * 24);

/// Most links to one profile that only events say: the oldest goes for a new one.
pub const MAX_CLAIMS: usize = 200;

/// A browser that tells on every page whose it is costs one write in that time.
const SAME_LINK: std::time::Duration = std::time::Duration::from_mins(1);

/// A store of profiles. What it has acknowledged survives a crash, as far as the store does.
#[async_trait]
pub trait ProfileStore: Send + Sync {
    /// Makes sure that it can be asked, for those who do not follow.
    ///
    /// # Errors
    /// When it can't.
    async fn connect(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// What is stored under `key` itself, where that can be told without waiting for anything;
    /// `None` where it can't.
    fn get_now(&self, _: &ProfileKey) -> Option<Result<Option<Stored>, StoreError>> {
        None
    }

    /// What is stored under `key` itself.
    ///
    /// # Errors
    /// When the store can't be asked.
    async fn get(&self, key: &ProfileKey) -> Result<Option<Stored>, StoreError>;

    /// Merges `update` into the profile of `key`, through its links; it is made when missing. Tells
    /// which key it was.
    ///
    /// # Errors
    /// When the update is refused or the store can't take it.
    async fn merge(&self, key: &ProfileKey, update: &Update) -> Result<ProfileKey, StoreError>;

    /// Lets what is known of `from` be found under `to`; `from`'s traits are merged into `to`'s. The
    /// newest link wins, by `at` in milliseconds since 1970. Tells which keys have changed.
    ///
    /// # Errors
    /// When the link would lead in a circle or the store can't take it.
    async fn link(
        &self,
        from: &ProfileKey,
        to: &ProfileKey,
        at: i64,
        by: LinkedBy,
    ) -> Result<Vec<ProfileKey>, StoreError>;

    /// Deletes the person behind `key`: the profile, and everything that is linked to it. Updates
    /// from before `at` (milliseconds since 1970) that come later are not taken. Tells which keys
    /// have changed.
    ///
    /// # Errors
    /// When the store can't.
    async fn delete(&self, key: &ProfileKey, at: i64) -> Result<Vec<ProfileKey>, StoreError>;

    /// Who has been deleted since `since` (milliseconds since 1970) by any node, and when: for what else
    /// a node has of them. Nobody where the store is this node's alone.
    ///
    /// # Errors
    /// When the store can't be asked.
    async fn deleted_since(&self, _since: i64) -> Result<Vec<(ProfileKey, i64)>, StoreError> {
        Ok(Vec::new())
    }

    /// A part of what is stored of `site`, from the beginning or where another part ended.
    ///
    /// # Errors
    /// When the store can't be asked.
    async fn part(&self, site: &str, from: Option<&str>) -> Result<Part, StoreError>;

    /// Tells what changes through others, until it is dropped. Everything counts as heard of when
    /// it begins.
    async fn follow(&self, tell: &(dyn Fn(Change) + Send + Sync));
}

/// Where the links from `key` end.
///
/// # Errors
/// When the store can't be asked.
pub async fn end_of(store: &dyn ProfileStore, key: &ProfileKey) -> Result<ProfileKey, StoreError> {
    let mut end = key.clone();
    for _ in 0..MAX_HOPS {
        match store.get(&end).await? {
            Some(Stored::Linked(to)) => end = to,
            Some(Stored::Profile(_)) | None => return Ok(end),
        }
    }
    Err(StoreError::Circle)
}
