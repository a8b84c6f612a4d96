//! The node's own log, on standard error.

use tracing_subscriber::EnvFilter;

/// Starts the log: `RUST_LOG` chooses what it says, warnings and the node's own milestones by
/// default. Panics are reported through it.
pub fn start() {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("warn,doorstep=info,pingora_core::server=error,pingora_core::server::transfer_fd=off,pingora_core::services=error,pingora_core::listeners=error,pingora_proxy=off,pingora_cache=error,pingora_core=error"));
    // A second start, as in tests, keeps the first.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .try_init();
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(|at| format!("{}:{}", at.file(), at.line()));
        let message = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(at = at.as_deref().unwrap_or("unknown"), message, "panic");
    }));
}
