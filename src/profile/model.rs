//! What is known about one visitor: a last-writer-wins map of traits, in one piece of memory.

use std::collections::BTreeMap;

use serde_json::Value;

use super::packed::{Reader, Seen, put_int, put_text, put_uint, put_value};

/// Most traits of a profile, those deleted included.
pub const MAX_TRAITS: usize = 512;
/// Longest name of a trait, in bytes.
pub const MAX_NAME_BYTES: usize = 256;
/// Largest profile: bytes of its names and of its values as JSON.
pub const MAX_PROFILE_BYTES: usize = 64 * 1024;

/// Traits, and for each of them the time it was set.
///
/// Merging is commutative, associative and idempotent: updates may repeat, race and arrive out of
/// order, and every node ends with the same traits. It is kept as it is stored, so that a lookup
/// copies bytes and an expression reads the one trait that it asks for.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Profile(
    /// Format, head, positions of the entries, entries by name: name, time, value. Empty means
    /// that nothing was ever known.
    Box<[u8]>,
);

/// What stands in front of the traits. Times in milliseconds since 1970; 0 means never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Head {
    /// What was set until then is deleted, and stays so when it comes again.
    cut: i64,
    /// The last write, for stores that forget what nobody writes any more.
    touched: i64,
    pulled: Pulled,
    /// Bytes of names and JSON values.
    size: u64,
}

/// When a profile was last asked for at its source, and until when the answer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pulled {
    /// Milliseconds since 1970; 0 means never.
    pub at: i64,
    /// Milliseconds since 1970.
    pub until: i64,
}

/// One trait to set; `Null` deletes.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    /// The trait.
    pub name: Box<str>,
    /// When it was set, in milliseconds since 1970.
    pub at: i64,
    /// Its value.
    pub value: Value,
}

/// What is to be merged into a profile.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Update {
    /// Traits to set.
    pub traits: Vec<Assignment>,
    /// Set when they come from the profile's source.
    pub pulled: Option<Pulled>,
}

/// Why an update is refused. What is stored stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooMuch {
    /// Too many traits.
    #[error("a profile has at most {MAX_TRAITS} traits, this update makes {0}")]
    Traits(usize),
    /// A name is too long.
    #[error("a trait's name has 1 to {MAX_NAME_BYTES} bytes, one has {0}")]
    Name(usize),
    /// Too large as a whole.
    #[error(
        "a profile has at most {MAX_PROFILE_BYTES} bytes of names and values, this update makes {0}"
    )]
    Bytes(usize),
}

/// A trait of a profile. A deleted one has the value `Null`.
#[derive(Clone, Copy)]
pub struct Trait<'p> {
    /// Its name.
    pub name: &'p str,
    /// When it was set, in milliseconds since 1970.
    pub at: i64,
    raw: &'p [u8],
}

impl Update {
    /// Traits that were all set at one time, in milliseconds since 1970.
    #[must_use]
    pub fn new(at: i64, traits: impl IntoIterator<Item = (Box<str>, Value)>) -> Self {
        let traits = traits.into_iter().map(|(name, value)| Assignment { name, at, value });
        Self { traits: traits.collect(), pulled: None }
    }

    /// Everything that a profile holds, deletions included.
    #[must_use]
    pub fn of(profile: &Profile) -> Self {
        let traits = profile.entries().map(|entry| Assignment {
            name: entry.name.into(),
            at: entry.at,
            value: entry.value(),
        });
        Self { traits: traits.collect(), pulled: None }
    }

    /// Refuses what no profile can hold.
    ///
    /// # Errors
    /// When a name is too long, or there are too many.
    pub fn check(&self) -> Result<(), TooMuch> {
        let wrong = self.traits.iter().map(|set| set.name.len());
        if let Some(length) =
            wrong.into_iter().find(|length| !(1..=MAX_NAME_BYTES).contains(length))
        {
            return Err(TooMuch::Name(length));
        }
        if self.traits.len() > MAX_TRAITS {
            return Err(TooMuch::Traits(self.traits.len()));
        }
        Ok(())
    }
}

impl<'p> Trait<'p> {
    /// Its value, decoded.
    #[must_use]
    pub fn value(&self) -> Value {
        Reader(self.raw).value().unwrap_or(Value::Null)
    }

