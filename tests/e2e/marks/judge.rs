//! What comes back to a visitor is the visitor's own.

use super::ask::{Ask, Response};
use super::ledger::Owner;
use super::mark::{Class, Finds, class_of};
use super::nodes::World;

impl World {
    pub(super) fn judge(&self, ask: &Ask, response: &Response) {
        let mut scope = ask.scope.clone();
        let mut finds = Finds::of(&response.body());
        self.count_own(ask, &finds);
        if let Some(answer) = &response.answer {
            for (name, value) in answer.headers.iter().chain(&answer.trailers) {
                finds.read(format!("{name}: {value}").as_bytes());
            }
        }
        let mut wrong = self.ledger.judge(&scope, &finds);
        // All bytes, also of an answer that has broken off; an answer behind it has another number.
        scope.number = None;
        wrong.extend(self.ledger.judge(&scope, &Finds::of(&response.raw)));
        if let Some(failure) = failure(ask, response) {
            match failure {
                Failure::Another(why) => wrong.push(why),
                Failure::None => {
                    let (method, target, manner) = (ask.method, &ask.target, ask.manner);
                    let (plan, status) = (&ask.plan, response.status());
                    let asked = format!("{method} {target} ({manner:?}, {plan}): {status} ");
                    self.ledger.failed(ask.kind, &[asked.as_bytes(), &response.raw].concat());
                }
            }
        }
        if !wrong.is_empty() {
            let head = String::from_utf8_lossy(&ask.head()).into_owned();
            let came = excerpt(&response.raw, &wrong);
            self.ledger.fault(format!("{} gets {wrong:#?}\nasked: {head}\ncame: {came}", ask.kind));
        }
    }
}

/// The beginning of what came, and what stands around that which should not.
pub(super) fn excerpt(bytes: &[u8], wrong: &[String]) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut out = text(&bytes[..bytes.len().min(1500)]);
    for wrong in wrong {
        let word = wrong.split(' ').next().unwrap_or_default();
        if let Some(at) = memchr::memmem::find(bytes, word.as_bytes()) {
            let around = &bytes[at.saturating_sub(300)..bytes.len().min(at + 200)];
            out.push_str(&format!("\n… {word}: {}", text(around)));
        }
    }
    out
}

impl World {
    /// What shows of a visitor's own profile: a run in which nothing does shows nothing.
    fn count_own(&self, ask: &Ask, finds: &Finds) {
        let secrets = finds.marks.iter().filter(|mark| class_of(mark) == Class::Secret);
        for secret in secrets {
            let of = match self.ledger.owner_in(secret) {
                Some(Owner::Person(_)) => "a user's",
                _ => "a browser's own",
            };
            self.ledger.saw(&format!("{}: {of} profile", ask.kind));
        }
    }
}

/// What is wrong with an answer beside whose it is.
enum Failure {
    /// It is that of another request.
    Another(String),
    /// There is none, or one that says that something has failed.
    None,
}

fn failure(ask: &Ask, response: &Response) -> Option<Failure> {
    if ask.statuses.is_empty() {
        return None;
    }
    let Some(answer) = &response.answer else { return Some(Failure::None) };
    if !ask.statuses.contains(&answer.status) {
        let gateway = matches!(answer.status, 502..=504);
        let another = || Failure::Another(format!("the status {}", answer.status));
        return Some(if gateway { Failure::None } else { another() });
    }
    if !ask.echoes || ask.method == "HEAD" || matches!(answer.status, 204 | 302 | 304) {
        return None;
    }
    let body = response.body();
    let end = format!("end of {}", ask.token);
    let whole = memchr::memmem::find(&body, end.as_bytes()).is_some();
    (!whole).then(|| Failure::Another(format!("no `{end}`")))
}
