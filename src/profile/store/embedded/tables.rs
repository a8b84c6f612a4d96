//! What stands in the LMDB files, and how one transaction changes it.

use std::ops::Bound;
use std::path::Path;

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, DatabaseFlags, Env, EnvOpenOptions, RwTxn, WithoutTls};

use crate::profile::store::{MAX_HOPS, Part, SAME_LINK, StoreError, Stored};
use crate::profile::{Profile, ProfileKey, Update};

type Table = Database<'static, Bytes, Bytes>;

/// The tables of one environment.
pub(super) struct Tables {
    env: &'static Env<WithoutTls>,
    /// The format of the others.
    #[cfg_attr(not(test), allow(dead_code, reason = "read once, when the store is opened"))]
    about: Table,
    /// Profiles and links, by key.
    records: Table,
    /// The keys that are linked to a key: what a deletion has to reach.
    linked: Table,
}

/// Why the tables can't be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error(transparent)]
    Lmdb(#[from] heed::Error),
    #[error(
        "has format {0:?}, this version reads {FORMAT:?}: use the version that wrote it, or another `data.path`"
    )]
    Format(String),
}

/// Written into a new store.
const FORMAT: &str = "profiles 2";
/// First byte of a link, where a profile has its own format.
const LINK: u8 = 0;
/// LMDB's pages are the system's; larger ones only make the estimate smaller.
const PAGE_BYTES: u64 = 4096;
/// Records of one part of an export, and of one sweep.
const PART: usize = 1000;

impl Tables {
    #[allow(unsafe_code, reason = "LMDB maps a file; heed offers no safe way to open it")]
    pub(super) fn open(directory: &Path, map_size: usize) -> Result<Self, OpenError> {
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
        env.create_databases_and_commit(env.write_txn()?, |opener, txn| {
            let about = opener.create_database::<Bytes, Bytes>(txn, Some("about"))?;
            match about.get(txn, b"format")? {
                Some(format) if format != FORMAT.as_bytes() => {
                    return Err(OpenError::Format(String::from_utf8_lossy(format).into_owned()));
                }
                Some(_) => {}
                None => about.put(txn, b"format", FORMAT.as_bytes())?,
            }
            let records = opener.create_database::<Bytes, Bytes>(txn, Some("records"))?;
            let linked = opener
                .database_options()
                .types::<Bytes, Bytes>()
                .name("linked")
                .flags(DatabaseFlags::DUP_SORT)
                .create(txn)?;
            Ok(CommitOrAbort::<_, ()>::Commit((about, records, linked)))
        })
        .map(CommitOrAbort::unwrap_commit)
        .map(|(about, records, linked)| Self { env, about, records, linked })
    }

    /// The number of the last transaction that has changed anything, whoever's it was.
    pub(super) fn last_transaction(&self) -> usize {
        self.env.info().last_txn_id
    }

    /// How much of the file is in use.
    pub(super) fn used_bytes(&self) -> u64 {
        let pages = self.env.info().last_page_number as u64 + 1;
        pages * PAGE_BYTES
    }

    pub(super) fn get(&self, key: &ProfileKey) -> heed::Result<Option<Stored>> {
        let txn = self.env.read_txn()?;
        Ok(self.records.get(&txn, key.as_bytes())?.and_then(read))
    }

    pub(super) fn part(&self, site: &str, from: Option<&str>) -> heed::Result<Part> {
        let txn = self.env.read_txn()?;
        let first = format!("{site}\0{}", from.unwrap_or_default());
        let end = format!("{site}\u{1}");
        let first = if from.is_some() {
            Bound::Excluded(first.as_bytes())
        } else {
            Bound::Included(first.as_bytes())
        };
        let mut part = Part::default();
        for record in self.records.range(&txn, &(first, Bound::Excluded(end.as_bytes())))? {
            let (key, bytes) = record?;
            if let Some(key) = ProfileKey::from_bytes(key)
                && let Some(stored) = read(bytes)
            {
                part.records.push((key, stored));
            }
            if part.records.len() == PART {
                let last = part.records.last().map(|(key, _)| (key.id_type(), key.id()));
                part.next = last.map(|(kind, id)| format!("{kind}\0{id}"));
                break;
            }
        }
        Ok(part)
    }

