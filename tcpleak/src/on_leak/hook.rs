//! The command itself.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{Access, MemfdFlags, Mode, access, memfd_create},
    process::{
        Pid, Resource, Signal, WaitId, WaitIdOptions, kill_process_group,
        set_parent_process_death_signal, setsid, umask, waitid,
    },
};

use super::runner::Outcome;
use crate::confine;

/// Where programs are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Most bytes of what it wrote that are shown when it failed.
const SHOWN_BYTES: u64 = 400;
/// Most CPU time of each of its processes, in seconds, should one stay behind.
const CPU_SECONDS: u64 = 60;
/// Number of the last signal.
const SIGNALS: i32 = 64;
/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(10);

/// A program that can be run, and its arguments.
pub struct Hook {
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl Hook {
    /// Finds the program: an absolute path, or a name that is looked for in the usual directories.
    pub fn find(command: &[OsString]) -> Result<Self, String> {
        let [program, arguments @ ..] = command else {
            return Err("it names no command".into());
        };
        let shown = program.to_string_lossy();
        let path = Path::new(program);
        let candidates: Vec<PathBuf> = if path.is_absolute() {
            vec![path.into()]
        } else if shown.contains('/') {
            return Err(format!("{shown} is no absolute path"));
        } else {
            let directories = PATH.split(':').map(Path::new);
            directories.map(|directory| directory.join(path)).collect()
        };
        let Some(program) = candidates.iter().find(|candidate| candidate.is_file()) else {
            return Err(format!("there is no program {shown} that its user can see"));
        };
        access(program, Access::EXEC_OK)
            .map_err(|error| format!("its user may not run {}: {error}", program.display()))?;
        Ok(Self {
            program: program.clone(),
            arguments: arguments.into(),
        })
    }

    /// Runs it with this standard input, for so long at most. Whatever it leaves behind in its session's first
    /// process group is ended with it.
    pub fn run(&self, input: OwnedFd, patience: Duration) -> Outcome {
        match self.try_run(input, patience) {
            Ok(outcome) => outcome,
            Err(error) => Outcome::NotStarted(error.to_string()),
        }
    }

    fn try_run(&self, input: OwnedFd, patience: Duration) -> io::Result<Outcome> {
        let mut output = File::from(memfd_create("tcpleak-output", MemfdFlags::CLOEXEC)?);
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .env_clear()
            .env("PATH", PATH)
            .env("LANG", "C.UTF-8")
            .current_dir("/")
            .stdin(Stdio::from(input))
            .stdout(output.try_clone()?)
            .stderr(output.try_clone()?);
        // SAFETY: between fork and exec only system calls are made, and nothing is allocated.
        unsafe { command.pre_exec(start_anew) };
        let mut child = command.spawn()?;
        let Some(status) = end(&mut child, patience)? else {
            return Ok(Outcome::Endless);
        };
        if status.success() {
            return Ok(Outcome::Done);
        }
        Ok(Outcome::Failed {
            status: status.to_string(),
            output: last_of(&mut output)?,
        })
    }
}

/// In a session of its own, without a terminal, and with signals and mask as every program expects them.
fn start_anew() -> io::Result<()> {
    setsid()?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    confine::limit(Resource::Cpu, CPU_SECONDS)?;
    umask(Mode::RWXG | Mode::RWXO);
    for signal in 1..=SIGNALS {
        // SAFETY: it takes any number, and fails for the signals that cannot be changed.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    Ok(())
}

/// Waits for its end, or ends it; none then.
fn end(child: &mut Child, patience: Duration) -> io::Result<Option<ExitStatus>> {
    let (pid, start) = (Pid::from_child(child), Instant::now());
    // It is not reaped yet, so that the number of its process group cannot be another's.
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    let has_ended = loop {
        if waitid(WaitId::Pid(pid), options)?.is_some() {
            break true;
        }
        if start.elapsed() >= patience {
            break false;
        }
        thread::sleep(LOOK);
    };
    // There may be nothing left to end.
    let _ = kill_process_group(pid, Signal::KILL);
    let status = child.wait()?;
    Ok(has_ended.then_some(status))
}

/// The end of what was written.
fn last_of(output: &mut File) -> io::Result<String> {
    let length = output.metadata()?.len();
    output.seek(SeekFrom::Start(length.saturating_sub(SHOWN_BYTES)))?;
    let mut bytes = Vec::new();
    output.take(SHOWN_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
