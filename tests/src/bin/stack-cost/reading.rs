//! What a stack costs in user space: CPU time of the thread that takes paths, and of the process that
//! reads the files of other programs for it.

use std::time::Duration;

use anyhow::ensure;

use crate::{
    numbers::median,
    servers,
    tracer::{EVERYTHING, Tracer, Used},
    workload::{Program, Workload},
};

/// Measurements of each.
const RUNS: usize = 3;
/// Distinct paths of a process that is known.
const PATHS: usize = 250;
/// Time between unwinding, which comes at once, and naming, which comes with the report of a leak.
const AGE: [&str; 2] = ["--min-age", "1s"];

const STEPS: [&str; 3] = [
    "first of the program",
    "first of its next process",
    "each further one",
];

/// The work on one step: on its stacks, and on their names.
type Step = [Vec<Used>; 2];

/// Prints the table.
pub fn measure(tcpleak: &str) -> anyhow::Result<()> {
    println!(
        "\nUser space: microseconds of CPU time for one stack, median of {RUNS} ({PATHS} further ones each)"
    );
    println!(
        "{:<8} {:<26} {:>10} {:>10} {:>10} {:>10}",
        "", "", "unwinding", "of which", "naming", "of which"
    );
    println!(
        "{:<8} {:<26} {:>10} {:>10} {:>10} {:>10}",
        "program", "stack", "total", "reader", "total", "reader"
    );
    for program in [Program::Native, Program::Python] {
        let mut steps: [Step; 3] = Default::default();
        for _ in 0..RUNS {
            let Some(run) = run(tcpleak, program)? else {
                println!("{:<8} is missing on this host", program.name());
                return Ok(());
            };
            for (step, [unwinding, naming]) in steps.iter_mut().zip(run) {
                step[0].push(unwinding);
                step[1].push(naming);
            }
        }
        for (name, step) in STEPS.into_iter().zip(&steps) {
            let [unwinding, naming] = step.each_ref().map(|all| {
                let total = all.iter().map(|used| used.reader + used.thread);
                [
                    microseconds(total),
                    microseconds(all.iter().map(|used| used.reader)),
                ]
            });
            println!(
                "{:<8} {name:<26} {:>10.0} {:>10.0} {:>10.0} {:>10.0}",
                program.name(),
                unwinding[0],
                unwinding[1],
                naming[0],
                naming[1]
            );
        }
    }
    Ok(())
}

fn microseconds(times: impl Iterator<Item = Duration>) -> f64 {
    median(times.map(|time| time.as_secs_f64() * 1e6).collect())
}

/// The work on one stack, for each step. None when the program is missing.
fn run(tcpleak: &str, program: Program) -> anyhow::Result<Option<[[Used; 2]; 3]>> {
    let server = servers::hanging_up()?;
    let (first, second) = (
        Workload::start(program, server)?,
        Workload::start(program, server)?,
    );
    let (Some(mut first), Some(mut second)) = (first, second) else {
        return Ok(None);
    };
    let arguments: Vec<&str> = EVERYTHING.iter().chain(&AGE).copied().collect();
    let tracer = Tracer::start(tcpleak, &arguments)?;
    Ok(Some([
        keep(&tracer, &mut first, 0, 1)?,
        keep(&tracer, &mut second, 0, 1)?,
        keep(&tracer, &mut first, 1, PATHS)?,
    ]))
}

/// Has a program leak connections, each on a path of its own.
fn keep(
    tracer: &Tracer,
    program: &mut Workload,
    from: usize,
    count: usize,
) -> anyhow::Result<[Used; 2]> {
    let kernel = tracer.kernel()?;
    let (before, known) = (tracer.settle()?, kernel.known_paths());
    program.order(format!("keep {from} {count}"))?;
    let unwound = tracer.settle()?;
    let paths = kernel.known_paths() - known;
    ensure!(
        (count..=count + count / 10).contains(&paths),
        "{paths} paths instead of {count}"
    );
    let named = tracer.settle_after_work()?;
    let each = |used: Used| {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        Used {
            reader: used.reader / count,
            thread: used.thread / count,
        }
    };
    Ok([each(before.until(unwound)), each(unwound.until(named))])
}
