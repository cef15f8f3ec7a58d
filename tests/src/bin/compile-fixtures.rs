//! Compiles everything that the tests compile into one directory, for a machine without compilers:
//! `compile-fixtures DIRECTORY SCRATCH`. `TCPLEAK_COMPILED` names the directory to the tests.

use std::{env, path::PathBuf};

use anyhow::{Context, Result};
use tcpleak_tests::BUILDS;

fn main() -> Result<()> {
    let mut arguments = env::args_os().skip(1).map(PathBuf::from);
    let directories = arguments.next().zip(arguments.next());
    let (store, scratch) = directories.context("usage: compile-fixtures DIRECTORY SCRATCH")?;
    for build in BUILDS {
        build.compile(&store, &scratch)?;
    }
    Ok(())
}
