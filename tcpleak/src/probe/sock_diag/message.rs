//! The messages of sock_diag: what is asked, and what the kernel answers.
//!
//! Pure. Layouts are those of `linux/netlink.h`, `linux/inet_diag.h` and `linux/tcp.h`; a kernel adds
//! members at the end of `struct tcp_info`, so an older one tells less.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tcpleak_ebpf::tcp_state;

/// The address families that TCP runs over.
pub const FAMILIES: [u8; 2] = [AF_INET, AF_INET6];

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP: u16 = 0x300;
const ATTRIBUTE_INFO: u16 = 2;
const ATTRIBUTE_UPPER_PROTOCOL: u16 = 19;
const UPPER_PROTOCOL_NAME: u16 = 1;
/// The bits that say that an attribute holds others, or is in network byte order.
const ATTRIBUTE_FLAGS: u16 = 0xc000;
/// `idiag_timer` of a small socket that stands for one in TIME_WAIT, or in FIN_WAIT2 without owner.
const TIMER_TIME_WAIT: u8 = 3;

const HEADER: usize = 16;
const SOCKET_ID: usize = 48;
const DIAG: usize = 72;
/// Bytes of a request.
pub const REQUEST: usize = HEADER + 8 + SOCKET_ID;

/// What names one socket to the kernel, as it came from it.
pub type SocketId = [u8; SOCKET_ID];

/// Every state that the survey asks for: all but half-open handshakes, and CLOSE, of which a socket
/// that is in no table cannot be shown.
pub const EVERY_STATE: u32 = ((1 << tcp_state::NEW_SYN_RECV) - 1)
    & !(1 | (1 << tcp_state::SYN_RECV) | (1 << tcp_state::CLOSE));

/// Listening sockets only.
pub const LISTENERS: u32 = 1 << tcp_state::LISTEN;

/// A socket as the kernel answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diag {
    /// AF_INET or AF_INET6.
    pub family: u8,
    /// TCP state; TIME_WAIT for every small socket that stands for one that nobody owns.
    pub state: u8,
    /// What names it.
    pub id: SocketId,
    /// Number that no other socket has had since boot.
    pub cookie: u64,
    /// Local end.
    pub local: SocketAddr,
    /// Remote end.
    pub remote: SocketAddr,
    /// Inode number of its file; zero when nothing owns the socket.
    pub inode: u32,
    /// Bytes received and not read, the FIN included; of a listener, connections that wait.
    pub receive_queue: u32,
    /// Bytes written and not acknowledged; of a listener, the most connections that may wait.
    pub send_queue: u32,
    /// How long it stays in TIME_WAIT; `None` for a socket in another state, and for a small one in
    /// FIN_WAIT2.
    pub time_wait_left: Option<Duration>,
    /// What TCP knows, where that was asked for.
    pub info: Option<Info>,
    /// Whether it is a part of an MPTCP connection.
    pub is_subflow: bool,
}

/// What is taken from `struct tcp_info`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// Times that the oldest segment which waits for its acknowledgement was sent again.
    pub retransmits: u8,
    /// Since data was last sent.
    pub since_sent: Duration,
    /// Since data last arrived.
    pub since_data: Duration,
    /// Since an acknowledgement last arrived.
    pub since_ack: Duration,
    /// Bytes that the peer has acknowledged.
    pub bytes_acked: u64,
    /// Bytes received in order.
    pub bytes_received: u64,
    /// The receive window; kernels before 6.2 do not tell.
    pub receive_window: Option<u32>,
}

/// One message of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A socket.
    Socket(Box<Diag>),
    /// The end of a dump.
    Done,
    /// The kernel refuses, with this errno; zero says that it has done what was asked.
    Failed(i32),
}

/// Asks for the sockets of a family in some states; what TCP knows of each is most of the answer.
pub fn dump_request(family: u8, states: u32, info: bool) -> [u8; REQUEST] {
    let flags = NLM_F_REQUEST | NLM_F_DUMP;
    request(flags, family, states, info, &[0; SOCKET_ID])
}

/// Asks for one socket.
pub fn single_request(family: u8, id: &SocketId) -> [u8; REQUEST] {
    request(NLM_F_REQUEST, family, u32::MAX, true, id)
}

