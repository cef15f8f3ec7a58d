//! Ports that are used up, and when they run out. Each story has a network namespace with few ports.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::harness::{Fixture, NetworkNamespace, Server, Tracer, run};

/// A namespace that gives out so many ports, in which sockets wait the whole minute.
fn narrow(ports: u16) -> NetworkNamespace {
    let namespace = NetworkNamespace::that_keeps_time_wait();
    namespace.set("ip_local_port_range", &format!("40000 {}", 39_999 + ports));
    namespace
}

/// A server in a namespace, on a port that is not given out.
fn serve(namespace: &NetworkNamespace, address: &str) -> String {
    namespace.enter(|| {
        let server = Server::start_at(address);
        server.serve(|connection| {
            // However it ends, the connection ends with it.
            let _ = std::io::copy(&mut &connection, &mut std::io::sink());
        });
    });
    address.to_owned()
}

fn close_first(namespace: &NetworkNamespace, how: &str, to: &str, count: u16) -> Fixture {
    let mut client = namespace.enter(|| Fixture::start(&[how, to, &count.to_string()]));
    client.go();
    client
}

fn headroom<'a>(report: &'a Value, namespace: &NetworkNamespace, to: &str) -> Option<&'a Value> {
    let ports = report["ports"].as_array().expect("there is a list");
    let inode = namespace.inode();
    ports
        .iter()
        .find(|ports| ports["netns"] == inode && ports["destination"] == to)
}

fn number(ports: &Value, name: &str) -> u64 {
    ports[name]
        .as_u64()
        .unwrap_or_else(|| panic!("{name} is no number: {ports:#}"))
}

#[test]
fn when_ports_run_out_is_foretold() {
    const PORTS: u16 = 120;
    let namespace = narrow(PORTS);
    let server = serve(&namespace, "127.0.0.1:8080");
    let mut client = namespace.enter(|| Fixture::start(&["use-up-ports", &server, "5"]));
    let mut tracer = Tracer::of_ports();
    client.tell();
    let report = tracer.wait_for_report("a forecast", |report| {
        let ports = headroom(report, &namespace, &server);
        ports.is_some_and(|ports| ports["runs_out_in_s"].is_f64())
    });
    let ports = headroom(&report, &namespace, &server).expect("it is there");
    let left = ports["runs_out_in_s"].as_f64().expect("seconds");
    assert!(
        (ports["rate_per_s"].as_f64().expect("a rate") - 5.0).abs() < 1.0,
        "{ports:#}"
    );
    let told_at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let told_at = told_at.expect("it is later than 1970").as_secs_f64();
    // More than twenty seconds pass, but not the minute after which ports are free again.
    tracer.watch_for(Duration::from_secs(35));
    let ran_out_at = client.facts().one::<f64>("ran-out-at") / 1000.0;
    let really_left = ran_out_at - told_at;
    assert!(
        (left - really_left).abs() <= 0.2 * really_left + 0.5,
        "foretold {left:.1} s, was {really_left:.1} s: {ports:#}"
    );
    let report = tracer.wait_for_report("ports that have run out", |report| {
        let ports = headroom(report, &namespace, &server);
        ports.is_some_and(|ports| ports["available"] == 0)
    });
    let ports = headroom(&report, &namespace, &server).expect("it is there");
    assert_eq!(ports["runs_out_in_s"], 0.0);
    assert_eq!(ports["in_use"], PORTS);
    assert_eq!(ports["by_state"]["TIME_WAIT"], PORTS);
    let helps = report["advice"].as_array().expect("a list").iter();
    let helps: Vec<&str> = helps
        .filter(|advice| advice["kind"] == "helps")
        .filter_map(|advice| advice["text"].as_str())
        .collect();
    assert!(helps[0].contains("keep-alive"), "{helps:#?}");
    assert!(
        helps.iter().any(|text| text.contains("tcp_tw_reuse is 0")),
        "{helps:#?}"
    );
    // A report on leaks warns too.
    let text = run(&["snapshot"]).stdout;
    assert!(text.contains("Ports run out"), "{text}");
    assert!(text.contains("127.0.0.1 -> 127.0.0.1:8080"), "{text}");
}

#[test]
fn ports_are_counted_for_each_destination_and_those_that_were_bound_for_all() {
    let namespace = narrow(200);
    let bound = serve(&namespace, "127.0.0.1:8080");
    let free = serve(&namespace, "127.0.0.1:8081");
    let mut tracer = Tracer::of_ports();
    let _first = close_first(&namespace, "close-first", &free, 30);
    let report = tracer.wait_for_report("thirty ports in use", |report| {
        headroom(report, &namespace, &free).is_some_and(|ports| ports["in_use"] == 30)
    });
    let ports = headroom(&report, &namespace, &free).expect("it is there");
    assert_eq!(number(ports, "available"), 170);
    assert_eq!(number(ports, "taken_for_all"), 0);

    let _second = close_first(&namespace, "bind-and-close-first", &bound, 40);
    let report = tracer.wait_for_report("forty ports that were bound", |report| {
        headroom(report, &namespace, &bound)
            .is_some_and(|ports| ports["by_state"]["TIME_WAIT"] == 40)
    });
    let ports = headroom(&report, &namespace, &bound).expect("it is there");
    assert_eq!(ports["bound"], true);
    assert_eq!(
        number(ports, "in_use"),
        40,
        "those of the other are free: {ports:#}"
    );
    let ports = headroom(&report, &namespace, &free).expect("it is there");
    assert_eq!(ports["bound"], false);
    assert_eq!(number(ports, "taken_for_all"), 40);
    // bind() may take a port that a connection to elsewhere has.
    assert!((40..=70).contains(&number(ports, "in_use")), "{ports:#}");
}

#[test]
fn ports_in_time_wait_that_the_kernel_reuses_are_not_missing() {
    let namespace = narrow(100);
    let server = serve(&namespace, "127.0.0.1:8080");
    let _client = close_first(&namespace, "close-first", &server, 60);
    namespace.set("tcp_tw_reuse", "2");
    let mut tracer = Tracer::of_ports();
    let report = tracer.wait_for_report("ports that can be reused", |report| {
        headroom(report, &namespace, &server).is_some_and(|ports| ports["reusable"] == 60)
    });
    let ports = headroom(&report, &namespace, &server).expect("it is there");
    assert_eq!(number(ports, "available"), 100);
    assert_eq!(ports["close_to_limit"], false);
    // And it does: there is room for more than there are ports.
    let _more = close_first(&namespace, "close-first", &server, 60);
}
