//! Putting text on lines that fit.
//!
//! Everything that is written as text goes through here, and so through [`plain`]: a hostile name
//! cannot take another way to the terminal.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use textwrap::{Options, WordSeparator, WordSplitter, core::display_width};

use crate::plain::plain;

/// Narrowest and widest column of prose: narrower breaks every line, wider loses the eye.
const NARROWEST: usize = 60;
const WIDEST_PROSE: usize = 100;

/// Column where the text of a labelled paragraph starts.
const LABEL_COLUMN: usize = 13;

pub(super) const NORMAL: Style = Style::new();
pub(super) const BOLD: Style = Style::new().bold();
pub(super) const DIM: Style = Style::new().dimmed();
pub(super) const RED: Style = AnsiColor::Red.on_default().bold();
pub(super) const YELLOW: Style = AnsiColor::Yellow.on_default().bold();
pub(super) const GREEN: Style = AnsiColor::Green.on_default().bold();

/// A piece of text in one style.
#[derive(Clone, Copy)]
pub(super) struct Span<'a> {
    pub style: Style,
    pub text: &'a str,
}

impl<'a> Span<'a> {
    pub fn new(style: Style, text: &'a str) -> Self {
        Self { style, text }
    }
}

/// The lines of a report.
pub(super) struct Page<'a, W> {
    out: &'a mut W,
    width: usize,
}

impl<'a, W: Write> Page<'a, W> {
    pub fn new(out: &'a mut W, width: usize) -> Self {
        Self {
            out,
            width: width.max(NARROWEST),
        }
    }

    pub fn blank(&mut self) -> io::Result<()> {
        writeln!(self.out)
    }

