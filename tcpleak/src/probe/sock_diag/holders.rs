//! Who holds which socket, by the links in `/proc/PID/fd`.
//!
//! A process may vanish at any time: then it holds nothing any more. Each one is looked at through
//! a descriptor of its directory, which never becomes that of another with the same pid.

use std::{
    ffi::CStr,
    mem::MaybeUninit,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::PathBuf,
};

use rustix::{
    fs::{CWD, Mode, OFlags, RawDir, getxattr, openat, readlinkat_raw},
    io::Errno,
    net::getsockname,
    process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open},
};

use crate::{
    process::{self, pids},
    survey::{Holder, Task},
};

/// A descriptor of a socket.
pub struct Descriptor<'a> {
    process: &'a Process,
    /// Its number.
    pub fd: u32,
    /// Inode number of the socket.
    pub inode: u32,
}

/// A process whose descriptors are looked at.
pub struct Process {
    directory: OwnedFd,
    /// Its process id.
    pub pid: u32,
    task: Option<Task>,
}

/// Visits every descriptor of a socket that a process has, and takes those that are wanted, each with
/// the inode number of its socket. Returns how many processes may not be looked into.
pub fn visit(
    mut wanted: impl FnMut(&Descriptor<'_>) -> bool,
    mut take: impl FnMut(Holder, u32),
) -> u64 {
    let mut forbidden = 0;
    for pid in pids() {
        match Process::open(pid) {
            Ok((mut process, descriptors)) => process.visit(&descriptors, &mut wanted, &mut take),
            Err(Errno::ACCESS | Errno::PERM) => forbidden += 1,
            // It has ended.
            Err(_) => {}
        }
    }
    forbidden
}

impl Process {
    fn open(pid: u32) -> Result<(Self, OwnedFd), Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(CWD, format!("/proc/{pid}"), flags, Mode::empty())?;
        let descriptors = openat(&directory, "fd", flags, Mode::empty())?;
        let process = Self {
            directory,
            pid,
            task: None,
        };
        Ok((process, descriptors))
    }

    fn visit(
        &mut self,
        descriptors: &OwnedFd,
        wanted: &mut impl FnMut(&Descriptor<'_>) -> bool,
        take: &mut impl FnMut(Holder, u32),
    ) {
        let mut buffer = [MaybeUninit::uninit(); 8192];
        let mut entries = RawDir::new(descriptors.as_fd(), &mut buffer);
        while let Some(Ok(entry)) = entries.next() {
            let Some((fd, inode)) = socket(descriptors, entry.file_name()) else {
                continue;
            };
            let descriptor = Descriptor {
                process: self,
                fd,
                inode,
            };
            if wanted(&descriptor)
                && let Some(task) = self.task()
            {
                take(Holder { task, fd }, inode);
            }
        }
    }

    /// The process as a survey names it; none when it has ended.
    fn task(&mut self) -> Option<Task> {
        if self.task.is_none() {
            self.task = process::task(self.pid, &self.path());
        }
        self.task.clone()
    }

    /// Its directory, whatever process has its pid by now.
    fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.directory.as_raw_fd()).into()
    }
}

