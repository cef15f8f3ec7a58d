//! Backends that are left out on request, so that a test has a fallback used on a kernel that has
//! better.

/// Environment variable that asks for backends: `JOB=BACKEND`, more of them after commas.
const VARIABLE: &str = "TCPLEAK_FORCE_BACKEND";

/// The jobs, and the backends of each, best first.
const BACKENDS: &[(&str, &[&str])] = &[
    ("survey", &["iterators", "sock_diag"]),
    ("lifecycle", &["tp_btf", "tracepoint", "none"]),
    (
        "accept",
        &["fexit", "kprobe", "kretprobe", "first-use", "syscalls"],
    ),
    ("use", &["tp_btf", "tracepoint", "fexit", "kprobe", "none"]),
    ("registers", &["helper", "task-stack", "frame-pointers"]),
];

/// The backends that are asked for.
#[derive(Debug, Default)]
pub struct Forced(Vec<(&'static str, &'static str)>);

impl Forced {
    /// Reads the environment. Fails on a word that names no job or no backend of it: a test that
    /// forces nothing would prove nothing.
    pub fn from_environment() -> Result<Self, String> {
        Self::parse(&std::env::var(VARIABLE).unwrap_or_default())
    }

    fn parse(text: &str) -> Result<Self, String> {
        let words = text.split(',').filter(|word| !word.is_empty());
        let known = |word: &str| {
            let (job, backend) = word.split_once('=')?;
            let (job, backends) = BACKENDS.iter().find(|(name, _)| *name == job)?;
            Some((*job, *backends.iter().find(|name| **name == backend)?))
        };
        words
            .map(|word| known(word).ok_or_else(|| format!("{VARIABLE} holds {word:?}: {}", all())))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether a backend is asked for, for this job.
    pub fn names(&self, job: &str) -> bool {
        self.0.iter().any(|(name, _)| *name == job)
    }

    /// Why no programs may be loaded, when a test asks for what a kernel without them gives.
    pub fn refuses_programs(&self) -> Option<String> {
        let words = || format!("left out: {VARIABLE} asks for lifecycle=none");
        self.0.contains(&("lifecycle", "none")).then(words)
    }

    /// Why a backend may not be used, when another one is asked for.
    pub fn refusal(&self, job: &str, backend: &str) -> Option<String> {
        let (_, asked) = self.0.iter().find(|(name, _)| *name == job)?;
        (*asked != backend).then(|| format!("left out: {VARIABLE} asks for {job}={asked}"))
    }
}

fn all() -> String {
    let one = |(job, backends): &(&str, &[&str])| format!("{job}={}", backends.join("|"));
    let all: Vec<_> = BACKENDS.iter().map(one).collect();
    format!("it takes {}", all.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_out_unless_asked_for() {
        let forced = Forced::parse("").unwrap();
        assert_eq!(forced.refusal("accept", "fexit"), None);
    }

    #[test]
    fn the_other_backends_of_a_job_are_left_out() {
        let forced = Forced::parse("accept=kretprobe,registers=frame-pointers").unwrap();
        assert!(forced.refusal("accept", "fexit").is_some());
        assert_eq!(forced.refusal("accept", "kretprobe"), None);
        assert!(forced.refusal("registers", "helper").is_some());
        assert_eq!(forced.refusal("use", "fexit"), None);
    }

    #[test]
    fn programs_are_left_out_when_no_history_is_asked_for() {
        let refused = |text| Forced::parse(text).unwrap().refuses_programs().is_some();
        assert!(refused("survey=sock_diag,lifecycle=none"));
        assert!(!refused("survey=sock_diag"));
        assert!(!refused("lifecycle=tracepoint"));
    }

    #[test]
    fn a_word_that_forces_nothing_is_an_error() {
        for text in [
            "accept",
            "accept=",
            "accept=kretprobes",
            "listen=fexit",
            "=",
        ] {
            let error = Forced::parse(text).unwrap_err();
            assert!(error.contains("accept=fexit|kprobe|kretprobe"), "{error}");
        }
    }
}
