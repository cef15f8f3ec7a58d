//! What tcpleak and its reader keep in memory for the processes that they know.

use crate::{
    numbers::{median, ratio},
    servers,
    tracer::{EVERYTHING, Memory, Tracer},
    workload::{Program, Workload},
};

/// Measurements of each.
const RUNS: usize = 3;
/// Processes at the end.
const PROCESSES: usize = 50;
/// Paths of each, all of them leaks that are named.
const PATHS: usize = 8;
const AGE: [&str; 2] = ["--min-age", "1s"];

/// Prints the table.
pub fn measure(tcpleak: &str) -> anyhow::Result<()> {
    println!("\nMemory in MiB with {PATHS} named paths of each Python process, median of {RUNS}");
    let mut one = Vec::new();
    let mut many = Vec::new();
    for _ in 0..RUNS {
        let Some([with_one, with_many]) = run(tcpleak)? else {
            println!("{} is missing on this host", Program::Python.name());
            return Ok(());
        };
        one.push(with_one);
        many.push(with_many);
    }
    println!(
        "{:<24} {:>10} {:>12} {:>8}",
        "",
        "1 process",
        format!("{PROCESSES} processes"),
        "ratio"
    );
    for (index, who) in ["tcpleak", "its reader"].into_iter().enumerate() {
        let resident: fn(&Memory) -> u64 = |memory| memory.resident;
        let share: fn(&Memory) -> u64 = |memory| memory.share;
        for (what, field) in [("resident", resident), ("its share", share)] {
            let [one, many] = [&one, &many].map(|runs| {
                let fields = runs
                    .iter()
                    .map(|run: &[Memory; 2]| field(&run[index]) as f64 / 1024.0);
                median(fields.collect())
            });
            println!(
                "{:<24} {one:>10.1} {many:>12.1} {:>8}",
                format!("{who}, {what}"),
                ratio(many, one)
            );
        }
    }
    Ok(())
}

/// The memory with one process, and with all. None when the program is missing.
fn run(tcpleak: &str) -> anyhow::Result<Option<[[Memory; 2]; 2]>> {
    let server = servers::hanging_up()?;
    let mut programs = Vec::new();
    for _ in 0..PROCESSES {
        match Workload::start(Program::Python, server)? {
            Some(program) => programs.push(program),
            None => return Ok(None),
        }
    }
    let arguments: Vec<&str> = EVERYTHING.iter().chain(&AGE).copied().collect();
    let tracer = Tracer::start(tcpleak, &arguments)?;
    let _kernel = tracer.kernel()?;
    let (first, others) = programs.split_at_mut(1);
    let leak = |programs: &mut [Workload]| {
        for program in programs {
            program.order(format!("keep 0 {PATHS}"))?;
        }
        tracer.settle()?;
        tracer.settle_after_work()?;
        tracer.memory()
    };
    Ok(Some([leak(first)?, leak(others)?]))
}