impl Descriptor<'_> {
    /// The process that has it.
    pub fn pid(&self) -> u32 {
        self.process.pid
    }

    /// Whether it is one of a TCP socket, which is told even of a socket that is in no table.
    pub fn is_tcp(&self) -> bool {
        let mut name = [0; 16];
        let path = self.process.path().join(format!("fd/{}", self.fd));
        let read = getxattr(path, "system.sockprotoname", &mut name);
        let name = read.ok().and_then(|length| name.get(..length));
        name.is_some_and(|name| {
            let end = name.iter().position(|byte| *byte == 0);
            matches!(
                name.get(..end.unwrap_or(name.len())),
                Some(b"TCP" | b"TCPv6")
            )
        })
    }

    /// Whether the program dissolved the connection of a socket that is in no table: from then on the kernel
    /// counts anew what it received, and a local address that the program did not choose is gone. Kernels before
    /// 5.6 do not tell, and those before 5.10 not of an address that was chosen: then it is taken for no.
    ///
    /// This holds the socket for a moment, which delays nothing where there is no connection.
    pub fn is_disconnected(&self) -> bool {
        let pid = i32::try_from(self.process.pid).ok().and_then(Pid::from_raw);
        let fd = i32::try_from(self.fd).ok();
        let copy = pid.zip(fd).and_then(|(pid, fd)| {
            let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
            pidfd_getfd(&process, fd, PidfdGetfdFlags::empty()).ok()
        });
        copy.is_some_and(|socket| {
            let address = getsockname(&socket).ok();
            let address = address.and_then(|address| SocketAddr::try_from(address).ok());
            address.is_some_and(|address| address.ip().is_unspecified())
                || segments_received(&socket) == Some(0)
        })
    }
}

/// How many segments a TCP socket received for the connection that it has or had (`tcp_info.tcpi_segs_in`).
fn segments_received(socket: &OwnedFd) -> Option<u32> {
    const OFFSET: usize = 140;
    let mut info = [0_u8; OFFSET + 4];
    let mut length = libc::socklen_t::try_from(info.len()).ok()?;
    // SAFETY: the kernel writes at most as many bytes as it is told there are, and says how many.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    let bytes = info.get(OFFSET..usize::try_from(length).ok()?)?;
    (result == 0).then_some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

/// The descriptor that an entry of `/proc/PID/fd` is about, and the inode of the socket behind it.
fn socket(descriptors: &OwnedFd, name: &CStr) -> Option<(u32, u32)> {
    let fd = name.to_str().ok()?.parse().ok()?;
    // Paths are longer: what matters fits.
    let mut target = [0; 32];
    let length = readlinkat_raw(descriptors, name, &mut target).ok()?;
    Some((fd, inode(target.get(..length)?)?))
}

/// `socket:[INODE]`
fn inode(link: &[u8]) -> Option<u32> {
    let number = link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    str::from_utf8(number).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    #[test]
    fn only_links_to_sockets_have_an_inode() {
        assert_eq!(inode(b"socket:[4026531840]"), Some(4_026_531_840));
        for link in [
            &b"socket:[4294967296]"[..],
            b"socket:[-1]",
            b"socket:[12",
            b"socket:[]",
            b"pipe:[12]",
            b"/tmp/socket:[12]",
            b"",
        ] {
            assert_eq!(inode(link), None);
        }
    }

    #[test]
    fn only_a_socket_that_had_a_connection_received_segments() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let client = OwnedFd::from(client);
        for end in [&client, &server.into()] {
            assert!(segments_received(end).is_some_and(|segments| segments > 0));
        }
        rustix::net::connect_unspec(&client).unwrap();
        assert_eq!(segments_received(&client), Some(0));
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(segments_received(&udp.into()), None);
    }

    #[test]
    fn the_descriptors_of_this_process_are_found_and_told_apart_by_protocol() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sockets = [tcp.as_raw_fd(), udp.as_raw_fd()].map(|fd| u32::try_from(fd).unwrap());
        let itself = std::process::id();
        let mut seen = Vec::new();
        let mut held = Vec::new();
        visit(
            |descriptor| {
                let ours = descriptor.pid() == itself && sockets.contains(&descriptor.fd);
                if ours {
                    seen.push((descriptor.fd, descriptor.is_tcp()));
                }
                ours
            },
            |holder, _| held.push((holder.task.process.pid, holder.fd)),
        );
        seen.sort_unstable();
        let mut expected = [(sockets[0], true), (sockets[1], false)];
        expected.sort_unstable();
        assert_eq!(seen, expected);
        assert_eq!(held.len(), 2);
        assert!(held.iter().all(|(pid, _)| *pid == itself), "{held:?}");
    }
}
