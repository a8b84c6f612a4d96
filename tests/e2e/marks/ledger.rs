//! Who owns what, and what was seen that should not have been.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::mark::{Class, Finds, class_of};

/// Who a mark, an id or a signature belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// A user, at any browser.
    Person(u64),
    /// A browser, from one logout to the next.
    Life(u64),
}

/// Whose marks may stand in something.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    pub(super) life: u64,
    /// What the browser is afterwards: ids that are made now belong to it.
    pub(super) becomes: u64,
    pub(super) person: Option<u64>,
    /// Whose ids the request itself says without being them. What their profiles say may not come, but for what
    /// was given to the id of a browser itself.
    pub(super) typed: Vec<Owner>,
    /// Whether anything of a profile may show at all.
    pub(super) tells: bool,
    /// The number of the request.
    pub(super) number: Option<u64>,
}

/// What is known of a life.
#[derive(Debug, Clone)]
pub(super) struct Life {
    pub(super) person: Option<u64>,
    pub(super) address: String,
}

/// An event or a call that is to reach a vendor.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) scope: Scope,
    /// The edge has said that it has it.
    pub(super) acknowledged: bool,
    /// It may not leave.
    pub(super) withheld: bool,
}

#[derive(Default)]
pub(super) struct Ledger {
    asked: AtomicU64,
    numbers: AtomicU64,
    owners: Mutex<HashMap<String, Vec<Owner>>>,
    lives: Mutex<HashMap<u64, Life>>,
    deleted: Mutex<Vec<u64>>,
    sent: Mutex<HashMap<String, Message>>,
    /// Requests by kind, and those of them that were not answered as they should be.
    kinds: Mutex<BTreeMap<&'static str, (u64, u64)>>,
    /// What was seen that has to be seen, so that the run shows something.
    seen: Mutex<BTreeMap<String, u64>>,
    faults: Mutex<Vec<String>>,
    /// What came instead of an answer, of the first that failed.
    failures: Mutex<Vec<String>>,
}

/// So many faults tell enough.
const MOST_FAULTS: usize = 5;
/// So many failures.
const MOST_FAILURES: usize = 20;

impl Ledger {
    /// A number that nothing else has.
    pub(super) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// What was given to a browser goes over to the user who logs in there: it may have several owners.
    pub(super) fn own(&self, word: &str, owner: Owner) {
        self.owners.lock().unwrap().entry(word.to_owned()).or_default().push(owner);
    }

    pub(super) fn owners(&self, word: &str) -> Vec<Owner> {
        self.owners.lock().unwrap().get(word).cloned().unwrap_or_default()
    }

    /// Whom the first mark or id in a text belongs to, at first.
    pub(super) fn owner_in(&self, text: &str) -> Option<Owner> {
        let finds = Finds::of(text.as_bytes());
        let mut all = finds.marks.iter().chain(&finds.ids);
        all.find_map(|word| self.owners(word).first().copied())
    }

    /// The browser that a mark or an id in a text belongs to.
    pub(super) fn life_in(&self, text: &str) -> Option<u64> {
        match self.owner_in(text)? {
            Owner::Life(life) => Some(life),
            Owner::Person(_) => None,
        }
    }

    pub(super) fn lives(&self, number: u64, life: Life) {
        self.lives.lock().unwrap().insert(number, life);
    }

    pub(super) fn life(&self, number: u64) -> Life {
        self.lives.lock().unwrap()[&number].clone()
    }

    /// What may stand in anything of a life's.
    pub(super) fn scope(&self, life: u64) -> Scope {
        let person = self.life(life).person;
        Scope { life, becomes: life, person, typed: Vec::new(), tells: true, number: None }
    }

    /// A person is deleted: what waits of them is erased.
    pub(super) fn delete(&self, person: u64) {
        self.deleted.lock().unwrap().push(person);
    }

    pub(super) fn is_deleted(&self, life: u64) -> bool {
        let person = self.life(life).person;
        person.is_some_and(|person| self.deleted.lock().unwrap().contains(&person))
    }

