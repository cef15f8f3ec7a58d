//! The running kernel's type information (BTF), read for the layout of its structures.
//!
//! Programs for the kernel are written in Rust, which has no relocations for kernel structures. So
//! user space looks up every offset in the kernel's own description (`/sys/kernel/btf/vmlinux`) and
//! hands it to the programs. The format is described in the kernel's documentation (`bpf/btf.rst`).
//!
//! The bytes are not trusted: every read is checked, every walk is bounded, and whatever does not
//! fit is an error.

use std::collections::HashMap;

mod error;
mod types;

pub use error::BtfError;
use types::{DEPTH, Type, Types, kind};

/// Most members looked at in one lookup; the largest structures of the kernel have hundreds.
const MEMBERS: u32 = 1_000_000;

/// The kernel's types, ready for lookups by name.
#[derive(Debug)]
pub struct Btf {
    types: Types,
    /// Structures, unions and names for them; of several with one name, the first.
    structures: HashMap<Box<str>, u32>,
}

/// A member, as found by its name.
#[derive(Clone, Copy)]
struct Member {
    type_id: u32,
    /// Distance from the start of the structure searched, in bits.
    bits: u64,
    bit_field: bool,
}

impl Btf {
    /// Reads the types in `bytes`, the contents of `/sys/kernel/btf/vmlinux`, and indexes the names.
    ///
    /// Fails when the bytes are not BTF, are damaged, or hold a kind of type that is not known.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, BtfError> {
        let types = Types::parse(bytes)?;
        let mut structures = HashMap::new();
        let mut typedefs = Vec::new();
        for id in types.ids() {
            let found = types.type_at(id)?;
            let Some(name) = types.name(found.name).filter(|name| !name.is_empty()) else {
                continue;
            };
            match found.kind {
                kind::STRUCT | kind::UNION => {
                    structures.entry(name.into()).or_insert(id);
                }
                kind::TYPEDEF => typedefs.push((name, id)),
                _ => {}
            }
        }
        // A structure's own name goes before a name given to another one.
        for (name, id) in typedefs {
            structures.entry(name.into()).or_insert(id);
        }
        Ok(Self { types, structures })
    }

    /// Distance in bytes from the start of `structure` to a member.
    ///
    /// `path` is a member's name, or several joined by dots to look into structures held by value.
    /// Anonymous structures and unions need no mention. Pointers are not followed.
    ///
    /// Fails when a part is missing, is not a structure though the path goes on, or is a bit-field.
    pub fn offset_of(&self, structure: &str, path: &str) -> Result<u32, BtfError> {
        let (bits, _) = self.locate(structure, path)?;
        u32::try_from(bits / 8).map_err(|_| BtfError::Damaged("an offset is larger than memory"))
    }

    /// Size in bytes of a member; `path` and errors as in [`Btf::offset_of`].
    pub fn member_size(&self, structure: &str, path: &str) -> Result<u32, BtfError> {
        let (_, type_id) = self.locate(structure, path)?;
        self.size(type_id)
    }

    /// Size in bytes of a structure.
    pub fn size_of(&self, structure: &str) -> Result<u32, BtfError> {
        Ok(self.structure(structure)?.size_or_type)
    }

    /// How many parameters a function has; none when there is no function of that name.
    pub fn parameters(&self, function: &str) -> Option<usize> {
        let found = self.types.ids().find_map(|id| {
            let found = self.types.type_at(id).ok()?;
            let named = found.kind == kind::FUNC && self.types.name(found.name) == Some(function);
            named.then_some(found)
        })?;
        let prototype = self.types.type_at(found.size_or_type).ok()?;
        (prototype.kind == kind::FUNC_PROTO).then_some(prototype.count)
    }

    fn structure(&self, name: &str) -> Result<Type, BtfError> {
        let missing = || BtfError::NoStructure(name.to_owned());
        let found = self
            .types
            .resolve(*self.structures.get(name).ok_or_else(missing)?)?;
        if !found.is_structure() {
            return Err(missing());
        }
        Ok(found)
    }

    /// Follows a path: the distance in bits, and the type of the last member.
    fn locate(&self, structure: &str, path: &str) -> Result<(u64, u32), BtfError> {
        let mut inside = self.structure(structure)?;
        let mut bits = 0;
        let mut budget = MEMBERS;
        let mut parts = path.split('.').peekable();
        loop {
            let part = parts.next().unwrap_or_default();
            let (structure, member) = (structure.to_owned(), part.to_owned());
            let Some(found) = self.find_member(inside, part, 0, &mut budget)? else {
                return Err(BtfError::NoMember { structure, member });
            };
            bits += found.bits;
            if found.bit_field || bits % 8 != 0 {
                return Err(BtfError::BitField { structure, member });
            }
            if parts.peek().is_none() {
                return Ok((bits, found.type_id));
            }
            inside = self.types.resolve(found.type_id)?;
            if !inside.is_structure() {
                return Err(BtfError::NotAStructure { structure, member });
            }
        }
    }

    /// Looks for a member by name, also inside the anonymous structures and unions.
    fn find_member(
        &self,
        inside: Type,
        name: &str,
        depth: u32,
        budget: &mut u32,
    ) -> Result<Option<Member>, BtfError> {
        if depth > DEPTH {
            return Err(BtfError::Damaged("structures lie too deep in each other"));
        }
        for position in (0..inside.count).map(|index| inside.data + 12 * index) {
            *budget = budget
                .checked_sub(1)
                .ok_or(BtfError::Damaged("a structure has too many members"))?;
            let type_id = self.types.word(position + 4)?;
            let place = self.types.word(position + 8)?;
            let (bits, width) = if inside.flag {
                (place & 0xFF_FFFF, place >> 24)
            } else {
                (place, 0)
            };
            match self.types.name(self.types.word(position)?) {
                Some("") => {
                    let nested = self.types.resolve(type_id)?;
                    if nested.is_structure()
                        && let Some(mut member) =
                            self.find_member(nested, name, depth + 1, budget)?
                    {
                        member.bits += u64::from(bits);
                        return Ok(Some(member));
                    }
                }
                Some(found) if found == name => {
                    let bit_field = width != 0 || self.is_partial_integer(type_id)?;
                    return Ok(Some(Member {
                        type_id,
                        bits: bits.into(),
                        bit_field,
                    }));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// Whether this is an integer that uses some bits of its bytes only: how compilers without the
    /// flag described bit-fields.
    fn is_partial_integer(&self, type_id: u32) -> Result<bool, BtfError> {
        let found = self.types.resolve(type_id)?;
        if found.kind != kind::INT {
            return Ok(false);
        }
        let encoding = self.types.word(found.data)?;
        let (first_bit, width) = (encoding >> 16 & 0xFF, encoding & 0xFF);
        Ok(first_bit != 0 || u64::from(width) != 8 * u64::from(found.size_or_type))
    }

    fn size(&self, type_id: u32) -> Result<u32, BtfError> {
        let mut elements = 1_u32;
        let mut id = type_id;
        for _ in 0..DEPTH {
            let found = self.types.resolve(id)?;
            let size = match found.kind {
                kind::PTR => size_of::<*const ()>() as u32,
                kind::ARRAY => {
                    let count = self.types.word(found.data + 8)?;
                    elements = elements
                        .checked_mul(count)
                        .ok_or(BtfError::Damaged("an array is larger than memory"))?;
                    id = self.types.word(found.data)?;
                    continue;
                }
                kind::INT
                | kind::STRUCT
                | kind::UNION
                | kind::ENUM
                | kind::FLOAT
                | kind::ENUM64 => found.size_or_type,
                _ => return Err(BtfError::Damaged("a member has a type without a size")),
            };
            return size
                .checked_mul(elements)
                .ok_or(BtfError::Damaged("a type is larger than memory"));
        }
        Err(BtfError::Damaged("arrays lie too deep in each other"))
    }
}

#[cfg(test)]
mod tests;
