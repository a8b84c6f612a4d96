//! How many files may be fetched from vendors' CDNs: anybody can ask for files that nobody has asked for before.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use pingora_limits::rate::Rate;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::limits::household;

/// Counts fetches under way and those of this second.
pub(super) struct Fetches {
    at_once: Arc<Semaphore>,
    sites: Rate,
    clients: Rate,
    all: Rate,
}

/// Room for one fetch, given back when it is dropped.
pub(super) struct Fetching(#[allow(dead_code, reason = "held")] [OwnedSemaphorePermit; 2]);

/// Fetches of all sites at one time.
const AT_ONCE: usize = 64;
/// How long a fetch waits for its turn.
const TURN: Duration = Duration::from_secs(2);
/// What is too much in this second comes in the next.
const AGAIN: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
/// Fetches a second: of a site, which has about 30 files in use, for one address, and of all sites together.
const SITE_A_SECOND: isize = 60;
const CLIENT_A_SECOND: isize = 40;
const A_SECOND: isize = 240;

impl Default for Fetches {
    fn default() -> Self {
        let (sites, clients, all) = (Rate::new(SECOND), Rate::new(SECOND), Rate::new(SECOND));
        Self { at_once: Arc::new(Semaphore::new(AT_ONCE)), sites, clients, all }
    }
}

impl Fetches {
    /// Room for one more of `site`, which has `slots` of its own. `None` where there is none: what is stored serves,
    /// or the client comes again. What renews an old file waits for nobody, and no client asks for it.
    pub(super) async fn enter(
        &self,
        site: &str,
        slots: &Arc<Semaphore>,
        client: Option<IpAddr>,
    ) -> Option<Fetching> {
        let client = client.map(household);
        let entering = async {
            while !self.may_go(site, client) {
                tokio::time::sleep(AGAIN).await;
            }
            let own = Arc::clone(slots).acquire_owned().await.ok()?;
            Some(Fetching([own, Arc::clone(&self.at_once).acquire_owned().await.ok()?]))
        };
        tokio::time::timeout(TURN, entering).await.ok().flatten()
    }

    /// Whether one more goes in this second. Then it is counted.
    fn may_go(&self, site: &str, client: Option<u128>) -> bool {
        let goes = |count: isize| {
            let own = client.map_or(0, |client| self.clients.observe(&client, count));
            own <= CLIENT_A_SECOND - (1 - count)
                && self.sites.observe(&site, count) <= SITE_A_SECOND - (1 - count)
                && self.all.observe(&(), count) <= A_SECOND - (1 - count)
        };
        goes(0) && goes(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::Sdk;

    #[tokio::test(start_paused = true)]
    async fn a_site_has_a_share_and_one_client_a_part_of_that() {
        let fetches = Fetches::default();
        let slots = || Arc::new(Semaphore::new(Sdk::FETCHES_AT_ONCE));
        let (one, other) = (slots(), slots());
        let client = |last: u16| Some(IpAddr::from(std::net::Ipv4Addr::from(u32::from(last))));
        let mut own = Vec::new();
        for number in 0..Sdk::FETCHES_AT_ONCE {
            let client = client(u16::try_from(number).unwrap());
            own.push(fetches.enter("one", &one, client).await.unwrap());
        }
        assert!(fetches.enter("one", &one, None).await.is_none(), "it waits, and goes");
        assert!(fetches.enter("other", &other, client(1)).await.is_some());
        own.pop();
        assert!(fetches.enter("one", &one, None).await.is_some());

        let fetches = Fetches::default();
        let taken = |site: &str, client| isize::from(fetches.may_go(site, client));
        let one: isize = (0..200).map(|_| taken("a", Some(7))).sum();
        assert_eq!(one, CLIENT_A_SECOND);
        let many: isize = (100..300).map(|client| taken("b", Some(client))).sum();
        assert_eq!(many, SITE_A_SECOND);
        let all: isize = (0..900).map(|site| taken(&format!("s{}", site % 30), None)).sum();
        assert_eq!(one + many + all, A_SECOND);
    }
}
