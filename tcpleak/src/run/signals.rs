//! Signals that are for the command.
//!
//! They are blocked and read from a descriptor, which tells who sent them: what comes from the terminal
//! (Ctrl-C) went to the whole foreground process group, and so to the command as well. A signal that
//! whoever started tcpleak has ignored (`nohup`) stays ignored.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    ptr,
};

use libc::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use rustix::process::Signal;
use tokio::io::{Interest, unix::AsyncFd};

/// What is forwarded. Stopping and continuing (Ctrl-Z) is left to the kernel, which does it to the whole
/// process group.
const FORWARDED: [i32; 6] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];

/// `si_code` of what the kernel sends: a terminal, here.
const SI_KERNEL: i32 = 0x80;

/// The signals that are caught.
pub struct Signals(AsyncFd<OwnedFd>);

/// A signal that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Which.
    pub signal: Signal,
    /// Whether a terminal sent it.
    pub by_terminal: bool,
}

impl Signals {
    /// Catches signals from now on, on this thread and those that it starts later.
    pub fn catch() -> io::Result<Self> {
        let set = set(&FORWARDED);
        // SAFETY: the set is initialised, and where the old one is to go may be null.
        let error = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, ptr::null_mut()) };
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        // SAFETY: the set is initialised; -1 asks for a new descriptor.
        let descriptor =
            unsafe { libc::signalfd(-1, &set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new, and nobody else has it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
        // SAFETY: the descriptor is owned, and names the same open file until the registration ends.
        let registered = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
        Ok(Self(registered?))
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> io::Result<Received> {
        loop {
            let mut ready = self.0.readable_mut().await?;
            match ready.try_io(|descriptor| read(descriptor.get_ref())) {
                Ok(Ok(Some(received))) => return Ok(received),
                Ok(Ok(None)) | Err(_) => {}
                Ok(Err(error)) => return Err(error),
            }
        }
    }
}

/// Reads one. `None` for a number that is no signal.
fn read(descriptor: &OwnedFd) -> io::Result<Option<Received>> {
    let mut place = MaybeUninit::<libc::signalfd_siginfo>::uninit();
    let size = size_of_val(&place);
    // SAFETY: the place is as large as said.
    let length = unsafe { libc::read(descriptor.as_raw_fd(), place.as_mut_ptr().cast(), size) };
    if length < 0 {
        return Err(io::Error::last_os_error());
    }
    if length.unsigned_abs() != size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // SAFETY: the kernel has filled all of it, and any bytes are a value.
    let information = unsafe { place.assume_init() };
    let number = i32::try_from(information.ssi_signo).ok();
    Ok(number
        .and_then(Signal::from_named_raw)
        .map(|signal| Received {
            signal,
            by_terminal: information.ssi_code == SI_KERNEL,
        }))
}

/// The signals that are blocked now.
pub fn mask() -> libc::sigset_t {
    let mut mask = set(&[]);
    // SAFETY: without a new mask the present one is written to its place.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, ptr::null(), &mut mask) };
    mask
}

fn set(signals: &[i32]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the call initialises the set, and cannot fail.
    let mut set = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    };
    for signal in signals {
        // SAFETY: the set is initialised, and the signals are known.
        unsafe { libc::sigaddset(&mut set, *signal) };
    }
    set
}
