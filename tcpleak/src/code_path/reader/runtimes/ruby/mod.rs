//! Ruby 3.0 to 3.4.
//!
//! Ruby keeps the frames of its methods and blocks on a stack of its own, one behind the other. The
//! kernel copies what tells them while the thread is in its system call ([`Plan`]); here they are named,
//! and take the place of the innermost function that runs Ruby code. Methods written in C have frames
//! there too: of these only what they do on the machine's stack is shown.

mod layout;
mod names;

use std::ops::Range;

use super::{
    At, Chain, Detected, Found, ManagedFrame, Memory, Plan, Process, Rest, Runtime, not_looked_at,
};
use layout::{
    CONTEXT_FRAME, CONTEXT_STACK, CONTEXT_STACK_WORDS, FRAME_CODE, FRAME_PC, Layout, VM_MAIN_RACTOR,
};

/// As in [`crate::report::Frame::runtime`].
const LANGUAGE: &str = "ruby";
/// Most bytes of a version, such as `3.1.2`.
const VERSION: usize = 16;

/// Looks for Ruby.
pub fn detect(process: &Process<'_>) -> Detected {
    let Some((object, machine)) = process.exported("ruby_current_vm_ptr") else {
        return Detected::No;
    };
    let unreadable = |why: &str| Detected::Unreadable(format!("{LANGUAGE}: {why}"));
    let version = object
        .exported("ruby_version")
        .and_then(|version| process.memory.bytes_to_zero(version.start, VERSION))
        .and_then(|version| String::from_utf8(version).ok());
    let Some(layout) = version.as_deref().and_then(Layout::of_version) else {
        let version = version.as_deref().unwrap_or("unknown");
        return unreadable(&format!("version {version} is not one of 3.0 to 3.4"));
    };
    let Some(runs) = object.exported("rb_vm_exec") else {
        return unreadable("it does not export the function that runs methods");
    };
    Detected::Yes(Box::new(Ruby {
        layout,
        // It is made as the program starts: zero before.
        machine: process.memory.word(machine.start).unwrap_or(0),
        runs,
        interpreter: object.code(),
        stack: Following::default(),
    }))
}

/// Ruby in one process.
struct Ruby {
    layout: Layout,
    /// Where its state is.
    machine: u64,
    /// The function that runs methods.
    runs: Range<u64>,
    /// All code of the file that it is in.
    interpreter: Range<u64>,
    stack: Following,
}

/// The stack that is followed.
#[derive(Default)]
struct Following {
    /// Whether the kernel knew how to follow the chain.
    known: bool,
    frames: Vec<ManagedFrame>,
    /// Numbers of the frames that run methods.
    running: Vec<usize>,
    /// Numbers of other frames of the interpreter.
    others: Vec<usize>,
}

impl Runtime for Ruby {
    fn plan(&self) -> Option<Plan> {
        let layout = &self.layout;
        (self.machine != 0).then(|| Plan {
            lists: self.machine.wrapping_add(VM_MAIN_RACTOR),
            code_mask: u64::MAX,
            at_mask: u64::MAX,
            kind_mask: 0,
            // Other ractors than the main one are not looked at: its ring of threads has no end.
            next_list: 0,
            threads: layout.ractor_threads,
            next_thread: 0,
            thread_pointer: layout.thread_id,
            innermost: layout.thread_context,
            through: Some(CONTEXT_FRAME),
            code: FRAME_CODE / 8,
            at: FRAME_PC / 8,
            kind: 0,
            next: 0,
            span: layout.frame_bytes,
            thread: layout.thread_native,
            end: Some((CONTEXT_STACK, CONTEXT_STACK_WORDS)),
        })
    }

    fn begin(&mut self, chain: &Chain, memory: &Memory<'_>) {
        let links = chain.links.iter();
        self.stack = Following {
            known: chain.known,
            frames: links
                .filter_map(|link| names::frame(&self.layout, link.code, link.at, memory))
                .collect(),
            ..Following::default()
        };
    }

