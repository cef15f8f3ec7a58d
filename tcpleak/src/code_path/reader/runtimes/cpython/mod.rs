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

use super::{At, Chain, Detected, Found, ManagedFrame, Memory, Plan, Process, Rest, Runtime};
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
    /// The Python frames that each frame which evaluates stands for, innermost first.
    runs: Vec<Vec<ManagedFrame>>,
    /// Numbers of the frames that evaluate.
    evaluating: Vec<usize>,
    /// Numbers of other frames of the interpreter.
    others: Vec<usize>,
}

impl Runtime for Python {
    fn plan(&self) -> Option<Plan> {
        Some(self.plan)
    }

    fn begin(&mut self, chain: &Chain, memory: &Memory<'_>) {
        self.stack = Following {
            known: chain.known,
            runs: self.runs(chain, memory),
            ..Following::default()
        };
    }

    /// Only takes note: what becomes of a frame shows at the end of the stack.
    fn look(&mut self, at: &mut At<'_, '_>) -> Option<Found> {
        let address = at.frame.instruction();
        if self.evaluates.contains(&address) {
            self.stack.evaluating.push(at.number);
        } else if self.interpreter.contains(&address) {
            self.stack.others.push(at.number);
        }
        None
    }

    fn end(&mut self) -> Rest {
        std::mem::take(&mut self.stack).rest()
    }
}

impl Python {
    /// Names the frames of a chain, and parts them by the frames that evaluate them.
    fn runs(&mut self, chain: &Chain, memory: &Memory<'_>) -> Vec<Vec<ManagedFrame>> {
        let mut runs = Vec::new();
        let mut run = Vec::new();
        for link in &chain.links {
            let Link { shown, last } = self.layout.link(link.kind);
            if shown {
                run.push(self.codes.frame(&self.layout, link.code, link.at, memory));
            }
            if last && !run.is_empty() {
                runs.push(std::mem::take(&mut run));
            }
        }
        // The chain is longer than is followed, or was cut off.
        if !run.is_empty() {
            runs.push(run);
        }
        runs
    }
}

impl Following {
    /// Puts the Python frames in the place of those that evaluate them, in their order. What the
    /// interpreter does in between is hidden. Python frames that find no place come behind the last.
    fn rest(self) -> Rest {
        if self.runs.is_empty() {
            let missing = !self.known && !self.evaluating.is_empty();
            return Rest {
                unreadable: missing
                    .then(|| format!("{LANGUAGE}: tcpleak had not looked at the interpreter yet")),
                ..Rest::default()
            };
        }
        let mut rest = Rest::default();
        let mut runs = self.runs.into_iter();
        let mut last = 0;
        for (number, run) in self.evaluating.into_iter().zip(&mut runs) {
            rest.managed.push((number, run));
            last = number;
        }
        match rest.managed.last_mut() {
            Some((_, frames)) => frames.extend(runs.flatten()),
            None => rest.behind = runs.flatten().collect(),
        }
        let between = self.others.into_iter().filter(|number| *number < last);
        rest.managed
            .extend(between.map(|number| (number, Vec::new())));
        rest
    }
}

#[cfg(test)]
mod tests;
