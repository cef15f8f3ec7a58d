//! CPython 3.8 to 3.14.
//!
//! Python functions have frames of their own, in memory, each with a pointer to its caller. The kernel
//! follows them while the thread is in its system call ([`Plan`]); here they are named. On the stack
//! there is the function that evaluates: one of its frames stands for as many Python frames as it was
//! evaluating, and these take its place.

mod code;
mod layout;
mod lines;
mod object;
mod own;

use std::ops::Range;

use super::{
    At, Chain, Detected, Found, ManagedFrame, Memory, Plan, Process, Rest, Runtime, not_looked_at,
};
use code::Codes;
use layout::{Layout, Link};

/// As in [`crate::report::Frame::runtime`].
const LANGUAGE: &str = "python";

/// Looks for an interpreter.
pub fn detect(process: &Process<'_>) -> Detected {
    let Some((object, state)) = process.exported("_PyRuntime") else {
        return Detected::No;
    };
    let unreadable = |why: String| Detected::Unreadable(format!("{LANGUAGE}: {why}"));
    let layout = match Layout::find(process.memory, &object, state.start) {
        Ok(layout) => layout,
        Err(why) => return unreadable(why),
    };
    let (Some(evaluates), Some(code_type)) = (
        object.exported("_PyEval_EvalFrameDefault"),
        object.exported("PyCode_Type"),
    ) else {
        return unreadable("the interpreter does not export what names its functions".to_owned());
    };
    Detected::Yes(Box::new(Python {
        plan: layout.plan(state.start),
        evaluates,
        interpreter: object.code(),
        codes: Codes::new(code_type.start),
        layout,
        stack: Following::default(),
    }))
}

/// An interpreter in one process.
struct Python {
    layout: Layout,
    plan: Plan,
    /// The function that evaluates.
    evaluates: Range<u64>,
    /// All code of the file that it is in.
    interpreter: Range<u64>,
    codes: Codes,
    stack: Following,
}

/// The stack that is followed.
#[derive(Default)]
struct Following {
    /// Whether the kernel knew how to follow the chain.
    known: bool,
    /// What each frame that evaluates stands for, innermost first.
    runs: Vec<Run>,
    /// The frames of the stack, innermost first.
    frames: Vec<StackFrame>,
}

/// Python functions that one frame of the stack evaluates.
#[derive(Debug, Default, PartialEq, Eq)]
struct Run {
    frames: Vec<ManagedFrame>,
    /// An address in the frame that evaluates them, where it is known.
    inside: Option<u64>,
}

/// A frame of the stack.
struct StackFrame {
    /// Where it ends: further in.
    sp: u64,
    part: Part,
}

/// What a frame is a part of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The function that evaluates, the greater part of it: what is seldom come to a compiler may have
    /// put elsewhere.
    Evaluates,
    /// The interpreter.
    Interpreter,
    /// Something else.
    Other,
}

impl Runtime for Python {
    fn plan(&self) -> Option<Plan> {
        Some(self.plan)
    }

    fn begin(&mut self, chain: &Chain, memory: &Memory<'_>) {
        self.stack = Following {
            known: chain.known,
            runs: self.runs(chain, memory),
            frames: Vec::new(),
        };
    }

    /// Only takes note: what becomes of a frame shows at the end of the stack.
    fn look(&mut self, at: &mut At<'_, '_>) -> Option<Found> {
        let address = at.frame.instruction();
        let part = if self.evaluates.contains(&address) {
            Part::Evaluates
        } else if self.interpreter.contains(&address) {
            Part::Interpreter
        } else {
            Part::Other
        };
        // All frames come here, unless another runtime knew one before.
        let frames = &mut self.stack.frames;
        let sp = at.registers.sp;
        while frames.len() < at.number {
            let part = Part::Other;
            frames.push(StackFrame { sp, part });
        }
        frames.push(StackFrame { sp, part });
        None
    }

