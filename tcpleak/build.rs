//! Chooses the compiled kernel programs that go into tcpleak.
//!
//! They are kept in `bpf/`, one object per architecture, so that nobody needs the compiler that
//! builds them (`cargo xtask ebpf`). `TCPLEAK_EBPF_OBJECT` names another object.

use std::env;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-env-changed=TCPLEAK_EBPF_OBJECT");
    match object() {
        Ok(object) => {
            println!("cargo::rerun-if-changed={}", object.display());
            println!(
                "cargo::rustc-env=TCPLEAK_EBPF_OBJECT_PATH={}",
                object.display()
            );
        }
        Err(message) => println!("cargo::error={message}"),
    }
}

fn object() -> Result<PathBuf, String> {
    if let Some(path) = env::var_os("TCPLEAK_EBPF_OBJECT").map(PathBuf::from) {
        return if path.is_absolute() && path.is_file() {
            Ok(path)
        } else {
            Err(format!(
                "TCPLEAK_EBPF_OBJECT={} is not the absolute path of a file",
                path.display()
            ))
        };
    }
    let package = env::var_os("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set")?;
    let architecture = env::var("CARGO_CFG_TARGET_ARCH").map_err(|error| error.to_string())?;
    let path = Path::new(&package).join(format!("bpf/tcpleak.{architecture}.o"));
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!(
            "{} is missing: tcpleak runs on x86_64 and aarch64, and `cargo xtask ebpf` builds its kernel programs",
            path.display()
        ))
    }
}
