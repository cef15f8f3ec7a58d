//! `cargo xtask test --vm`: the end-to-end tests on other kernels, each in a virtual machine.

mod arch;
mod cpio;
mod debian;
mod guest;
mod kernels;
mod machine;
mod programs;
mod record;
mod results;

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Result, bail};
use clap::Args;

use crate::workspace::Workspace;
pub use arch::Arch;
use guest::Suite;
use kernels::Kernel;
use machine::{Accelerator, Machine};
use programs::Programs;
use results::{DOCTOR, Results};

const END_TO_END: &str = "end_to_end";

/// Machines that run at the same time.
const AT_ONCE: usize = 2;

/// Most failed tests that are tried again: more than that are no accident.
const TRIED_AGAIN: usize = 5;

/// Which kernels, and how they are run.
#[derive(Args)]
pub struct Options {
    /// Run the end-to-end tests on other kernels, each in a virtual machine: on these releases of
    /// Debian's kernels (6.1 and 6.12 unless named)
    #[arg(long, value_name = "KERNEL", num_args = 0..)]
    vm: Option<Vec<String>>,
    /// With --vm: on every kernel that is known, and on arm64 too
    #[arg(long, requires = "vm")]
    all: bool,
    /// With --vm: on this kernel (a vmlinuz or an Image) too
    #[arg(long, requires = "vm", value_name = "PATH")]
    kernel: Vec<PathBuf>,
    /// With --vm: architecture of the kernels that are named
    #[arg(long, requires = "vm", value_enum)]
    arch: Option<Arch>,
    /// With --vm: what runs the machines, unless the better one that works
    #[arg(long, requires = "vm", value_enum)]
    accel: Option<Accelerator>,
    /// With --vm: write what came of it into docs/kernels.md
    #[arg(long, requires = "vm")]
    record: bool,
}

impl Options {
    /// Whether tests run in virtual machines at all.
    pub fn are_given(&self) -> bool {
        self.vm.is_some()
    }

    /// What to run on.
    fn wanted(&self) -> Result<Vec<Wanted>> {
        let arch = self.arch.unwrap_or_else(Arch::of_host);
        let named = self.vm.iter().flatten().map(String::as_str);
        let mut releases: Vec<(Arch, &str)> = named.map(|release| (arch, release)).collect();
        if self.all {
            let all = kernels::KNOWN
                .iter()
                .map(|known| (Arch::X86_64, known.release));
            releases = all.collect();
            releases.extend([(Arch::Aarch64, "6.1"), (Arch::Aarch64, "6.12")]);
        } else if releases.is_empty() && self.kernel.is_empty() {
            releases = vec![(arch, "6.1"), (arch, "6.12")];
        }
        let mut wanted = Vec::new();
        for (arch, release) in releases {
            wanted.push(Wanted::Known(arch, kernels::known(release)?));
        }
        let files = self.kernel.iter();
        wanted.extend(files.map(|path| Wanted::File(arch, path.clone())));
        Ok(wanted)
    }
}

/// A kernel that is asked for.
enum Wanted {
    Known(Arch, kernels::Known),
    File(Arch, PathBuf),
}

/// What came of a kernel.
enum Outcome {
    Ran(Kernel, Results),
    Skipped(String, String),
}

/// Runs the tests on every kernel that is asked for. Fails when a test fails, a machine does not
/// come to its end, or not one kernel can be had.
pub fn run(workspace: &Workspace, options: &Options, harness: &[String]) -> Result<()> {
    let wanted = options.wanted()?;
    let directory = workspace.target.join("vm");
    fs::create_dir_all(&directory)?;
    let mut outcomes = Vec::new();
    let mut kernels = Vec::new();
    for one in wanted {
        match fetch(&directory, one) {
            Ok(kernel) => {
                println!("{}: {}", kernel.name, kernel.version);
                kernels.push(kernel);
            }
            Err((name, reason)) => {
                println!("{name}: SKIPPED, it cannot be had: {reason}");
                outcomes.push(Outcome::Skipped(name, reason));
            }
        }
    }
    for arch in [Arch::X86_64, Arch::Aarch64] {
        let kernels: VecDeque<Kernel> = kernels
            .iter()
            .filter(|kernel| kernel.arch == arch)
            .cloned()
            .collect();
        if kernels.is_empty() {
            continue;
        }
        let programs = programs::build(workspace, arch)?;
        let root = guest::root(&directory, arch)?;
        let accelerator = options.accel.unwrap_or_else(|| Accelerator::best(arch));
        let guest = Guest {
            workspace,
            directory: &directory,
            root: &root,
            programs: &programs,
            harness,
            accelerator,
            processors: accelerator.processors(kernels.len().min(AT_ONCE)),
        };
        outcomes.extend(guest.run_all(kernels));
    }
    if options.record {
        record::write(&workspace.root.join("docs/kernels.md"), &outcomes)?;
    }
    conclude(&outcomes)
}

fn fetch(cache: &Path, wanted: Wanted) -> Result<Kernel, (String, String)> {
    match wanted {
        Wanted::Known(arch, known) => known.fetch(cache, arch).map_err(|error| {
            (
                format!("{} {}", known.release, arch.debian()),
                format!("{error:#}"),
            )
        }),
        Wanted::File(arch, path) if path.is_file() => Ok(Kernel::of_file(&path, arch)),
        Wanted::File(_, path) => Err((path.display().to_string(), "there is no such file".into())),
    }
}