fn request(flags: u16, family: u8, states: u32, info: bool, id: &SocketId) -> [u8; REQUEST] {
    let mut bytes = [0; REQUEST];
    let mut place = bytes.iter_mut();
    let mut put = |field: &[u8]| {
        // In this order, nothing of the place is used up by the end of the field.
        for (from, to) in field.iter().zip(place.by_ref()) {
            *to = *from;
        }
    };
    put(&(REQUEST as u32).to_ne_bytes());
    put(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    put(&flags.to_ne_bytes());
    // Sequence number and port: one request is under way at a time.
    put(&[0; 8]);
    let extensions = u8::from(info) << (ATTRIBUTE_INFO - 1);
    put(&[family, IPPROTO_TCP, extensions, 0]);
    put(&states.to_ne_bytes());
    put(id);
    bytes
}

/// The messages of one datagram. What is cut short, or of another kind, is passed over.
pub fn replies(datagram: &[u8]) -> impl Iterator<Item = Reply> {
    parts(datagram, |bytes| u32_at(bytes, 0)).filter_map(|message| {
        let payload = message.get(HEADER..)?;
        match u16_at(message, 4)? {
            NLMSG_DONE => Some(match u32_at(payload, 0).map(u32::cast_signed) {
                Some(error) if error < 0 => Reply::Failed(error.saturating_abs()),
                _ => Reply::Done,
            }),
            NLMSG_ERROR => Some(Reply::Failed(
                u32_at(payload, 0)?.cast_signed().saturating_abs(),
            )),
            SOCK_DIAG_BY_FAMILY => diag(payload).map(Box::new).map(Reply::Socket),
            _ => None,
        }
    })
}

/// Walks over parts that begin with their length and are aligned to four bytes. The walk ends at one
/// whose length is impossible.
fn parts(bytes: &[u8], length: impl Fn(&[u8]) -> Option<u32>) -> impl Iterator<Item = &[u8]> {
    const LEAST: usize = 4;
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::try_from(length(rest)?).ok()?;
        if length < LEAST {
            return None;
        }
        let part = rest.get(..length)?;
        rest = rest
            .get(length.checked_next_multiple_of(4)?..)
            .unwrap_or_default();
        Some(part)
    })
}

/// `struct inet_diag_msg` and its attributes.
fn diag(bytes: &[u8]) -> Option<Diag> {
    let [family, state, timer] = *bytes.first_chunk()?;
    let id: SocketId = *bytes.get(4..)?.first_chunk()?;
    let (local, remote) = ends(family, &id)?;
    let mut diag = Diag {
        family,
        state: match timer {
            TIMER_TIME_WAIT => tcp_state::TIME_WAIT,
            _ => state,
        },
        id,
        cookie: u64::from(u32_at(&id, 44)?) << 32 | u64::from(u32_at(&id, 40)?),
        local,
        remote,
        receive_queue: u32_at(bytes, 56)?,
        send_queue: u32_at(bytes, 60)?,
        inode: u32_at(bytes, 68)?,
        time_wait_left: match (timer, state) {
            (TIMER_TIME_WAIT, tcp_state::TIME_WAIT) => {
                Some(Duration::from_millis(u32_at(bytes, 52)?.into()))
            }
            _ => None,
        },
        info: None,
        is_subflow: false,
    };
    for (kind, value) in attributes(bytes.get(DIAG..)?) {
        match kind {
            ATTRIBUTE_INFO => diag.info = info(value),
            ATTRIBUTE_UPPER_PROTOCOL => diag.is_subflow = names_mptcp(value),
            _ => {}
        }
    }
    Some(diag)
}

fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    parts(bytes, |bytes| u16_at(bytes, 0).map(u32::from))
        .filter_map(|part| Some((u16_at(part, 2)? & !ATTRIBUTE_FLAGS, part.get(4..)?)))
}

fn names_mptcp(upper: &[u8]) -> bool {
    attributes(upper).any(|(kind, name)| kind == UPPER_PROTOCOL_NAME && name.starts_with(b"mptcp"))
}

/// `struct inet_diag_sockid`: ports and addresses in network byte order.
fn ends(family: u8, id: &SocketId) -> Option<(SocketAddr, SocketAddr)> {
    let end = |port: usize, address: usize| {
        let port = u16::from_be_bytes(*id.get(port..)?.first_chunk()?);
        let address = id.get(address..)?;
        let address = match family {
            AF_INET => IpAddr::V4(Ipv4Addr::from(*address.first_chunk::<4>()?)),
            AF_INET6 => IpAddr::V6(Ipv6Addr::from(*address.first_chunk::<16>()?)),
            _ => return None,
        };
        Some(SocketAddr::new(address.to_canonical(), port))
    };
    Some((end(0, 4)?, end(2, 20)?))
}

/// `struct tcp_info`, as much of it as this kernel has.
fn info(bytes: &[u8]) -> Option<Info> {
    let since = |offset| {
        u32_at(bytes, offset).map(|milliseconds| Duration::from_millis(milliseconds.into()))
    };
    Some(Info {
        retransmits: *bytes.get(2)?,
        since_sent: since(44)?,
        since_data: since(52)?,
        since_ack: since(56)?,
        bytes_acked: u64_at(bytes, 120).unwrap_or_default(),
        bytes_received: u64_at(bytes, 128).unwrap_or_default(),
        receive_window: u32_at(bytes, 232),
    })
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    let word = bytes.get(offset..)?.first_chunk()?;
    Some(u16::from_ne_bytes(*word))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let word = bytes.get(offset..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*word))
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    let word = bytes.get(offset..)?.first_chunk()?;
    Some(u64::from_ne_bytes(*word))
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
