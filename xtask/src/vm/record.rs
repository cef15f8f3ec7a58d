//! Writes what came of a run into the measured part of `docs/kernels.md`: one section for each kernel,
//! of which those of kernels that did not run stay, and a table of all.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::Outcome;
use super::kernels::Kernel;
use super::results::Results;
use crate::process;

const BEGIN: &str = "<!-- measured: begin -->\n";
const END: &str = "<!-- measured: end -->\n";
const SECTION: &str = "### ";

/// Jobs in the doctor's table that the overview shows.
const JOBS: [&str; 3] = ["accept()", "read and write", "call stacks"];

/// Puts the sections of the kernels that ran into the measured part.
pub fn write(path: &Path, outcomes: &[Outcome]) -> Result<()> {
    let shown = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("reading {shown}"))?;
    let date = process::output(Command::new("date").args(["--utc", "+%Y-%m-%d"]))?;
    let ran = outcomes.iter().filter_map(|outcome| match outcome {
        Outcome::Ran(kernel, results) => {
            let title = format!("{}, {}", kernel.name, kernel.version);
            Some(section(kernel, &title, &date, results))
        }
        Outcome::Skipped(..) => None,
    });
    let text = replaced(&text, ran.collect());
    let text = text.with_context(|| format!("{shown} has no measured part"))?;
    fs::write(path, text).with_context(|| format!("writing {shown}"))
}

/// A kernel's name, and everything that is said of it.
type Section = (String, String);

fn section(kernel: &Kernel, title: &str, date: &str, results: &Results) -> Section {
    let mut text = format!("{title}, run on {date}: {}.\n\n", tests(results));
    let failed = results
        .failed
        .iter()
        .map(|name| format!("- failed: `{name}`\n"));
    let faults = results.faults.iter().map(|fault| format!("- {fault}\n"));
    let again = results.tried_again.iter();
    let again = again.map(|name| format!("- passed only when it was tried again: `{name}`\n"));
    let lacks = kernel.lacks();
    let lacks = lacks.map(|lack| format!("- not run, {}: `{}`\n", lack.what, lack.tests));
    let list: String = failed.chain(faults).chain(again).chain(lacks).collect();
    if !list.is_empty() {
        text += &format!("{list}\n");
    }
    text += &format!("```text\n{}\n```\n", results.doctor.trim());
    (kernel.name.clone(), text)
}

fn tests(results: &Results) -> String {
    match results.failed.len() {
        0 if results.faults.is_empty() => format!("all {} tests passed", results.passed),
        failed => format!("{} tests passed, {failed} failed", results.passed),
    }
}

fn replaced(text: &str, ran: Vec<Section>) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (measured, after) = rest.split_once(END)?;
    let mut sections: Vec<Section> = measured.split(SECTION).skip(1).filter_map(parsed).collect();
    sections.retain(|(name, _)| ran.iter().all(|(other, _)| other != name));
    sections.extend(ran);
    sections.sort_by_key(|(name, _)| order(name));
    let table = overview(&sections);
    let sections = sections
        .iter()
        .map(|(name, text)| format!("\n{SECTION}{name}\n\n{text}"));
    let sections: String = sections.collect();
    Some(format!("{before}{BEGIN}{table}{sections}{END}{after}"))
}

fn parsed(section: &str) -> Option<Section> {
    let (name, text) = section.split_once("\n\n")?;
    Some((name.to_owned(), text.trim_end().to_owned() + "\n"))
}

/// By architecture, then by release.
fn order(name: &str) -> (bool, Vec<u32>) {
    let release = name.split(' ').next().unwrap_or_default();
    let numbers = release.split('.').filter_map(|part| part.parse().ok());
    (name.contains("arm64"), numbers.collect())
}

fn overview(sections: &[Section]) -> String {
    let mut table = format!(
        "| kernel | tests | {} |\n|---|---|---|---|---|\n",
        JOBS.join(" | ")
    );
    for (name, text) in sections {
        let tests = text
            .split_once(": ")
            .and_then(|(_, rest)| rest.split('.').next());
        let hooks: Vec<String> = JOBS.iter().map(|job| done_by(text, job)).collect();
        let tests = tests.unwrap_or("not known");
        table += &format!("| {name} | {tests} | {} |\n", hooks.join(" | "));
    }
    table
}

/// What the doctor's table says of a job: the cell in the second column, which may go on for some
/// lines.
fn done_by(doctor: &str, job: &str) -> String {
    const JOB: usize = 2;
    const DONE_BY: usize = 25;
    const MISSED: usize = 53;
    let mut lines = doctor
        .lines()
        .skip_while(|line| !line.trim_start().starts_with(job));
    let cell = |line: &str| -> String {
        let cell: String = line.chars().skip(DONE_BY).take(MISSED - DONE_BY).collect();
        cell.trim().to_owned()
    };
    let Some(first) = lines.next() else {
        return "not known".to_owned();
    };
    let goes_on = |line: &&str| {
        let start: String = line.chars().take(DONE_BY).collect();
        line.len() > JOB && start.trim().is_empty()
    };
    let more = lines.take_while(goes_on).map(cell);
    let words: Vec<String> = [cell(first)].into_iter().chain(more).collect();
    words.join(" ").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::Arch;

    const DOCTOR: &str = "\
hooks
  job                    done by                     what may be missed
  call stacks            copy of the stack,          nothing
                         registers by
                         bpf_task_pt_regs
  accept()               fexit inet_csk_accept       calls that wait while
                                                     tcpleak starts
";

    fn results(passed: u32) -> Results {
        Results {
            passed,
            doctor: DOCTOR.to_owned(),
            ..Results::default()
        }
    }

    #[test]
    fn the_hooks_are_read_from_the_doctors_table() {
        assert_eq!(done_by(DOCTOR, "accept()"), "fexit inet_csk_accept");
        let stacks = "copy of the stack, registers by bpf_task_pt_regs";
        assert_eq!(done_by(DOCTOR, "call stacks"), stacks);
        assert_eq!(done_by(DOCTOR, "read and write"), "not known");
    }

    #[test]
    fn kernels_that_did_not_run_keep_their_section() {
        let text = format!("before\n{BEGIN}{END}after\n");
        let section = |name: &str, passed| {
            let mut kernel = Kernel::of_file(Path::new("vmlinuz"), Arch::X86_64);
            kernel.name = name.to_owned();
            section(&kernel, name, "2026-01-02", &results(passed))
        };
        let text = replaced(&text, vec![section("6.12", 7), section("5.10", 5)]).unwrap();
        let text = replaced(&text, vec![section("5.10", 6), section("6.1 arm64", 4)]).unwrap();
        assert!(text.starts_with("before\n") && text.ends_with("after\n"));
        let order: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with(SECTION))
            .collect();
        assert_eq!(order, ["### 5.10", "### 6.12", "### 6.1 arm64"]);
        assert!(
            text.contains("| 6.12 | all 7 tests passed | fexit inet_csk_accept |"),
            "{text}"
        );
        assert!(text.contains("| 5.10 | all 6 tests passed |"), "{text}");
        assert!(!text.contains("all 5 tests"), "{text}");
        assert_eq!(replaced("no such part", Vec::new()), None);
    }
}
