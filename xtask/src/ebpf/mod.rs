//! `cargo xtask ebpf`: the kernel programs, from source to the objects kept in `tcpleak/bpf`.
//!
//! The objects are kept so that tcpleak builds with a stable compiler. `SOURCES` beside them has
//! the hash of what they were built from, and a test fails when the sources have moved on.

mod compile;
mod install;
mod kept;
mod object_file;
mod sources;
mod toolchain;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;

use crate::workspace::Workspace;
use kept::Record;
use toolchain::{Kind, Toolchain};

/// Options of `cargo xtask ebpf`.
#[derive(Args)]
pub struct Arguments {
    /// Change nothing: fail unless the kept objects are current, and rebuild them to compare the
    /// bytes where the toolchain that built them is installed
    #[arg(long)]
    check: bool,

    /// Write the objects here instead of into tcpleak/bpf
    #[arg(long, value_name = "DIR", conflicts_with = "check")]
    out: Option<PathBuf>,

    /// Use this toolchain; by default the first that is installed, else the first that can be
    #[arg(long, value_enum, conflicts_with = "check")]
    toolchain: Option<Kind>,
}

const ALL_KINDS: [Kind; 2] = [Kind::Rustup, Kind::Debian];

/// Builds the objects, or checks the kept ones.
pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    if arguments.check {
        return check(workspace);
    }
    let kinds = arguments
        .toolchain
        .map_or(ALL_KINDS.to_vec(), |kind| vec![kind]);
    let toolchain = find(workspace, &kinds)?;
    eprintln!(
        "Building the kernel programs with {}: {}",
        toolchain.kind, toolchain.versions
    );
    // Before compiling: what is edited meanwhile counts as changed.
    let sources = sources::hash(&workspace.root)?;
    let objects = compile::all(workspace, &toolchain)?;
    let record = Record::of(sources, toolchain.versions, &objects);
    let directory = arguments
        .out
        .clone()
        .unwrap_or_else(|| workspace.kept_objects());
    kept::write(&directory, &record, &objects)?;
    for (name, bytes) in &objects {
        println!("{}: {} bytes", directory.join(name).display(), bytes.len());
    }
    Ok(())
}

/// Runs clippy over the kernel programs, with whichever toolchain can build them.
pub fn clippy(workspace: &Workspace) -> Result<()> {
    compile::clippy(workspace, &find(workspace, &ALL_KINDS)?)
}

fn find(workspace: &Workspace, kinds: &[Kind]) -> Result<Toolchain> {
    let recorded = Record::read(&workspace.kept_objects())
        .ok()
        .map(|record| record.toolchain);
    toolchain::find(kinds, recorded.as_ref())
}

fn check(workspace: &Workspace) -> Result<()> {
    let record = verify_kept(workspace)?;
    println!("The kept objects are those of the sources.");
    let installed = toolchain::installed(&ALL_KINDS);
    let Some(same) = installed
        .iter()
        .find(|found| found.versions == record.toolchain)
    else {
        println!(
            "Their bytes were not compared: {} is not installed here.",
            record.toolchain
        );
        return Ok(());
    };
    let rebuilt = compile::all(workspace, same)?;
    for (name, bytes) in kept::read_objects(&workspace.kept_objects())? {
        ensure!(
            rebuilt.get(&name) == Some(&bytes),
            "{name} differs from what its own toolchain builds: run `cargo xtask ebpf`"
        );
    }
    println!("They are, byte for byte, what {} builds.", record.toolchain);
    Ok(())
}

/// Compares the kept objects with their record and the record with the sources; builds nothing.
fn verify_kept(workspace: &Workspace) -> Result<Record> {
    let directory = workspace.kept_objects();
    let record = Record::read(&directory)?;
    record.verify(
        &sources::hash(&workspace.root)?,
        &kept::read_objects(&directory)?,
    )?;
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kept_objects_come_from_the_current_sources() {
        if let Err(error) = Workspace::locate().and_then(|workspace| verify_kept(&workspace)) {
            panic!("{error:#}");
        }
    }
}
