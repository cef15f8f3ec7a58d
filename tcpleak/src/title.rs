//! Whom a code path blames: the functions of the program itself, and the one to look at first.
//!
//! Pure. What io_uring did by itself is nobody's: the stack there is not that of who asked for it.

use std::borrow::Cow;

use crate::report::{CodePath, Frame, Incomplete, LastUse, PathKind, Title, TitlePath};

/// Runtime of the frames that stand for io_uring.
pub const IO_URING: &str = "io_uring";

/// What a frame is called: its function, or `crawler+0x1a2b` (module and offset) when that has no
/// name; `None` when neither is known.
pub fn name(frame: &Frame) -> Option<Cow<'_, str>> {
    match (&frame.function, &frame.module, frame.offset) {
        (Some(function), ..) => Some(Cow::Borrowed(function)),
        (None, Some(module), Some(offset)) => {
            Some(Cow::Owned(format!("{}+{offset:#x}", base_name(module))))
        }
        (None, ..) => None,
    }
}

/// The last part of a path of slashes.
pub fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The functions of the program itself on a code path, innermost first; a recursion counts once.
/// Lines do not count: two reads of one function are the same use.
pub fn own_functions(frames: &[Frame], incomplete: Option<Incomplete>) -> Vec<Cow<'_, str>> {
    let mut names: Vec<_> = program(frames, incomplete).filter_map(name).collect();
    names.dedup();
    names
}

/// The functions of the program itself on a code path or, when it has none, on that of who asked for
/// the connection.
pub fn own_functions_of(path: &CodePath) -> Vec<Cow<'_, str>> {
    let own = own_functions(&path.frames, path.incomplete);
    match &path.requested_by {
        Some(asked) if own.is_empty() => own_functions(asked, None),
        _ => own,
    }
}

/// The function to look at first.
///
/// Of a connection that was opened that is the innermost of the program's functions that opened it, or
/// else of those that asked for it.
/// Who accepted one is rarely to blame: there it is one that used it last and had no part in the
/// accept(), namely the one that the fewest groups share (`sharing` counts them), and of several the
/// innermost. So a handler is named, and not the function that all of them read with. A function
/// without a name is taken only when no path has a better one.
pub fn title(
    origin: Option<&CodePath>,
    last_use: Option<&LastUse>,
    sharing: impl Fn(&str) -> usize,
) -> Option<Title> {
    let accepted = origin
        .filter(|path| matches!(path.kind, PathKind::Accept | PathKind::FirstUse))
        .map_or(&[][..], |path| &path.frames);
    let write = last_use.and_then(|last| last.write.as_ref());
    let read = last_use.and_then(|last| last.read.as_ref());
    let opening: Vec<Candidate<'_>> = candidates(origin, TitlePath::Origin).collect();
    let using: Vec<Candidate<'_>> = candidates(write, TitlePath::LastWrite)
        .chain(candidates(read, TitlePath::LastRead))
        .filter(|(frame, _)| !accepted.iter().any(|known| name(known) == name(frame)))
        .collect();
    let find = |has_name: bool| {
        let fits = move |candidate: &&Candidate<'_>| candidate.0.function.is_some() == has_name;
        let opening = opening.iter().find(fits);
        let shared = |candidate: &&Candidate<'_>| name(candidate.0).map(|name| sharing(&name));
        let using = using.iter().filter(fits).min_by_key(shared);
        match accepted {
            [] => opening.or(using),
            _ => using.or(opening),
        }
    };
    let (frame, path) = find(true).or_else(|| find(false))?;
    Some(Title {
        function: name(frame)?.into_owned(),
        file: frame.file.clone(),
        line: frame.line,
        module: frame.module.clone(),
        path: *path,
    })
}

/// A frame that may be the title, and the path it is on.
type Candidate<'a> = (&'a Frame, TitlePath);

/// Frames of a path that have a name and are the program's, innermost first, and then those of who
/// asked for the connection.
fn candidates(path: Option<&CodePath>, which: TitlePath) -> impl Iterator<Item = Candidate<'_>> {
    path.into_iter()
        .flat_map(|path| {
            let asked = path.requested_by.as_deref().unwrap_or_default();
            program(&path.frames, path.incomplete).chain(program(asked, None))
        })
        .filter(|frame| name(frame).is_some())
        .map(move |frame| (frame, which))
}