    fn end(&mut self) -> Rest {
        std::mem::take(&mut self.stack).rest()
    }
}

impl Python {
    /// Names the frames of a chain, and parts them by the frames that evaluate them.
    fn runs(&mut self, chain: &Chain, memory: &Memory<'_>) -> Vec<Run> {
        let mut runs = Vec::new();
        let mut run = Run::default();
        for link in &chain.links {
            let Link {
                shown,
                last,
                on_stack,
            } = self.layout.link(link.kind);
            if shown {
                let frame = self.codes.frame(&self.layout, link.code, link.at, memory);
                run.frames.push(frame);
            }
            if last && !run.frames.is_empty() {
                run.inside = on_stack.then_some(link.address);
                runs.push(std::mem::take(&mut run));
            }
        }
        // The chain is longer than is followed, or was cut off.
        if !run.frames.is_empty() {
            runs.push(run);
        }
        runs
    }
}

impl Following {
    /// Puts the Python functions in the place of the frames that evaluate them, in their order. What
    /// the interpreter does in between is hidden. None is lost: those that find no place of their own
    /// go with those before them.
    fn rest(self) -> Rest {
        if self.runs.is_empty() {
            return Rest {
                unreadable: self.missing(),
                ..Rest::default()
            };
        }
        let mut placed: Vec<(usize, Vec<ManagedFrame>)> = Vec::new();
        let mut unplaced = Vec::new();
        for run in &self.runs {
            let next = placed.last().map_or(0, |(number, _)| number + 1);
            let frames = run.frames.iter().cloned();
            match (self.place(run, next), placed.last_mut()) {
                (Some(number), _) => {
                    let before = std::mem::take(&mut unplaced);
                    placed.push((number, before.into_iter().chain(frames).collect()));
                }
                (None, Some((_, last))) => last.extend(frames),
                (None, None) => unplaced.extend(frames),
            }
        }
        let Some((last, _)) = placed.last() else {
            return self.without_place(unplaced);
        };
        let between = self.frames.iter().enumerate().take(*last);
        let hidden = between.filter(|(number, frame)| {
            frame.part != Part::Other && placed.iter().all(|(other, _)| other != number)
        });
        let hidden: Vec<_> = hidden.map(|(number, _)| (number, Vec::new())).collect();
        placed.extend(hidden);
        Rest {
            managed: placed,
            ..Rest::default()
        }
    }

    /// The frame that evaluates a run: the one around an address that is known, else the next one that
    /// is in the function which evaluates.
    fn place(&self, run: &Run, next: usize) -> Option<usize> {
        let by_address = |inside: u64| {
            let behind = self.frames.partition_point(|frame| frame.sp <= inside);
            let number = behind.checked_sub(1)?;
            let frame = self.frames.get(number)?;
            (number >= next && frame.part != Part::Other).then_some(number)
        };
        let by_code = || {
            let mut rest = self.frames.iter().enumerate().skip(next);
            let (number, _) = rest.find(|(_, frame)| frame.part == Part::Evaluates)?;
            Some(number)
        };
        run.inside.and_then(by_address).or_else(by_code)
    }

    /// Functions whose stack shows nothing that evaluates them.
    fn without_place(&self, functions: Vec<ManagedFrame>) -> Rest {
        let mut frames = self.frames.iter();
        match frames.position(|frame| frame.part != Part::Other) {
            Some(number) => Rest {
                managed: vec![(number, functions)],
                ..Rest::default()
            },
            None => Rest {
                behind: functions,
                ..Rest::default()
            },
        }
    }

    /// Why there are no functions on a stack that evaluates some.
    fn missing(&self) -> Option<String> {
        let evaluates = self
            .frames
            .iter()
            .any(|frame| frame.part == Part::Evaluates);
        (!self.known && evaluates).then(|| not_looked_at(LANGUAGE))
    }
}

#[cfg(test)]
mod tests;
