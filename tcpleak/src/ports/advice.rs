//! What would help against TIME_WAIT and against running out of ports, on this kernel, as it is set: the
//! program first. tcpleak changes none of it.

use super::{Found, Place, Settings, Share, TIME_WAIT};
use crate::report::{Advice, AdviceKind};

/// The range that Linux begins with.
const USUAL_PORTS: u64 = 28_232;
/// Fewer sockets in TIME_WAIT than these are nobody's trouble.
const MANY: u64 = 500;

/// Advice on what was found, what helps first. Nothing is said where nothing is wrong.
pub fn advice(found: &Found) -> Vec<Advice> {
    let waiting = |wanted: fn(&Place) -> bool| -> u64 {
        let shares = found.shares.iter().filter(|share| wanted(&share.place));
        shares.map(|share| share.count).sum()
    };
    let opened = waiting(|place| matches!(place, Place::Opened { .. }));
    let accepted = waiting(|place| matches!(place, Place::Accepted { .. }));
    let is_close = found.close_to_limit().next().is_some();
    if !is_close && opened + accepted < MANY {
        return Vec::new();
    }
    let mut advice = Vec::new();
    in_the_program(found, (opened, accepted), &mut advice);
    for (_, settings) in &found.settings {
        in_the_kernel(found, settings, &mut advice);
    }
    if let Some((_, settings)) = found.settings.first() {
        myths(settings, &mut advice);
    }
    // Namespaces that are set alike.
    let mut told = Vec::new();
    advice.retain(|one: &Advice| {
        let is_new = !told.contains(&one.text);
        told.push(one.text.clone());
        is_new
    });
    advice.sort_by_key(|one| one.kind as u8);
    advice
}

fn add(kind: AdviceKind, text: String, advice: &mut Vec<Advice>) {
    advice.push(Advice { kind, text });
}

fn in_the_program(found: &Found, (opened, accepted): (u64, u64), advice: &mut Vec<Advice>) {
    use AdviceKind::{DoesNotHelp, Helps};
    let seconds = TIME_WAIT.as_secs();
    if opened > 0 || found.close_to_limit().next().is_some() {
        let rate: f64 = found
            .shares
            .iter()
            .filter(is_opened)
            .filter_map(|share| share.rate)
            .sum();
        let rate = match rate {
            0.0 => String::new(),
            rate => format!(
                ": {rate:.0} closes in a second keep {:.0} ports",
                rate * seconds as f64
            ),
        };
        add(
            Helps,
            format!(
                "Use connections again (keep-alive, a pool) instead of closing each after one use. Whoever closes first keeps the port for {seconds} s{rate}."
            ),
            advice,
        );
    }
    if accepted > opened {
        add(
            Helps,
            "This side is the server and closes first: let clients close, or keep their connections longer. TIME_WAIT takes no further port here, and little memory.".into(),
            advice,
        );
    }
    if found.headroom.iter().any(|ports| ports.bound) {
        add(
            Helps,
            "Set IP_BIND_ADDRESS_NO_PORT before bind(), or do not bind: a port that is bound before connect() is taken for every destination, not for one.".into(),
            advice,
        );
    }
    add(
        DoesNotHelp,
        "SO_LINGER with a time of zero avoids TIME_WAIT by a reset: what is still on its way is lost, and the peer sees an error.".into(),
        advice,
    );
}

fn is_opened(share: &&Share) -> bool {
    matches!(share.place, Place::Opened { .. })
}

fn in_the_kernel(found: &Found, settings: &Settings, advice: &mut Vec<Advice>) {
    use AdviceKind::Helps;
    if found.close_to_limit().next().is_none() {
        return;
    }
    let (low, high, ports) = (
        settings.range.start(),
        settings.range.end(),
        settings.ports(),
    );
    let all = u64::from(*high) - u64::from(*low) + 1;
    if ports <= USUAL_PORTS {
        add(
            Helps,
            format!(
                "net.ipv4.ip_local_port_range is {low} to {high}: a wider one gives each destination more ports, as long as nothing listens there (ip_local_reserved_ports keeps single ports out)."
            ),
            advice,
        );
    }
    if all - ports.min(all) >= 100 {
        add(
            Helps,
            format!(
                "net.ipv4.ip_local_reserved_ports keeps {} ports of that range from being given out: look whether it must.",
                all - ports
            ),
            advice,
        );
    }
    let waits = found
        .close_to_limit()
        .any(|ports| ports.by_state.contains_key("TIME_WAIT") && ports.reusable == 0);
    if waits && !settings.timestamps {
        add(
            Helps,
            "net.ipv4.tcp_timestamps is 0: without time stamps no port in TIME_WAIT can be used again before its time.".into(),
            advice,
        );
    } else if waits && settings.tw_reuse != 1 {
        let now = match settings.tw_reuse {
            2 => "2, for loopback only",
            _ => "0",
        };
        add(
            Helps,
            format!(
                "net.ipv4.tcp_tw_reuse is {now}: with 1, connect() takes over a port in TIME_WAIT after {} s, which is safe when both sides have time stamps. It does nothing for accepted connections.",
                settings.tw_reuse_delay.as_secs_f64()
            ),
            advice,
        );
    }
    add(
        Helps,
        "Each pair of addresses has ports of its own: more addresses on either side, or another port of the server, give as many again.".into(),
        advice,
    );
}