    /// Text over as many lines as it needs; all but the first are indented.
    pub fn paragraph(&mut self, indent: usize, spans: &[Span<'_>]) -> io::Result<()> {
        self.wrapped("", &" ".repeat(indent), spans)
    }

    /// Text over as many lines as it needs, all of them indented.
    pub fn indented(&mut self, indent: usize, spans: &[Span<'_>]) -> io::Result<()> {
        let indent = " ".repeat(indent);
        self.wrapped(&indent, &indent, spans)
    }

    /// How many columns a paragraph has.
    pub fn prose_width(&self) -> usize {
        self.width.min(WIDEST_PROSE)
    }

    /// Text with a label in the left column.
    pub fn labelled(&mut self, label: &str, spans: &[Span<'_>]) -> io::Result<()> {
        let first = format!("  {label:<0$}", LABEL_COLUMN - 2);
        self.wrapped(&first, &" ".repeat(LABEL_COLUMN), spans)
    }

    /// One line from the first column. It is not broken.
    pub fn line(&mut self, spans: &[Span<'_>]) -> io::Result<()> {
        writeln!(self.out, "{}", styled(spans).replace('\u{a0}', " "))
    }

    /// How many columns a [`Self::row`] has.
    pub fn row_width(&self) -> usize {
        self.width - LABEL_COLUMN
    }

    /// One line in the column of labelled text. It is not broken: the caller made it fit.
    pub fn row(&mut self, spans: &[Span<'_>]) -> io::Result<()> {
        write!(self.out, "{}", " ".repeat(LABEL_COLUMN))?;
        self.line(spans)
    }

    /// A remark below rows, over as many lines as it needs.
    pub fn remark(&mut self, text: &str) -> io::Result<()> {
        let first = " ".repeat(LABEL_COLUMN + 2);
        let rest = " ".repeat(LABEL_COLUMN + 6);
        self.wrapped(&first, &rest, &[Span::new(DIM, text)])
    }

    fn wrapped(&mut self, first: &str, rest: &str, spans: &[Span<'_>]) -> io::Result<()> {
        let options = Options::new(self.prose_width())
            .initial_indent(first)
            .subsequent_indent(rest)
            .word_separator(WordSeparator::AsciiSpace)
            .word_splitter(WordSplitter::NoHyphenation)
            // An address or a name that is longer than a line is still one word.
            .break_words(false);
        for line in textwrap::wrap(&styled(spans), options) {
            writeln!(self.out, "{}", line.replace('\u{a0}', " "))?;
        }
        Ok(())
    }
}

fn styled(spans: &[Span<'_>]) -> String {
    spans
        .iter()
        .filter(|span| !span.text.is_empty())
        .map(|Span { style, text }| format!("{style}{}{style:#}", plain(text)))
        .collect()
}

/// The text, printable, in at most `width` columns: its middle is left out when it is longer.
pub(super) fn shorten_middle(text: &str, width: usize) -> String {
    let text = plain(text);
    if display_width(&text) <= width {
        return text.into_owned();
    }
    let kept = width.saturating_sub(1);
    let tail = tail(&text, kept / 2);
    format!("{}…{tail}", head(&text, kept - display_width(tail)))
}

/// The text, printable, in at most `width` columns: its end is left out when it is longer.
pub(super) fn shorten_end(text: &str, width: usize) -> String {
    let text = plain(text);
    if display_width(&text) <= width {
        return text.into_owned();
    }
    format!("{}…", head(&text, width.saturating_sub(1)))
}

/// The text, printable, in at most `width` columns: its start is left out when it is longer.
pub(super) fn shorten_start(text: &str, width: usize) -> String {
    let text = plain(text);
    if display_width(&text) <= width {
        return text.into_owned();
    }
    format!("…{}", tail(&text, width.saturating_sub(1)))
}

fn head(text: &str, width: usize) -> &str {
    let fits = |end: &usize| display_width(&text[..*end]) <= width;
    let end = text
        .char_indices()
        .map(|(start, _)| start)
        .take_while(fits)
        .last();
    &text[..end.unwrap_or(0)]
}

fn tail(text: &str, width: usize) -> &str {
    let fits = |start: &usize| display_width(&text[*start..]) <= width;
    let start = text
        .char_indices()
        .rev()
        .map(|(start, _)| start)
        .take_while(fits)
        .last();
    &text[start.unwrap_or(text.len())..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(width: usize, write: impl FnOnce(&mut Page<'_, Vec<u8>>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        write(&mut Page::new(&mut out, width)).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_address_is_never_broken() {
        let address = "[2001:db8:1234:5678:9abc:def0:1234:5678]:65535";
        let text = format!("one two three four five six seven eight {address} and {address}.");
        let lines = page(60, |page| {
            page.labelled("Held by", &[Span::new(NORMAL, &text)])
        });
        assert_eq!(lines.matches(address).count(), 2);
    }

    #[test]
    fn a_number_stays_with_its_unit() {
        let text = "wait\u{a0}9\u{a0}min ".repeat(20);
        for line in page(60, |page| page.paragraph(2, &[Span::new(NORMAL, &text)])).lines() {
            assert!(line.trim().starts_with("wait 9 min"), "{line:?}");
            assert!(line.ends_with("wait 9 min"), "{line:?}");
        }
    }

    #[test]
    fn a_hostile_name_cannot_start_a_line_or_a_colour() {
        let lines = page(60, |page| {
            page.row(&[Span::new(NORMAL, "\x1b[31mroot\nroot\u{202e}")])
        });
        assert_eq!(lines.trim_start(), "\\x1b[31mroot\\x0aroot\\u{202e}\n");
    }

    #[test]
    fn the_middle_of_a_long_name_goes_first() {
        assert_eq!(shorten_middle("short", 5), "short");
        assert_eq!(shorten_middle("crate::module::function", 11), "crate…ction");
        assert_eq!(shorten_middle("数据库数据库数据库", 8), "数据…库");
        assert_eq!(shorten_middle("abc", 0), "…");
    }

    #[test]
    fn a_long_command_line_is_cut() {
        assert_eq!(shorten_end("python3 crawl.py", 10), "python3 c…");
        assert_eq!(shorten_end("python3", 7), "python3");
    }

    #[test]
    fn the_end_of_a_long_path_stays() {
        assert_eq!(
            shorten_start("/srv/app/src/fetch.rs:42", 12),
            "…fetch.rs:42"
        );
        assert_eq!(shorten_start("/a\nb", 9), "/a\\x0ab");
    }
}
