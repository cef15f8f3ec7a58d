//! The layouts of Go's line table.

/// Most functions that are believed.
const FUNCTIONS: usize = 4_000_000;

/// Where everything is: places in bytes from the header on, or from a function's record on.
pub struct Header {
    version: Version,
    /// Size of the smallest instruction.
    pub quantum: u64,
    /// Number of functions.
    pub functions: usize,
    /// Table of functions: their entries and the places of their records.
    pub function_table: usize,
    /// Names of functions.
    pub names: usize,
    /// Files of each compilation unit.
    pub units: usize,
    /// Names of files.
    pub files: usize,
    /// Packed values by address.
    pub values: usize,
    /// Address of the code, if the header has it.
    pub text: u64,
    /// In a function's record: its name.
    pub name: usize,
    /// In a function's record: the packed table of how far its frame reaches.
    pub frame: usize,
    /// In a function's record: what is special about it, where every version that has this layout tells.
    pub flags: Option<usize>,
    /// In a function's record: the packed table of its files.
    pub file: usize,
    /// In a function's record: the packed table of its lines.
    pub line: usize,
    /// In a function's record: the number of its other packed tables.
    pub tables: usize,
    /// In a function's record: its compilation unit.
    pub unit: usize,
    /// Size of a function's record. Its last byte tells how many data entries follow its tables.
    pub size: usize,
    /// Records of inlined calls, where they are understood.
    pub inlined: Option<InlinedCall>,
}

/// Layout of the record of an inlined call.
#[derive(Clone, Copy)]
pub struct InlinedCall {
    /// Its size.
    pub size: usize,
    /// Where the name of the called function is.
    pub name: usize,
    /// Where the place of the call is.
    pub parent: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    /// Go 1.16 and 1.17: addresses are absolute.
    Go116,
    /// Go 1.18 and 1.19: addresses are relative to the code.
    Go118,
    /// Since Go 1.20: functions know the line they begin at.
    Go120,
}

impl Header {
    /// Reads the header of a table with pointers of 64 bits, least significant byte first.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let version = match number(bytes, 0)? {
            0xffff_fffa => Version::Go116,
            0xffff_fff0 => Version::Go118,
            0xffff_fff1 => Version::Go120,
            _ => return None,
        };
        let [0, 0, quantum @ (1 | 2 | 4), 8] = *bytes.get(4..8)? else {
            return None;
        };
        let word = |index: usize| word(bytes, 8 + 8 * index);
        let place = |index| usize::try_from(word(index)?).ok();
        let functions = place(0).filter(|functions| *functions <= FUNCTIONS)?;
        let relative = version != Version::Go116;
        let first = if relative { 3 } else { 2 };
        // An absolute address before the name makes the record longer.
        let before = if relative { 0 } else { 4 };
        let size = match version {
            Version::Go120 | Version::Go116 => 44,
            Version::Go118 => 40,
        };
        let header = Self {
            version,
            quantum: quantum.into(),
            functions,
            names: place(first)?,
            units: place(first + 1)?,
            files: place(first + 2)?,
            values: place(first + 3)?,
            function_table: place(first + 4)?,
            text: if relative { word(2)? } else { 0 },
            name: before + 4,
            frame: before + 16,
            // Behind the kind of the function, with which the fixed part of the record ends.
            flags: relative.then_some(size - 3),
            file: before + 20,
            line: before + 24,
            tables: before + 28,
            unit: before + 32,
            size,
            inlined: version.inlined(),
        };
        let places = [header.names, header.units, header.files, header.values];
        let inside = places.iter().all(|place| *place < bytes.len());
        // The table ends with the end of the last function.
        (inside && header.function_entry(bytes, functions).is_some()).then_some(header)
    }

    /// Whether addresses in the table are counted from the start of the code.
    pub fn is_relative(&self) -> bool {
        self.version != Version::Go116
    }

    /// Which word of the module's description tells what functions' data is counted from.
    pub fn function_data_word(&self) -> Option<u64> {
        match self.version {
            Version::Go116 => None,
            Version::Go118 => Some(38),
            Version::Go120 => Some(40),
        }
    }

    /// Where a function begins; behind the last function, where that one ends.
    pub fn function_entry(&self, bytes: &[u8], index: usize) -> Option<u64> {
        self.function_field(bytes, index.checked_mul(2)?)
    }

    /// Where the record of a function is, from the table on.
    pub fn function_place(&self, bytes: &[u8], index: usize) -> Option<usize> {
        let place = self.function_field(bytes, index.checked_mul(2)?.checked_add(1)?)?;
        usize::try_from(place).ok()
    }

    fn function_field(&self, bytes: &[u8], index: usize) -> Option<u64> {
        let size = if self.is_relative() { 4 } else { 8 };
        let at = self.function_table.checked_add(index.checked_mul(size)?)?;
        if self.is_relative() {
            number(bytes, at).map(u64::from)
        } else {
            word(bytes, at)
        }
    }
}

impl Version {
    fn inlined(self) -> Option<InlinedCall> {
        let (size, name, parent) = match self {
            Self::Go116 => return None,
            Self::Go118 => (20, 12, 16),
            Self::Go120 => (16, 4, 8),
        };
        Some(InlinedCall { size, name, parent })
    }
}

/// Four bytes as a number.
pub fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

/// Eight bytes as a number.
pub fn word(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*bytes))
}
