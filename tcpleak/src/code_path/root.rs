//! Whether a code path is proven to reach the function that its thread began with.
//!
//! A walk that stops proves nothing: the next frame may just have been unreadable. What proves the
//! path complete is its outermost frame, when that is code which only the start of a program or a
//! thread runs, so that no frame of the program can be missing outside of it. (A function built
//! without frame pointers may still be missing *between* two frames.)

use crate::report::Frame;

/// Start code under names that a program cannot have by accident: they are reserved, or hold a dot.
const RESERVED: [&str; 10] = [
    "_start",
    "__libc_start_main",
    "__libc_start_main_impl",
    "__libc_start_call_main",
    "__clone",
    "__clone3",
    "clone3",
    "runtime.goexit",
    "runtime.goexit.abi0",
    "runtime.rt0_go.abi0",
];

/// Start code of threads under names that a program may use too: they count in a C library only.
const IN_LIBC: [&str; 4] = ["clone", "start_thread", "thread_start", "__clone_internal"];

/// Whether the outermost frame is start code.
pub fn is_proven(frames: &[Frame]) -> bool {
    let mut outermost = frames.iter().rev();
    outermost
        .next()
        .is_some_and(|last| is_root(last, outermost.next()))
}

/// Whether nothing can be outside of this frame, by a name that no program has by accident.
pub fn is_first(frame: &Frame) -> bool {
    let function = frame.function.as_deref();
    // The C library's start code is called by the program's.
    function.is_some_and(|name| RESERVED.contains(&name) && !name.starts_with("__libc_start"))
}

/// `inner` is the function that `frame` called.
fn is_root(frame: &Frame, inner: Option<&Frame>) -> bool {
    let in_libc = frame.module.as_deref().is_some_and(is_libc);
    // glibc's own symbols name some functions twice.
    let plain = |function| str::strip_prefix(function, "__GI_").unwrap_or(function);
    match frame.function.as_deref().map(plain) {
        Some(function) => RESERVED.contains(&function) || in_libc && IN_LIBC.contains(&function),
        // A C library without symbols, as distributions ship it: what calls these is its start code.
        None => {
            let called = inner.and_then(|inner| inner.function.as_deref());
            in_libc && called.is_some_and(is_first_function)
        }
    }
}

/// Functions that the C library alone calls, to start a program or a thread.
fn is_first_function(function: &str) -> bool {
    // The newer of Rust's two manglings puts a type in angle brackets.
    let path = function.trim_start_matches('<');
    function == "main" || path.starts_with("std::sys::") && path.ends_with("::thread_start")
}

fn is_libc(module: &str) -> bool {
    let name = module.rsplit('/').next().unwrap_or(module);
    ["libc.so", "libc-2", "libpthread", "ld-musl"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::{super::unknown_frame, *};

    const LIBC: &str = "/usr/lib/x86_64-linux-gnu/libc.so.6";
    const APP: &str = "/srv/app/crawler";

    /// Frames from (function, module), innermost first; an empty function has no symbol.
    fn frames(path: &[(&str, &str)]) -> Vec<Frame> {
        let frame = |(function, module): &(&str, &str)| Frame {
            function: Some((*function).to_owned()).filter(|function| !function.is_empty()),
            ..unknown_frame(Some((*module).to_owned()))
        };
        path.iter().map(frame).collect()
    }

    fn complete(path: &[(&str, &str)]) -> bool {
        is_proven(&frames(path))
    }

    #[test]
    fn a_path_that_ends_in_start_code_is_complete() {
        assert!(complete(&[
            ("connect", LIBC),
            ("main", APP),
            ("_start", APP)
        ]));
        assert!(complete(&[("main", APP), ("__libc_start_call_main", LIBC)]));
        assert!(complete(&[("work", APP), ("start_thread", LIBC)]));
        assert!(complete(&[
            ("work", APP),
            ("start_thread", LIBC),
            ("clone3", LIBC)
        ]));
        assert!(complete(&[
            ("main.leak", APP),
            ("runtime.goexit.abi0", APP)
        ]));
    }

    #[test]
    fn a_stripped_c_library_counts_by_whom_it_calls() {
        assert!(complete(&[("main", APP), ("", LIBC)]));
        for thread in [
            "std::sys::pal::unix::thread::Thread",
            "<std::sys::thread::unix::Thread>",
        ] {
            let thread = format!("{thread}::new::thread_start");
            assert!(complete(&[(&thread, APP), ("", LIBC)]), "{thread}");
        }
        assert!(
            !complete(&[("compare", APP), ("", LIBC)]),
            "it may be a callback of qsort"
        );
        assert!(!complete(&[("main", APP), ("", APP)]));
    }

    #[test]
    fn a_path_that_just_stops_is_not_complete() {
        assert!(!complete(&[]));
        assert!(!complete(&[("connect", LIBC)]));
        assert!(!complete(&[("connect", LIBC), ("", "")]));
        assert!(!complete(&[("connect", LIBC), ("main", APP)]));
        assert!(
            !complete(&[("_start", APP), ("work", APP)]),
            "the root is not the outermost"
        );
    }

    #[test]
    fn names_that_a_program_may_use_are_no_proof() {
        assert!(!complete(&[("connect", LIBC), ("start_thread", APP)]));
        assert!(!complete(&[("connect", LIBC), ("clone", APP)]));
    }
}
