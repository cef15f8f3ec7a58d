//! `tcpleak doctor`: what works on this kernel, and the proof: a leak of its own that is found.

mod host;
mod leak;
mod proof;
mod table;

use std::{borrow::Cow, fmt::Write as _, io::Write as _, process::ExitCode};

use textwrap::{WordSeparator, WordSplitter};

pub use self::leak::leak;
use crate::{
    cli::Doctor,
    plain::plain,
    probe::{self, Probe, ProbeError},
    rights::{self, User},
};

/// Columns of the page.
const WIDTH: usize = 80;

/// The doctor is in no hurry to save: it looks for one leak and ends.
const CAPTURES: u32 = 200;

/// Examines the host and prints what it finds. Ends with status 0 when the leak was found.
pub async fn run(options: Doctor) -> anyhow::Result<ExitCode> {
    let mut page = host::page();
    let loaded = Probe::load(probe::Options {
        trace: true,
        follow: true,
        only_followed: false,
        accept_stacks: false,
        captures: CAPTURES,
        verbose: options.verbose,
        open: None,
    });
    let found = match loaded {
        Ok(probe) => {
            page.push_str(&table::page(probe.hooks()));
            // The proof is that of what runs for weeks: with the rights that this keeps.
            page.push_str(&host::kept(rights::give_up(&User::default())));
            let (section, found) = proof::page(probe).await;
            page.push_str(&section);
            found
        }
        Err(error) => {
            page.push_str(&not_loaded(&error));
            false
        }
    };
    anstream::stdout().write_all(page.as_bytes())?;
    Ok(if found {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn not_loaded(error: &ProbeError) -> String {
    let mut page = String::from("\nhooks\n");
    line(&mut page, "none", &plain(&error.to_string()));
    page
}

/// A line of a name and what is said about it, as many as it takes.
fn line(page: &mut String, name: &str, words: &str) {
    let rest = " ".repeat(25);
    for (number, part) in wrap(words, WIDTH - rest.len()).iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = match number {
            0 => writeln!(page, "  {name:<22} {part}"),
            _ => writeln!(page, "{rest}{part}"),
        };
    }
}

/// Splits text into lines. A word longer than a line stays whole.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let options = textwrap::Options::new(width)
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation)
        .break_words(false);
    let lines = textwrap::wrap(text, options).into_iter();
    lines.map(Cow::into_owned).collect()
}
