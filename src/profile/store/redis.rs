//! Profiles in Redis (or Valkey), where several nodes share them. Every write is one script, so that
//! nodes that write at the same time lose nothing; each script tells all nodes what it has changed.

mod channel;
mod connection;
mod record;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use redis::{Cmd, RedisError, Script, TlsCertificates, Value, cmd};
use tokio::sync::Notify;

use super::{
    CLAIM_FOR, Change, DELETED_FOR, LinkedBy, MAX_CLAIMS, MAX_HOPS, Part, ProfileStore, SAME_LINK,
    StoreError, Stored, end_of,
};
use crate::config::Secret;
use crate::profile::{MAX_PROFILE_BYTES, MAX_TRAITS, ProfileKey, TooMuch, Update, now_millis};

use connection::{Connected, Connection, Connector};

/// How Redis is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// One server: the first address. The others are its replicas.
    Single,
    /// Sentinels at the addresses tell who is the master.
    Sentinel {
        /// The name that the sentinels know the master by.
        master: Box<str>,
        /// User of the master and its replicas; the addresses' own are the sentinels'.
        username: Option<Box<str>>,
        /// Password of the master and its replicas.
        password: Option<Secret>,
        /// Speak TLS with the master and its replicas.
        tls: bool,
    },
    /// A cluster: some of its nodes.
    Cluster,
}

/// What TLS to Redis trusts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates in PEM form; `None` for the system's.
    pub authorities: Option<Arc<[u8]>>,
}

impl Tls {
    fn certificates(&self) -> Option<TlsCertificates> {
        let root_cert = Some(self.authorities.as_ref()?.to_vec());
        Some(TlsCertificates { client_tls: None, root_cert })
    }
}

/// Where Redis is and how it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Addresses, `redis://` or `rediss://`, with user and password.
    pub urls: Vec<Secret>,
    /// How it is run.
    pub mode: Mode,
    /// What all keys begin with: letters, digits and `:._-`.
    pub key_prefix: Box<str>,
    /// The most that one command may take.
    pub timeout: Duration,
    /// The most that a connection may take to be made.
    pub connect_timeout: Duration,
    /// Profiles that nobody has written for that long are forgotten.
    pub expire_after: Option<Duration>,
    /// Read from replicas. What they don't know yet is not seen.
    pub read_from_replicas: bool,
    /// TLS.
    pub tls: Tls,
}

impl Options {
    fn node(&self) -> redis::sentinel::SentinelNodeConnectionInfo {
        let mut info = redis::RedisConnectionInfo::default();
        let mut node = redis::sentinel::SentinelNodeConnectionInfo::default();
        if let Mode::Sentinel { username, password, tls, .. } = &self.mode {
            if let Some(username) = username {
                info = info.set_username(&**username);
            }
            if let Some(password) = password {
                info = info.set_password(password.expose());
            }
            if *tls {
                node = node.set_tls_mode(redis::TlsMode::Secure);
            }
        }
        node.set_redis_connection_info(info)
    }
}

/// The store.
pub struct Redis {
    /// Profiles of pages are asked for on it, and nothing else: no change that takes long stands before them.
    reading: Connector,
    /// Everything else goes over it.
    writing: Connector,
    prefix: Box<str>,
    /// Where changes are told.
    channel: String,
    /// This process in what it tells.
    node: String,
    start: Instant,
    options: Arc<ArcSwap<Options>>,
    /// Told when a connection is as they say by now.
    renewed: Arc<Notify>,
    expire_seconds: u64,
    scripts: Scripts,
}

struct Scripts {
    merge: Script,
    link: Script,
    unlink: Script,
    delete: Script,
}

/// For how long a deletion is remembered: longer than any sender repeats what it has sent.
const DELETION_SECONDS: u64 = 30 * 24 * 3600;
/// How many keys one step of an export looks at.
const SCAN: usize = 1000;

impl Redis {
    /// A store that connects when it is followed, or by [`ProfileStore::connect`].
    #[must_use]
    pub fn new(options: Options) -> Self {
        let renewed = Arc::<Notify>::default();
        let prefix = options.key_prefix.clone();
        let expire_seconds = options.expire_after.map_or(0, |after| after.as_secs().max(1));
        let shared = Arc::new(ArcSwap::from_pointee(options));
        Self {
            channel: format!("{prefix}changes"),
            prefix,
            node: uuid::Uuid::new_v4().simple().to_string(),
            start: Instant::now(),
            expire_seconds,
            renewed: Arc::clone(&renewed),
            scripts: Scripts {
                merge: Script::new(include_str!("redis/merge.lua")),
                link: Script::new(include_str!("redis/link.lua")),
                unlink: Script::new(include_str!("redis/unlink.lua")),
                delete: Script::new(include_str!("redis/delete.lua")),
            },
            reading: Connector::new("pages", Arc::clone(&shared), Arc::clone(&renewed)),
            writing: Connector::new("changes", Arc::clone(&shared), renewed),
            options: shared,
        }
    }

