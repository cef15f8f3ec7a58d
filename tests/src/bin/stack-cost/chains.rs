//! What it adds to a capture in the kernel to follow the frames that Python keeps in memory.

use anyhow::{Context, ensure};

use crate::{
    kernel::Kernel,
    numbers::median,
    servers,
    tracer::{EVERYTHING, Tracer},
    workload::{Program, Workload},
};

/// How many functions call each other.
const LEVELS: [u32; 4] = [1, 10, 30, 100];
/// Measurements of each.
const ROUNDS: usize = 9;
/// Connections of each.
const CONNECTIONS: u64 = 400;
/// Connections before anything is measured.
const WARMING: usize = 20;

/// Prints the table.
pub fn measure(tcpleak: &str) -> anyhow::Result<()> {
    let server = servers::hanging_up()?;
    let tracer = Tracer::start(tcpleak, &EVERYTHING)?;
    let Some(mut program) = Workload::start(Program::Python, server)? else {
        return Ok(());
    };
    program.order(format!("deep 1 {WARMING}"))?;
    tracer.settle()?;
    println!("Python: nanoseconds of one capture, median of {ROUNDS} times {CONNECTIONS}");
    println!(
        "{:>9} {:>9} {:>9} {:>9}",
        "functions", "followed", "not", "added"
    );
    for levels in LEVELS {
        let mut rounds = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (round, each) in rounds
                .iter_mut()
                .zip(capture(&tracer, &mut program, levels)?)
            {
                round.push(each);
            }
        }
        let [followed, not] = rounds.map(median);
        println!(
            "{levels:>9} {followed:>9.0} {not:>9.0} {:>9.0}",
            followed - not
        );
    }
    Ok(())
}

/// What one capture takes when the functions are followed, and when they are not. User space stands
/// still meanwhile: it would have the kernel follow them again.
fn capture(tracer: &Tracer, program: &mut Workload, levels: u32) -> anyhow::Result<[f64; 2]> {
    let mut kernel = tracer.kernel()?;
    tracer.settle()?;
    let _paused = tracer.pause()?;
    let plan = kernel.chain(program.pid());
    let plan = plan.context("the kernel was not told how to follow the functions")?;
    let of = |kernel: &Kernel, program: &mut Workload| {
        program.order(format!("deep {levels} {WARMING}"))?;
        let before = kernel.captures()?;
        program.order(format!("deep {levels} {CONNECTIONS}"))?;
        let captures = before.until(kernel.captures()?);
        ensure!(captures.count >= CONNECTIONS, "{} captures", captures.count);
        anyhow::Ok(captures.each())
    };
    let followed = of(&kernel, program)?;
    kernel.forget_chain(program.pid())?;
    let not = of(&kernel, program);
    kernel.set_chain(program.pid(), plan)?;
    Ok([followed, not?])
}
