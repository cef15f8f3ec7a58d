//! Has `tcpleak serve` watch a host on which much happens, for as long as one wants, and says whether it
//! stays small, cheap and right. Run by `cargo xtask soak`, as root; its arguments are the path of tcpleak
//! and the minutes.
//!
//! Thousands of connections come and go in each second in a network namespace of their own. Meanwhile
//! leaks come and go: some are repaired, some end with their process. After each change tcpleak must
//! count what the kernel counts.

mod churn;
mod leaks;
mod samples;
mod watched;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use churn::Churn;
use leaks::Leaks;
use samples::{Sample, Samples};
use watched::Watched;

/// Connections in each second.
const RATE: u32 = 3_000;
/// Leaks that are repaired, and leaks that end with their process.
const REPAIRED: usize = 40;
const ABANDONED: usize = 20;
/// Time between two samples.
const SAMPLE: Duration = Duration::from_secs(5);
/// How long tcpleak may take to count what the kernel counts: surveys are up to a minute apart.
const PATIENCE: Duration = Duration::from_secs(150);
/// How long each state of the leaks lasts once it was counted.
const REST: Duration = Duration::from_secs(10);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["leak", address, count] => leaks::abandon(address, count.parse()?),
        [tcpleak, minutes] => soak(tcpleak, minutes.parse().context("the minutes")?),
        _ => bail!("usage: soak PATH-OF-TCPLEAK MINUTES"),
    }
}

fn soak(tcpleak: &str, minutes: u32) -> Result<()> {
    ensure!(minutes > 0, "it takes a minute at least");
    let watched = Watched::start(tcpleak)?;
    let churn = Arc::new(Churn::start(RATE)?);
    let end = Instant::now() + Duration::from_secs(60) * minutes;
    let mut soak = Soak {
        watched,
        churn,
        samples: Samples::default(),
        next: Instant::now(),
        counted: 0,
        slowest: Duration::ZERO,
    };
    while Instant::now() < end {
        soak.cycle()?;
    }
    soak.samples.judge()?;
    println!(
        "counts              {} times tcpleak came to count what the kernel counts, within {:.1} s at most",
        soak.counted,
        soak.slowest.as_secs_f64()
    );
    Ok(())
}

struct Soak {
    watched: Watched,
    churn: Arc<Churn>,
    samples: Samples,
    next: Instant,
    counted: u32,
    slowest: Duration,
}

impl Soak {
    /// Leaks come, more come with a process, end with it, and the rest is repaired.
    fn cycle(&mut self) -> Result<()> {
        let mut leaks = Leaks::new(self.churn.clone())?;
        leaks.hold(REPAIRED)?;
        self.agree(&leaks, REPAIRED)?;
        let process = leaks.start_process(ABANDONED)?;
        self.agree(&leaks, REPAIRED + ABANDONED)?;
        process.end()?;
        self.agree(&leaks, REPAIRED)?;
        leaks.repair();
        self.agree(&leaks, 0)
    }

    /// Waits until tcpleak counts the leaks that the kernel counts, and lets some time go by.
    fn agree(&mut self, leaks: &Leaks, expected: usize) -> Result<()> {
        let begun = Instant::now();
        loop {
            self.sample()?;
            let kernel = leaks.in_kernel()?;
            let counted = self.watched.metrics()?.leaked(leaks::NAME);
            if kernel == expected && counted == expected as f64 {
                break;
            }
            ensure!(
                begun.elapsed() < PATIENCE,
                "{expected} leaks were made, the kernel has {kernel}, tcpleak counts {counted}"
            );
            std::thread::sleep(Duration::from_millis(500));
        }
        self.counted += 1;
        self.slowest = self.slowest.max(begun.elapsed());
        let until = Instant::now() + REST;
        while Instant::now() < until {
            self.sample()?;
            std::thread::sleep(Duration::from_millis(500));
        }
        Ok(())
    }

    fn sample(&mut self) -> Result<()> {
        if Instant::now() < self.next {
            return Ok(());
        }
        self.next = Instant::now() + SAMPLE;
        let metrics = self.watched.metrics()?;
        self.samples.add(Sample {
            at: Instant::now(),
            connections: self.churn.connections(),
            resident: metrics.value("tcpleak_resident_memory_bytes")?,
            user: metrics.value("tcpleak_user_cpu_seconds_total")?,
            kernel: metrics.value("tcpleak_kernel_cpu_seconds_total")?,
            dropped: metrics.value("tcpleak_records_dropped_total")?,
            surveys: metrics.value("tcpleak_surveys_total")?,
        });
        Ok(())
    }
}
