//! What was sampled, and whether it is as it should be.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// What comes before is not looked at: caches fill, and the programs on the host become known.
const WARM_UP: f64 = 0.25;
/// From this on a run is long enough for its slope and its cost to mean something.
const LONG: Duration = Duration::from_secs(30 * 60);
/// Most growth of memory in an hour, and in a run that is not long.
const MOST_SLOPE: f64 = 1e6;
const MOST_GROWTH: f64 = 8e6;
/// Largest part of one core.
const MOST_CPU: f64 = 0.02;

/// How tcpleak was at a time.
#[derive(Clone, Copy)]
pub struct Sample {
    pub at: Instant,
    pub connections: u64,
    pub resident: f64,
    pub user: f64,
    pub kernel: f64,
    pub dropped: f64,
    pub surveys: f64,
}

/// All samples of a run, as they came.
#[derive(Default)]
pub struct Samples(Vec<Sample>);

impl Samples {
    pub fn add(&mut self, sample: Sample) {
        self.0.push(sample);
    }

    /// Prints what was measured; fails when that is not as it should be.
    pub fn judge(&self) -> Result<()> {
        let [first, .., last] = &self.0[..] else {
            anyhow::bail!("there are no two samples");
        };
        let whole = last.at - first.at;
        let warm: Vec<&Sample> = self
            .0
            .iter()
            .filter(|sample| sample.at - first.at >= whole.mul_f64(WARM_UP))
            .collect();
        let [begin, .., end] = warm[..] else {
            anyhow::bail!("there are no two samples after the warm-up");
        };
        let seconds = (end.at - begin.at).as_secs_f64();
        let rate = (end.connections - begin.connections) as f64 / seconds;
        let cpu = [
            (end.user - begin.user) / seconds,
            (end.kernel - begin.kernel) / seconds,
        ];
        let slope = slope(&warm);
        let growth = end.resident - begin.resident;
        println!(
            "connections         {rate:.0} in each second, {:.0} minutes",
            whole.as_secs_f64() / 60.0
        );
        println!(
            "surveys             one in {:.1} s",
            seconds / (end.surveys - begin.surveys).max(1.0)
        );
        println!(
            "memory              {:.1} MB at the end, {:+.2} MB after the warm-up, slope {:+.2} MB/h",
            end.resident / 1e6,
            growth / 1e6,
            slope / 1e6
        );
        println!(
            "processor           {:.2} % of one core: {:.2} % user space, {:.2} % kernel programs",
            100.0 * (cpu[0] + cpu[1]),
            100.0 * cpu[0],
            100.0 * cpu[1]
        );
        println!("lost                {} records", last.dropped);
        ensure!(last.dropped == 0.0, "records were lost");
        if whole >= LONG {
            ensure!(
                slope < MOST_SLOPE,
                "memory grows by more than 1 MB in an hour"
            );
            ensure!(
                cpu[0] + cpu[1] < MOST_CPU,
                "it takes more than 2 % of a core"
            );
        } else {
            ensure!(growth < MOST_GROWTH, "memory has grown by more than 8 MB");
            println!(
                "                    too short to judge slope and processor: that takes 30 minutes"
            );
        }
        Ok(())
    }
}

/// Bytes in an hour, by least squares.
fn slope(samples: &[&Sample]) -> f64 {
    let hours = |sample: &Sample| (sample.at - samples[0].at).as_secs_f64() / 3600.0;
    let number = samples.len() as f64;
    let mean_time = samples.iter().map(|sample| hours(sample)).sum::<f64>() / number;
    let mean = samples.iter().map(|sample| sample.resident).sum::<f64>() / number;
    let (mut both, mut times) = (0.0, 0.0);
    for sample in samples {
        let time = hours(sample) - mean_time;
        both += time * (sample.resident - mean);
        times += time * time;
    }
    both / times
}
