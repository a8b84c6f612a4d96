//! A browser: its cookies, its connections, and who uses it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::timeout;

use super::ask::{Ask, Manner, Response, Upload};
use super::http1::{Line, ends};
use super::http2::SHARED;
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

/// What is said and known of a browser from one logout to the next.
pub(super) struct NextLife {
    pub(super) number: u64,
    pub(super) word: String,
    own_secret: String,
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
    pub(super) fn next_life(&mut self) -> NextLife {
        let ledger = &self.world.ledger;
        let number = ledger.number();
        ledger.lives(number, Life { person: None, address: self.address.clone() });
        let word = mark(Class::Browser, &mut self.random);
        let own_secret = mark(Class::Secret, &mut self.random);
        for word in [&word, &own_secret] {
            ledger.own(word, Owner::Life(number));
        }
        NextLife { number, word, own_secret }
    }

    /// Another life begins.
    pub(super) fn begin(&mut self, next: NextLife) {
        (self.life, self.word, self.own_secret) = (next.number, next.word, next.own_secret);
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
    pub(super) async fn send(&mut self, ask: Ask) -> Response {
        self.world.ledger.asked(ask.kind);
        let way = self.way(&ask);
        let response = match timeout(PATIENCE, self.exchange(&ask, way)).await {
            Ok(response) => response,
            Err(_) => {
                self.world.ledger.fault(format!("no answer within {PATIENCE:?} to {ask:#?}"));
                Response { answer: None, raw: Vec::new() }
            }
        };
        self.world.judge(&ask, &response);
        if ask.keeps {
            self.keep(&response);
        }
        response
    }

    fn way(&mut self, ask: &Ask) -> Way {
        let edge = self.random.below(self.world.edges.len());
        let only_http1 = matches!(ask.upload, Upload::Raw(_)) || ask.manner == Manner::Asked;
        if only_http1 || self.random.share(50) {
            return Way::Http1 { edge, secure: self.random.share(30) };
        }
        Way::Http2 { edge, shared: self.random.below(SHARED) }
    }

    async fn exchange(&mut self, ask: &Ask, way: Way) -> Response {
        match way {
            Way::Http1 { edge, secure } => self.over_http1(ask, (edge, secure)).await,
            Way::Http2 { edge, shared } => {
                self.world.shared[edge][shared].exchange(&self.world, edge, ask).await
            }
        }
    }

    async fn over_http1(&mut self, ask: &Ask, way: (usize, bool)) -> Response {
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
            let response = line.exchange(ask).await;
            let closed = response.answer.is_none() && response.raw.is_empty();
            if closed && line.was_used() && ask.manner == Manner::Whole {
                // The edge has closed it meanwhile: a browser takes another.
                continue;
            }
            if !ends(&response) {
                self.lines.insert(way, line);
            }
            return response;
        }
    }

    /// Takes the cookies of an answer.
    pub(super) fn keep(&mut self, response: &Response) {
        let Some(answer) = &response.answer else { return };
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
            if self.site == Site::Beside {
                self.act_beside().await;
            } else {
                self.act().await;
            }
        }
    }

    /// The next thing that its user does.
    async fn act(&mut self) {
        let act = self.random.weighted(&[
            (200, Act::Page),
            (80, Act::File),
            (20, Act::Head),
            (40, Act::Spoilt),
            (20, Act::Left),
            (100, Act::Upload),
            (20, Act::Asked),
            (30, Act::Abandoned),
            (30, Act::Early),
            (20, Act::BrokenChunks),
            (30, Act::Unread),
            (15, Act::Pipeline),
            (5, Act::Tunnel),
            (120, Act::Event),
            (40, Act::Traits),
            (50, Act::Asset),
            (40, Act::Call),
            (10, Act::Cookies),
            (15, Act::Push),
            (2, Act::Erase),
            (50, Act::LogIn),
            (20, Act::LogOut),
            (10, Act::TakeOver),
            (15, Act::ChangeMind),
            (100, Act::Pretend),
        ]);
        self.make(act).await;
    }

    /// The same where the edge does not see the pages.
    async fn act_beside(&mut self) {
        let act = self.random.weighted(&[
            (40, Act::Event),
            (20, Act::Traits),
            (60, Act::Asset),
            (20, Act::Call),
            (5, Act::Cookies),
            (5, Act::Push),
            (1, Act::Erase),
            (20, Act::LogIn),
            (10, Act::LogOut),
            (5, Act::TakeOver),
            (8, Act::ChangeMind),
        ]);
        self.make(act).await;
    }

    async fn make(&mut self, act: Act) {
        let ask = match act {
            Act::Page => self.page(),
            Act::File => self.file(),
            Act::Head => self.head(),
            Act::Spoilt => self.spoilt(),
            Act::Left => self.left(),
            Act::Upload => self.upload(),
            Act::Asked => self.asked(),
            Act::Abandoned => self.abandoned(),
            Act::Early => self.early(),
            Act::BrokenChunks => self.broken_chunks(),
            Act::Unread => self.unread(),
            Act::Traits => self.traits(),
            Act::Asset => self.asset(),
            Act::Cookies => self.cookies(),
            Act::Pipeline => return self.pipeline().await,
            Act::Tunnel => return self.tunnel().await,
            Act::Event => return self.event().await,
            Act::Call => return self.call().await,
            Act::Push => {
                let person: Vec<Person> = self.person.iter().cloned().collect();
                return self.push(&person).await;
            }
            Act::Erase => return self.erase().await,
            Act::LogIn => return self.log_in().await,
            Act::LogOut => return self.log_out().await,
            Act::TakeOver => return self.take_over().await,
            Act::ChangeMind => return self.change_mind(),
            Act::Pretend => return self.pretend().await,
        };
        self.send(ask).await;
    }
}

/// How a request goes.
#[derive(Debug, Clone, Copy)]
enum Way {
    Http1 {
        edge: usize,
        secure: bool,
    },
    /// With those of other browsers.
    Http2 {
        edge: usize,
        shared: usize,
    },
}

/// What a browser does.
#[derive(Debug, Clone, Copy)]
enum Act {
    Page,
    File,
    Head,
    Spoilt,
    Left,
    Upload,
    Asked,
    Abandoned,
    Early,
    BrokenChunks,
    Unread,
    Pipeline,
    Tunnel,
    Event,
    Traits,
    Asset,
    Call,
    Cookies,
    Push,
    Erase,
    LogIn,
    LogOut,
    TakeOver,
    ChangeMind,
    Pretend,
}
