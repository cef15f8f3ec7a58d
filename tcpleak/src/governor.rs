//! Keeps the whole tracer within its budget.
//!
//! Pure: what the programs and user space have cost goes in, how much they may do comes out. Captures
//! are what costs most and what can be done less of, so their rate is what the rest of the budget
//! pays for; the kernel side sheds those first that matter least. When reads and writes are so many
//! that merely looking at each costs more than the budget, they are not traced for a while. The hooks
//! that tell when connections open and end are never given up.

use std::time::Duration;

/// What calling a program costs beside what it measures itself, and its clocks.
const CALL: Duration = Duration::from_nanos(30);
/// Cost of a capture until it has been measured, user space's share included.
const CAPTURE: Duration = Duration::from_micros(10);
/// Captures for each second that are always allowed: without them there would be nothing to report.
const LEAST_RATE: f64 = 10.0;
/// More than this is never needed.
const MOST_RATE: f64 = 50_000.0;
/// Part of the budget that surveys may use up, and the part that they have when connections take the rest.
const SURVEYS: f64 = 0.5;
const LEAST_SURVEYS: f64 = 0.1;
/// Least time to look back on: shorter ones say little.
const SPAN: Duration = Duration::from_millis(800);
/// How long reads and writes stay untraced at first; twice as long each time, up to the most.
const LEAST_PAUSE: Duration = Duration::from_secs(30);
const MOST_PAUSE: Duration = Duration::from_secs(16 * 60);
/// Surveys are never further apart, whatever they cost: they are what tcpleak is for.
const MOST_BETWEEN_SURVEYS: Duration = Duration::from_secs(60);

/// What a group of programs has done since tracing began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effort {
    /// Times that one of them ran.
    pub runs: u64,
    /// Of these, those that were timed.
    pub timed_runs: u64,
    /// What the timed ones took, captures not included.
    pub timed: Duration,
    /// Captures.
    pub captures: u64,
    /// What the captures took.
    pub capturing: Duration,
}

/// What everything has cost since tracing began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Costs {
    /// When this was measured.
    pub at: Duration,
    /// State changes, ends and accept().
    pub lifecycle: Effort,
    /// Reads and writes.
    pub uses: Effort,
    /// CPU time of user space for surveys and reports.
    pub surveys: Duration,
    /// CPU time of user space for code paths.
    pub paths: Duration,
}

impl Costs {
    /// CPU time of the programs since tracing began, captures included, estimated from the runs that were
    /// timed.
    pub fn programs(&self) -> Duration {
        let of = |effort: &Effort| running(&Effort::default(), effort) + effort.capturing;
        of(&self.lifecycle) + of(&self.uses)
    }

    /// Captures since tracing began.
    pub fn captures(&self) -> u64 {
        self.lifecycle.captures + self.uses.captures
    }
}

/// How much may be done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Allowance {
    /// Captures for each second on the whole host.
    pub captures_per_second: f64,
    /// Whether reads and writes are traced.
    pub trace_uses: bool,
}

/// Keeps the whole tracer within its budget.
#[derive(Clone, Debug)]
pub struct Governor {
    /// Part of one CPU.
    budget: f64,
    last: Option<Costs>,
    allowance: Allowance,
    /// Part of one CPU that was used lately.
    used: Option<f64>,
    /// Of this, what following connections took.
    lifecycle: f64,
    too_much: bool,
    resume_at: Duration,
    pause: Duration,
}

impl Governor {
    /// Begins with a rate that fits common costs. The budget is a part of one CPU.
    pub fn new(budget: f64) -> Self {
        Self {
            budget,
            last: None,
            allowance: Allowance {
                captures_per_second: clamp(budget / CAPTURE.as_secs_f64()),
                trace_uses: true,
            },
            used: None,
            lifecycle: 0.0,
            too_much: false,
            resume_at: Duration::ZERO,
            pause: LEAST_PAUSE,
        }
    }

    /// What may be done now.
    pub fn allowance(&self) -> Allowance {
        self.allowance
    }

    /// Part of one CPU that everything together used lately; none before the first second is over.
    pub fn used(&self) -> Option<f64> {
        self.used
    }

    /// Part of one CPU that was used lately, when that is notably more than the budget and what may not
    /// be given up is to blame.
    pub fn over_budget(&self) -> Option<f64> {
        let notable = self.budget * 1.5;
        self.used
            .filter(|used| *used > notable && self.lifecycle > self.budget)
    }

