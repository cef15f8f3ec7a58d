//! What the kernel says, in short.

use std::error::Error;

/// An error and its causes in one line.
pub fn in_short(error: &(dyn Error + 'static)) -> String {
    let mut words = shorten(&error.to_string());
    let mut cause = error.source();
    // The depth is bounded, should an error be its own cause.
    for _ in 0..8 {
        let Some(deeper) = cause else { break };
        let more = shorten(&deeper.to_string());
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        cause = deeper.source();
    }
    words
}

/// Of an error, what went wrong rather than what was called; of a verifier log, which may be long, the
/// last words before its statistics.
fn shorten(words: &str) -> String {
    let (message, log) = words.split_once("Verifier output:").unwrap_or((words, ""));
    let message = message
        .lines()
        .next()
        .unwrap_or_default()
        .trim()
        .trim_end_matches('.');
    let message = match message.split_once(" syscall returned ") {
        Some((call, result)) if call.starts_with("the ") => result,
        _ => message,
    };
    let message = match message.rsplit_once(" (os error ") {
        Some((meaning, number)) if number.ends_with(')') => meaning,
        _ => message,
    };
    let statistics = |line: &str| {
        ["processed ", "verification time", "stack depth"]
            .iter()
            .any(|start| line.starts_with(start))
    };
    let last = log
        .lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty() && !statistics(line));
    match last {
        Some(last) => format!("{message}: {last}"),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_quotes_the_last_words_of_the_verifier() {
        let words = "the BPF_PROG_LOAD syscall returned Permission denied (os error 13). Verifier output: 0: R1=ctx()\n\
                     7: (79) r1 = *(u64 *)(r1 +0)\nR1 invalid mem access 'scalar'\n\
                     verification time 18 usec\nprocessed 8 insns (limit 1000000)\n";
        assert_eq!(
            shorten(words),
            "Permission denied: R1 invalid mem access 'scalar'"
        );
        assert_eq!(shorten("plain"), "plain");
    }

    #[test]
    fn a_refusal_names_its_cause_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("`/sys/bus/event_source`")]
        struct Outer(#[source] std::io::Error);
        assert_eq!(
            in_short(&Outer(std::io::Error::other("not there"))),
            "`/sys/bus/event_source`: not there"
        );
    }
}
