//! Where V8 keeps things: what it says itself for debuggers, in variables named `v8dbg_...`.

use object::{Object as _, ObjectSymbol, read::elf::ElfFile64};

use crate::code_path::reader::runtimes::Object;

/// What all of these variables begin with.
const PREFIX: &[u8] = b"v8dbg_";
/// Most symbols that are looked through.
const SYMBOLS: usize = 1_000_000;

/// Offsets and numbers of one V8, each by the variable of that name. Those of members count from the
/// beginning of an object, those of frames from the frame pointer.
#[allow(
    missing_docs,
    reason = "each is named after the variable that it is read from"
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    pub map_instance_type: u64,
    pub function_shared: u64,
    pub shared_name_or_scope: u64,
    pub shared_script: u64,
    pub script_name: u64,
    pub script_source: u64,
    pub string_length: u64,
    pub one_byte_characters: u64,
    pub two_byte_characters: u64,
    pub cons_first: u64,
    pub cons_second: u64,
    pub sliced_parent: u64,
    pub sliced_offset: u64,
    pub thin_actual: u64,
    pub array_length: u64,
    pub bytecode_data: u64,
    /// Zero before V8 12.4, which keeps bytecode in a space of its own.
    pub bytecode_wrapper: u64,
    pub frame_function: i64,
    pub frame_context: i64,
    pub frame_bytecode: i64,
    pub frame_bytecode_offset: i64,
    pub scope_locals: u64,
    pub scope_variables: u64,
    pub type_map: u16,
    pub type_shared: u16,
    pub type_script: u16,
    pub type_scope: u16,
    pub type_bytecode: u16,
    pub type_bytes: u16,
    /// Zero before V8 12.4.
    pub type_trusted_bytes: u16,
    pub type_first_nonstring: u16,
    pub string_representation_mask: u16,
    pub string_encoding_mask: u16,
    pub cons_tag: u16,
    pub sliced_tag: u16,
    pub thin_tag: u16,
    pub smi_shift: u32,
}

/// Takes the value of a variable.
type Setter = fn(&mut Layout, i32) -> Option<()>;

macro_rules! members {
    ($($($name:literal)|+ => $member:ident),* $(,)?) => {
        [$((&[$($name),+], |layout: &mut Layout, value: i32| {
            layout.$member = value.try_into().ok()?;
            Some(())
        })),*]
    };
}

/// A member, the names that its variable has had, the oldest first, and how it is set.
type Member = (&'static [&'static str], Setter);

/// What must be known.
const MEMBERS: [Member; 35] = members![
    "class_Map__instance_type__uint16_t" => map_instance_type,
    "class_JSFunction__shared__SharedFunctionInfo" => function_shared,
    "class_SharedFunctionInfo__name_or_scope_info__Object"
        | "class_SharedFunctionInfo__name_or_scope_info__Tagged_Object_"
        | "class_SharedFunctionInfo__name_or_scope_info__Tagged_NameOrScopeInfoT_"
        => shared_name_or_scope,
    "class_SharedFunctionInfo__script_or_debug_info__HeapObject"
        | "class_SharedFunctionInfo__script__Tagged_HeapObject_"
        => shared_script,
    "class_Script__name__Object" => script_name,
    "class_Script__source__Object" => script_source,
    "class_String__length__int32_t" => string_length,
    "class_SeqOneByteString__chars__char" => one_byte_characters,
    "class_SeqTwoByteString__chars__char" => two_byte_characters,
    "class_ConsString__first__String" => cons_first,
    "class_ConsString__second__String" => cons_second,
    "class_SlicedString__parent__String" => sliced_parent,
    "class_SlicedString__offset__SMI" => sliced_offset,
    "class_ThinString__actual__String" => thin_actual,
    "class_FixedArrayBase__length__SMI" => array_length,
    "class_BytecodeArray__data__uintptr_t" => bytecode_data,
    "off_fp_function" => frame_function,
    "off_fp_context" => frame_context,
    "off_fp_bytecode_array" => frame_bytecode,
    "off_fp_bytecode_offset" => frame_bytecode_offset,
    "scopeinfo_idx_ncontextlocals" => scope_locals,
    "scopeinfo_idx_first_vars" => scope_variables,
    "type_Map__MAP_TYPE" => type_map,
    "type_SharedFunctionInfo__SHARED_FUNCTION_INFO_TYPE" => type_shared,
    "type_Script__SCRIPT_TYPE" => type_script,
    "type_ScopeInfo__SCOPE_INFO_TYPE" => type_scope,
    "type_BytecodeArray__BYTECODE_ARRAY_TYPE" => type_bytecode,
    "type_ByteArray__BYTE_ARRAY_TYPE" => type_bytes,
    "FirstNonstringType" => type_first_nonstring,
    "StringRepresentationMask" => string_representation_mask,
    "StringEncodingMask" => string_encoding_mask,
    "ConsStringTag" => cons_tag,
    "SlicedStringTag" => sliced_tag,
    "ThinStringTag" => thin_tag,
    "SmiShiftSize" => smi_shift,
];

