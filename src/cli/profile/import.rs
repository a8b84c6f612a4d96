//! `doorstep profile import`: many lines at one time, and where it was when it was cut short.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::{Failure, say};
use crate::profile::line::{Line, LineError};
use crate::profile::now_millis;
use crate::profile::store::{ProfileStore, StoreError};

/// Lines of one batch, and batches under way: what the store commits together.
const BATCH: usize = 1000;
const AT_ONCE: usize = 4;
/// The longest line: a profile of the largest size, with times.
const MAX_LINE_BYTES: u64 = 512 * 1024;
/// For how long a store that fails is tried again.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the place is noted.
const NOTE: Duration = Duration::from_millis(500);
/// Most refused lines that are told one by one.
const MAX_TOLD: u64 = 20;

/// Lines, and the place behind them.
struct Batch {
    lines: Vec<(u64, Vec<u8>)>,
    end: u64,
}

/// Reads batches; line numbers count from 1.
struct Batches<R> {
    from: R,
    line: u64,
    at: u64,
    failed: Option<std::io::Error>,
}

impl<R: BufRead> Iterator for Batches<R> {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        let mut lines = Vec::new();
        while lines.len() < BATCH {
            let mut line = Vec::new();
            match (&mut self.from).take(MAX_LINE_BYTES).read_until(b'\n', &mut line) {
                Ok(0) => break,
                Ok(read) => {
                    self.at += read as u64;
                    self.line += 1;
                    if !line.trim_ascii().is_empty() {
                        lines.push((self.line, line));
                    }
                }
                Err(error) => {
                    self.failed = Some(error);
                    return None;
                }
            }
        }
        (!lines.is_empty()).then_some(Batch { lines, end: self.at })
    }
}

/// Imports `file` into `site`'s profiles.
pub(super) async fn run(
    store: &Arc<dyn ProfileStore>,
    site: &str,
    file: &Path,
) -> Result<(), Failure> {
    let failed = |cause| Failure::Unreadable { file: file.display().to_string(), cause };
    let standard_input = file.as_os_str() == "-";
    let place = (!standard_input).then(|| Place::of(file));
    let start = place.as_ref().map_or((0, 0), Place::read);
    let (from, length): (Box<dyn Read>, _) = if standard_input {
        (Box::new(std::io::stdin()), None)
    } else {
        let mut opened = std::fs::File::open(file).map_err(failed)?;
        let length = opened.metadata().map_err(failed)?.len();
        opened.seek(SeekFrom::Start(start.1.min(length))).map_err(failed)?;
        (Box::new(opened), Some(length))
    };
    let bar = match length {
        Some(length) => ProgressBar::new(length).with_position(start.1),
        None => ProgressBar::new_spinner(),
    };
    bar.set_style(style("{bar:40} {percent}% {msg} {eta}"));
    if start.0 > 0 {
        bar.println(format!("goes on behind line {}", start.0));
    }
    let began = Instant::now();
    let from = BufReader::with_capacity(1 << 20, from);
    let mut batches = Batches { from, line: start.0, at: start.1, failed: None };
    let (mut taken, mut refused, mut noted) = (0_u64, 0_u64, None::<Instant>);
    {
        let taking = futures::stream::iter(&mut batches).map(|batch| {
            let (store, site) = (Arc::clone(store), site.to_owned());
            let last = batch.lines.last().map_or(0, |(line, _)| *line);
            let end = batch.end;
            let taking = tokio::spawn(async move { take(&*store, &site, batch).await });
            async move { (taking.await, last, end) }
        });
        let mut taking = taking.buffered(AT_ONCE);
        while let Some((outcome, last, end)) = taking.next().await {
            let outcome = outcome.map_err(|error| StoreError::Unavailable(error.to_string()))?;
            let (count, wrong) = outcome?;
            taken += count;
            for (line, why) in wrong {
                refused += 1;
                if refused <= MAX_TOLD {
                    bar.suspend(|| eprintln!("{}:{line}: {why}", file.display()));
                }
            }
            bar.set_position(end);
            bar.set_message(format!("{taken} profiles"));
            if noted.is_none_or(|noted| noted.elapsed() > NOTE)
                && let Some(place) = &place
            {
                place.note(last, end).map_err(failed)?;
                noted = Some(Instant::now());
            }
        }
    }
    if let Some(error) = batches.failed.take() {
        return Err(failed(error));
    }
    if let Some(place) = &place {
        place.forget();
    }
    bar.finish_and_clear();
    let rate = taken as f64 / began.elapsed().as_secs_f64();
    say(format_args!("{taken} lines taken, {refused} refused, {rate:.0} a second"))?;
    if refused > 0 { Err(Failure::Refused(refused)) } else { Ok(()) }
}

/// Takes a batch, as often as it needs: a line may be taken twice.
async fn take(
    store: &dyn ProfileStore,
    site: &str,
    batch: Batch,
) -> Result<(u64, Vec<(u64, LineError)>), StoreError> {
    let (began, now) = (Instant::now(), now_millis());
    let mut wrong = Vec::new();
    let mut lines = Vec::new();
    for (number, text) in batch.lines {
        match Line::parse(&text, site, now) {
            Ok(line) => lines.push((number, line)),
            Err(why) => wrong.push((number, why)),
        }
    }
    loop {
        let taking = lines.iter().map(|(_, line)| line.take(store, now));
        let outcomes = futures::future::join_all(taking).await;
        let down = outcomes.iter().find_map(|outcome| match outcome {
            Err(error @ StoreError::Unavailable(_)) => Some(error.clone()),
            _ => None,
        });
        match down {
            Some(_) if began.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Some(error) => return Err(error),
            None => {
                let mut taken = 0;
                for ((number, _), outcome) in lines.iter().zip(outcomes) {
                    match outcome {
                        Ok(()) => taken += 1,
                        Err(why) => wrong.push((*number, why.into())),
                    }
                }
                wrong.sort_by_key(|(number, _)| *number);
                return Ok((taken, wrong));
            }
        }
    }
}

/// Where an import is, beside its file: everything before it is stored.
struct Place {
    file: PathBuf,
    size: u64,
}

impl Place {
    fn of(import: &Path) -> Self {
        let mut name = import.as_os_str().to_owned();
        name.push(".progress");
        let size = std::fs::metadata(import).map_or(0, |about| about.len());
        Self { file: name.into(), size }
    }

    /// Line and byte, where the file is still the one that was begun.
    fn read(&self) -> (u64, u64) {
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        let mut numbers = text.split_whitespace().map(|number| number.parse::<u64>().ok());
        match (numbers.next().flatten(), numbers.next().flatten(), numbers.next().flatten()) {
            (Some(size), Some(line), Some(byte)) if size == self.size => (line, byte),
            _ => (0, 0),
        }
    }

    fn note(&self, line: u64, byte: u64) -> std::io::Result<()> {
        let next = self.file.with_extension("progress.next");
        std::fs::write(&next, format!("{} {line} {byte}\n", self.size))?;
        std::fs::rename(next, &self.file)
    }

    fn forget(&self) {
        // One that is left behind says that everything is stored.
        let _ = std::fs::remove_file(&self.file);
    }
}

/// A style of progress, by indicatif's template.
pub(super) fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
