//! Objects in memory. The eviction manager counts the bytes and says what has to go.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use pingora::cache::key::{CacheHashKey, HashBinary};
use pingora::cache::storage::{
    HandleHit, HandleMiss, HitHandler, MissFinishType, MissHandler, PurgeOutcome, PurgeTarget,
    Storage,
};
use pingora::cache::trace::SpanHandle;
use pingora::cache::{CacheKey, CacheMeta, PurgeType};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType, Result};

use crate::telemetry::metrics::{CACHE_BYTES, CACHE_EVICTIONS};

const SHARDS: usize = 16;
/// Larger objects are served and not stored.
const MAX_OBJECT_BYTES: usize = 16 * 1024 * 1024;

type Shard = HashMap<HashBinary, Arc<Stored>>;

/// Complete objects, in shards with a lock each that is held for a lookup alone.
#[derive(Default)]
pub struct MemoryStorage {
    shards: [Mutex<Shard>; SHARDS],
}

struct Stored {
    /// Hashes are compared first; this makes sure.
    primary: Box<[u8]>,
    meta: Meta,
    body: Bytes,
}

/// What pingora-cache wants back with a hit. Kept decoded: reading it is a copy, not a parse.
#[derive(Clone)]
struct Meta {
    fresh_until: SystemTime,
    created: SystemTime,
    stale_while_revalidate: u32,
    stale_if_error: u32,
    header: ResponseHeader,
}

impl Meta {
    fn of(meta: &CacheMeta) -> Self {
        Self {
            fresh_until: meta.fresh_until(),
            created: meta.created(),
            stale_while_revalidate: meta.stale_while_revalidate_sec(),
            stale_if_error: meta.stale_if_error_sec(),
            header: meta.response_header_copy(),
        }
    }

    fn to_cache(&self) -> CacheMeta {
        CacheMeta::new(
            self.fresh_until,
            self.created,
            self.stale_while_revalidate,
            self.stale_if_error,
            self.header.clone(),
        )
    }
}

impl Stored {
    /// About what it takes, header and bookkeeping included.
    fn weight(&self) -> usize {
        const OVERHEAD: usize = 2048;
        OVERHEAD + self.primary.len() + self.body.len()
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryStorage {
    fn shard(&self, hash: &HashBinary) -> MutexGuard<'_, Shard> {
        let [first, ..] = hash;
        let [fallback, ..] = &self.shards;
        lock(self.shards.get(usize::from(*first) % SHARDS).unwrap_or(fallback))
    }

    fn put(&self, hash: HashBinary, stored: Stored) -> usize {
        let weight = stored.weight();
        let old = self.shard(&hash).insert(hash, Arc::new(stored));
        CACHE_BYTES.add(i64::try_from(weight).unwrap_or(0));
        if let Some(old) = old {
            CACHE_BYTES.sub(i64::try_from(old.weight()).unwrap_or(0));
        }
        weight
    }
}

#[async_trait]
impl Storage for MemoryStorage {
    async fn lookup(
        &'static self,
        key: &CacheKey,
        _: &SpanHandle,
    ) -> Result<Option<(CacheMeta, HitHandler)>> {
        let hash = key.combined_bin();
        let found = self.shard(&hash).get(&hash).cloned();
        Ok(found.filter(|stored| *stored.primary == *key.primary_key()).map(|stored| {
            let weight = stored.weight();
            let hit = Hit { body: Some(stored.body.clone()), weight };
            (stored.meta.to_cache(), Box::new(hit) as HitHandler)
        }))
    }

    async fn get_miss_handler(
        &'static self,
        key: &CacheKey,
        meta: &CacheMeta,
        _: &SpanHandle,
    ) -> Result<MissHandler> {
        Ok(Box::new(Miss {
            storage: self,
            hash: key.combined_bin(),
            primary: key.primary_key().into(),
            meta: Meta::of(meta),
            body: BytesMut::new(),
        }))
    }

    async fn purge(
        &'static self,
        target: PurgeTarget<'_>,
        purge: PurgeType,
        _: &SpanHandle,
    ) -> Result<PurgeOutcome> {
        let hash = target.key().combined_bin();
        let Some(gone) = self.shard(&hash).remove(&hash) else { return Ok(PurgeOutcome::NotFound) };
        CACHE_BYTES.sub(i64::try_from(gone.weight()).unwrap_or(0));
        if matches!(purge, PurgeType::Eviction) {
            CACHE_EVICTIONS.inc();
        }
        Ok(PurgeOutcome::Purged(None))
    }

