//! The unwind information of one ELF file: rows by address.

use gimli::{
    BaseAddresses, CieOrFde, CommonInformationEntry, DebugFrame, EhFrame, EhFrameHdr, EndianSlice,
    FrameDescriptionEntry, LittleEndian, Reader, Section, UnwindContext, UnwindOffset,
    UnwindSection,
};

use super::{
    super::file_bytes::FileBytes,
    arch,
    plain::Plain,
    row::{Bytes, Row},
};

/// Largest section that is read from end to end for want of an index.
pub const UNINDEXED_BYTES: usize = 64 << 20;
/// Most functions of a section that has no index.
const FUNCTIONS: usize = 1 << 20;
/// Most bytes of unwind information that one function may have.
const FUNCTION_BYTES: usize = 256 << 10;

/// Most bytes of what the functions of a section have in common.
const COMMON_BYTES: u32 = 4 << 10;

/// What reading a row needs; it is kept because making it anew costs more than reading.
pub type Context = UnwindContext<usize>;

/// What a section says about one function.
type Entry<'a> = FrameDescriptionEntry<Bytes<'a>>;

/// Where the sections lie that unwind information refers to, in the file's own addresses.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// `.text`
    pub text: u64,
    /// `.got`
    pub got: u64,
    /// `.eh_frame`
    pub eh_frame: u64,
    /// `.eh_frame_hdr`
    pub eh_frame_hdr: u64,
}

impl Addresses {
    fn to_gimli(&self) -> BaseAddresses {
        BaseAddresses::default()
            .set_text(self.text)
            .set_got(self.got)
            .set_eh_frame(self.eh_frame)
            .set_eh_frame_hdr(self.eh_frame_hdr)
    }
}

/// A section of unwind information.
pub struct Table {
    bytes: FileBytes,
    bases: BaseAddresses,
    index: Index,
    is_debug_frame: bool,
}

/// How the entry for an address is found.
enum Index {
    /// By the table that the linker made.
    Linker(FileBytes, Plain),
    /// By addresses of functions and the places of their entries, ascending.
    Own(Vec<(u64, usize)>),
}

impl Table {
    /// `.eh_frame`, with its index `.eh_frame_hdr` if that is of use.
    pub fn eh_frame(
        bytes: FileBytes,
        header: Option<FileBytes>,
        addresses: &Addresses,
    ) -> Option<Self> {
        let bases = addresses.to_gimli();
        let index = match header.filter(|header| is_index(header, addresses)) {
            Some(header) => {
                let plain = Plain::new(&bytes, &header, addresses);
                Index::Linker(header, plain)
            }
            None => Index::Own(functions(&section::<EhFrame<_>>(&bytes)?, &bases)),
        };
        Some(Self {
            bytes,
            bases,
            index,
            is_debug_frame: false,
        })
    }

    /// `.debug_frame`
    pub fn debug_frame(bytes: FileBytes, addresses: &Addresses) -> Option<Self> {
        let bases = addresses.to_gimli();
        let index = Index::Own(functions(&section::<DebugFrame<_>>(&bytes)?, &bases));
        Some(Self {
            bytes,
            bases,
            index,
            is_debug_frame: true,
        })
    }

    /// Bytes of memory that the table takes, beside those of the file it is from.
    #[cfg(test)]
    pub fn memory(&self, file: &FileBytes) -> usize {
        let unpacked = match self.bytes.shares_with(file) {
            true => 0,
            false => self.bytes.len(),
        };
        match &self.index {
            Index::Linker(..) => unpacked,
            Index::Own(functions) => unpacked + size_of_val(functions.as_slice()),
        }
    }

