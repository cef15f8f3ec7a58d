//! One ELF file as the unwinder needs it.

use std::{
    ops::Range,
    slice,
    sync::{Arc, OnceLock},
};

use object::{
    elf,
    read::elf::{FileHeader, ProgramHeader},
};

use super::{
    super::{
        file_bytes::FileBytes,
        symbols::go::{Frame, LineTable},
    },
    arch,
    row::Row,
    sections::{self, Header, LITTLE, Program},
    table::{Context, Table},
};

/// Most segments that are looked at. A linker makes about ten.
const SEGMENTS: usize = 256;
/// The function that a program begins with lies this far behind the entry point at most.
const START_BYTES: u64 = 64;

/// One ELF file as the unwinder needs it: read once, used in many processes.
pub struct Image {
    bytes: FileBytes,
    segments: Vec<Segment>,
    entry: u64,
    tables: Vec<Table>,
    /// Looked for when it is needed.
    go: OnceLock<Option<LineTable>>,
}

/// A part of the file that is loaded.
#[derive(Clone, Copy)]
struct Segment {
    offset: u64,
    size: u64,
    address: u64,
    /// Where its memory ends, which is longer when variables follow that begin as zero.
    end: u64,
    is_code: bool,
}

impl Segment {
    fn of(program: &Program) -> Option<Self> {
        let (offset, size) = program.file_range(LITTLE);
        let address = program.p_vaddr(LITTLE);
        (program.p_type(LITTLE) == elf::PT_LOAD).then(|| Self {
            offset,
            size,
            address,
            end: address.saturating_add(program.p_memsz(LITTLE)),
            is_code: program.p_flags(LITTLE) & elf::PF_X != 0,
        })
    }
}

impl Image {
    /// Reads a file; none when it is no ELF file for this processor.
    pub fn parse(bytes: FileBytes) -> Option<Arc<Self>> {
        let data = &*bytes;
        let header = Header::parse(data).ok()?;
        if header.e_machine(LITTLE) != arch::MACHINE || !header.is_little_endian() {
            return None;
        }
        let programs = header.program_headers(LITTLE, data).ok()?;
        let programs = programs.get(..SEGMENTS).unwrap_or(programs);
        let segments = programs.iter().filter_map(Segment::of).collect();
        let tables = match header.sections(LITTLE, data) {
            Ok(sections) => sections::tables(&bytes, &sections),
            Err(_) => Vec::new(),
        };
        let tables = match tables.is_empty() {
            true => sections::table_of_program(&bytes, programs)
                .into_iter()
                .collect(),
            false => tables,
        };
        Some(Arc::new(Self {
            entry: header.e_entry(LITTLE),
            segments,
            tables,
            go: OnceLock::new(),
            bytes,
        }))
    }