fn suites(kernel: &Kernel, harness: &[String]) -> Vec<Suite> {
    let doctor = Suite {
        name: DOCTOR,
        words: ["/vm/tcpleak", "doctor"].map(str::to_owned).into(),
    };
    // Of one processor, but they mostly wait.
    let options = ["--test-threads=3".to_owned()];
    let lacks = kernel.lacks();
    let left_out = lacks.flat_map(|lack| ["--skip", lack.tests].map(str::to_owned));
    let arguments = options.into_iter().chain(left_out).chain(harness.to_vec());
    vec![doctor, tests(arguments)]
}

/// The end-to-end tests, with these arguments.
fn tests(arguments: impl IntoIterator<Item = String>) -> Suite {
    let program = "/vm/end_to_end".to_owned();
    Suite {
        name: END_TO_END,
        words: [program].into_iter().chain(arguments).collect(),
    }
}

/// What the machines of one architecture have in common.
struct Guest<'a> {
    workspace: &'a Workspace,
    directory: &'a Path,
    root: &'a Path,
    programs: &'a Programs,
    harness: &'a [String],
    accelerator: Accelerator,
    /// Processors that each machine has.
    processors: usize,
}

impl Guest<'_> {
    /// Runs all, some at a time.
    fn run_all(&self, kernels: VecDeque<Kernel>) -> Vec<Outcome> {
        let waiting = Mutex::new(kernels);
        let done = Mutex::new(Vec::new());
        let next = || lock(&waiting).pop_front();
        thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    while let Some(kernel) = next() {
                        let results = self.run(&kernel).unwrap_or_else(|error| Results {
                            faults: vec![format!("{error:#}")],
                            ..Results::default()
                        });
                        lock(&done).push(Outcome::Ran(kernel, results));
                    }
                });
            }
        });
        done.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the suites, and the tests that failed once more by themselves: a machine whose instructions are
    /// emulated is now and then too slow for several at a time. That is said of it.
    fn run(&self, kernel: &Kernel) -> Result<Results> {
        let mut results = self.boot(kernel, &suites(kernel, self.harness))?;
        let failed = results.failed.clone();
        if results.faults.is_empty() && (1..=TRIED_AGAIN).contains(&failed.len()) {
            let options = ["--exact", "--test-threads=1"].map(str::to_owned);
            let again = tests(options.into_iter().chain(failed));
            results.tried_again(self.boot(kernel, &[again])?);
        }
        Ok(results)
    }

    fn boot(&self, kernel: &Kernel, suites: &[Suite]) -> Result<Results> {
        let name = kernel.name.replace(['/', ' '], "-");
        let directory = self.directory.join(format!("run-{name}"));
        fs::create_dir_all(&directory)?;
        let initramfs = directory.join("initramfs.cpio");
        guest::pack(
            self.workspace,
            self.root,
            self.programs,
            kernel,
            suites,
            &initramfs,
        )?;
        let machine = Machine::start(
            kernel,
            &initramfs,
            (self.accelerator, self.processors),
            &directory,
        )?;
        let console = machine.console();
        let (text, fault) = machine.watch(|line| println!("[{}] {line}", kernel.name))?;
        fs::remove_file(&initramfs)?;
        let names: Vec<&str> = suites.iter().map(|suite| suite.name).collect();
        let mut results = Results::read(&text, &names);
        results.faults.extend(fault);
        if !results.faults.is_empty() {
            let console = fs::read(console)?;
            let console = String::from_utf8_lossy(&console);
            for line in last_lines(&console, 30) {
                println!("[{} console] {line}", kernel.name);
            }
        }
        Ok(results)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn last_lines(text: &str, count: usize) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].to_vec()
}

fn conclude(outcomes: &[Outcome]) -> Result<()> {
    println!();
    let (mut good, mut bad, mut skipped) = (0, 0, 0);
    for outcome in outcomes {
        match outcome {
            Outcome::Ran(kernel, results) => {
                match results.are_good() {
                    true => good += 1,
                    false => bad += 1,
                }
                let (passed, failed) = (results.passed, results.failed.len());
                println!(
                    "{} ({}): {passed} passed, {failed} failed",
                    kernel.name, kernel.version
                );
                for lack in kernel.lacks() {
                    println!("    NOT RUN there, {}: {}", lack.what, lack.tests);
                }
                for name in &results.tried_again {
                    println!("    passed only when it was tried again: {name}");
                }
                for name in &results.failed {
                    println!("    failed: {name}");
                }
                for fault in &results.faults {
                    println!("    {fault}");
                }
            }
            Outcome::Skipped(name, reason) => {
                skipped += 1;
                println!("{name}: SKIPPED, it cannot be had: {reason}");
            }
        }
    }
    println!("kernels: {good} good, {bad} bad, {skipped} skipped");
    if bad > 0 {
        bail!("tests failed on other kernels");
    }
    if good == 0 {
        bail!("not one kernel could be had, so nothing was tested");
    }
    Ok(())
}
