//! Where the running version of HotSpot keeps what is read of it.

mod find;

pub use find::find;

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
