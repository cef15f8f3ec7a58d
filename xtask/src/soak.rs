//! `cargo xtask soak`: tcpleak as a service on a busy host, for as long as one wants.

use anyhow::{Context, Result};
use clap::Args;

use crate::process;
use crate::test::{END_TO_END, build_tcpleak};
use crate::workspace::Workspace;

/// Options of `cargo xtask soak`.
#[derive(Args)]
pub struct Arguments {
    /// How long; from 30 minutes on the growth of memory and the cost are judged too
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    minutes: u32,
}

/// Builds what makes the host busy, and runs it as root.
pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let tcpleak = build_tcpleak(workspace)?;
    let build = [
        "build",
        "--release",
        "--package",
        END_TO_END,
        "--bin",
        "soak",
    ];
    process::run(workspace.cargo().args(build))?;
    let soak = workspace.target.join("release").join("soak");
    let mut soak = process::as_root(soak).context("kernel programs are for root")?;
    process::run(soak.arg(tcpleak).arg(arguments.minutes.to_string()))
}
