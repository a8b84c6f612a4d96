//! What stands in the LMDB files, and how one transaction changes it.

use std::collections::HashSet;
use std::ops::Bound;
use std::path::Path;

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, DatabaseFlags, Env, EnvOpenOptions, RwTxn, WithoutTls};

use super::link::StoredLink;
use crate::profile::store::{LinkedBy, MAX_CLAIMS, MAX_HOPS, Part, SAME_LINK, StoreError, Stored};
use crate::profile::{Profile, ProfileKey, Update};
use crate::telemetry::metrics::{PROFILE_STORE_SIZE, PROFILE_STORE_USED};

pub(super) use super::link::Link;

type Table = Database<'static, Bytes, Bytes>;

/// The tables of one environment.
pub(super) struct Tables {
    env: &'static Env<WithoutTls>,
    /// The format of the others.
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
/// LMDB's pages are the system's; larger ones only make the estimate smaller.
const PAGE_BYTES: u64 = 4096;
/// Most links to one profile that are looked through for claims: those of a person, of whom the site links more than
/// that, are bounded by their age alone.
const LISTED: usize = 4 * MAX_CLAIMS;
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

    /// Shows how full the store is.
    pub(super) fn measure(&self) {
        let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let used = || {
            let txn = self.env.read_txn()?;
            let pages =
                [&self.about, &self.records, &self.linked].iter().try_fold(0, |sum, table| {
                    let stat = table.stat(&txn)?;
                    heed::Result::Ok(
                        sum + stat.branch_pages + stat.leaf_pages + stat.overflow_pages,
                    )
                });
            pages.map(|pages| pages as u64 * PAGE_BYTES)
        };
        match used() {
            Ok(used) => PROFILE_STORE_USED.set(bytes(used)),
            Err(error) => tracing::warn!(%error, "the profile store can't be measured"),
        }
        PROFILE_STORE_SIZE.set(bytes(self.env.info().map_size as u64));
    }

    pub(super) fn get(&self, key: &ProfileKey, now: i64) -> heed::Result<Option<Stored>> {
        let txn = self.env.read_txn()?;
        Ok(self.records.get(&txn, key.as_bytes())?.and_then(|record| read(record, now)))
    }

    pub(super) fn part(&self, site: &str, from: Option<&str>, now: i64) -> heed::Result<Part> {
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
                && let Some(stored) = read(bytes, now)
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

    /// Waits until nobody else writes. What is over at `now` (milliseconds since 1970) does not count.
    pub(super) fn begin(&self, now: i64) -> Result<Writing<'_>, StoreError> {
        let txn = self.env.write_txn().map_err(unavailable)?;
        Ok(Writing { tables: self, txn, now, wrote: false })
    }
}

