//! One lookup behind the memory: shared by all pages that wait for it, and it goes on when they
//! leave.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use super::{Found, Lookup, Resolver, Source, count, in_time, observe};
use crate::profile::source::{Asker, ProfileSource};
use crate::profile::store::{MAX_HOPS, StoreError, Stored};
use crate::profile::{Profile, ProfileKey, Pulled, State, Update, now_millis};
use crate::telemetry::{ProfileResult, Tier};

/// A lookup under way.
#[derive(Clone)]
pub(super) struct Flight(watch::Receiver<Option<Lookup>>);

impl Flight {
    /// What it has found.
    pub(super) async fn landed(&mut self) -> Lookup {
        match self.0.wait_for(Option::is_some).await {
            Ok(found) => found.clone().unwrap_or(Lookup::Failed),
            Err(_) => Lookup::Failed,
        }
    }
}

/// A lookup under way, from within. However it ends, it leaves the board: one that stayed there would
/// answer for its visitor for ever.
struct Flying {
    resolver: Arc<Resolver>,
    key: ProfileKey,
    own: Flight,
    land: watch::Sender<Option<Lookup>>,
    /// How many links have led to it.
    links: usize,
}

impl Drop for Flying {
    fn drop(&mut self) {
        self.resolver.take_off_the_board(&self.key, &self.own);
    }
}

/// A profile that is asked for at its source, until that has ended.
struct Renewing {
    resolver: Arc<Resolver>,
    key: ProfileKey,
}

