use std::{
    arch::asm,
    process::{Child, Command},
};

use super::*;
use crate::process::Processes;

unsafe extern "C" {
    /// Where every dynamically linked program starts.
    fn _start();
    /// A function of the C library.
    fn connect();
}

fn raw(pid: u32, frames: &[u64]) -> RawPath {
    RawPath {
        fingerprint: 1,
        pid,
        start_ns: start_ns(pid),
        comm: "test".into(),
        frames: frames.to_vec(),
        truncated: false,
    }
}

/// Field 22 of `/proc/PID/stat`, in nanoseconds.
fn start_ns(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let ticks = stat.rsplit(')').next().unwrap().split_whitespace().nth(19);
    ticks.unwrap().parse::<u64>().unwrap() * 10_000_000
}

fn own_path(frames: &[u64]) -> RawPath {
    raw(std::process::id(), frames)
}

fn resolve(path: &RawPath) -> Resolved {
    Lookup::new().resolve(path)
}

const PLAIN_LINE: u32 = line!() + 2;
#[inline(never)]
fn plain_function() {}

#[inline(never)]
fn leaky_connect() -> u64 {
    inlined_helper()
}

#[inline(always)]
fn inlined_helper() -> u64 {
    here()
}

const HERE_LINE: u32 = line!();

/// The address of an instruction in whatever function this is inlined into.
#[inline(always)]
fn here() -> u64 {
    let address: u64;
    // SAFETY: the instruction only computes an address.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!("lea {}, [rip]", out(reg) address, options(nomem, nostack))
    };
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!("adr {}, .", out(reg) address, options(nomem, nostack))
    };
    address
}

#[test]
fn a_function_of_a_running_program_is_named_with_its_place() {
    let resolved = resolve(&own_path(&[plain_function as *const () as u64]));
    let [frame] = &resolved.frames[..] else {
        panic!("{resolved:?}")
    };
    let function = frame.function.as_ref().unwrap();
    assert!(function.ends_with("::plain_function"), "{frame:?}");
    let file = frame.file.as_ref().unwrap();
    assert!(file.ends_with("code_path/lookup/tests.rs"), "{frame:?}");
    assert_eq!(frame.line, Some(PLAIN_LINE));
    assert_eq!(
        frame.module.as_deref(),
        std::env::current_exe().unwrap().to_str()
    );
    assert!(frame.own && !frame.inlined);
    assert_eq!(frame.runtime, "native");
    assert!(resolved.incomplete.is_some());
}

#[test]
fn inlined_functions_have_frames_of_their_own_innermost_first() {
    let resolved = resolve(&own_path(&[leaky_connect()]));
    let place = |name: &str| {
        let mut frames = resolved.frames.iter();
        frames.position(|frame| frame.function.as_ref().unwrap().ends_with(name))
    };
    let (here, helper, outer) = (
        place("here"),
        place("inlined_helper"),
        place("leaky_connect"),
    );
    assert_eq!(
        (here, helper, outer),
        (Some(0), Some(1), Some(2)),
        "{resolved:?}"
    );
    let inlined: Vec<bool> = resolved.frames.iter().map(|frame| frame.inlined).collect();
    assert_eq!(inlined, [true, true, false]);
    let line = resolved.frames[0].line.unwrap();
    let lines = HERE_LINE..HERE_LINE + 18;
    assert!(
        lines.contains(&line),
        "line {line} lies outside the function"
    );
}

#[test]
fn a_return_address_belongs_to_the_call_before_it() {
    let start = leaky_connect as *const () as u64;
    let function = |frames: &[u64]| resolve(&own_path(frames)).frames.pop().unwrap().function;
    let name = function(&[start]);
    assert_eq!(
        function(&[0, start + 1]),
        name,
        "one byte in: the call lies in the function"
    );
    assert_ne!(
        function(&[0, start]),
        name,
        "its first byte: the call lies before it"
    );
}

#[test]
fn a_system_library_is_named_and_not_own() {
    let resolved = resolve(&own_path(&[connect as *const () as u64]));
    let frame = &resolved.frames[0];
    assert!(
        frame.function.as_ref().unwrap().contains("connect"),
        "{frame:?}"
    );
    assert!(frame.module.as_ref().unwrap().contains("libc"), "{frame:?}");
    assert!(!frame.own);
}

#[test]
fn only_a_whole_path_to_the_start_is_complete() {
    let start = _start as *const () as u64 + 1;
    let mut path = own_path(&[leaky_connect as *const () as u64, start]);
    let resolved = resolve(&path);
    assert_eq!(resolved.incomplete, None, "{resolved:?}");
    path.truncated = true;
    assert_eq!(
        resolve(&path),
        Resolved {
            incomplete: Some(Incomplete::StackTooDeep),
            ..resolved
        }
    );
}

#[test]
fn garbage_addresses_are_unknown_frames() {
    static DATA: u64 = 0;
    let data = &raw const DATA as u64;
    let path = own_path(&[0, 1, data, 0x7fff_ffff_f000, u64::MAX]);
    assert_eq!(resolve(&path).frames, Resolved::unknown(&path).frames);
    assert_eq!(resolve(&own_path(&[])).frames, []);
}

fn sleeper() -> Child {
    Command::new("sleep").arg("60").spawn().unwrap()
}

#[test]
fn another_process_is_named_until_it_is_gone() {
    let mut child = sleeper();
    let pid = child.id();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let code = loop {
        assert!(std::time::Instant::now() < deadline, "sleep did not start");
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        let code = maps
            .lines()
            .find(|line| line.contains(" r-xp ") && line.contains("libc.so"));
        if let Some(line) = code {
            break u64::from_str_radix(line.split('-').next().unwrap(), 16).unwrap();
        }
    };
    let path = raw(pid, &[code + 64]);
    let named = resolve(&path);
    let replaced = resolve(&RawPath {
        start_ns: path.start_ns - 1_000_000_000,
        ..path.clone()
    });
    child.kill().unwrap();
    child.wait().unwrap();

    assert!(
        named.frames[0].module.as_ref().unwrap().contains("libc.so"),
        "{named:?}"
    );
    assert_eq!(
        replaced,
        Resolved::unknown(&path),
        "an older process had this pid"
    );
    assert_eq!(resolve(&path), Resolved::unknown(&path), "it is gone");
    assert_eq!(
        Processes::new().describe(pid, path.start_ns, "sleep").exe,
        None
    );
}

#[test]
fn paths_without_end_are_cut_and_not_complete() {
    let start = _start as *const () as u64 + 1;
    let resolved = resolve(&own_path(&vec![start; FRAMES + 1]));
    assert_eq!(
        (resolved.frames.len(), resolved.incomplete),
        (FRAMES, Some(Incomplete::StackTooDeep))
    );
}
