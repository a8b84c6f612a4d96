//! Dead letters: events that the vendor will not take, kept as NDJSON for people to read and to send
//! again. A line that has been erased is blank.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Event, Parcel};
use crate::private;

/// Why an event is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// The vendor refused it for good.
    Refused,
    /// It was tried until its time was over.
    Expired,
}

/// One line of the file.
#[derive(Debug, Serialize, Deserialize)]
pub struct DeadLetter {
    /// When it died, RFC 3339.
    pub time: String,
    /// Why.
    pub reason: Reason,
    /// What the vendor answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The beginning of what the vendor said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// When it was taken, in milliseconds since 1970.
    pub accepted: i64,
    /// The event, where it is JSON that a batch had in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<Box<RawValue>>,
    /// Anything else, and an event that its page has written on several lines, as it was kept, in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
}

/// The dead letters of one lane.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    folder: PathBuf,
    capacity: u64,
}

const FILE: &str = "dead.ndjson";
/// Files beside the one that is written: `dead.1.ndjson` is the youngest of them.
const OLD_FILES: u32 = 4;
/// As much of the vendor's answer as is kept.
const MAX_ANSWER_CHARS: usize = 300;

impl DeadLetter {
    /// `event`, dead of `reason`.
    #[must_use]
    pub fn new(event: &Event, reason: Reason, answer: Option<(u16, &[u8])>) -> Self {
        let mut letter = Self {
            time: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
            reason,
            status: answer.map(|(status, _)| status),
            answer: answer.map(|(_, text)| {
                String::from_utf8_lossy(text).chars().take(MAX_ANSWER_CHARS).collect()
            }),
            accepted: event.at,
            event: None,
            call: None,
        };
        // A page may have written its JSON on several lines.
        let one_line = memchr::memchr2(b'\n', b'\r', &event.parcel.body).is_none();
        let batched = one_line && matches!(event.parcel.way, super::Way::Batched);
        letter.event = batched.then(|| serde_json::from_slice(&event.parcel.body).ok()).flatten();
        if letter.event.is_none() {
            let mut kept = Vec::new();
            event.parcel.encode(&mut kept);
            letter.call = Some(STANDARD.encode(kept));
        }
        letter
    }

    /// The event, to be sent again.
    #[must_use]
    pub fn parcel(&self) -> Option<Parcel> {
        match (&self.event, &self.call) {
            (Some(event), _) => Some(Parcel::batched(event.get().as_bytes().to_vec())),
            (None, Some(call)) => Parcel::decode(&STANDARD.decode(call).ok()?.into()),
            (None, None) => None,
        }
    }
}

impl DeadLetters {
    /// Those in `folder`; at most about `capacity` bytes, then the oldest go.
    #[must_use]
    pub fn new(folder: &Path, capacity: u64) -> Self {
        Self { folder: folder.to_owned(), capacity }
    }

    /// Adds `letters`, on the disk when this returns. Tells how many bytes of older ones had to go.
    ///
    /// # Errors
    /// The disk's.
    pub fn add(&self, letters: &[DeadLetter]) -> io::Result<u64> {
        let mut lines = Vec::new();
        for letter in letters {
            serde_json::to_writer(&mut lines, letter)?;
            lines.push(b'\n');
        }
        let path = self.folder.join(FILE);
        let mut gone = 0;
        let length = std::fs::metadata(&path).map_or(0, |about| about.len());
        if length > 0 && length + lines.len() as u64 > self.capacity / u64::from(OLD_FILES + 1) {
            gone = self.rotate()?;
        }
        let mut file = private::open(File::options().create(true).append(true), &path)?;
        file.write_all(&lines)?;
        file.sync_data()?;
        Ok(gone)
    }

    fn old(&self, number: u32) -> PathBuf {
        self.folder.join(format!("dead.{number}.ndjson"))
    }

    fn rotate(&self) -> io::Result<u64> {
        let gone = std::fs::metadata(self.old(OLD_FILES)).map_or(0, |about| about.len());
        for number in (1..OLD_FILES).rev() {
            if self.old(number).try_exists()? {
                std::fs::rename(self.old(number), self.old(number + 1))?;
            }
        }
        std::fs::rename(self.folder.join(FILE), self.old(1))?;
        Ok(gone)
    }