/// The frames of the program itself.
fn program(frames: &[Frame], incomplete: Option<Incomplete>) -> impl Iterator<Item = &Frame> {
    let of_a_program = incomplete != Some(Incomplete::IoUring);
    frames
        .iter()
        .filter(move |frame| of_a_program && frame.own && frame.runtime != IO_URING)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        output::samples::{self, library, own},
        report::Direction,
    };

    fn nameless(offset: u64) -> Frame {
        Frame {
            function: None,
            offset: Some(offset),
            ..own("", "", 0)
        }
    }

    fn path(kind: PathKind, functions: &[&str]) -> CodePath {
        let frames = functions.iter().map(|function| match *function {
            "" => nameless(0x1a2b),
            "recv" => library("recv", "/lib/libc.so.6"),
            function => own(function, "server.c", 7),
        });
        samples::path(kind, frames.collect())
    }

    fn used(read: Option<CodePath>, write: Option<CodePath>) -> LastUse {
        LastUse {
            direction: Direction::Read,
            ago_s: 1.0,
            unsampled: 0,
            read,
            reads_since: 0,
            write,
            writes_since: 0,
        }
    }

    fn named(origin: Option<CodePath>, last_use: Option<LastUse>) -> Option<(String, TitlePath)> {
        title(origin.as_ref(), last_use.as_ref(), |_| 1).map(|title| (title.function, title.path))
    }

    #[test]
    fn who_opened_a_connection_is_named_before_who_used_it() {
        let origin = path(PathKind::Connect, &["recv", "fetch", "main"]);
        let write = path(PathKind::Write, &["recv", "send_request", "main"]);
        assert_eq!(
            named(Some(origin), Some(used(None, Some(write.clone())))),
            Some(("fetch".into(), TitlePath::Origin))
        );
        let foreign = path(PathKind::Connect, &["recv"]);
        let read = path(PathKind::Read, &["recv", "read_answer", "main"]);
        assert_eq!(
            named(
                Some(foreign.clone()),
                Some(used(Some(read.clone()), Some(write)))
            ),
            Some(("send_request".into(), TitlePath::LastWrite))
        );
        assert_eq!(
            named(Some(foreign), Some(used(Some(read), None))),
            Some(("read_answer".into(), TitlePath::LastRead))
        );
    }

    #[test]
    fn who_asked_for_a_connection_is_named_when_a_library_opened_it() {
        let mut origin = path(PathKind::Connect, &["recv"]);
        let asked = path(PathKind::Connect, &["recv", "fetch", "main"]).frames;
        origin.requested_by = Some(asked);
        assert_eq!(own_functions_of(&origin), ["fetch", "main"]);
        let write = path(PathKind::Write, &["recv", "write_loop"]);
        assert_eq!(
            named(Some(origin.clone()), Some(used(None, Some(write)))),
            Some(("fetch".into(), TitlePath::Origin))
        );
        let dialler = path(PathKind::Connect, &["recv", "dial_through_proxy"]);
        origin.frames = dialler.frames;
        assert_eq!(own_functions_of(&origin), ["dial_through_proxy"]);
        assert_eq!(
            named(Some(origin), None),
            Some(("dial_through_proxy".into(), TitlePath::Origin))
        );
    }

    #[test]
    fn who_accepted_a_connection_is_named_after_who_used_it() {
        let origin = path(PathKind::Accept, &["recv", "accept_loop", "main"]);
        let read = path(PathKind::Read, &["recv", "upload", "accept_loop", "main"]);
        assert_eq!(
            named(Some(origin.clone()), Some(used(Some(read), None))),
            Some(("upload".into(), TitlePath::LastRead))
        );
        let shared = path(PathKind::Read, &["recv", "accept_loop", "main"]);
        assert_eq!(
            named(Some(origin.clone()), Some(used(Some(shared), None))),
            Some(("accept_loop".into(), TitlePath::Origin))
        );
        assert_eq!(
            named(Some(origin), None),
            Some(("accept_loop".into(), TitlePath::Origin))
        );
    }

    #[test]
    fn what_several_groups_share_names_none_of_them() {
        let origin = path(PathKind::Accept, &["recv", "accept_loop", "main"]);
        let read = path(PathKind::Read, &["recv", "read_body", "upload", "worker"]);
        let last_use = used(Some(read), None);
        let sharing = |function: &str| match function {
            "upload" => 1,
            _ => 4,
        };
        let title = title(Some(&origin), Some(&last_use), sharing).unwrap();
        assert_eq!(title.function, "upload");
    }

    #[test]
    fn a_connection_older_than_tcpleak_is_named_by_its_last_use() {
        let read = path(PathKind::Read, &["recv", "upload"]);
        assert_eq!(
            named(None, Some(used(Some(read), None))),
            Some(("upload".into(), TitlePath::LastRead))
        );
        assert_eq!(named(None, None), None);
    }

    #[test]
    fn a_function_without_a_name_is_named_only_when_there_is_no_other() {
        let origin = path(PathKind::Connect, &["recv", "", "main"]);
        assert_eq!(
            named(Some(origin), None),
            Some(("main".into(), TitlePath::Origin))
        );
        let origin = path(PathKind::Connect, &["recv", ""]);
        let write = path(PathKind::Write, &["recv", "send_request"]);
        assert_eq!(
            named(Some(origin.clone()), Some(used(None, Some(write)))),
            Some(("send_request".into(), TitlePath::LastWrite))
        );
        assert_eq!(
            named(Some(origin), None),
            Some(("crawler+0x1a2b".into(), TitlePath::Origin))
        );
        let unknown = Frame {
            offset: None,
            ..nameless(0)
        };
        let origin = samples::path(PathKind::Connect, vec![unknown]);
        assert_eq!(named(Some(origin), None), None);
    }

    #[test]
    fn a_worker_of_io_uring_is_never_named() {
        let mut worker = own("io_wq_worker", "io-wq.c", 1);
        worker.runtime = IO_URING.into();
        let frames = vec![worker, own("ret_from_fork", "entry.S", 1)];
        let path = |incomplete| CodePath::new(PathKind::Write, frames.clone(), incomplete);
        let whole = path(Some(Incomplete::IoUring));
        assert_eq!(named(None, Some(used(None, Some(whole)))), None);
        let labelled = path(None);
        assert_eq!(
            named(None, Some(used(None, Some(labelled)))).unwrap().0,
            "ret_from_fork"
        );
    }

    #[test]
    fn a_recursion_is_one_function() {
        let frames = path(PathKind::Read, &["recv", "walk", "walk", "main", "walk"]).frames;
        assert_eq!(own_functions(&frames, None), ["walk", "main", "walk"]);
        assert!(own_functions(&frames, Some(Incomplete::IoUring)).is_empty());
    }
}