    #[cfg(test)]
    pub(super) fn set_format(&self, format: &str) {
        let mut txn = self.env.write_txn().unwrap();
        self.about.put(&mut txn, b"format", format.as_bytes()).unwrap();
        txn.commit().unwrap();
    }

    /// Waits until nobody else writes.
    pub(super) fn begin(&self) -> Result<Writing<'_>, StoreError> {
        let txn = self.env.write_txn().map_err(unavailable)?;
        Ok(Writing { tables: self, txn, wrote: false })
    }
}

/// Reads a record. One that no version wrote is none.
fn read(bytes: &[u8]) -> Option<Stored> {
    match bytes.split_first()? {
        (&LINK, rest) => {
            let (_, to) = rest.split_first_chunk::<8>()?;
            Some(Stored::Linked(ProfileKey::from_bytes(to)?))
        }
        _ => Profile::decode(bytes).map(Stored::Profile),
    }
}

#[allow(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
fn unavailable(error: heed::Error) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

/// A pull that found nobody, and does not hold any more.
fn says_nothing(profile: &Profile, now: i64) -> bool {
    profile.is_empty() && profile.cut() == 0 && profile.pulled().until < now
}

fn same_link_millis() -> i64 {
    i64::try_from(SAME_LINK.as_millis()).unwrap_or(i64::MAX)
}

/// A transaction that is open for writing.
pub(super) struct Writing<'t> {
    tables: &'t Tables,
    txn: RwTxn<'t>,
    wrote: bool,
}