    /// Goes over to other options for the same keys: another password, other servers. What is connected serves until
    /// something else is; then all that is in memory is asked for again.
    pub fn take(&self, options: Options) {
        if **self.options.load() == options {
            return;
        }
        self.options.store(Arc::new(options));
        self.reading.renew();
        self.writing.renew();
    }

    fn hash(&self, key: &ProfileKey) -> String {
        format!("{}{{{}}}", self.prefix, record::name(key))
    }

    fn links(&self, key: &ProfileKey) -> String {
        format!("{}{{{}}}:links", self.prefix, record::name(key))
    }

    fn claims(&self, key: &ProfileKey) -> String {
        format!("{}{{{}}}:claims", self.prefix, record::name(key))
    }

    /// What all nodes are told: who tells, when by the teller's own clock, and which profile.
    fn message(&self, key: Option<&ProfileKey>) -> String {
        let micros = self.start.elapsed().as_micros();
        format!("{}|{micros}|{}", self.node, key.map(record::name).unwrap_or_default())
    }

    /// Runs `call` on the connection for changes, within the deadline.
    async fn on<T, F>(&self, call: impl FnOnce(Arc<Connected>) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, RedisError>>,
    {
        self.over(&self.writing, call).await
    }

    /// Runs `call` on the connection that there is of `connector`, within the deadline.
    async fn over<T, F>(
        &self,
        connector: &Connector,
        call: impl FnOnce(Arc<Connected>) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, RedisError>>,
    {
        let Some(connected) = connector.current() else {
            return Err(StoreError::Unavailable("Redis is not connected".into()));
        };
        let wait = self.options.load().timeout;
        match tokio::time::timeout(wait, call(Arc::clone(&connected))).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                if connector.judge(&connected, &error) {
                    // The server has gone, or is the wrong one by now: for the other connection as well.
                    self.reading.give_up_current();
                    self.writing.give_up_current();
                }
                Err(failed(&error))
            }
            Err(_) => {
                if !matches!(connected.master, Connection::Cluster(_)) {
                    connector.give_up(&connected);
                }
                Err(StoreError::Unavailable(format!("Redis did not answer within {wait:?}")))
            }
        }
    }

