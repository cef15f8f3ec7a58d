//! The tables in which HotSpot describes itself to debuggers: where the members of its structures
//! lie, how large these are, and some constants.

use std::collections::HashMap;

use crate::code_path::reader::memory::Memory;

/// Most entries of one table; those of JDK 17 have up to 1,700.
const ENTRIES: usize = 10_000;
/// Longest name.
const NAME: usize = 128;

/// The types whose members and sizes are of use.
const TYPES: [&str; 22] = [
    "Abstract_VM_Version",
    "CodeBlob",
    "CodeCache",
    "CodeHeap",
    "CompiledMethod",
    "ConstMethod",
    "ConstantPool",
    "GenericGrowableArray",
    "GrowableArray<int>",
    "GrowableArrayBase",
    "HeapBlock",
    "HeapBlock::Header",
    "InstanceKlass",
    "JDK_Version",
    "Klass",
    "Method",
    "PcDesc",
    "StubRoutines",
    "Symbol",
    "VirtualSpace",
    "frame",
    "nmethod",
];

/// What the tables say, by names like `Method::_constMethod`.
#[derive(Debug, Default)]
pub struct Tables {
    members: HashMap<String, u64>,
    sizes: HashMap<String, u64>,
    constants: HashMap<String, i64>,
}

/// One table. The library says where it is and how its entries are laid out.
struct Table<'a> {
    symbol: &'a dyn Fn(&str) -> Option<u64>,
    memory: &'a Memory<'a>,
    /// What the names of its symbols begin with.
    prefix: &'static str,
}

impl Tables {
    /// Reads those of a running virtual machine, whose library has symbols at these addresses; none
    /// when it has no tables.
    pub fn read(symbol: &dyn Fn(&str) -> Option<u64>, memory: &Memory<'_>) -> Option<Self> {
        let table = |prefix| Table {
            symbol,
            memory,
            prefix,
        };
        Some(Self {
            members: members(&table("gHotSpotVMStruct"))?,
            sizes: sizes(&table("gHotSpotVMType"))?,
            // These say more exactly what has been the same so far.
            constants: constants(&table("gHotSpotVMIntConstant")).unwrap_or_default(),
        })
    }

    /// The offset of the first of these members that there is; of a static one its address.
    pub fn member(&self, names: &[&str]) -> Option<u64> {
        let mut places = names.iter().filter_map(|name| self.members.get(*name));
        places.next().copied()
    }

    /// The size of a type.
    pub fn size(&self, name: &str) -> Option<u64> {
        self.sizes.get(name).copied()
    }

    /// The first of these constants that there is.
    pub fn constant(&self, names: &[&str]) -> Option<i64> {
        let mut values = names.iter().filter_map(|name| self.constants.get(*name));
        values.next().copied()
    }
}

fn members(table: &Table<'_>) -> Option<HashMap<String, u64>> {
    let name_at = table.number("EntryFieldNameOffset")?;
    let is_static_at = table.number("EntryIsStaticOffset")?;
    let offset_at = table.number("EntryOffsetOffset")?;
    let address_at = table.number("EntryAddressOffset")?;
    let mut members = HashMap::new();
    table.each("EntryTypeNameOffset", |entry, of| {
        if !TYPES.contains(&of) {
            return Some(());
        }
        let name = table.text(entry, name_at)?;
        let is_static = table.memory.half(entry.checked_add(is_static_at)?)? != 0;
        let place = if is_static { address_at } else { offset_at };
        let value = table.memory.word(entry.checked_add(place)?)?;
        members.insert(format!("{of}::{name}"), value);
        Some(())
    })?;
    Some(members)
}

fn sizes(table: &Table<'_>) -> Option<HashMap<String, u64>> {
    let size_at = table.number("EntrySizeOffset")?;
    let mut sizes = HashMap::new();
    table.each("EntryTypeNameOffset", |entry, of| {
        if TYPES.contains(&of) {
            let size = table.memory.word(entry.checked_add(size_at)?)?;
            sizes.insert(of.to_owned(), size);
        }
        Some(())
    })?;
    Some(sizes)
}

fn constants(table: &Table<'_>) -> Option<HashMap<String, i64>> {
    let value_at = table.number("EntryValueOffset")?;
    let mut constants = HashMap::new();
    table.each("EntryNameOffset", |entry, name| {
        let of = name.split("::").next().unwrap_or(name);
        if of == "frame" || of.starts_with("ConstMethod") {
            let value = table.memory.half(entry.checked_add(value_at)?)?;
            constants.insert(name.to_owned(), value.cast_signed().into());
        }
        Some(())
    })?;
    Some(constants)
}

impl Table<'_> {
    /// Calls a function with each entry's address and the name at this place of it. The table ends with
    /// an entry without a name.
    fn each(&self, name: &str, mut take: impl FnMut(u64, &str) -> Option<()>) -> Option<()> {
        let name_at = self.number(name)?;
        let stride = self.number("EntryArrayStride")?;
        let mut entry = self.number("s")?;
        for _ in 0..ENTRIES {
            if self.memory.word(entry.checked_add(name_at)?)? == 0 {
                return Some(());
            }
            take(entry, &self.text(entry, name_at)?)?;
            entry = entry.checked_add(stride)?;
        }
        None
    }

    fn text(&self, entry: u64, place: u64) -> Option<String> {
        let address = self.memory.word(entry.checked_add(place)?)?;
        String::from_utf8(self.memory.bytes_to_zero(address, NAME)?).ok()
    }

    /// The value of a variable of the library, most of which say what lies where in an entry.
    fn number(&self, name: &str) -> Option<u64> {
        let address = (self.symbol)(&format!("{}{name}", self.prefix))?;
        self.memory.word(address)
    }
}
