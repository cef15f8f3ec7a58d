//! Reads of kernel structures, by the offsets of the running kernel.
//!
//! All reads go through `bpf_probe_read_kernel`: a bad address gives zeroes, never a fault. A zero
//! travels to user space as data, where it fits no socket.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::{
    bpf_get_current_pid_tgid, bpf_get_current_task, bpf_jiffies64, bpf_probe_read_kernel,
    generated::bpf_probe_read_kernel as raw_probe_read_kernel,
};
use tcpleak_ebpf::{Endpoints, Offsets, PathHeader, Socket, Task, tcp_state};

/// Set by the loader from the kernel's BTF, before the programs are verified: the verifier sees
/// constants.
#[unsafe(no_mangle)]
pub(crate) static OFFSETS: Offsets = Offsets::ZERO;

/// For so many jiffies nothing must have been sent or received on an open connection for a survey to
/// show it, whoever holds it. Zero, as long as the loader sets nothing else: then none is shown.
#[unsafe(no_mangle)]
static OPEN_IDLE_JIFFIES: u32 = 0;

/// The offset of a member, read so that the compiler cannot take today's zero for granted.
macro_rules! offset {
    ($member:ident) => {{
        // SAFETY: a plain read of an initialised static.
        unsafe { core::ptr::read_volatile(&raw const crate::kernel::OFFSETS.$member) }
    }};
}
pub(crate) use offset;

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const IPPROTO_TCP: u16 = 6;
const IPPROTO_MPTCP: u16 = 262;
const SOCK_STREAM: u16 = 1;
const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;
const SS_CONNECTED: u8 = 3;
const SOCK_DEAD: u64 = 1 << 0;
const SOCK_DONE: u64 = 1 << 1;
const SEND_SHUTDOWN: u8 = 2;
const PF_EXITING: u32 = 0x4;
const PF_IO_WORKER: u32 = 0x10;
const PF_KTHREAD: u32 = 0x0020_0000;

/// An address in kernel memory that nothing vouches for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Address(pub u64);

impl Address {
    /// Reads a value at an offset; zeroes when the address is bad.
    #[inline(always)]
    pub fn read<T: Copy + Default>(self, offset: u32) -> T {
        let source = self.0.wrapping_add(u64::from(offset)) as *const T;
        // SAFETY: the helper checks the address itself and copies.
        unsafe { bpf_probe_read_kernel(source) }.unwrap_or_default()
    }

    /// Reads a value at an offset into its place: the stack of a program is too small for many
    /// values on their way. Leaves zeroes when the address is bad.
    #[inline(always)]
    pub fn read_into<T: Copy>(self, offset: u32, place: &mut T) {
        let source = self.0.wrapping_add(u64::from(offset)) as *const core::ffi::c_void;
        // SAFETY: the place is as large as said; the helper checks the source itself, and fills the
        // place with zeroes when it cannot read.
        unsafe {
            raw_probe_read_kernel((&raw mut *place).cast(), size_of::<T>() as u32, source);
        }
    }

    /// Reads a pointer at an offset; `None` when it is null.
    #[inline(always)]
    pub fn follow(self, offset: u32) -> Option<Self> {
        match self.read::<u64>(offset) {
            0 => None,
            address => Some(Self(address)),
        }
    }
}

/// Whether no process can reach this `struct sock` any more, whatever kind of socket it is.
#[inline(always)]
pub fn is_orphaned(sock: Address) -> bool {
    sock.read::<u64>(offset!(sk_flags)) & SOCK_DEAD != 0
}

/// Words at the beginning of a `struct sock`, where its ends are.
type Words = [u64; 12];

/// The beginning of a `struct sock`, copied at once: to have each member read by the helper takes several
/// times as long.
struct Beginning<'a> {
    sock: Address,
    words: &'a Words,
}

impl<'a> Beginning<'a> {
    /// Copies it to a place of the caller's: moved about, it would be on the stack twice.
    #[inline(always)]
    fn copy(sock: Address, place: &'a mut MaybeUninit<Words>) -> Self {
        sock.read_into(0, place);
        Self {
            sock,
            // SAFETY: the helper has filled it, with zeroes if nothing else.
            words: unsafe { place.assume_init_ref() },
        }
    }

