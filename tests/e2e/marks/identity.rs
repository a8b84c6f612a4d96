//! Who uses a browser: people come, go, and say that they are others.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

use super::ask::{Ask, Upload};
use super::browser::{Browser, Consent, NextLife};
use super::events::EventIds;
use super::ledger::{Life, Message, Owner, Scope};
use super::nodes::{HASH_SECRET, Person, Site};

/// Somebody whose ids others may say.
#[derive(Debug, Clone)]
pub(super) struct Victim {
    pub(super) life: u64,
    pub(super) person: Person,
    pub(super) anonymous: String,
}

fn hash_of(user: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, HASH_SECRET.as_bytes());
    let mut out = String::new();
    for byte in hmac::sign(&key, user.as_bytes()).as_ref() {
        out.push_str(&format!("{byte:02x}"));
    }
    out
}

/// As RudderStack's SDK writes an id into a cookie.
fn packed(id: &str) -> String {
    format!("RS_ENC_v3_{}", STANDARD.encode(format!("\"{id}\"")).replace('=', "%3D"))
}

impl Browser {
    /// Somebody new, or somebody who is at another browser as well.
    async fn somebody(&mut self) -> Person {
        let others: Vec<Person> = self
            .world
            .persons(self.site)
            .into_iter()
            .filter(|one| self.person.as_ref().is_none_or(|own| own.number != one.number))
            .collect();
        if others.is_empty() || self.random.share(70) {
            return self.new_person().await;
        }
        self.random.pick(&others).clone()
    }

    fn is_now(&mut self, person: &Person) {
        let life = Life { person: Some(person.number), ..self.world.ledger.life(self.life) };
        self.world.ledger.lives(self.life, life);
        // What is known of the browser goes along.
        self.world.ledger.own(&self.own_secret, Owner::Person(person.number));
        self.person = Some(person.clone());
    }

    /// A user comes, whom nobody has been before at this browser since the last logout.
    pub(super) async fn log_in(&mut self) {
        if self.consent != Consent::Given || self.person.is_some() {
            return;
        }
        let person = self.somebody().await;
        self.is_now(&person);
        match self.site {
            Site::Signed if self.random.share(60) => self.identify(&person, true).await,
            Site::Signed | Site::Checked => {
                let sid = format!("s-{}", self.word);
                if !self.log_in_at_the_site(&person, &sid, None).await {
                    self.be_checked(&[], "").await;
                }
            }
            Site::Plain | Site::Beside => self.identify(&person, false).await,
        }
        if let (Some(anonymous), true) = (self.anonymous(), self.site.is_strict()) {
            let victim = Victim { life: self.life, person, anonymous };
            self.world.add_victim(self.site, victim);
        }
    }

    /// At the site's own form, with the session `sid`. Whether the site says at once who it is: otherwise the next
    /// page's check does.
    async fn log_in_at_the_site(
        &mut self,
        person: &Person,
        sid: &str,
        over: Option<&Scope>,
    ) -> bool {
        let vouches = self.site == Site::Signed || self.random.share(50);
        let vouch = if vouches { " vouch" } else { "" };
        let moved = if self.random.share(50) { " moved" } else { "" };
        let plan = format!("user={} sid={sid}{vouch}{moved}", person.id);
        let post = self.random.share(50);
        let mut ask = self.ask("login", if post { "POST" } else { "GET" }, "/login").plan(&plan);
        if post {
            ask = ask.upload(Upload::Sized(format!("name={}", self.word).into_bytes()));
        }
        if let Some(scope) = over {
            let number = ask.scope.number;
            // Where the edge is not told, the page is still that of the user before.
            ask.scope = Scope { number, tells: !vouches, ..scope.clone() };
            // What the other's browser says goes to no event of the one who comes.
            ask = ask.header("User-Agent", "Browser");
        }
        self.send_or_clear(ask.header("Accept", "text/html").answered(&[200, 302])).await;
        vouches
    }

    /// Where the answer is lost that says who the browser is from now on, its cookies are thrown away.
    async fn send_or_clear(&mut self, ask: Ask) -> u16 {
        let status = self.send(ask).await.status();
        if status == 0 || status >= 500 {
            self.jar.clear();
        }
        status
    }

    /// A page for which the site is asked who it is, whatever ids the browser still says. `before`: whose they are.
    async fn be_checked(&mut self, before: &[Owner], ids: &str) {
        let mut ask = self.ask("login", "GET", "/login").plan("").header("Accept", "text/html");
        ask.scope.typed = before.to_vec();
        let ask = ask.header("User-Agent", "Browser").header("X-Types", ids);
        self.send_or_clear(ask).await;
    }

