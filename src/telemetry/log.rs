//! The node's own log, on standard error. It never fails, waits for or ends the node.

use std::sync::OnceLock;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::lines::Lines;
use super::metrics::LOG_LINES_LOST;

/// At the end of a process its log has so long to leave.
const AT_THE_END: Duration = Duration::from_secs(1);

fn lines() -> &'static Lines {
    static LINES: OnceLock<Lines> = OnceLock::new();
    LINES.get_or_init(|| {
        Lines::to("log", std::io::stderr(), LOG_LINES_LOST.with_label_values(&["node"]))
    })
}

/// Starts the log: `RUST_LOG` chooses what it says, warnings and the node's own milestones by
/// default. Panics are reported through it.
pub fn start() {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("warn,doorstep=info,pingora_core::server=error,pingora_core::services=error,pingora_core::listeners=error,pingora_proxy=off,pingora_cache=error,pingora_core=error"));
    // A second start, as in tests, keeps the first.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(lines)
        .with_target(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .log_internal_errors(false)
        .try_init();
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(|at| format!("{}:{}", at.file(), at.line()));
        let message = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(at = at.as_deref().unwrap_or("unknown"), message, "panic");
    }));
}

/// Lets what has been said leave, before the process ends.
pub fn settle() {
    lines().settle(AT_THE_END);
    super::access_log::settle(AT_THE_END);
}