    /// The member at an offset, which is a constant to the verifier. The kernel may have it elsewhere.
    #[inline(always)]
    fn read<T: Copy + Default>(&self, offset: u32) -> T {
        if offset as usize + size_of::<T>() > size_of::<Words>() {
            return self.sock.read(offset);
        }
        let start = (&raw const *self.words).cast::<u8>();
        // SAFETY: it lies within the words, and members are aligned in the kernel's structure as here.
        unsafe { *start.add(offset as usize).cast::<T>() }
    }

    #[inline(always)]
    fn is_v6(&self) -> bool {
        self.read::<u16>(offset!(sk_family)) == AF_INET6
    }

    /// Its local address and port. What is left of a port that it gave back is elsewhere.
    #[inline(always)]
    fn local_end(&self, ends: &mut Endpoints) {
        if self.is_v6() {
            write(&mut ends.local, self.read(offset!(sk_v6_rcv_saddr)));
        } else {
            write(&mut ends.local, v4_mapped(self.read(offset!(sk_rcv_saddr))));
        }
        ends.local_port = match self.read(offset!(sk_num)) {
            0 => u16::from_be(self.sock.read(offset!(inet_sport))),
            port => port,
        };
    }
}

/// A `struct sock` known to be a TCP one, so that reading it as a `struct tcp_sock` is sound.
#[derive(Clone, Copy)]
pub struct Sock {
    tcp: Address,
    /// What the program holds: the same, or the MPTCP socket above it.
    outer: Address,
}

impl Sock {
    /// Checks family, type and protocol of a `struct sock`.
    #[inline(always)]
    pub fn checked(address: Address) -> Option<Self> {
        let family: u16 = address.read(offset!(sk_family));
        if family != AF_INET && family != AF_INET6 {
            return None;
        }
        Self::of_inet(address)
    }

    /// Checks type and protocol of a `struct sock` that is one of IPv4 or IPv6. An MPTCP socket gives the
    /// first of the TCP sockets below it, which has the sequence numbers; the state is that of the MPTCP
    /// socket, whose peer can close it while the TCP socket stays.
    #[inline(always)]
    pub fn of_inet(address: Address) -> Option<Self> {
        match kind_and_protocol(address) {
            (SOCK_STREAM, IPPROTO_TCP) => Some(Self {
                tcp: address,
                outer: address,
            }),
            (SOCK_STREAM, IPPROTO_MPTCP) if offset!(mptcp_first) != 0 => {
                let tcp = address.follow(offset!(mptcp_first))?;
                (tcp.read::<u16>(offset!(sk_protocol)) == IPPROTO_TCP).then_some(Self {
                    tcp,
                    outer: address,
                })
            }
            _ => None,
        }
    }

    /// The TCP socket behind an open file, and the inode number of the file.
    #[inline(always)]
    pub fn of_file(file: Address) -> Option<(Self, u64)> {
        let inode = file.follow(offset!(file_inode))?;
        if inode.read::<u16>(offset!(inode_mode)) & S_IFMT != S_IFSOCK {
            return None;
        }
        let socket = file.follow(offset!(file_private_data))?;
        let sock = Self::checked(socket.follow(offset!(socket_sk))?)?;
        Some((sock, inode.read(offset!(inode_ino))))
    }

    /// Its address: the key of its lifecycle record.
    #[inline(always)]
    pub fn key(self) -> u64 {
        self.tcp.0
    }

    /// Whether it is the one at this address, which may be that of the MPTCP socket above it.
    #[inline(always)]
    pub fn is(self, address: u64) -> bool {
        self.tcp.0 == address || self.outer.0 == address
    }

    /// Its TCP state.
    #[inline(always)]
    pub fn state(self) -> u8 {
        self.outer.read(offset!(sk_state))
    }

    /// Its pending error (errno).
    #[inline(always)]
    pub fn error(self) -> i32 {
        self.outer.read(offset!(sk_err))
    }

    /// Whether no process can reach it any more.
    #[inline(always)]
    pub fn is_orphaned(self) -> bool {
        is_orphaned(self.tcp)
    }

    /// Whether it has a local port at this time: before it connects, one that the program bound it to.
    #[inline(always)]
    pub fn has_port(self) -> bool {
        self.tcp.read::<u16>(offset!(sk_num)) != 0
    }

