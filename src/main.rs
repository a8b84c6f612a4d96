//! The `doorstep` command. What it does lives in the library.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

/// Measured against the system's allocator: see the README.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match doorstep::cli::Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Whoever does not listen misses it; the exit code tells the rest.
            let _ = writeln!(std::io::stderr(), "{failure}");
            failure.exit_code()
        }
    }
}