    async fn update_meta(
        &'static self,
        key: &CacheKey,
        meta: &CacheMeta,
        _: &SpanHandle,
    ) -> Result<bool> {
        let hash = key.combined_bin();
        let mut shard = self.shard(&hash);
        let Some(old) = shard.get(&hash) else { return Ok(false) };
        let renewed =
            Stored { primary: old.primary.clone(), meta: Meta::of(meta), body: old.body.clone() };
        shard.insert(hash, Arc::new(renewed));
        Ok(true)
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync + 'static) {
        self
    }
}

struct Hit {
    body: Option<Bytes>,
    weight: usize,
}

#[async_trait]
impl HandleHit for Hit {
    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        Ok(self.body.take())
    }
    async fn finish(
        self: Box<Self>,
        _: &'static (dyn Storage + Sync),
        _: &CacheKey,
        _: &SpanHandle,
    ) -> Result<()> {
        Ok(())
    }
    fn get_eviction_weight(&self) -> usize {
        self.weight
    }
    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
    fn as_any_mut(&mut self) -> &mut (dyn Any + Send + Sync) {
        self
    }
}

/// An object that is coming in. Dropped before its end it leaves nothing behind.
struct Miss {
    storage: &'static MemoryStorage,
    hash: HashBinary,
    primary: Box<[u8]>,
    meta: Meta,
    body: BytesMut,
}

#[async_trait]
impl HandleMiss for Miss {
    async fn write_body(&mut self, data: Bytes, _eof: bool) -> Result<()> {
        if self.body.len() + data.len() > MAX_OBJECT_BYTES {
            return Error::e_explain(ErrorType::InternalError, "too large for the cache");
        }
        self.body.extend_from_slice(&data);
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<MissFinishType> {
        let body = self.body.split().freeze();
        // The whole body is known from here on.
        let header = &mut self.meta.header;
        header.remove_header(&http::header::TRANSFER_ENCODING);
        header.insert_header(http::header::CONTENT_LENGTH, body.len())?;
        if !header.headers.contains_key(http::header::ETAG) {
            let tag = format!("\"{:032x}\"", xxhash_rust::xxh3::xxh3_128(&body));
            header.insert_header(http::header::ETAG, tag)?;
        }
        let stored = Stored { primary: self.primary, meta: self.meta, body };
        Ok(MissFinishType::Created(self.storage.put(self.hash, stored)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::key;

    fn meta() -> CacheMeta {
        let now = SystemTime::now();
        CacheMeta::new(now, now, 1, 2, ResponseHeader::build(200, None).unwrap())
    }

    #[tokio::test]
    async fn objects_are_kept_whole_or_not_at_all() {
        let storage: &'static MemoryStorage = Box::leak(Box::default());
        let span = pingora::cache::trace::Span::inactive().handle();
        let key = key(&["a"]);
        let mut half = storage.get_miss_handler(&key, &meta(), &span).await.unwrap();
        half.write_body(Bytes::from_static(b"half"), false).await.unwrap();
        drop(half);
        assert!(storage.lookup(&key, &span).await.unwrap().is_none());

        let mut whole = storage.get_miss_handler(&key, &meta(), &span).await.unwrap();
        whole.write_body(Bytes::from_static(b"whole"), true).await.unwrap();
        assert!(
            matches!(whole.finish().await.unwrap(), MissFinishType::Created(size) if size > 2048)
        );
        let (found, mut hit) = storage.lookup(&key, &span).await.unwrap().unwrap();
        assert_eq!(hit.read_body().await.unwrap().as_deref(), Some(&b"whole"[..]));
        assert_eq!(hit.read_body().await.unwrap(), None);
        assert_eq!(found.headers()["content-length"], "5");
        assert!(found.headers().contains_key("etag"));
        assert_eq!((found.stale_while_revalidate_sec(), found.stale_if_error_sec()), (1, 2));

        let target = PurgeTarget::Active(&key.to_compact());
        let purged = storage.purge(target, PurgeType::Eviction, &span).await.unwrap();
        assert_eq!(purged, PurgeOutcome::Purged(None));
        assert!(storage.lookup(&key, &span).await.unwrap().is_none());
    }
}
