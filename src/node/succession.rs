//! One process after another: the next one is started by this one, gets its sockets, says when it is ready, and this one
//! goes on until the next has served for a while. Whatever becomes of the next one, nothing is lost: both have the
//! sockets.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::time::timeout;

use super::sockets::{SOCKETS, Sockets, adopt};

/// By which a process tells the next one on which descriptor they talk.
const CHANNEL: &str = "DOORSTEP_CHANNEL";
/// So long the next process may take to be ready.
const START_WITHIN: Duration = Duration::from_mins(1);
/// So long it has to serve before this one leaves.
const PROVES_ITSELF: Duration = Duration::from_secs(5);
/// Asked then whether it goes on, it answers within this.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// What it may say of a failure.
const MAX_LINE: u64 = 16 * 1024;

const HERE: &str = "here ";
const READY: &str = "ready";
const FAILED: &str = "failed ";
const GOES_ON: &str = "goes on";
const ASKED: u8 = b'?';
const YOURS: u8 = b'y';
const STOP: u8 = b'n';
const LEAVE: u8 = b'l';

/// The next process, as this one knows it.
pub(super) struct Successor {
    said: BufReader<tokio::net::UnixStream>,
    pid: Option<i32>,
    /// The process itself: its number may be another one's once it has ended.
    handle: Option<OwnedFd>,
    /// It has said that it serves.
    serves: bool,
}

/// What becomes of a next process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follows {
    /// It is the one from now on.
    Takes,
    /// The one before goes on.
    Stops,
    /// Both end, with what is in flight.
    Leaves,
}

/// Why the next process does not take over.
#[derive(Debug, thiserror::Error)]
pub enum NoSuccessor {
    /// It can't be started at all.
    #[error("the next process can't be started: {0}")]
    Start(#[from] io::Error),
    /// It says so.
    #[error("the next process did not start:\n{0}")]
    Failed(String),
    /// It has ended without a word.
    #[error("the next process ended before it had served for {} s", PROVES_ITSELF.as_secs())]
    Ended,
    /// It runs, and does nothing.
    #[error("the next process does not answer any more")]
    Silent,
    /// This process is to end, and not to be followed.
    #[error("the process ends")]
    Unwanted,
    /// It takes too long.
    #[error("the next process was not ready within {} s", START_WITHIN.as_secs())]
    Slow,
}

impl Successor {
    /// Starts `binary` with the configuration `file`. It is started by a process that ends at once, so that it is the
    /// service manager's child and not this one's: what a service manager has not started itself it does not wait for.
    pub(super) fn start(binary: &Path, file: &Path, sockets: &Sockets) -> io::Result<Self> {
        let (own, other) = UnixStream::pair()?;
        own.set_nonblocking(true)?;
        let (told, copies) = sockets.for_next()?;
        let channel = rustix::io::dup(&other)?;
        let mut between = Command::new(binary)
            .args(["run", "--detach", "--config"])
            .arg(file)
            .env(SOCKETS, told)
            .env(CHANNEL, channel.as_raw_fd().to_string())
            .stdin(Stdio::null())
            .spawn()?;
        // It has them by now.
        drop((copies, channel, other));
        std::thread::Builder::new().name("between".into()).spawn(move || between.wait())?;
        Ok(Self {
            said: BufReader::new(tokio::net::UnixStream::from_std(own)?),
            pid: None,
            handle: None,
            serves: false,
        })
    }

    /// Waits until it serves.
    pub(super) async fn get_ready(&mut self) -> Result<(), NoSuccessor> {
        timeout(START_WITHIN, self.is_ready()).await.map_err(|_| NoSuccessor::Slow)??;
        self.serves = true;
        tracing::info!(pid = self.pid.unwrap_or_default(), "the next process is ready");
        Ok(())
    }