    /// An `identify` of the page, which it may have signed.
    async fn identify(&mut self, person: &Person, signed: bool) {
        let anonymous = self.anonymous().unwrap_or_else(|| self.made_id());
        let user = Some(person.id.clone());
        let named = EventIds { word: self.word.clone(), anonymous: Some(anonymous), user };
        let (message, mut event) = self.event_body("identify", &named);
        if signed {
            event["context"]["user_hash"] = hash_of(&person.id).into();
        }
        let ask = self.ask("login by an event", "POST", "/seg/evs/i");
        let ask = ask.upload(Upload::Sized(event.to_string().into_bytes()));
        self.send_events(ask, &[message], false).await;
    }

    /// The user goes, and the browser is nobody's: on the very answer nothing of the user shows any more.
    pub(super) async fn log_out(&mut self) {
        if self.consent != Consent::Given || self.person.is_none() {
            return;
        }
        let next = self.next_life();
        if !self.jar.contains_key("ajs_user_id") {
            // Its login did not come through: there is nobody to log out.
            self.jar.clear();
            return self.begin(next);
        }
        let resets = self.site == Site::Beside || self.random.share(30);
        if self.site == Site::Checked && (resets || self.random.share(50)) {
            // The session ends; the edge learns it with the next request.
            let ask = self.logout("", self.scope());
            self.send(ask).await;
            self.jar.remove("sid");
        }
        let gone = Scope { becomes: next.number, tells: false, ..self.scope() };
        let plan = if resets {
            if self.random.share(50) {
                self.say_the_next_id(&next).await;
            }
            let mut ask = self.ask("reset", "POST", "/seg/reset");
            ask.scope = Scope { number: ask.scope.number, ..gone.clone() };
            self.send_or_clear(ask).await;
            None
        } else {
            Some(*self.random.pick(&["bye", "ends", "bye moved", "ends moved"]))
        };
        if let Some(plan) = plan {
            let ask = self.logout(plan, gone);
            self.send_or_clear(ask).await;
        }
        self.begin(next);
        self.forget_cookies_of_the_site();
        self.world.ledger.saw("browsers whose user has gone");
    }

    /// The SDK has forgotten the user, and tells something of the browser's next id; the cookies still name the user.
    async fn say_the_next_id(&mut self, next: &NextLife) {
        let anonymous = Some(format!("a-{}", next.word));
        let ids = EventIds { word: next.word.clone(), anonymous, user: None };
        let (message, event) = self.event_body("track", &ids);
        let mut ask = self.ask("event of the next id", "POST", "/seg/evs/t");
        (ask.scope.becomes, ask.scope.tells) = (next.number, false);
        let ask = ask.header("User-Agent", "Browser");
        let ask = ask.upload(Upload::Sized(event.to_string().into_bytes()));
        let acknowledged = self.send(ask).await.status() == 200;
        let scope = self.world.ledger.scope(next.number);
        self.world.ledger.sent(&message, Message { scope, acknowledged, withheld: false });
    }

    /// What the site and the SDK keep for themselves goes by their own scripts.
    fn forget_cookies_of_the_site(&mut self) {
        for name in ["sid", "own", "rl_session"] {
            self.jar.remove(name);
        }
    }

    /// A request by which the site ends the session. Nothing of the browser's user may come to an event of whoever
    /// is there afterwards, so it says nothing itself.
    fn logout(&mut self, plan: &str, scope: Scope) -> Ask {
        let method = if self.random.share(50) { "POST" } else { "GET" };
        let mut ask = self.ask("logout", method, "/logout").plan(plan);
        ask.scope = Scope { number: ask.scope.number, ..scope };
        let ask = ask.header("Accept", "text/html").header("User-Agent", "Browser");
        ask.answered(&[200, 302])
    }