    async fn run<T: redis::FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        self.on(async |connected| command.query_async(&mut connected.master.clone()).await).await
    }

    /// The list of who was deleted, for nodes that have more of them than a profile.
    fn deleted(&self) -> String {
        format!("{}deleted", self.prefix)
    }

    async fn note_deleted(
        &self,
        keys: impl Iterator<Item = &ProfileKey>,
    ) -> Result<(), StoreError> {
        let (list, now) = (self.deleted(), now_millis());
        let mut add = cmd("ZADD");
        add.arg(&list);
        for key in keys {
            add.arg(now).arg(record::name(key));
        }
        self.run::<()>(&add).await?;
        let kept = i64::try_from(DELETED_FOR.as_millis()).unwrap_or(i64::MAX);
        let mut old = cmd("ZREMRANGEBYSCORE");
        old.arg(&list).arg("-inf").arg(now.saturating_sub(kept));
        self.run::<()>(&old).await?;
        self.run::<()>(cmd("EXPIRE").arg(&list).arg(DELETED_FOR.as_secs())).await
    }

    /// Runs a script about `key`. All begin with the channel and the message.
    async fn script<T: redis::FromRedisValue>(
        &self,
        script: &Script,
        key: &ProfileKey,
        arguments: impl FnOnce(&mut redis::ScriptInvocation<'_>),
    ) -> Result<T, StoreError> {
        let mut invocation = script.key(self.hash(key));
        invocation.arg(&self.channel).arg(self.message(Some(key)));
        arguments(&mut invocation);
        self.on(async |connected| invocation.invoke_async(&mut connected.master.clone()).await)
            .await
    }

    async fn unlink(&self, from: &ProfileKey, what: Unlinking<'_>) -> Result<(), StoreError> {
        let (to, which) = match what {
            Unlinking::All(to) => (record::name(to), "all"),
            Unlinking::Claim(to) => (record::name(to), "claim"),
            Unlinking::Traits => (String::new(), "traits"),
        };
        let unlink = &self.scripts.unlink;
        self.script::<i64>(unlink, from, |call| {
            call.arg(to).arg(which);
        })
        .await
        .map(drop)
    }

    /// Lists `from` among what leads to `to`, so that a deletion finds it. Of too many the oldest go: what is not
    /// listed does not lead there any more.
    async fn list(
        &self,
        from: &ProfileKey,
        to: &ProfileKey,
        at: i64,
        by: LinkedBy,
    ) -> Result<Listed, StoreError> {
        let (links, claims) = (self.links(to), self.claims(to));
        let (own, other, most, lives) = match by {
            LinkedBy::Site => (&links, &claims, MAX_LINKS, self.expire_seconds),
            LinkedBy::Claim => (&claims, &links, MAX_CLAIMS, CLAIM_FOR.as_secs()),
        };
        let mut listing = redis::pipe();
        listing.cmd("ZADD").arg(own).arg(at).arg(record::name(from)).ignore();
        if by == LinkedBy::Site {
            listing.cmd("ZREM").arg(other).arg(record::name(from)).ignore();
        }
        let last = -i64::try_from(most).unwrap_or(i64::MAX) - 1;
        listing.cmd("ZRANGE").arg(own).arg(0).arg(last);
        if lives > 0 {
            listing.cmd("EXPIRE").arg(own).arg(lives).ignore();
        }
        let (over,): (Vec<String>,) = self
            .on(async |connected| listing.query_async(&mut connected.master.clone()).await)
            .await?;
        // Off the list once it leads nowhere: a crash in between leaves it to the next one.
        for over in over.iter().filter_map(|name| record::key_of(name)) {
            let what = match by {
                LinkedBy::Site => Unlinking::All(to),
                LinkedBy::Claim => Unlinking::Claim(to),
            };
            self.unlink(&over, what).await?;
        }
        if !over.is_empty() {
            self.run::<()>(cmd("ZREM").arg(own).arg(&over)).await?;
        }
        Ok(match over {
            over if over.contains(&record::name(from)) => Listed::No,
            over if over.is_empty() => Listed::Yes,
            _ => Listed::AmongMany,
        })
    }

    /// Takes a link that has been made away again where it is not on the list: another one took its place meanwhile.
    async fn unlink_what_is_not_listed(
        &self,
        from: &ProfileKey,
        to: &ProfileKey,
    ) -> Result<bool, StoreError> {
        let mut ranks = redis::pipe();
        for list in [self.links(to), self.claims(to)] {
            ranks.cmd("ZSCORE").arg(list).arg(record::name(from));
        }
        let (link, claim): (Option<f64>, Option<f64>) = self
            .on(async |connected| ranks.query_async(&mut connected.master.clone()).await)
            .await?;
        let gone = link.or(claim).is_none();
        if gone {
            self.unlink(from, Unlinking::All(to)).await?;
        }
        Ok(gone)
    }

    /// `key` and everything that leads to it, with what it leads to.
    async fn leading_to(
        &self,
        key: &ProfileKey,
    ) -> Result<Vec<(ProfileKey, Option<ProfileKey>)>, StoreError> {
        let (mut all, mut known) = (vec![(key.clone(), None)], HashSet::from([key.clone()]));
        let mut next = 0;
        while next < all.len() {
            let some: Vec<ProfileKey> =
                all.iter().skip(next).take(TOGETHER).map(|(to, _)| to.clone()).collect();
            next += some.len();
            let listed = some.iter().map(|to| self.listed(to));
            let listed = futures::future::try_join_all(listed).await?;
            for (to, names) in some.into_iter().zip(listed) {
                for from in names.iter().filter_map(|name| record::key_of(name)) {
                    if known.insert(from.clone()) {
                        all.push((from, Some(to.clone())));
                    }
                }
            }
        }
        Ok(all)
    }

    /// The names of what is listed as leading to `to`.
    async fn listed(&self, to: &ProfileKey) -> Result<Vec<String>, StoreError> {
        let mut both = redis::pipe();
        for list in [self.links(to), self.claims(to)] {
            both.cmd("ZRANGE").arg(list).arg(0).arg(-1);
        }
        let (mut links, claims): (Vec<String>, Vec<String>) = self
            .on(async |connected| both.query_async(&mut connected.master.clone()).await)
            .await?;
        links.extend(claims);
        Ok(links)
    }
}

