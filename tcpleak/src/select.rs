//! Which connections a report is about.

use std::{net::IpAddr, str::FromStr, time::Duration};

use clap::Args;

/// How long the peer must be gone, unless the user says otherwise.
pub const MIN_AGE: Duration = Duration::from_secs(10);

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
    /// Also report open connections on which nothing was sent or received for this time, by the code
    /// that opened them: a pool that only grows (30s, 10m).
    #[arg(long, value_name = "TIME", value_parser = idle_time)]
    pub open: Option<Duration>,
    /// Also report groups that are not leaks (yet).
    #[arg(long)]
    pub all: bool,
}

impl Select {
    /// Every connection that leaks, once it does so for that long.
    pub fn everything(min_age: Duration) -> Self {
        Self {
            pid: Vec::new(),
            comm: Vec::new(),
            port: Vec::new(),
            remote: Vec::new(),
            min_age,
            open: None,
            all: false,
        }
    }
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
        let address: IpAddr = address.parse().map_err(|_| {
            format!("{address:?} is not an IP address; write 10.0.0.0/8 or fd00::/8")
        })?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => longest,
            Some(prefix) => match prefix.parse() {
                Ok(prefix) if prefix <= longest => prefix,
                _ => {
                    return Err(format!(
                        "the prefix length {prefix:?} is not between 0 and {longest}"
                    ));
                }
            },
        };
        Ok(Self { address, prefix })
    }
}

/// A length of time as people write it: `500ms`, `10s`, `2m`, `1h 30m`; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string());
    }
    text.parse::<jiff::SignedDuration>()
        .map_err(|_| format!("{text:?} is not a time; write 500ms, 10s or 2m"))
        .and_then(|time| Duration::try_from(time).map_err(|_| format!("{text:?} is negative")))
}

/// A time for which a connection can be idle.
fn idle_time(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if time < Duration::from_millis(100) {
        return Err("between two packets every connection is idle; write 100ms or more".into());
    }
    Ok(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_connection_is_idle_between_two_packets() {
        assert!(idle_time("0").is_err());
        assert!(idle_time("99ms").is_err());
        assert_eq!(idle_time("2m"), Ok(Duration::from_secs(120)));
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("1.5"), Ok(Duration::from_millis(1500)));
        assert!(duration("-1s").is_err());
        assert!(duration("-1").is_err());
        assert!(duration("soon").is_err());
    }

    #[test]
    fn a_network_contains_its_addresses_and_no_others() {
        let contains = |network: &str, address: &str| {
            network
                .parse::<Network>()
                .unwrap()
                .contains(address.parse().unwrap())
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