fn myths(settings: &Settings, advice: &mut Vec<Advice>) {
    use AdviceKind::Myth;
    add(
        Myth,
        format!(
            "net.ipv4.tcp_fin_timeout ({} s here) is about FIN_WAIT2 without a program. TIME_WAIT lasts {} s, which nothing changes.",
            settings.fin_timeout.as_secs(),
            TIME_WAIT.as_secs()
        ),
        advice,
    );
    add(
        Myth,
        "net.ipv4.tcp_tw_recycle is gone since Linux 4.12: it broke clients behind one address."
            .into(),
        advice,
    );
    add(
        Myth,
        format!(
            "net.ipv4.tcp_max_tw_buckets ({} here) guards against attacks and is no knob: beyond it connections end without TIME_WAIT (TCPTimeWaitOverflow), which is unsafe.",
            settings.max_time_wait
        ),
        advice,
    );
    add(
        Myth,
        "TIME_WAIT holds no descriptor: it never is the reason for \"too many open files\".".into(),
        advice,
    );
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::*;
    use crate::ports::{Headroom, forecast::Forecast};

    fn settings() -> Settings {
        Settings {
            range: 32_768..=60_999,
            reserved: Vec::new(),
            tw_reuse: 2,
            tw_reuse_delay: Duration::from_secs(1),
            timestamps: true,
            fin_timeout: Duration::from_secs(60),
            max_time_wait: 131_072,
        }
    }

    fn share(place: Place, count: u64) -> Share {
        Share {
            netns: 7,
            place,
            by: None,
            count,
            older_than_tracer: 0,
            rate: Some(400.0),
        }
    }

    fn opened() -> Place {
        Place::Opened {
            source: "10.0.0.1".parse().unwrap(),
            destination: "10.0.0.2:80".parse().unwrap(),
        }
    }

    fn nearly_full(settings: Settings) -> Found {
        Found {
            shares: vec![share(opened(), 24_000)],
            headroom: vec![Headroom {
                netns: 7,
                source: "10.0.0.1".parse().unwrap(),
                destination: "10.0.0.2:80".parse().unwrap(),
                in_use: 27_000,
                available: 1_232,
                by_state: BTreeMap::from([("TIME_WAIT", 27_000)]),
                taken_for_all: 0,
                reusable: 0,
                bound: false,
                forecast: Forecast {
                    rate: 400.0,
                    runs_out_in: Some(Duration::from_secs(3)),
                    basis: String::new(),
                },
            }],
            settings: vec![(7, settings)],
        }
    }

    fn helps(found: &Found) -> Vec<String> {
        let advice = advice(found).into_iter();
        advice
            .filter(|one| one.kind == AdviceKind::Helps)
            .map(|one| one.text)
            .collect()
    }

    fn says(advice: &[String], words: &str) -> bool {
        advice.iter().any(|text| text.contains(words))
    }

    #[test]
    fn the_program_comes_before_the_kernel() {
        let helps = helps(&nearly_full(settings()));
        assert!(helps[0].contains("keep-alive"), "{helps:#?}");
        assert!(
            helps[0].contains("400 closes in a second keep 24000 ports"),
            "{helps:#?}"
        );
        assert!(says(&helps, "ip_local_port_range is 32768 to 60999"));
        assert!(says(&helps, "tcp_tw_reuse is 2, for loopback only"));
    }

    #[test]
    fn what_is_set_already_is_not_advised() {
        let helps = helps(&nearly_full(Settings {
            tw_reuse: 1,
            range: 1_024..=65_535,
            ..settings()
        }));
        assert!(!says(&helps, "tcp_tw_reuse"), "{helps:#?}");
        assert!(!says(&helps, "ip_local_port_range"), "{helps:#?}");
    }

    #[test]
    fn without_time_stamps_reuse_is_not_advised() {
        let helps = helps(&nearly_full(Settings {
            timestamps: false,
            ..settings()
        }));
        assert!(says(&helps, "tcp_timestamps is 0"), "{helps:#?}");
        assert!(!says(&helps, "tcp_tw_reuse"), "{helps:#?}");
    }

    #[test]
    fn whoever_binds_is_told_of_the_option_that_helps() {
        let mut found = nearly_full(settings());
        assert!(!says(&helps(&found), "IP_BIND_ADDRESS_NO_PORT"));
        found.headroom[0].bound = true;
        assert!(says(&helps(&found), "IP_BIND_ADDRESS_NO_PORT"));
    }

    #[test]
    fn a_server_is_told_that_it_costs_no_ports() {
        let local = "10.0.0.1:80".parse().unwrap();
        let found = Found {
            shares: vec![share(Place::Accepted { local }, 9_000)],
            settings: vec![(7, settings())],
            ..Found::default()
        };
        let helps = helps(&found);
        assert!(says(&helps, "takes no further port"), "{helps:#?}");
        assert!(!says(&helps, "ip_local_port_range"), "{helps:#?}");
    }

    #[test]
    fn myths_are_named_as_such_with_the_live_values() {
        let advice = advice(&nearly_full(settings()));
        let myths = advice.iter().filter(|one| one.kind == AdviceKind::Myth);
        let myths: Vec<&str> = myths.map(|one| one.text.as_str()).collect();
        assert_eq!(myths.len(), 4);
        assert!(myths.iter().any(|text| text.contains("131072 here")));
    }

    #[test]
    fn where_nothing_is_wrong_nothing_is_said() {
        let found = Found {
            shares: vec![share(opened(), 40)],
            settings: vec![(7, settings())],
            ..Found::default()
        };
        assert_eq!(advice(&found), []);
    }
}
