//! What the test programs say of each test.

/// The name of a test, and whether it passed: `test NAME ... ok`, wherever the words of a program under test
/// came in between. `None` for every other line.
pub fn verdict(line: &str) -> Option<(&str, bool)> {
    let (_, line) = line.split_once("test ")?;
    match line.split_once(" ... ")? {
        (name, "ok") => Some((name, true)),
        (name, "FAILED") => Some((name, false)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_a_test_is_a_verdict() {
        assert_eq!(verdict("test a::b ... ok"), Some(("a::b", true)));
        assert_eq!(verdict("words test a::b ... FAILED"), Some(("a::b", false)));
        for line in [
            "test result: ok. 3 passed",
            "test a ... ignored",
            "running 3 tests",
        ] {
            assert_eq!(verdict(line), None, "{line}");
        }
    }
}
