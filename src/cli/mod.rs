//! The command line.

mod events;
mod explain;
mod preview;
mod profile;
mod reload;
mod run;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Config, LoadError};
use crate::node::StartError;
use crate::profile::KeyError;
use crate::profile::store::StoreError;

/// First-party analytics, identity and personalisation on a site's own edge nodes.
#[derive(Parser)]
#[command(version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a node.
    Run(run::Run),
    /// Check a configuration file: exit code 1 and every problem with its place.
    Check {
        /// The file.
        file: PathBuf,
        /// Warnings are problems as well.
        #[arg(long)]
        strict: bool,
    },
    /// Let the running node take its configuration.
    Reload(reload::Reload),
    /// Look at profiles and change them.
    Profile(profile::Profile),
    /// Look at events on their way, send dead letters again, throw events away.
    Events(events::Events),
    /// Tell what a request would get and why: site, route, identity, profile, every rule.
    Explain(explain::Explain),
    /// Make a preview link.
    Preview(preview::Preview),
    /// Print the JSON Schema of the configuration.
    Schema,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A file of profiles can't be read.
    #[error("{file}: {cause}")]
    Unreadable {
        /// Which.
        file: String,
        /// Why.
        cause: std::io::Error,
    },
    /// There is no file in any of the usual places.
    #[error("no configuration: name one with --config, or try `doorstep run --demo`")]
    NoConfiguration,
    /// The configuration is wrong.
    #[error(transparent)]
    Configuration(#[from] LoadError),
    /// The running node does not take it.
    #[error("{0}")]
    NotTaken(String),
    /// There is no running node.
    #[error("no node answers at {address}, the `admin` address of the configuration: {cause}")]
    Unreachable {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        cause: std::io::Error,
    },
    /// The node can't start.
    #[error("{}", chain(.0))]
    Start(StartError),
    /// The next process.
    #[error("the process can't be started: {0}")]
    Detach(#[source] std::io::Error),
    /// The profile store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An id is wrong.
    #[error("`{0}`: {1}")]
    Id(String, KeyError),
    /// A trait is not of the form that is expected.
    #[error("`{0}`: expected `name=value`, such as `red_group=true` or `city=Vancouver`")]
    Assignment(String),
    /// Which site is meant is not known.
    #[error("name the site with --site: one of {}", .0.join(", "))]
    Site(Vec<String>),
    /// There is no such site.
    #[error("there is no site `{0}`: one of {names}", names = .1.join(", "))]
    NoSite(String, Vec<String>),
    /// Events of every site would go.
    #[error("name the site with --site, or every site with --all")]
    Everything,
    /// The event spool.
    #[error("the events in {0} can't be had: {1}")]
    Spool(String, #[source] std::io::Error),
    /// Nobody is known under an id.
    #[error("nobody is known as {0}")]
    Unknown(String),
    /// Some of the lines of an import were not taken.
    #[error("{0} lines were refused")]
    Refused(u64),
    /// A URL can't be explained.
    #[error(
        "`{0}`: expected a URL such as https://www.shop.example/sale?x=1, of a host that a site has"
    )]
    Url(String),
    /// A header is not of the form that is expected.
    #[error("`{0}`: expected `name: value`")]
    Header(String),
    /// No such variant.
    #[error("`{0}`: expected `experiment=variant`, as the site has them")]
    Variant(String),
    /// Nothing to sign with.
    #[error("the site has no `signing_keys`: `openssl rand -hex 32` makes one")]
    NoKey,
    /// The page that is to be looked at can't be had.
    #[error("the page can't be had: {0}")]
    Page(String),
    /// No threads.
    #[error("no runtime: {0}")]
    Runtime(#[source] std::io::Error),
    /// What there is to say can't be written.
    #[error("the output can't be written: {0}")]
    Output(#[source] std::io::Error),
    /// The demonstration's address is taken, or not this machine's.
    #[error("can't listen on {0}: {1}. Name another address with `--listen 127.0.0.1:{port}`", port = other_port(*.0))]
    Taken(std::net::SocketAddr, #[source] std::io::Error),
    /// Anything that the demonstration needs.
    #[error("the demonstration can't start: {0}")]
    Demo(#[source] std::io::Error),
}

/// A port to try where that of `address` can't be had.
fn other_port(address: std::net::SocketAddr) -> u16 {
    address.port().checked_add(1).unwrap_or(8080).max(1024)
}

/// Prints what may be long. A reader that has seen enough (`| head`) is no failure.
fn say(text: std::fmt::Arguments<'_>) -> Result<(), Failure> {
    use std::io::{ErrorKind, Write};
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::Output(error)),
        _ => Ok(()),
    }
}

/// An error and its causes, one a line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut out = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        out.push_str("\n  because: ");
        out.push_str(&error.to_string());
        cause = error.source();
    }
    out
}

impl Failure {
    /// 1 for a wrong configuration, which a service manager must not try again; 2 for the rest.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Configuration(_)
            | Self::NotTaken(_)
            | Self::Unreadable { .. }
            | Self::NoConfiguration
            | Self::Id(..)
            | Self::Assignment(_)
            | Self::Site(_)
            | Self::NoSite(..)
            | Self::Everything
            | Self::Unknown(_)
            | Self::Refused(_)
            | Self::Url(_)
            | Self::Header(_)
            | Self::Variant(_)
            | Self::NoKey
            | Self::Page(_) => ExitCode::from(1),
            Self::Start(_)
            | Self::Unreachable { .. }
            | Self::Detach(_)
            | Self::Demo(_)
            | Self::Taken(..)
            | Self::Store(_)
            | Self::Spool(..)
            | Self::Output(_)
            | Self::Runtime(_) => ExitCode::from(2),
        }
    }
}

impl Cli {
    /// Does what the command says.
    ///
    /// # Errors
    /// Why it could not.
    pub fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Run(run) => run.run(),
            Command::Check { file, strict } => {
                let config = load(&file)?;
                let warned = if config.warnings.is_empty() { "" } else { ", with warnings" };
                if strict && !config.warnings.is_empty() {
                    return Err(Failure::Configuration(config.warnings.into()));
                }
                eprint!("{}", config.warnings.text());
                say(format_args!("{}: good{warned}", file.display()))
            }
            Command::Reload(reload) => reload.run(),
            Command::Profile(profile) => profile.run(),
            Command::Events(events) => events.run(),
            Command::Explain(explain) => explain.run(),
            Command::Preview(preview) => preview.run(),
            Command::Schema => say(format_args!("{:#}", crate::config::schema())),
        }
    }
}

/// Where a configuration is looked for.
const USUAL_PLACES: [&str; 2] = ["conf/doorstep.yaml", "/etc/doorstep/doorstep.yaml"];

/// The file that was named, or the first that is in a usual place.
fn file(named: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let usual = || USUAL_PLACES.iter().map(PathBuf::from).find(|file| file.exists());
    named.or_else(usual).ok_or(Failure::NoConfiguration)
}

/// The configuration in the file that was named, or in a usual place.
fn configuration(named: Option<PathBuf>) -> Result<Config, Failure> {
    load(&file(named)?)
}

/// Reads and compiles a configuration file.
fn load(file: &Path) -> Result<Config, Failure> {
    Ok(crate::config::load_file(file)?)
}
