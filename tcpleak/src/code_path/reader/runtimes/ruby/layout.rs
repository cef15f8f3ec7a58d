//! Where Ruby keeps what: by version, as nothing in the process tells.
//!
//! The offsets are those of the structures in the crate `rbspy-ruby-structs` 0.55, which are made from
//! Ruby's own headers, on x86-64. Within a minor version they are the same in every release up to 3.4; those
//! of 4.0 are not, and are left out. On arm64 only what lies behind a lock lies elsewhere.

/// Offsets, in bytes, into the structures of one version of Ruby.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// `struct rb_ractor_struct`: the ring of its threads.
    pub ractor_threads: u32,
    /// `struct rb_thread_struct`: the native thread that runs it; none where it holds the id itself.
    pub thread_native: Option<u32>,
    /// What holds the id of the native thread, as pthread_self() gives it.
    pub thread_id: u32,
    /// `struct rb_thread_struct`: the execution context.
    pub thread_context: u32,
    /// Bytes of a control frame.
    pub frame_bytes: u32,
    /// `struct rb_iseq_constant_body`: what instructions belong to which lines.
    pub body_lines: u64,
    /// Bytes of one entry of that.
    pub line_bytes: u64,
    /// Whether the length of a string is beside its text, not among its flags.
    pub strings_have_length: bool,
    /// Whether the first line of a method is a tagged number.
    pub first_line_is_tagged: bool,
}

/// How much larger the GNU C library's locks are than on x86-64. A ractor has one before its threads.
const LARGER_LOCK: u32 = if cfg!(target_arch = "aarch64") { 8 } else { 0 };

/// `struct rb_vm_struct`: the ractor that the program began with.
pub const VM_MAIN_RACTOR: u64 = 32;
/// `struct rb_execution_context_struct`: the stack of control frames and values, and its size in words.
pub const CONTEXT_STACK: u32 = 0;
/// The same: that size.
pub const CONTEXT_STACK_WORDS: u32 = 8;
/// The same: the innermost control frame.
pub const CONTEXT_FRAME: u32 = 16;
/// `struct rb_control_frame_struct`: the next instruction.
pub const FRAME_PC: u32 = 0;
/// The same: the method or block.
pub const FRAME_CODE: u32 = 16;
/// `struct rb_iseq_struct`: its body.
pub const CODE_BODY: u64 = 16;
/// `struct rb_iseq_constant_body`: how many words of instructions it has.
pub const BODY_WORDS: u64 = 4;
/// The same: its instructions.
pub const BODY_INSTRUCTIONS: u64 = 8;
/// The same: its file.
pub const BODY_PATH: u64 = 64;
/// The same: its name.
pub const BODY_LABEL: u64 = 64 + 16;
/// The same: its first line.
pub const BODY_FIRST_LINE: u64 = 64 + 24;

impl Layout {
    /// That of a version such as `3.1.2`; none for one that is not known.
    pub fn of_version(version: &str) -> Option<Self> {
        let mut numbers = version.split('.').map(str::parse);
        let (major, minor): (u32, u32) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        let since_3_3 = Self {
            ractor_threads: 256 + LARGER_LOCK,
            thread_native: Some(40),
            thread_id: 16,
            thread_context: 48,
            frame_bytes: 56,
            body_lines: 112,
            line_bytes: 12,
            strings_have_length: true,
            first_line_is_tagged: false,
        };
        let since_3_2 = Self {
            ractor_threads: 304 + LARGER_LOCK,
            thread_id: 8,
            frame_bytes: 64,
            ..since_3_3
        };
        let since_3_1 = Self {
            thread_native: None,
            thread_id: 80,
            thread_context: 40,
            body_lines: 120,
            strings_have_length: false,
            first_line_is_tagged: true,
            ..since_3_2
        };
        match (major, minor) {
            (3, 0) => Some(Self {
                frame_bytes: 56,
                line_bytes: 8,
                ..since_3_1
            }),
            (3, 1) => Some(since_3_1),
            (3, 2) => Some(since_3_2),
            (3, 3 | 4) => Some(since_3_3),
            _ => None,
        }
    }
}