    /// Whether it has a value, and is not only the memory of a deletion.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.raw != [0]
    }

    pub(crate) fn see(&self) -> Seen<'p> {
        Reader(self.raw).see().unwrap_or(Seen::Null)
    }
}

/// A trait on its way into a profile.
struct Stamped<'a> {
    at: i64,
    raw: std::borrow::Cow<'a, [u8]>,
}

impl Profile {
    /// Puts `update` in, and says whether that changed anything. `now` is the time of the write.
    ///
    /// # Errors
    /// When a limit would be passed. The profile is then as it was.
    pub fn merge(&mut self, update: &Update, now: i64) -> Result<bool, TooMuch> {
        update.check()?;
        let head = self.head();
        let mut size = head.size;
        let mut changed = false;
        let mut entries: BTreeMap<&str, Stamped<'_>> = self
            .entries()
            .map(|entry| (entry.name, Stamped { at: entry.at, raw: entry.raw.into() }))
            .collect();
        for set in update.traits.iter().filter(|set| set.at > head.cut) {
            let text = set.value.to_string();
            let grows = (set.name.len() + text.len()) as u64;
            match entries.get_mut(&*set.name) {
                Some(old) => {
                    if old.at > set.at {
                        continue;
                    }
                    let before = Reader(&old.raw).value().unwrap_or(Value::Null);
                    let was = before.to_string();
                    if old.at == set.at && !wins_tie(&set.value, &text, &before, &was) {
                        continue;
                    }
                    size = (size + grows).saturating_sub((set.name.len() + was.len()) as u64);
                    *old = Stamped { at: set.at, raw: packed(&set.value).into() };
                }
                None => {
                    size += grows;
                    let raw = packed(&set.value).into();
                    entries.insert(&set.name, Stamped { at: set.at, raw });
                }
            }
            changed = true;
        }
        if entries.len() > MAX_TRAITS {
            return Err(TooMuch::Traits(entries.len()));
        }
        let bytes = usize::try_from(size).unwrap_or(usize::MAX);
        if bytes > MAX_PROFILE_BYTES {
            return Err(TooMuch::Bytes(bytes));
        }
        let pulled = update.pulled.filter(|pulled| pulled.at > head.pulled.at);
        if !changed && pulled.is_none() {
            return Ok(false);
        }
        let head = Head { touched: now, size, pulled: pulled.unwrap_or(head.pulled), ..head };
        *self = Self::build(head, entries.iter().map(|(name, new)| (*name, new.at, &*new.raw)));
        Ok(changed)
    }

    /// Deletes everything that was set until `at`, for good: what comes again later is not taken.
    #[must_use]
    pub fn deleted(&self, at: i64) -> Self {
        let cut = self.head().cut.max(at);
        let kept: Vec<_> = self.entries().filter(|entry| entry.at > cut).collect();
        let size = kept.iter().map(|entry| entry.name.len() + entry.value().to_string().len());
        let head =
            Head { cut, touched: at, pulled: Pulled::default(), size: size.sum::<usize>() as u64 };
        Self::build(head, kept.iter().map(|entry| (entry.name, entry.at, entry.raw)))
    }

    /// A profile as another store has it. The traits need no order and have no limits here.
    #[must_use]
    pub fn from_parts(
        traits: impl IntoIterator<Item = Assignment>,
        cut: i64,
        pulled: Pulled,
    ) -> Self {
        let entries: BTreeMap<_, _> =
            traits.into_iter().map(|set| (set.name, (set.at, packed(&set.value)))).collect();
        let head = Head { cut, pulled, ..Head::default() };
        Self::build(head, entries.iter().map(|(name, (at, raw))| (&**name, *at, &**raw)))
    }

