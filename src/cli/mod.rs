//! The command line.

mod run;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Config, Problems};
use crate::node::StartError;

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
    },
    /// Print the JSON Schema of the configuration.
    Schema,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The file can't be read.
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
    Configuration(Problems),
    /// The node can't start.
    #[error("{}", chain(.0))]
    Start(StartError),
    /// Anything that the demonstration needs.
    #[error("the demonstration can't start: {0}")]
    Demo(#[source] std::io::Error),
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
            Self::Configuration(_) | Self::Unreadable { .. } | Self::NoConfiguration => {
                ExitCode::from(1)
            }
            Self::Start(_) | Self::Demo(_) => ExitCode::from(2),
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
            Command::Check { file } => {
                load(&file)?;
                println!("{}: good", file.display());
                Ok(())
            }
            Command::Schema => {
                println!("{:#}", crate::config::schema());
                Ok(())
            }
        }
    }
}

/// Reads and compiles a configuration file.
fn load(file: &Path) -> Result<Config, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|cause| Failure::Unreadable { file: file.display().to_string(), cause })?;
    let env = |name: &str| std::env::var(name).ok();
    crate::config::load(&file.display().to_string(), &text, env).map_err(Failure::Configuration)
}
