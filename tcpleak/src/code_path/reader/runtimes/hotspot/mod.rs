//! Java on HotSpot, the virtual machine of OpenJDK, from version 8 on.
//!
//! `libjvm.so` has tables that say where its structures have their members; debuggers live on them.
//! By these the pieces of code are found that were made as the program runs, with what the compilers
//! noted of each place that a call returns to. An interpreted method is in its frame.

mod code;
mod compiled;
mod frames;
mod layout;
mod methods;
mod numbers;
mod own;
mod tables;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, mem};

use code::{Blob, Heaps, Kind};
use layout::Layout;
use methods::Methods;
use tables::Tables;

use super::{At, Detected, Found, ManagedFrame, Object, Process, Rest, Runtime};
use crate::code_path::reader::{memory::Memory, unwind::Registers};

/// Most places of compiled code that are remembered.
const REMEMBERED: usize = 8192;
/// Why a path lacks the outer functions of a virtual thread.
const IN_HEAP: &str = "java: a virtual thread that was suspended has its outer frames in the heap";

/// A Java virtual machine.
pub struct HotSpot {
    layout: Layout,
    heaps: Heaps,
    methods: Methods,
    places: HashMap<u64, Known>,
    /// Whether the stack that is followed lacks frames of its virtual thread.
    some_in_heap: bool,
}

/// A place in a piece of code.
#[derive(Clone)]
struct Known {
    blob: Blob,
    frames: Vec<ManagedFrame>,
}

/// Looks for HotSpot in a process.
pub fn detect(process: &Process<'_>) -> Detected {
    match process.exported("JNI_CreateJavaVM") {
        None => Detected::No,
        Some((library, _)) => match read_layout(&library, process.memory) {
            Ok(layout) => Detected::Yes(Box::new(HotSpot::new(layout))),
            Err(why) => Detected::Unreadable(format!("java: {why}")),
        },
    }
}

/// Reads how the virtual machine in this library lays out what it has.
fn read_layout(library: &Object<'_>, memory: &Memory<'_>) -> Result<Layout, String> {
    let symbol = |name: &str| library.symbol(name).map(|range| range.start);
    let tables = Tables::read(&symbol, memory);
    let tables = tables.ok_or("its virtual machine has no tables of its structures")?;
    let lacks = |name| format!("the tables of its virtual machine lack {name}");
    layout::find(&tables, memory).map_err(lacks)
}

impl Runtime for HotSpot {
    fn look(&mut self, at: &mut At<'_, '_>) -> Option<Found> {
        if self.heaps.is_empty() {
            self.heaps = Heaps::read(&self.layout.heaps, at.memory)?;
        }
        if !self.heaps.contain(at.frame.instruction()) {
            return None;
        }
        if self.is_entry(at) {
            return Some(hidden(frames::by_frame_pointer(at)));
        }
        let Known { blob, frames } = self.place(at)?;
        match blob.kind {
            Kind::Interpreter => self.interpreted(at),
            Kind::Method => Some(Found {
                frames,
                caller: self.caller_of_compiled(at, &blob),
            }),
            Kind::Continuation => {
                self.some_in_heap = true;
                Some(Found {
                    frames: vec![not_on_stack()],
                    caller: frames::by_frame_pointer(at),
                })
            }
            Kind::Stub if blob.frame_size > 0 => Some(hidden(frames::by_size(at, &blob, |_| true))),
            Kind::Stub => Some(hidden(frames::by_frame_pointer(at))),
        }
    }

    fn end(&mut self) -> Rest {
        let some_in_heap = mem::take(&mut self.some_in_heap);
        Rest {
            unreadable: some_in_heap.then(|| IN_HEAP.to_owned()),
            ..Rest::default()
        }
    }
}

impl HotSpot {
    fn new(layout: Layout) -> Self {
        Self {
            layout,
            heaps: Heaps::default(),
            methods: Methods::default(),
            places: HashMap::new(),
            some_in_heap: false,
        }
    }

