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

fn offsets(types: &Btf) -> Result<Offsets, BtfError> {
    let task = |member: &str| types.offset_of("task_struct", member);
    // `struct sock` begins with its `struct sock_common`.
    let common = |member: &str| types.offset_of("sock_common", member);
    let sock = |member: &str| types.offset_of("sock", member);
    let tcp = |member: &str| types.offset_of("tcp_sock", member);
    // Kernels without IPv6 have no IPv6 sockets whose addresses could be read.
    let without_ipv6 = |member: &str| common(member).unwrap_or_default();
    Ok(Offsets {
        task_tgid: task("tgid")?,
        task_pid: task("pid")?,
        task_comm: task("comm")?,
        task_flags: task("flags")?,
        task_group_leader: task("group_leader")?,
        // Renamed in 5.5.
        task_start_boottime: task("start_boottime").or_else(|_| task("real_start_time"))?,
        task_files: task("files")?,
        files_fdt: types.offset_of("files_struct", "fdt")?,
        fdtable_max_fds: types.offset_of("fdtable", "max_fds")?,
        fdtable_fd: types.offset_of("fdtable", "fd")?,
        file_inode: types.offset_of("file", "f_inode")?,
        file_private_data: types.offset_of("file", "private_data")?,
        inode_mode: types.offset_of("inode", "i_mode")?,
        inode_ino: types.offset_of("inode", "i_ino")?,
        socket_state: types.offset_of("socket", "state")?,
        socket_file: types.offset_of("socket", "file")?,
        socket_sk: types.offset_of("socket", "sk")?,
        sk_family: common("skc_family")?,
        sk_state: common("skc_state")?,
        sk_dport: common("skc_dport")?,
        sk_daddr: common("skc_daddr")?,
        sk_rcv_saddr: common("skc_rcv_saddr")?,
        sk_v6_daddr: without_ipv6("skc_v6_daddr"),
        sk_v6_rcv_saddr: without_ipv6("skc_v6_rcv_saddr"),
        sk_net: common("skc_net")?,
        net_inum: types.offset_of("net", "ns.inum")?,
        sk_protocol: sock("sk_protocol")?,
        sk_type: sock("sk_type")?,
        // The flags lie in `sock_common`, under a name that tells nothing.
        sk_flags: common("skc_flags")?,
        sk_err: sock("sk_err")?,
        sk_socket: sock("sk_socket")?,
        sk_ack_backlog: sock("sk_ack_backlog")?,
        sk_max_ack_backlog: sock("sk_max_ack_backlog")?,
        inet_sport: types.offset_of("inet_sock", "inet_sport")?,
        tcp_copied_seq: tcp("copied_seq")?,
        tcp_rcv_nxt: tcp("rcv_nxt")?,
        tcp_write_seq: tcp("write_seq")?,
        tcp_snd_una: tcp("snd_una")?,
        tcp_rcv_wnd: tcp("rcv_wnd")?,
        tcp_rcv_wup: tcp("rcv_wup")?,
        tcp_bytes_acked: tcp("bytes_acked")?,
        tcp_rcv_tstamp: tcp("rcv_tstamp")?,
        tcp_mstamp: tcp("tcp_mstamp")?,
        tcp_lsndtime: tcp("lsndtime")?,
        icsk_lrcvtime: types.offset_of("inet_connection_sock", "icsk_ack.lrcvtime")?,
        mptcp_first: types.offset_of("mptcp_sock", "first").unwrap_or_default(),
    })
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
