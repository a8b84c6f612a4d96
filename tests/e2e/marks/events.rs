//! Requests that the edge answers: events, what a page asks of its visitor, files of the SDK, pushes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::ask::{Ask, Manner, Upload};
use super::browser::{Browser, Consent};
use super::ledger::{Message, Owner, Scope};
use super::mark::{Class, mark};
use super::nodes::{Person, Site};
use crate::support::edge::WRITE_KEY;

/// Whose event it is.
pub(super) struct EventIds {
    pub(super) word: String,
    pub(super) anonymous: Option<String>,
    pub(super) user: Option<String>,
}

impl Browser {
    /// The browser's id, as its cookie has it.
    pub(super) fn anonymous(&self) -> Option<String> {
        self.jar.get("ajs_anonymous_id").cloned()
    }

    /// A browser without an id makes one for itself.
    pub(super) fn made_id(&self) -> String {
        format!("a-{}-{}", self.word, self.world.ledger.number())
    }

    /// What an event of this browser says of whose it is.
    pub(super) fn named(&mut self) -> EventIds {
        let says = self.random.share(70);
        let anonymous = match self.anonymous() {
            Some(known) => Some(known).filter(|_| says),
            None => Some(self.made_id()),
        };
        let person = self.person.as_ref().filter(|_| says).map(|person| person.id.clone());
        EventIds { word: self.word.clone(), anonymous, user: person }
    }

    /// One event.
    pub(super) fn event_body(&mut self, kind: &str, named: &EventIds) -> (String, Value) {
        let word = &named.word;
        let message = format!("{word}.m{}", self.world.ledger.number());
        let host = self.site.host();
        let mut event = json!({
            "messageId": message,
            "properties": { "of": word, "email": format!("{word}@{host}") },
            "context": {
                "page": { "url": format!("https://{host}/{word}?q={word}"), "path": format!("/{word}") },
                "campaign": { "source": word },
            },
        });
        match kind {
            "track" => event["event"] = format!("Bought {word}").into(),
            "identify" => event["traits"] = json!({ "name": word }),
            "group" => event["groupId"] = format!("g-{word}").into(),
            "page" => event["name"] = format!("Page {word}").into(),
            _ => {}
        }
        if let Some(anonymous) = &named.anonymous {
            event["anonymousId"] = anonymous.clone().into();
        }
        if let Some(user) = &named.user {
            event["userId"] = user.clone().into();
        }
        (message, event)
    }

    /// An event, or several, on one of the ways that browsers send them.
    pub(super) async fn event(&mut self) {
        let kind = *self.random.pick(&["track", "page", "group", "identify"]);
        let named = self.named();
        // Where nobody is logged in, traits are given to the browser's id.
        let count = if self.random.share(25) { 1 + self.random.below(4) } else { 0 };
        let rudder = self.random.share(40);
        let (mut messages, mut events) = (Vec::new(), Vec::new());
        for _ in 0..count.max(1) {
            let (message, mut event) = self.event_body(kind, &named);
            event["type"] = kind.into();
            messages.push(message);
            events.push(event);
        }
        let batched = count > 0;
        let path = match (rudder, batched) {
            (false, false) => {
                let letter = self.random.share(50);
                format!("/seg/evs/{}", if letter { &kind[..1] } else { kind })
            }
            (false, true) => "/seg/evs/b".to_owned(),
            (true, false) => format!("/seg/v1/{kind}"),
            (true, true) if self.random.share(50) => "/seg/v1/batch".to_owned(),
            (true, true) => "/seg/beacon/v1/batch?writeKey=REDACTED".to_owned(),
        };
        let body = if batched { json!({ "batch": events }) } else { events.remove(0) };
        let mut ask = self.ask("event", "POST", &path).header("Content-Type", "text/plain");
        if batched {
            ask.kind = "batch of events";
        }
        if rudder {
            ask.kind = "event of RudderStack";
            let id = STANDARD.encode(named.anonymous.unwrap_or_default());
            ask = ask.header("AnonymousId", id);
        }
        let ask = self.with_body(ask, body.to_string().into_bytes());
        let withheld = match self.consent {
            Consent::Given => false,
            Consent::Limited => matches!(kind, "group" | "identify"),
            Consent::Denied => true,
        };
        self.send_events(ask, &messages, withheld).await;
    }