/// What only some have.
const OPTIONAL: [Member; 2] = members![
    "class_BytecodeArray__wrapper__Tagged_BytecodeWrapper_" => bytecode_wrapper,
    "type_TrustedByteArray__TRUSTED_BYTE_ARRAY_TYPE" => type_trusted_bytes,
];

/// In a bytecode array before V8 12.4: where the positions in the source are. Later they follow the wrapper.
const POSITIONS: u64 = 32;

impl Layout {
    /// In a bytecode array: where the positions in the source are.
    pub fn positions(&self) -> u64 {
        match self.bytecode_wrapper {
            0 => POSITIONS,
            wrapper => wrapper.saturating_add(8),
        }
    }

    /// What kind of object these are.
    pub fn type_positions(&self) -> u16 {
        match self.type_trusted_bytes {
            0 => self.type_bytes,
            kind => kind,
        }
    }

    /// In a scope since V8 13: where the place in the source at which the function begins is, and behind it the
    /// one at which it ends. Before they lie behind the variables.
    pub fn scope_start(&self) -> Option<u64> {
        let start = self.scope_locals.checked_add(1)?;
        (start.checked_add(2)? == self.scope_variables).then_some(start)
    }

    /// Reads what a file says. None when it has no V8; an error names what is not said.
    pub fn of(
        object: &Object<'_>,
        read: impl Fn(u64) -> Option<i32>,
    ) -> Option<Result<Self, String>> {
        let file: ElfFile64<'_> = ElfFile64::parse(object.bytes()).ok()?;
        let mut layout = Self::default();
        let mut found = [false; MEMBERS.len() + OPTIONAL.len()];
        let mut any = false;
        for symbol in file.dynamic_symbols().take(SYMBOLS) {
            let name = symbol
                .name_bytes()
                .ok()
                .and_then(|name| name.strip_prefix(PREFIX));
            let Some(name) = name.filter(|_| !symbol.is_undefined()) else {
                continue;
            };
            any = true;
            let is_it = |(names, _): &&Member| names.iter().any(|known| known.as_bytes() == name);
            let members = MEMBERS.iter().chain(&OPTIONAL);
            let known = members.enumerate().find(|(_, member)| is_it(member));
            if let Some((number, (_, set))) = known
                && let Some(value) = read(object.address(symbol.address()))
                && set(&mut layout, value).is_some()
            {
                found[number] = true;
            }
        }
        if !any {
            return None;
        }
        let missing = MEMBERS.iter().zip(found).find(|(_, found)| !found);
        Some(match missing {
            Some(((names, _), _)) => Err(format!("v8dbg_{}", names[0])),
            None => Ok(layout),
        })
    }
}
