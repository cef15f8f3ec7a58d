use std::{
    io::Write,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::*;

/// A child that is killed and reaped when the test ends, however it ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sleeper() -> Running {
    let child = Running(Command::new("sleep").arg("60").spawn().unwrap());
    wait_until("exec", || {
        cmdline(Path::new(&format!("/proc/{}", child.0.id()))).is_some()
    });
    child
}

fn start_ns(pid: u32) -> u64 {
    Stat::read(Path::new(&format!("/proc/{pid}")))
        .unwrap()
        .start_ticks
        * NS_PER_TICK
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not happen in 10 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn memory_is_that_of_a_process_that_runs() {
    let own = resident_bytes(std::process::id()).unwrap();
    assert!((100_000..100_000_000_000).contains(&own), "{own}");
    assert_eq!(resident_bytes(u32::MAX), None);
}

#[test]
fn this_process_is_described() {
    let pid = std::process::id();
    let info = Processes::new().describe(pid, start_ns(pid), "unused");
    let exe = std::env::current_exe().unwrap();
    assert_eq!(info.exe.as_deref(), exe.to_str());
    assert_eq!(
        info.comm,
        fs::read_to_string("/proc/self/comm").unwrap().trim_end()
    );
    assert_eq!(info.cmdline, Some(std::env::args().collect()));
    assert!(info.cgroup.unwrap().starts_with('/'));
}

#[test]
fn a_process_that_ended_keeps_its_description() {
    let mut processes = Processes::new();
    let mut child = sleeper();
    let (pid, start) = (child.0.id(), start_ns(child.0.id()));
    let alive = processes.describe(pid, start, "sleep");
    assert_eq!(
        alive.cmdline,
        Some(vec!["sleep".to_owned(), "60".to_owned()])
    );

    child.0.kill().unwrap();
    wait_until("the child's end", || {
        fs::read_to_string(format!("/proc/{pid}/stat"))
            .unwrap()
            .contains(") Z ")
    });
    assert_eq!(
        processes.describe(pid, start, "sleep"),
        alive,
        "as a zombie"
    );
    child.0.wait().unwrap();
    assert_eq!(processes.describe(pid, start, "sleep"), alive, "gone");
    assert!(!is_alive(pid, start));
}

#[test]
fn a_process_that_was_never_seen_alive_has_its_name_only() {
    let info = Processes::new().describe(u32::MAX, 1, "ghost");
    assert_eq!(
        info,
        ProcessInfo {
            comm: "ghost".into(),
            ..ProcessInfo::default()
        }
    );
}

#[test]
fn another_process_with_the_same_pid_is_not_described_as_the_old_one() {
    let child = sleeper();
    let (pid, start) = (child.0.id(), start_ns(child.0.id()));
    let mut processes = Processes::new();
    let second = 1_000_000_000;
    let older = processes.describe(pid, start - second, "older");
    assert_eq!(
        older,
        ProcessInfo {
            comm: "older".into(),
            ..ProcessInfo::default()
        }
    );
    assert!(processes.describe(pid, start, "sleep").exe.is_some());
    assert_eq!(processes.describe(pid, start - second, "older"), older);
    assert!(is_alive(pid, start) && !is_alive(pid, start - second));
}

#[test]
fn a_process_that_replaced_its_program_is_described_anew() {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "read go; exec sleep 60"])
        .stdin(Stdio::piped());
    let mut child = Running(shell.spawn().unwrap());
    let (pid, start) = (child.0.id(), start_ns(child.0.id()));
    let mut processes = Processes::new();
    let mut cmdline = || {
        processes
            .describe(pid, start, "")
            .cmdline
            .unwrap_or_default()
    };
    wait_until("the shell", || {
        cmdline().first().is_some_and(|program| program == "sh")
    });
    child.0.stdin.take().unwrap().write_all(b"go\n").unwrap();
    wait_until("exec", || cmdline() == ["sleep", "60"]);
}

#[test]
fn the_memory_is_bounded() {
    let mut processes = Processes::new();
    for start in 0..REMEMBERED.get() as u64 + 10 {
        processes.known.put((1, start), ProcessInfo::default());
    }
    assert_eq!(processes.known.len(), REMEMBERED.get());
}

#[test]
fn a_name_with_parentheses_does_not_shift_the_fields() {
    let fields = "R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20 21 22 23 24 999 26";
    let stat = Stat::parse(format!("42 (a) R 1 (b) {fields}\n").as_bytes()).unwrap();
    assert_eq!((stat.comm.as_str(), stat.start_ticks), ("a) R 1 (b", 777));
    assert_eq!(stat.start_stack, 999);
    let stat = Stat::parse(b"42 (\xFF\n\x1B[2J) R").map(|stat| stat.comm);
    assert_eq!(stat, None, "a line without a start names no process");
    assert!(Stat::parse(b")(").is_none());
    assert!(Stat::parse(b"").is_none());
}

#[test]
fn command_lines_are_split_and_bounded() {
    let owned = |arguments: &[&str]| Some(arguments.iter().map(|a| (*a).to_owned()).collect());
    assert_eq!(
        arguments(b"a\0b c\0\0d\0".to_vec()),
        owned(&["a", "b c", "", "d"])
    );
    assert_eq!(
        arguments(b"nginx: worker\0\0\0\0".to_vec()),
        owned(&["nginx: worker"])
    );
    assert_eq!(arguments(b"\xFF\0".to_vec()), owned(&["\u{FFFD}"]));
    assert_eq!(arguments(Vec::new()), None);
    assert_eq!(arguments(vec![0; 100]), None);

    let many = arguments(b"x\0".repeat(65)).unwrap();
    assert_eq!((many.len(), many[63].as_str()), (64, LEFT_OUT));
    assert_eq!(arguments(b"x\0".repeat(64)).unwrap(), vec!["x"; 64]);
    let long = arguments(vec![b'x'; 4097]).unwrap();
    assert_eq!(
        (long.len(), long[0].len(), long[1].as_str()),
        (2, 4096, LEFT_OUT)
    );
}

#[test]
fn the_control_group_is_the_unified_one_or_the_longest() {
    let pick = |text: &str| cgroup(text.as_bytes());
    assert_eq!(
        pick("0::/system.slice/a.service\n").as_deref(),
        Some("/system.slice/a.service")
    );
    let older = "3:cpu:/\n2:memory:/docker/0123\n1:name=systemd:/docker\n";
    assert_eq!(pick(older).as_deref(), Some("/docker/0123"));
    assert_eq!(
        pick(&format!("{older}0::/\n")).as_deref(),
        Some("/docker/0123")
    );
    assert_eq!(
        pick(&format!("{older}0::/user\n")).as_deref(),
        Some("/user")
    );
    assert_eq!(pick("0::/\n").as_deref(), Some("/"));
    assert_eq!(pick("0::/with:colons\n").as_deref(), Some("/with:colons"));
    assert_eq!(pick(""), None);
    assert_eq!(pick("nonsense"), None);
}

#[test]
fn the_network_namespace_of_this_process_is_found_once() {
    let own = fs::metadata("/proc/self/ns/net").unwrap().ino();
    let NetworkNamespaces { known: found, .. } = network_namespaces();
    let with_inode = |inode| {
        found
            .iter()
            .filter(move |one| u64::from(one.inode) == inode)
    };
    assert_eq!(with_inode(own).count(), 1);
    for namespace in &found {
        assert_eq!(
            with_inode(namespace.inode.into()).count(),
            1,
            "{namespace:?} is listed twice"
        );
    }
    assert!(found.is_sorted_by_key(|namespace| namespace.pid));
}
