//! Node.js: the JavaScript functions of V8.
//!
//! Each frame of JavaScript has its function in a fixed place, whether it is interpreted or compiled.
//! Where that is, and how to get from there to a name, V8 says itself, in variables for debuggers
//! (`v8dbg_...`) that Node.js is always built with.

mod function;
mod heap;
mod layout;
mod own;

use super::{At, Detected, Found, ManagedFrame, Process, Runtime};
use function::Function;
use heap::Heap;
use layout::Layout;

/// What a report calls it.
const LANGUAGE: &str = "javascript";
/// What a function without a name is called.
const ANONYMOUS: &str = "(anonymous)";
/// Most bytes of a text that are read: of the source, what lies before a function.
const TEXT_BYTES: usize = 4 << 20;
/// Frames that are none of JavaScript have a number where others have their context; there are a few
/// dozen kinds.
const KINDS: u64 = 128;

/// V8 in one process.
struct Node {
    layout: Layout,
}

/// Looks for V8 as Node.js has it.
pub fn detect(process: &Process<'_>) -> Detected {
    let read = |address| {
        let half = process.memory.half(address)?;
        Some(half.cast_signed())
    };
    let mut objects = process.objects();
    match objects.find_map(|object| Layout::of(&object, read)) {
        None => Detected::No,
        Some(Ok(layout)) => Detected::Yes(Box::new(Node { layout })),
        Some(Err(missing)) => {
            Detected::Unreadable(format!("javascript: V8 does not say {missing}"))
        }
    }
}

impl Runtime for Node {
    fn look(&mut self, at: &mut At<'_, '_>) -> Option<Found> {
        // V8's code has no unwind information, neither what it makes nor what it is built with.
        if at.described {
            return None;
        }
        let fp = at.registers.fp;
        let mut word = |offset: i64| at.stack.copied_word(fp.checked_add_signed(offset)?);
        let context = word(self.layout.frame_context)?;
        if context & 1 == 0 && context >> 1 < KINDS {
            return Some(Found::default());
        }
        let closure = word(self.layout.frame_function)?;
        let bytecode =
            word(self.layout.frame_bytecode).zip(word(self.layout.frame_bytecode_offset));
        let heap = Heap {
            layout: &self.layout,
            memory: at.memory,
        };
        let function = Function::of(&heap, closure)?;
        let file = function.file();
        let name = function.name();
        let frame = ManagedFrame {
            language: LANGUAGE.to_owned(),
            line: file.as_ref().and_then(|_| function.line(bytecode)),
            own: own::is_own(file.as_deref()),
            function: Some(name.unwrap_or_else(|| ANONYMOUS.to_owned())),
            file: file.map(own::plain_path),
            inlined: false,
        };
        Some(Found {
            frames: vec![frame],
            caller: None,
        })
    }
}

#[cfg(test)]
mod tests;
