//! Which methods, inlined ones included, a compiled method is in at a place of its code.

use super::{
    code::Blob,
    layout::{Layout, Methods as MethodsAt, Place, Scopes},
    methods::Methods,
    numbers::Numbers,
};
use crate::code_path::reader::{memory::Memory, runtimes::ManagedFrame};

/// Most methods inlined into one another.
const DEPTH: usize = 64;
/// Most places that a compiled method has.
const PLACES: u64 = 1 << 22;
/// Largest number of a method among those that scopes name.
const METHODS: u32 = 1 << 20;

/// A scope: a method, and where in its byte code.
struct Scope {
    outer: u32,
    method: u64,
    index: Option<u32>,
}

/// The frames of a compiled method at an address of its code, innermost first. When it does not say
/// more, the method alone.
pub fn frames(
    layout: &Layout,
    methods: &mut Methods,
    memory: &Memory<'_>,
    blob: &Blob,
    address: u64,
) -> Option<Vec<ManagedFrame>> {
    let scopes = layout.scopes.as_ref();
    let inlined = scopes.and_then(|scopes| {
        let found = Inside {
            layout,
            scopes,
            memory,
            blob,
        };
        found.frames(methods, address)
    });
    inlined.or_else(|| {
        let method = methods.frame(&layout.method, layout.left_out, memory, blob.method, None)?;
        Some(vec![method])
    })
}

/// What is known of the places of one compiled method.
struct Inside<'a> {
    layout: &'a Layout,
    scopes: &'a Scopes,
    memory: &'a Memory<'a>,
    blob: &'a Blob,
}

impl Inside<'_> {
    fn frames(&self, methods: &mut Methods, address: u64) -> Option<Vec<ManagedFrame>> {
        let mut at = self.scope_at(address)?;
        let mut frames = Vec::new();
        for _ in 0..DEPTH {
            let scope = self.scope(at)?;
            let frame = methods.frame(
                &self.layout.method,
                self.layout.left_out,
                self.memory,
                scope.method,
                scope.index,
            )?;
            frames.push(ManagedFrame {
                inlined: true,
                ..frame
            });
            // Inner scopes come after the outer ones that they lie in.
            match scope.outer {
                0 if scope.method == self.blob.method => {
                    frames.last_mut()?.inlined = false;
                    return Some(frames);
                }
                outer if outer != 0 && outer < at => at = outer,
                _ => return None,
            }
        }
        None
    }

    /// Where the scope at an address is described: the table of places ascends by them, and has each
    /// place that a call returns to.
    fn scope_at(&self, address: u64) -> Option<u32> {
        let wanted = i64::try_from(address.checked_sub(self.blob.begin)?).ok()?;
        let first = self.offset(self.scopes.places)?;
        let size = self.offset(self.scopes.places_end)?.checked_sub(first)?;
        let count = size / self.scopes.place_size;
        let (mut low, mut high) = (0, count.min(PLACES));
        while low < high {
            let middle = low + (high - low) / 2;
            let place = first.checked_add(middle.checked_mul(self.scopes.place_size)?)?;
            let code = self
                .memory
                .half(place.checked_add(self.scopes.place_code)?)?;
            match i64::from(code.cast_signed()).cmp(&wanted) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => {
                    let scope = place.checked_add(self.scopes.place_scope)?;
                    return self.memory.half(scope).filter(|scope| *scope != 0);
                }
            }
        }
        None
    }

    fn scope(&self, at: u32) -> Option<Scope> {
        let data = match self.scopes.data {
            Place::Offset(place) => self.offset(place)?,
            pointer @ Place::Pointer(_) => pointer.read(self.memory, self.blob.address)?,
        };
        let address = data.checked_add(at.into())?;
        let mut numbers = Numbers::new(self.memory, address, self.layout.left_out);
        let outer = numbers.next()?;
        let method = numbers
            .next()?
            .checked_sub(1)
            .filter(|number| *number < METHODS)?;
        // One is added to it, so that the state before the first byte code can be told.
        let index = numbers.next()?.checked_sub(1);
        let methods = self.methods()?;
        let method = self
            .memory
            .word(methods.checked_add(u64::from(method) * 8)?)?;
        Some(Scope {
            outer,
            method,
            index,
        })
    }

    fn methods(&self) -> Option<u64> {
        let blob = self.blob.address;
        let half = |offset: u64| {
            let half = self.memory.half(blob.checked_add(offset)?)?;
            Some(u64::from(half))
        };
        match self.scopes.methods {
            MethodsAt::InBlob(offset) => blob.checked_add(half(offset)?),
            MethodsAt::InData(data, offset) => {
                let methods = self.memory.quarter(blob.checked_add(offset)?)?;
                blob.checked_add(half(data)?)?.checked_add(methods.into())
            }
            MethodsAt::Apart(pointer, before) => {
                let start = self.memory.word(blob.checked_add(pointer)?)?;
                start.checked_add(half(before)?)
            }
        }
    }

    /// The address that a member says by its distance from where such things are kept.
    fn offset(&self, member: u64) -> Option<u64> {
        let start = match self.scopes.apart {
            Some(pointer) => self.memory.word(self.blob.address.checked_add(pointer)?)?,
            None => self.blob.address,
        };
        let distance = self.memory.half(self.blob.address.checked_add(member)?)?;
        start.checked_add(distance.into())
    }
}
