//! `doorstep run`: a node from its configuration, the demonstration, or a try before one's own site.

use std::path::PathBuf;

use clap::Args;

use super::{Failure, file, load};
use crate::demo;
use crate::node::{self, Inherited, Predecessor, Start};
use crate::telemetry::start_log;

/// Run a node.
#[derive(Args)]
pub(super) struct Run {
    /// The configuration. Without it: conf/doorstep.yaml, else /etc/doorstep/doorstep.yaml.
    #[arg(short, long)]
    config: Option<PathBuf>,
    /// Serve a small built-in shop, with a stand-in for the vendor: nothing leaves this machine.
    #[arg(long, conflicts_with = "config")]
    demo: bool,
    /// Try it before your own site: its address, such as <https://www.shop.example>.
    #[arg(long, value_name = "URL", requires = "write_key", conflicts_with_all = ["config", "demo"])]
    origin: Option<String>,
    /// The write key of your Segment source, for --origin.
    #[arg(long, value_name = "KEY", requires = "origin")]
    write_key: Option<String>,
    /// Where --demo and --origin listen.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: std::net::SocketAddr,
    /// Start the node as another process, and end: it is not the child of who wants it.
    #[arg(long, hide = true, requires = "config")]
    detach: bool,
}

impl Run {
    pub(super) fn run(self) -> Result<(), Failure> {
        if self.detach {
            return detach(self.config);
        }
        node::hold_signals();
        node::use_small_pages();
        let predecessor = Predecessor::take();
        start_log();
        node::use_all_descriptors();
        if self.demo || self.origin.is_some() {
            let own = self.origin.as_deref().zip(self.write_key.as_deref());
            let (config, start) = demo::prepare(self.listen, own)?;
            return node::run(config, start).map_err(Failure::Start);
        }
        let mut told = predecessor.as_ref().and_then(|predecessor| predecessor.again().ok());
        let ended = follow(self.config, predecessor);
        if let (Err(failure), Some(told)) = (&ended, &mut told) {
            told.fail(&failure.to_string());
        }
        ended
    }
}

/// Runs a node, behind the one before where there is one.
fn follow(named: Option<PathBuf>, predecessor: Option<Predecessor>) -> Result<(), Failure> {
    let file = file(named)?;
    let config = load(&file)?;
    for warning in config.warnings.list() {
        tracing::warn!(at = warning.pointer(), "{}", warning.message());
    }
    // The next process is started from another directory's point of view at most.
    let config_file = std::path::absolute(&file).ok();
    let inherited = if predecessor.is_some() { Inherited::take() } else { Inherited::default() };
    let start = Start { predecessor, inherited, config_file, ..Start::default() };
    node::run(config, start).map_err(Failure::Start)
}

/// Starts the same command without `--detach`, with everything that this process was given.
fn detach(config: Option<PathBuf>) -> Result<(), Failure> {
    let binary = std::env::current_exe().map_err(Failure::Detach)?;
    let mut command = std::process::Command::new(binary);
    command.args(["run", "--config"]).args(config);
    command.spawn().map(drop).map_err(Failure::Detach)
}