impl Drop for Renewing {
    fn drop(&mut self) {
        self.resolver.renewing.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

/// So many links have led to a lookup that follows none.
const ALONE: usize = usize::MAX;
/// Most lookups at one time. Above that pages go on without a profile.
const MAX_FLIGHTS: usize = 16_384;

impl Resolver {
    /// The lookup of `key` that is under way, or a new one.
    pub(super) fn board(self: &Arc<Self>, key: &ProfileKey, source: Source<'_>) -> Flight {
        self.board_behind(key, source, 0)
    }

    /// The same, without following a link and without a source.
    pub(super) fn board_alone(self: &Arc<Self>, key: &ProfileKey) -> Flight {
        self.board_behind(key, None, ALONE)
    }

    /// The same at the end of so many links.
    fn board_behind(
        self: &Arc<Self>,
        key: &ProfileKey,
        source: Source<'_>,
        links: usize,
    ) -> Flight {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(key) {
            return flight.clone();
        }
        let (land, flight) = watch::channel(None);
        let flight = Flight(flight);
        if flights.len() >= MAX_FLIGHTS {
            land.send_replace(Some(Lookup::Failed));
            return flight;
        }
        flights.insert(key.clone(), flight.clone());
        drop(flights);
        let (resolver, own) = (Arc::clone(self), flight.clone());
        let flying = Flying { resolver, key: key.clone(), own, land, links };
        let asked = Instant::now();
        let stored = self.store.get_now(key);
        let waits_for_nobody = match &stored {
            Some(Ok(Some(Stored::Profile(known)))) => due(source, key, known).is_none(),
            Some(Ok(None)) => due(source, key, &Profile::default()).is_none(),
            _ => false,
        };
        if let Some(stored) = stored.clone().filter(|_| waits_for_nobody) {
            observe(Tier::Store, asked);
            let stored = stored.ok().flatten();
            flying.land.send_replace(Some(self.settle(key, &flight, stored, asked)));
            return flight;
        }
        let source = source.map(|(source, asker)| (Arc::clone(source), asker));
        // A task of its own: the page that asked first may leave, the lookup goes on.
        tokio::spawn(async move {
            let resolver = &flying.resolver;
            let stored = match stored {
                Some(stored) => stored,
                None => in_time(resolver.store.get(&flying.key)).await,
            };
            observe(Tier::Store, asked);
            let source = source.as_ref().map(|(source, asker)| (source, *asker));
            let lookup = resolver.look_up(source, &flying, stored, asked).await;
            flying.land.send_replace(Some(lookup));
        });
        flight
    }

    /// The end of a lookup that asks nobody else.
    fn settle(
        &self,
        key: &ProfileKey,
        own: &Flight,
        stored: Option<Stored>,
        asked: Instant,
    ) -> Lookup {
        let known = match stored {
            Some(Stored::Profile(known)) if !known.is_empty() => Some(known),
            _ => None,
        };
        let result = if known.is_some() { ProfileResult::Hit } else { ProfileResult::Missing };
        count(Tier::Store, result);
        self.land(key, own, known.map_or(State::Missing, State::Profile), asked)
    }

    async fn look_up(
        self: &Arc<Self>,
        source: Source<'_>,
        flying: &Flying,
        stored: Result<Option<Stored>, StoreError>,
        asked: Instant,
    ) -> Lookup {
        let (key, own) = (&flying.key, &flying.own);
        let known = match stored {
            Ok(Some(Stored::Linked(to))) => {
                count(Tier::Store, ProfileResult::Hit);
                let linked = self.land(key, own, State::Linked(to.clone()), asked);
                if flying.links == ALONE {
                    return linked;
                }
                return match self.remembered(&to, source, Instant::now()) {
                    Some(lookup) => lookup,
                    // Nodes that race could build a circle.
                    None if flying.links >= MAX_HOPS => Lookup::Missing,
                    None => self.board_behind(&to, source, flying.links + 1).landed().await,
                };
            }
            Ok(Some(Stored::Profile(profile))) => profile,
            Ok(None) => Profile::default(),
            Err(error) => {
                count(Tier::Store, ProfileResult::Error);
                self.note_failure();
                tracing::debug!(%error, "profile lookup failed");
                self.take_off_the_board(key, own);
                return self.in_need(key);
            }
        };
        match due(source, key, &known) {
            Some((source, who)) if known.is_empty() => {
                count(Tier::Store, ProfileResult::Missing);
                self.pull_first(&known, (source, who), flying).await
            }
            Some((source, _)) => {
                self.renew(key, &known, source);
                self.settle(key, own, Some(Stored::Profile(known)), asked)
            }
            None => self.settle(key, own, Some(Stored::Profile(known)), asked),
        }
    }

    /// Nothing is known: the page waits for the source, as long as it waits at all.
    async fn pull_first(
        self: &Arc<Self>,
        known: &Profile,
        (source, who): (&Arc<dyn ProfileSource>, Asker),
        flying: &Flying,
    ) -> Lookup {
        let (key, own) = (&flying.key, &flying.own);
        let asked = Instant::now();
        let Some(update) = pull(key, known, &**source, who).await else {
            self.take_off_the_board(key, own);
            return Lookup::Failed;
        };
        let mut profile = known.clone();
        if let Err(why) = profile.merge(&update, now_millis()) {
            tracing::warn!(site = key.site(), %why, "a pulled profile is not taken");
            return self.land(key, own, State::Missing, asked);
        }
        // What the source said is right for now, whether or not the store takes it.
        let state = if profile.is_empty() { State::Missing } else { State::Profile(profile) };
        let lookup = self.remember(key, own, state, asked);
        flying.land.send_replace(Some(lookup.clone()));
        // It stays on the board until it is stored, so that nobody asks the source meanwhile.
        if let Err(error) = in_time(self.store.merge(key, &update)).await {
            tracing::warn!(site = key.site(), %error, "a pulled profile could not be stored");
        }
        self.take_off_the_board(key, own);
        lookup
    }

    /// Asks the source again, while pages use what is known.
    fn renew(self: &Arc<Self>, key: &ProfileKey, known: &Profile, source: &Arc<dyn ProfileSource>) {
        let mut renewing = self.renewing.lock().unwrap_or_else(PoisonError::into_inner);
        if renewing.len() >= MAX_FLIGHTS || !renewing.insert(key.clone()) {
            return;
        }
        drop(renewing);
        let renewing = Renewing { resolver: Arc::clone(self), key: key.clone() };
        let (known, source) = (known.clone(), Arc::clone(source));
        tokio::spawn(async move {
            let Renewing { resolver, key } = &renewing;
            if let Some(update) = pull(key, &known, &*source, Asker::Vouched).await {
                match resolver.merge(key, &update).await {
                    // The visitor is here: the next page finds it in memory.
                    Ok(()) => drop(resolver.board(key, None)),
                    Err(error) => {
                        tracing::warn!(site = key.site(), %error, "a pulled profile could not be stored");
                    }
                }
            }
        });
    }

    /// Remembers what was read at `asked`, unless something was written since; the lookup is over.
    fn land(&self, key: &ProfileKey, own: &Flight, state: State, asked: Instant) -> Lookup {
        let lookup = self.remember(key, own, state, asked);
        self.take_off_the_board(key, own);
        lookup
    }

    fn remember(&self, key: &ProfileKey, own: &Flight, state: State, asked: Instant) -> Lookup {
        let flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = state == State::Missing;
        // A write that came in between has taken the flight off the board: what it read may be old
        // and must not be remembered. The page that waits has asked before the write.
        let current = flights.get(key).is_some_and(|listed| listed.0.same_channel(&own.0));
        let entry = if current {
            self.memory.put(key, state, asked)
        } else {
            self.memory.unlisted(key, state, asked)
        };
        drop(flights);
        if missing { Lookup::Missing } else { Lookup::Found(Found { entry, stale: false }) }
    }

    fn take_off_the_board(&self, key: &ProfileKey, own: &Flight) {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if flights.get(key).is_some_and(|listed| listed.0.same_channel(&own.0)) {
            flights.remove(key);
        }
    }
}

/// The source, if it is to be asked for `key`, of which `known` is known.
fn due<'s>(source: Source<'s>, key: &ProfileKey, known: &Profile) -> Source<'s> {
    source.filter(|(source, _)| source.serves(key) && is_due(&known.pulled()))
}