    /// Whether this side has begun to end it: close() says so before it changes the state.
    #[inline(always)]
    pub fn is_ended_here(self) -> bool {
        self.tcp.read::<u8>(offset!(sk_shutdown)) & SEND_SHUTDOWN != 0
    }

    /// Whether everything the peer sent, its FIN included, has been read.
    #[inline(always)]
    pub fn is_read_to_the_end(self) -> bool {
        self.tcp.read::<u64>(offset!(sk_flags)) & SOCK_DONE != 0
            && self.tcp.read::<u32>(offset!(tcp_copied_seq))
                == self.tcp.read::<u32>(offset!(tcp_rcv_nxt))
    }

    /// Both ends, and the network namespace.
    #[inline(always)]
    pub fn endpoints(self, ends: &mut Endpoints) {
        let mut place = MaybeUninit::uninit();
        let sock = Beginning::copy(self.tcp, &mut place);
        sock.local_end(ends);
        if sock.is_v6() {
            write(&mut ends.remote, sock.read(offset!(sk_v6_daddr)));
        } else {
            write(&mut ends.remote, v4_mapped(sock.read(offset!(sk_daddr))));
        }
        ends.remote_port = u16::from_be(sock.read(offset!(sk_dport)));
        ends.netns = match sock.read::<u64>(offset!(sk_net)) {
            0 => 0,
            net => Address(net).read(offset!(net_inum)),
        };
    }

    /// The local end.
    #[inline(always)]
    pub fn local_end(self, ends: &mut Endpoints) {
        let mut place = MaybeUninit::uninit();
        Beginning::copy(self.tcp, &mut place).local_end(ends);
    }

    /// Whether a survey must know more about it, whoever holds it: it listens, its peer is gone, does
    /// not answer or does not close its half, it has closed its window, or it is as idle as was asked
    /// for.
    #[inline(always)]
    pub fn is_remarkable(self) -> bool {
        match self.state() {
            tcp_state::LISTEN
            | tcp_state::CLOSE_WAIT
            | tcp_state::SYN_SENT
            | tcp_state::FIN_WAIT2 => true,
            tcp_state::CLOSE => self.was_connected(),
            tcp_state::ESTABLISHED => {
                (self.receive_window() == 0 && self.unread() > 0) || self.is_idle()
            }
            _ => false,
        }
    }

    /// Whether a survey must know more about it although no descriptor leads to it: its peer is gone,
    /// or every descriptor is closed and the peer has not acknowledged that.
    #[inline(always)]
    pub fn is_remarkable_unheld(self, state: u8) -> bool {
        match state {
            tcp_state::CLOSE_WAIT => true,
            tcp_state::FIN_WAIT1 | tcp_state::CLOSING | tcp_state::LAST_ACK => self.is_orphaned(),
            _ => false,
        }
    }

    /// Whether nothing was sent or received for as long as was asked for.
    #[inline(always)]
    fn is_idle(self) -> bool {
        // SAFETY: a plain read of an initialised static; the loader may have set another value.
        let wanted = unsafe { core::ptr::read_volatile(&raw const OPEN_IDLE_JIFFIES) };
        let now = jiffies();
        let since = |member: u32| now.wrapping_sub(self.tcp.read::<u32>(member));
        wanted != 0
            && since(offset!(icsk_lrcvtime)) >= wanted
            && since(offset!(tcp_lsndtime)) >= wanted
    }

    /// Whether a closed socket had a connection once. A non-blocking client never leaves
    /// `SS_CONNECTING`; that its peer acknowledged the SYN says the same. disconnect() clears both.
    #[inline(always)]
    fn was_connected(self) -> bool {
        self.tcp.read::<u16>(offset!(sk_dport)) != 0
            && (self.socket_state() == SS_CONNECTED
                || self.tcp.read::<u64>(offset!(tcp_bytes_acked)) > 0)
    }

    #[inline(always)]
    fn socket_state(self) -> u8 {
        match self.outer.follow(offset!(sk_socket)) {
            Some(socket) => socket.read::<u32>(offset!(socket_state)) as u8,
            None => 0,
        }
    }

    #[inline(always)]
    fn unread(self) -> u32 {
        let rcv_nxt: u32 = self.tcp.read(offset!(tcp_rcv_nxt));
        rcv_nxt.wrapping_sub(self.tcp.read(offset!(tcp_copied_seq)))
    }