    /// Whether a frame is the stub by which native code enters Java.
    fn is_entry(&self, at: &At<'_, '_>) -> bool {
        let entry = self.layout.frame.entry_return;
        entry.and_then(|entry| at.memory.word(entry)) == Some(at.frame.address)
    }

    /// The piece of code that a frame is in, and what is shown of it. Code is freed and made anew, so
    /// what is known is compared with what is there now.
    fn place(&mut self, at: &mut At<'_, '_>) -> Option<Known> {
        let address = at.frame.address;
        let known = self.places.get(&address);
        if let Some(known) = known.filter(|known| known.blob.is_same(&self.layout.blob, at.memory))
        {
            return Some(known.clone());
        }
        let inside = at.frame.instruction();
        let start = self.heaps.blob(&self.layout.heaps, at.memory, inside)?;
        let blob = Blob::read(&self.layout.blob, at.memory, start, inside)?;
        if blob.kind == Kind::Method
            && let Some(before) = self.before_deoptimization(at, &blob)
        {
            let frames = self.compiled(at.memory, &blob, before);
            return Some(Known { blob, frames });
        }
        let frames = match blob.kind {
            Kind::Method => self.compiled(at.memory, &blob, address),
            _ => Vec::new(),
        };
        if self.places.len() >= REMEMBERED {
            self.places.clear();
        }
        let known = Known { blob, frames };
        self.places.insert(address, known.clone());
        Some(known)
    }

    /// The address that a frame was at when its code was given up, if that is so: since then it goes on
    /// at a place that is the same for all.
    fn before_deoptimization(&self, at: &mut At<'_, '_>, blob: &Blob) -> Option<u64> {
        let handlers = self.layout.blob.deoptimized.iter();
        let mut places = handlers.filter_map(|handler| handler.read(at.memory, blob.address));
        places.find(|handler| *handler == at.frame.address)?;
        let original = blob.address.checked_add(self.layout.blob.original?)?;
        let offset = at.memory.half(original)?;
        let before = frames::before_deoptimization(at, offset.into())?;
        (blob.begin..blob.end).contains(&before).then_some(before)
    }

    fn compiled(&mut self, memory: &Memory<'_>, blob: &Blob, address: u64) -> Vec<ManagedFrame> {
        compiled::frames(&self.layout, &mut self.methods, memory, blob, address)
            .unwrap_or_else(|| vec![unknown()])
    }

    /// Compiled code is called by code of the virtual machine only.
    fn caller_of_compiled(&self, at: &mut At<'_, '_>, blob: &Blob) -> Option<Registers> {
        frames::by_size(at, blob, |address| self.heaps.contain(address))
    }

    fn interpreted(&mut self, at: &mut At<'_, '_>) -> Option<Found> {
        let caller = frames::caller_of_interpreted(at, &self.layout.frame)?;
        let (method, byte_code) = frames::interpreted(at, &self.layout.frame)?;
        let layout = &self.layout.method;
        let index = byte_code.and_then(|byte_code| {
            let start = Methods::code(layout, at.memory, method)?;
            u32::try_from(byte_code.checked_sub(start)?).ok()
        });
        let left_out = self.layout.left_out;
        let frame = self
            .methods
            .frame(layout, left_out, at.memory, method, index);
        Some(Found {
            frames: vec![frame.unwrap_or_else(unknown)],
            caller: Some(caller),
        })
    }
}

/// Code that means nothing to who reads a report.
fn hidden(caller: Option<Registers>) -> Found {
    Found {
        frames: Vec::new(),
        caller,
    }
}

/// A method that cannot be read.
fn unknown() -> ManagedFrame {
    ManagedFrame {
        language: "java".to_owned(),
        ..ManagedFrame::default()
    }
}

/// What stands for the frames of a virtual thread that it comes back to later.
fn not_on_stack() -> ManagedFrame {
    ManagedFrame {
        function: Some("(frames of a virtual thread that are not on the stack)".to_owned()),
        ..unknown()
    }
}