    /// How long to wait between two surveys that cost so much.
    pub fn pause(&self, cost: Duration) -> Duration {
        let left = (self.budget - self.lifecycle).min(self.budget * SURVEYS);
        let pause = cost.as_secs_f64() / left.max(self.budget * LEAST_SURVEYS);
        Duration::try_from_secs_f64(pause).map_or(MOST_BETWEEN_SURVEYS, |pause| {
            pause.min(MOST_BETWEEN_SURVEYS)
        })
    }

    /// Takes in what everything has cost so far, and decides anew once enough time has passed.
    pub fn observe(&mut self, costs: Costs) -> Allowance {
        let Some(last) = self.last else {
            self.last = Some(costs);
            return self.allowance;
        };
        let span = costs.at.saturating_sub(last.at);
        if span < SPAN {
            return self.allowance;
        }
        self.last = Some(costs);
        let spent = Spent::between(&last, &costs, span);
        self.used = Some(spent.total());
        self.lifecycle = spent.lifecycle;
        self.decide_on_uses(&spent, costs.at);
        self.decide_on_captures(&spent);
        self.allowance
    }

    /// Twice in a row, lest a moment of much traffic decides.
    fn decide_on_uses(&mut self, spent: &Spent, now: Duration) {
        if !self.allowance.trace_uses {
            if now >= self.resume_at {
                self.allowance.trace_uses = true;
            }
            return;
        }
        let too_much = spent.uses > self.budget;
        if too_much && self.too_much {
            self.allowance.trace_uses = false;
            self.resume_at = now + self.pause;
            self.pause = (self.pause * 2).min(MOST_PAUSE);
        }
        self.too_much = too_much && !self.too_much;
    }

    /// What the rest of the budget pays for. Down at once, up by and by.
    fn decide_on_captures(&mut self, spent: &Spent) {
        let surveys = spent.surveys.min(self.budget * SURVEYS);
        let rest = self.budget - spent.lifecycle - spent.uses - surveys;
        let affordable = clamp(rest / spent.one_capture);
        let rate = &mut self.allowance.captures_per_second;
        *rate = if affordable < *rate {
            affordable
        } else {
            clamp((*rate * 2.0).min(affordable))
        };
    }
}

/// What was spent over a time, each a part of one CPU.
struct Spent {
    lifecycle: f64,
    uses: f64,
    surveys: f64,
    captures: f64,
    /// Seconds for each capture.
    one_capture: f64,
}

impl Spent {
    fn between(last: &Costs, costs: &Costs, span: Duration) -> Self {
        let captures = (costs.lifecycle.captures + costs.uses.captures)
            .saturating_sub(last.lifecycle.captures + last.uses.captures);
        let capturing = (costs.lifecycle.capturing + costs.uses.capturing)
            .saturating_sub(last.lifecycle.capturing + last.uses.capturing)
            + costs.paths.saturating_sub(last.paths);
        let part = |time: Duration| time.as_secs_f64() / span.as_secs_f64();
        Self {
            lifecycle: part(running(&last.lifecycle, &costs.lifecycle)),
            uses: part(running(&last.uses, &costs.uses)),
            surveys: part(costs.surveys.saturating_sub(last.surveys)),
            captures: part(capturing),
            // Of a few captures the mean says nothing.
            one_capture: match captures {
                0..20 => CAPTURE.as_secs_f64(),
                _ => capturing.as_secs_f64() / captures as f64,
            },
        }
    }

    fn total(&self) -> f64 {
        self.lifecycle + self.uses + self.surveys + self.captures
    }
}

/// What the runs took, by those that were timed.
fn running(last: &Effort, now: &Effort) -> Duration {
    let runs = now.runs.saturating_sub(last.runs) as f64;
    let timed_runs = now.timed_runs.saturating_sub(last.timed_runs);
    let timed = now.timed.saturating_sub(last.timed).as_secs_f64();
    let mean = timed / timed_runs.max(1) as f64;
    Duration::try_from_secs_f64(runs * (mean + CALL.as_secs_f64())).unwrap_or(Duration::MAX)
}

