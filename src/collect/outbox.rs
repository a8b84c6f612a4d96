//! All events of a process that wait for a vendor.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::value::RawValue;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use super::dead::DeadLetters;
use super::delivery::{Delivery, Timing};
use super::lane::Lane;
use super::reports::Reports;
use super::spool::{Durability, Room, Sender, Spool, SpoolError};
use super::stranded;
use super::{Parcel, Person, forget};
use crate::profile::store::{DELETED_FOR, StoreError};
use crate::profile::{ProfileKey, Resolver, now_millis};
use crate::telemetry::metrics::{EVENTS_CAPACITY, PANICS};
use crate::telemetry::{Feature, Seldom};
use crate::upstream::Client;

/// How events are kept.
#[derive(Debug, Clone, Copy)]
pub struct Keeping {
    /// When one counts as taken.
    pub durability: Durability,
    /// Most bytes of all spools.
    pub disk: u64,
    /// Most bytes of one lane's dead letters.
    pub dead_letters: u64,
    /// Limits of delivery.
    pub timing: Timing,
}

/// All events of a process that wait for a vendor.
pub struct Outbox {
    data: PathBuf,
    keeping: Keeping,
    room: Arc<Room>,
    client: Arc<Client>,
    deliveries: ArcSwap<Deliveries>,
    /// Those that are to begin, and who begins them.
    new: mpsc::UnboundedSender<Arc<Delivery>>,
    begins: Mutex<mpsc::UnboundedReceiver<Arc<Delivery>>>,
}

type Deliveries = HashMap<Box<str>, Arc<Delivery>>;

/// Where the folders of all lanes are, below `data.path`.
pub const FOLDER: &str = "events";

impl Outbox {
    /// Opens the spools of `lanes` below `data`.
    ///
    /// # Errors
    /// When a folder can't be made.
    pub fn open(
        data: &Path,
        lanes: impl Iterator<Item = Arc<Lane>>,
        keeping: Keeping,
    ) -> io::Result<Self> {
        EVENTS_CAPACITY.set(i64::try_from(keeping.disk).unwrap_or(i64::MAX));
        let (new, begins) = mpsc::unbounded_channel();
        let outbox = Self {
            data: data.to_owned(),
            keeping,
            room: Room::new(keeping.disk),
            client: Arc::new(Client::default()),
            deliveries: ArcSwap::default(),
            new,
            begins: Mutex::new(begins),
        };
        outbox.take_lanes(lanes)?;
        Ok(outbox)
    }

    /// Delivers over `lanes` from now on. What waits for one that is not among them any more is still delivered.
    ///
    /// # Errors
    /// When the folder of a new one can't be made: then nothing has changed.
    pub fn take_lanes(&self, lanes: impl Iterator<Item = Arc<Lane>>) -> io::Result<()> {
        let before = self.deliveries.load_full();
        let (mut all, mut fresh) = (Deliveries::clone(&before), Vec::new());
        let lanes: Vec<Arc<Lane>> = lanes.collect();
        for lane in lanes.iter().filter(|lane| !before.contains_key(&lane.name)) {
            let delivery = Arc::new(self.delivery(lane)?);
            all.insert(lane.name.clone(), Arc::clone(&delivery));
            fresh.push(delivery);
        }
        for lane in lanes {
            if let Some(delivery) = before.get(&lane.name) {
                delivery.take_lane(lane);
            }
        }
        self.deliveries.store(Arc::new(all));
        for delivery in fresh {
            // Its other end lives as long as this one.
            let _ = self.new.send(delivery);
        }
        let (data, known) = (self.data.clone(), self.deliveries.load_full());
        let look = move || stranded::tell(&data, |lane| known.contains_key(lane));
        // Reading what waits may take long, and nothing waits for it.
        if let Err(error) = std::thread::Builder::new().name("stranded".into()).spawn(look) {
            tracing::error!(%error, "nobody looks for events that nobody delivers");
        }
        Ok(())
    }

