//! The proof: a leak that is made on purpose is in the report.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::{leak::Leak, line};
use crate::{
    observer::Observer,
    plain::plain,
    probe::{Job, Probe},
    report::{Group, Verdict},
    select::Select,
};

/// How long the leak may take to be found.
const PATIENCE: Duration = Duration::from_secs(30);

/// The doctor is in no hurry to save.
const BUDGET: f64 = 1.0;

/// Time between two looks for it.
const PAUSE: Duration = Duration::from_millis(100);

/// Leaks, looks for it, and says what was found, and whether that is all that there is to find.
pub async fn page(probe: Probe) -> (String, bool) {
    let uses = probe.hooks().iter().find(|hook| hook.job == Job::Use);
    let reads_are_traced = uses.is_some_and(|hook| hook.is_attached());
    describe(&prove(probe).await, reads_are_traced)
}

/// A leak that was found.
struct Proof {
    took: Duration,
    group: Group,
}

/// Leaks a connection in a child process and waits until the report has it.
async fn prove(probe: Probe) -> anyhow::Result<Proof> {
    let mut leak = Leak::start()?;
    let select = Select {
        pid: vec![leak.pid()],
        comm: Vec::new(),
        port: Vec::new(),
        remote: Vec::new(),
        min_age: Duration::ZERO,
        open: None,
        all: false,
    };
    let mut observer = Observer::new(probe, select, true, BUDGET)?;
    // On a busy host code paths come at once, and there is room for so many only.
    observer.look().await?;
    leak.begin().context("the process that leaks has ended")?;
    let opened = Instant::now();
    loop {
        let found = observer.look().await?.groups;
        if let Some(group) = found.into_iter().find(|group| group.leak) {
            return Ok(Proof {
                took: opened.elapsed(),
                group,
            });
        }
        ensure!(
            opened.elapsed() < PATIENCE,
            "a connection that process {} leaks was in no report within {} seconds",
            leak.pid(),
            PATIENCE.as_secs()
        );
        tokio::time::sleep(PAUSE).await;
    }
}

fn describe(proof: &anyhow::Result<Proof>, reads_are_traced: bool) -> (String, bool) {
    let mut page = String::from("\nproof\n");
    let Proof { took, group } = match proof {
        Ok(proof) => proof,
        Err(error) => {
            let words = format!("NOT FOUND: {error:#}");
            line(&mut page, "a leak of its own", &words);
            return (page, false);
        }
    };
    let words = format!("found after {} ms: {}", took.as_millis(), group.verdict);
    line(&mut page, "a leak of its own", &words);
    line(&mut page, "opened by", &opener(group));
    line(&mut page, "code path", &code_path(group));
    let read_seen = group.verdict == Verdict::EofIgnored;
    line(
        &mut page,
        "its read of the end",
        match (read_seen, reads_are_traced) {
            (true, _) => "seen",
            (false, false) => "not seen, as reads are not traced here",
            (false, true) => {
                "NOT SEEN, although reads are traced: eof-ignored and the last use cannot be relied on"
            }
        },
    );
    (page, read_seen || !reads_are_traced)
}

fn opener(group: &Group) -> String {
    match &group.opener {
        None => "not seen".into(),
        Some(opener) => format!(
            "process {}, thread {} ({})",
            opener.pid,
            opener.tid,
            plain(&opener.comm)
        ),
    }
}

/// The leak's own functions on the path, of which there are many more.
fn code_path(group: &Group) -> String {
    let Some(origin) = &group.origin else {
        return "not captured".into();
    };
    let own: Vec<_> = origin
        .frames
        .iter()
        .filter(|frame| frame.own)
        .filter_map(|frame| frame.function.as_deref())
        .take(3)
        .map(plain)
        .collect();
    match own.is_empty() {
        true => format!(
            "{} frames, none of them with a name of its own code",
            origin.frames.len()
        ),
        false => format!(
            "{} frames, its own first: {}",
            origin.frames.len(),
            own.join(", ")
        ),
    }
}
