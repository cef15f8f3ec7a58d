//! A code path on a few lines: the program's own frames stand out, the others are folded.

use std::io::{self, Write};

use textwrap::core::display_width;

use super::{
    amount,
    page::{BOLD, DIM, NORMAL, Page, Span, shorten_end, shorten_middle, shorten_start},
};
use crate::{
    plain::plain,
    report::{CodePath, Frame},
};

/// Most lines that one code path takes.
const MOST_ROWS: usize = 16;

/// Most modules that are named where frames are folded.
const MOST_NAMES: usize = 3;

/// One line of a code path.
#[derive(Debug, PartialEq, Eq)]
enum Row<'a> {
    Frame(&'a Frame),
    Folded(&'a [Frame]),
}

/// Writes the frames, innermost first.
pub(super) fn write(path: &CodePath, page: &mut Page<'_, impl Write>) -> io::Result<()> {
    let rows = fold(&path.frames);
    // Locations are aligned beside names of a common length; the few longer ones stick out.
    let common = page.row_width() * 2 / 5;
    let names = rows.iter().filter_map(|row| match row {
        Row::Frame(frame) => Some(display_width(function(frame))),
        Row::Folded(_) => None,
    });
    let column = names.filter(|width| *width <= common).max().unwrap_or(0);
    for row in &rows {
        match row {
            Row::Frame(frame) => write_frame(frame, column, page)?,
            Row::Folded(frames) => {
                let text = format!("  ... {}", folded(frames));
                page.row(&[Span::new(DIM, &shorten_end(&text, page.row_width()))])?;
            }
        }
    }
    if !path.complete {
        page.row(&[Span::new(
            DIM,
            "  ... the stack could not be followed further",
        )])?;
    }
    Ok(())
}

fn write_frame(frame: &Frame, column: usize, page: &mut Page<'_, impl Write>) -> io::Result<()> {
    let (mark, name_style, place_style) = if frame.own {
        ("> ", BOLD, NORMAL)
    } else {
        ("  ", DIM, DIM)
    };
    let width = page.row_width() - mark.len();
    let name = shorten_middle(function(frame), width);
    let place = place(frame);
    let used = display_width(&name);
    let gap = column.saturating_sub(used) + 2;
    let name = Span::new(name_style, &name);
    let mark = Span::new(name_style, mark);
    match place {
        None => page.row(&[mark, name]),
        Some(place) if used + gap + display_width(&plain(&place)) <= width => page.row(&[
            mark,
            name,
            Span::new(place_style, &format!("{:gap$}{place}", "")),
        ]),
        Some(place) => {
            page.row(&[mark, name])?;
            let place = shorten_start(&place, width - 2);
            page.row(&[Span::new(place_style, &format!("    {place}"))])
        }
    }
}

fn function(frame: &Frame) -> &str {
    frame.function.as_deref().unwrap_or("unknown function")
}

/// Where the function is: `src/fetch.rs:42`, or `in libssl.so.3`.
fn place(frame: &Frame) -> Option<String> {
    match (&frame.file, frame.line, &frame.module) {
        (Some(file), Some(line), _) => Some(format!("{file}:{line}")),
        (Some(file), None, _) => Some(file.clone()),
        (None, _, Some(module)) if frame.own => Some(format!("in {module}")),
        (None, _, Some(module)) => Some(format!("in {}", base_name(module))),
        (None, _, None) => None,
    }
}

/// Which frames get a line of their own. Of the frames between those of the program, the innermost
/// says which call was made and the outermost which library the program called.
fn fold(frames: &[Frame]) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    let mut seen = 0;
    for run in frames.chunk_by(|left, right| left.own == right.own) {
        seen += run.len();
        let foldable = !run[0].own && run.len() > 1 && run.len() < frames.len();
        match run {
            // Below the program's first function is what started it.
            _ if foldable && seen == frames.len() => rows.push(Row::Folded(run)),
            [first, middle @ .., last] if foldable && middle.len() > 1 => {
                rows.extend([Row::Frame(first), Row::Folded(middle), Row::Frame(last)]);
            }
            _ => rows.extend(run.iter().map(Row::Frame)),
        }
    }
    if rows.len() > MOST_ROWS {
        rows.truncate(MOST_ROWS - 1);
        let shown: usize = rows.iter().map(Row::frames).sum();
        rows.push(Row::Folded(&frames[shown..]));
    }
    rows
}

