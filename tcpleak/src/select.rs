//! Which connections a report is about.

use std::{net::IpAddr, str::FromStr, time::Duration};

use clap::Args;

use crate::cli::duration;

/// Which connections to report.
#[derive(Clone, Debug, Args)]
pub struct Select {
    /// Only connections that this process opened or holds; repeatable.
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Vec<u32>,
    /// Only processes with this name (as in /proc/PID/comm); repeatable.
    #[arg(long, value_name = "NAME")]
    pub comm: Vec<String>,
    /// Only connections with this local or remote port; repeatable.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Vec<u16>,
    /// Only connections to this network or address; repeatable.
    #[arg(long, value_name = "CIDR")]
    pub remote: Vec<Network>,
    /// How long the peer must be gone before a connection counts as leaked (500ms, 10s, 2m).
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub min_age: Duration,
    /// Also report groups that are not leaks (yet).
    #[arg(long)]
    pub all: bool,
}

/// A network in CIDR notation, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Whether the address lies in the network. An IPv4-mapped IPv6 address counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        fn same_prefix(left: &[u8], right: &[u8], bits: u8) -> bool {
            let (whole, rest) = (usize::from(bits / 8), bits % 8);
            left[..whole] == right[..whole]
                && (rest == 0 || (left[whole] ^ right[whole]) >> (8 - rest) == 0)
        }
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                same_prefix(&network.octets(), &address.octets(), self.prefix)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                same_prefix(&network.octets(), &address.octets(), self.prefix)
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address
            .parse()
            .map_err(|_| format!("{address:?} is not an IP address; write 10.0.0.0/8 or fd00::/8"))?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => longest,
            Some(prefix) => match prefix.parse() {
                Ok(prefix) if prefix <= longest => prefix,
                _ => return Err(format!("the prefix length {prefix:?} is not between 0 and {longest}")),
            },
        };
        Ok(Self { address, prefix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_contains_its_addresses_and_no_others() {
        let contains = |network: &str, address: &str| {
            network.parse::<Network>().unwrap().contains(address.parse().unwrap())
        };
        assert!(contains("10.0.0.0/8", "10.255.0.1"));
        assert!(!contains("10.0.0.0/8", "11.0.0.1"));
        assert!(contains("192.168.4.0/22", "192.168.7.9"));
        assert!(!contains("192.168.4.0/22", "192.168.8.9"));
        assert!(contains("127.0.0.1", "127.0.0.1"));
        assert!(contains("0.0.0.0/0", "::ffff:1.2.3.4"));
        assert!(contains("fd00::/8", "fd12::1"));
        assert!(!contains("fd00::/8", "fe80::1"));
        assert!(!contains("::/0", "1.2.3.4"));
        assert!("10.0.0.0/33".parse::<Network>().is_err());
        assert!("example".parse::<Network>().is_err());
    }
}
