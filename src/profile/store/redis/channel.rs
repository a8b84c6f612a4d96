//! How a node hears of what other nodes write: one channel, on which every script tells what it has
//! changed. A channel of our own, and not the server's tracking of clients or keyspace events, because
//! it is one way for a single server, sentinels and a cluster alike (a cluster passes messages on to
//! all its nodes), costs the server no memory for each key, and tells who wrote when, so that the time
//! it takes can be measured. What is written past our scripts is not told: it shows within
//! `fresh_for`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use futures::StreamExt;
use redis::cmd;

use super::{Change, Redis, record};
use crate::profile::ProfileKey;
use crate::telemetry::metrics::PROFILE_PROPAGATION;

/// Every node says something that often.
const BEAT: Duration = Duration::from_secs(1);
/// Two beats and some time on the way: when nothing was heard for that long, nothing will be.
const SILENCE: Duration = Duration::from_millis(2500);
const PAUSE: Duration = Duration::from_millis(100);
/// Replicas know by then what the master was told.
const REPLICA_LAG: Duration = Duration::from_secs(1);
/// Changes that wait for replicas. When there are more, everything counts as changed.
const MAX_AGAIN: usize = 100_000;

/// What was heard.
struct Heard<'m> {
    node: &'m str,
    micros: u128,
    /// Nothing in a beat.
    name: &'m str,
}

fn read(message: &str) -> Option<Heard<'_>> {
    let (node, rest) = message.split_once('|')?;
    let (micros, name) = rest.split_once('|')?;
    Some(Heard { node, micros: micros.parse().ok()?, name })
}

/// Changes to be told once more, when replicas know of them.
#[derive(Default)]
struct Again {
    keys: VecDeque<(Instant, ProfileKey)>,
    everything: Option<Instant>,
}

impl Again {
    fn add(&mut self, key: ProfileKey) {
        let at = Instant::now() + REPLICA_LAG;
        if self.keys.len() < MAX_AGAIN {
            self.keys.push_back((at, key));
        } else {
            self.everything = Some(at);
        }
    }

    fn tell_due(&mut self, tell: &(dyn Fn(Change) + Send + Sync)) {
        let now = Instant::now();
        while self.keys.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, key)) = self.keys.pop_front() {
                tell(Change::Profile(key));
            }
        }
        if self.everything.take_if(|at| *at <= now).is_some() {
            tell(Change::Everything(now));
        }
    }
}

impl Redis {
    /// Hears changes for as long as it is polled.
    pub(super) async fn listen(&self, tell: &(dyn Fn(Change) + Send + Sync)) {
        tell(Change::Deaf);
        loop {
            match self.writing.subscribe(&self.channel).await {
                Ok(listening) => self.hear(listening, tell).await,
                Err(error) => tracing::debug!(%error, "changes of profiles can't be heard"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn hear(&self, mut listening: redis::aio::PubSub, tell: &(dyn Fn(Change) + Send + Sync)) {
        // From here on nothing is missed: what is read from now on is right until it is told
        // otherwise.
        tell(Change::Everything(Instant::now()));
        let mut messages = listening.on_message();
        let mut again = Again::default();
        let mut last = Instant::now();
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let wait = if again.keys.is_empty() && again.everything.is_none() {
                SILENCE.saturating_sub(last.elapsed())
            } else {
                Duration::from_millis(50)
            };
            tokio::select! {
                biased;
                message = messages.next() => match message {
                    Some(message) => {
                        last = Instant::now();
                        if let Some(heard) = read(&message.get_payload::<String>().unwrap_or_default()) {
                            self.note(&heard, &mut again, tell);
                        }
                    }
                    None => break,
                },
                _ = beat.tick() => self.beat(),
                () = self.renewed.notified() => return tell(Change::Deaf),
                () = tokio::time::sleep(wait) => {}
            }
            again.tell_due(tell);
            if last.elapsed() >= SILENCE {
                break;
            }
        }
        tell(Change::Deaf);
        tracing::warn!(
            "changes of profiles are not heard any more: the store is asked for each page"
        );
    }

    fn note(&self, heard: &Heard<'_>, again: &mut Again, tell: &(dyn Fn(Change) + Send + Sync)) {
        let Some(key) = record::key_of(heard.name) else { return };
        if heard.node == self.node {
            let written = Duration::from_micros(u64::try_from(heard.micros).unwrap_or(u64::MAX));
            let took = self.start.elapsed().saturating_sub(written);
            PROFILE_PROPAGATION.observe(took.as_secs_f64());
        }
        if self.options.load().read_from_replicas {
            again.add(key.clone());
        }
        tell(Change::Profile(key));
    }

    /// Says something, without waiting for it: whether it comes back is what counts.
    fn beat(&self) {
        let Some(connected) = self.writing.current() else { return };
        let (channel, message) = (self.channel.clone(), self.message(None));
        let timeout = self.options.load().timeout.max(BEAT);
        tokio::spawn(async move {
            let mut command = cmd("PUBLISH");
            command.arg(channel).arg(message);
            let mut master = connected.master.clone();
            // A beat that is lost is missed by all who listen.
            let _ = tokio::time::timeout(timeout, command.query_async::<()>(&mut master)).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nodes_say_is_heard() {
        let heard = read("n1|77|shop:user_id:a|b").unwrap();
        assert_eq!((heard.node, heard.micros, heard.name), ("n1", 77, "shop:user_id:a|b"));
        for other in ["", "n1", "n1|x|shop:user_id:a", "n1|5"] {
            assert!(read(other).is_none(), "{other}");
        }
    }
}
