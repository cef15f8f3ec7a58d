use super::*;

/// Counts taken so far apart.
fn counts(apart: Duration, counts: impl IntoIterator<Item = u64>) -> Counts {
    let mut taken = Counts::default();
    let mut now = Duration::from_secs(1_000);
    for count in counts {
        taken.push(now, count);
        now += apart;
    }
    taken
}

fn each_second(list: impl IntoIterator<Item = u64>) -> Counts {
    counts(Duration::from_secs(1), list)
}

fn pace(trend: Trend) -> f64 {
    match trend {
        Trend::Rises { per_second, .. } => per_second,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_steady_leak_has_its_pace_after_ten_seconds() {
    let trend = each_second((0..11).map(|second| 60 + 3 * second)).trend();
    assert!((pace(trend) - 3.0).abs() < 1e-9);
    assert_eq!(trend.to_string(), "11 counts in 10 s");
}

#[test]
fn whatever_the_pace_of_a_steady_leak_it_is_right_to_a_fifth() {
    let mut told = 0;
    for pace_in_thousandths in [15, 40, 110, 330, 700, 1_300, 2_100, 9_000, 170_000] {
        let pace = f64::from(pace_in_thousandths) / 1_000.0;
        for apart_ms in [200, 700, 1_000, 2_500, 10_000, 60_000] {
            let apart = Duration::from_millis(apart_ms);
            for phase in [0, 3, 5, 9] {
                for number in 5..80 {
                    let at = |position: u32| {
                        let since = apart.as_secs_f64() * f64::from(position);
                        (since * pace + f64::from(phase) / 10.0) as u64
                    };
                    let trend = counts(apart, (0..number).map(at)).trend();
                    match trend {
                        Trend::Rises { per_second, .. } => {
                            let times = per_second / pace;
                            assert!(
                                (0.8..1.2).contains(&times),
                                "{pace} {apart:?} {phase} {number}: {times}"
                            );
                            told += 1;
                        }
                        Trend::NoLine => panic!("{pace} {apart:?} {phase} {number}"),
                        _ => {}
                    }
                }
            }
        }
    }
    assert!(told > 8_000, "{told}");
}

#[test]
fn surveys_that_come_at_odd_times_do_not_bend_the_line() {
    let mut taken = Counts::default();
    // The governor makes the pauses longer, and shorter again.
    for second in [0, 1, 2, 3, 5, 9, 17, 33, 63, 93, 123, 140, 150, 151, 152] {
        taken.push(Duration::from_secs(second), 10 + 2 * second);
    }
    assert!((pace(taken.trend()) - 2.0).abs() < 1e-9);
}

#[test]
fn few_counts_tell_nothing() {
    let trend = each_second([1, 11, 21, 31]).trend();
    assert_eq!(trend, Trend::TooFew);
    assert_eq!(trend.to_string(), "withheld: fewer than 5 counts");
    assert_eq!(Counts::default().trend(), Trend::TooFew);
}

#[test]
fn a_count_that_stays_or_falls_does_not_rise() {
    assert_eq!(each_second([7; 30]).trend(), Trend::DoesNotRise);
    assert_eq!(
        each_second((0..30).map(|second| 90 - second)).trend(),
        Trend::DoesNotRise
    );
    assert_eq!(Trend::DoesNotRise.to_string(), "withheld: not growing");
}

#[test]
fn a_few_more_are_no_pace() {
    let trend = each_second((0..40).map(|second| second / 10)).trend();
    assert_eq!(trend, Trend::TooLittle(Duration::from_secs(39)));
    assert_eq!(trend.to_string(), "withheld: fewer than 6 more in 39 s");
}

#[test]
fn a_step_is_no_pace_at_any_time() {
    for length in 5..200 {
        let trend =
            each_second((0..length).map(|second| if second < 20 { 100 } else { 180 })).trend();
        assert!(!matches!(trend, Trend::Rises { .. }), "{length}: {trend:?}");
    }
    let trend = each_second((0..24).map(|second| if second < 20 { 100 } else { 180 })).trend();
    assert_eq!(
        trend.to_string(),
        "withheld: the count jumps too much for a line"
    );
}

#[test]
fn a_sawtooth_is_no_pace_once_it_has_come_down() {
    for tooth in [10, 25, 60] {
        for length in tooth + 1..290 {
            let trend = each_second((0..length).map(|second| 50 + 4 * (second % tooth))).trend();
            assert!(
                !matches!(trend, Trend::Rises { .. }),
                "{tooth} {length}: {trend:?}"
            );
        }
    }
}

#[test]
fn a_leak_that_begins_after_a_long_calm_is_told_soon() {
    let trend =
        each_second((0..312_u64).map(|second| 100 + 3 * second.saturating_sub(300))).trend();
    assert!((2.4..3.6).contains(&pace(trend)), "{trend:?}");
}

#[test]
fn a_leak_that_ends_is_not_told_for_long() {
    let trend = |length: u64| each_second((0..length).map(|second| 3 * second.min(60))).trend();
    assert!((pace(trend(60)) - 3.0).abs() < 1e-9);
    for length in 90..300 {
        assert!(!matches!(trend(length), Trend::Rises { .. }), "{length}");
    }
    assert_eq!(trend(180), Trend::DoesNotRise);
}

#[test]
fn a_leak_that_becomes_twice_as_fast_is_told_at_its_new_pace() {
    let trend =
        each_second((0..100_u64).map(|second| second + 3 * second.saturating_sub(60))).trend();
    assert!((3.2..4.8).contains(&pace(trend)), "{trend:?}");
}

#[test]
fn a_leak_at_random_moments_is_told_all_the_same() {
    // A linear congruential generator: three in five seconds have one more, or two.
    let (mut state, mut count) = (1_u32, 100);
    let random = (0..120).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        count += u64::from((state >> 24) % 5 % 3);
        count
    });
    let trend = each_second(random.collect::<Vec<_>>()).trend();
    assert!((0.5..1.2).contains(&pace(trend)), "{trend:?}");
}

#[test]
fn memory_is_bounded_and_what_is_old_is_forgotten() {
    let taken = counts(Duration::from_millis(10), (0..100_000).map(|_| 1));
    assert!(taken.0.len() <= 302, "{}", taken.0.len());
    let oldest = taken.0[0].0;
    assert!(taken.0.last().unwrap().0 - oldest <= WINDOW);
}
