//! `doorstep run`: a node from its configuration, the demonstration, or a try before one's own site.

use std::path::PathBuf;

use clap::Args;

use super::{Failure, file, load};
use crate::demo;
use crate::node::{self, Start};
use crate::telemetry::start_log;

/// Run a node.
#[derive(Args)]
pub(super) struct Run {
    /// The configuration. Without it: conf/doorstep.yaml, else /etc/doorstep/doorstep.yaml.
    #[arg(short, long)]
    config: Option<PathBuf>,
    /// Serve a small built-in shop, with a stand-in for the vendor: nothing leaves this machine.
    #[arg(long, conflicts_with_all = ["config", "upgrade"])]
    demo: bool,
    /// Try it before your own site: its address, such as <https://www.shop.example>.
    #[arg(long, value_name = "URL", requires = "write_key", conflicts_with_all = ["config", "demo", "upgrade"])]
    origin: Option<String>,
    /// The write key of your Segment source, for --origin.
    #[arg(long, value_name = "KEY", requires = "origin")]
    write_key: Option<String>,
    /// Where --demo and --origin listen.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: std::net::SocketAddr,
    /// Take the listeners over from the process that started this one.
    #[arg(long, hide = true, value_name = "PID")]
    upgrade: Option<i32>,
}

impl Run {
    pub(super) fn run(self) -> Result<(), Failure> {
        node::use_small_pages();
        start_log();
        if self.demo || self.origin.is_some() {
            let own = self.origin.as_deref().zip(self.write_key.as_deref());
            let (config, start) = demo::prepare(self.listen, own)?;
            return node::run(config, start).map_err(Failure::Start);
        }
        let file = file(self.config)?;
        let config = load(&file)?;
        for warning in config.warnings.list() {
            tracing::warn!(at = warning.pointer(), "{}", warning.message());
        }
        // The next process is started from another directory's point of view at most.
        let config_file = std::path::absolute(&file).ok();
        let start = Start { upgrade: self.upgrade, config_file, ..Start::default() };
        node::run(config, start).map_err(Failure::Start)
    }
}