    /// Another user comes while one is there.
    pub(super) async fn take_over(&mut self) {
        let known = self.person.is_some() && self.jar.contains_key("ajs_user_id");
        if self.consent != Consent::Given || !known {
            return;
        }
        let person = self.somebody().await;
        let next = self.next_life();
        let mut scope = Scope { becomes: next.number, tells: false, ..self.scope() };
        scope.typed.push(Owner::Person(person.number));
        let life = Life { person: Some(person.number), ..self.world.ledger.life(next.number) };
        self.world.ledger.lives(next.number, life);
        let before = [Owner::Life(self.life), Owner::Person(self.person.as_ref().unwrap().number)];
        let cookies: Vec<String> = self.jar.values().cloned().collect();
        if self.site.is_strict() {
            let sid = format!("s-{}", next.word);
            let vouched = self.log_in_at_the_site(&person, &sid, Some(&scope)).await;
            self.begin(next);
            self.is_now(&person);
            self.forget_cookies_of_the_site();
            self.jar.insert("sid".to_owned(), sid);
            if !vouched {
                // That page is still the user's before, and may have set a newer trait.
                let trait_of_page = self.jar.get("secret_trait").cloned();
                let typed: Vec<String> = cookies.into_iter().chain(trait_of_page).collect();
                self.be_checked(&before, &typed.join(" ")).await;
            }
        } else {
            // The SDK gives the browser another id then, and knows nothing of the closed cookies.
            self.begin(next);
            self.is_now(&person);
            let anonymous = Some(self.made_id());
            let named =
                EventIds { word: self.word.clone(), anonymous, user: Some(person.id.clone()) };
            let (message, event) = self.event_body("identify", &named);
            let ask = self.ask("login by an event", "POST", "/seg/evs/i");
            let ask = ask.header("User-Agent", "Browser");
            let ask = ask.upload(Upload::Sized(event.to_string().into_bytes()));
            let scope = ask.scope.clone();
            let acknowledged = self.send_or_clear(ask).await == 200;
            let sent = Message { scope, acknowledged, withheld: false };
            self.world.ledger.sent(&message, sent);
            self.forget_cookies_of_the_site();
        }
        self.world.ledger.saw("users who came in another's place");
    }

    /// The user allows more or less than before.
    pub(super) fn change_mind(&mut self) {
        self.consent = self.random.weighted(&[
            (6, Consent::Given),
            (1, Consent::Limited),
            (1, Consent::Denied),
        ]);
        self.jar.remove("consent");
        if self.consent == Consent::Limited {
            self.jar.insert("consent".to_owned(), "little".to_owned());
        }
        if self.consent != Consent::Given {
            // The page keeps it no longer.
            self.jar.remove("secret_trait");
        }
    }

    /// Somebody says another's ids: they come back, and nothing else of the other's.
    pub(super) async fn pretend(&mut self) {
        let victims = self.world.victims(self.site);
        if victims.is_empty() || self.consent != Consent::Given {
            return;
        }
        let victim = self.random.pick(&victims).clone();
        if victim.life == self.life
            || self.person.as_ref().is_some_and(|own| own.number == victim.person.number)
        {
            return;
        }
        let own = self.jar.clone();
        self.say_ids_of(&victim);
        let (ask, message) = match self.random.below(4) {
            // A page that counts would be told to the vendor, as who the browser says to be.
            0 => (self.page().header("User-Agent", "Robot"), None),
            1 => (self.traits(), None),
            2 => (self.ask("", "GET", "/seg/snippet.js"), None),
            _ => self.event_of_another(&victim),
        };
        self.jar = own;
        let mut ask = ask.header("X-Types", format!("{} {}", victim.person.id, victim.anonymous));
        (ask.kind, ask.keeps) = ("somebody who says to be another", false);
        ask.scope.typed = vec![Owner::Person(victim.person.number), Owner::Life(victim.life)];
        if let Some(message) = message {
            // Deleting the other erases it.
            let (scope, acknowledged) = (ask.scope.clone(), false);
            let sent = Message { scope, acknowledged, withheld: false };
            self.world.ledger.sent(&message, sent);
        }
        self.send(ask).await;
    }

    fn say_ids_of(&mut self, victim: &Victim) {
        let (user, anonymous) = (&victim.person.id, &victim.anonymous);
        let (says_user, says_browser) =
            *self.random.pick(&[(true, true), (true, false), (false, true), (false, true)]);
        let signature = self.random.share(50);
        self.jar.retain(|name, _| !name.starts_with("rl_"));
        if !signature {
            self.jar.remove("doorstep_user");
        }
        if says_user {
            self.jar.insert("ajs_user_id".to_owned(), user.clone());
            self.jar.insert("rl_user_id".to_owned(), packed(user));
        }
        if says_browser {
            self.jar.insert("ajs_anonymous_id".to_owned(), anonymous.clone());
            self.jar.insert("rl_anonymous_id".to_owned(), packed(anonymous));
            if !says_user {
                self.jar.remove("ajs_user_id");
            }
        }
    }

    fn event_of_another(&mut self, victim: &Victim) -> (Ask, Option<String>) {
        let kind = *self.random.pick(&["track", "identify"]);
        let anonymous = self.random.share(50).then(|| victim.anonymous.clone());
        let user = self.random.share(50).then(|| victim.person.id.clone());
        let named = EventIds { word: self.word.clone(), anonymous, user };
        let (message, event) = self.event_body(kind, &named);
        let ask = self.ask("", "POST", &format!("/seg/evs/{kind}"));
        (ask.upload(Upload::Sized(event.to_string().into_bytes())), Some(message))
    }
}