    /// The vDSO of the running process, which is that of every process of this architecture.
    pub fn vdso() -> Option<Arc<Self>> {
        // SAFETY: getauxval only looks into a table of numbers.
        let start = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) } as *const u8;
        if start.is_null() {
            return None;
        }
        // SAFETY: the kernel maps the vDSO there, a whole ELF file that is never changed or taken
        // away, and it begins with its header.
        let header = unsafe { slice::from_raw_parts(start, size_of::<Header>()) };
        let header = Header::parse(header).ok()?;
        let sections = u64::from(header.e_shnum(LITTLE)) * u64::from(header.e_shentsize(LITTLE));
        let size = usize::try_from(header.e_shoff(LITTLE).checked_add(sections)?).ok()?;
        // SAFETY: as above; the table of sections is the last part of the file.
        let bytes: &'static [u8] = unsafe { slice::from_raw_parts(start, size) };
        Self::parse(bytes.into())
    }

    /// Bytes of memory that it takes, beside the file. It is little, unless the file has no index
    /// of its unwind information or has it packed.
    #[cfg(test)]
    pub fn memory(&self) -> usize {
        let tables = self.tables.iter().map(|table| table.memory(&self.bytes));
        tables.sum()
    }

    /// The whole file.
    pub fn bytes(&self) -> &FileBytes {
        &self.bytes
    }

    /// The addresses of all its code, as the file itself counts.
    pub fn addresses(&self) -> Range<u64> {
        let code = self.segments.iter().filter(|segment| segment.is_code);
        let start = code.clone().map(|segment| segment.address).min();
        let end = code
            .map(|segment| segment.address.saturating_add(segment.size))
            .max();
        start.unwrap_or_default()..end.unwrap_or_default()
    }

    /// The addresses, as the file itself counts, of memory that follows what is loaded from it: variables that
    /// begin as zero.
    pub fn zeroed(&self) -> impl Iterator<Item = Range<u64>> {
        let segments = self.segments.iter().filter(|segment| !segment.is_code);
        segments.filter_map(|segment| {
            let zeroed = segment.address.checked_add(segment.size)?..segment.end;
            (!zeroed.is_empty()).then_some(zeroed)
        })
    }

    /// The address, as the file itself counts, of a place in the file.
    pub fn address(&self, file_offset: u64) -> Option<u64> {
        let within = |segment: &&Segment| {
            let inside = file_offset.checked_sub(segment.offset);
            inside.is_some_and(|inside| inside < segment.size)
        };
        let mut found = self.segments.iter().filter(within);
        let segment = found
            .clone()
            .find(|segment| segment.is_code)
            .or_else(|| found.next())?;
        segment.address.checked_add(file_offset - segment.offset)
    }

    /// The address, as the file itself counts, of the beginning of a mapping of its code. The
    /// mapping is of whole pages, so it may begin before what is code.
    pub(super) fn address_of_mapping(&self, file_offset: u64, size: u64) -> Option<u64> {
        let end = file_offset.saturating_add(size);
        let shared = |segment: &&Segment| {
            let from = segment.offset.max(file_offset);
            let to = segment.offset.saturating_add(segment.size).min(end);
            to.saturating_sub(from)
        };
        let code = self.segments.iter().filter(|segment| segment.is_code);
        let segment = code
            .filter(|segment| shared(segment) > 0)
            .max_by_key(shared)?;
        let ahead = file_offset.wrapping_sub(segment.offset);
        Some(segment.address.wrapping_add(ahead))
    }

    /// The rules at an address, and the table that they are from.
    pub(super) fn row(&self, address: u64, context: &mut Context) -> Option<(usize, Row)> {
        let mut tables = self.tables.iter().enumerate();
        tables.find_map(|(place, table)| Some((place, table.row(address, context)?)))
    }

    /// One of the tables.
    pub(super) fn table(&self, place: usize) -> Option<&Table> {
        self.tables.get(place)
    }

    /// The frame of the function at an address by the line table of a Go program.
    pub fn go_frame(&self, address: u64) -> Option<Frame> {
        self.go()?.frame(address)
    }

    /// The addresses, as the file itself counts, of functions of a Go program by their names.
    pub fn go_functions<const N: usize>(&self, names: [&str; N]) -> [Option<Range<u64>>; N] {
        match self.go() {
            Some(table) => table.functions(names),
            None => [const { None }; N],
        }
    }

    fn go(&self) -> Option<&LineTable> {
        let go = self.go.get_or_init(|| LineTable::find(&self.bytes));
        go.as_ref()
    }

    /// Where the last function ends that has unwind information and lies before an address.
    pub(super) fn end_of_rows_before(&self, address: u64) -> u64 {
        let ends = self
            .tables
            .iter()
            .filter_map(|table| table.end_before(address));
        ends.max().unwrap_or(0)
    }

    /// How many sections of unwind information were found to be of use.
    #[cfg(test)]
    pub(super) fn number_of_tables(&self) -> usize {
        self.tables.len()
    }

    /// Whether the file has any unwind information.
    pub(super) fn has_rows(&self) -> bool {
        !self.tables.is_empty()
    }

    /// Whether an address lies in the function that the program begins with.
    pub(super) fn is_start(&self, address: u64) -> bool {
        let inside = address.checked_sub(self.entry);
        self.entry != 0 && inside.is_some_and(|inside| inside < START_BYTES)
    }

    /// At most `size` bytes of code from an address on.
    pub(super) fn code(&self, address: u64, size: usize) -> &[u8] {
        let code = || {
            let holds = |segment: &&Segment| {
                let inside = address.checked_sub(segment.address);
                segment.is_code && inside.is_some_and(|inside| inside < segment.size)
            };
            let segment = self.segments.iter().find(holds)?;
            let ahead = address - segment.address;
            let size = (segment.size - ahead).min(size as u64);
            let from = usize::try_from(segment.offset.checked_add(ahead)?).ok()?;
            self.bytes
                .get(from..from.checked_add(usize::try_from(size).ok()?)?)
        };
        code().unwrap_or_default()
    }
}