    fn delivery(&self, lane: &Arc<Lane>) -> io::Result<Delivery> {
        let folder = self.data.join(FOLDER).join(&*lane.name);
        let room = self.room.share(lane.site());
        Ok(Delivery {
            spool: Arc::new(Spool::open(&folder, self.keeping.durability, room)?),
            dead: DeadLetters::new(&folder, self.keeping.dead_letters),
            client: Arc::clone(&self.client),
            timing: self.keeping.timing,
            paused: false.into(),
            flying: 0.into(),
            reports: Reports::default(),
            unreadable: Seldom::default(),
            unwritable: Seldom::default(),
            lane: ArcSwap::new(Arc::clone(lane)),
        })
    }

    /// Takes `parcels` for delivery over `lane`: all of them or none. What is taken is delivered,
    /// whatever happens to this process.
    ///
    /// # Errors
    /// When there is no room, or the disk fails.
    pub async fn accept(
        &self,
        lane: &Lane,
        parcels: &[Parcel],
        sender: Sender,
    ) -> Result<(), SpoolError> {
        let delivery = self.of(lane)?;
        delivery.spool.append(parcels, sender).await
    }

    /// The same without waiting until they are safe.
    ///
    /// # Errors
    /// When there is no room.
    pub fn accept_later(
        &self,
        lane: &Lane,
        parcels: &[Parcel],
        sender: Sender,
    ) -> Result<(), SpoolError> {
        self.of(lane)?.spool.append_later(parcels, sender).map(drop)
    }

    /// Takes what SDKs report about themselves, as far as there is room. Tells how many had none.
    #[must_use]
    pub fn report(&self, lane: &Lane, series: Vec<Box<RawValue>>) -> usize {
        match self.of(lane) {
            Ok(delivery) => delivery.reports.add(series),
            Err(_) => series.len(),
        }
    }

    fn of(&self, lane: &Lane) -> Result<Arc<Delivery>, SpoolError> {
        let delivery = self.deliveries.load().get(&lane.name).cloned();
        delivery.ok_or_else(|| SpoolError::Failed("it was not opened".into()))
    }

    /// Deletes the person behind `key` everywhere: the profile with all its links, what waits for a
    /// vendor, and what no vendor has taken.
    ///
    /// # Errors
    /// When any of it fails: then it has to be asked for again.
    pub async fn delete_person(
        &self,
        profiles: &Resolver,
        key: &ProfileKey,
        at: i64,
    ) -> Result<(), StoreError> {
        self.delete_people(profiles, std::slice::from_ref(key), at).await
    }

    /// The same for the people behind several ids of one site.
    ///
    /// # Errors
    /// As for one.
    pub async fn delete_people(
        &self,
        profiles: &Resolver,
        keys: &[ProfileKey],
        at: i64,
    ) -> Result<(), StoreError> {
        let Some(site) = keys.first().map(|key| key.site().to_owned()) else { return Ok(()) };
        let mut gone = Vec::new();
        for key in keys {
            gone.extend(profiles.delete(key, at).await?);
        }
        let failed = |error: io::Error| StoreError::Unavailable(format!("its events: {error}"));
        let person = Person::of(&gone, now_millis());
        let erasing = self.erase(site, person);
        match tokio::time::timeout(ERASING, erasing).await {
            Ok(erased) => erased.map_err(failed),
            Err(_) => Err(StoreError::Unavailable("its events: the disk is too slow".into())),
        }
    }

    async fn erase(&self, site: String, person: Person) -> io::Result<()> {
        // What was taken before the deletion may not have reached its file yet.
        let of_site = |name: &str| name.split_once('.').is_some_and(|(of, _)| of == site);
        for (_, delivery) in self.deliveries.load_full().iter().filter(|(name, _)| of_site(name)) {
            delivery.spool.settle().await.map_err(io::Error::other)?;
        }
        let data = self.data.clone();
        let erased = move || {
            let events = forget(&data, &site, &person)?;
            if events > 0 {
                tracing::info!(site, events, "events of a deleted person were erased");
            }
            Ok(())
        };
        tokio::task::spawn_blocking(erased).await.map_err(io::Error::other)?
    }

