//! `cargo xtask bench`: what tcpleak costs on this machine.

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use crate::process;
use crate::test::{END_TO_END, build_tcpleak};
use crate::workspace::Workspace;

/// Options of `cargo xtask bench`.
#[derive(Args)]
pub struct Arguments {
    /// What to measure
    #[arg(value_enum, default_value_t = Subject::Hooks)]
    subject: Subject,
}

/// What is measured.
#[derive(Clone, Copy, ValueEnum)]
enum Subject {
    /// The start, and each kernel program under a workload of short connections
    Hooks,
    /// Code paths: captures, user space, memory, and the throughput of nginx
    Stacks,
    /// A survey, by iterators and without
    Surveys,
    /// Code paths of Java: how many reach their root with names, and what they cost
    Java,
}

impl Subject {
    /// The program of the end-to-end tests that measures it.
    fn program(self) -> &'static str {
        match self {
            Self::Hooks => "hook-cost",
            Self::Stacks | Self::Java => "stack-cost",
            Self::Surveys => "survey-cost",
        }
    }
}

/// Builds what measures, and runs it as root.
pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let program = arguments.subject.program();
    let tcpleak = build_tcpleak(workspace)?;
    process::run(workspace.cargo().args([
        "build",
        "--release",
        "--package",
        END_TO_END,
        "--bin",
        program,
    ]))?;
    let mut bench = process::as_root(workspace.target.join("release").join(program))
        .context("the kernel's accounting of its programs is for root")?;
    bench.arg(tcpleak);
    if matches!(arguments.subject, Subject::Java) {
        bench.arg("java");
    }
    process::run(&mut bench)
}
