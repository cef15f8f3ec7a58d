//! The straight line through counts over time.

use std::time::Duration;

/// A count, and when it was taken.
pub type Sample = (Duration, u64);

/// The line with the least squares of distances.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// Change of the count in a second.
    pub per_second: f64,
    /// How much of the counts' variation the line explains: 1 when it goes through all of them, 0 when
    /// it says no more than their mean (the coefficient of determination).
    pub fit: f64,
}

impl Line {
    /// The line through these samples; none when they were not taken at different times.
    pub fn through<'a>(samples: impl Iterator<Item = &'a Sample> + Clone) -> Option<Self> {
        let number = samples.clone().count() as f64;
        let (mut times, mut counts) = (0.0, 0.0);
        for (time, count) in samples.clone() {
            times += time.as_secs_f64();
            counts += *count as f64;
        }
        let (mean_time, mean_count) = (times / number, counts / number);
        let (mut together, mut spread, mut variation) = (0.0, 0.0, 0.0);
        for (time, count) in samples {
            let (distance, difference) =
                (time.as_secs_f64() - mean_time, *count as f64 - mean_count);
            together += distance * difference;
            spread += distance * distance;
            variation += difference * difference;
        }
        (spread > 0.0).then(|| Self {
            per_second: together / spread,
            fit: match variation > 0.0 {
                true => together * together / (spread * variation),
                false => 1.0,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(counts: &[u64]) -> Option<Line> {
        let samples: Vec<Sample> = counts
            .iter()
            .enumerate()
            .map(|(second, count)| (Duration::from_secs(second as u64), *count))
            .collect();
        Line::through(samples.iter())
    }

    #[test]
    fn a_line_goes_through_counts_that_are_one() {
        let line = line(&[3, 5, 7, 9]).unwrap();
        assert!((line.per_second - 2.0).abs() < 1e-9, "{line:?}");
        assert!((line.fit - 1.0).abs() < 1e-9, "{line:?}");
    }

    #[test]
    fn counts_that_do_not_change_are_a_flat_line() {
        let flat = Line {
            per_second: 0.0,
            fit: 1.0,
        };
        assert_eq!(line(&[4, 4, 4]), Some(flat));
    }

    #[test]
    fn a_step_is_no_line() {
        let line = line(&[0, 0, 0, 0, 9, 9, 9, 9]).unwrap();
        assert!(line.fit < 0.8, "{line:?}");
    }

    #[test]
    fn one_moment_makes_no_line() {
        assert_eq!(line(&[1]), None);
        assert_eq!(line(&[]), None);
        let at_once = [(Duration::ZERO, 1), (Duration::ZERO, 2)];
        assert_eq!(Line::through(at_once.iter()), None);
    }
}
