//! Which code paths are one to a reader.
//!
//! Pure.

use std::{
    cmp::Ordering,
    hash::{Hash, Hasher},
    sync::Arc,
};

use crate::report::{CodePath, Frame, Incomplete, PathKind};

/// A code path that equals all which are alike.
///
/// Those are that go the same way from the outermost function of the program itself: how a runtime, a
/// pool of threads or an event loop came to that one is another matter, and often another one each time.
/// Where no function is the program's own, every frame counts.
#[derive(Clone, Debug)]
pub struct Alike(Arc<CodePath>);

/// What is compared.
type Essence<'a> = (
    PathKind,
    &'a [Frame],
    Option<&'a [Frame]>,
    Option<Incomplete>,
);

impl Alike {
    /// A path, with those that are alike.
    pub fn new(path: CodePath) -> Self {
        Self(Arc::new(path))
    }

    /// The path itself.
    pub fn path(&self) -> &CodePath {
        &self.0
    }

    fn essence(&self) -> Essence<'_> {
        let path = &*self.0;
        let frames = from_the_program(&path.frames);
        let asked = path.requested_by.as_deref();
        let incomplete = match frames {
            Some(_) => None,
            None => path.incomplete,
        };
        (
            path.kind,
            frames.unwrap_or(&path.frames),
            asked.map(|asked| from_the_program(asked).unwrap_or(asked)),
            incomplete,
        )
    }
}

/// The frames up to the outermost one that is the program's own; none when none is.
fn from_the_program(frames: &[Frame]) -> Option<&[Frame]> {
    let outermost = frames.iter().rposition(|frame| frame.own)?;
    frames.get(..=outermost)
}

impl PartialEq for Alike {
    fn eq(&self, other: &Self) -> bool {
        self.essence() == other.essence()
    }
}

impl Eq for Alike {}

impl PartialOrd for Alike {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Alike {
    fn cmp(&self, other: &Self) -> Ordering {
        self.essence().cmp(&other.essence())
    }
}

impl Hash for Alike {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.essence().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples::{self, own};

    fn library(function: &str) -> Frame {
        samples::library(function, "/usr/lib/libruntime.so")
    }

    fn path(frames: Vec<Frame>) -> CodePath {
        CodePath::new(PathKind::Connect, frames, None)
    }

    fn task(runner: &[&str]) -> CodePath {
        let mut frames = vec![library("connect"), own("crawl", "main.rs", 5)];
        frames.extend(runner.iter().map(|function| library(function)));
        path(frames)
    }

    #[test]
    fn who_called_the_program_makes_no_difference() {
        let queued = Alike::new(task(&["run_task", "worker"]));
        let woken = Alike::new(task(&["run_lifo", "run_task", "worker"]));
        assert_eq!(queued, woken);
        assert_eq!(queued.cmp(&woken), Ordering::Equal);
        let cut_off = CodePath {
            incomplete: Some(Incomplete::StackTooDeep),
            ..task(&["run_task"])
        };
        assert_eq!(queued, Alike::new(cut_off));
    }

    #[test]
    fn what_the_program_called_and_where_does() {
        let here = Alike::new(task(&[]));
        let elsewhere = path(vec![library("connect"), own("crawl", "main.rs", 9)]);
        assert_ne!(here, Alike::new(elsewhere));
        let otherwise = path(vec![library("sendto"), own("crawl", "main.rs", 5)]);
        assert_ne!(here, Alike::new(otherwise));
        let accepted = CodePath {
            kind: PathKind::Accept,
            ..task(&[])
        };
        assert_ne!(here, Alike::new(accepted));
    }

    #[test]
    fn without_a_function_of_the_program_every_frame_counts() {
        let one = Alike::new(path(vec![library("connect"), library("on_timer")]));
        let other = Alike::new(path(vec![library("connect"), library("on_read")]));
        assert_ne!(one, other);
    }

    #[test]
    fn who_asked_for_a_connection_is_compared_in_the_same_way() {
        let asked = |frames| {
            Alike::new(CodePath {
                requested_by: Some(frames),
                ..path(vec![library("connect"), library("dial")])
            })
        };
        let by = |function| vec![library("Get"), own(function, "main.go", 7)];
        let pooled = [by("fetch"), vec![library("run")]].concat();
        assert_eq!(asked(by("fetch")), asked(pooled));
        assert_ne!(asked(by("fetch")), asked(by("crawl")));
    }
}