    #[inline(always)]
    fn receive_window(self) -> u32 {
        let right_edge = self
            .tcp
            .read::<u32>(offset!(tcp_rcv_wup))
            .wrapping_add(self.tcp.read(offset!(tcp_rcv_wnd)));
        let left = right_edge.wrapping_sub(self.tcp.read(offset!(tcp_rcv_nxt))) as i32;
        if left > 0 { left as u32 } else { 0 }
    }

    /// Fills in everything that user space judges by, but the inode number.
    #[inline(always)]
    pub fn describe(self, socket: &mut Socket) {
        let sock = self.tcp;
        let now = jiffies();
        socket.address = sock.0;
        // Microseconds in the kernel.
        socket.last_event_at = sock.read::<u64>(offset!(tcp_mstamp)) * 1000;
        self.endpoints(&mut socket.ends);
        socket.copied_seq = sock.read(offset!(tcp_copied_seq));
        socket.rcv_nxt = sock.read(offset!(tcp_rcv_nxt));
        socket.write_seq = sock.read(offset!(tcp_write_seq));
        socket.snd_una = sock.read(offset!(tcp_snd_una));
        socket.receive_window = self.receive_window();
        socket.last_ack_jiffies = now.wrapping_sub(sock.read(offset!(tcp_rcv_tstamp)));
        socket.last_data_jiffies = now.wrapping_sub(sock.read(offset!(icsk_lrcvtime)));
        socket.last_sent_jiffies = now.wrapping_sub(sock.read(offset!(tcp_lsndtime)));
        socket.accept_queue = sock.read(offset!(sk_ack_backlog));
        socket.backlog = sock.read(offset!(sk_max_ack_backlog));
        socket.error = self.error();
        socket.retransmits = sock.read(offset!(icsk_retransmits));
        socket.state = self.state();
        socket.fin_received = (socket.state == tcp_state::CLOSE_WAIT
            || sock.read::<u64>(offset!(sk_flags)) & SOCK_DONE != 0)
            as u8;
        let owner = self.outer.follow(offset!(sk_socket));
        socket.has_socket = owner.is_some() as u8;
        socket.socket_state = self.socket_state();
        let file = owner.and_then(|owner| owner.follow(offset!(socket_file)));
        socket.has_file = file.is_some() as u8;
        socket.inode = match file.and_then(|file| file.follow(offset!(file_inode))) {
            Some(inode) => inode.read(offset!(inode_ino)),
            None => 0,
        };
    }
}

/// The process that `task` (a `struct task_struct`) belongs to, and the thread it is.
#[inline(always)]
pub fn describe_task(task: Address, description: &mut Task) {
    (description.tgid, description.tid) = ids_of(task);
    describe_leader(task, description);
}

/// What the process of a task is called, and when it started. Its first thread stands for it.
#[inline(always)]
fn describe_leader(task: Address, description: &mut Task) {
    let leader = match description.tid == description.tgid {
        true => task,
        false => task.follow(offset!(task_group_leader)).unwrap_or(task),
    };
    description.start_ns = leader.read(offset!(task_start_boottime));
    leader.read_into(offset!(task_comm), &mut description.comm);
}

/// Process id of a `struct task_struct`.
#[inline(always)]
pub fn process_of(task: Address) -> u32 {
    task.read(offset!(task_tgid))
}

/// When a process started (its `struct task_struct`), which with its id names it for good.
#[inline(always)]
pub fn start_of(task: Address) -> u64 {
    task.read(offset!(task_start_boottime))
}

/// When the running process started.
#[inline(always)]
pub fn current_start() -> u64 {
    let current = current();
    start_of(
        current
            .follow(offset!(task_group_leader))
            .unwrap_or(current),
    )
}

/// Process id and thread id of a `struct task_struct`.
#[inline(always)]
pub fn ids_of(task: Address) -> (u32, u32) {
    (task.read(offset!(task_tgid)), task.read(offset!(task_pid)))
}

/// The running thread.
#[derive(Clone, Copy)]
pub struct Current {
    flags: u32,
}

impl Current {
    /// Looks at it.
    #[inline(always)]
    pub fn get() -> Self {
        let flags = current().read(offset!(task_flags));
        Self { flags }
    }

