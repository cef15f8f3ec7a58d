//! Why a layout of the kernel is not known.

use thiserror::Error;

/// Why a layout is not known.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BtfError {
    /// The bytes do not start like BTF of this machine's byte order.
    #[error("this is no kernel type information (BTF); read it from /sys/kernel/btf/vmlinux")]
    NotBtf,
    /// Something lies outside the bytes, or never ends.
    #[error(
        "the kernel's type information (BTF) is damaged: {0}; compare it with another kernel's"
    )]
    Damaged(&'static str),
    /// A kind of type that this version cannot step over.
    #[error(
        "type {id} of the kernel's type information (BTF) is of the unknown kind {kind}: \
         this kernel is newer than this tcpleak, look for a newer one"
    )]
    UnknownKind {
        /// The kind's number.
        kind: u32,
        /// The type's number.
        id: usize,
    },
    /// The kernel has no such structure, or only its name.
    #[error(
        "this kernel's type information (BTF) has no structure `{0}`; report it with the output of uname -r"
    )]
    NoStructure(String),
    /// The structure has no such member.
    #[error(
        "this kernel's structure `{structure}` has no member `{member}`; report it with the output of uname -r"
    )]
    NoMember {
        /// The structure that was asked for.
        structure: String,
        /// The part of the path that is missing.
        member: String,
    },
    /// A member before the last one of a path is not a structure.
    #[error(
        "`{member}` of the kernel's structure `{structure}` holds no structure; end the path there"
    )]
    NotAStructure {
        /// The structure that was asked for.
        structure: String,
        /// The part of the path that is something else.
        member: String,
    },
    /// The member has no byte offset.
    #[error(
        "`{member}` of the kernel's structure `{structure}` is a bit-field; read the word around it"
    )]
    BitField {
        /// The structure that was asked for.
        structure: String,
        /// The part of the path that is a bit-field.
        member: String,
    },
    /// The member is not of the size that is read.
    #[error(
        "`{member}` of the kernel's structure `{structure}` has {size} bytes, which this tcpleak does \
         not read; report it with the output of uname -r"
    )]
    Size {
        /// The structure that was asked for.
        structure: String,
        /// The path to the member.
        member: String,
        /// Its size in bytes.
        size: u32,
    },
}
