//! What tcpleak takes from a server that does little else but accept connections.

use std::process::Command;

use anyhow::{Context, ensure};

use crate::{nginx::Nginx, numbers::median, tracer::Tracer, workload::installed};

/// Measurements of each, one with tcpleak after each without.
const PAIRS: usize = 5;
const REQUESTS: &str = "20000";
const CLIENTS: &str = "16";

/// Prints the ratio.
pub fn measure(tcpleak: &str) -> anyhow::Result<()> {
    println!(
        "\nnginx, {REQUESTS} requests by {CLIENTS} clients, a connection each: requests per second"
    );
    let (Some(nginx), Some(ab)) = (Nginx::start()?, installed("ab")) else {
        println!("nginx or ab (apache2-utils) is missing on this host");
        return Ok(());
    };
    let mut load = Command::new(ab);
    load.args(["-q", "-c", CLIENTS, "-n", REQUESTS])
        .arg(format!("http://{}/", nginx.address()));
    requests_per_second(&mut load)?;
    let (mut without, mut with, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        let alone = requests_per_second(&mut load)?;
        let traced = {
            let _tracer = Tracer::start(tcpleak, &[])?;
            requests_per_second(&mut load)?
        };
        without.push(alone);
        with.push(traced);
        ratios.push(traced / alone);
    }
    ratios.sort_by(f64::total_cmp);
    println!(
        "without tcpleak {:.0}, with it {:.0} (medians of {PAIRS}); ratio of each pair: median {:.2}, {:.2} to {:.2}",
        median(without),
        median(with),
        median(ratios.clone()),
        ratios[0],
        ratios[PAIRS - 1]
    );
    Ok(())
}

fn requests_per_second(load: &mut Command) -> anyhow::Result<f64> {
    let output = load.output().context("ab could not be started")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "ab failed: {text}");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Requests per second:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.context("ab tells no rate")?.parse()?)
}
