//! What a machine said: which suites ran to their end, and which tests failed.

use crate::test_line;

/// What came of one boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Results {
    /// Tests that passed.
    pub passed: u32,
    /// Names of those that failed.
    pub failed: Vec<String>,
    /// Names of those that passed when they were tried again, by themselves.
    pub tried_again: Vec<String>,
    /// Everything else that is wrong: a suite that did not end well, a machine that did not.
    pub faults: Vec<String>,
    /// What the doctor said.
    pub doctor: String,
}

/// The name of the suite whose words are kept.
pub const DOCTOR: &str = "doctor";

impl Results {
    /// Whether everything was as it should be, and there was something.
    pub fn are_good(&self) -> bool {
        self.failed.is_empty() && self.faults.is_empty() && self.passed > 0
    }

    /// Takes in what came of trying the failed tests again.
    pub fn tried_again(&mut self, again: Self) {
        let failed = std::mem::replace(&mut self.failed, again.failed);
        let passed = failed
            .into_iter()
            .filter(|name| !self.failed.contains(name));
        self.tried_again = passed.collect();
        self.passed += again.passed;
        self.faults.extend(again.faults);
    }

    /// Reads what came over the port. Nothing is taken for granted: every suite must say that it
    /// ended, and the machine that it is done.
    pub fn read(text: &str, suites: &[&str]) -> Self {
        let mut results = Self::default();
        let mut suite = "";
        let mut ended = Vec::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("##BEGIN ") {
                suite = name;
            } else if let Some((name, status)) = line
                .strip_prefix("##END ")
                .and_then(|end| end.split_once(' '))
            {
                ended.push(name);
                suite = "";
                // The test program ends like this after tests that failed, which are counted.
                let counted = status == "exit 101" && !results.failed.is_empty();
                let well = status == "exit 0" || counted;
                if !well {
                    results.faults.push(format!("{name} ended with {status}"));
                }
            } else if suite == DOCTOR {
                results.doctor.push_str(line);
                results.doctor.push('\n');
            } else {
                match test_line::verdict(line) {
                    Some((_, true)) => results.passed += 1,
                    Some((name, false)) => results.failed.push(name.to_owned()),
                    None => {}
                }
            }
        }
        for name in suites.iter().filter(|name| !ended.contains(name)) {
            results.faults.push(format!("{name} never came to its end"));
        }
        if text.lines().last() != Some("##DONE") {
            results
                .faults
                .push("the machine stopped before it was done".into());
        }
        results
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "##BEGIN doctor\nall is well\n##END doctor exit 0\n##BEGIN end_to_end\n\
        test ipv6::leaks ... ok\ntest nginx::leaks ... ok\n##END end_to_end exit 0\n##DONE\n";

    #[test]
    fn a_run_that_came_to_its_end_is_good() {
        let results = Results::read(GOOD, &["doctor", "end_to_end"]);
        assert!(results.are_good(), "{results:?}");
        assert_eq!(results.passed, 2);
        assert_eq!(results.doctor, "all is well\n");
    }

    #[test]
    fn a_failed_test_is_named() {
        let text = GOOD.replace("nginx::leaks ... ok", "nginx::leaks ... FAILED");
        let text = text.replace("end_to_end exit 0", "end_to_end exit 101");
        let results = Results::read(&text, &["end_to_end"]);
        assert!(!results.are_good());
        assert_eq!(results.failed, ["nginx::leaks"]);
        assert!(results.faults.is_empty(), "{results:?}");
    }

    #[test]
    fn a_test_that_passes_when_it_is_tried_again_is_told_from_those_that_passed_at_once() {
        let failed = |names: &[&str]| Results {
            passed: 1,
            failed: names.iter().map(|&name| name.to_owned()).collect(),
            ..Results::default()
        };
        let mut results = failed(&["slow", "broken"]);
        results.tried_again(failed(&["broken"]));
        assert_eq!(results.failed, ["broken"]);
        assert_eq!(results.tried_again, ["slow"]);
        assert_eq!(results.passed, 2);
    }

    #[test]
    fn every_missing_end_is_a_fault() {
        for missing in [
            "##DONE\n",
            "##END end_to_end exit 0\n",
            "##END doctor exit 0\n",
        ] {
            let results = Results::read(&GOOD.replace(missing, ""), &["doctor", "end_to_end"]);
            assert!(!results.are_good(), "without {missing:?}");
        }
        assert!(!Results::read("", &["doctor"]).are_good());
        assert!(!Results::read("##DONE\n", &[]).are_good(), "nothing ran");
    }

    #[test]
    fn a_suite_that_ended_badly_is_a_fault() {
        for status in ["exit 1", "exit 101", "signal 9"] {
            let text = GOOD.replace("end_to_end exit 0", &format!("end_to_end {status}"));
            let results = Results::read(&text, &["doctor", "end_to_end"]);
            assert!(!results.are_good(), "{status}");
        }
    }
}
