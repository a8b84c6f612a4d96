//! Profiles in LMDB, beside the process. One writer thread commits all updates that wait in one
//! transaction, so a sync of the disk is shared; reads never wait for it.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvOpenOptions, RwTxn, WithoutTls};
use tokio::sync::{mpsc, oneshot};

use super::{ProfileStore, StoreError};
use crate::identity::UserId;
use crate::profile::{Profile, ProfileKey, Update};

type Table = Database<'static, Bytes, Bytes>;
type Reply = oneshot::Sender<Result<(), StoreError>>;

/// The embedded store. Two processes may have it open at once, as in an upgrade.
pub struct Embedded {
    tables: Arc<Tables>,
    writes: mpsc::Sender<(Write, Reply)>,
}

struct Tables {
    env: &'static Env<WithoutTls>,
    profiles: Table,
    links: Table,
}

enum Write {
    Merge(ProfileKey, Update),
    Link(ProfileKey, UserId),
}

/// Updates that may wait for the writer; behind them callers wait. At most 64 KiB each.
const MAX_WAITING: usize = 1024;
/// Most updates in one transaction: keeps a transaction below some milliseconds.
const MAX_GROUP: usize = 512;

impl Embedded {
    /// Opens the store in `directory`, which is made when missing, and starts its writer.
    ///
    /// The environment is kept until the process ends: a store is opened once a process.
    ///
    /// # Errors
    /// When the directory or the store can't be opened.
    pub fn open(directory: &Path, map_size: usize) -> Result<Self, StoreError> {
        let unavailable = |error: &dyn std::fmt::Display| {
            StoreError::Unavailable(format!("{}: {error}", directory.display()))
        };
        std::fs::create_dir_all(directory).map_err(|error| unavailable(&error))?;
        let tables = Tables::open(directory, map_size).map_err(|error| unavailable(&error))?;
        let tables = Arc::new(tables);
        let (writes, waiting) = mpsc::channel(MAX_WAITING);
        let for_writer = Arc::clone(&tables);
        std::thread::Builder::new()
            .name("profile-writer".into())
            .spawn(move || write_groups(&for_writer, waiting))
            .map_err(|error| unavailable(&error))?;
        Ok(Self { tables, writes })
    }