    /// Waits until it has served for a while.
    pub(super) async fn prove_itself(&mut self) -> Result<(), NoSuccessor> {
        match timeout(PROVES_ITSELF, self.line()).await {
            // It has nothing more to say: that is its end.
            Ok(_) => return Err(NoSuccessor::Ended),
            Err(_) => {
                self.said.get_mut().write_all(&[ASKED]).await.map_err(|_| NoSuccessor::Ended)?;
            }
        }
        match timeout(ANSWERS_WITHIN, self.line()).await {
            Ok(Ok(line)) if line == GOES_ON => Ok(()),
            Ok(_) => Err(NoSuccessor::Ended),
            Err(_) => Err(NoSuccessor::Silent),
        }
    }

    async fn is_ready(&mut self) -> Result<(), NoSuccessor> {
        loop {
            let line = self.line().await?;
            if let Some(pid) = line.strip_prefix(HERE) {
                self.pid = pid.parse().ok();
                let process = self.pid.and_then(Pid::from_raw);
                self.handle = process.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
            } else if let Some(why) = line.strip_prefix(FAILED) {
                return Err(NoSuccessor::Failed(why.replace('\r', "\n")));
            } else if line == READY {
                return Ok(());
            }
        }
    }

    async fn line(&mut self) -> Result<String, NoSuccessor> {
        let mut line = String::new();
        let mut bounded = tokio::io::AsyncReadExt::take(&mut self.said, MAX_LINE);
        match bounded.read_line(&mut line).await {
            Ok(read) if read > 0 && line.ends_with('\n') => {
                line.pop();
                Ok(line)
            }
            _ => Err(NoSuccessor::Ended),
        }
    }

    /// Its process id, once it has said it.
    pub(super) fn pid(&self) -> Option<i32> {
        self.pid
    }

    /// Lets it be the one. `again`: it is to read its configuration once more.
    pub(super) async fn hand_over(mut self, again: bool) {
        // Where it has just ended, nobody can help it any more.
        let _ = self.said.get_mut().write_all(&[YOURS]).await;
        if again {
            self.signal(Signal::HUP);
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = &self.handle {
            // It may have ended by itself.
            let _ = pidfd_send_signal(process, signal);
        }
    }

    /// This process ends: one that serves does what is in flight as well, and has ended behind that.
    pub(super) async fn leave_as_well(mut self) {
        if !self.serves || self.said.get_mut().write_all(&[LEAVE]).await.is_err() {
            return self.stop().await;
        }
        // It has nothing more to say but what it was asked before.
        while self.line().await.is_ok() {}
    }

    /// Ends it.
    pub(super) async fn stop(mut self) {
        let _ = self.said.get_mut().write_all(&[STOP]).await;
        self.signal(Signal::KILL);
    }
}

/// The process that started this one.
#[derive(Debug)]
pub struct Predecessor(UnixStream);

impl Predecessor {
    /// The one that the environment names, if any.
    #[must_use]
    pub fn take() -> Option<Self> {
        let number = std::env::var(CHANNEL).ok()?.parse().ok()?;
        let mut channel = UnixStream::from(adopt(number)?);
        writeln!(channel, "{HERE}{}", std::process::id()).ok()?;
        Some(Self(channel))
    }

    /// Tells it why this process does not start.
    pub fn fail(&mut self, why: &str) {
        // Where it is gone, nobody wants to know.
        let _ = writeln!(self.0, "{FAILED}{}", why.replace('\n', "\r"));
    }

    /// A second one, to talk to the same process.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn again(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Tells it that this process serves, and waits for what becomes of this one. Where the other one is gone, this is it.
    pub(super) fn answer(&mut self) -> Follows {
        let mut answer = [0];
        let _ = writeln!(self.0, "{READY}");
        while matches!(self.0.read(&mut answer), Ok(1) if answer == [ASKED]) {
            // Where it is gone, reading tells.
            let _ = writeln!(self.0, "{GOES_ON}");
        }
        match answer {
            [STOP] => Follows::Stops,
            [LEAVE] => Follows::Leaves,
            _ => Follows::Takes,
        }
    }
}
