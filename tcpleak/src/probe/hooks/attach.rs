//! Attaching the programs of a backend, and taking them out again.

use aya::{
    Btf, Ebpf,
    programs::{BtfTracePoint, FExit, Iter, KProbe, Program, ProgramError, TracePoint},
};

use super::{
    Stacks,
    backends::{Backend, Point},
    words::in_short,
};
use crate::probe::tracefs;

/// Attaches all programs of a backend, or none.
pub fn attach(
    ebpf: &mut Ebpf,
    types: Option<&Btf>,
    stacks: Stacks,
    backend: &Backend,
) -> Result<(), String> {
    for (name, point) in backend.programs {
        let program = stacks.program(ebpf, name);
        if let Err(reason) = attach_one(ebpf, types, &program, *point) {
            detach(ebpf, stacks, backend);
            return Err(reason);
        }
    }
    Ok(())
}

fn attach_one(
    ebpf: &mut Ebpf,
    types: Option<&Btf>,
    name: &str,
    point: Point,
) -> Result<(), String> {
    let program = ebpf.program_mut(name).ok_or("it is not in the object")?;
    let words = |error: ProgramError| in_short(&error);
    let types = || types.ok_or("no type information");
    match point {
        Point::Iterator(kind) => {
            let program: &mut Iter = program.try_into().map_err(words)?;
            program.load(kind, types()?).map_err(words)
        }
        Point::Btf(function) => {
            let program: &mut BtfTracePoint = program.try_into().map_err(words)?;
            program
                .load(function, types()?)
                .and_then(|()| program.attach())
                .map(drop)
                .map_err(words)
        }
        Point::Exit(function) => {
            let program: &mut FExit = program.try_into().map_err(words)?;
            program
                .load(function, types()?)
                .and_then(|()| program.attach())
                .map(drop)
                .map_err(words)
        }
        Point::Probe(function) => {
            let program: &mut KProbe = program.try_into().map_err(words)?;
            program
                .load()
                .and_then(|()| program.attach(function, 0))
                .map(drop)
                .map_err(words)
        }
        Point::Classic(category, event) => {
            let program: &mut TracePoint = program.try_into().map_err(words)?;
            program.load().map_err(words)?;
            tracefs::with(|| program.attach(category, event).map(drop))
                .map_err(|error| error.to_string())?
                .map_err(words)
        }
    }
}

/// Takes the programs of a backend out of the kernel.
pub fn detach(ebpf: &mut Ebpf, stacks: Stacks, backend: &Backend) {
    for (name, _) in backend.programs {
        let program = stacks.program(ebpf, name);
        unload(ebpf, &program);
    }
}

/// Takes a program out of the kernel; its links go with it.
fn unload(ebpf: &mut Ebpf, name: &str) {
    // A program that was never loaded cannot be unloaded, which is as good.
    let _ = match ebpf.program_mut(name) {
        Some(Program::TracePoint(program)) => program.unload(),
        Some(Program::BtfTracePoint(program)) => program.unload(),
        Some(Program::FExit(program)) => program.unload(),
        Some(Program::KProbe(program)) => program.unload(),
        _ => Ok(()),
    };
}
