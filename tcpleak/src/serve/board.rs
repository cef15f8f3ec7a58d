//! What was seen last, for whoever asks.

use std::{
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{
    health::Health,
    history::History,
    lock::lock,
    metrics::measure,
    output::{json, openmetrics},
    report::Report,
};

/// A survey is late when the last one is as many intervals ago, or [`LATE`] where that is more: on a host
/// where surveys are costly they are up to a minute apart.
const INTERVALS: u32 = 10;
const LATE: Duration = Duration::from_secs(180);

/// What was seen last. Shared by the tracer, which shows, and the server, which answers.
#[derive(Debug)]
pub struct Board {
    late: Duration,
    started: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    latest: Option<(Instant, Arc<Shown>)>,
    history: History,
}

/// A report, and the documents made of it: each once, and when somebody asks for the first time.
#[derive(Debug)]
pub struct Shown {
    report: Report,
    health: Health,
    documents: [OnceLock<Bytes>; 2],
}

/// Whether surveys come as they should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// There was none yet, which is no trouble so shortly after the start.
    NotYet,
    /// They do.
    Fresh,
    /// There was none for this time.
    Late(Duration),
}

impl Board {
    /// One with nothing on it, for surveys at this interval.
    pub fn new(interval: Duration) -> Self {
        Self {
            late: LATE.max(interval.saturating_mul(INTERVALS)),
            started: Instant::now(),
            state: Mutex::default(),
        }
    }

    /// Shows a report from now on.
    pub fn show(&self, report: Report, health: Health) {
        let mut state = lock(&self.state);
        state.history.observe(&report);
        let shown = Shown {
            report,
            health,
            documents: Default::default(),
        };
        state.latest = Some((Instant::now(), Arc::new(shown)));
    }

    /// What is shown.
    pub fn shown(&self) -> Option<Arc<Shown>> {
        let state = lock(&self.state);
        state.latest.as_ref().map(|(_, shown)| shown.clone())
    }

    /// The last hour as JSON, once there was something in it. Only the page asks for it, so it is made then.
    pub fn history(&self) -> Option<Bytes> {
        let history = {
            let state = lock(&self.state);
            state.latest.is_some().then(|| state.history.clone())
        };
        let document =
            |history: History| rendered(|out| Ok(serde_json::to_writer(out, &history.plots())?));
        history.map(document)
    }

    /// Whether surveys come as they should at this time.
    pub fn freshness(&self, now: Instant) -> Freshness {
        let state = lock(&self.state);
        let latest = state.latest.as_ref().map(|(at, _)| *at);
        let since = now.saturating_duration_since(latest.unwrap_or(self.started));
        match latest {
            _ if since >= self.late => Freshness::Late(since),
            None => Freshness::NotYet,
            Some(_) => Freshness::Fresh,
        }
    }
}

impl Shown {
    /// The report as JSON.
    pub fn report(&self) -> Bytes {
        self.document(0, |out| json::render(&self.report, out))
    }

    /// The metrics as OpenMetrics text.
    pub fn metrics(&self) -> Bytes {
        self.document(1, |out| {
            openmetrics::render(measure(&self.report, &self.health), out)
        })
    }

    fn document(
        &self,
        number: usize,
        render: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>,
    ) -> Bytes {
        self.documents[number]
            .get_or_init(|| rendered(render))
            .clone()
    }
}

fn rendered(render: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> Bytes {
    let mut out = Vec::new();
    // Nothing can fail that writes to memory.
    let _ = render(&mut out);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn surveys_are_late_after_three_minutes_or_ten_intervals() {
        for (interval, late) in [(SECOND, 180), (60 * SECOND, 600)] {
            let board = Board::new(interval);
            let now = Instant::now();
            assert_eq!(board.freshness(now), Freshness::NotYet);
            let later = now + (late + 1) * SECOND;
            assert!(matches!(board.freshness(later), Freshness::Late(_)));
            board.show(samples::report(Vec::new()), Health::default());
            let now = Instant::now();
            assert_eq!(board.freshness(now + (late - 1) * SECOND), Freshness::Fresh);
            let later = now + (late + 1) * SECOND;
            assert!(matches!(board.freshness(later), Freshness::Late(_)));
        }
    }

    #[test]
    fn what_is_shown_last_is_what_is_seen() {
        let board = Board::new(SECOND);
        assert!(board.shown().is_none() && board.history().is_none());
        for group in [samples::eof_unread(), samples::dead_fd()] {
            let verdict = group.verdict.word();
            board.show(samples::report(vec![group]), Health::default());
            let shown = board.shown().unwrap();
            for document in [shown.report(), shown.metrics()] {
                let document = String::from_utf8(document.into()).unwrap();
                assert!(document.contains(verdict), "{document}");
            }
        }
        let history = board.history().unwrap();
        let history: serde_json::Value = serde_json::from_slice(&history).unwrap();
        assert_eq!(history["at"].as_array().unwrap().len(), 1);
    }
}