    /// Sends events, and notes them where they were acknowledged.
    pub(super) async fn send_events(&mut self, ask: Ask, messages: &[String], withheld: bool) {
        let (scope, abandoned) = (ask.scope.clone(), ask.manner != Manner::Whole);
        let status = self.send(ask).await.status();
        let acknowledged = status == 200 && !abandoned;
        for message in messages {
            let sent = Message { scope: scope.clone(), acknowledged, withheld };
            self.world.ledger.sent(message, sent);
        }
    }

    /// A body in one of the ways that it can come.
    fn with_body(&mut self, ask: Ask, body: Vec<u8>) -> Ask {
        match self.random.below(12) {
            0 | 1 => ask.upload(Upload::Pieces(vec![body, Vec::new()])),
            2 => {
                let end = body.len() / 2;
                ask.upload(Upload::Pieces(vec![body[..end].to_vec(), body[end..].to_vec()]))
            }
            3 => {
                let mut ask = ask.upload(Upload::Sized(body)).hostile();
                (ask.kind, ask.manner) = ("event that breaks off", Manner::Abandoned);
                ask
            }
            4 => {
                use std::io::Write;
                let mut gzip =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                gzip.write_all(&body).unwrap();
                let body = gzip.finish().unwrap();
                ask.header("Content-Encoding", "gzip").upload(Upload::Sized(body))
            }
            _ => ask.upload(Upload::Sized(body)),
        }
    }

    pub(super) fn traits(&mut self) -> Ask {
        let referrer = format!("http://{}/page/one?of={}", self.site.host(), self.word);
        self.ask("traits", "GET", "/seg/traits").header("Referer", referrer)
    }

    /// What pages ask the edge for.
    pub(super) fn asset(&mut self) -> Ask {
        let settings = format!("/seg/v1/projects/{WRITE_KEY}/settings");
        let (kind, target) = self.random.weighted(&[
            (4, ("snippet as a file", "/seg/snippet.js")),
            (1, ("snippet as a file", "/seg/snippet.js?page=0")),
            (4, ("SDK", "/seg/assets/sdk.js")),
            (1, ("SDK", settings.as_str())),
            (1, ("SDK", "/seg/analytics-next/bundles/a.bundle.1.js")),
            (1, ("SDK", "/seg/analytics-next/bundles/short.js")),
            (1, ("SDK", "/seg/v3/modern/rsa.min.js")),
            (1, ("SDK", "/seg/sourceConfig/?writeKey=REDACTED")),
            (1, ("SDK", "/seg/keep.js")),
        ]);
        let referrer = format!("http://{}/page/one?of={}", self.site.host(), self.word);
        let ask = self.ask(kind, "GET", target).header("Referer", referrer);
        // Files are withheld where nothing is allowed; without pages there is no snippet.
        ask.answered(match self.site {
            Site::Beside => &[200, 204, 404],
            _ => &[200, 204],
        })
    }