    /// The bytes that expressions in rows lie in.
    pub fn bytes(&self) -> Bytes<'_> {
        EndianSlice::new(&self.bytes, LittleEndian)
    }

    /// What follows the plain rows.
    pub fn plain(&self) -> Option<&Plain> {
        match &self.index {
            Index::Linker(_, plain) => Some(plain),
            Index::Own(_) => None,
        }
    }

    /// The rules at an address; none when this section does not cover it.
    pub fn row(&self, address: u64, context: &mut Context) -> Option<Row> {
        let place = self.place(address)?;
        if self.is_debug_frame {
            let mut section = DebugFrame::from(self.bytes());
            section.set_vendor(arch::VENDOR);
            self.read(&section, self.entry(&section, place)?, address, context)
        } else {
            let mut section = EhFrame::from(self.bytes());
            section.set_vendor(arch::VENDOR);
            self.read(&section, self.entry(&section, place)?, address, context)
        }
    }

    /// Where the last function ends that begins before an address.
    pub fn end_before(&self, address: u64) -> Option<u64> {
        let place = self.place(address)?;
        let entry = if self.is_debug_frame {
            self.entry(&DebugFrame::from(self.bytes()), place)
        } else {
            self.entry(&EhFrame::from(self.bytes()), place)
        };
        Some(entry?.end_address())
    }

    /// Where the entry of the function that may hold an address lies.
    fn place(&self, address: u64) -> Option<usize> {
        match &self.index {
            Index::Linker(header, _) => {
                let header = EhFrameHdr::new(header, LittleEndian);
                let header = header.parse(&self.bases, 8).ok()?;
                let found = header.table()?.lookup(address, &self.bases).ok()?;
                let start = header.eh_frame_ptr().direct().ok()?;
                usize::try_from(found.direct().ok()?.checked_sub(start)?).ok()
            }
            Index::Own(functions) => {
                let behind = functions.partition_point(|(start, _)| *start <= address);
                functions
                    .get(behind.checked_sub(1)?)
                    .map(|(_, place)| *place)
            }
        }
    }

    fn entry<'a, S: UnwindSection<Bytes<'a>> + Section<Bytes<'a>>>(
        &self,
        section: &S,
        place: usize,
    ) -> Option<Entry<'a>> {
        section
            .fde_from_offset(&self.bases, S::Offset::from(place), common_entry)
            .ok()
    }

    fn read<'a, S: UnwindSection<Bytes<'a>>>(
        &self,
        section: &S,
        entry: Entry<'a>,
        address: u64,
        context: &mut Context,
    ) -> Option<Row> {
        if !entry.contains(address) || entry.entry_len() > FUNCTION_BYTES {
            return None;
        }
        let cie = entry.cie();
        let rules = entry
            .unwind_info_for_address(section, &self.bases, context, address)
            .ok()?;
        Some(Row {
            cfa: rules.cfa().clone(),
            return_address: rules.register(cie.return_address_register()),
            stack_pointer: rules.register(arch::STACK_POINTER),
            frame_pointer: rules.register(arch::FRAME_POINTER),
            link: rules.register(arch::RETURN_ADDRESS),
            may_be_signed: arch::SIGNED.is_some_and(|column| rules.register(column).is_some()),
            is_signal: entry.is_signal_trampoline(),
            encoding: cie.encoding(),
        })
    }
}

/// Whether this is an index that can be searched: of the one form that linkers write, as long as
/// it says, and for the right section.
fn is_index(header: &[u8], addresses: &Addresses) -> bool {
    /// Version 1; a relative place of the section; a four byte count; a table of pairs of four
    /// byte numbers, relative to the header.
    const FORM: [u8; 4] = [1, 0x1b, 0x03, 0x3b];
    const HEAD: usize = 12;
    let Some((head, table)) = header.split_at_checked(HEAD) else {
        return false;
    };
    let number = |place: usize| -> Option<u32> {
        let bytes = head.get(place..place + 4)?.try_into().ok()?;
        Some(u32::from_le_bytes(bytes))
    };
    let (Some(section), Some(count)) = (number(4), number(8)) else {
        return false;
    };
    let section =
        (addresses.eh_frame_hdr.wrapping_add(4)).wrapping_add_signed(i64::from(section as i32));
    head.starts_with(&FORM)
        && section == addresses.eh_frame
        && count > 0
        && count as usize <= table.len() / 8
}

/// A section to be read from end to end; none when it is too large for that.
fn section<'a, S: UnwindSection<Bytes<'a>> + From<Bytes<'a>>>(bytes: &'a [u8]) -> Option<S> {
    (bytes.len() <= UNINDEXED_BYTES).then(|| S::from(EndianSlice::new(bytes, LittleEndian)))
}

/// The functions of a section by address, as far as it can be read.
fn functions<'a, S: UnwindSection<Bytes<'a>> + Section<Bytes<'a>>>(
    section: &S,
    bases: &BaseAddresses,
) -> Vec<(u64, usize)> {
    let mut entries = section.entries(bases);
    let mut functions = Vec::new();
    while functions.len() < FUNCTIONS
        && let Ok(Some(entry)) = entries.next()
    {
        // One that cannot be read does not spoil the others.
        if let CieOrFde::Fde(entry) = entry
            && let Ok(entry) = entry.parse(common_entry)
        {
            functions.push((entry.initial_address(), entry.offset()));
        }
    }
    functions.sort_unstable();
    functions.shrink_to_fit();
    functions
}

/// What entries have in common. It is read for each of them, so it must be short.
fn common_entry<'a, S: UnwindSection<Bytes<'a>> + Section<Bytes<'a>>>(
    section: &S,
    bases: &BaseAddresses,
    place: S::Offset,
) -> gimli::Result<CommonInformationEntry<Bytes<'a>>> {
    let mut length = *section.reader();
    length.skip(UnwindOffset::into(place))?;
    if length.read_u32()? > COMMON_BYTES {
        return Err(gimli::Error::UnsupportedOffset);
    }
    section.cie_from_offset(bases, place)
}
