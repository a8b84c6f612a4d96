//! Profiles in LMDB, beside the process. One writer thread commits all updates that wait in one
//! transaction, so a sync of the disk is shared; reads never wait for it.

mod link;
mod residency;
mod tables;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use super::{Change, LinkedBy, Part, ProfileStore, StoreError, Stored};
use crate::profile::{ProfileKey, Update, now_millis};

use residency::Residency;
use tables::{Link, Tables};

type Reply = oneshot::Sender<Result<Vec<ProfileKey>, StoreError>>;

/// The embedded store. Two processes may have it open at once, as in an upgrade.
pub struct Embedded {
    shared: Arc<Shared>,
    writes: mpsc::Sender<(Write, Reply)>,
}

struct Shared {
    tables: Tables,
    /// The last transaction that this process knows of: another one is another process'. Locked by
    /// the writer while it commits.
    known: Mutex<usize>,
    /// Profiles that nobody has written for that long are forgotten.
    expire_after: Option<Duration>,
    residency: Residency,
}

enum Write {
    Merge(ProfileKey, Update),
    Link {
        from: ProfileKey,
        to: ProfileKey,
        at: i64,
        by: LinkedBy,
    },
    Delete {
        key: ProfileKey,
        at: i64,
    },
    /// Looks for what has expired, from there on.
    Sweep(Option<ProfileKey>),
}

/// Updates that may wait for the writer; behind them callers wait. At most 64 KiB each.
const MAX_WAITING: usize = 2048;
/// Most updates in one transaction: keeps a transaction below some milliseconds.
const MAX_GROUP: usize = 2048;
/// How often another process' writes are looked for, and what has expired.
const LOOK: Duration = Duration::from_millis(200);
const SWEEP: Duration = Duration::from_secs(10);

impl Embedded {
    /// Opens the store in `directory`, which is made when missing, and starts its writer. Profiles
    /// that nobody has written for `expire_after` are forgotten, where it is given.
    ///
    /// The environment is kept until the process ends: a store is opened once a process.
    ///
    /// # Errors
    /// When the directory or the store can't be opened, or is of a format that this version does
    /// not know.
    pub fn open(
        directory: &Path,
        map_size: usize,
        expire_after: Option<Duration>,
    ) -> Result<Self, StoreError> {
        let unavailable = |error: &dyn std::fmt::Display| {
            StoreError::Unavailable(format!("{}: {error}", directory.display()))
        };
        crate::private::make_folder(directory).map_err(|error| unavailable(&error))?;
        let tables = Tables::open(directory, map_size).map_err(|error| unavailable(&error))?;
        let known = Mutex::new(tables.last_transaction());
        let residency = Residency::new();
        let shared = Arc::new(Shared { tables, known, expire_after, residency });
        let (for_warmer, file) = (Arc::clone(&shared), directory.join("data.mdb"));
        std::thread::Builder::new()
            .name("profile-warmer".into())
            .spawn(move || for_warmer.residency.warm(&file, for_warmer.tables.used_bytes()))
            .map_err(|error| unavailable(&error))?;
        let (writes, waiting) = mpsc::channel(MAX_WAITING);
        let for_writer = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("profile-writer".into())
            .spawn(move || for_writer.write_groups(waiting))
            .map_err(|error| unavailable(&error))?;
        Ok(Self { shared, writes })
    }

    async fn write(&self, write: Write) -> Result<Vec<ProfileKey>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let gone = || StoreError::Unavailable("its writer has ended".into());
        self.writes.send((write, reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Shared) -> heed::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.shared);
        // A page of the store that is not in memory makes the read wait for the disk.
        tokio::task::spawn_blocking(move || read(&shared))
            .await
            .map_err(|error| StoreError::Unavailable(error.to_string()))?
            .map_err(|error| StoreError::Unavailable(error.to_string()))
    }

    /// Forgets some of what has expired, and tells where to go on.
    async fn sweep(&self, from: Option<ProfileKey>) -> Option<ProfileKey> {
        match self.write(Write::Sweep(from)).await {
            Ok(next) => next.into_iter().next(),
            Err(error) => {
                tracing::warn!(%error, "expired profiles could not be forgotten");
                None
            }
        }
    }
}

#[async_trait]
impl ProfileStore for Embedded {
    fn get_now(&self, key: &ProfileKey) -> Option<Result<Option<Stored>, StoreError>> {
        if !self.shared.residency.is_certain() {
            return None;
        }
        let asked = Instant::now();
        let stored = self.shared.get(key);
        self.shared.residency.took(asked.elapsed());
        Some(stored.map_err(|error| StoreError::Unavailable(error.to_string())))
    }

    async fn get(&self, key: &ProfileKey) -> Result<Option<Stored>, StoreError> {
        if let Some(stored) = self.get_now(key) {
            return stored;
        }
        let key = key.clone();
        self.read(move |shared| shared.get(&key)).await
    }

