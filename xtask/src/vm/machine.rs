//! A virtual machine, by QEMU.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::ValueEnum;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use super::Arch;
use super::kernels::Kernel;

/// What runs the machine's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Accelerator {
    /// The processor itself.
    Kvm,
    /// QEMU, one after another: twenty times slower, and everywhere.
    Tcg,
}

impl Accelerator {
    /// The processor where it can, else QEMU. That the device opens is not enough: there are hosts
    /// where it does and every boot hangs, and their processors do not say that they can.
    pub fn best(arch: Arch) -> Self {
        let says_so = || {
            let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
            let mut words = cpus.split_ascii_whitespace();
            arch == Arch::Aarch64 || words.any(|word| word == "vmx" || word == "svm")
        };
        let opens = || {
            fs::File::options()
                .read(true)
                .write(true)
                .open("/dev/kvm")
                .is_ok()
        };
        match arch.is_hosts() && says_so() && opens() {
            true => Self::Kvm,
            false => Self::Tcg,
        }
    }

    /// QEMU's options for it.
    ///
    /// Where QEMU runs the instructions, time in the machine is how many there were, one to a nanosecond, and
    /// time in which it has none to run is skipped. So what else the host does is not felt in it, and a program of
    /// the kernel takes as long for it as on a real processor.
    fn options(self) -> &'static [&'static str] {
        match self {
            Self::Kvm => &["-accel", "kvm"],
            Self::Tcg => &[
                "-accel",
                "tcg,thread=single",
                "-icount",
                "shift=0,sleep=off",
            ],
        }
    }

    /// How many processors each of several machines has that run at the same time. One that QEMU runs takes one
    /// of the host's, whatever it has itself; there kernels before 6.12 do not come to a second one on x86-64.
    pub fn processors(self, machines: usize) -> usize {
        let all = || thread::available_parallelism().map_or(1, usize::from);
        match self {
            Self::Kvm => (all() / machines.max(1)).max(1),
            Self::Tcg => 1,
        }
    }
}

/// A machine that runs.
pub struct Machine {
    child: Child,
    started: Instant,
    results: PathBuf,
    console: PathBuf,
}

/// How long the suites of one machine may take.
const PATIENCE: Duration = Duration::from_secs(100 * 60);
/// How long it may write nothing meanwhile.
const SILENCE: Duration = Duration::from_secs(15 * 60);
/// How long the kernel may take to come to them.
const BOOT_PATIENCE: Duration = Duration::from_secs(5 * 60);

/// What is wrong with a machine that has run for so long, and has written `silent_for` ago, if ever.
fn fault(ran: Duration, silent_for: Option<Duration>) -> Option<String> {
    let Some(silent_for) = silent_for else {
        let limit = BOOT_PATIENCE.as_secs();
        return (ran > BOOT_PATIENCE).then(|| format!("it had not started after {limit} s"));
    };
    if silent_for > SILENCE {
        return Some(format!("it wrote nothing for {} s", SILENCE.as_secs()));
    }
    (ran > PATIENCE).then(|| format!("it was not done after {} s", PATIENCE.as_secs()))
}

