//! The `doorstep` command. What it does lives in the library.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// First-party analytics, identity and personalisation on a site's own edge nodes.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check a configuration file: exit code 1 and every problem with its place.
    Check {
        /// The file.
        file: std::path::PathBuf,
    },
    /// Print the JSON Schema of the configuration.
    Schema,
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Check { file } => check(&file),
        Command::Schema => {
            println!("{:#}", doorstep::config::schema());
            ExitCode::SUCCESS
        }
    }
}

fn check(file: &std::path::Path) -> ExitCode {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("{}: {error}", file.display());
            return ExitCode::FAILURE;
        }
    };
    let name = file.display().to_string();
    match doorstep::config::read(&name, &text, |name| std::env::var(name).ok()) {
        Ok(_) => {
            println!("{name}: good");
            ExitCode::SUCCESS
        }
        Err(problems) => {
            eprintln!("{problems}");
            ExitCode::FAILURE
        }
    }
}
