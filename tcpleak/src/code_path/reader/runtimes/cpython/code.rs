//! Code objects: the functions of Python.

use std::{collections::HashMap, sync::Arc};

use super::{
    LANGUAGE, ManagedFrame, Memory,
    layout::Layout,
    lines,
    object::{bytes, text},
    own::is_own,
};

/// Most code objects that are remembered.
const REMEMBERED: usize = 4096;
/// Bytes of the longest table of lines that is read.
const TABLE: usize = 256 * 1024;
/// Where an object says what type it has.
const TYPE: u64 = 8;

/// The code objects of a process, as far as they were looked at.
pub struct Codes {
    /// What a code object says its type is.
    code_type: u64,
    known: HashMap<u64, Arc<Code>>,
}

/// A code object.
struct Code {
    /// It is another one when these have changed.
    identity: Identity,
    name: Option<String>,
    file: Option<String>,
    table: Option<Vec<u8>>,
    own: bool,
}

/// Where a code object has its parts.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity {
    name: u64,
    file: u64,
    table: u64,
    first_line: u32,
}

impl Codes {
    /// None yet, in an interpreter whose code objects have this type.
    pub fn new(code_type: u64) -> Self {
        Self {
            code_type,
            known: HashMap::new(),
        }
    }

    /// The frame of a function. One without a name when there is no code object at the address.
    pub fn frame(
        &mut self,
        layout: &Layout,
        address: u64,
        at: u64,
        memory: &Memory<'_>,
    ) -> ManagedFrame {
        let mut frame = ManagedFrame {
            language: LANGUAGE.to_owned(),
            ..ManagedFrame::default()
        };
        if let Some(code) = self.code(layout, address, memory) {
            frame.function = code.name.clone();
            frame.file = code.file.clone();
            frame.own = code.own;
            frame.line = code.line(layout, address, at);
        }
        frame
    }

    fn code(&mut self, layout: &Layout, address: u64, memory: &Memory<'_>) -> Option<Arc<Code>> {
        if memory.word(address.checked_add(TYPE)?)? != self.code_type {
            return None;
        }
        let identity = Identity::read(layout, address, memory)?;
        if let Some(code) = self.known.get(&address)
            && code.identity == identity
        {
            return Some(Arc::clone(code));
        }
        let file = text(layout, identity.file, memory);
        let code = Arc::new(Code {
            identity,
            name: text(layout, identity.name, memory),
            own: file.as_deref().is_some_and(is_own),
            file,
            table: bytes(identity.table, TABLE, memory),
        });
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(address, Arc::clone(&code));
        Some(code)
    }
}

impl Identity {
    fn read(layout: &Layout, address: u64, memory: &Memory<'_>) -> Option<Self> {
        let at = |offset: u64| address.checked_add(offset);
        Some(Self {
            name: memory.word(at(layout.code.name)?)?,
            file: memory.word(at(layout.code.file)?)?,
            table: memory.word(at(layout.code.lines)?)?,
            first_line: memory.half(at(layout.code.first_line)?)?,
        })
    }
}

impl Code {
    /// The line that a frame of this code is in.
    fn line(&self, layout: &Layout, address: u64, at: u64) -> Option<u32> {
        let offset = if layout.has_instruction_pointers() {
            let start = address.wrapping_add(layout.code.instructions);
            // Before its first instruction a frame is at its first line.
            at.saturating_sub(start)
        } else {
            let number = u64::from((at as u32 as i32).max(0).cast_unsigned());
            // From 3.10 on instructions are counted, not bytes.
            if layout.minor == 10 {
                number * 2
            } else {
                number
            }
        };
        let first_line = i64::from(self.identity.first_line.cast_signed());
        lines::line(layout.minor, self.table.as_deref()?, first_line, offset)
    }
}