fn clamp(rate: f64) -> f64 {
    rate.clamp(LEAST_RATE, MOST_RATE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Costs of a host on which each second is like the one before.
    struct Host {
        costs: Costs,
        reads: u64,
        captures: u64,
        one_capture: Duration,
    }

    impl Host {
        fn quiet() -> Self {
            Self {
                costs: Costs::default(),
                reads: 1_000,
                captures: 100,
                one_capture: Duration::from_micros(5),
            }
        }

        fn next(&mut self, allowance: Allowance) -> Costs {
            self.costs.at += SECOND;
            let captures = self.captures.min(allowance.captures_per_second as u64);
            let uses = &mut self.costs.uses;
            uses.captures += captures;
            uses.capturing += self.one_capture * captures as u32;
            if allowance.trace_uses {
                uses.runs += self.reads;
                uses.timed_runs += self.reads / 64;
                uses.timed += Duration::from_nanos(70) * (self.reads / 64) as u32;
            }
            self.costs
        }

        fn run(&mut self, governor: &mut Governor, seconds: usize) -> Allowance {
            for _ in 0..=seconds {
                let costs = self.next(governor.allowance());
                governor.observe(costs);
            }
            governor.allowance()
        }
    }

    #[test]
    fn a_quiet_host_is_traced_in_full() {
        let mut governor = Governor::new(0.01);
        let allowance = Host::quiet().run(&mut governor, 10);
        assert!(allowance.trace_uses);
        assert!(allowance.captures_per_second >= 900.0, "{allowance:?}");
        let used = governor.used().unwrap();
        assert!((0.0004..0.001).contains(&used), "{used}");
    }

    #[test]
    fn captures_are_as_many_as_the_budget_pays_for() {
        let mut host = Host::quiet();
        (host.captures, host.one_capture) = (100_000, Duration::from_micros(20));
        let mut governor = Governor::new(0.01);
        let allowance = host.run(&mut governor, 10);
        assert!(
            (400.0..500.0).contains(&allowance.captures_per_second),
            "{allowance:?}"
        );
        assert!(governor.used().unwrap() <= 0.0101);
    }

    #[test]
    fn a_larger_budget_pays_for_more() {
        let rate = |budget| {
            let mut host = Host::quiet();
            (host.captures, host.one_capture) = (100_000, Duration::from_micros(20));
            host.run(&mut Governor::new(budget), 20).captures_per_second
        };
        assert!(rate(0.1) > 9.0 * rate(0.01));
    }

    #[test]
    fn reads_and_writes_that_cost_more_than_the_budget_are_not_traced_for_a_while() {
        let mut host = Host::quiet();
        host.reads = 1_000_000;
        let mut governor = Governor::new(0.01);
        assert!(host.run(&mut governor, 1).trace_uses, "once is a moment");
        assert!(!host.run(&mut governor, 0).trace_uses);
        let mut untraced = 0;
        while !governor.allowance().trace_uses {
            host.run(&mut governor, 0);
            untraced += 1;
        }
        assert_eq!(untraced, 30, "then it is tried again");
        while governor.allowance().trace_uses {
            host.run(&mut governor, 0);
        }
        for _ in 0..59 {
            assert!(!host.run(&mut governor, 0).trace_uses, "less often");
        }
    }

    #[test]
    fn something_is_captured_however_small_the_budget() {
        let mut host = Host::quiet();
        host.costs.surveys = SECOND;
        let mut governor = Governor::new(0.0001);
        let allowance = host.run(&mut governor, 10);
        assert_eq!(allowance.captures_per_second, LEAST_RATE);
    }

    #[test]
    fn connections_that_cost_more_than_the_budget_are_followed_and_told_of() {
        let mut host = Host::quiet();
        let mut governor = Governor::new(0.01);
        host.run(&mut governor, 2);
        assert_eq!(governor.over_budget(), None);
        for _ in 0..2 {
            host.costs.lifecycle.runs += 200_000;
            host.costs.lifecycle.timed_runs += 200_000 / 64;
            host.costs.lifecycle.timed += Duration::from_nanos(400) * (200_000 / 64);
            host.run(&mut governor, 0);
        }
        let used = governor.over_budget().unwrap();
        assert!((0.08..0.1).contains(&used), "{used}");
        assert_eq!(governor.allowance().captures_per_second, LEAST_RATE);
        // A tenth of the budget is for surveys all the same.
        let pause = governor.pause(Duration::from_millis(5));
        assert_eq!(pause, Duration::from_secs(5));
    }

    #[test]
    fn surveys_use_up_half_of_the_budget_at_most() {
        let governor = Governor::new(0.01);
        assert_eq!(
            governor.pause(Duration::from_millis(5)),
            Duration::from_secs(1)
        );
        assert_eq!(governor.pause(SECOND), MOST_BETWEEN_SURVEYS);
        assert_eq!(Governor::new(0.0).pause(SECOND), MOST_BETWEEN_SURVEYS);
    }

    #[test]
    fn measurements_that_are_close_together_decide_nothing() {
        let mut governor = Governor::new(0.01);
        let mut costs = Costs::default();
        governor.observe(costs);
        costs.at += Duration::from_millis(100);
        costs.uses.runs = 1_000_000_000;
        governor.observe(costs);
        assert_eq!(governor.used(), None);
    }
}
