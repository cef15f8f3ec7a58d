//! The leaks of a run as annotations of GitHub: workflow commands, one to a line.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::text::Text;
use crate::{
    plain::plain,
    report::{Group, Report},
};

/// Writes one annotation for each leak. Files below `directory` are shown relative to it.
///
/// # Errors
///
/// What writing to `out` returns.
pub fn render(report: &Report, directory: &Path, out: &mut impl io::Write) -> io::Result<()> {
    for group in report.groups.iter().filter(|group| group.leak) {
        let title = format!("tcpleak: {}", Text::heading(group));
        let title = format!("title={}", property(&title));
        let properties: Vec<String> = place(group, directory).into_iter().chain([title]).collect();
        let message = data(&Text::sentence(group));
        writeln!(out, "::error {}::{message}", properties.join(","))?;
    }
    Ok(())
}

/// The file and line of the function to look at first.
fn place(group: &Group, directory: &Path) -> Vec<String> {
    let Some((file, line)) = group
        .title
        .as_ref()
        .and_then(|title| Some((title.file.as_ref()?, title.line)))
    else {
        return Vec::new();
    };
    let file = relative(Path::new(file), directory);
    let file = format!("file={}", property(&file.to_string_lossy()));
    let line = line.map(|line| format!("line={line}"));
    [file].into_iter().chain(line).collect()
}

fn relative(file: &Path, directory: &Path) -> PathBuf {
    file.strip_prefix(directory).unwrap_or(file).into()
}

/// A value of a property, as the runner reads it.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// A message, as the runner reads it. It is one line.
fn data(text: &str) -> String {
    plain(text).replace('%', "%25")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples::{eof_unread, hostile, report};

    fn lines(groups: Vec<Group>, directory: &str) -> Vec<String> {
        let mut out = Vec::new();
        render(&report(groups), Path::new(directory), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_leak_is_shown_at_its_line() {
        let mut group = eof_unread();
        let title = group.title.as_mut().unwrap();
        title.function = "fetch, page".into();
        title.file = Some("/srv/crawler/src/a:b.py".into());
        title.line = Some(42);
        let [line] = &lines(vec![group.clone()], "/srv/crawler")[..] else {
            panic!("one leak is one line");
        };
        let start =
            "::error file=src/a%3Ab.py,line=42,title=tcpleak%3A eof-unread in fetch%2C page";
        assert!(line.starts_with(start), "{line}");
        assert!(line.contains("::python3 (pid 4242) keeps"), "{line}");
        let elsewhere = &lines(vec![group], "/srv/other")[0];
        assert!(
            elsewhere.contains("file=/srv/crawler/src/a%3Ab.py,"),
            "{elsewhere}"
        );
    }

    #[test]
    fn what_is_no_leak_is_no_annotation() {
        let mut group = eof_unread();
        group.leak = false;
        assert_eq!(lines(vec![group], "/"), [""; 0]);
    }

    #[test]
    fn a_leak_without_a_place_has_none() {
        let mut group = eof_unread();
        group.title = None;
        let line = &lines(vec![group], "/")[0];
        assert!(
            line.starts_with("::error title=tcpleak%3A eof-unread::"),
            "{line}"
        );
    }

    #[test]
    fn a_hostile_name_starts_no_command_of_its_own() {
        let mut group = hostile();
        group.process.comm = "a\r\n::set-output name=x::%0A".into();
        let lines = lines(vec![group], "/");
        assert_eq!(lines.len(), 1);
        assert!(
            lines[0].contains("a\\x0d\\x0a::set-output name=x::%250A"),
            "{}",
            lines[0]
        );
    }
}
