//! What comes back to a visitor is the visitor's own.

use super::ask::{Ask, Told};
use super::mark::Finds;
use super::nodes::World;

impl World {
    pub(super) fn judge(&self, ask: &Ask, told: &Told) {
        let mut scope = ask.scope.clone();
        let mut finds = Finds::of(&told.body());
        if let Some(answer) = &told.answer {
            for (name, value) in answer.headers.iter().chain(&answer.trailers) {
                finds.read(format!("{name}: {value}").as_bytes());
            }
        }
        let mut wrong = self.ledger.judge(&scope, &finds);
        // All bytes, also of an answer that has broken off; an answer behind it has another number.
        scope.number = None;
        wrong.extend(self.ledger.judge(&scope, &Finds::of(&told.raw)));
        if let Some(failure) = failure(ask, told) {
            match failure {
                Failure::Another(why) => wrong.push(why),
                Failure::None => self.ledger.failed(ask.kind),
            }
        }
        if !wrong.is_empty() {
            let raw = String::from_utf8_lossy(&told.raw);
            let raw: String = raw.chars().take(4000).collect();
            let head = String::from_utf8_lossy(&ask.head()).into_owned();
            self.ledger.fault(format!("{} gets {wrong:#?}\nasked: {head}\ncame: {raw}", ask.kind));
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

fn failure(ask: &Ask, told: &Told) -> Option<Failure> {
    if ask.statuses.is_empty() {
        return None;
    }
    let Some(answer) = &told.answer else { return Some(Failure::None) };
    if !ask.statuses.contains(&answer.status) {
        let gateway = matches!(answer.status, 502..=504);
        return Some(match gateway {
            true => Failure::None,
            false => Failure::Another(format!("the status {}", answer.status)),
        });
    }
    if !ask.echoes || ask.method == "HEAD" || matches!(answer.status, 204 | 304) {
        return None;
    }
    let body = told.body();
    let end = format!("end of {}", ask.token);
    let whole = memchr::memmem::find(&body, end.as_bytes()).is_some();
    (!whole).then(|| Failure::Another(format!("no `{end}`")))
}