/// Reads a record. One that no version wrote is none, nor is a link that is over.
fn read(bytes: &[u8], now: i64) -> Option<Stored> {
    match StoredLink::read(bytes) {
        Some(link) => (!link.is_over(now)).then_some(Stored::Linked(link.to)),
        None => Profile::decode(bytes).map(Stored::Profile),
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
    now: i64,
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
        Ok(found.and_then(|record| read(record, self.now)))
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
    ) -> Result<ProfileKey, StoreError> {
        let (end, stored) = self.end(key)?;
        let is_new = stored.is_none();
        let mut profile = stored.unwrap_or_default();
        let before = profile.pulled();
        if profile.merge(update, self.now)? || profile.pulled() != before {
            if is_new {
                self.unlist_what_is_over(&end)?;
            }
            self.put(&end, profile.encode())?;
        }
        Ok(end)
    }

    pub(super) fn link(&mut self, link: &Link<'_>) -> Result<Vec<ProfileKey>, StoreError> {
        let Link { from, to, at, mut by } = *link;
        let (end, _) = self.end(to)?;
        if end == *from {
            return Err(StoreError::Circle);
        }
        let stored = self.tables.records.get(&self.txn, from.as_bytes()).map_err(unavailable)?;
        let own = stored.and_then(Profile::decode);
        if let Some(old) = stored.and_then(StoredLink::read) {
            let same = old.to == *to;
            let again = same && at.saturating_sub(old.at) < same_link_millis();
            // What the site says is not said again, but for the site that says it of a claim.
            let stronger = same && old.by == LinkedBy::Claim && by == LinkedBy::Site;
            // A claim leads nothing elsewhere that the site has linked.
            let weaker = !same && old.by == LinkedBy::Site && by == LinkedBy::Claim;
            if (at, to) <= (old.at, &old.to) || (again && !stronger) || weaker {
                return Ok(Vec::new());
            }
            if same && old.by == LinkedBy::Site {
                by = LinkedBy::Site;
            }
            self.unlist(&old.to, from)?;
        }
        let over = if by == LinkedBy::Claim { self.make_room(to)? } else { None };
        self.put(from, &link.record(by))?;
        self.tables
            .linked
            .put(&mut self.txn, to.as_bytes(), from.as_bytes())
            .map_err(unavailable)?;
        if let Some(own) = own {
            // What the browser was known by is the user's from now on. Where there is no room for
            // it, what the user has stays.
            match self.merge(&end, &Update::of(&own)) {
                Err(StoreError::Refused(why)) => {
                    tracing::warn!(site = from.site(), %why, "a browser's traits are not taken over");
                }
                other => drop(other?),
            }
        }
        Ok([from.clone(), end].into_iter().chain(over).collect())
    }

    fn unlist(&mut self, to: &ProfileKey, from: &ProfileKey) -> Result<(), StoreError> {
        self.wrote = true;
        self.tables
            .linked
            .delete_one_duplicate(&mut self.txn, to.as_bytes(), from.as_bytes())
            .map(drop)
            .map_err(unavailable)
    }

    /// Where a link that is over still stands under `key`, it leads nowhere from now on.
    fn unlist_what_is_over(&mut self, key: &ProfileKey) -> Result<(), StoreError> {
        let record = self.tables.records.get(&self.txn, key.as_bytes()).map_err(unavailable)?;
        match record.and_then(StoredLink::read) {
            Some(link) => self.unlist(&link.to, key),
            None => Ok(()),
        }
    }

    /// The keys that are linked to `to`, at most so many.
    pub(super) fn linked_to(
        &self,
        to: &ProfileKey,
        most: usize,
    ) -> Result<Vec<ProfileKey>, StoreError> {
        let listed =
            self.tables.linked.get_duplicates(&self.txn, to.as_bytes()).map_err(unavailable)?;
        let keys = listed.into_iter().flatten();
        Ok(keys.filter_map(|entry| ProfileKey::from_bytes(entry.ok()?.1)).take(most).collect())
    }

    /// Makes room for one more claim on `to`: of too many the oldest goes. Which one that was.
    fn make_room(&mut self, to: &ProfileKey) -> Result<Option<ProfileKey>, StoreError> {
        let listed = self.linked_to(to, LISTED)?;
        if listed.len() < MAX_CLAIMS {
            return Ok(None);
        }
        let mut claims = Vec::new();
        for from in listed {
            let record =
                self.tables.records.get(&self.txn, from.as_bytes()).map_err(unavailable)?;
            let link = record.and_then(StoredLink::read);
            let claim = link.filter(|link| link.by == LinkedBy::Claim && link.to == *to);
            claims.extend(claim.map(|link| (link.at, from)));
        }
        if claims.len() < MAX_CLAIMS {
            return Ok(None);
        }
        let Some((_, oldest)) = claims.into_iter().min() else { return Ok(None) };
        self.remove(&oldest)?;
        self.unlist(to, &oldest)?;
        Ok(Some(oldest))
    }

    pub(super) fn delete(
        &mut self,
        key: &ProfileKey,
        at: i64,
    ) -> Result<Vec<ProfileKey>, StoreError> {
        let (end, stored) = self.end(key)?;
        let (mut gone, mut known) = (vec![end.clone()], HashSet::from([end.clone()]));
        let mut next = 0;
        while let Some(to) = gone.get(next).cloned() {
            next += 1;
            let from = self.linked_to(&to, usize::MAX)?;
            self.tables.linked.delete(&mut self.txn, to.as_bytes()).map_err(unavailable)?;
            gone.extend(from.into_iter().filter(|from| known.insert(from.clone())));
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
    ) -> Result<Option<ProfileKey>, StoreError> {
        let first = from.map_or(Bound::Unbounded, |key| Bound::Excluded(key.as_bytes()));
        let (mut dead, mut last, mut seen) = (Vec::new(), None, 0);
        let range = (first, Bound::Unbounded);
        for record in self.tables.records.range(&self.txn, &range).map_err(unavailable)? {
            let (key, bytes) = record.map_err(unavailable)?;
            let Some(key) = ProfileKey::from_bytes(key) else { continue };
            match read(bytes, self.now) {
                Some(Stored::Profile(profile)) => {
                    if profile.touched() < expired || says_nothing(&profile, self.now) {
                        dead.push((key.clone(), None));
                    }
                }
                Some(Stored::Linked(_)) => {}
                None => {
                    let over = StoredLink::read(bytes);
                    dead.extend(over.map(|link| (key.clone(), Some(link.to))));
                }
            }
            last = Some(key);
            seen += 1;
            if seen == PART {
                break;
            }
        }
        for (key, linked) in &dead {
            self.remove(key)?;
            if let Some(to) = linked {
                self.unlist(to, key)?;
            }
        }
        Ok(last.filter(|_| seen == PART))
    }
}
