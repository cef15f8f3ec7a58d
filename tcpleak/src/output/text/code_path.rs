//! A code path on a few lines: the program's own frames stand out, the others are folded.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use textwrap::core::display_width;

use super::{
    amount,
    page::{BOLD, DIM, NORMAL, Page, Span, shorten_end, shorten_middle, shorten_start},
};
use crate::{
    plain::plain,
    report::{CodePath, Frame, Incomplete},
    title::{IO_URING, base_name, name},
};

/// Most of the program's own frames that are shown alone.
const MOST_OWN: usize = 6;

/// Most modules that are named where frames are folded.
const MOST_NAMES: usize = 3;

/// Runtime of the functions of Node.js.
const JAVASCRIPT: &str = "javascript";

/// How much of a code path is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// Every frame.
    Whole,
    /// The program's own frames, and those of others folded: on so many lines at most.
    Folded(usize),
    /// Nothing but the program's own frames.
    Own,
}

/// One line of a code path.
#[derive(Debug, PartialEq, Eq)]
enum Row<'a> {
    Frame(&'a Frame),
    Folded(&'a [Frame]),
    More(usize),
}

/// Writes the frames, innermost first, and why they end.
pub(super) fn write(
    path: &CodePath,
    shown: Shown,
    page: &mut Page<'_, impl Write>,
) -> io::Result<()> {
    write_frames(&path.frames, shown, page)?;
    if shown == Shown::Own {
        return Ok(());
    }
    if let Some(reason) = path.incomplete {
        page.remark(&format!("... {}", why(reason)))?;
    }
    if let Some(why) = &path.unreadable {
        page.remark(&format!("... functions are missing: {}", plain(why)))?;
    }
    if is_from_event_loop(path) {
        page.remark("... called from the event loop: who asked for it is not on the stack")?;
    }
    if is_in_ring_call(path) {
        page.remark(
            "... io_uring did this where it was entered: other code may have asked for it",
        )?;
    }
    Ok(())
}

/// Writes frames, innermost first.
pub(super) fn write_frames(
    frames: &[Frame],
    shown: Shown,
    page: &mut Page<'_, impl Write>,
) -> io::Result<()> {
    let rows = rows(frames, shown);
    // Locations are aligned beside names of a common length; the few longer ones stick out.
    let common = page.row_width() * 2 / 5;
    let names = rows.iter().filter_map(|row| match row {
        Row::Frame(frame) => Some(display_width(&plain(&function(frame)))),
        Row::Folded(_) | Row::More(_) => None,
    });
    let column = names.filter(|width| *width <= common).max().unwrap_or(0);
    for row in &rows {
        match row {
            Row::Frame(frame) => write_frame(frame, column, page)?,
            Row::Folded(frames) => {
                let text = format!("  ... {}", folded(frames));
                page.row(&[Span::new(DIM, &shorten_end(&text, page.row_width()))])?;
            }
            Row::More(frames) => {
                let text = format!("  ... {} more", amount::count(*frames as u64));
                page.row(&[Span::new(DIM, &text)])?;
            }
        }
    }
    Ok(())
}

/// Whether JavaScript did it, but no function of the program: the runtime has put it off, as it does
/// when a name is looked up or a promise is awaited, and who asked has returned.
fn is_from_event_loop(path: &CodePath) -> bool {
    let frames = &path.frames;
    frames.iter().any(|frame| frame.runtime == JAVASCRIPT) && !frames.iter().any(|frame| frame.own)
}

/// Whether io_uring did it while the thread asked for work, or waited for any.
fn is_in_ring_call(path: &CodePath) -> bool {
    let first = path.frames.first();
    first.is_some_and(|frame| frame.runtime == IO_URING)
        && path.incomplete != Some(Incomplete::IoUring)
}

/// Why a code path ends where it does.
fn why(reason: Incomplete) -> &'static str {
    match reason {
        Incomplete::StackTooDeep => "the copied part of the stack ends here",
        Incomplete::NoUnwindInformation => "no unwind information says who called this",
        Incomplete::FramePointers => {
            "callers may be missing: this kernel (before 5.15) lets only frame pointers be followed"
        }
        Incomplete::ProcessGone => "the process was gone before its code could be read",
        Incomplete::ReaderFailed => "the files of the program could not be read",
        Incomplete::IoUring => "io_uring did this by itself: no stack tells who asked for it",
        Incomplete::Unproven => "nothing proves that the thread began here",
    }
}

fn write_frame(frame: &Frame, column: usize, page: &mut Page<'_, impl Write>) -> io::Result<()> {
    let (mark, name_style, place_style) = if frame.own {
        ("> ", BOLD, NORMAL)
    } else {
        ("  ", DIM, DIM)
    };
    let width = page.row_width() - mark.len();
    let name = shorten_middle(&function(frame), width);
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

fn function(frame: &Frame) -> Cow<'_, str> {
    name(frame).unwrap_or(Cow::Borrowed("unknown function"))
}

