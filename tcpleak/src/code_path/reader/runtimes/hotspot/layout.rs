//! Where the running version of HotSpot keeps what is read of it.

use super::tables::Tables;
use crate::code_path::reader::memory::Memory;

/// What all of it rests on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Of the memory that holds code.
    pub heaps: Heaps,
    /// Of a piece of code.
    pub blob: Blob,
    /// Of a method.
    pub method: Method,
    /// Of what is known of a compiled method's places; none when lines and inlined methods of such
    /// cannot be read.
    pub scopes: Option<Scopes>,
    /// Of frames on the stack.
    pub frame: Frame,
    /// How numbers are written in few bytes: how many values of a byte are left out (JDK 20).
    pub left_out: u8,
}

/// The memory that holds code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heaps {
    /// Address of the pointer to the only one, as in JDK 8.
    pub only: Option<u64>,
    /// Address of the pointer to the array of them.
    pub array: Option<u64>,
    /// In the array: how many.
    pub count: u64,
    /// In the array: pointer to the first.
    pub first: u64,
    /// In a heap: pointer to its first byte.
    pub start: u64,
    /// In a heap: pointer behind its last byte.
    pub end: u64,
    /// In a heap: pointer to the map of its segments.
    pub map: u64,
    /// In a heap: the size of a segment, as a power of two.
    pub segment: u64,
    /// Size of what stands before each piece of code.
    pub header: u64,
    /// In that: whether the piece is in use.
    pub used: u64,
}

/// A number that is an address, or counts from the beginning of the structure that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Here is an address.
    Pointer(u64),
    /// Here is an offset of four bytes.
    Offset(u64),
}

impl Default for Place {
    fn default() -> Self {
        Self::Offset(0)
    }
}

/// A piece of code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blob {
    /// Pointer to its name, which says what it is.
    pub name: u64,
    /// Its size.
    pub size: u64,
    /// Where its instructions begin.
    pub begin: Place,
    /// Where they end.
    pub end: Place,
    /// How many words its frames have.
    pub frame_size: u64,
    /// Of a compiled method: pointer to the method.
    pub method: u64,
    /// Of a compiled method: the number of the compilation.
    pub compilation: u64,
    /// Of a compiled method: where it goes on once what it was compiled for is no longer so.
    pub deoptimized: Vec<Place>,
    /// Of a compiled method: where in a frame the address lies then at which it was.
    pub original: Option<u64>,
}

/// A method.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Method {
    /// Pointer to its constant part.
    pub constant: u64,
    /// In that: pointer to the constants of its class.
    pub constants: u64,
    /// In that: the number of its name among these.
    pub name: u64,
    /// In that: size of its byte code.
    pub code_size: u64,
    /// In that: flags.
    pub flags: u64,
    /// The flag of methods with a table of lines.
    pub has_lines: u8,
    /// Size of that, behind which the byte code lies.
    pub size: u64,
    /// In constants: pointer to the class.
    pub holder: u64,
    /// In constants: how many.
    pub length: u64,
    /// Size of what stands before the constants.
    pub constants_size: u64,
    /// In a class: pointer to its constants.
    pub constants_of_class: u64,
    /// In a class: pointer to its name.
    pub class_name: u64,
    /// The number of the source file's name among the constants.
    pub source: Option<Source>,
    /// In a name: its length.
    pub name_length: u64,
    /// In a name: its bytes.
    pub name_bytes: u64,
}

/// Where the number of a source file's name lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// In the constants (JDK 15).
    Constants(u64),
    /// In the class.
    Class(u64),
}

/// What is known of a compiled method's places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scopes {
    /// Pointer to the memory that holds them apart from the code (JDK 23).
    pub apart: Option<u64>,
    /// The table of places.
    pub places: u64,
    /// What follows the table.
    pub places_end: u64,
    /// The scopes.
    pub data: Place,
    /// The methods that scopes name by number.
    pub methods: Methods,
    /// Size of a place in the table.
    pub place_size: u64,
    /// In a place: what of the code it is about.
    pub place_code: u64,
    /// In a place: its scope.
    pub place_scope: u64,
}

/// The methods that scopes name by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Methods {
    /// From the beginning of the piece of code, so many bytes as this says.
    InBlob(u64),
    /// From the piece's data, which is so many bytes from its beginning; then as many as the second
    /// says, a number of two bytes (JDK 23).
    InData(u64, u64),
    /// In memory of their own that this points to, behind so many bytes as the second says (JDK 25).
    Apart(u64, u64),
}

