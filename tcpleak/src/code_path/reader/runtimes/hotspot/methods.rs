//! What methods are called, and which lines they are from.

use std::collections::HashMap;

use super::{
    layout::{Method as MethodLayout, Source},
    numbers, own,
};
use crate::code_path::reader::{memory::Memory, runtimes::ManagedFrame};

/// Most methods that are remembered.
const REMEMBERED: usize = 8192;
/// Longest name that is read.
const NAME: usize = 1024;

/// Methods by the addresses of their constant parts.
#[derive(Default)]
pub struct Methods(HashMap<u64, Known>);

/// What does not change of a method.
#[derive(Clone)]
struct Known {
    found: Found,
    function: String,
    file: Option<String>,
    own: bool,
}

/// Where a method was found: when this is the same, so is the method.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Found {
    constant: u64,
    constants: u64,
    class: u64,
    class_name: u64,
    name: u64,
}

impl Methods {
    /// The frame of a method that is at this index of its byte code, if that is known. None when there
    /// is no method at that address.
    pub fn frame(
        &mut self,
        layout: &MethodLayout,
        left_out: u8,
        memory: &Memory<'_>,
        method: u64,
        index: Option<u32>,
    ) -> Option<ManagedFrame> {
        let found = Found::read(layout, memory, method)?;
        let known = self.known(layout, memory, found)?;
        let line = index.and_then(|index| found.line(layout, left_out, memory, index));
        Some(ManagedFrame {
            language: "java".to_owned(),
            function: Some(known.function.clone()),
            file: known.file.clone(),
            line: line.filter(|_| known.file.is_some()),
            inlined: false,
            own: known.own,
        })
    }

    /// Where the byte code of a method begins.
    pub fn code(layout: &MethodLayout, memory: &Memory<'_>, method: u64) -> Option<u64> {
        let constant = memory.word(method.checked_add(layout.constant)?)?;
        constant.checked_add(layout.size)
    }

    fn known(
        &mut self,
        layout: &MethodLayout,
        memory: &Memory<'_>,
        found: Found,
    ) -> Option<&Known> {
        let is_known = (self.0.get(&found.constant)).is_some_and(|known| known.found == found);
        if !is_known {
            if self.0.len() >= REMEMBERED {
                self.0.clear();
            }
            let known = found.read_names(layout, memory)?;
            self.0.insert(found.constant, known);
        }
        self.0.get(&found.constant)
    }
}

impl Found {
    /// Goes from a method to its class, and back to the constants that both must have.
    fn read(layout: &MethodLayout, memory: &Memory<'_>, method: u64) -> Option<Self> {
        let pointer = |from: u64, offset: u64| {
            let to = memory.word(from.checked_add(offset)?)?;
            (to != 0 && to % 8 == 0).then_some(to)
        };
        let constant = pointer(method, layout.constant)?;
        let constants = pointer(constant, layout.constants)?;
        let class = pointer(constants, layout.holder)?;
        let back = pointer(class, layout.constants_of_class)?;
        let number = memory.quarter(constant.checked_add(layout.name)?)?;
        let name = text_at(layout, memory, constants, number)?;
        let class_name = pointer(class, layout.class_name)?;
        (back == constants).then_some(Self {
            constant,
            constants,
            class,
            class_name,
            name,
        })
    }

    fn read_names(self, layout: &MethodLayout, memory: &Memory<'_>) -> Option<Known> {
        let class = text(layout, memory, self.class_name)?;
        let name = text(layout, memory, self.name)?;
        let class = own::class_name(&class);
        let is_proxy = own::is_made_at_run_time(&class);
        Some(Known {
            found: self,
            function: format!("{class}.{name}"),
            file: self.source(layout, memory).filter(|_| !is_proxy),
            own: !is_proxy && own::is_own(&class),
        })
    }

    fn source(self, layout: &MethodLayout, memory: &Memory<'_>) -> Option<String> {
        let number = match layout.source? {
            Source::Constants(offset) => self.constants.checked_add(offset)?,
            Source::Class(offset) => self.class.checked_add(offset)?,
        };
        let address = text_at(layout, memory, self.constants, memory.quarter(number)?)?;
        text(layout, memory, address).filter(|name| !name.is_empty())
    }

    fn line(
        self,
        layout: &MethodLayout,
        left_out: u8,
        memory: &Memory<'_>,
        index: u32,
    ) -> Option<u32> {
        let has_lines = memory.byte(self.constant.checked_add(layout.flags)?)? & layout.has_lines;
        let size = memory.quarter(self.constant.checked_add(layout.code_size)?)?;
        if has_lines == 0 || index >= size.into() {
            return None;
        }
        let code = self.constant.checked_add(layout.size)?;
        numbers::line(memory, code.checked_add(size.into())?, left_out, index)
    }
}

/// The address of the text that is the constant with this number. The first number is never used.
fn text_at(layout: &MethodLayout, memory: &Memory<'_>, constants: u64, number: u16) -> Option<u64> {
    let count = memory.half(constants.checked_add(layout.length)?)?;
    if number == 0 || u32::from(number) >= count {
        return None;
    }
    let first = constants.checked_add(layout.constants_size)?;
    let address = memory.word(first.checked_add(u64::from(number) * 8)?)?;
    (address != 0).then_some(address)
}

fn text(layout: &MethodLayout, memory: &Memory<'_>, address: u64) -> Option<String> {
    let length = memory.quarter(address.checked_add(layout.name_length)?)?;
    let bytes = memory.bytes(address.checked_add(layout.name_bytes)?, length.into(), NAME)?;
    // Java writes a few characters in another way: a name with such is one of garbage, mostly.
    String::from_utf8(bytes).ok()
}
