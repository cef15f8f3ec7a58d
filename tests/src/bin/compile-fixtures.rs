//! Compiles everything that the tests compile into one directory, for a machine without compilers:
//! `compile-fixtures DIRECTORY SCRATCH ARCHITECTURE`. `TCPLEAK_COMPILED` names the directory to the tests.
//! What cannot be compiled for another architecture is said and left out: its tests fail.

use std::{env, path::Path};

use anyhow::{Result, bail};
use tcpleak_tests::{BUILDS, Machine};

fn main() -> Result<()> {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let [store, scratch, architecture] = &arguments[..] else {
        bail!("usage: compile-fixtures DIRECTORY SCRATCH ARCHITECTURE");
    };
    let machine = match architecture.to_str() {
        Some(name) if name == env::consts::ARCH => Machine::Host,
        Some("aarch64") => Machine::Aarch64,
        _ => bail!("programs for {architecture:?} cannot be compiled here"),
    };
    for build in BUILDS {
        match build.compile(machine, Path::new(store), Path::new(scratch)) {
            Err(error) if machine != Machine::Host => eprintln!("left out: {error:#}"),
            compiled => compiled?,
        }
    }
    Ok(())
}
