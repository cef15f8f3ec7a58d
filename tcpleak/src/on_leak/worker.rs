//! The thread that has the command run, one leak after the other.

use std::{
    collections::HashSet,
    mem::{Discriminant, discriminant},
    sync::mpsc::Receiver,
    thread,
    time::Instant,
};

use super::{
    rate::Rate,
    runner::{Outcome, Runner},
};
use crate::plain::plain;

/// Has the command run for every alert that comes, until no more can come. Each kind of failure is said once.
pub fn work(mut runner: Runner, mut rate: Rate, alerts: &Receiver<Vec<u8>>) {
    let mut said = HashSet::new();
    while let Ok(alert) = alerts.recv() {
        thread::sleep(rate.next(Instant::now()));
        if let Some(complaint) = complaint(&runner.tell(&alert), &mut said) {
            anstream::eprintln!("tcpleak: --on-leak: {complaint}");
        }
    }
}

/// What is to be said of a run; none when all is well, or it was said before.
fn complaint(outcome: &Outcome, said: &mut HashSet<Discriminant<Outcome>>) -> Option<String> {
    let complaint = match outcome {
        Outcome::Ready | Outcome::Done => return None,
        Outcome::NotStarted(error) => format!("the command was not run: {error}"),
        Outcome::Failed { status, output } if output.trim().is_empty() => {
            format!("the command failed ({status})")
        }
        Outcome::Failed { status, output } => {
            format!("the command failed ({status}): {}", output.trim())
        }
        Outcome::Endless => "the command took too long, and was ended".to_owned(),
    };
    let is_new = said.insert(discriminant(outcome));
    is_new.then(|| plain(&complaint).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_failure_is_said_once() {
        let mut said = HashSet::new();
        let mut complaint = |outcome: Outcome| complaint(&outcome, &mut said);
        let failed = |output: &str| Outcome::Failed {
            status: "exit status: 1".into(),
            output: output.into(),
        };
        assert_eq!(complaint(Outcome::Done), None);
        assert_eq!(
            complaint(failed("no route\x1b[2J\n")).unwrap(),
            "the command failed (exit status: 1): no route\\x1b[2J"
        );
        assert_eq!(complaint(failed("something else")), None);
        assert!(complaint(Outcome::Endless).unwrap().contains("too long"));
        assert_eq!(complaint(Outcome::Endless), None);
        let not_started = complaint(Outcome::NotStarted("no such file".into())).unwrap();
        assert_eq!(not_started, "the command was not run: no such file");
    }
}