/// Frames on the stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Address of where the stub that enters Java from native code goes on, and its own number.
    pub entry_return: Option<u64>,
    /// Words from the frame pointer of an interpreted method to the caller's stack pointer.
    pub sender: i64,
    /// Whether the version is one with the layout that interpreted frames had in JDK 8.
    pub is_old: bool,
}

/// Finds it in the tables; else says what they lack.
pub fn find(tables: &Tables, memory: &Memory<'_>) -> Result<Layout, &'static str> {
    let is_old = tables.member(&["CodeCache::_heap"]).is_some();
    Ok(Layout {
        heaps: heaps(tables)?,
        blob: blob(tables)?,
        method: method(tables)?,
        scopes: scopes(tables),
        frame: Frame {
            entry_return: tables.member(&["StubRoutines::_call_stub_return_address"]),
            sender: tables
                .constant(&["frame::interpreter_frame_sender_sp_offset"])
                .unwrap_or(-1),
            is_old,
        },
        // No table says this, and the bytes do not show it. A later version has more to say only where
        // the tables have it.
        left_out: u8::from(version(tables, memory) >= Some(20)),
    })
}

/// The number of the JDK's version. JDK 22 has it in another place, where JDK 8 has that of HotSpot.
fn version(tables: &Tables, memory: &Memory<'_>) -> Option<u32> {
    match tables.member(&["JDK_Version::_current"]) {
        Some(current) => {
            let major = tables.member(&["JDK_Version::_major"]).unwrap_or(0);
            memory.byte(current.checked_add(major)?).map(u32::from)
        }
        None => memory.half(tables.member(&["Abstract_VM_Version::_vm_major_version"])?),
    }
}

fn needed(tables: &Tables, names: &[&'static str]) -> Result<u64, &'static str> {
    let name = names.first().copied().unwrap_or_default();
    tables.member(names).ok_or(name)
}

fn size(tables: &Tables, name: &'static str) -> Result<u64, &'static str> {
    tables.size(name).ok_or(name)
}

fn heaps(tables: &Tables) -> Result<Heaps, &'static str> {
    let only = tables.member(&["CodeCache::_heap"]);
    let array = tables.member(&["CodeCache::_heaps"]);
    let (count, first) = match (only, array) {
        (Some(_), _) => (0, 0),
        (None, None) => return Err("CodeCache::_heaps"),
        (None, Some(_)) => (
            needed(
                tables,
                &["GrowableArrayBase::_len", "GenericGrowableArray::_len"],
            )?,
            needed(tables, &["GrowableArray<int>::_data"])?,
        ),
    };
    let memory = needed(tables, &["CodeHeap::_memory"])?;
    let map = needed(tables, &["CodeHeap::_segmap"])?;
    let low = needed(tables, &["VirtualSpace::_low_boundary"])?;
    let high = needed(tables, &["VirtualSpace::_high_boundary"])?;
    let add = |left: u64, right: u64| left.checked_add(right).ok_or("CodeHeap::_memory");
    Ok(Heaps {
        only,
        array,
        count,
        first,
        start: add(memory, low)?,
        end: add(memory, high)?,
        map: add(map, low)?,
        segment: needed(tables, &["CodeHeap::_log2_segment_size"])?,
        header: size(tables, "HeapBlock")?,
        used: needed(tables, &["HeapBlock::Header::_used"])?,
    })
}

fn blob(tables: &Tables) -> Result<Blob, &'static str> {
    let begin = place(tables, &["CodeBlob::_code_begin"], "CodeBlob::_code_offset");
    let end = place(tables, &["CodeBlob::_code_end"], "CodeBlob::_data_offset");
    let pointers = [
        "CompiledMethod::_deopt_handler_begin",
        "CompiledMethod::_deopt_mh_handler_begin",
    ];
    let offsets = [
        "nmethod::_deoptimize_offset",
        "nmethod::_deoptimize_mh_offset",
        "nmethod::_deopt_handler_offset",
        "nmethod::_deopt_mh_handler_offset",
        "nmethod::_deopt_handler_entry_offset",
    ];
    let pointers = pointers.iter().map(|name| {
        let place = tables.member(&[name])?;
        Some(Place::Pointer(place))
    });
    let offsets = offsets.iter().map(|name| {
        let place = tables.member(&[name])?;
        Some(Place::Offset(place))
    });
    Ok(Blob {
        name: needed(tables, &["CodeBlob::_name"])?,
        size: needed(tables, &["CodeBlob::_size"])?,
        begin: begin.ok_or("CodeBlob::_code_begin")?,
        end: end.ok_or("CodeBlob::_code_end")?,
        frame_size: needed(tables, &["CodeBlob::_frame_size"])?,
        method: needed(tables, &["CompiledMethod::_method", "nmethod::_method"])?,
        compilation: needed(tables, &["nmethod::_compile_id"])?,
        deoptimized: pointers.chain(offsets).flatten().collect(),
        original: tables.member(&["nmethod::_orig_pc_offset"]),
    })
}

fn place(tables: &Tables, pointers: &[&str], offset: &str) -> Option<Place> {
    let pointer = tables.member(pointers).map(Place::Pointer);
    pointer.or_else(|| tables.member(&[offset]).map(Place::Offset))
}

fn method(tables: &Tables) -> Result<Method, &'static str> {
    let in_constants = tables.member(&["ConstantPool::_source_file_name_index"]);
    let in_class = tables.member(&["InstanceKlass::_source_file_name_index"]);
    let length = match tables.member(&["Symbol::_length"]) {
        Some(length) => length,
        // The upper half of one number (JDK 12 to 16).
        None => needed(tables, &["Symbol::_length_and_refcount"])?.wrapping_add(2),
    };
    let has_lines = tables.constant(&[
        "ConstMethod::_has_linenumber_table",
        "ConstMethodFlags::_misc_has_linenumber_table",
    ]);
    Ok(Method {
        constant: needed(tables, &["Method::_constMethod"])?,
        constants: needed(tables, &["ConstMethod::_constants"])?,
        name: needed(tables, &["ConstMethod::_name_index"])?,
        code_size: needed(tables, &["ConstMethod::_code_size"])?,
        flags: needed(
            tables,
            &["ConstMethod::_flags", "ConstMethod::_flags._flags"],
        )?,
        has_lines: has_lines
            .and_then(|flag| u8::try_from(flag).ok())
            .unwrap_or(1),
        size: size(tables, "ConstMethod")?,
        holder: needed(tables, &["ConstantPool::_pool_holder"])?,
        length: needed(tables, &["ConstantPool::_length"])?,
        constants_size: size(tables, "ConstantPool")?,
        constants_of_class: needed(tables, &["InstanceKlass::_constants"])?,
        class_name: needed(tables, &["Klass::_name"])?,
        source: in_constants
            .map(Source::Constants)
            .or(in_class.map(Source::Class)),
        name_length: length,
        name_bytes: needed(tables, &["Symbol::_body", "Symbol::_body[0]"])?,
    })
}

fn scopes(tables: &Tables) -> Option<Scopes> {
    let apart = tables.member(&["nmethod::_immutable_data"]);
    let data = match apart {
        Some(_) => Place::Offset(tables.member(&["nmethod::_scopes_data_offset"])?),
        None => place(
            tables,
            &["CompiledMethod::_scopes_data_begin"],
            "nmethod::_scopes_data_offset",
        )?,
    };
    let places_end = match apart {
        Some(_) => tables.member(&["nmethod::_scopes_data_offset"])?,
        None => tables.member(&["nmethod::_dependencies_offset"])?,
    };
    let methods = match tables.member(&["CodeBlob::_mutable_data"]) {
        Some(pointer) => Methods::Apart(pointer, tables.member(&["CodeBlob::_relocation_size"])?),
        None => {
            let offset = tables.member(&["nmethod::_metadata_offset"])?;
            match apart {
                Some(_) => Methods::InData(tables.member(&["CodeBlob::_data_offset"])?, offset),
                None => Methods::InBlob(offset),
            }
        }
    };
    Some(Scopes {
        apart,
        places: tables.member(&["nmethod::_scopes_pcs_offset"])?,
        places_end,
        data,
        methods,
        place_size: tables.size("PcDesc").filter(|size| *size > 0)?,
        place_code: tables.member(&["PcDesc::_pc_offset"])?,
        place_scope: tables.member(&["PcDesc::_scope_decode_offset"])?,
    })
}
