//! Offsets into the running kernel's structures, from its type information.

use tcpleak_ebpf::Offsets;

use super::ProbeError;
use crate::btf::{Btf, BtfError};

const TYPES: &str = "/sys/kernel/btf/vmlinux";

/// Reads the type information of the running kernel.
pub fn kernel_types() -> Result<Btf, ProbeError> {
    let no_types = |reason: String| ProbeError::NoTypes {
        path: TYPES,
        reason,
    };
    let bytes = std::fs::read(TYPES).map_err(|error| no_types(error.to_string()))?;
    Btf::parse(bytes).map_err(|error| no_types(error.to_string()))
}

/// Resolves every member that the programs read.
pub fn resolve(types: &Btf) -> Result<Offsets, ProbeError> {
    offsets(types).map_err(|error| ProbeError::NoTypes {
        path: TYPES,
        reason: error.to_string(),
    })
}

/// Sizes of the members, in bytes: the programs read as much.
const BYTE: u32 = 1;
const SHORT: u32 = 2;
const WORD: u32 = 4;
const LONG: u32 = 8;
const IPV6_ADDRESS: u32 = 16;
const NAME: u32 = 16;

/// Where the kernel keeps the thread pointer.
const THREAD_POINTER: &str = if cfg!(target_arch = "aarch64") {
    "thread.uw.tp_value"
} else {
    "thread.fsbase"
};

/// Bytes of a task's stack in the kernel, without a checker of addresses built in. On arm64 it is at
/// least a page, and pages may have 64 KiB: there nothing that looks like registers is found.
const KERNEL_STACK: u32 = 16 << 10;

/// What lies above the registers of a program on that stack: kernels that are built for FRED, a way
/// into the kernel that newer x86-64 processors have, leave room for it on all.
const ABOVE_REGISTERS: &str = "fred_info";

fn offsets(types: &Btf) -> Result<Offsets, BtfError> {
    let of = |structure: &str, member: &str, size: u32| member_of(types, structure, member, size);
    let task = |member: &str, size: u32| of("task_struct", member, size);
    // `struct sock` begins with its `struct sock_common`.
    let common = |member: &str, size: u32| of("sock_common", member, size);
    let sock = |member: &str, size: u32| of("sock", member, size);
    let tcp = |member: &str, size: u32| of("tcp_sock", member, size);
    // Kernels without IPv6 have no IPv6 sockets whose addresses could be read.
    let without_ipv6 = |member: &str| common(member, IPV6_ADDRESS).unwrap_or_default();
    Ok(Offsets {
        task_tgid: task("tgid", WORD)?,
        task_pid: task("pid", WORD)?,
        task_comm: task("comm", NAME)?,
        task_flags: task("flags", WORD)?,
        task_group_leader: task("group_leader", LONG)?,
        // Renamed in 5.5.
        task_start_boottime: task("start_boottime", LONG)
            .or_else(|_| task("real_start_time", LONG))?,
        task_files: task("files", LONG)?,
        task_mm: task("mm", LONG)?,
        task_stack: task("stack", LONG)?,
        stack_registers: KERNEL_STACK
            .saturating_sub(types.size_of(ABOVE_REGISTERS).unwrap_or_default())
            .saturating_sub(types.size_of("pt_regs")?),
        task_io_uring: task("io_uring", LONG).unwrap_or_default(),
        task_real_parent: task("real_parent", LONG)?,
        task_thread_pointer: task(THREAD_POINTER, LONG).unwrap_or_default(),
        mm_start_stack: of("mm_struct", "start_stack", LONG)?,
        mm_exec_vm: of("mm_struct", "exec_vm", LONG)?,
        files_fdt: of("files_struct", "fdt", LONG)?,
        fdtable_max_fds: of("fdtable", "max_fds", WORD)?,
        fdtable_fd: of("fdtable", "fd", LONG)?,
        file_inode: of("file", "f_inode", LONG)?,
        file_private_data: of("file", "private_data", LONG)?,
        inode_mode: of("inode", "i_mode", SHORT)?,
        inode_ino: of("inode", "i_ino", LONG)?,
        socket_state: of("socket", "state", WORD)?,
        socket_file: of("socket", "file", LONG)?,
        socket_sk: of("socket", "sk", LONG)?,
        sk_family: common("skc_family", SHORT)?,
        sk_state: common("skc_state", BYTE)?,
        sk_dport: common("skc_dport", SHORT)?,
        sk_num: common("skc_num", SHORT)?,
        sk_daddr: common("skc_daddr", WORD)?,
        sk_rcv_saddr: common("skc_rcv_saddr", WORD)?,
        sk_v6_daddr: without_ipv6("skc_v6_daddr"),
        sk_v6_rcv_saddr: without_ipv6("skc_v6_rcv_saddr"),
        sk_net: common("skc_net", LONG)?,
        net_inum: of("net", "ns.inum", WORD)?,
        sk_protocol: sock("sk_protocol", SHORT)?,
        sk_type: sock("sk_type", SHORT)?,
        // The flags lie in `sock_common`, under a name that tells nothing.
        sk_flags: common("skc_flags", LONG)?,
        sk_err: sock("sk_err", WORD)?,
        sk_shutdown: sock("sk_shutdown", BYTE)?,
        sk_socket: sock("sk_socket", LONG)?,
        sk_ack_backlog: sock("sk_ack_backlog", WORD)?,
        sk_max_ack_backlog: sock("sk_max_ack_backlog", WORD)?,
        inet_sport: of("inet_sock", "inet_sport", SHORT)?,
        tcp_copied_seq: tcp("copied_seq", WORD)?,
        tcp_rcv_nxt: tcp("rcv_nxt", WORD)?,
        tcp_write_seq: tcp("write_seq", WORD)?,
        tcp_snd_una: tcp("snd_una", WORD)?,
        tcp_rcv_wnd: tcp("rcv_wnd", WORD)?,
        tcp_rcv_wup: tcp("rcv_wup", WORD)?,
        tcp_bytes_acked: tcp("bytes_acked", LONG)?,
        tcp_rcv_tstamp: tcp("rcv_tstamp", WORD)?,
        tcp_mstamp: tcp("tcp_mstamp", LONG)?,
        tcp_lsndtime: tcp("lsndtime", WORD)?,
        icsk_lrcvtime: of("inet_connection_sock", "icsk_ack.lrcvtime", WORD)?,
        icsk_retransmits: of("inet_connection_sock", "icsk_retransmits", BYTE)?,
        mptcp_first: of("mptcp_sock", "first", LONG).unwrap_or_default(),
        fork_child_pid: of("trace_event_raw_sched_process_fork", "child_pid", WORD)
            .unwrap_or_default(),
        free_pid: of("trace_event_raw_sched_process_template", "pid", WORD).unwrap_or_default(),
    })
}

/// The offset of a member that has the size which the programs read.
fn member_of(types: &Btf, structure: &str, member: &str, size: u32) -> Result<u32, BtfError> {
    let found = types.member_size(structure, member)?;
    if found != size {
        let (structure, member) = (structure.to_owned(), member.to_owned());
        return Err(BtfError::Size {
            structure,
            member,
            size: found,
        });
    }
    types.offset_of(structure, member)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernel_has_every_member() {
        let offsets = resolve(&kernel_types().unwrap()).unwrap();
        assert_eq!(
            offsets.sk_daddr + 4,
            offsets.sk_rcv_saddr,
            "the addresses are one pair"
        );
        assert!(
            offsets.tcp_copied_seq > offsets.sk_max_ack_backlog,
            "a tcp_sock begins with a sock"
        );
    }
}
