//! Numbers as people say them. The spaces inside are no-break spaces, so that a line never ends
//! between a number and its unit; [`super::page`] turns them into ordinary ones.

/// A length of time, in seconds, rounded down to two units: `42 s`, `3 min 12 s`, `2 d 4 h`.
pub(super) fn duration(seconds: f64) -> String {
    if seconds.is_nan() || seconds < 1.0 {
        return "less than a\u{a0}second".into();
    }
    // A float becomes the nearest integer that there is: no age is too large.
    let seconds = seconds as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let (large, small) = match seconds {
        ..60 => return format!("{seconds}\u{a0}s"),
        60..3_600 => ((minutes, "min"), (seconds % 60, "s")),
        3_600..86_400 => ((hours, "h"), (minutes % 60, "min")),
        86_400.. => ((days, "d"), (hours % 24, "h")),
    };
    match small.0 {
        0 => format!("{}\u{a0}{}", count(large.0), large.1),
        _ => format!(
            "{}\u{a0}{}\u{a0}{}\u{a0}{}",
            count(large.0),
            large.1,
            small.0,
            small.1
        ),
    }
}

/// A number with its thousands set apart: `28,232`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A number of things: `1 group`, `2 groups`.
pub(super) fn things(number: u64, singular: &str, plural: &str) -> String {
    format!(
        "{}\u{a0}{}",
        count(number),
        if number == 1 { singular } else { plural }
    )
}

/// A size: `1 byte`, `812 bytes`, `12.5 KiB`, `3.0 MiB`.
pub(super) fn bytes(size: u64) -> String {
    let kibibytes = size as f64 / 1024.0;
    match size {
        ..1024 => things(size, "byte", "bytes"),
        1024..1_047_552 => format!("{kibibytes:.1}\u{a0}KiB"),
        1_047_552..1_072_693_248 => format!("{:.1}\u{a0}MiB", kibibytes / 1024.0),
        1_072_693_248.. => format!("{:.1}\u{a0}GiB", kibibytes / 1_048_576.0),
    }
}

/// A growth: `60 per minute`, `0.5 per minute`.
pub(super) fn per_minute(rate: f64) -> String {
    let digits = if rate.abs() < 10.0 { 1 } else { 0 };
    let number = format!("{rate:.digits$}");
    format!(
        "{}\u{a0}per\u{a0}minute",
        number.strip_suffix(".0").unwrap_or(&number)
    )
}

/// A growth in a unit that suits it: `2.1 more each second`, `12 more each minute`.
pub(super) fn pace(per_second: f64) -> String {
    let (rate, unit) = match per_second {
        0.95.. => (per_second, "second"),
        0.0159.. => (per_second * 60.0, "minute"),
        _ => (per_second * 3_600.0, "hour"),
    };
    let digits = if rate < 10.0 { 1 } else { 0 };
    let number = format!("{rate:.digits$}");
    let number = number.strip_suffix(".0").unwrap_or(&number);
    format!("{number}\u{a0}more each\u{a0}{unit}")
}

/// Ascending numbers with their runs joined: `3, 7-26`.
pub(super) fn ranges(numbers: &[u32]) -> Vec<String> {
    numbers
        .chunk_by(|left, right| left.checked_add(1) == Some(*right))
        .map(|run| match run {
            [first, .., last] => format!("{first}-{last}"),
            _ => run[0].to_string(),
        })
        .collect()
}

/// The first few, and how many there are beyond them: `1, 2, 3 and 5 more`.
///
/// `total` counts them when `items` is a part of them only.
pub(super) fn some_of(items: &[String], most: usize, total: u64) -> String {
    let shown = &items[..items.len().min(most)];
    match total.saturating_sub(shown.len() as u64) {
        0 => shown.join(", "),
        more => format!("{} and {} more", shown.join(", "), count(more)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spoken(text: &str) -> String {
        text.replace('\u{a0}', " ")
    }

    #[test]
    fn a_duration_has_two_units_at_most() {
        let duration = |seconds| spoken(&duration(seconds));
        assert_eq!(duration(0.2), "less than a second");
        assert_eq!(duration(42.9), "42 s");
        assert_eq!(duration(60.0), "1 min");
        assert_eq!(duration(192.4), "3 min 12 s");
        assert_eq!(duration(7_500.0), "2 h 5 min");
        assert_eq!(duration(187_200.0), "2 d 4 h");
        assert_eq!(duration(1e9), "11,574 d 1 h");
    }

    #[test]
    fn a_duration_that_makes_no_sense_is_short() {
        for seconds in [f64::NAN, -5.0, f64::NEG_INFINITY] {
            assert_eq!(spoken(&duration(seconds)), "less than a second");
        }
        assert!(duration(f64::INFINITY).ends_with('h'));
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(count(28_232), "28,232");
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
    }

    #[test]
    fn sizes_have_the_unit_that_fits() {
        let bytes = |size| spoken(&bytes(size));
        assert_eq!(bytes(1), "1 byte");
        assert_eq!(bytes(1_023), "1,023 bytes");
        assert_eq!(bytes(12_800), "12.5 KiB");
        assert_eq!(bytes(1_048_575), "1.0 MiB");
        assert_eq!(bytes(3 << 30), "3.0 GiB");
    }

    #[test]
    fn a_slow_growth_has_a_decimal() {
        let per_minute = |rate| spoken(&per_minute(rate));
        assert_eq!(per_minute(60.2), "60 per minute");
        assert_eq!(per_minute(0.5), "0.5 per minute");
        assert_eq!(per_minute(2.0), "2 per minute");
        assert_eq!(per_minute(-12.0), "-12 per minute");
    }

    #[test]
    fn a_pace_has_the_unit_that_suits_it() {
        let pace = |per_second| spoken(&pace(per_second));
        assert_eq!(pace(120.4), "120 more each second");
        assert_eq!(pace(2.12), "2.1 more each second");
        assert_eq!(pace(0.5), "30 more each minute");
        assert_eq!(pace(0.05), "3 more each minute");
        assert_eq!(pace(0.01), "36 more each hour");
    }

    #[test]
    fn runs_of_numbers_are_joined() {
        assert_eq!(ranges(&[3, 7, 8, 9, 11]), ["3", "7-9", "11"]);
        assert_eq!(ranges(&[u32::MAX, u32::MAX]), ["4294967295", "4294967295"]);
        assert!(ranges(&[]).is_empty());
    }

    #[test]
    fn what_is_left_out_is_counted() {
        let items = ["1", "2", "3"].map(str::to_owned);
        assert_eq!(some_of(&items, 3, 3), "1, 2, 3");
        assert_eq!(some_of(&items, 2, 3), "1, 2 and 1 more");
        assert_eq!(some_of(&items, 3, 1_003), "1, 2, 3 and 1,000 more");
    }
}
