//! The pieces of code that HotSpot makes as a program runs, and where they lie.

use super::layout::{Blob as BlobLayout, Heaps as HeapsLayout, Place};
use crate::code_path::reader::memory::Memory;

/// Most heaps of code; there are three, or one.
const HEAPS: u32 = 16;
/// Most steps towards the beginning of a piece of code.
const STEPS: usize = 4096;
/// Largest piece of code.
const LARGEST: u64 = 64 << 20;
/// Longest name of a piece of code.
const NAME: usize = 64;
/// Most words of a frame.
const FRAME: u32 = 1 << 16;

/// The memory that holds code.
#[derive(Debug, Default)]
pub struct Heaps(Vec<Heap>);

#[derive(Debug)]
struct Heap {
    start: u64,
    end: u64,
    map: u64,
    segment: u32,
}

/// What a piece of code is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The interpreter.
    Interpreter,
    /// A method that was compiled, or what calls a native one.
    Method,
    /// Where frames of a virtual thread that are kept in the heap are brought back.
    Continuation,
    /// Anything else.
    Stub,
}

/// A piece of code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Its address.
    pub address: u64,
    /// What it is.
    pub kind: Kind,
    /// Where its instructions begin.
    pub begin: u64,
    /// Where they end.
    pub end: u64,
    /// How many bytes its frames have; zero when that is not known.
    pub frame_size: u64,
    /// Of a compiled method: the method.
    pub method: u64,
    /// Of a compiled method: the number of the compilation.
    pub compilation: u32,
}

impl Heaps {
    /// Reads where they are. They are reserved at the start and do not move.
    pub fn read(layout: &HeapsLayout, memory: &Memory<'_>) -> Option<Self> {
        let heap = |address: u64| Heap::read(layout, memory, address);
        if let Some(only) = layout.only {
            return Some(Self(vec![heap(memory.word(only)?)?]));
        }
        let array = memory.word(layout.array?)?;
        let count = memory.half(array.checked_add(layout.count)?)?;
        let first = memory.word(array.checked_add(layout.first)?)?;
        let heaps = (0..count.min(HEAPS)).map(|number| {
            let pointer = first.checked_add(u64::from(number) * 8)?;
            heap(memory.word(pointer)?)
        });
        Some(Self(heaps.collect::<Option<_>>()?))
    }

    /// Whether there are none yet.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an address is one of code.
    pub fn contain(&self, address: u64) -> bool {
        self.find(address).is_some()
    }

    fn find(&self, address: u64) -> Option<&Heap> {
        let mut heaps = self.0.iter();
        heaps.find(|heap| (heap.start..heap.end).contains(&address))
    }

    /// Where the piece of code that an address lies in begins.
    pub fn blob(&self, layout: &HeapsLayout, memory: &Memory<'_>, address: u64) -> Option<u64> {
        let heap = self.find(address)?;
        let mut segment = (address - heap.start) >> heap.segment;
        for _ in 0..STEPS {
            // How far back it surely begins earlier; all ones where nothing is.
            match memory.byte(heap.map.checked_add(segment)?)? {
                0 => {
                    let block = heap.start.checked_add(segment << heap.segment)?;
                    let is_used = memory.byte(block.checked_add(layout.used)?)? != 0;
                    return is_used.then_some(block.checked_add(layout.header)?);
                }
                0xff => return None,
                back => segment = segment.checked_sub(back.into())?,
            }
        }
        None
    }
}

impl Heap {
    fn read(layout: &HeapsLayout, memory: &Memory<'_>, address: u64) -> Option<Self> {
        let heap = Self {
            start: memory.word(address.checked_add(layout.start)?)?,
            end: memory.word(address.checked_add(layout.end)?)?,
            map: memory.word(address.checked_add(layout.map)?)?,
            segment: memory.half(address.checked_add(layout.segment)?)?,
        };
        (heap.start < heap.end && heap.segment < 32).then_some(heap)
    }
}

impl Blob {
    /// Reads the piece of code at an address; none when it does not hold `inside`.
    pub fn read(
        layout: &BlobLayout,
        memory: &Memory<'_>,
        address: u64,
        inside: u64,
    ) -> Option<Self> {
        let at = |offset: u64| address.checked_add(offset);
        let size = u64::from(memory.half(at(layout.size)?)?);
        let begin = layout.begin.read(memory, address)?;
        let end = layout.end.read(memory, address)?;
        let lies_in_it = size <= LARGEST && address < begin && end <= at(size)?;
        if !lies_in_it || !(begin..end).contains(&inside) {
            return None;
        }
        let name = memory.bytes_to_zero(memory.word(at(layout.name)?)?, NAME)?;
        let kind = Kind::named(&name);
        let words = memory.half(at(layout.frame_size)?)?;
        let is_method = kind == Kind::Method;
        Some(Self {
            address,
            kind,
            begin,
            end,
            frame_size: if words < FRAME {
                u64::from(words) * 8
            } else {
                0
            },
            method: if is_method {
                memory.word(at(layout.method)?)?
            } else {
                0
            },
            compilation: if is_method {
                memory.half(at(layout.compilation)?)?
            } else {
                0
            },
        })
    }

    /// Whether it is still what it was when it was read.
    pub fn is_same(&self, layout: &BlobLayout, memory: &Memory<'_>) -> bool {
        let at = |offset: u64| self.address.checked_add(offset);
        let same = || {
            let method = memory.word(at(layout.method)?)?;
            let compilation = memory.half(at(layout.compilation)?)?;
            Some(method == self.method && compilation == self.compilation)
        };
        layout.begin.read(memory, self.address) == Some(self.begin)
            && (self.kind != Kind::Method || same() == Some(true))
    }
}

impl Kind {
    fn named(name: &[u8]) -> Self {
        match name {
            b"Interpreter" => Self::Interpreter,
            b"nmethod" | b"native nmethod" => Self::Method,
            _ if name
                .windows(12)
                .any(|part| part.eq_ignore_ascii_case(b"continuation")) =>
            {
                Self::Continuation
            }
            _ => Self::Stub,
        }
    }
}

impl Place {
    /// The address that this says, of the structure at `start`.
    pub fn read(self, memory: &Memory<'_>, start: u64) -> Option<u64> {
        match self {
            Self::Pointer(offset) => memory.word(start.checked_add(offset)?),
            Self::Offset(offset) => {
                start.checked_add(memory.half(start.checked_add(offset)?)?.into())
            }
        }
    }
}
