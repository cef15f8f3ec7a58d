//! Where Go keeps things, which differs from version to version.

use object::{Object as _, ObjectSection, read::elf::ElfFile64};

/// Offsets into a goroutine, and into a connection of the HTTP client.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    /// The versions that it is of: Go 1.FIRST to 1.LAST.
    versions: (u32, u32),
    /// What the goroutine is at, in a goroutine.
    pub status: u64,
    /// The saved frame pointer, in a goroutine.
    pub frame_pointer: u64,
    /// Whether it has served a request before, in a connection.
    pub reused: u64,
}

/// As the debug information of programs by these versions has it, on 64-bit machines.
const LAYOUTS: [Layout; 4] = [
    Layout {
        versions: (19, 22),
        status: 144,
        frame_pointer: 104,
        reused: 265,
    },
    Layout {
        versions: (23, 24),
        status: 152,
        frame_pointer: 104,
        reused: 265,
    },
    Layout {
        versions: (25, 25),
        status: 144,
        frame_pointer: 96,
        reused: 265,
    },
    Layout {
        versions: (26, 27),
        status: 144,
        frame_pointer: 96,
        reused: 272,
    },
];

/// What the section begins with that says which Go made the program.
const MAGIC: &[u8] = b"\xff Go buildinf:";
/// Where it says how it goes on, and the version when it is right there.
const FLAGS: usize = 15;
const VERSION_IS_HERE: u8 = 2;
const VERSION: usize = 32;

/// A machine, and how Go's calls keep their arguments in memory there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// The address to return to lies behind the frame that is left.
    X86_64,
    /// It lies at the beginning of the frame that is left.
    Aarch64,
}

impl Machine {
    /// The one that this runs on; none where nothing is known of it.
    pub const THIS: Option<Self> = if cfg!(target_arch = "x86_64") {
        Some(Self::X86_64)
    } else if cfg!(target_arch = "aarch64") {
        Some(Self::Aarch64)
    } else {
        None
    };

    /// Where the arguments of a function lie whose caller has this stack pointer.
    pub fn arguments_above(self, stack_pointer: u64) -> u64 {
        let between = match self {
            Self::X86_64 => 0,
            Self::Aarch64 => 8,
        };
        stack_pointer.saturating_add(between)
    }

    /// Where the address lies to return to from a frame of so many bytes, and the caller's stack pointer.
    pub fn caller(self, stack_pointer: u64, frame: u64) -> Option<(u64, u64)> {
        let end = stack_pointer.checked_add(frame)?;
        Some(match self {
            Self::X86_64 => (end, end.checked_add(8)?),
            Self::Aarch64 => (stack_pointer, end),
        })
    }
}

impl Layout {
    /// Where `dialConn` keeps the text of the address among its arguments: it comes behind the transport, the
    /// context (2 words), the proxy and the scheme (2 words), and behind those for which there are not enough
    /// registers, which are two words since Go 1.26 on x86-64.
    pub fn dialled(&self, machine: Machine) -> u64 {
        match machine {
            Machine::X86_64 if self.versions.0 >= 26 => 64,
            Machine::X86_64 | Machine::Aarch64 => 48,
        }
    }
}

/// The layout of a program; none for one that is not by a Go that is known.
pub fn of(file: &[u8]) -> Option<&'static Layout> {
    let file: ElfFile64<'_> = ElfFile64::parse(file).ok()?;
    let information = file.section_by_name(".go.buildinfo")?.data().ok()?;
    known(minor_version(information)?)
}

/// The layout of programs by Go 1.`minor`.
pub fn known(minor: u32) -> Option<&'static Layout> {
    LAYOUTS
        .iter()
        .find(|layout| (layout.versions.0..=layout.versions.1).contains(&minor))
}

/// The second part of `go1.22.3`.
fn minor_version(information: &[u8]) -> Option<u32> {
    let is_here = information.get(FLAGS)? & VERSION_IS_HERE != 0;
    if !information.starts_with(MAGIC) || !is_here {
        return None;
    }
    // One byte is enough for the length of any version that is looked at.
    let (length, rest) = information.get(VERSION..)?.split_first()?;
    let version = str::from_utf8(rest.get(..usize::from(*length))?).ok()?;
    let minor = version.strip_prefix("go1.")?;
    let end = minor.find(|letter: char| !letter.is_ascii_digit());
    minor.get(..end.unwrap_or(minor.len()))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn information(version: &str) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([8, VERSION_IS_HERE]);
        bytes.resize(VERSION, 0);
        bytes.push(version.len() as u8);
        bytes.extend(version.as_bytes());
        bytes
    }

    #[test]
    fn the_version_is_what_made_the_program() {
        assert_eq!(minor_version(&information("go1.19.8")), Some(19));
        assert_eq!(minor_version(&information("go1.27rc1")), Some(27));
        assert_eq!(
            minor_version(&information("go1.24.1 X:nocoverage")),
            Some(24)
        );
    }

    #[test]
    fn what_is_no_version_is_none() {
        for version in ["", "go2.1", "go1.", "devel +abc"] {
            assert_eq!(minor_version(&information(version)), None, "{version}");
        }
        let whole = information("go1.22");
        for length in 0..whole.len() {
            assert_eq!(minor_version(&whole[..length]), None, "{length} bytes");
        }
    }
}