    /// All files, the oldest first.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let old = (1..=OLD_FILES).rev().map(|number| self.old(number));
        old.chain([self.folder.join(FILE)]).filter(|path| path.exists()).collect()
    }

    /// Shows `visit` every line that is one: its file, where it stands there, and what it says.
    ///
    /// # Errors
    /// The disk's, or `visit`'s.
    pub fn each(
        &self,
        mut visit: impl FnMut(&Line<'_>, DeadLetter) -> io::Result<()>,
    ) -> io::Result<()> {
        self.each_line(|line, text| match serde_json::from_slice(text) {
            Ok(letter) => visit(line, letter),
            Err(_) => Ok(()),
        })
    }

    /// Shows `visit` every line that has been ended, the oldest first.
    fn each_line(
        &self,
        mut visit: impl FnMut(&Line<'_>, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        // The youngest first: what is put behind another one meanwhile is open already, or is met twice.
        let mut files = Vec::new();
        for path in self.files().iter().rev() {
            match File::options().read(true).write(true).open(path) {
                Ok(file) => files.push(file),
                // It was the oldest, and had to go.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        for file in files.iter().rev() {
            let mut reader = BufReader::new(file);
            let (mut at, mut line) = (0, Vec::new());
            while reader.read_until(b'\n', &mut line)? > 0 {
                // The last one may be on its way to the disk.
                if line.ends_with(b"\n") {
                    let text = line.trim_ascii_end();
                    visit(&Line { file, at, bytes: text.len() }, text)?;
                }
                at += line.len() as u64;
                line.clear();
            }
        }
        Ok(())
    }

    /// Erases those that `matches` names. Tells how many they were.
    ///
    /// # Errors
    /// The disk's.
    pub fn erase(&self, matches: impl Fn(&DeadLetter) -> bool) -> io::Result<usize> {
        let mut erased = 0;
        self.each(|line, letter| {
            if matches(&letter) {
                line.erase()?;
                erased += 1;
            }
            Ok(())
        })?;
        Ok(erased)
    }

    /// Erases lines that no crash has left whole: nobody can tell whose they are, and nobody can send them again.
    ///
    /// # Errors
    /// The disk's.
    pub fn erase_torn(&self) -> io::Result<()> {
        self.each_line(|line, text| {
            let torn = !text.is_empty() && serde_json::from_slice::<DeadLetter>(text).is_err();
            if torn { line.erase() } else { Ok(()) }
        })
    }
}

/// Where a dead letter stands.
pub struct Line<'f> {
    file: &'f File,
    at: u64,
    bytes: usize,
}

impl Line<'_> {
    /// Makes it blank, in place: another process may be adding to the file.
    ///
    /// # Errors
    /// The disk's.
    pub fn erase(&self) -> io::Result<()> {
        // Through a handle of its own: one that appends would add at the end.
        self.file.write_all_at(&vec![b' '; self.bytes], self.at)?;
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(body: &str) -> Event {
        Event { at: 5, parcel: Parcel::batched(body.as_bytes().to_vec()) }
    }

    #[test]
    fn letters_are_kept_read_erased_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let dead = DeadLetters::new(folder.path(), 5000);
        let bodies = |dead: &DeadLetters| {
            let mut bodies = Vec::new();
            dead.each(|_, letter| {
                let parcel = letter.parcel().unwrap();
                bodies.push(String::from_utf8(parcel.body.to_vec()).unwrap());
                Ok(())
            })
            .unwrap();
            bodies
        };
        let answer = Some((400, &b"no"[..]));
        let call = Event { at: 5, parcel: Parcel::post("/m", b"\xff\n".to_vec()) };
        let letters = [
            DeadLetter::new(&event("{\"n\":1.50}"), Reason::Refused, answer),
            DeadLetter::new(&event("{\"n\":2}"), Reason::Expired, None),
        ];
        assert_eq!(dead.add(&letters).unwrap(), 0);
        assert_eq!(bodies(&dead), ["{\"n\":1.50}", "{\"n\":2}"]);
        assert_eq!(dead.erase(|letter| letter.status == Some(400)).unwrap(), 1);
        assert_eq!(bodies(&dead), ["{\"n\":2}"]);
        let letter = DeadLetter::new(&call, Reason::Refused, None);
        assert_eq!(letter.parcel().unwrap(), call.parcel);
        // One letter is one line, however its page has written it.
        let lines = event("{\"a\":{\n\"b\":\r1}}");
        let letter = DeadLetter::new(&lines, Reason::Refused, None);
        assert!(!serde_json::to_string(&letter).unwrap().contains(['\n', '\r']));
        assert_eq!(letter.parcel().unwrap(), lines.parcel);
        // A crash has cut a line, and the next letter went behind it; another one is being written.
        let file = folder.path().join(FILE);
        let whole = std::fs::read_to_string(&file).unwrap();
        std::fs::write(
            &file,
            format!("{{\"event\":{{\"userId\":\"jo{whole}{{\"event\":{{\"userId\":\"ma"),
        )
        .unwrap();
        dead.erase_torn().unwrap();
        let left = std::fs::read_to_string(&file).unwrap();
        assert!(!left.contains("\"jo") && left.ends_with("\"ma"), "{left}");
        std::fs::write(&file, whole).unwrap();
        dead.erase_torn().unwrap();
        assert_eq!(bodies(&dead), ["{\"n\":2}"]);
        let mut gone = 0;
        for n in 0..100 {
            let letter = DeadLetter::new(&event(&format!("{{\"n\":{n}}}")), Reason::Refused, None);
            gone += dead.add(&[letter]).unwrap();
        }
        assert!(gone > 0);
        let kept: u64 = dead.files().iter().map(|path| path.metadata().unwrap().len()).sum();
        assert!(kept <= 5000, "{kept}");
        assert_eq!(bodies(&dead).last().unwrap(), "{\"n\":99}");
    }
}