/// Whether the source is to be asked: in the last fifth of what its answer holds for, or when it
/// never was asked.
fn is_due(pulled: &Pulled) -> bool {
    let holds = pulled.until.saturating_sub(pulled.at).max(0);
    now_millis() >= pulled.until.saturating_sub(holds / 5)
}

/// What the source says as an update of what is known: traits that it had said before and does not
/// say any more are deleted. `None` when it failed.
async fn pull(
    key: &ProfileKey,
    known: &Profile,
    source: &dyn ProfileSource,
    who: Asker,
) -> Option<Update> {
    let (asked, at) = (Instant::now(), now_millis());
    let pulled = source.pull(key, who).await;
    observe(Tier::Source, asked);
    let traits = match pulled {
        Ok(traits) => traits,
        Err(error) => {
            count(Tier::Source, ProfileResult::Error);
            tracing::debug!(site = key.site(), %error, "a profile could not be pulled");
            return None;
        }
    };
    let result = if traits.is_some() { ProfileResult::Hit } else { ProfileResult::Missing };
    count(Tier::Source, result);
    let holds = source.holds(traits.is_some());
    let until = at.saturating_add(i64::try_from(holds.as_millis()).unwrap_or(i64::MAX));
    let traits = traits.unwrap_or_default();
    let before = known.pulled().at;
    let gone: Vec<_> = known
        .traits()
        .filter(|one| before != 0 && one.at == before)
        .filter(|one| !traits.iter().any(|(name, _)| **name == *one.name))
        .map(|one| (one.name.into(), serde_json::Value::Null))
        .collect();
    let mut update = Update::new(at, traits.into_iter().chain(gone));
    update.pulled = Some(Pulled { at, until });
    Some(update)
}