/// Where the function is: `src/fetch.rs:42`, or `in libssl.so.3`.
fn place(frame: &Frame) -> Option<String> {
    let is_named_by_module = frame.function.is_none() && frame.offset.is_some();
    match (&frame.file, frame.line, &frame.module) {
        (Some(file), Some(line), _) => Some(format!("{file}:{line}")),
        (Some(file), None, _) => Some(file.clone()),
        (None, _, Some(module)) if frame.own => Some(format!("in {module}")),
        (None, _, Some(_)) if is_named_by_module => None,
        (None, _, Some(module)) => Some(format!("in {}", base_name(module))),
        (None, _, None) => None,
    }
}

fn rows(frames: &[Frame], shown: Shown) -> Vec<Row<'_>> {
    match shown {
        Shown::Whole => frames.iter().map(Row::Frame).collect(),
        Shown::Folded(most) => limit(fold(frames), frames, most),
        Shown::Own => {
            let own = || frames.iter().filter(|frame| frame.own);
            let more = own().count().saturating_sub(MOST_OWN);
            let more = Some(Row::More(more)).filter(|_| more > 0);
            own().take(MOST_OWN).map(Row::Frame).chain(more).collect()
        }
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
            _ => rows.extend(fold_nameless(run)),
        }
    }
    rows
}

/// Of code without name or file, such as a runtime compiles, only the number tells something.
fn fold_nameless(run: &[Frame]) -> impl Iterator<Item = Row<'_>> {
    let nameless = |frame: &Frame| frame.function.is_none() && frame.module.is_none();
    let parts = run.chunk_by(move |left, right| nameless(left) && nameless(right));
    parts.flat_map(|part| match part {
        [frame] => vec![Row::Frame(frame)],
        _ => vec![Row::Folded(part)],
    })
}

/// The innermost rows, and the rest folded into one.
fn limit<'a>(mut rows: Vec<Row<'a>>, frames: &'a [Frame], most: usize) -> Vec<Row<'a>> {
    if rows.len() > most {
        rows.truncate(most.saturating_sub(1));
        let shown: usize = rows.iter().map(Row::frames).sum();
        let rest = frames.get(shown..).unwrap_or_default();
        rows.push(Row::Folded(rest));
    }
    rows
}

impl Row<'_> {
    fn frames(&self) -> usize {
        match self {
            Self::Frame(_) => 1,
            Self::Folded(frames) => frames.len(),
            Self::More(frames) => *frames,
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
        return match frame.runtime.as_str() {
            "jit" => "code made at run time",
            runtime => runtime,
        };
    };
    let name = base_name(module);
    name.split_once(".so").map_or(name, |(library, _)| library)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples::{library, own};

    const MOST: usize = 16;

    fn shown(frames: &[Frame], shown: Shown) -> Vec<String> {
        rows(frames, shown)
            .iter()
            .map(|row| match row {
                Row::Frame(frame) => frame.function.clone().unwrap_or_default(),
                Row::Folded(frames) => folded(frames).replace('\u{a0}', " "),
                Row::More(frames) => format!("{frames} more"),
            })
            .collect()
    }

    fn folded_rows(frames: &[Frame]) -> Vec<String> {
        shown(frames, Shown::Folded(MOST))
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
            folded_rows(&frames),
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
        assert_eq!(folded_rows(&frames), ["f0", "f1", "f2", "f3", "f4"]);
    }

    #[test]
    fn a_deep_recursion_does_not_fill_the_screen() {
        let frames: Vec<Frame> = (0..200)
            .map(|n| own(&format!("walk{n}"), "walk.rs", n))
            .collect();
        let rows = folded_rows(&frames);
        assert_eq!(rows.len(), MOST);
        assert_eq!(rows.last().unwrap(), "185 frames of crawler");
    }

    #[test]
    fn the_frames_of_the_program_can_stand_alone() {
        let frames: Vec<Frame> = (0..30)
            .map(|n| match n % 3 {
                0 => own(&format!("mine{n}"), "a.rs", n),
                _ => library("theirs", "/lib/libc.so.6"),
            })
            .collect();
        assert_eq!(
            shown(&frames, Shown::Own),
            [
                "mine0", "mine3", "mine6", "mine9", "mine12", "mine15", "4 more"
            ]
        );
    }

    #[test]
    fn a_whole_path_folds_nothing() {
        let frames: Vec<Frame> = (0..200)
            .map(|n| library(&format!("f{n}"), "/lib/libc.so.6"))
            .collect();
        let rows = shown(&frames, Shown::Whole);
        assert_eq!(rows.len(), frames.len());
        assert_eq!(rows.last().unwrap(), "f199");
    }

    #[test]
    fn code_without_name_or_file_is_counted() {
        let nameless = || Frame {
            function: None,
            module: None,
            runtime: "jit".to_owned(),
            ..library("", "")
        };
        let frames = [
            library("connect", "/lib/libc.so.6"),
            nameless(),
            nameless(),
            nameless(),
            library("JavaMain", "/lib/libjli.so"),
        ];
        assert_eq!(
            folded_rows(&frames),
            ["connect", "3 frames of code made at run time", "JavaMain"]
        );
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
            rows(&frames, Shown::Folded(MOST))
                .iter()
                .map(Row::frames)
                .sum::<usize>(),
            frames.len()
        );
    }
}
