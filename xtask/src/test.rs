//! `cargo xtask test`: the pure tests, and the end-to-end ones on the running kernel, or on others.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::process;
use crate::test_line;
use crate::vm;
use crate::workspace::Workspace;

/// The package of the end-to-end tests and of the leaking programs that they watch.
pub const END_TO_END: &str = "tcpleak-tests";

/// Most failed tests that are run once more: more than that are no accident.
const TRIED_AGAIN: usize = 3;

/// Options of `cargo xtask test`.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    machines: vm::Options,
    /// Try the readers of language runtimes on so many made-up memory images, and run nothing else
    #[arg(long, value_name = "IMAGES", conflicts_with = "harness")]
    fuzz: Option<u64>,
    /// Passed to the test programs, such as a part of a test's name
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "FILTER"
    )]
    harness: Vec<String>,
}

/// Runs everything; fails where programs may not be loaded into the kernel.
pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    if arguments.machines.are_given() {
        return vm::run(workspace, &arguments.machines, &arguments.harness);
    }
    if let Some(images) = arguments.fuzz {
        return fuzz(workspace, images);
    }
    process::run(
        workspace
            .cargo()
            .args(["test", "--workspace", "--exclude", END_TO_END, "--"])
            .args(&arguments.harness),
    )?;
    let tcpleak = build_tcpleak(workspace)?;
    process::run(
        workspace
            .cargo()
            .args(["build", "--package", END_TO_END, "--bins"]),
    )?;
    end_to_end(workspace, &tcpleak, &arguments.harness)
}

/// Runs the end-to-end tests. They watch the whole host, and on a busy one what they wait for may come too
/// late: so those that fail are run once more by themselves, and named all the same.
fn end_to_end(workspace: &Workspace, tcpleak: &Path, harness: &[String]) -> Result<()> {
    let mut tests = tests(workspace, tcpleak)?;
    let failed = failed(tests.arg("--no-fail-fast").arg("--").args(harness))?;
    if failed.is_empty() {
        return Ok(());
    }
    let named = failed.join(", ");
    ensure!(failed.len() <= TRIED_AGAIN, "these tests failed: {named}");
    eprintln!("failed, and run once more by themselves: {named}");
    let mut tests = self::tests(workspace, tcpleak)?;
    let again = ["--", "--exact", "--test-threads=1"];
    let failed = self::failed(tests.args(again).args(&failed))?;
    ensure!(failed.is_empty(), "failed twice: {}", failed.join(", "));
    eprintln!("passed only when they were run once more: {named}");
    Ok(())
}

fn tests(workspace: &Workspace, tcpleak: &Path) -> Result<Command> {
    let mut tests = workspace.cargo();
    tests
        .args(["test", "--package", END_TO_END])
        .env("TCPLEAK_BIN", tcpleak)
        .env("TCPLEAK_FIXTURES", workspace.target.join("debug"));
    if !process::is_root() {
        process::may_sudo().context("the end-to-end tests load programs into the kernel")?;
        // Cargo itself stays who it is: only the test programs run as root.
        tests.args([
            "--config",
            "target.'cfg(all())'.runner=['sudo', '--preserve-env', '--']",
        ]);
    }
    Ok(tests)
}

/// Runs tests and gives the names of those that failed.
fn failed(tests: &mut Command) -> Result<Vec<String>> {
    let mut failed = Vec::new();
    let succeeded = process::watch(tests, |line| {
        if let Some((name, false)) = test_line::verdict(line) {
            failed.push(name.to_owned());
        }
    })?;
    ensure!(
        succeeded || !failed.is_empty(),
        "the tests ended without a word of what failed"
    );
    Ok(failed)
}

/// Runs the tests that try made-up memory, on more of it.
fn fuzz(workspace: &Workspace, images: u64) -> Result<()> {
    process::run(
        workspace
            .cargo()
            .args([
                "test",
                "--release",
                "--package",
                "tcpleak",
                "--lib",
                "made_up",
            ])
            .env("TCPLEAK_FUZZ_IMAGES", images.to_string()),
    )
}

/// Builds tcpleak as it is released, and returns the path of the program.
pub fn build_tcpleak(workspace: &Workspace) -> Result<PathBuf> {
    process::run(
        workspace
            .cargo()
            .args(["build", "--release", "--package", "tcpleak"]),
    )?;
    Ok(workspace.target.join("release/tcpleak"))
}