    /// Whether its process is ending: what it does now, the kernel does for it.
    #[inline(always)]
    pub fn is_ending(self) -> bool {
        self.flags & PF_EXITING != 0
    }

    /// Whether it has a user stack of its own: a kernel thread of io_uring has none.
    #[inline(always)]
    pub fn has_user_stack(self) -> bool {
        self.flags & (PF_KTHREAD | PF_IO_WORKER) == 0
    }

    /// Describes its process. False for a kernel thread, whose sockets belong to nobody.
    #[inline(always)]
    pub fn describe(self, description: &mut Task) -> bool {
        if self.flags & PF_KTHREAD != 0 {
            return false;
        }
        let ids = bpf_get_current_pid_tgid();
        (description.tgid, description.tid) = ((ids >> 32) as u32, ids as u32);
        describe_leader(current(), description);
        true
    }
}

/// Which program the running process is at this time, and how much code it has mapped.
#[inline(always)]
pub fn current_image(header: &mut PathHeader) {
    header.image = 0;
    header.code_pages = 0;
    if let Some(memory) = current().follow(offset!(task_mm)) {
        header.image = memory.read(offset!(mm_start_stack));
        header.code_pages = memory.read(offset!(mm_exec_vm));
    }
}

/// The process that the running one descends from.
#[inline(always)]
pub fn current_parent() -> u32 {
    match current().follow(offset!(task_real_parent)) {
        Some(parent) => parent.read(offset!(task_tgid)),
        None => 0,
    }
}

/// The thread pointer of the running thread; zero where it cannot be told.
#[inline(always)]
pub fn current_thread_pointer() -> u64 {
    match offset!(task_thread_pointer) {
        0 => 0,
        member => current().read(member),
    }
}

/// Whether the running thread has ever used io_uring, which may do things for it at any time.
#[inline(always)]
pub fn current_uses_io_uring() -> bool {
    let member = offset!(task_io_uring);
    member != 0 && current().follow(member).is_some()
}

/// The socket behind a descriptor of the running process.
#[inline(always)]
pub fn sock_of_descriptor(descriptor: u32) -> Option<Sock> {
    let table = current()
        .follow(offset!(task_files))?
        .follow(offset!(files_fdt))?;
    if descriptor >= table.read::<u32>(offset!(fdtable_max_fds)) {
        return None;
    }
    let files = table.follow(offset!(fdtable_fd))?;
    let file = files.follow(descriptor.checked_mul(8)?)?;
    Some(Sock::of_file(file)?.0)
}

/// Where the running thread's registers were saved as it entered the kernel, if it has a stack.
#[inline(always)]
pub fn current_registers() -> Option<Address> {
    let stack = current().follow(offset!(task_stack))?;
    Some(Address(
        stack.0.wrapping_add(u64::from(offset!(stack_registers))),
    ))
}

#[inline(always)]
fn current() -> Address {
    // SAFETY: the helper takes nothing and returns the address of the running task.
    Address(unsafe { bpf_get_current_task() })
}

/// The low half of jiffies, which is what TCP keeps.
#[inline(always)]
fn jiffies() -> u32 {
    // SAFETY: the helper takes nothing and returns a number.
    unsafe { bpf_jiffies64() as u32 }
}

/// Type and protocol of a `struct sock`, which newer kernels have side by side.
#[inline(always)]
fn kind_and_protocol(sock: Address) -> (u16, u16) {
    let (kind, protocol) = (offset!(sk_type), offset!(sk_protocol));
    if protocol == kind + 2 {
        let [kind, protocol] = sock.read::<[u16; 2]>(kind);
        (kind, protocol)
    } else {
        (sock.read(kind), sock.read(protocol))
    }
}

/// `::ffff:a.b.c.d`
#[inline(always)]
fn v4_mapped(address: u32) -> [u32; 4] {
    [0, 0, 0xffff_u32.to_be(), address]
}

/// Writes an address, which is in network byte order, by words.
#[inline(always)]
fn write(place: &mut [u8; 16], address: [u32; 4]) {
    // SAFETY: the addresses of `Endpoints`, which is aligned to four bytes, are at its beginning.
    unsafe { *(&raw mut *place).cast::<[u32; 4]>() = address };
}
