//! Whether counts follow a line, and which.
//!
//! Pure. A line is drawn through the longest recent stretch of counts that is one; where there is none
//! the reason is told, because a forecast on what is not a line would be a guess.

use std::{fmt, time::Duration};

use crate::line::{Line, Sample};

/// What lies further back says nothing about now.
const WINDOW: Duration = Duration::from_secs(5 * 60);
/// Counts that are closer together add nothing. It bounds how many are kept, too.
const SPACING: Duration = Duration::from_secs(1);
/// Fewest counts that make a line.
const ENOUGH: usize = 5;
/// Least rise that makes one: counts are whole numbers, and of few steps the slope is a guess.
const LEAST_RISE: u64 = 6;
/// Least part of the variation that the line must explain. A single step comes to 0.75.
const LEAST_FIT: f64 = 0.9;
/// Rise that a line foretells of its own newest part, and from which on that part must agree.
const TELLING_RISE: f64 = 12.0;
/// Times that the pace of that part may be higher, or lower.
const SAME_PACE: f64 = 1.4;

/// The recent counts of something.
#[derive(Clone, Debug, Default)]
pub struct Counts(Vec<Sample>);

/// Where counts go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trend {
    /// They rise along a line.
    Rises {
        /// By how much in a second.
        per_second: f64,
        /// Through how many counts the line goes.
        counts: usize,
        /// Over what time.
        span: Duration,
    },
    /// Too few counts.
    TooFew,
    /// They do not rise, or not any more.
    DoesNotRise,
    /// They rose too little in this time to tell a pace.
    TooLittle(Duration),
    /// They are no line.
    NoLine,
}

impl Counts {
    /// Takes the next count. Counts must come in order of time.
    pub fn push(&mut self, now: Duration, count: u64) {
        if let [.., (before, _), (newest, _)] = self.0[..]
            && newest.saturating_sub(before) < SPACING
        {
            self.0.pop();
        }
        self.0.push((now, count));
        let oldest = now.saturating_sub(WINDOW);
        self.0.retain(|(time, _)| *time >= oldest);
    }

    /// Where the counts go.
    pub fn trend(&self) -> Trend {
        let stretches = self.stretches();
        let Some(whole) = stretches.first() else {
            return Trend::TooFew;
        };
        for (position, stretch) in stretches.iter().enumerate() {
            let newer = stretches.iter().skip(position + 1).take(3);
            if let Some(line) = rising_line(stretch)
                && !newer.into_iter().any(|newer| is_another_pace(line, newer))
                && !self.was_higher_before(stretch)
            {
                return Trend::Rises {
                    per_second: line.per_second,
                    counts: stretch.len(),
                    span: span(stretch),
                };
            }
        }
        let lately = stretches.get(1).unwrap_or(whole);
        match (rise(lately), rise(whole)) {
            (0, _) | (_, 0) => Trend::DoesNotRise,
            (_, ..LEAST_RISE) => Trend::TooLittle(span(whole)),
            _ => Trend::NoLine,
        }
    }

    /// All counts, the newer half of their time, the newer half of that, as long as they are enough.
    fn stretches(&self) -> Vec<&[Sample]> {
        let mut stretches = Vec::new();
        let mut stretch = self.0.as_slice();
        while stretch.len() >= ENOUGH {
            stretches.push(stretch);
            let middle = stretch[0].0 + span(stretch) / 2;
            let older = stretch.partition_point(|(time, _)| *time < middle);
            stretch = &stretch[older.max(1)..];
        }
        stretches
    }

    /// Whether counts before the stretch were higher than those in it: then this rise may end as the
    /// one before did.
    fn was_higher_before(&self, stretch: &[Sample]) -> bool {
        let before = &self.0[..self.0.len() - stretch.len()];
        let mean =
            stretch.iter().map(|(_, count)| *count as f64).sum::<f64>() / stretch.len() as f64;
        before.iter().any(|(_, count)| *count as f64 > mean)
    }
}

fn span(stretch: &[Sample]) -> Duration {
    match stretch {
        [(oldest, _), .., (newest, _)] => newest.saturating_sub(*oldest),
        _ => Duration::ZERO,
    }
}

fn rise(stretch: &[Sample]) -> u64 {
    match stretch {
        [(_, oldest), .., (_, newest)] => newest.saturating_sub(*oldest),
        _ => 0,
    }
}

fn rising_line(stretch: &[Sample]) -> Option<Line> {
    Line::through(stretch.iter()).filter(|line| {
        rise(stretch) >= LEAST_RISE && line.per_second > 0.0 && line.fit >= LEAST_FIT
    })
}

/// Whether the newest part of a line has gone on at another pace.
fn is_another_pace(line: Line, newer: &[Sample]) -> bool {
    let foretold = line.per_second * span(newer).as_secs_f64();
    let agrees = Line::through(newer.iter()).is_some_and(|newer| {
        let times = newer.per_second / line.per_second;
        (1.0 / SAME_PACE..=SAME_PACE).contains(&times)
    });
    foretold >= TELLING_RISE && !agrees
}

/// What a forecast rests on, or why there is none.
impl fmt::Display for Trend {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rises { counts, span, .. } => {
                write!(formatter, "{counts} counts in {} s", span.as_secs())
            }
            Self::TooFew => write!(formatter, "withheld: fewer than {ENOUGH} counts"),
            Self::DoesNotRise => formatter.write_str("withheld: not growing"),
            Self::TooLittle(span) => write!(
                formatter,
                "withheld: fewer than {LEAST_RISE} more in {} s",
                span.as_secs()
            ),
            Self::NoLine => formatter.write_str("withheld: the count jumps too much for a line"),
        }
    }
}

#[cfg(test)]
mod tests;
