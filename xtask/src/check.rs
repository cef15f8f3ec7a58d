//! `cargo xtask check`: everything that is checked without running the product.

use std::process::Command;

use anyhow::{Context, Result};

use crate::workspace::Workspace;
use crate::{ebpf, process};

/// Format, lints of both sides, documentation, licences; the first that fails ends it.
pub fn run(workspace: &Workspace) -> Result<()> {
    let cargo = |words: &str| -> Command {
        let mut command = workspace.cargo();
        command.args(words.split(' '));
        command
    };
    process::run(&mut cargo("fmt --all --check"))?;
    process::run(&mut cargo(
        "clippy --workspace --all-targets -- --deny warnings",
    ))?;
    ebpf::clippy(workspace)?;
    process::run(cargo("doc --no-deps --workspace").env("RUSTDOCFLAGS", "--deny warnings"))?;
    process::output(&mut cargo("deny --version"))
        .context("cargo-deny is missing: run `cargo install --locked cargo-deny`")?;
    process::run(&mut cargo(
        "deny check --hide-inclusion-graph licenses bans sources",
    ))
}
