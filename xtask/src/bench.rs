//! `cargo xtask bench`: what tcpleak costs on this machine.

use anyhow::{Context, Result};

use crate::process;
use crate::test::{END_TO_END, build_tcpleak};
use crate::workspace::Workspace;

/// Times the start, and every kernel program under a workload of short connections.
pub fn run(workspace: &Workspace) -> Result<()> {
    let tcpleak = build_tcpleak(workspace)?;
    process::run(workspace.cargo().args([
        "build",
        "--release",
        "--package",
        END_TO_END,
        "--bin",
        "hook-cost",
    ]))?;
    let mut bench = process::as_root(workspace.target.join("release/hook-cost"))
        .context("the kernel's accounting of its programs is for root")?;
    process::run(bench.arg(tcpleak))
}
