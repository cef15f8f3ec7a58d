//! Where CPython keeps things, by its version.

use super::{super::Object, Memory, Plan};

/// Offsets into CPython's structures, all from 64-bit builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Its minor version.
    pub minor: u8,
    chain: ChainLayout,
    /// In a code object.
    pub code: CodeLayout,
    /// Bytes of an object that holds ASCII text, and of one that holds other text.
    pub text: [u64; 2],
}

/// What leads from the interpreter's state to frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ChainLayout {
    interpreters: u64,
    next_interpreter: u32,
    threads: u32,
    next_thread: u32,
    thread_id: u32,
    innermost: u32,
    through: Option<u32>,
    /// In a frame.
    code: u32,
    at: u32,
    owner: u32,
    next: u32,
}

/// A code object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeLayout {
    pub first_line: u64,
    pub file: u64,
    /// The qualified name, or the plain one before 3.11.
    pub name: u64,
    pub lines: u64,
    /// Where the instructions begin, from 3.11 on.
    pub instructions: u64,
}

/// What kind of frame a link is.
pub struct Link {
    /// Whether it is one of a Python function.
    pub shown: bool,
    /// Whether its caller is evaluated by another frame of the machine's stack.
    pub last: bool,
    /// Whether it lies itself in the frame of the machine's stack that evaluates those before it.
    pub on_stack: bool,
}

/// Minor versions that are known.
const NEWEST: u64 = 14;
/// From this version on the interpreter says itself where things are.
const TELLS: u64 = 13;
/// How `_PyRuntime` begins then.
const COOKIE: u64 = u64::from_le_bytes(*b"xdebugpy");
/// Words of what it says that are looked through.
const WORDS: usize = 96;
/// Larger offsets make no sense in the structures that are small.
const SMALL: u64 = 4096;

impl Layout {
    /// The layout of the interpreter whose state is at an address. Fails with a reason.
    pub fn find(memory: &Memory<'_>, object: &Object<'_>, state: u64) -> Result<Self, String> {
        let minor = match object.exported("Py_Version") {
            Some(version) => {
                let version = memory.half(version.start).unwrap_or_default();
                if version >> 24 != 3 {
                    return Err("its version cannot be read".to_owned());
                }
                u64::from(version >> 16 & 0xff)
            }
            // Each of these came with a version.
            None if object.exported("PyModule_AddObjectRef").is_some() => 10,
            None if object.exported("PyFrame_GetCode").is_some() => 9,
            None if object.exported("PyConfig_Clear").is_some() => 8,
            None => return Err("older than 3.8".to_owned()),
        };
        match minor {
            TELLS..=NEWEST => Self::told(minor as u8, memory, state),
            _ => Self::known(minor).ok_or_else(|| format!("version 3.{minor} is not known")),
        }
    }

    /// The layout of versions whose structures do not change any more.
    fn known(minor: u64) -> Option<Self> {
        Some(match minor {
            8..=10 => Self {
                minor: minor as u8,
                chain: ChainLayout {
                    interpreters: 32,
                    next_interpreter: 0,
                    threads: 8,
                    next_thread: 8,
                    thread_id: 176,
                    innermost: 24,
                    through: None,
                    code: 32,
                    at: if minor == 10 { 96 } else { 104 },
                    owner: 0,
                    next: 24,
                },
                code: CodeLayout {
                    first_line: 40,
                    file: 104,
                    name: 112,
                    lines: 120,
                    instructions: 0,
                },
                text: [48, 72],
            },
            11 => Self {
                minor: 11,
                chain: ChainLayout {
                    interpreters: 40,
                    next_interpreter: 0,
                    threads: 16,
                    next_thread: 8,
                    thread_id: 152,
                    innermost: 56,
                    through: Some(8),
                    code: 32,
                    at: 56,
                    owner: 69,
                    next: 48,
                },
                code: CodeLayout {
                    first_line: 72,
                    file: 112,
                    name: 128,
                    lines: 136,
                    instructions: 184,
                },
                text: [48, 72],
            },
            12 => Self {
                minor: 12,
                chain: ChainLayout {
                    interpreters: 40,
                    next_interpreter: 0,
                    threads: 72,
                    next_thread: 8,
                    thread_id: 136,
                    innermost: 56,
                    through: Some(0),
                    code: 0,
                    at: 56,
                    owner: 70,
                    next: 8,
                },
                code: CodeLayout {
                    first_line: 68,
                    file: 112,
                    name: 128,
                    lines: 136,
                    instructions: 192,
                },
                text: [40, 56],
            },
            _ => return None,
        })
    }

