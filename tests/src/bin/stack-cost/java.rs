//! Code paths of a Java that has run for a while: how many reach the root of their thread with names,
//! and what one costs in user space.

use std::{thread, time::Duration};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::{
    servers,
    tracer::{EVERYTHING, Tracer, Used},
    workload::{Program, Workload},
};

/// Connections by which Java comes to compile what it runs.
const WARMING: usize = 30_000;
/// Paths that are captured, each of another connection.
const PATHS: usize = 1000;
/// How many of them come at once: those that come faster than they are read are lost.
const BURST: usize = 50;
/// Time between unwinding and naming.
const AGE: Duration = Duration::from_secs(1);
/// Time after which all paths have names.
const LATER: Duration = Duration::from_secs(10);

/// What became of the paths.
#[derive(Debug, Default)]
struct Paths {
    /// Connections with a path.
    all: u64,
    /// Whose path is proven to reach the root.
    complete: u64,
    /// Whose path does, with a name for each method.
    named: u64,
    /// In which some method was inlined into another.
    inlined: u64,
}

/// Prints the table.
pub fn measure(tcpleak: &str) -> anyhow::Result<()> {
    let server = servers::hanging_up()?;
    let Some(mut java) = Workload::start(Program::Java, server)? else {
        bail!("java is missing on this host");
    };
    java.order(format!("warm {WARMING}"))?;
    let pid = java.pid().to_string();
    let age = format!("{}s", AGE.as_secs());
    let arguments = [&EVERYTHING[..], &["--min-age", &age, "--pid", &pid]].concat();
    let tracer = Tracer::start(tcpleak, &arguments)?;
    let kernel = tracer.kernel()?;

    let first = keep(&tracer, &mut java, 0, 1)?;
    let known = kernel.known_paths();
    let further = keep(&tracer, &mut java, 1, PATHS - 1)?;
    let sent = kernel.known_paths() - known;
    // The last one must be old enough for a report, and be seen to be so at a survey.
    thread::sleep(LATER);
    let paths = read(&tracer.last_report()?)?;

    println!("Java after {WARMING} connections, then {PATHS} that are kept");
    println!(
        "{} have a path, {} reach the root ({:.1} %), {} with all names ({:.1} %), {} with inlined methods",
        paths.all,
        paths.complete,
        percent(paths.complete),
        paths.named,
        percent(paths.named),
        paths.inlined,
    );
    println!("microseconds of CPU time for one stack that is new (of which the reader)");
    println!("first of the process: {}", shown(first, 1));
    println!("each of {sent} further ones: {}", shown(further, sent));
    Ok(())
}

/// Of all connections that are kept: one without a path counts as well.
fn percent(count: u64) -> f64 {
    count as f64 * 100.0 / PATHS as f64
}

fn shown(used: Used, count: usize) -> String {
    let each = |time: Duration| time.as_secs_f64() * 1e6 / count.max(1) as f64;
    let total = each(used.reader + used.thread);
    format!("{total:.0} ({:.0})", each(used.reader))
}

/// Has connections kept, and says what their paths took until they were unwound.
fn keep(tracer: &Tracer, java: &mut Workload, from: usize, count: usize) -> anyhow::Result<Used> {
    let before = tracer.settle()?;
    let mut after = before;
    for first in (from..from + count).step_by(BURST) {
        let burst = BURST.min(from + count - first);
        java.order(format!("keep {first} {burst}"))?;
        after = tracer.settle()?;
    }
    Ok(before.until(after))
}

/// Counts the connections of a report by what is known of their code.
fn read(report: &Value) -> anyhow::Result<Paths> {
    let mut paths = Paths::default();
    for group in report["groups"].as_array().context("a report has groups")? {
        let Some(frames) = group["origin"]["frames"].as_array() else {
            continue;
        };
        let count = group["count"].as_u64().context("a group has a size")?;
        let mut java = frames.iter().filter(|frame| frame["runtime"] == "java");
        let complete = group["origin"]["complete"] == true;
        let is_made = frames.iter().any(|frame| frame["runtime"] == "jit");
        let named =
            java.clone().count() > 0 && java.clone().all(|frame| frame["function"].is_string());
        paths.all += count;
        paths.complete += if complete { count } else { 0 };
        paths.named += if complete && named && !is_made {
            count
        } else {
            0
        };
        paths.inlined += if java.any(|frame| frame["inlined"] == true) {
            count
        } else {
            0
        };
    }
    Ok(paths)
}