    /// A call that a vendor answers in line, or that is kept for it.
    pub(super) async fn call(&mut self) {
        let kept = self.random.share(60);
        let method = if self.random.share(50) { "GET" } else { "POST" };
        let target = if kept { "/seg/hit?n=TOKEN" } else { "/seg/line/x?n=TOKEN" };
        let kind = if kept { "call that is kept" } else { "call in line" };
        let mut ask = self.ask(kind, method, target);
        if self.random.share(20) {
            ask = ask.header("Origin", "https://partner.test");
        }
        let body = format!("id={}&token={}", self.word, ask.token).into_bytes();
        if method == "POST" {
            ask = self.with_body(ask, body).without("Content-Encoding");
        }
        let gives = self.consent == Consent::Given;
        ask.statuses = match (ask.statuses, gives && !kept) {
            ([], _) => &[],
            (_, true) => &[200],
            (_, false) => &[204],
        };
        let (scope, token) = (ask.scope.clone(), ask.token.clone());
        let whole = ask.manner == Manner::Whole;
        let status = self.send(ask).await.status();
        if kept {
            let acknowledged = whole && status == 204;
            self.world.ledger.sent(&token, Message { scope, acknowledged, withheld: !gives });
        }
    }

    /// Cookies that RudderStack's SDK wants set.
    pub(super) fn cookies(&mut self) -> Ask {
        let wanted = json!({"reqType": "setCookies", "workspaceId": "w1", "data": {
            "options": {"maxAge": 60_000, "path": "/"},
            "cookies": [{"name": "rl_session", "value": self.word}]}});
        let body = Upload::Sized(wanted.to_string().into_bytes());
        self.ask("cookies of RudderStack", "POST", "/seg/rsaRequest").upload(body)
    }

    /// What is known of a new user is pushed by the vendor.
    pub(super) async fn new_person(&mut self) -> Person {
        let number = self.world.ledger.number();
        let id = mark(Class::User, &mut self.random);
        let secret = mark(Class::Secret, &mut self.random);
        for word in [&id, &secret] {
            self.world.ledger.own(word, Owner::Person(number));
        }
        let person = Person { number, id: format!("u-{id}"), secret };
        self.world.add_person(self.site, &person);
        self.push(std::slice::from_ref(&person)).await;
        person
    }

    /// What the vendor knows of users, and of this browser.
    pub(super) async fn push(&mut self, persons: &[Person]) {
        let mut documents: Vec<Value> = Vec::new();
        for person in persons {
            let plan = *self.random.pick(&["gold", "gold", "gold", "basic", "moved"]);
            documents.push(json!({"type": "identify", "userId": person.id,
                "traits": { "secret": person.secret, "plan": plan }}));
        }
        if self.person.is_none()
            && let Some(anonymous) = self.anonymous()
        {
            documents.push(json!({"type": "identify", "anonymousId": anonymous,
                "traits": { "secret": self.own_secret }}));
        }
        if documents.is_empty() {
            return;
        }
        let body = Value::from(documents).to_string().into_bytes();
        let ask = self.by_the_vendor("push", "POST", "/seg/profiles-webhook");
        self.send(ask.upload(Upload::Sized(body))).await;
    }

    /// A user is to be forgotten.
    pub(super) async fn erase(&mut self) {
        let persons = self.world.persons(self.site);
        if persons.is_empty() {
            return;
        }
        let person = self.random.pick(&persons).clone();
        self.world.ledger.delete(person.number);
        self.world.remove_person(self.site, &person);
        let ask = if self.random.share(50) {
            let target = format!("/seg/profiles-webhook?user_id={}", person.id);
            self.by_the_vendor("deletion", "DELETE", &target)
        } else {
            let body = json!({"type": "delete", "userId": person.id}).to_string();
            let ask = self.by_the_vendor("deletion", "POST", "/seg/personas");
            ask.upload(Upload::Sized(body.into_bytes()))
        };
        self.send(ask).await;
    }

    /// A request of nobody's browser: nothing of anybody may stand in its answer.
    fn by_the_vendor(&mut self, kind: &'static str, method: &'static str, target: &str) -> Ask {
        let mut ask = self.ask(kind, method, target).without("Cookie").without("Sec-GPC");
        let nobody = Scope { person: None, typed: Vec::new(), tells: false, ..ask.scope };
        (ask.scope, ask.keeps) = (nobody, false);
        ask.header("Authorization", "Basic dTpw")
    }
}
