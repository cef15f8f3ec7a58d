//! The architectures of machines, and what QEMU has to be told about each.

use std::path::Path;
use std::process::Command;

use clap::ValueEnum;

use super::machine::Accelerator;

/// An architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Arch {
    /// 64-bit x86.
    #[value(name = "x86_64", alias = "amd64")]
    X86_64,
    /// 64-bit ARM.
    #[value(name = "aarch64", alias = "arm64")]
    Aarch64,
}

impl Arch {
    /// That of the host.
    pub fn of_host() -> Self {
        match std::env::consts::ARCH {
            "aarch64" => Self::Aarch64,
            _ => Self::X86_64,
        }
    }

    /// Whether the host has it.
    pub fn is_hosts(self) -> bool {
        self == Self::of_host()
    }

    /// Rust's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// Debian's word for it.
    pub fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// The target that cargo builds for.
    pub fn target(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-gnu",
            Self::Aarch64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// The program that emulates it.
    pub fn qemu(self) -> &'static str {
        match self {
            Self::X86_64 => "qemu-system-x86_64",
            Self::Aarch64 => "qemu-system-aarch64",
        }
    }

    /// QEMU's options for the board and its processor.
    pub fn machine(self, accelerator: Accelerator) -> &'static [&'static str] {
        match (self, accelerator) {
            (Self::X86_64, Accelerator::Kvm) => &["-cpu", "host"],
            (Self::X86_64, Accelerator::Tcg) => &["-cpu", "max"],
            (Self::Aarch64, Accelerator::Kvm) => &["-machine", "virt", "-cpu", "host"],
            (Self::Aarch64, Accelerator::Tcg) => &["-machine", "virt", "-cpu", "cortex-a72"],
        }
    }

    /// The kernel's name of the port that is its console.
    pub fn console(self) -> &'static str {
        match self {
            Self::X86_64 => "ttyS0",
            Self::Aarch64 => "ttyAMA0",
        }
    }

    /// Tells QEMU where the two ports are written to. Gives the kernel's name of the second.
    pub fn ports(self, qemu: &mut Command, console: &Path, results: &Path) -> &'static str {
        let file = |path: &Path| format!("file:{}", path.display());
        qemu.arg("-serial").arg(file(console));
        match self {
            Self::X86_64 => {
                qemu.arg("-serial").arg(file(results));
                "ttyS1"
            }
            // The board has one port; a second one comes on its bus.
            Self::Aarch64 => {
                qemu.arg("-chardev")
                    .arg(format!("file,id=results,path={}", results.display()));
                qemu.args(["-device", "pci-serial,chardev=results"]);
                "ttyS0"
            }
        }
    }
}
