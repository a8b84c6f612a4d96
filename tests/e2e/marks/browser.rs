//! A browser: its cookies, its connections, and who uses it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::timeout;

use super::ask::{Ask, Manner, Told, Upload};
use super::http1::{Line, ends};
use super::ledger::{Life, Owner, Scope};
use super::mark::{Class, mark, numbered};
use super::nodes::{Person, Site, World};
use super::random::Random;
use crate::support::PATIENCE;

/// What its user allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Consent {
    Given,
    Limited,
    Denied,
}

pub(super) struct Browser {
    pub(super) world: Arc<World>,
    pub(super) random: Random,
    pub(super) site: Site,
    pub(super) consent: Consent,
    pub(super) jar: BTreeMap<String, String>,
    /// From one logout to the next.
    pub(super) life: u64,
    /// In all that it sends meanwhile.
    pub(super) word: String,
    /// What was given to its own id.
    pub(super) own_secret: String,
    pub(super) person: Option<Person>,
    address: String,
    lines: BTreeMap<(usize, bool), Line>,
}

impl Browser {
    pub(super) fn new(world: Arc<World>, number: u64, site: Site) -> Self {
        let random = Random::of(world.seed, number);
        let address = format!("81.2.{}.{}", number / 250, 1 + number % 250);
        let mut browser = Self {
            world,
            random,
            site,
            consent: Consent::Given,
            jar: BTreeMap::new(),
            life: 0,
            word: String::new(),
            own_secret: String::new(),
            person: None,
            address,
            lines: BTreeMap::new(),
        };
        let life = browser.next_life();
        browser.begin(life);
        browser
    }

    /// A life that is to come.
    pub(super) fn next_life(&self) -> u64 {
        let life = self.world.ledger.number();
        self.world.ledger.lives(life, Life { person: None, address: self.address.clone() });
        life
    }

    /// Another life begins.
    pub(super) fn begin(&mut self, life: u64) {
        self.life = life;
        self.word = mark(Class::Browser, &mut self.random);
        self.own_secret = mark(Class::Secret, &mut self.random);
        for word in [&self.word, &self.own_secret] {
            self.world.ledger.own(word, Owner::Life(life));
        }
        self.person = None;
    }

    pub(super) fn scope(&self) -> Scope {
        let mut scope = self.world.ledger.scope(self.life);
        scope.tells = self.consent == Consent::Given;
        scope
    }

    /// A request for `target`, with what this browser says of itself.
    pub(super) fn ask(&self, kind: &'static str, method: &'static str, target: &str) -> Ask {
        let number = self.world.ledger.number();
        let token = numbered(&self.word, number);
        let cookies: Vec<String> =
            self.jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut headers = vec![
            ("Host", self.site.host().to_owned()),
            ("X-Forwarded-For", self.address.clone()),
            ("X-Ask", token.clone()),
            ("User-Agent", format!("Browser {}", self.word)),
            ("Accept-Encoding", "gzip".to_owned()),
        ];
        if !cookies.is_empty() {
            headers.push(("Cookie", cookies.join("; ")));
        }
        if self.consent == Consent::Denied {
            headers.push(("Sec-GPC", "1".to_owned()));
        }
        let scope = Scope { number: Some(number), ..self.scope() };
        Ask {
            kind,
            site: self.site,
            method,
            target: target.replace("TOKEN", &token),
            headers,
            upload: Upload::Nothing,
            manner: Manner::Whole,
            plan: String::new(),
            scope,
            token,
            keeps: true,
            statuses: &[200],
            echoes: false,
        }
    }

    /// Sends a request to one of the nodes, and judges what comes back.
    pub(super) async fn send(&mut self, ask: Ask) -> Told {
        let edge = self.random.below(self.world.edges.len());
        let secure = self.random.share(30);
        self.world.ledger.asked(ask.kind);
        let told = match timeout(PATIENCE, self.exchange(&ask, (edge, secure))).await {
            Ok(told) => told,
            Err(_) => {
                self.lines.remove(&(edge, secure));
                self.world.ledger.fault(format!("no answer within {PATIENCE:?} to {ask:#?}"));
                Told { answer: None, raw: Vec::new() }
            }
        };
        self.world.judge(&ask, &told);
        if ask.keeps {
            self.keep(&told);
        }
        told
    }

    async fn exchange(&mut self, ask: &Ask, way: (usize, bool)) -> Told {
        loop {
            let mut line = match self.lines.remove(&way) {
                Some(line) => line,
                None => Line::open(&self.world, way.0, way.1, ask.site.host()).await,
            };
            let stray = line.unread();
            if !stray.is_empty() {
                let stray = String::from_utf8_lossy(stray).into_owned();
                self.world.ledger.fault(format!("bytes that nobody asked for:\n{stray}"));
            }
            let told = line.exchange(ask).await;
            let closed = told.answer.is_none() && told.raw.is_empty();
            if closed && line.was_used() && ask.manner == Manner::Whole {
                // The edge has closed it meanwhile: a browser takes another.
                continue;
            }
            if !ends(&told) {
                self.lines.insert(way, line);
            }
            return told;
        }
    }

    /// Takes the cookies of an answer.
    fn keep(&mut self, told: &Told) {
        let Some(answer) = &told.answer else { return };
        for line in answer.all("set-cookie") {
            let (pair, attributes) = line.split_once(';').unwrap_or((line, ""));
            let Some((name, value)) = pair.split_once('=') else { continue };
            if attributes.contains("Max-Age=0") {
                self.jar.remove(name);
            } else {
                self.jar.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    pub(super) async fn run(mut self) {
        while self.world.ledger.goes_on(self.world.most) {
            self.act().await;
        }
    }

    async fn act(&mut self) {
        let ask = self.page();
        self.send(ask).await;
    }

    /// A page that a browser shows.
    pub(super) fn page(&mut self) -> Ask {
        let kind = *self.random.pick(&["one", "two", "three", "parsed"]);
        let plan = self.random.weighted(&[
            (3, "page"),
            (2, "page chunked"),
            (2, "page etag pad"),
            (2, "page etag pad shift"),
            (1, "page etag"),
            (1, "page weak"),
            (1, "page gzip"),
            (1, "page close"),
            (1, "page cookie"),
            (1, "page slow"),
        ]);
        let target = if self.random.share(50) {
            format!("/page/{kind}?n=TOKEN")
        } else {
            format!("/page/{kind}")
        };
        let mut ask = self.ask("page", "GET", &target).plan(plan).header("Accept", "text/html");
        ask.echoes = true;
        ask
    }
}
