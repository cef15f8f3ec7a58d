//! Where the workspace and its build directory are.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::process;

/// The directories of the workspace, as cargo sees them.
#[derive(Debug, Deserialize)]
pub struct Workspace {
    /// Directory of the workspace's `Cargo.toml`.
    #[serde(rename = "workspace_root")]
    pub root: PathBuf,
    /// Directory that cargo builds into.
    #[serde(rename = "target_directory")]
    pub target: PathBuf,
}

impl Workspace {
    /// Asks cargo. Fails outside the workspace.
    pub fn locate() -> Result<Self> {
        let metadata = process::output(Command::new(host_cargo()).args([
            "metadata",
            "--no-deps",
            "--format-version=1",
        ]))?;
        serde_json::from_str(&metadata).context("reading what `cargo metadata` said")
    }

    /// The cargo that runs this task, in the root of the workspace.
    pub fn cargo(&self) -> Command {
        let mut command = Command::new(host_cargo());
        command.current_dir(&self.root);
        command
    }

    /// Where the objects of the kernel programs are kept.
    pub fn kept_objects(&self) -> PathBuf {
        self.root.join("tcpleak/bpf")
    }
}

/// Cargo names itself to the programs that it runs.
pub fn host_cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}