fn failed(error: &RedisError) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

fn unexpected() -> StoreError {
    StoreError::Unavailable("a script answered what this version does not know".into())
}

/// What of a link is taken away.
enum Unlinking<'u> {
    /// The link to this key.
    All(&'u ProfileKey),
    /// The link to this key, if only an event says it.
    Claim(&'u ProfileKey),
    /// The traits from before it was a link.
    Traits,
}

/// Whether a key is on the list of what leads to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listed {
    Yes,
    /// It is, and others had to go for it: so may it, at any time.
    AmongMany,
    /// It is older than all that there is room for.
    No,
}

/// Most keys that are remembered as linked to one.
const MAX_LINKS: usize = 10_000;
/// Keys that are looked at, or taken away, together when a person is deleted.
const TOGETHER: usize = 64;
/// Deletions that are noted together.
const NOTED_TOGETHER: usize = 1000;

#[async_trait]
impl ProfileStore for Redis {
    async fn connect(&self) -> Result<(), StoreError> {
        let both = futures::future::try_join(self.reading.connect(), self.writing.connect());
        both.await.map(drop).map_err(|error| failed(&error))
    }

    async fn get(&self, key: &ProfileKey) -> Result<Option<Stored>, StoreError> {
        let mut command = cmd("HGETALL");
        command.arg(self.hash(key));
        let answer = self
            .over(&self.reading, async |connected| {
                if let Some(replica) = &connected.replica
                    && let Ok(answer) = command.query_async(&mut replica.clone()).await
                {
                    return Ok(answer);
                }
                command.query_async(&mut connected.master.clone()).await
            })
            .await?;
        Ok(record::read(&fields(answer)))
    }

    async fn merge(&self, key: &ProfileKey, update: &Update) -> Result<ProfileKey, StoreError> {
        update.check()?;
        let mut key = key.clone();
        for _ in 0..=MAX_HOPS {
            let answer: Vec<String> = self
                .script(&self.scripts.merge, &key, |call| {
                    call.arg(MAX_TRAITS).arg(MAX_PROFILE_BYTES).arg(self.expire_seconds);
                    match update.pulled {
                        Some(pulled) => call.arg(pulled.at).arg(pulled.until),
                        None => call.arg("").arg(""),
                    };
                    for set in &update.traits {
                        call.arg(&*set.name).arg(set.at).arg(set.value.to_string());
                    }
                })
                .await?;
            let told = answer.get(1).map(String::as_str);
            let number = || told.and_then(|told| told.parse().ok()).unwrap_or(usize::MAX);
            match answer.first().map(String::as_str) {
                Some("done" | "same") => return Ok(key),
                Some("traits") => return Err(TooMuch::Traits(number()).into()),
                Some("bytes") => return Err(TooMuch::Bytes(number()).into()),
                Some("linked") => {
                    key = told.and_then(record::link_of).ok_or_else(unexpected)?;
                }
                _ => return Err(unexpected()),
            }
        }
        Err(StoreError::Circle)
    }

    async fn link(
        &self,
        from: &ProfileKey,
        to: &ProfileKey,
        at: i64,
        by: LinkedBy,
    ) -> Result<Vec<ProfileKey>, StoreError> {
        let end = end_of(self, to).await?;
        if end == *from {
            return Err(StoreError::Circle);
        }
        // First, so that a deletion finds everything that leads here, whatever happens in between.
        let listed = self.list(from, to, at, by).await?;
        if listed == Listed::No {
            return Ok(Vec::new());
        }
        let same = u64::try_from(SAME_LINK.as_millis()).unwrap_or(u64::MAX);
        let taken: Value = self
            .script(&self.scripts.link, from, |call| {
                call.arg(self.expire_seconds).arg(at).arg(record::name(to)).arg(same);
                match by {
                    LinkedBy::Site => call.arg(""),
                    LinkedBy::Claim => call.arg(CLAIM_FOR.as_secs()),
                };
            })
            .await?;
        let fields = fields(taken);
        if fields.is_empty()
            || (listed == Listed::AmongMany && self.unlink_what_is_not_listed(from, to).await?)
        {
            return Ok(Vec::new());
        }
        let traits = record::traits(&fields);
        if !traits.is_empty() {
            // What the browser was known by is the user's from now on. A crash before the last line
            // leaves it with the link: the next one takes it over again.
            match self.merge(&end, &Update { traits, pulled: None }).await {
                Err(StoreError::Refused(why)) => {
                    tracing::warn!(site = from.site(), %why, "a browser's traits are not taken over");
                }
                other => drop(other?),
            }
            self.unlink(from, Unlinking::Traits).await?;
        }
        Ok(vec![from.clone(), end])
    }

