//! `cargo xtask check`: everything that is checked without running the product.

use anyhow::{Context, Result};

use crate::workspace::Workspace;
use crate::{ebpf, process};

/// Format, lints of both sides, documentation, licences; the first that fails ends it.
pub fn run(workspace: &Workspace) -> Result<()> {
    process::run(workspace.cargo().args(["fmt", "--all", "--check"]))?;
    process::run(workspace.cargo().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "--deny",
        "warnings",
    ]))?;
    ebpf::clippy(workspace)?;
    process::run(
        workspace
            .cargo()
            .args(["doc", "--no-deps", "--workspace"])
            .env("RUSTDOCFLAGS", "--deny warnings"),
    )?;
    process::run(
        workspace
            .cargo()
            .args(["deny", "check", "licenses", "bans", "sources"]),
    )
    .context("`cargo install --locked cargo-deny` installs cargo-deny")
}
