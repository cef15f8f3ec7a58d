//! Writes what came of a run into the measured part of `docs/kernels.md`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::Outcome;
use crate::process;

const BEGIN: &str = "<!-- measured: begin -->\n";
const END: &str = "<!-- measured: end -->\n";

/// Replaces the measured part.
pub fn write(path: &Path, outcomes: &[Outcome]) -> Result<()> {
    let shown = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("reading {shown}"))?;
    let date = process::output(Command::new("date").args(["--utc", "+%Y-%m-%d"]))?;
    let text = replaced(&text, &measured(&date, outcomes));
    let text = text.with_context(|| format!("{shown} has no measured part"))?;
    fs::write(path, text).with_context(|| format!("writing {shown}"))
}

fn replaced(text: &str, measured: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{measured}{END}{after}"))
}

fn measured(date: &str, outcomes: &[Outcome]) -> String {
    let mut text = format!("Run on {date}.\n\n| kernel | version | tests |\n|---|---|---|\n");
    for outcome in outcomes {
        text += &match outcome {
            Outcome::Ran(kernel, results) => format!(
                "| {} | {} | {} |\n",
                kernel.name,
                kernel.version,
                tests(results)
            ),
            Outcome::Skipped(name, reason) => {
                format!("| {name} | not run: {reason} | none |\n")
            }
        };
    }
    for outcome in outcomes {
        let Outcome::Ran(kernel, results) = outcome else {
            continue;
        };
        text += &format!("\n### {}\n\n", kernel.name);
        for name in &results.failed {
            text += &format!("- failed: `{name}`\n");
        }
        for fault in &results.faults {
            text += &format!("- {fault}\n");
        }
        if !results.failed.is_empty() || !results.faults.is_empty() {
            text.push('\n');
        }
        text += &format!("```text\n{}\n```\n", results.doctor.trim_end());
    }
    text
}

fn tests(results: &super::Results) -> String {
    match results.failed.len() {
        0 if results.faults.is_empty() => format!("all {} passed", results.passed),
        failed => format!("{} passed, {failed} failed", results.passed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_measured_part_is_replaced() {
        let text = format!("before\n{BEGIN}old\n{END}after\n");
        let new = replaced(&text, "new\n").unwrap();
        assert_eq!(new, format!("before\n{BEGIN}new\n{END}after\n"));
        assert_eq!(replaced("no such part", "new"), None);
    }

    #[test]
    fn a_kernel_that_was_not_run_is_not_passed_over() {
        let skipped = Outcome::Skipped("7.2 amd64".into(), "no such suite".into());
        let text = measured("2026-01-02", &[skipped]);
        assert!(
            text.contains("| 7.2 amd64 | not run: no such suite | none |"),
            "{text}"
        );
    }
}
