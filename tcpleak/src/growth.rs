//! How the count of a group changes from report to report.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    time::Duration,
};

use crate::line::{Line, Sample};

/// Samples kept for each group.
const SAMPLES: usize = 60;

/// Fewest samples that make a slope.
const ENOUGH: usize = 3;

/// The recent counts of each group.
#[derive(Debug)]
pub struct Growth<Key>(HashMap<Key, VecDeque<Sample>>);

impl<Key> Default for Growth<Key> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<Key: Hash + Eq + Clone> Growth<Key> {
    /// Takes the counts of one report. A group that is not among them is forgotten.
    pub fn sample<'a>(&mut self, now: Duration, counts: impl Iterator<Item = (&'a Key, u64)>)
    where
        Key: 'a,
    {
        let mut previous = std::mem::take(&mut self.0);
        for (key, count) in counts {
            let mut samples = previous.remove(key).unwrap_or_default();
            if samples.len() == SAMPLES {
                samples.pop_front();
            }
            samples.push_back((now, count));
            self.0.insert(key.clone(), samples);
        }
    }

    /// Change per minute, as the slope of the least-squares line; `None` before there are enough
    /// samples.
    pub fn per_minute(&self, key: &Key) -> Option<f64> {
        let samples = self.0.get(key)?;
        if samples.len() < ENOUGH {
            return None;
        }
        Line::through(samples.iter()).map(|line| line.per_second * 60.0)
    }

    /// Whether the count rises: the line does, and the newest count is above the oldest.
    pub fn grows(&self, key: &Key) -> bool {
        let ends = self
            .0
            .get(key)
            .and_then(|samples| Some((samples.front()?.1, samples.back()?.1)));
        self.per_minute(key).is_some_and(|slope| slope > 0.0)
            && ends.is_some_and(|(old, new)| new > old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn growth(counts: &[u64]) -> Growth<&'static str> {
        let mut growth = Growth::default();
        for (second, count) in counts.iter().enumerate() {
            growth.sample(
                Duration::from_secs(second as u64),
                [(&"group", *count)].into_iter(),
            );
        }
        growth
    }

    #[test]
    fn one_more_each_second_is_sixty_per_minute() {
        let growth = growth(&[1, 2, 3, 4, 5]);
        assert!((growth.per_minute(&"group").unwrap() - 60.0).abs() < 1e-6);
        assert!(growth.grows(&"group"));
    }

    #[test]
    fn two_surveys_are_not_enough() {
        assert_eq!(growth(&[1, 5]).per_minute(&"group"), None);
        assert!(!growth(&[1, 5]).grows(&"group"));
    }

    #[test]
    fn a_steady_count_and_a_falling_one_do_not_grow() {
        assert!(!growth(&[4, 4, 4, 4]).grows(&"group"));
        assert!(!growth(&[9, 8, 2, 1]).grows(&"group"));
    }

    #[test]
    fn a_group_that_went_away_starts_anew() {
        let mut growth = growth(&[1, 2, 3]);
        growth.sample(Duration::from_secs(9), [(&"other", 1)].into_iter());
        assert_eq!(growth.per_minute(&"group"), None);
    }
}
