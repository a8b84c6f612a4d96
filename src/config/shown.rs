//! A configuration file and messages about it as they may be shown: with what is known to be public.

use std::collections::HashSet;

use super::problem::{Place, Problem};
use super::public::Visibility;
use super::scrub::{KNOWN_WORDS, Scrub};
use super::source::Source;

/// What is shown of one file.
#[derive(Debug)]
pub(super) struct Shown {
    /// Its text with every character at its place, and `…` for what is hidden.
    pub(super) text: String,
    scrub: Scrub,
    keys: HashSet<String>,
}

impl Shown {
    /// Of a file that was read.
    pub(super) fn of(source: &Source, visibility: &Visibility) -> Self {
        Self {
            text: paint(&source.text, &visibility.shown, &visibility.hidden),
            scrub: Scrub::of(visibility.texts.iter().map(String::as_str)),
            keys: visibility.keys.clone(),
        }
    }

    /// Of a file that is not YAML: nobody knows which text is a value of what, so only known keys are shown.
    pub(super) fn of_broken(text: &str) -> Self {
        let shown = paint(text, &[], &[]);
        let mut hidden = String::new();
        for (line, public) in text.lines().zip(shown.lines()) {
            let pairs = line.chars().zip(public.chars());
            hidden.extend(pairs.map(|(char, public)| if char == public { ' ' } else { char }));
            hidden.push('\n');
        }
        Self { text: shown, scrub: Scrub::of(hidden.split_whitespace()), keys: HashSet::new() }
    }

    /// `problem` without what is hidden.
    pub(super) fn clean(&self, problem: &Problem) -> Problem {
        let mut pointer = String::new();
        let mut whole = String::new();
        for part in problem.pointer().split('/').skip(1) {
            whole.push('/');
            whole.push_str(part);
            pointer.push('/');
            pointer.push_str(if self.keys.contains(&whole) { "…" } else { part });
        }
        Problem::new(&pointer, problem.place(), self.scrub.clean(problem.message()))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ink {
    Unknown,
    Shown,
    Hidden,
}

/// `text` with what stands at `shown`, known keys, and the signs between values. What is at `hidden` goes first.
fn paint(text: &str, shown: &[Place], hidden: &[Place]) -> String {
    let lines: Vec<Vec<char>> = text.lines().map(|line| line.chars().collect()).collect();
    let mut inks: Vec<Vec<Ink>> = lines.iter().map(|line| vec![Ink::Unknown; line.len()]).collect();
    for (places, ink) in [(shown, Ink::Shown), (hidden, Ink::Hidden)] {
        for place in places {
            mark(&mut inks, *place, ink);
        }
    }
    let mut out = Vec::with_capacity(lines.len());
    for (line, inks) in lines.iter().zip(&mut inks) {
        mark_keys(line, inks);
        out.push(paint_line(line, inks));
    }
    out.join("\n")
}

/// Marks the value at `place`, which may go on in the lines behind.
fn mark(inks: &mut [Vec<Ink>], place: Place, ink: Ink) {
    let number = |of: u64| usize::try_from(of.saturating_sub(1)).unwrap_or(usize::MAX);
    let (first, mut from) = (number(place.line), number(place.column));
    let mut left = usize::try_from(place.width).unwrap_or(usize::MAX);
    for line in inks.iter_mut().skip(first) {
        line.iter_mut().skip(from).take(left).for_each(|one| *one = ink);
        left = left.saturating_sub(line.len().saturating_sub(from) + 1);
        from = 0;
        if left == 0 {
            return;
        }
    }
}

/// Shows known keys that have no value, and those of a file that is not YAML.
fn mark_keys(line: &[char], inks: &mut [Ink]) {
    let mut from = 0;
    while from < line.len() {
        let rest = line.get(from..).unwrap_or_default();
        let word: String =
            rest.iter().take_while(|char| char.is_ascii_alphanumeric() || **char == '_').collect();
        let before = from.checked_sub(1).and_then(|before| line.get(before));
        let begins = before.is_none_or(|char| char.is_whitespace() || "{,".contains(*char));
        let free = inks.iter().skip(from).take(word.len()).all(|ink| *ink == Ink::Unknown);
        let ends = rest.get(word.len()) == Some(&':')
            && rest.get(word.len() + 1).is_none_or(|char| char.is_whitespace());
        if begins && free && ends && KNOWN_WORDS.contains(word.as_str()) {
            inks.iter_mut().skip(from).take(word.len()).for_each(|ink| *ink = Ink::Shown);
        }
        from += word.len().max(1);
    }
}

fn paint_line(line: &[char], inks: &[Ink]) -> String {
    let mut out = String::with_capacity(line.len());
    let (mut comment, mut hiding) = (false, false);
    for (index, (char, ink)) in line.iter().zip(inks).enumerate() {
        let blank = |side: Option<&char>| side.is_none_or(|char| char.is_whitespace());
        let apart = blank(index.checked_sub(1).and_then(|before| line.get(before)))
            && blank(line.get(index + 1));
        comment |= *ink == Ink::Unknown && *char == '#';
        let public = match ink {
            Ink::Shown => true,
            Ink::Hidden => false,
            Ink::Unknown if comment => false,
            Ink::Unknown => {
                char.is_whitespace()
                    || "{}[],:\"'".contains(*char)
                    || ("-?|>".contains(*char) && apart)
            }
        };
        out.push(match (public, hiding) {
            (true, _) => *char,
            (false, false) => '…',
            (false, true) => ' ',
        });
        hiding = !public;
    }
    out
}

#[cfg(test)]
mod tests;