    pub(super) fn sent(&self, message: &str, sent: Message) {
        self.sent.lock().unwrap().insert(message.to_owned(), sent);
    }

    pub(super) fn all_sent(&self) -> HashMap<String, Message> {
        self.sent.lock().unwrap().clone()
    }

    /// What of `finds` may not stand where only `scope`'s may. Ids that nobody has had before belong to what the
    /// browser becomes.
    pub(super) fn judge(&self, scope: &Scope, finds: &Finds) -> Vec<String> {
        let mut owners = self.owners.lock().unwrap();
        let mut wrong = Vec::new();
        let own = |owner: &Owner| {
            *owner == Owner::Life(scope.life)
                || *owner == Owner::Life(scope.becomes)
                || scope.person.is_some_and(|person| *owner == Owner::Person(person))
        };
        for mark in &finds.marks {
            // What was cut in the middle is nobody's.
            let Some(all) = owners.get(mark) else { continue };
            let secret = class_of(mark) == Class::Secret;
            let typed = |owner: &Owner| {
                scope.typed.contains(owner) && !(secret && matches!(owner, Owner::Person(_)))
            };
            if secret && !scope.tells {
                wrong.push(format!("{mark} of {all:?}, where no profile may show"));
            } else if !all.iter().any(|owner| own(owner) || typed(owner)) {
                wrong.push(format!("{mark} of {all:?}"));
            }
        }
        for (mark, number) in &finds.numbers {
            let same = owners.get(mark).is_some_and(|all| all.contains(&Owner::Life(scope.life)));
            if same && scope.number.is_some_and(|own| own != *number) {
                wrong.push(format!("request {number} of the same browser"));
            }
        }
        for id in &finds.ids {
            let all = owners.entry(id.clone()).or_insert_with(|| vec![Owner::Life(scope.becomes)]);
            if !all.iter().any(|owner| own(owner) || scope.typed.contains(owner)) {
                wrong.push(format!("{id} of {all:?}"));
            }
        }
        wrong
    }

    /// How many requests there were.
    pub(super) fn so_far(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Whether more is to be asked.
    pub(super) fn goes_on(&self, most: u64) -> bool {
        self.asked.load(Ordering::Relaxed) < most && self.faults.lock().unwrap().len() < MOST_FAULTS
    }

    pub(super) fn asked(&self, kind: &'static str) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.kinds.lock().unwrap().entry(kind).or_default().0 += 1;
    }

    /// A request was not answered as it is where nothing fails.
    pub(super) fn failed(&self, kind: &'static str, came: &[u8]) {
        self.kinds.lock().unwrap().entry(kind).or_default().1 += 1;
        let mut failures = self.failures.lock().unwrap();
        // While Redis stands still, these are told to come again.
        let is_usual = matches!(kind, "push" | "deletion");
        if failures.len() < MOST_FAILURES && !is_usual {
            let beginning = came.get(..300).unwrap_or(came);
            failures.push(format!("{kind}: {}", String::from_utf8_lossy(beginning)));
        }
    }

    pub(super) fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap().clone()
    }

    pub(super) fn saw(&self, what: &str) {
        *self.seen.lock().unwrap().entry(what.to_owned()).or_default() += 1;
    }

    pub(super) fn fault(&self, fault: impl AsRef<str>) {
        let shown = |char: char| if char.is_control() && char != '\n' { '.' } else { char };
        self.faults.lock().unwrap().push(fault.as_ref().chars().map(shown).collect());
    }

    pub(super) fn faults(&self) -> Vec<String> {
        self.faults.lock().unwrap().clone()
    }

    pub(super) fn kinds(&self) -> BTreeMap<&'static str, (u64, u64)> {
        self.kinds.lock().unwrap().clone()
    }

    pub(super) fn seen(&self) -> BTreeMap<String, u64> {
        self.seen.lock().unwrap().clone()
    }
}