    async fn delete(&self, key: &ProfileKey, at: i64) -> Result<Vec<ProfileKey>, StoreError> {
        let end = end_of(self, key).await?;
        let all = self.leading_to(&end).await?;
        for some in all.chunks(NOTED_TOGETHER) {
            self.note_deleted(some.iter().map(|(key, _)| key)).await?;
        }
        // The links first: a deletion that is cut short can be sent again and finds the rest.
        for some in all.chunks(TOGETHER) {
            let going = some.iter().filter_map(|(from, to)| Some((from, to.as_ref()?)));
            let going = going.map(async |(from, to)| {
                self.unlink(from, Unlinking::All(to)).await?;
                self.run::<()>(cmd("DEL").arg(self.links(from)).arg(self.claims(from))).await
            });
            futures::future::try_join_all(going).await?;
        }
        let mut invocation = self.scripts.delete.key(self.hash(&end));
        invocation.key(self.links(&end)).key(self.claims(&end));
        invocation.arg(&self.channel).arg(self.message(Some(&end))).arg(at).arg(DELETION_SECONDS);
        self.on(async |connected| {
            invocation.invoke_async::<Vec<String>>(&mut connected.master.clone()).await
        })
        .await?;
        Ok(all.into_iter().map(|(key, _)| key).collect())
    }

    async fn deleted_since(&self, since: i64) -> Result<Vec<(ProfileKey, i64)>, StoreError> {
        let mut command = cmd("ZRANGEBYSCORE");
        command.arg(self.deleted()).arg(since).arg("+inf").arg("WITHSCORES");
        let listed: Vec<(String, f64)> = self.run(&command).await?;
        #[allow(clippy::cast_possible_truncation, reason = "milliseconds that were written whole")]
        let read = |(name, at): (String, f64)| Some((record::key_of(&name)?, at as i64));
        Ok(listed.into_iter().filter_map(read).collect())
    }

    async fn part(&self, site: &str, from: Option<&str>) -> Result<Part, StoreError> {
        let (shard, cursor) = from.and_then(|from| from.split_once(' ')).unwrap_or(("0", "0"));
        let shard: usize = shard.parse().unwrap_or(0);
        let mut shards = self.writing.shards().await.map_err(|error| failed(&error))?;
        let count = shards.len();
        let Some(connection) = shards.get_mut(shard) else { return Ok(Part::default()) };
        let front = format!("{}{{", self.prefix);
        let mut command = cmd("SCAN");
        command.arg(cursor).arg("MATCH").arg(format!("{front}{site}:*}}")).arg("COUNT").arg(SCAN);
        let (cursor, names): (String, Vec<Vec<u8>>) =
            command.query_async(connection).await.map_err(|error| failed(&error))?;
        let keys = names.iter().filter_map(|name| {
            let name = std::str::from_utf8(name).ok()?;
            record::key_of(name.strip_prefix(&*front)?.strip_suffix('}')?)
        });
        let reading = keys.map(|key| async move { (self.get(&key).await, key) });
        let mut part = Part::default();
        for (stored, key) in futures::future::join_all(reading).await {
            if let Some(stored) = stored? {
                part.records.push((key, stored));
            }
        }
        part.next = match cursor.as_str() {
            "0" if shard + 1 < count => Some(format!("{} 0", shard + 1)),
            "0" => None,
            cursor => Some(format!("{shard} {cursor}")),
        };
        Ok(part)
    }

    async fn follow(&self, tell: &(dyn Fn(Change) + Send + Sync)) {
        futures::future::join3(self.reading.keep(), self.writing.keep(), self.listen(tell)).await;
    }
}

/// The pairs of a hash, in either protocol.
fn fields(answer: Value) -> Vec<(Value, Value)> {
    match answer {
        Value::Map(pairs) => pairs,
        Value::Array(list) => {
            let mut list = list.into_iter();
            std::iter::from_fn(|| Some((list.next()?, list.next()?))).collect()
        }
        _ => Vec::new(),
    }
}
