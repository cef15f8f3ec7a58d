//! Frames that an interpreter keeps in memory, as the kernel followed them.

use serde::{Deserialize, Serialize};
use tcpleak_ebpf::{ChainPlan, DIRECT};

use super::ManagedFrame;

/// The frames of a thread, as they were during its system call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Whether the kernel knew how to follow them.
    pub known: bool,
    /// The frames, innermost first.
    pub links: Vec<Link>,
}

/// A frame, as words whose meaning its runtime knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Where it is.
    pub address: u64,
    /// Its code.
    pub code: u64,
    /// Where in the code it is.
    pub at: u64,
    /// What kind of frame it is.
    pub kind: u64,
}

/// How to find and follow them: [`ChainPlan`], but for the image that it is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Plan {
    pub lists: u64,
    pub code_mask: u64,
    pub at_mask: u64,
    pub kind_mask: u64,
    pub next_list: u32,
    pub threads: u32,
    pub next_thread: u32,
    pub thread_pointer: u32,
    pub innermost: u32,
    /// None when nothing lies in between.
    pub through: Option<u32>,
    pub code: u32,
    pub at: u32,
    pub kind: u32,
    pub next: u32,
    pub span: u32,
    /// None when a thread state has its thread pointer itself.
    pub thread: Option<u32>,
    /// None when each frame has the address of its caller.
    pub end: Option<(u32, u32)>,
}

impl Plan {
    /// The plan as the kernel wants it.
    pub fn of_image(&self, image: u64) -> ChainPlan {
        let (end, end_words) = self.end.unwrap_or((DIRECT, 0));
        ChainPlan {
            image,
            lists: self.lists,
            code_mask: self.code_mask,
            at_mask: self.at_mask,
            kind_mask: self.kind_mask,
            next_list: self.next_list,
            threads: self.threads,
            next_thread: self.next_thread,
            thread_pointer: self.thread_pointer,
            innermost: self.innermost,
            through: self.through.unwrap_or(DIRECT),
            code: self.code,
            at: self.at,
            kind: self.kind,
            next: self.next,
            span: self.span,
            thread: self.thread.unwrap_or(DIRECT),
            end,
            end_words,
        }
    }
}

/// What became of the frames of a chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chained {
    /// Those that took no other frame's place: they called what the stack was followed to.
    pub frames: Vec<ManagedFrame>,
    /// Why the frames of a runtime could not be read, when they could not.
    pub unreadable: Option<String>,
    /// How to follow the next chain of the process.
    pub plan: Option<Plan>,
}
