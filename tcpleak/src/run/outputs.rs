//! Where a run tells what came of it: always on standard error, so that what the command writes to
//! standard output stays its own, and in files and annotations where that is asked for.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use anyhow::Context as _;
use jiff::tz::TimeZone;

use super::Suppressions;
use crate::{
    cli::Run,
    output::{destination::Destination, github, json, junit, text::Text},
    report::Report,
};

/// Columns where standard error is no terminal.
const WIDTH: usize = 100;

/// The outputs of a run.
pub struct Outputs {
    json: Option<Destination>,
    junit: Option<Destination>,
    /// The directory to which the files of annotations are relative.
    github: Option<PathBuf>,
    full_stacks: bool,
}

impl Outputs {
    /// Makes sure that everything can be written.
    pub fn open(options: &Run) -> anyhow::Result<Self> {
        let open = |path: &Option<PathBuf>| -> io::Result<Option<Destination>> {
            path.as_deref()
                .map(|path| Destination::open(Some(path)))
                .transpose()
        };
        let github = options.github.then(std::env::current_dir).transpose();
        Ok(Self {
            json: open(&options.json).context("the report cannot be written")?,
            junit: open(&options.junit).context("the report cannot be written")?,
            github: github.context("the working directory is not known")?,
            full_stacks: options.full_stacks,
        })
    }

    /// Writes the report of a run to all of them.
    pub fn write(&mut self, report: &Report, suppressions: &Suppressions) -> anyhow::Result<()> {
        let standard_error = io::stderr();
        let width = terminal_size::terminal_size_of(&standard_error);
        let text = Text {
            width: width.map_or(WIDTH, |(width, _)| usize::from(width.0)),
            zone: TimeZone::system(),
            full_stacks: self.full_stacks,
        };
        let mut page =
            anstream::AutoStream::new(Vec::new(), anstream::AutoStream::choice(&standard_error));
        text.render_run(report, &suppressions.path().to_string_lossy(), &mut page)?;
        let mut page = page.into_inner();
        if let Some(directory) = &self.github {
            github::render(report, directory, &mut page)?;
        }
        let shown = standard_error.lock().write_all(&page);
        if let Some(file) = &mut self.json {
            let mut document = Vec::new();
            json::render(report, &mut document)?;
            file.replace(&document)?;
        }
        if let Some(file) = &mut self.junit {
            let mut document = Vec::new();
            junit::render(report, &mut document)?;
            file.replace(&document)?;
        }
        shown.context("cannot write to standard error")
    }
}
