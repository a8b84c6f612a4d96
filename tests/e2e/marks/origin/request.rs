//! What the origin has read, whether or not it was meant as a request.

use super::super::ledger::Ledger;
use super::super::mark::Finds;

/// A head, and the body that was read behind it.
pub(in super::super) struct OriginRequest {
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl OriginRequest {
    pub(super) fn of(head: &[u8]) -> Self {
        Self { head: String::from_utf8_lossy(head).into_owned(), body: Vec::new() }
    }

    pub(super) fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    pub(super) fn method(&self) -> &str {
        self.line().split(' ').next().unwrap_or_default()
    }

    pub(super) fn path(&self) -> &str {
        let target = self.line().split(' ').nth(1).unwrap_or_default();
        target.split('?').next().unwrap_or_default()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(super) fn cookie(&self, name: &str) -> Option<&str> {
        let pairs = self.header("cookie")?.split(';').filter_map(|pair| pair.split_once('='));
        pairs.map(|(key, value)| (key.trim(), value)).find(|(key, _)| *key == name).map(|it| it.1)
    }

    /// Whether the plan has a word.
    pub(super) fn has(&self, word: &str) -> bool {
        self.header("x-plan").is_some_and(|plan| plan.split(' ').any(|one| one == word))
    }

    /// The value of a word of the plan.
    pub(super) fn value(&self, word: &str) -> Option<&str> {
        let mut words = self.header("x-plan")?.split(' ');
        words.find_map(|one| one.strip_prefix(word)?.strip_prefix('='))
    }

    /// The browser's mark and the request's number, if there are any.
    pub(super) fn token(&self) -> Option<String> {
        self.header("x-ask").map(str::to_owned)
    }

    /// A call of the edge's own, not a visitor's request.
    fn is_check(&self) -> bool {
        self.path() == "/whoami"
    }

    /// All that is in it belongs to whoever asks. `early`: whose request was answered before its end on this
    /// connection; then the rest of it is not the edge's slip, but no other request may follow.
    pub(super) fn judge(&self, ledger: &Ledger, early: Option<&Self>) {
        let passed_on = self.header("via").is_some_and(|via| via.ends_with("doorstep"));
        if let Some(early) = early {
            if passed_on && self.token() != early.token() {
                let (head, early) = (&self.head, &early.head);
                ledger.fault(format!(
                    "a request on a connection that was answered too early:\n{early}\n{head}"
                ));
            }
            return;
        }
        if !passed_on && !self.is_check() {
            ledger.fault(format!("the origin reads what is no request:\n{}", self.head));
            return;
        }
        let session = self.cookie("sid").and_then(|sid| sid.strip_prefix("s-")).map(str::to_owned);
        let asks = if self.is_check() { session } else { self.token() };
        let life = asks.as_deref().and_then(|asks| ledger.life_in(asks));
        let Some(life) = life else {
            ledger.fault(format!("nobody asks this of the origin:\n{}", self.head));
            return;
        };
        let mut scope = ledger.scope(life);
        let typed = self.header("x-types").map(|typed| Finds::of(typed.as_bytes()));
        for word in typed.iter().flat_map(|typed| typed.marks.iter().chain(&typed.ids)) {
            scope.typed.extend(ledger.owners(word));
        }
        // These two are the test's own words.
        let own = |line: &&str| !line.to_ascii_lowercase().starts_with("x-types:");
        let own = |line: &&str| own(line) && !line.to_ascii_lowercase().starts_with("x-plan:");
        let head: Vec<&str> = self.head.lines().filter(own).collect();
        let mut head = head.join("\n");
        // The cookie of a trait that the browser still has of its user before: the edge hears with this request that
        // another is there.
        for mark in typed.iter().flat_map(|typed| &typed.marks) {
            head = head.replace(&format!("secret_trait={mark}"), "");
        }
        let mut finds = Finds::of(head.as_bytes());
        finds.read(&self.body);
        let number =
            asks.as_deref().and_then(|asks| Finds::of(asks.as_bytes()).numbers.pop_first());
        scope.number = number.map(|(_, number)| number);
        let mut wrong = ledger.judge(&scope, &finds);
        if !self.is_check() {
            wrong.extend(self.what_the_edge_says(ledger, life));
        }
        if !wrong.is_empty() {
            let body = String::from_utf8_lossy(&self.body);
            let body: String = body.chars().take(2000).collect();
            ledger.fault(format!("the origin is told {wrong:#?} in\n{}{body}", self.head));
        }
    }

    /// What the edge itself tells of the visitor.
    fn what_the_edge_says(&self, ledger: &Ledger, life: u64) -> Option<String> {
        let little = self.header("sec-gpc").is_some() || self.cookie("consent").is_some();
        if let Some(secret) = self.header("x-doorstep-secret") {
            if little {
                return Some(format!("{secret}, of somebody who does not allow it"));
            }
            ledger.saw("traits told to the origin");
        }
        let address = ledger.life(life).address;
        let told = self.header("x-forwarded-for").and_then(|told| told.split(',').next());
        (told != Some(address.as_str())).then(|| format!("the address {told:?}, not {address}"))
    }
}