    /// The layout that the interpreter tells: `_Py_DebugOffsets`, at the begin of its state. Its parts
    /// were made longer from version to version, so each is found by what cannot be otherwise in it.
    pub fn told(minor: u8, memory: &Memory<'_>, state: u64) -> Result<Self, String> {
        let cannot = || format!("version 3.{minor} does not tell where things are");
        let bytes = memory
            .bytes(state, WORDS * 8, WORDS * 8)
            .ok_or_else(cannot)?;
        let words: Vec<u64> = bytes
            .as_chunks()
            .0
            .iter()
            .map(|word| u64::from_le_bytes(*word))
            .collect();
        let at = |index: usize| words.get(index).copied().unwrap_or(u64::MAX);
        if at(0) != COOKIE {
            return Err(cannot());
        }
        if at(2) != 0 {
            return Err(format!(
                "version 3.{minor} without a global lock is not known"
            ));
        }
        // A thread state: its size, then the previous one, the next one and the interpreter, which are
        // its first members.
        let thread = (6..WORDS)
            .find(|index| (1..4).all(|number| at(index + number) == 8 * (number as u64 - 1)))
            .ok_or_else(cannot)?;
        let frame = thread + 9;
        // A code object: its size, then where its file, name, qualified name and lines are, one after
        // the other.
        let code = (frame + 6..WORDS)
            .find(|index| {
                (2..5).all(|number| at(index + number) == at(index + number - 1).wrapping_add(8))
            })
            .ok_or_else(cannot)?;
        let small = |index: usize| Some(at(index)).filter(|offset| *offset < SMALL);
        let part =
            |index: usize| Some(u32::try_from(at(index)).ok()?).filter(|offset| *offset < 1 << 24);
        let layout = || {
            Some(Self {
                minor,
                chain: ChainLayout {
                    interpreters: part(5)?.into(),
                    next_interpreter: part(8)?,
                    threads: part(9)?,
                    next_thread: small(thread + 2)? as u32,
                    thread_id: small(thread + 5)? as u32,
                    innermost: small(thread + 4)? as u32,
                    through: None,
                    code: small(frame + 2)? as u32,
                    at: small(frame + 3)? as u32,
                    owner: small(frame + 5)? as u32,
                    next: small(frame + 1)? as u32,
                },
                code: CodeLayout {
                    first_line: small(code + 5)?,
                    file: small(code + 1)?,
                    name: small(code + 3)?,
                    lines: small(code + 4)?,
                    instructions: small(code + 9)?,
                },
                text: [40, 56],
            })
        };
        layout().filter(Self::is_within_a_link).ok_or_else(cannot)
    }

    fn is_within_a_link(&self) -> bool {
        let ChainLayout {
            code,
            at,
            owner,
            next,
            ..
        } = self.chain;
        [code, at, next].iter().all(|offset| offset % 8 == 0)
            && self.span() <= tcpleak_ebpf::LINK_SPAN as u32
            && owner < tcpleak_ebpf::LINK_SPAN as u32
    }

    /// Bytes of a frame that hold what is read of it.
    fn span(&self) -> u32 {
        let ChainLayout {
            code,
            at,
            owner,
            next,
            ..
        } = self.chain;
        let words = [code, at, owner, next].map(|offset| offset / 8);
        8 * (words.into_iter().max().unwrap_or_default() + 1)
    }

    /// How the kernel is to follow the frames.
    pub fn plan(&self, state: u64) -> Plan {
        let chain = self.chain;
        Plan {
            lists: state.wrapping_add(chain.interpreters),
            // A reference to the code may be marked in its lowest bits.
            code_mask: !7,
            at_mask: if self.has_instruction_pointers() {
                u64::MAX
            } else {
                u32::MAX.into()
            },
            kind_mask: match self.minor {
                ..=10 => 0,
                // The byte before says whether it is the last one.
                11 => 0xffff << (8 * (chain.owner % 8 - 1)),
                _ => 0xff << (8 * (chain.owner % 8)),
            },
            next_list: chain.next_interpreter,
            threads: chain.threads,
            next_thread: chain.next_thread,
            thread_pointer: chain.thread_id,
            innermost: chain.innermost,
            through: chain.through,
            code: chain.code / 8,
            at: chain.at / 8,
            kind: chain.owner / 8,
            next: chain.next / 8,
            span: self.span(),
            thread: None,
            end: None,
        }
    }

    /// Whether a frame has the address of its instruction, and not its number.
    pub fn has_instruction_pointers(&self) -> bool {
        self.minor >= 11
    }

    /// What the kind of a link says.
    pub fn link(&self, kind: u64) -> Link {
        /// From here on a frame is the interpreter's, and stands between two that evaluate.
        const INTERPRETER: u64 = 3;
        let byte = |offset: u32| kind >> (8 * (offset % 8)) & 0xff;
        match self.minor {
            ..=10 => Link {
                shown: true,
                last: true,
                on_stack: false,
            },
            11 => Link {
                shown: true,
                last: byte(self.chain.owner.wrapping_sub(1)) != 0,
                on_stack: false,
            },
            _ => {
                let shown = byte(self.chain.owner) < INTERPRETER;
                Link {
                    shown,
                    last: !shown,
                    on_stack: !shown,
                }
            }
        }
    }
}

#[cfg(test)]
impl Layout {
    /// The layout of a version, for tests.
    pub fn of_version(minor: u64) -> Self {
        Self::known(minor).expect("a version with a layout of its own")
    }
}