    fn build<'a>(
        head: Head,
        entries: impl Iterator<Item = (&'a str, i64, &'a [u8])> + Clone,
    ) -> Self {
        let mut out = vec![FORMAT];
        for time in [head.cut, head.touched, head.pulled.at, head.pulled.until] {
            put_int(&mut out, time);
        }
        put_uint(&mut out, head.size);
        let count = entries.clone().count();
        put_uint(&mut out, count as u64);
        let table = out.len();
        out.resize(table + count * POSITION_BYTES, 0);
        let body = out.len();
        for (index, (name, at, raw)) in entries.enumerate() {
            // A profile of the largest size is far below 4 GiB.
            let position = u32::try_from(out.len() - body).unwrap_or(u32::MAX).to_le_bytes();
            let slot = table + index * POSITION_BYTES;
            if let Some(slot) = out.get_mut(slot..slot + POSITION_BYTES) {
                slot.copy_from_slice(&position);
            }
            put_text(&mut out, name);
            put_int(&mut out, at);
            out.extend_from_slice(raw);
        }
        Self(out.into())
    }

    /// Head, positions, entries. `None` where nothing was ever known.
    fn sections(&self) -> Option<(Head, &[Position], &[u8])> {
        let (_, rest) = self.0.split_first()?;
        let mut reader = Reader(rest);
        let head = Head {
            cut: reader.int()?,
            touched: reader.int()?,
            pulled: Pulled { at: reader.int()?, until: reader.int()? },
            size: reader.uint()?,
        };
        let count = usize::try_from(reader.uint()?).ok()?;
        let table = reader.bytes(count.checked_mul(POSITION_BYTES)?)?;
        Some((head, table.as_chunks().0, reader.0))
    }

    fn head(&self) -> Head {
        self.sections().map_or_else(Head::default, |(head, ..)| head)
    }

    fn entry_at(body: &[u8], position: Position) -> Option<Trait<'_>> {
        let start = usize::try_from(u32::from_le_bytes(position)).ok()?;
        let mut reader = Reader(body.get(start..)?);
        Some(Trait { name: reader.text()?, at: reader.int()?, raw: reader.raw()? })
    }

    fn name_at(body: &[u8], position: Position) -> Option<&[u8]> {
        let start = usize::try_from(u32::from_le_bytes(position)).ok()?;
        Reader(body.get(start..)?).text_bytes()
    }

    /// Every trait by name, those deleted included.
    pub fn entries(&self) -> impl Iterator<Item = Trait<'_>> {
        let (table, body) =
            self.sections().map_or((&[][..], &[][..]), |(_, table, body)| (table, body));
        table.iter().filter_map(move |position| Self::entry_at(body, *position))
    }

    /// The traits that are set, by name.
    pub fn traits(&self) -> impl Iterator<Item = Trait<'_>> {
        self.entries().filter(Trait::is_set)
    }

    /// One trait that is set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Trait<'_>> {
        let (_, table, body) = self.sections()?;
        // Names are compared as bytes, which gives the order of texts, and nothing behind them is read.
        let found = table.binary_search_by(|position| {
            Self::name_at(body, *position).unwrap_or_default().cmp(name.as_bytes())
        });
        Self::entry_at(body, *table.get(found.ok()?)?).filter(Trait::is_set)
    }

    /// Whether it holds nothing: neither a trait nor the memory of one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sections().is_none_or(|(_, table, _)| table.is_empty())
    }

    /// When it was last asked for at its source; `at` is 0 where it never was.
    #[must_use]
    pub fn pulled(&self) -> Pulled {
        self.head().pulled
    }

    /// Until when everything was deleted, in milliseconds since 1970; 0 for never.
    #[must_use]
    pub fn cut(&self) -> i64 {
        self.head().cut
    }

    /// When it was last written, in milliseconds since 1970. Kept by the embedded store alone.
    #[must_use]
    pub fn touched(&self) -> i64 {
        self.head().touched
    }

    /// The stored form.
    #[must_use]
    pub fn encode(&self) -> &[u8] {
        &self.0
    }

    /// Reads the stored form. `None` when it is of a format that this version doesn't know, or
    /// not whole.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.first() != Some(&FORMAT) {
            return None;
        }
        let profile = Self(bytes.into());
        let (_, table, _) = profile.sections()?;
        (profile.entries().count() == table.len()).then_some(profile)
    }
}

impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.entries().map(|entry| (entry.name, entry.at)).collect();
        f.debug_struct("Profile").field("head", &self.head()).field("traits", &names).finish()
    }
}

/// First byte of the stored form.
const FORMAT: u8 = 2;
const POSITION_BYTES: usize = 4;
/// Where an entry begins, little-endian.
type Position = [u8; POSITION_BYTES];

fn packed(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    put_value(&mut out, value);
    out
}

/// Which of two values that were set at the same time counts: the same one on every node. A
/// deletion loses; otherwise the later JSON text in the order of its bytes.
fn wins_tie(new: &Value, new_text: &str, old: &Value, old_text: &str) -> bool {
    (!new.is_null(), new_text) > (!old.is_null(), old_text)
}

#[cfg(test)]
pub(super) mod tests;