    /// Erases what this node has of people whom other nodes have deleted, for as long as the process
    /// lives.
    pub async fn follow_deletions(&self, profiles: &Resolver) {
        let kept = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        // What a node has missed while it was down is in the list as well.
        let mut since = now_millis().saturating_sub(kept(DELETED_FOR));
        let mut done: HashSet<(ProfileKey, i64)> = HashSet::new();
        loop {
            // Nodes' clocks differ: what was noted a little before is looked at again.
            let from = since.saturating_sub(kept(CLOCKS_DIFFER));
            match profiles.deleted_since(from).await {
                Ok(deleted) => {
                    done.retain(|(_, at)| *at >= from);
                    let mut new: HashMap<String, Person> = HashMap::new();
                    let deleted: Vec<_> =
                        deleted.into_iter().filter(|one| !done.contains(one)).collect();
                    for (key, at) in &deleted {
                        new.entry(key.site().to_owned()).or_default().add(key, *at);
                    }
                    // One look through a site's events for all of them.
                    let mut good = true;
                    for (site, people) in new {
                        if let Err(error) = self.erase(site, people).await {
                            tracing::error!(%error, "events of deleted people are still there");
                            good = false;
                        }
                    }
                    if good {
                        since = deleted.iter().map(|(_, at)| *at).fold(since, i64::max);
                        done.extend(deleted);
                    }
                }
                Err(error) => tracing::debug!(%error, "deletions can't be heard of"),
            }
            tokio::time::sleep(LOOK_FOR_DELETIONS).await;
        }
    }

    /// Whether something can be delivered at the moment.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.deliveries.load().values().any(|delivery| delivery.is_busy())
    }

    /// Events that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.deliveries.load().values().map(|delivery| delivery.spool.waiting()).sum()
    }

    /// Delivers for as long as the process lives.
    pub async fn run(&self) {
        yield_to_requests();
        let mut begins = self.begins.lock().await;
        let mut running = JoinSet::new();
        loop {
            tokio::select! {
                Some(delivery) = begins.recv() => {
                    let reports = Arc::clone(&delivery);
                    running.spawn(async move { reports.report().await });
                    running.spawn(without_end(delivery));
                }
                Some(_) = running.join_next() => {}
            }
        }
    }
}

/// A backlog is delivered with what requests leave of the processor. The runtime's own thread, and
/// those that it makes for reading, get a low priority.
fn yield_to_requests() {
    const NICE: i32 = 10;
    let thread = rustix::thread::gettid();
    if let Err(error) = rustix::process::setpriority_process(Some(thread), NICE) {
        tracing::warn!(%error, "delivery can't be given a low priority");
    }
}

/// A panic in one lane's delivery costs that lane a second, and no event.
async fn without_end(delivery: Arc<Delivery>) {
    loop {
        let running = tokio::spawn(Arc::clone(&delivery).run());
        let Err(error) = running.await else { return };
        PANICS.with_label_values(&[Feature::Delivery.label()]).inc();
        tracing::error!(lane = &*delivery.lane().name, %error, "delivery begins again");
        delivery.spool.rewind();
        tokio::time::sleep(PAUSE).await;
    }
}

/// The most that a deletion waits for the disk; it goes on behind that.
const ERASING: Duration = Duration::from_secs(30);
/// How often it is looked whom other nodes have deleted.
const LOOK_FOR_DELETIONS: Duration = Duration::from_secs(5);
const CLOCKS_DIFFER: Duration = Duration::from_mins(1);
/// Before delivery begins again.
const PAUSE: Duration = Duration::from_secs(1);