impl Writing<'_> {
    /// Tells whether anything was written at all.
    pub(super) fn commit(self) -> Result<bool, StoreError> {
        self.txn.commit().map_err(unavailable)?;
        Ok(self.wrote)
    }

    fn get(&self, key: &ProfileKey) -> Result<Option<Stored>, StoreError> {
        let found = self.tables.records.get(&self.txn, key.as_bytes()).map_err(unavailable)?;
        Ok(found.and_then(read))
    }

    fn put(&mut self, key: &ProfileKey, record: &[u8]) -> Result<(), StoreError> {
        self.wrote = true;
        self.tables.records.put(&mut self.txn, key.as_bytes(), record).map_err(unavailable)
    }

    fn remove(&mut self, key: &ProfileKey) -> Result<(), StoreError> {
        self.wrote = true;
        self.tables.records.delete(&mut self.txn, key.as_bytes()).map_err(unavailable).map(drop)
    }

    /// Where the links from `key` end, and what is there.
    fn end(&self, key: &ProfileKey) -> Result<(ProfileKey, Option<Profile>), StoreError> {
        let mut end = key.clone();
        for _ in 0..=MAX_HOPS {
            match self.get(&end)? {
                Some(Stored::Linked(to)) => end = to,
                Some(Stored::Profile(profile)) => return Ok((end, Some(profile))),
                None => return Ok((end, None)),
            }
        }
        Err(StoreError::Circle)
    }

    pub(super) fn merge(
        &mut self,
        key: &ProfileKey,
        update: &Update,
        now: i64,
    ) -> Result<ProfileKey, StoreError> {
        let (end, stored) = self.end(key)?;
        let mut profile = stored.unwrap_or_default();
        let before = profile.pulled();
        if profile.merge(update, now)? || profile.pulled() != before {
            self.put(&end, profile.encode())?;
        }
        Ok(end)
    }

    pub(super) fn link(
        &mut self,
        from: &ProfileKey,
        to: &ProfileKey,
        at: i64,
        now: i64,
    ) -> Result<Vec<ProfileKey>, StoreError> {
        let (end, _) = self.end(to)?;
        if end == *from {
            return Err(StoreError::Circle);
        }
        let stored = self.tables.records.get(&self.txn, from.as_bytes()).map_err(unavailable)?;
        let old = stored.and_then(|bytes| match bytes.split_first()? {
            (&LINK, rest) => {
                let (time, to) = rest.split_first_chunk::<8>()?;
                Some((i64::from_be_bytes(*time), ProfileKey::from_bytes(to)?))
            }
            _ => None,
        });
        let own = stored.and_then(Profile::decode);
        if let Some((time, target)) = old {
            let same = target == *to && at.saturating_sub(time) < same_link_millis();
            if (at, to) <= (time, &target) || same {
                return Ok(Vec::new());
            }
            self.wrote = true;
            self.tables
                .linked
                .delete_one_duplicate(&mut self.txn, target.as_bytes(), from.as_bytes())
                .map_err(unavailable)?;
        }
        let mut record = vec![LINK];
        record.extend_from_slice(&at.to_be_bytes());
        record.extend_from_slice(to.as_bytes());
        self.put(from, &record)?;
        self.tables
            .linked
            .put(&mut self.txn, to.as_bytes(), from.as_bytes())
            .map_err(unavailable)?;
        if let Some(own) = own {
            // What the browser was known by is the user's from now on. Where there is no room for
            // it, what the user has stays.
            match self.merge(&end, &Update::of(&own), now) {
                Err(StoreError::Refused(why)) => {
                    tracing::warn!(site = from.site(), %why, "a browser's traits are not taken over");
                }
                other => drop(other?),
            }
        }
        Ok(vec![from.clone(), end])
    }

    pub(super) fn delete(
        &mut self,
        key: &ProfileKey,
        at: i64,
    ) -> Result<Vec<ProfileKey>, StoreError> {
        let (end, stored) = self.end(key)?;
        let mut gone = vec![end.clone()];
        let mut next = 0;
        while let Some(to) = gone.get(next).cloned() {
            next += 1;
            let linked = self.tables.linked;
            let from: Vec<ProfileKey> = linked
                .get_duplicates(&self.txn, to.as_bytes())
                .map_err(unavailable)?
                .into_iter()
                .flatten()
                .filter_map(|entry| ProfileKey::from_bytes(entry.ok()?.1))
                .filter(|from| !gone.contains(from))
                .collect();
            linked.delete(&mut self.txn, to.as_bytes()).map_err(unavailable)?;
            gone.extend(from);
        }
        let deleted = stored.unwrap_or_default().deleted(at);
        for key in gone.iter().skip(1) {
            self.remove(key)?;
        }
        // It remembers when, so that a late repeat of what was deleted is not taken.
        self.put(&end, deleted.encode())?;
        Ok(gone)
    }

    /// Forgets some of what nobody has written since `expired`, or what says nothing any more, and
    /// tells where to go on.
    pub(super) fn sweep(
        &mut self,
        from: Option<&ProfileKey>,
        expired: i64,
        now: i64,
    ) -> Result<Option<ProfileKey>, StoreError> {
        let first = from.map_or(Bound::Unbounded, |key| Bound::Excluded(key.as_bytes()));
        let (mut dead, mut last, mut seen) = (Vec::new(), None, 0);
        let range = (first, Bound::Unbounded);
        for record in self.tables.records.range(&self.txn, &range).map_err(unavailable)? {
            let (key, bytes) = record.map_err(unavailable)?;
            let Some(key) = ProfileKey::from_bytes(key) else { continue };
            if let Some(Stored::Profile(profile)) = read(bytes)
                && (profile.touched() < expired || says_nothing(&profile, now))
            {
                dead.push(key.clone());
            }
            last = Some(key);
            seen += 1;
            if seen == PART {
                break;
            }
        }
        for key in &dead {
            self.remove(key)?;
        }
        Ok(last.filter(|_| seen == PART))
    }
}
