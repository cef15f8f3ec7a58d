//! From the tables to the layout.

use super::{Blob, Frame, Heaps, Layout, Method, Methods, Place, Scopes, Source};
use crate::code_path::reader::{memory::Memory, runtimes::hotspot::tables::Tables};

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