impl Machine {
    /// Starts one. What it writes to its two serial ports goes into files in `directory`.
    pub fn start(
        kernel: &Kernel,
        initramfs: &Path,
        (accelerator, processors): (Accelerator, usize),
        directory: &Path,
    ) -> Result<Self> {
        let results = directory.join("results.log");
        let console = directory.join("console.log");
        for file in [&results, &console] {
            fs::write(file, "").with_context(|| format!("writing {}", file.display()))?;
        }
        // It is in memory twice for a moment, and what is unpacked may take half of the rest.
        let megabytes = 3 * (fs::metadata(initramfs)?.len() >> 20) + 1024;
        let mut qemu = Command::new(kernel.arch.qemu());
        qemu.args(accelerator.options());
        qemu.args(["-m", &megabytes.to_string()]);
        qemu.args(["-smp", &processors.to_string()]);
        qemu.args(["-nodefaults", "-no-user-config", "-no-reboot"]);
        qemu.args(["-display", "none", "-monitor", "none"]);
        qemu.args(kernel.arch.machine(accelerator));
        let port = kernel.arch.ports(&mut qemu, &console, &results);
        qemu.arg("-kernel").arg(&kernel.image);
        qemu.arg("-initrd").arg(initramfs);
        let console_port = kernel.arch.console();
        qemu.arg("-append").arg(format!(
            "console={console_port} quiet panic=-1 results={port}"
        ));
        qemu.stdin(Stdio::null()).stdout(Stdio::null());
        end_with_this_thread(&mut qemu);
        let program = kernel.arch.qemu();
        let child = qemu.spawn();
        let child = child.with_context(|| {
            format!("cannot start {program}: install qemu-system-x86, or qemu-system-arm")
        })?;
        Ok(Self {
            child,
            started: Instant::now(),
            results,
            console,
        })
    }

    /// Waits for its end, and passes on every line of results as it comes. Gives everything, and
    /// what was wrong with the machine itself.
    pub fn watch(mut self, mut line: impl FnMut(&str)) -> Result<(String, Option<String>)> {
        let mut seen = 0;
        let mut wrote = None;
        loop {
            let over = self.child.try_wait()?.is_some();
            let text = fs::read(&self.results)?;
            let text = String::from_utf8_lossy(&text).replace('\r', "");
            let whole = text.rfind('\n').map_or(0, |end| end + 1);
            text.get(seen..whole)
                .unwrap_or_default()
                .lines()
                .for_each(&mut line);
            if whole > seen {
                wrote = Some(Instant::now());
            }
            seen = whole;
            if over {
                return Ok((text, None));
            }
            let silent_for = wrote.map(|wrote| wrote.elapsed());
            if let Some(fault) = fault(self.started.elapsed(), silent_for) {
                return Ok((text, Some(fault)));
            }
            thread::sleep(Duration::from_millis(500));
        }
    }

    /// Where its console is written to.
    pub fn console(&self) -> PathBuf {
        self.console.clone()
    }
}

/// Has a command end with the thread that starts it, which waits for it, and so with this program however
/// that ends.
fn end_with_this_thread(command: &mut Command) {
    let parent = Pid::from_raw(std::process::id() as i32);
    let ask = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // It may be gone already.
        match getppid() == parent {
            true => Ok(()),
            false => Err(Errno::CHILD.into()),
        }
    };
    // SAFETY: between fork and exec it makes two system calls and nothing else: no memory is
    // allocated, and no lock is taken.
    unsafe { command.pre_exec(ask) };
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have switched itself off.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_stands_still_is_given_up_before_one_that_goes_on() {
        let after = |minutes: u64| Duration::from_secs(60 * minutes);
        assert_eq!(fault(after(1), None), None);
        assert!(fault(after(6), None).unwrap().contains("not started"));
        assert_eq!(fault(after(90), Some(after(14))), None);
        let still = fault(after(20), Some(after(16))).unwrap();
        assert!(still.contains("wrote nothing"), "{still}");
        let slow = fault(after(101), Some(after(1))).unwrap();
        assert!(slow.contains("not done"), "{slow}");
    }

    #[test]
    fn a_command_ends_with_the_thread_that_started_it() {
        let start = || {
            let mut command = Command::new("sleep");
            end_with_this_thread(command.arg("60"));
            command.spawn().unwrap()
        };
        let mut child = thread::spawn(start).join().unwrap();
        let limit = Instant::now() + Duration::from_secs(20);
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > limit => break child.kill().and(child.wait()).unwrap(),
                None => thread::sleep(Duration::from_millis(10)),
            }
        };
        assert!(Instant::now() < limit, "it went on: {status}");
        assert!(!status.success());
    }
}
