//! What the vendors were told is one visitor's each, and all that was acknowledged has come.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::ledger::{Owner, Scope};
use super::mark::Finds;
use super::nodes::World;
use crate::support::vendor::Vendor;

impl World {
    /// Waits until nothing is on its way any more.
    pub(super) async fn catches_up(&self) {
        let patience = Duration::from_mins(1) + Duration::from_millis(self.most / 4);
        let started = Instant::now();
        loop {
            let mut waiting = 0.0;
            for edge in &self.edges {
                waiting += edge.metric("doorstep_events_waiting", &[]).await;
            }
            let late = started.elapsed() > patience;
            if waiting > 0.5 && !late {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
            let missing = self.missing();
            if waiting < 0.5 && missing.is_empty() {
                return;
            }
            if late {
                let some: Vec<_> = missing.iter().take(5).collect();
                let missing = missing.len();
                self.ledger
                    .fault(format!("{waiting} events wait, {missing} have not come: {some:#?}"));
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Acknowledged, to be delivered, and not there.
    fn missing(&self) -> Vec<String> {
        let mut come: BTreeSet<String> = self.hits().into_iter().map(|(token, _)| token).collect();
        for vendor in [&self.segment, &self.rudderstack] {
            come.extend(vendor.delivered().iter().filter_map(message_of));
        }
        let sent = self.ledger.all_sent().into_iter();
        let missing = sent.filter(|(message, sent)| {
            let due = sent.acknowledged && !sent.withheld;
            // What waits of a person who is deleted is erased.
            due && !come.contains(message) && !self.ledger.is_deleted(sent.scope.life)
        });
        missing.map(|(message, _)| message).collect()
    }

    /// The calls that the vendor by rules got, by the request that they were.
    fn hits(&self) -> Vec<(String, Vec<u8>)> {
        let calls = self.hits.asked().into_iter().map(|asked| {
            let token = asked.header("x-ask").unwrap_or_default().to_owned();
            (token, [asked.head.as_bytes(), &asked.body].concat())
        });
        calls.collect()
    }

    /// All that the vendors were told.
    pub(super) fn judge_vendors(&self) {
        let sent = self.ledger.all_sent();
        for vendor in [&self.segment, &self.rudderstack] {
            self.judge_events(vendor, &sent);
        }
        for (token, call) in self.hits() {
            let Some(life) = self.ledger.life_in(&token) else {
                self.ledger.fault(format!("a call of nobody: {}", String::from_utf8_lossy(&call)));
                continue;
            };
            let number = Finds::of(token.as_bytes()).numbers.pop_first().map(|(_, number)| number);
            let scope = Scope { number, ..self.ledger.scope(life) };
            let mut wrong = self.ledger.judge(&scope, &Finds::of(&call));
            let text = String::from_utf8_lossy(&call).into_owned();
            let address = format!("\r\nx-forwarded-for: {}\r\n", self.ledger.life(life).address);
            if !text.to_ascii_lowercase().contains(&address) {
                wrong.push("another address".to_owned());
            }
            if sent.get(&token).is_some_and(|sent| sent.withheld) {
                wrong.push("what may not leave".to_owned());
            }
            self.tell(&wrong, "a call", &text);
        }
    }

    fn tell(&self, wrong: &[String], what: &str, text: &str) {
        if !wrong.is_empty() {
            self.ledger.fault(format!("the vendor gets {what} with {wrong:#?}:\n{text}"));
        }
    }

    fn judge_events(&self, vendor: &Vendor, sent: &HashMap<String, super::ledger::Message>) {
        let mut come: HashMap<String, Value> = HashMap::new();
        for event in vendor.delivered() {
            let Some(message) = message_of(&event) else {
                self.ledger.fault(format!("an event without id: {event:#}"));
                continue;
            };
            let mut wrong = Vec::new();
            // What nobody has acknowledged comes again, from the browser as well, and is of the same one. A first sight
            // is one for a browser, whoever uses it.
            let first_sight = message.starts_with("exposure-");
            let of =
                |event: &Value| ["anonymousId", "type", "userId"].map(|name| event[name].clone());
            let names = if first_sight { 1 } else { 3 };
            if let Some(before) = come.get(&message)
                && of(before)[..names] != of(&event)[..names]
            {
                wrong.push(format!("the id of another: {before:#}"));
            }
            let scope = match sent.get(&message) {
                Some(sent) => {
                    if sent.withheld {
                        wrong.push("what may not leave".to_owned());
                    }
                    Some(sent.scope.clone())
                }
                None => self.teller(&event),
            };
            match scope {
                Some(scope) => wrong.extend(self.judge_event(&scope, &event)),
                None => wrong.push("nobody".to_owned()),
            }
            self.tell(&wrong, "an event", &format!("{event:#}"));
            come.insert(message, event);
        }
    }

    /// Whose event it is that the edge itself tells: its ids and the page say so.
    fn teller(&self, event: &Value) -> Option<Scope> {
        let says = |text: &Value| self.ledger.life_in(text.as_str()?);
        // An id that its browser never got, because it was gone by then, is known by what it sent.
        let life = says(&event["anonymousId"]).or_else(|| says(&event["context"]["userAgent"]))?;
        self.ledger.saw(&format!("{} by the edge", event["type"]));
        Some(self.ledger.scope(life))
    }

    fn judge_event(&self, scope: &Scope, event: &Value) -> Vec<String> {
        let mut own = event.clone();
        // The edge makes one where the page has none.
        if let (Some(id), Some(own)) = (event["messageId"].as_str(), own.as_object_mut())
            && id.starts_with("edge-")
        {
            own.remove("messageId");
        }
        let number = None;
        let scope = Scope { number, ..scope.clone() };
        let mut wrong = self.ledger.judge(&scope, &Finds::of(own.to_string().as_bytes()));
        let context = &event["context"];
        let limited = context["consent"]["edge"] == "limited";
        let address =
            if limited { "0.0.0.0".to_owned() } else { self.ledger.life(scope.life).address };
        if context["ip"] != address.as_str() {
            wrong.push(format!("the address {}, not {address}", context["ip"]));
        }
        if limited {
            self.ledger.saw("events of somebody who allows little");
        }
        if limited && (event.get("userId").is_some() || context.get("profile").is_some()) {
            wrong.push("a user who does not allow it".to_owned());
        }
        if let Some(secret) = context["profile"]["secret"].as_str() {
            let (of, named) = (self.ledger.owners(secret), self.named_by(event));
            if !of.iter().any(|of| named.contains(of)) {
                wrong.push(format!("the profile of {of:?}, and the ids of {named:?}"));
            }
            self.ledger.saw("profiles in events");
        }
        wrong
    }

    /// Whose profile may stand in an event: the user's whom it names, else that of whoever has the browser.
    fn named_by(&self, event: &Value) -> Vec<Owner> {
        let owner = |name: &str| self.ledger.owner_in(event[name].as_str()?);
        match (owner("userId"), owner("anonymousId")) {
            (Some(user), _) => vec![user],
            (None, Some(Owner::Life(life))) => {
                let person = self.ledger.life(life).person;
                [Some(Owner::Life(life)), person.map(Owner::Person)].into_iter().flatten().collect()
            }
            _ => Vec::new(),
        }
    }
}

fn message_of(event: &Value) -> Option<String> {
    event["messageId"].as_str().map(str::to_owned)
}
