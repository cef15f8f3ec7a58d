//! The types as they lie in the bytes: checked reading, no names looked up.

use std::ops::{Range, RangeInclusive};

use super::BtfError;

/// Longest name that is read; the kernel's own limit is 512 bytes.
const NAME_LEN: usize = 512;
/// Deepest nesting of anonymous structures, and longest chain of typedefs, that is followed.
pub const DEPTH: u32 = 32;

/// The kinds of types, as the kernel numbers them (`include/uapi/linux/btf.h`).
pub mod kind {
    pub const INT: u32 = 1;
    pub const PTR: u32 = 2;
    pub const ARRAY: u32 = 3;
    pub const STRUCT: u32 = 4;
    pub const UNION: u32 = 5;
    pub const ENUM: u32 = 6;
    pub const FWD: u32 = 7;
    pub const TYPEDEF: u32 = 8;
    pub const VOLATILE: u32 = 9;
    pub const CONST: u32 = 10;
    pub const RESTRICT: u32 = 11;
    pub const FUNC: u32 = 12;
    pub const FUNC_PROTO: u32 = 13;
    pub const VAR: u32 = 14;
    pub const DATASEC: u32 = 15;
    pub const FLOAT: u32 = 16;
    pub const DECL_TAG: u32 = 17;
    pub const TYPE_TAG: u32 = 18;
    pub const ENUM64: u32 = 19;
}

/// All types of a kernel.
#[derive(Debug)]
pub struct Types {
    bytes: Vec<u8>,
    /// Where the names lie in `bytes`.
    strings: Range<usize>,
    /// Where each type lies in `bytes`; the first one is type 1.
    positions: Vec<usize>,
}

/// The fixed part of a type.
#[derive(Clone, Copy)]
pub struct Type {
    /// Where the name lies among the names.
    pub name: u32,
    /// One of [`kind`], zero for `void`.
    pub kind: u32,
    /// Number of members, values or parameters.
    pub count: usize,
    /// Whether the offsets of members carry the width of bit-fields.
    pub flag: bool,
    /// Size in bytes, or the type referred to, by kind.
    pub size_or_type: u32,
    /// Where the kind's own data begins.
    pub data: usize,
}

impl Type {
    /// Type 0, which is not stored.
    const VOID: Self = Self {
        name: 0,
        kind: 0,
        count: 0,
        flag: false,
        size_or_type: 0,
        data: 0,
    };

    /// Whether it has members.
    pub fn is_structure(self) -> bool {
        matches!(self.kind, kind::STRUCT | kind::UNION)
    }

    /// How many bytes of its own follow the fixed part; none for a kind that is not known.
    fn data_len(self) -> Option<usize> {
        Some(match self.kind {
            kind::INT | kind::VAR | kind::DECL_TAG => 4,
            kind::ARRAY => 12,
            kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12 * self.count,
            kind::ENUM | kind::FUNC_PROTO => 8 * self.count,
            kind::PTR | kind::FWD | kind::TYPEDEF | kind::VOLATILE | kind::CONST => 0,
            kind::RESTRICT | kind::FUNC | kind::FLOAT | kind::TYPE_TAG => 0,
            _ => return None,
        })
    }
}

impl Types {
    /// Finds where each type begins.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, BtfError> {
        const MAGIC: u16 = 0xEB9F;
        if bytes.first_chunk().map(|magic| u16::from_ne_bytes(*magic)) != Some(MAGIC) {
            return Err(BtfError::NotBtf);
        }
        let mut types = Self {
            bytes,
            strings: 0..0,
            positions: Vec::new(),
        };
        let section = types.section(8)?;
        types.strings = types.section(16)?;
        let mut position = section.start;
        while position < section.end {
            let found = types.read(position)?;
            types.positions.push(position);
            let length = found.data_len().ok_or(BtfError::UnknownKind {
                kind: found.kind,
                id: types.positions.len(),
            })?;
            position = found.data + length;
        }
        if position != section.end {
            return Err(BtfError::Damaged("a type reaches beyond the types"));
        }
        Ok(types)
    }

    /// The bytes of a section, from its two words in the header.
    fn section(&self, field: usize) -> Result<Range<usize>, BtfError> {
        let header = self.word(4)? as usize;
        let start = header + self.word(field)? as usize;
        let end = start + self.word(field + 4)? as usize;
        if end > self.bytes.len() {
            return Err(BtfError::Damaged("it is shorter than its header says"));
        }
        Ok(start..end)
    }

    /// The numbers of all types.
    pub fn ids(&self) -> RangeInclusive<u32> {
        1..=u32::try_from(self.positions.len()).unwrap_or(u32::MAX)
    }

    /// The type behind typedefs and qualifiers.
    pub fn resolve(&self, id: u32) -> Result<Type, BtfError> {
        let mut id = id;
        for _ in 0..DEPTH {
            let found = self.type_at(id)?;
            match found.kind {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    id = found.size_or_type;
                }
                _ => return Ok(found),
            }
        }
        Err(BtfError::Damaged("a chain of typedefs does not end"))
    }

    /// A type by its number.
    pub fn type_at(&self, id: u32) -> Result<Type, BtfError> {
        if id == 0 {
            return Ok(Type::VOID);
        }
        let position = self.positions.get(id as usize - 1);
        self.read(*position.ok_or(BtfError::Damaged("a type that does not exist is used"))?)
    }

    fn read(&self, position: usize) -> Result<Type, BtfError> {
        let info = self.word(position + 4)?;
        Ok(Type {
            name: self.word(position)?,
            kind: info >> 24 & 0x1F,
            count: (info & 0xFFFF) as usize,
            flag: info >> 31 != 0,
            size_or_type: self.word(position + 8)?,
            data: position + 12,
        })
    }

    /// A name; none when it lies outside the names, does not end, or is no text.
    pub fn name(&self, offset: u32) -> Option<&str> {
        let strings = &self.bytes[self.strings.clone()];
        let name = strings.get(offset as usize..)?;
        let end = name.iter().take(NAME_LEN).position(|byte| *byte == 0)?;
        str::from_utf8(&name[..end]).ok()
    }

    /// The four bytes at a position.
    pub fn word(&self, position: usize) -> Result<u32, BtfError> {
        self.bytes
            .get(position..)
            .and_then(|rest| rest.first_chunk())
            .map(|word| u32::from_ne_bytes(*word))
            .ok_or(BtfError::Damaged("it ends inside a type"))
    }
}
