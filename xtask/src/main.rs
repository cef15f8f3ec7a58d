//! The project's own tasks: `cargo xtask --help` lists them. One file per task.

mod bench;
mod check;
mod demo;
mod ebpf;
mod package;
mod process;
mod soak;
mod test;
mod test_line;
mod vm;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use workspace::Workspace;

/// The project's own tasks.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the kernel programs from source, or check the objects kept in tcpleak/bpf
    Ebpf(ebpf::Arguments),
    /// Run all tests: the pure ones, then the end-to-end ones as root
    Test(test::Arguments),
    /// Run tcpleak on a program that leaks, and show the report
    Demo(demo::Arguments),
    /// Measure what tcpleak costs: start and each kernel program, or code paths
    Bench(bench::Arguments),
    /// Have tcpleak serve on a busy host, and see whether it stays small, cheap and right
    Soak(soak::Arguments),
    /// Check format, lints, documentation and licences
    Check,
    /// Prove that the published packages build and hold all that they need
    Package,
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    let workspace = Workspace::locate()?;
    match task {
        Task::Ebpf(arguments) => ebpf::run(&workspace, &arguments),
        Task::Test(arguments) => test::run(&workspace, &arguments),
        Task::Demo(arguments) => demo::run(&workspace, &arguments),
        Task::Bench(arguments) => bench::run(&workspace, &arguments),
        Task::Soak(arguments) => soak::run(&workspace, &arguments),
        Task::Check => check::run(&workspace),
        Task::Package => package::run(&workspace),
    }
}
