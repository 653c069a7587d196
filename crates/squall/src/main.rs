//! What did the person ask, and what do they see?
#![forbid(unsafe_code)]

mod cli;
mod client;
mod commands;
mod early;
mod exit;
mod files;
mod output;
mod places;

use std::process::ExitCode;

use clap::Parser;

use cli::Cli;
use exit::Exit;

/// Parse, then run; every exit code is decided here or by an early entry.
fn main() -> ExitCode {
    // Before any thread: holders and virtual hosts are this same program.
    if let Some(code) = early::entry() {
        return code;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers; all else is a mistake in the line.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Held };
            // Nobody is left to tell where the output is closed.
            let _ = error.print();
            return exit.into();
        }
    };
    match commands::dispatch(cli) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            output::talk(failure.to_string());
            failure.exit.into()
        }
    }
}