    /// Only takes note: what becomes of a frame shows at the end of the stack.
    fn look(&mut self, at: &mut At<'_, '_>) -> Option<Found> {
        let address = at.frame.instruction();
        if self.runs.contains(&address) {
            self.stack.running.push(at.number);
        } else if self.interpreter.contains(&address) {
            self.stack.others.push(at.number);
        }
        None
    }

    fn end(&mut self) -> Rest {
        std::mem::take(&mut self.stack).rest()
    }
}

impl Following {
    /// Puts the frames in the place of the innermost one that runs methods, and hides what the
    /// interpreter does further out.
    fn rest(self) -> Rest {
        let mut running = self.running.into_iter();
        let first = running.next();
        if self.frames.is_empty() {
            let missing = !self.known && first.is_some();
            return Rest {
                unreadable: missing.then(|| not_looked_at(LANGUAGE)),
                ..Rest::default()
            };
        }
        let Some(first) = first else {
            return Rest {
                behind: self.frames,
                ..Rest::default()
            };
        };
        let last = running.clone().next_back().unwrap_or(first);
        let between = self
            .others
            .into_iter()
            .filter(|number| (first..last).contains(number));
        let hidden = running.chain(between).map(|number| (number, Vec::new()));
        let mut managed: Vec<_> = hidden.collect();
        managed.push((first, self.frames));
        Rest {
            managed,
            ..Rest::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::made_up::{each_image, scatter},
        *,
    };

    #[test]
    fn made_up_memory_gives_frames_or_none_and_an_end() {
        let versions = ["3.0.2", "3.1.2", "3.2.0", "3.3.13", "3.4.1"];
        let layouts = versions.map(|version| Layout::of_version(version).expect("it is known"));
        each_image(|memory, seed, start| {
            for (number, layout) in layouts.iter().enumerate() {
                for link in 0..8 {
                    let chance = scatter(seed ^ link << 8 ^ number as u64);
                    let code = start.wrapping_add(chance % 4096 * 8);
                    let frame = names::frame(layout, code, memory.word(code).unwrap_or(0), memory);
                    let file = frame.and_then(|frame| frame.file).unwrap_or_default();
                    assert!(file.len() <= 3 * 1024, "{file}");
                }
            }
        });
    }

    #[test]
    fn versions_that_are_not_known_are_not_guessed() {
        for version in ["", "3", "2.7.8", "3.5.0", "4.0.0", "3.x.1", "99999999999.1"] {
            assert_eq!(Layout::of_version(version), None, "{version}");
        }
    }

    fn named(function: &str) -> ManagedFrame {
        ManagedFrame {
            function: Some(function.to_owned()),
            ..ManagedFrame::default()
        }
    }

    #[test]
    fn methods_take_the_place_of_the_innermost_function_that_runs_them() {
        let stack = Following {
            known: true,
            frames: vec![named("fetch"), named("<main>")],
            running: vec![5, 9],
            others: vec![2, 4, 6, 8, 10],
        };
        let mut rest = stack.rest();
        rest.managed.sort_unstable_by_key(|(number, _)| *number);
        let hidden = |number| (number, Vec::new());
        let shown = (5, vec![named("fetch"), named("<main>")]);
        assert_eq!(rest.managed, [shown, hidden(6), hidden(8), hidden(9)]);
        assert!(rest.behind.is_empty() && rest.unreadable.is_none());
    }

    #[test]
    fn methods_that_find_no_place_are_shown_all_the_same() {
        let stack = Following {
            known: true,
            frames: vec![named("fetch")],
            ..Following::default()
        };
        assert_eq!(stack.rest().behind, [named("fetch")]);
        let unknown = Following {
            running: vec![3],
            ..Following::default()
        };
        assert!(unknown.rest().unreadable.is_some());
    }
}
