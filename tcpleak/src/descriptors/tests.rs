use super::*;

const LEAKY: ProcessId = ProcessId {
    pid: 42,
    start_ns: 7,
};

fn suspect(process: ProcessId, connections: u64) -> Suspect {
    Suspect {
        process,
        comm: "leaky".into(),
        connections,
        leaks: true,
    }
}

/// A process of which one survey after the other tells, a second apart.
#[derive(Default)]
struct Story {
    watch: DescriptorWatch,
    second: u64,
}

impl Story {
    fn survey(&mut self, open: Option<u64>, limit: Limit) -> Descriptors {
        self.second += 1;
        let connections = open.unwrap_or_default();
        let counted = [(suspect(LEAKY, connections), Usage { open, limit })];
        let now = Duration::from_secs(self.second);
        let mut forecasts = self.watch.forecast(now, &counted);
        assert_eq!(forecasts.len(), 1);
        forecasts.remove(0)
    }

    fn surveys(&mut self, open: impl IntoIterator<Item = u64>, limit: u64) -> Descriptors {
        let told = open
            .into_iter()
            .map(|open| self.survey(Some(open), Limit::Most(limit)));
        told.last().unwrap()
    }
}

#[test]
fn a_steady_leak_runs_out_when_it_reaches_the_limit() {
    let told = Story::default().surveys((100..=120).map(|open| 2 * open), 1_024);
    assert_eq!((told.fds_open, told.fd_limit), (Some(240), Some(1_024)));
    assert_eq!(told.basis, "21 counts in 20 s");
    for (rate, expected) in [
        (told.fd_rate_per_s, 2.0),
        (told.leak_rate_per_s, 2.0),
        (told.runs_out_in_s, 392.0),
    ] {
        assert!((rate.unwrap() - expected).abs() < 1e-6, "{told:?}");
    }
    assert!(told.close_to_limit);
}

#[test]
fn a_process_that_leaks_nothing_more_has_no_forecast() {
    let told = Story::default().surveys([900; 20], 1_024);
    assert_eq!((told.runs_out_in_s, told.fd_rate_per_s), (None, None));
    assert_eq!(told.basis, "withheld: not growing");
    assert!(!told.close_to_limit);
}

#[test]
fn few_counts_have_no_forecast() {
    let told = Story::default().surveys([1, 100, 200, 300], 1_024);
    assert_eq!(told.runs_out_in_s, None);
    assert_eq!(told.basis, "withheld: fewer than 5 counts");
}

#[test]
fn a_limit_that_is_reached_is_told_at_once() {
    let mut story = Story::default();
    let told = story.surveys([1_024], 1_024);
    assert_eq!(told.runs_out_in_s, Some(0.0));
    assert_eq!(told.basis, "the limit is reached");
    assert!(told.close_to_limit);
    // The limit was lowered below what was open already.
    assert_eq!(story.surveys([1_024], 500).runs_out_in_s, Some(0.0));
}

#[test]
fn a_limit_that_changes_counts_from_then_on() {
    let mut story = Story::default();
    let before = story.surveys((100..130).map(|open| 3 * open), 1_024);
    assert!((before.runs_out_in_s.unwrap() - 637.0 / 3.0).abs() < 1e-6);
    let after = story.surveys([390], 65_536);
    assert!((after.runs_out_in_s.unwrap() - 65_146.0 / 3.0).abs() < 1e-6);
    assert!(before.close_to_limit && !after.close_to_limit);
}

#[test]
fn without_a_limit_nothing_runs_out() {
    let mut story = Story::default();
    story.surveys(0..20, 1_024);
    for (limit, basis) in [
        (Limit::Unlimited, "withheld: there is no limit"),
        (Limit::Unknown, "withheld: the limit could not be read"),
    ] {
        let told = story.survey(Some(40), limit);
        assert_eq!((told.fd_limit, told.runs_out_in_s), (None, None));
        assert_eq!(told.basis, basis);
    }
    let told = story.survey(None, Limit::Most(1_024));
    assert_eq!((told.fds_open, told.runs_out_in_s), (None, None));
    assert_eq!(told.basis, "withheld: the descriptors could not be counted");
}

#[test]
fn what_is_close_stays_so_until_it_is_clearly_not() {
    let mut story = Story::default();
    assert!(
        !story
            .surveys((0..20).map(|open| 400 + open), 2_000)
            .close_to_limit
    );
    assert!(story.surveys(420..422, 1_000).close_to_limit, "578 s");
    assert!(
        story.surveys(422..424, 1_500).close_to_limit,
        "1,077 s are not far enough"
    );
    // A jump: there is no forecast for a while.
    let jumped = story.surveys([1_300], 1_500);
    assert_eq!(jumped.runs_out_in_s, None, "{jumped:?}");
    assert!(jumped.close_to_limit);
    assert!(
        !story.surveys([300], 1_500).close_to_limit,
        "they were closed"
    );
}

#[test]
fn a_process_that_is_no_suspect_for_a_while_starts_anew() {
    let mut story = Story::default();
    story.surveys((0..20).map(|open| 3 * open), 1_024);
    let other = ProcessId {
        pid: 42,
        start_ns: 8,
    };
    let usage = Usage {
        open: Some(99),
        limit: Limit::Most(1_024),
    };
    let now = Duration::from_secs(21);
    let told = story.watch.forecast(now, &[(suspect(other, 1), usage)]);
    assert_eq!(told[0].basis, "withheld: fewer than 5 counts");
    assert_eq!(story.watch.descriptors.len(), 1);
}
