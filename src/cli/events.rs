//! `doorstep events`: what waits for the vendors and what no vendor has taken, in the folder that the
//! configuration names. A running node goes on meanwhile, and delivers what is replayed.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::{Failure, configuration, say};
use crate::collect::spool::{self, Room, Sender, Spool};
use crate::collect::{DeadLetters, Durability, FOLDER, lanes};
use crate::config::Config;
use crate::profile::now_millis;

/// Look at events on their way, send dead letters again, throw events away.
#[derive(Args)]
pub(super) struct Events {
    /// The configuration. Without it: conf/doorstep.yaml, else /etc/doorstep/doorstep.yaml.
    #[arg(short, long, global = true)]
    config: Option<PathBuf>,
    /// Only those of this site.
    #[arg(long, global = true)]
    site: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print how many wait and how many are dead, of each site and vendor.
    Status,
    /// Send dead letters again.
    Replay,
    /// Throw away events that wait, or dead letters.
    Purge {
        /// Dead letters, instead of what waits.
        #[arg(long)]
        dead: bool,
        /// What waits of every site: needed where none is named.
        #[arg(long)]
        all: bool,
    },
}

impl Events {
    pub(super) fn run(self) -> Result<(), Failure> {
        crate::telemetry::start_log();
        let config = configuration(self.config)?;
        let data = &config.node.data;
        let of_site = |lane: &String| {
            let site = lane.split_once('.').map(|(site, _)| site);
            self.site.as_deref().is_none_or(|wanted| site == Some(wanted))
        };
        let failed = |error: io::Error| Failure::Spool(data.display().to_string(), error);
        if let Command::Purge { dead: false, all: false } = self.command
            && self.site.is_none()
        {
            return Err(Failure::Everything);
        }
        let lanes = lanes(data).map_err(failed)?;
        known(self.site.as_deref(), &config, &lanes)?;
        let mut unsaid = Ok(());
        for lane in lanes.iter().filter(|lane| of_site(lane)) {
            let folder = data.join(FOLDER).join(lane);
            let dead = DeadLetters::new(&folder, config.node.events.dead_letters);
            let thrown = |count| format!("{} thrown away", events(count));
            let done = match self.command {
                Command::Status => status(&folder, &dead),
                Command::Replay => replay(lane, &folder, &dead),
                Command::Purge { dead: true, .. } => dead.erase(|_| true).map(thrown),
                Command::Purge { .. } => spool::erase(&folder, |_| true).map(thrown),
            };
            // Where nobody reads it, the others are done all the same.
            let said = say(format_args!("{lane}: {}", done.map_err(failed)?));
            unsaid = unsaid.and(said);
        }
        unsaid
    }
}

/// The site that is named has to be one that is configured, or one that was and has left something.
fn known(site: Option<&str>, config: &Config, lanes: &[String]) -> Result<(), Failure> {
    let Some(wanted) = site else { return Ok(()) };
    let configured = config.snapshot.all_sites.iter().map(|site| site.name.to_string());
    let left = lanes.iter().filter_map(|lane| Some(lane.split_once('.')?.0.to_owned()));
    let names: BTreeSet<String> = configured.chain(left).collect();
    if names.contains(wanted) {
        return Ok(());
    }
    Err(Failure::NoSite(wanted.to_owned(), names.into_iter().collect()))
}

fn events(count: usize) -> String {
    format!("{count} event{}", if count == 1 { "" } else { "s" })
}

fn status(folder: &Path, dead: &DeadLetters) -> io::Result<String> {
    let waiting = spool::status(folder)?;
    let mut letters = 0;
    dead.each(|_, _| {
        letters += 1;
        Ok(())
    })?;
    let since = waiting.oldest.map_or_else(String::new, |oldest| {
        let seconds = u64::try_from(now_millis().saturating_sub(oldest) / 1000).unwrap_or(0);
        format!(", since {}", humantime::format_duration(std::time::Duration::from_secs(seconds)))
    });
    let damaged = match waiting.damaged {
        0 => String::new(),
        bytes => format!(", {bytes} bytes damaged"),
    };
    let bytes = bytesize::ByteSize(waiting.bytes);
    Ok(format!("{} waiting ({bytes}{since}{damaged}), {letters} dead", events(waiting.events)))
}

/// One after the other: what has been added to the spool is erased here, so that a replay that is cut
/// short sends one of them twice at most.
fn replay(lane: &str, folder: &Path, dead: &DeadLetters) -> io::Result<String> {
    let spool = Spool::open(folder, Durability::Sync, Room::new(u64::MAX / 2).share(lane))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut count = 0;
    dead.each(|line, letter| {
        let Some(parcel) = letter.parcel() else { return Ok(()) };
        let sent = runtime.block_on(spool.append(&[parcel], Sender::Light));
        sent.map_err(|error| io::Error::other(error.to_string()))?;
        count += 1;
        line.erase()
    })?;
    Ok(format!("{} to be sent again", events(count)))
}
