//! What a capture costs in the kernel, by how much of the stack tells paths apart.

use anyhow::ensure;

use crate::{
    numbers::{median, ratio},
    servers,
    tracer::{EVERYTHING, Tracer},
    workload::{Program, Workload},
};

/// How much of the stack tells paths apart, in bytes. The last is all that is ever copied.
const WINDOWS: [u32; 5] = [1 << 10, 4 << 10, 8 << 10, 16 << 10, 127 * 256];
/// Measurements of each.
const ROUNDS: usize = 9;
/// Connections on a known path.
const KNOWN: usize = 400;
/// Connections on a known path before anything is measured.
const WARMING: usize = 20;
/// Connections on new paths: their stacks must find room in the ring.
const NEW: usize = 100;

/// Prints the table.
pub fn measure(tcpleak: &str) -> anyhow::Result<()> {
    let server = servers::hanging_up()?;
    let tracer = Tracer::start(tcpleak, &EVERYTHING)?;
    let Some(mut program) = Workload::start(Program::Native, server)? else {
        return Ok(());
    };
    let mut known = vec![Vec::new(); WINDOWS.len()];
    let mut new = known.clone();
    for round in 0..ROUNDS {
        for (index, window) in WINDOWS.into_iter().enumerate() {
            let first = (round * WINDOWS.len() + index) * NEW;
            let [on_known, on_new] = capture(&tracer, &mut program, window, first)?;
            known[index].push(on_known);
            new[index].push(on_new);
        }
    }
    println!(
        "Kernel: nanoseconds of one capture, median of {ROUNDS} times {KNOWN} (known) and {NEW} (new)"
    );
    println!(
        "{:>12} {:>10} {:>8} {:>10} {:>8}",
        "bytes", "known path", "ratio", "new path", "ratio"
    );
    let [known, new] = [known, new].map(|all| all.into_iter().map(median).collect::<Vec<_>>());
    for (index, window) in WINDOWS.into_iter().enumerate() {
        println!(
            "{window:>12} {:>10.0} {:>8} {:>10.0} {:>8}",
            known[index],
            ratio(known[index], known[0]),
            new[index],
            ratio(new[index], known[0]),
        );
    }
    Ok(())
}

/// What one capture takes on a known path, and on a new one. User space stands still meanwhile: it
/// would take part of the caches, and choose another window.
fn capture(
    tracer: &Tracer,
    program: &mut Workload,
    window: u32,
    first: usize,
) -> anyhow::Result<[f64; 2]> {
    let mut kernel = tracer.kernel()?;
    // What the last round left in the ring would leave no room for more.
    tracer.settle()?;
    if kernel.set_window(program.pid(), window).is_err() {
        // Its first path is what user space comes to know it by.
        program.order(format!("known {WARMING}"))?;
        tracer.settle()?;
    }
    let _paused = tracer.pause()?;
    kernel.set_window(program.pid(), window)?;
    program.order(format!("known {WARMING}"))?;

    let (before, paths) = (kernel.captures()?, kernel.known_paths());
    program.order(format!("known {KNOWN}"))?;
    let between = kernel.captures()?;
    let between_paths = kernel.known_paths();
    program.order(format!("new {first} {NEW}"))?;
    let after = kernel.captures()?;
    let (known, new) = (before.until(between), between.until(after));
    ensure!(
        known.count as usize >= KNOWN && between_paths - paths < KNOWN / 10,
        "{} captures of the known path, {} new ones",
        known.count,
        between_paths - paths
    );
    ensure!(
        kernel.known_paths() >= between_paths + NEW,
        "only {} paths of {NEW} were new",
        kernel.known_paths() - between_paths
    );
    Ok([known.each(), new.each()])
}