impl Row<'_> {
    fn frames(&self) -> usize {
        match self {
            Self::Frame(_) => 1,
            Self::Folded(frames) => frames.len(),
        }
    }
}

/// What was folded: `7 frames of libc, libssl`.
fn folded(frames: &[Frame]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for frame in frames {
        let name = origin_of(frame);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let more = names.len().saturating_sub(MOST_NAMES);
    names.truncate(MOST_NAMES);
    let mut text = format!(
        "{} of ",
        amount::things(frames.len() as u64, "frame", "frames")
    );
    text.push_str(&names.join(", "));
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

/// The library, program or runtime that a frame belongs to, without a version: `libssl`, `python`.
fn origin_of(frame: &Frame) -> &str {
    let Some(module) = &frame.module else {
        return &frame.runtime;
    };
    let name = base_name(module);
    name.split_once(".so").map_or(name, |(library, _)| library)
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples::{library, own};

    fn rows(frames: &[Frame]) -> Vec<String> {
        fold(frames)
            .iter()
            .map(|row| match row {
                Row::Frame(frame) => frame.function.clone().unwrap_or_default(),
                Row::Folded(frames) => folded(frames).replace('\u{a0}', " "),
            })
            .collect()
    }

    #[test]
    fn frames_of_libraries_are_folded_between_those_of_the_program() {
        let frames = [
            library("connect", "/lib/libc.so.6"),
            library("bio_connect", "/lib/libcrypto.so.3"),
            library("ssl_connect", "/lib/libssl.so.3"),
            library("curl_easy_perform", "/lib/libcurl.so.4"),
            own("fetch", "fetch.c", 42),
            own("main", "main.c", 7),
            library("__libc_start_call_main", "/lib/libc.so.6"),
            library("__libc_start_main", "/lib/libc.so.6"),
        ];
        assert_eq!(
            rows(&frames),
            [
                "connect",
                "2 frames of libcrypto, libssl",
                "curl_easy_perform",
                "fetch",
                "main",
                "2 frames of libc"
            ]
        );
    }

    #[test]
    fn a_path_without_a_frame_of_the_program_is_shown() {
        let frames: Vec<Frame> = (0..5)
            .map(|n| library(&format!("f{n}"), "/lib/libuv.so.1"))
            .collect();
        assert_eq!(rows(&frames), ["f0", "f1", "f2", "f3", "f4"]);
    }

    #[test]
    fn a_deep_recursion_does_not_fill_the_screen() {
        let frames: Vec<Frame> = (0..200)
            .map(|n| own(&format!("walk{n}"), "walk.rs", n))
            .collect();
        let rows = rows(&frames);
        assert_eq!(rows.len(), MOST_ROWS);
        assert_eq!(rows.last().unwrap(), "185 frames of crawler");
    }

    #[test]
    fn many_modules_are_named_by_a_few() {
        let frames: Vec<Frame> = (0..6)
            .map(|n| library("f", &format!("/lib/lib{n}.so.{n}")))
            .collect();
        assert_eq!(
            folded(&frames).replace('\u{a0}', " "),
            "6 frames of lib0, lib1, lib2 and 3 more"
        );
    }

    #[test]
    fn every_frame_is_shown_or_counted() {
        let frames: Vec<Frame> = (0..90)
            .map(|n| {
                if n % 7 < 2 {
                    own("mine", "a.rs", n)
                } else {
                    library("theirs", "/lib/libc.so.6")
                }
            })
            .collect();
        assert_eq!(
            fold(&frames).iter().map(Row::frames).sum::<usize>(),
            frames.len()
        );
    }
}
