//! How leaks and totals have changed lately: a bounded ring of points, for the plots of the page.
//!
//! Pure: what is kept longer is kept by whoever collects the [`crate::metrics`].

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use jiff::Timestamp;
use serde::Serialize;

use crate::report::Report;

/// Time between two points.
const STEP: Duration = Duration::from_secs(10);
/// Most points: the last hour.
const POINTS: usize = 360;
/// Most groups of one point: the worst.
const GROUPS: usize = 64;

/// The last hour.
#[derive(Clone, Debug, Default)]
pub struct History {
    points: VecDeque<Point>,
}

#[derive(Clone, Debug)]
struct Point {
    at: Timestamp,
    connections: u64,
    close_wait: u64,
    dead_fd: u64,
    time_wait: u64,
    groups: Vec<(String, u64)>,
}

/// The history as one document: each list has one number for each time.
#[derive(Debug, PartialEq, Serialize)]
pub struct Plots {
    /// Seconds between two points, when none is missing.
    pub step_s: u64,
    /// Times in seconds since 1970, ascending, at most 360.
    pub at: Vec<i64>,
    /// TCP connections.
    pub connections: Vec<u64>,
    /// Sockets in CLOSE_WAIT.
    pub close_wait: Vec<u64>,
    /// Descriptors of connections that are dead in the kernel.
    pub dead_fd: Vec<u64>,
    /// Sockets in TIME_WAIT.
    pub time_wait: Vec<u64>,
    /// Connections of each leak by the id of its group, those of the latest point and at most 64; null
    /// where it was not there.
    pub groups: BTreeMap<String, Vec<Option<u64>>>,
}

impl History {
    /// Takes in a report, when it is time for a point.
    pub fn observe(&mut self, report: &Report) {
        let at = report.taken_at;
        if let Some(last) = self.points.back() {
            let step = at.duration_since(last.at);
            if step.is_negative() {
                // The clock was set back: times must ascend.
                self.points.clear();
            } else if step.unsigned_abs() < STEP {
                return;
            }
        }
        let leaks = report.groups.iter().filter(|group| group.leak);
        let totals = &report.totals;
        self.points.push_back(Point {
            at,
            connections: totals.connections,
            close_wait: totals.close_wait,
            dead_fd: totals.dead_fd,
            time_wait: totals.time_wait,
            groups: leaks
                .take(GROUPS)
                .map(|group| (group.id.clone(), group.count))
                .collect(),
        });
        while self.points.len() > POINTS {
            self.points.pop_front();
        }
    }

    /// The points as lists.
    pub fn plots(&self) -> Plots {
        let latest = self.points.back().into_iter();
        let ids: BTreeSet<&String> = latest
            .flat_map(|point| point.groups.iter().map(|(id, _)| id))
            .collect();
        let count = |point: &Point, id: &String| {
            let mut groups = point.groups.iter();
            groups
                .find(|(other, _)| other == id)
                .map(|(_, count)| *count)
        };
        let numbers = |of: fn(&Point) -> u64| self.points.iter().map(of).collect();
        Plots {
            step_s: STEP.as_secs(),
            at: self
                .points
                .iter()
                .map(|point| point.at.as_second())
                .collect(),
            connections: numbers(|point| point.connections),
            close_wait: numbers(|point| point.close_wait),
            dead_fd: numbers(|point| point.dead_fd),
            time_wait: numbers(|point| point.time_wait),
            groups: ids
                .into_iter()
                .map(|id| {
                    let counts = self.points.iter().map(|point| count(point, id));
                    (id.clone(), counts.collect())
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::output::samples;

    fn report(seconds: i64, ids: &[&str]) -> Report {
        let groups = ids.iter().map(|id| {
            let mut group = samples::eof_unread();
            group.id = (*id).into();
            group
        });
        let mut report = samples::report(groups.collect());
        report.taken_at += SignedDuration::from_secs(seconds);
        report
    }

    #[test]
    fn a_leak_that_comes_later_was_not_there_before() {
        let mut history = History::default();
        history.observe(&report(0, &["a"]));
        history.observe(&report(10, &["a", "b"]));
        let plots = history.plots();
        assert_eq!(plots.at.len(), 2);
        assert_eq!(plots.at[1] - plots.at[0], 10);
        let count = samples::eof_unread().count;
        assert_eq!(plots.groups["a"], [Some(count), Some(count)]);
        assert_eq!(plots.groups["b"], [None, Some(count)]);
    }

    #[test]
    fn a_leak_that_is_gone_has_no_plot() {
        let mut history = History::default();
        history.observe(&report(0, &["a"]));
        history.observe(&report(10, &[]));
        assert!(history.plots().groups.is_empty());
    }

    #[test]
    fn reports_in_between_are_left_out_and_old_points_go() {
        let mut history = History::default();
        for second in 0..2 * 10 * POINTS as i64 {
            history.observe(&report(second, &[]));
        }
        let plots = history.plots();
        assert_eq!(plots.at.len(), POINTS);
        assert!(plots.at.windows(2).all(|pair| pair[1] - pair[0] == 10));
    }

    #[test]
    fn a_clock_that_is_set_back_begins_anew() {
        let mut history = History::default();
        history.observe(&report(100, &[]));
        history.observe(&report(0, &[]));
        assert_eq!(history.plots().at.len(), 1);
    }

    #[test]
    fn of_many_leaks_the_worst_are_kept() {
        let ids: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let mut history = History::default();
        history.observe(&report(0, &ids));
        assert_eq!(history.plots().groups.len(), GROUPS);
    }
}