    async fn merge(&self, key: &ProfileKey, update: &Update) -> Result<ProfileKey, StoreError> {
        let end = self.write(Write::Merge(key.clone(), update.clone())).await?;
        Ok(end.into_iter().next().unwrap_or_else(|| key.clone()))
    }

    async fn link(
        &self,
        from: &ProfileKey,
        to: &ProfileKey,
        at: i64,
        by: LinkedBy,
    ) -> Result<Vec<ProfileKey>, StoreError> {
        self.write(Write::Link { from: from.clone(), to: to.clone(), at, by }).await
    }

    async fn delete(&self, key: &ProfileKey, at: i64) -> Result<Vec<ProfileKey>, StoreError> {
        self.write(Write::Delete { key: key.clone(), at }).await
    }

    async fn part(&self, site: &str, from: Option<&str>) -> Result<Part, StoreError> {
        let (site, from) = (site.to_owned(), from.map(str::to_owned));
        self.read(move |shared| shared.tables.part(&site, from.as_deref(), now_millis())).await
    }

    async fn follow(&self, tell: &(dyn Fn(Change) + Send + Sync)) {
        tell(Change::Everything(Instant::now()));
        self.shared.tables.measure();
        let (mut swept, mut from) = (Instant::now(), None);
        loop {
            let asked = Instant::now();
            if self.shared.another_process_wrote() {
                tell(Change::Everything(asked));
            }
            if swept.elapsed() > SWEEP {
                self.shared.residency.look(self.shared.tables.used_bytes());
                self.shared.tables.measure();
                from = self.sweep(from).await;
                swept = Instant::now();
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// `duration` ago, in milliseconds since 1970.
fn before(duration: Duration) -> i64 {
    now_millis().saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

impl Shared {
    fn get(&self, key: &ProfileKey) -> heed::Result<Option<Stored>> {
        let stored = self.tables.get(key, now_millis())?;
        let forgotten = |stored: &Stored| match (stored, self.expire_after) {
            (Stored::Profile(profile), Some(after)) => profile.touched() < before(after),
            _ => false,
        };
        Ok(stored.filter(|stored| !forgotten(stored)))
    }

    /// Whether there are transactions that are not this process' own. Each is told of once.
    fn another_process_wrote(&self) -> bool {
        let mut known = match self.known.try_lock() {
            Ok(known) => known,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // The writer commits: it looks itself, and so does the next call.
            Err(TryLockError::WouldBlock) => return false,
        };
        let last = self.tables.last_transaction();
        let foreign = last != *known & !FOREIGN || *known & FOREIGN != 0;
        *known = last;
        foreign
    }

    /// Ends when the last [`Embedded`] is dropped.
    fn write_groups(&self, mut queue: mpsc::Receiver<(Write, Reply)>) {
        let mut group = Vec::new();
        while queue.blocking_recv_many(&mut group, MAX_GROUP) > 0 {
            let outcomes = self.commit(&group);
            let mut outcomes = outcomes.map(Vec::into_iter);
            for (_, reply) in group.drain(..) {
                let outcome = match &mut outcomes {
                    Ok(each) => each.next().unwrap_or_else(|| Ok(Vec::new())),
                    Err(all) => Err(all.clone()),
                };
                // Nobody waits any more where the caller has gone: the update is stored all the same.
                let _ = reply.send(outcome);
            }
        }
    }

    /// Applies `group` in one transaction. Each update has its own outcome, unless the transaction
    /// as a whole fails.
    fn commit(
        &self,
        group: &[(Write, Reply)],
    ) -> Result<Vec<Result<Vec<ProfileKey>, StoreError>>, StoreError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut writing = self.tables.begin(now_millis())?;
        // While the transaction is open nobody else can write.
        let last = self.tables.last_transaction();
        let foreign = if last == *known & !FOREIGN { *known & FOREIGN } else { FOREIGN };
        let mut outcomes = Vec::with_capacity(group.len());
        for (write, _) in group {
            let outcome = match write {
                Write::Merge(key, update) => writing.merge(key, update).map(|end| vec![end]),
                Write::Link { from, to, at, by } => {
                    writing.link(&Link { from, to, at: *at, by: *by })
                }
                Write::Delete { key, at } => writing.delete(key, *at),
                Write::Sweep(from) => {
                    let expired = self.expire_after.map_or(i64::MIN, before);
                    writing.sweep(from.as_ref(), expired).map(|next| next.into_iter().collect())
                }
            };
            // An error of the store leaves the transaction unusable; a refusal doesn't.
            if let Err(failed @ StoreError::Unavailable(_)) = outcome {
                return Err(failed);
            }
            outcomes.push(outcome);
        }
        let wrote = writing.commit()?;
        *known = (last + usize::from(wrote)) | foreign;
        Ok(outcomes)
    }
}

/// Set in the number of the last known transaction when another process has written meanwhile.
const FOREIGN: usize = 1 << (usize::BITS - 1);

#[cfg(test)]
mod tests;
