//! Measures what a code path costs: in the kernel, in user space, in memory, and in the throughput of
//! a server. Run by `cargo xtask bench stacks`, as root; its argument is the path of tcpleak. With the
//! word `java` behind, as by `cargo xtask bench java`, it is about Java alone.
//!
//! The real tcpleak is driven, and its maps are read by their ids. The machine should do nothing else:
//! connections of other processes are captured too, and count.

mod chains;
mod copies;
mod java;
mod kernel;
mod memory;
mod native;
mod nginx;
mod numbers;
mod reading;
mod repetition;
mod servers;
mod throughput;
mod tracer;
mod workload;

use anyhow::{Context, bail};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *arguments {
        [native::WORKLOAD, to] => native::run(to.parse().context("no address")?),
        [tcpleak, "java"] => java::measure(tcpleak),
        [tcpleak] => measure(tcpleak),
        _ => bail!("usage: stack-cost PATH-OF-TCPLEAK [java]"),
    }
}

fn measure(tcpleak: &str) -> anyhow::Result<()> {
    copies::measure(tcpleak).context("measuring captures")?;
    chains::measure(tcpleak).context("measuring Python's functions")?;
    reading::measure(tcpleak).context("measuring the reader")?;
    repetition::measure(tcpleak).context("counting paths")?;
    memory::measure(tcpleak).context("measuring memory")?;
    throughput::measure(tcpleak).context("measuring throughput")
}
