//! Parse, run, say what went wrong.

use std::process::ExitCode;

use clap::Parser;
use tcpleak::{app, cli::Cli};

fn main() -> ExitCode {
    match app::run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => app::explain(&error),
    }
}