    async fn write(&self, write: Write) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        let gone = || StoreError::Unavailable("its writer has ended".into());
        self.writes.send((write, reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

#[async_trait]
impl ProfileStore for Embedded {
    async fn get(&self, key: &ProfileKey) -> Result<Option<Profile>, StoreError> {
        let (tables, key) = (Arc::clone(&self.tables), key.clone());
        // A page of the store that is not in memory makes the read wait for the disk.
        tokio::task::spawn_blocking(move || tables.get(&key))
            .await
            .map_err(|error| StoreError::Unavailable(error.to_string()))?
            .map_err(|error| StoreError::Unavailable(error.to_string()))
    }

    async fn merge(&self, key: &ProfileKey, update: Update) -> Result<(), StoreError> {
        self.write(Write::Merge(key.clone(), update)).await
    }

    async fn link(&self, anonymous: &ProfileKey, user: &UserId) -> Result<(), StoreError> {
        self.write(Write::Link(anonymous.clone(), user.clone())).await
    }
}

impl Tables {
    #[allow(unsafe_code, reason = "LMDB maps a file; heed offers no safe way to open it")]
    fn open(directory: &Path, map_size: usize) -> heed::Result<Self> {
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(map_size).max_dbs(8).max_readers(1024);
        // SAFETY: the map is only valid while nobody but LMDB writes or truncates the file. The
        // directory belongs to the service alone (see `data.path`), every process that opens it is
        // Doorstep, and LMDB's own lock file orders their writes.
        let env = unsafe { options.open(directory)? };
        // Readers that a killed process left behind would keep old pages for ever.
        env.clear_stale_readers()?;
        // Databases borrow the environment: it lives as long as the process that has it open.
        let env: &'static Env<WithoutTls> = Box::leak(Box::new(env));
        let (profiles, links) = env
            .create_databases_and_commit(env.write_txn()?, |opener, txn| {
                let profiles = opener.create_database::<Bytes, Bytes>(txn, Some("profiles"))?;
                let links = opener.create_database::<Bytes, Bytes>(txn, Some("links"))?;
                Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit((profiles, links)))
            })?
            .unwrap_commit();
        Ok(Self { env, profiles, links })
    }

    fn get(&self, key: &ProfileKey) -> heed::Result<Option<Profile>> {
        let txn = self.env.read_txn()?;
        let mut bytes = key.to_bytes();
        if key.is_anonymous()
            && let Some(user) = self.links.get(&txn, &bytes)?
            && let Some(user) = std::str::from_utf8(user).ok().and_then(|id| UserId::parse(id).ok())
        {
            bytes = key.linked(user).to_bytes();
        }
        Ok(self.profiles.get(&txn, &bytes)?.and_then(Profile::decode))
    }

    fn apply(&self, txn: &mut RwTxn<'_>, write: &Write) -> Result<(), StoreError> {
        let unavailable = |error: heed::Error| StoreError::Unavailable(error.to_string());
        match write {
            Write::Merge(key, update) => {
                let bytes = key.to_bytes();
                let stored = self.profiles.get(txn, &bytes).map_err(unavailable)?;
                let mut profile = stored.and_then(Profile::decode).unwrap_or_default();
                if profile.merge(update)? {
                    self.profiles.put(txn, &bytes, &profile.encode()).map_err(unavailable)?;
                }
            }
            Write::Link(anonymous, user) => {
                let (from, to) = (anonymous.to_bytes(), user.as_str().as_bytes());
                if self.links.get(txn, &from).map_err(unavailable)? != Some(to) {
                    self.links.put(txn, &from, to).map_err(unavailable)?;
                }
            }
        }
        Ok(())
    }

    /// Applies `group` in one transaction. Each update has its own outcome, unless the
    /// transaction as a whole fails.
    fn commit(&self, group: &[(Write, Reply)]) -> Result<Vec<Result<(), StoreError>>, StoreError> {
        let unavailable = |error: heed::Error| StoreError::Unavailable(error.to_string());
        let mut txn = self.env.write_txn().map_err(unavailable)?;
        let mut outcomes = Vec::with_capacity(group.len());
        for (write, _) in group {
            let outcome = self.apply(&mut txn, write);
            // An error of the store leaves the transaction unusable; a refusal doesn't.
            if let Err(failed @ StoreError::Unavailable(_)) = outcome {
                return Err(failed);
            }
            outcomes.push(outcome);
        }
        txn.commit().map_err(unavailable)?;
        Ok(outcomes)
    }
}

/// Ends when the last [`Embedded`] is dropped.
fn write_groups(tables: &Tables, mut queue: mpsc::Receiver<(Write, Reply)>) {
    let mut group = Vec::new();
    while queue.blocking_recv_many(&mut group, MAX_GROUP) > 0 {
        let outcomes = tables.commit(&group);
        let mut outcomes = outcomes.map(Vec::into_iter);
        for (_, reply) in group.drain(..) {
            let outcome = match &mut outcomes {
                Ok(each) => each.next().unwrap_or(Ok(())),
                Err(all) => Err(all.clone()),
            };
            // Nobody waits any more where the caller has gone: the update is stored all the same.
            let _ = reply.send(outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::identity::AnonymousId;
    use crate::profile::TooMuch;

    #[tokio::test]
    async fn profiles_are_stored_merged_and_found_through_links() {
        let directory = tempfile::tempdir().unwrap();
        let store = Embedded::open(directory.path(), 64 << 20).unwrap();
        let john = UserId::parse("john").unwrap();
        let key = ProfileKey::user("shop", john.clone());
        let browser = ProfileKey::anonymous("shop", AnonymousId::parse("b").unwrap());
        let update = |at, name: &str, value| Update { at, traits: vec![(name.into(), value)] };

        assert_eq!(store.get(&key).await.unwrap(), None);
        store.merge(&key, update(2, "red", json!(true))).await.unwrap();
        store.merge(&key, update(1, "red", json!(false))).await.unwrap();
        let found = store.get(&key).await.unwrap().unwrap();
        assert_eq!(found.traits().collect::<Vec<_>>(), [("red", &json!(true))]);
        assert_eq!(store.get(&browser).await.unwrap(), None);
        store.link(&browser, &john).await.unwrap();
        assert_eq!(store.get(&browser).await.unwrap(), Some(found));
        let other = ProfileKey::user("blog", john);
        assert_eq!(store.get(&other).await.unwrap(), None, "sites don't share profiles");
    }

    #[tokio::test]
    async fn a_refused_update_does_not_harm_its_group() {
        let directory = tempfile::tempdir().unwrap();
        let store = Embedded::open(directory.path(), 64 << 20).unwrap();
        let key = |n: usize| ProfileKey::user("s", UserId::parse(&n.to_string()).unwrap());
        let outcomes = futures::future::join_all((0..20).map(|n| {
            let (key, store) = (key(n), &store);
            let name = if n == 7 { "x".repeat(300) } else { "x".into() };
            async move {
                store.merge(&key, Update { at: 1, traits: vec![(name.into(), json!(n))] }).await
            }
        }))
        .await;
        for (n, outcome) in outcomes.into_iter().enumerate() {
            match outcome {
                Err(StoreError::Refused(TooMuch::Name(300))) => assert_eq!(n, 7),
                other => assert!(other.is_ok() && n != 7, "{n}"),
            }
        }
    }

    #[tokio::test]
    async fn a_full_store_is_an_error_and_keeps_what_it_has() {
        let directory = tempfile::tempdir().unwrap();
        let store = Embedded::open(directory.path(), 1 << 20).unwrap();
        let text = "x".repeat(50_000);
        let mut stored = 0;
        let failed = loop {
            let key = ProfileKey::user("s", UserId::parse(&stored.to_string()).unwrap());
            let update = Update { at: 1, traits: vec![("x".into(), json!(text))] };
            match store.merge(&key, update).await {
                Ok(()) => stored += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(failed, StoreError::Unavailable(_)) && stored > 2, "{stored}");
        let first = ProfileKey::user("s", UserId::parse("0").unwrap());
        assert!(store.get(&first).await.unwrap().is_some());
    }
}
