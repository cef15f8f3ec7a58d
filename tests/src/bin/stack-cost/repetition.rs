//! How many of the captured paths are new: what has to be sent to user space and unwound.

use std::net::SocketAddr;

use crate::{
    nginx::Nginx,
    servers,
    tracer::{EVERYTHING, Tracer},
    workload::{Program, Workload},
};

/// Connections of each half.
const CONNECTIONS: usize = 1000;

/// Paths that were captured, and those that were new.
struct Half {
    captures: u64,
    new: usize,
}

/// Prints the table.
pub fn measure(tcpleak: &str) -> anyhow::Result<()> {
    println!(
        "\nNew paths in a thousand captures, in {CONNECTIONS} connections and in as many more"
    );
    println!(
        "{:<8} {:>10} {:>8} {:>12} {:>14}",
        "program", "captures", "new", "per thousand", "second half"
    );
    for program in [Program::Python, Program::Java, Program::Node] {
        let server = servers::answering()?;
        match Workload::start(program, server)? {
            Some(mut workload) => print(
                program.name(),
                &count(tcpleak, || workload.order(format!("read {CONNECTIONS}")))?,
            ),
            None => println!("{:<8} is missing on this host", program.name()),
        }
    }
    match Nginx::start()? {
        Some(nginx) => print("nginx", &count(tcpleak, || visit(nginx.address()))?),
        None => println!("{:<8} is missing on this host", "nginx"),
    }
    Ok(())
}

fn visit(server: SocketAddr) -> anyhow::Result<()> {
    for _ in 0..CONNECTIONS {
        servers::ask(server)?;
    }
    Ok(())
}

fn count(tcpleak: &str, mut work: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<[Half; 2]> {
    let tracer = Tracer::start(tcpleak, &EVERYTHING)?;
    let kernel = tracer.kernel()?;
    let mut half = || -> anyhow::Result<Half> {
        let (captures, known) = (kernel.captures()?, kernel.known_paths());
        work()?;
        Ok(Half {
            captures: captures.until(kernel.captures()?).count,
            new: kernel.known_paths() - known,
        })
    };
    Ok([half()?, half()?])
}

fn print(name: &str, [first, second]: &[Half; 2]) {
    let per_thousand = |half: &Half| half.new as f64 * 1000.0 / half.captures.max(1) as f64;
    let both = Half {
        captures: first.captures + second.captures,
        new: first.new + second.new,
    };
    println!(
        "{name:<8} {:>10} {:>8} {:>12.1} {:>14.1}",
        both.captures,
        both.new,
        per_thousand(&both),
        per_thousand(second)
    );
}
