//! The conversation with the test: lines of facts on standard output (`pid 4242 address [::1]:80`),
//! one line on standard input for each step that the test wants done, and the end of standard input
//! when the program shall leave.

use std::{
    fmt::Display,
    io,
    net::TcpStream,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use anyhow::{Context, Result};

/// Longest life of the program in seconds, should nobody end it.
const TIME_LIMIT: u32 = 120;

/// Lets the kernel end this program after [`TIME_LIMIT`].
pub fn set_time_limit() {
    // SAFETY: alarm() takes a number and touches no memory.
    unsafe { libc::alarm(TIME_LIMIT) };
}

/// Tells the process id and other facts, then waits until the test wants the next step.
pub fn be_ready(facts: &[(&str, String)]) {
    let pid = [("pid", std::process::id().to_string())];
    tell(&[&pid, facts].concat());
    await_word();
}

/// Tells facts, on one line.
pub fn tell(facts: &[(&str, String)]) {
    let words: Vec<String> = facts
        .iter()
        .map(|(key, value)| format!("{key} {value}"))
        .collect();
    println!("{}", words.join(" "));
}

/// Waits until the test wants the next step; ends the program when there is none.
pub fn await_word() {
    if !read_word() {
        std::process::exit(0);
    }
}

/// Waits until standard input ends.
pub fn stay_until_told_to_leave() {
    while read_word() {}
}

fn read_word() -> bool {
    let mut line = String::new();
    io::stdin()
        .read_line(&mut line)
        .is_ok_and(|length| length > 0)
}

/// Whether a word waits to be read, or standard input has ended.
pub fn is_spoken_to() -> Result<bool> {
    let stdin = io::stdin();
    let mut poll = [rustix::event::PollFd::new(
        &stdin,
        rustix::event::PollFlags::IN,
    )];
    rustix::event::poll(&mut poll, Some(&rustix::event::Timespec::default()))
        .context("cannot poll standard input")?;
    Ok(!poll[0].revents().is_empty())
}

/// Forgets connections, and tells their descriptors and local ports.
pub fn forget(connections: Vec<TcpStream>) -> Result<()> {
    let descriptors: Vec<BorrowedFd<'_>> = connections.iter().map(AsFd::as_fd).collect();
    let mut ports = Vec::new();
    for connection in &connections {
        ports.push(connection.local_addr()?.port());
    }
    tell(&[("fds", numbers(&descriptors)), ("ports", list(&ports))]);
    std::mem::forget(connections);
    Ok(())
}

/// The numbers of descriptors, as a fact.
pub fn numbers(descriptors: &[BorrowedFd<'_>]) -> String {
    list(
        &descriptors
            .iter()
            .map(AsRawFd::as_raw_fd)
            .collect::<Vec<_>>(),
    )
}

/// A list, as a fact.
pub fn list(items: &[impl Display]) -> String {
    items
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",")
}
