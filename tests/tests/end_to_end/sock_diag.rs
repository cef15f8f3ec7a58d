//! What kernels give that have no iterators for sockets, forced upon this one: surveys by sock_diag and
//! `/proc`.

use std::{io::Write, net::TcpStream, time::Duration};

use serde_json::{Value, json};

use crate::harness::{
    Fixture, NetworkNamespace, Server, Tracer, assert_passes_through, command, finish, groups,
    has_qualifier, leaks, reset,
};

/// Asks for the survey; the programs that trace stay.
pub const SURVEY: (&str, &str) = ("TCPLEAK_FORCE_BACKEND", "survey=sock_diag");

/// Asks for no programs at all, as on a kernel without type information.
pub const ALONE: (&str, &str) = ("TCPLEAK_FORCE_BACKEND", "lifecycle=none");

/// Watches a program with a backend forced.
#[track_caller]
pub fn watch(force: (&str, &str), fixture: &Fixture) -> Tracer {
    Tracer::watch_with(&[force], &["--pid", &fixture.pid_text()])
}

/// Fails unless the owner and origin of a leak are told as far as they are known.
#[track_caller]
fn assert_origin(leak: &Value, force: (&str, &str), opener: &Fixture, function: &str) {
    assert_eq!(leak["process"]["pid"], opener.pid());
    if force == ALONE {
        assert!(leak["opener"].is_null() && leak["origin"].is_null());
        assert!(has_qualifier(leak, "not-traced"), "{leak:#}");
        assert!(!has_qualifier(leak, "before-tracer"), "{leak:#}");
        assert_eq!(leak["age_kind"], "at_least");
    } else {
        assert_eq!(leak["opener"]["pid"], opener.pid());
        assert_passes_through(&leak["origin"], function);
        assert!(!has_qualifier(leak, "not-traced"), "{leak:#}");
        assert_eq!(leak["age_kind"], "exact");
    }
}

#[test]
fn a_client_that_forgets_its_connections_is_found() {
    for force in [SURVEY, ALONE] {
        let server = Server::start();
        let mut client = Fixture::start(&["connect", &server.address(), "5"]);
        let mut tracer = watch(force, &client);
        let opened = client.go();
        server.hang_up_on(5);

        let leak = tracer.wait_for_group("a leak with its origin", |group| {
            let told = force == ALONE || !group["origin"].is_null();
            group["leak"] == true && group["count"] == 5 && told
        });
        assert_eq!(leak["verdict"], "eof-unread");
        assert_eq!(leak["endpoint"], server.address());
        let fds = json!(opened.list::<u32>("fds"));
        assert_eq!(leak["holders"][0]["fds"], fds);
        assert_origin(&leak, force, &client, "leaky::connect::open_connections");
    }
}

#[test]
fn a_server_that_forgets_its_connections_is_found_with_the_address_it_listens_on() {
    for force in [SURVEY, ALONE] {
        let mut server = Fixture::start(&["accept-and-stay", "127.0.0.1:0", "3"]);
        let mut tracer = watch(force, &server);
        server.tell();
        let clients = [(); 3].map(|()| {
            let mut client = TcpStream::connect(server.address()).expect("it listens");
            client.write_all(b"hello").expect("the server is there");
            client
        });
        server.facts();
        drop(clients);

        let leak = tracer.wait_for_group("a leak with its origin", |group| {
            let told = force == ALONE || !group["origin"].is_null();
            group["leak"] == true && group["count"] == 3 && told
        });
        assert_eq!(leak["endpoint"], server.address().to_string());
        assert_eq!(leak["remote"], "127.0.0.1");
        assert_origin(&leak, force, &server, "leaky::accept::and_forget");
    }
}

#[test]
fn connections_that_nobody_accepted_are_blamed_on_the_listener() {
    for force in [SURVEY, ALONE] {
        let listener = Fixture::start(&["listen", "127.0.0.1:0"]);
        let mut tracer = watch(force, &listener);
        for _ in 0..4 {
            TcpStream::connect(listener.address()).expect("it listens");
        }

        let leak = tracer.wait_for_leak_of(4);
        assert_eq!(leak["verdict"], "not-accepted");
        let address = listener.address().to_string();
        let evidence = json!({"accept_queue": 4, "backlog": 16, "listener": address});
        assert_eq!(leak["evidence"], evidence);
        assert_eq!(leak["process"]["pid"], listener.pid());
        assert_eq!(leak["connections"][0]["inode"], 0);
    }
}

#[test]
fn every_process_that_holds_an_inherited_connection_is_named() {
    for force in [SURVEY, ALONE] {
        let server = Server::start();
        let mut parent = Fixture::start(&["share-with-child", &server.address()]);
        let mut tracer = watch(force, &parent);
        let child: u32 = parent.go().one("child");
        server.hang_up_on(1);

        let leak = tracer.wait_for_leak_of(1);
        assert_eq!(leak["verdict"], "inherited");
        // The opener is the same process, although the kernel and /proc tell its start differently.
        let opener_holds = if force == ALONE {
            json!(null)
        } else {
            json!(true)
        };
        let evidence = json!({"holding_processes": 2, "opener_holds": opener_holds});
        assert_eq!(leak["evidence"], evidence);
        let holders = leak["holders"].as_array().expect("a group has holders");
        let mut pids: Vec<_> = holders
            .iter()
            .map(|holder| holder["pid"].as_u64())
            .collect();
        pids.sort_unstable();
        let mut expected = [parent.pid(), child].map(|pid| Some(u64::from(pid)));
        expected.sort_unstable();
        assert_eq!(pids, expected);
    }
}

#[test]
fn a_descriptor_is_dead_when_its_connection_was_seen_open() {
    for force in [SURVEY, ALONE] {
        let server = Server::start();
        let mut client = Fixture::start(&["connect", &server.address(), "2"]);
        let mut tracer = watch(force, &client);
        let opened = client.go();
        tracer.watch_for(Duration::from_secs(1));
        reset(server.accept());
        reset(server.accept());

        let leak = tracer.wait_for_leak_of(2);
        assert_eq!(leak["verdict"], "dead-fd");
        let evidence =
            json!({"reset": 2, "fin_then_reset": 0, "shut_down_in_order": 0, "timed_out": 0});
        assert_eq!(leak["evidence"], evidence);
        assert_eq!(leak["endpoint"], server.address());
        let fds = json!(opened.list::<u32>("fds"));
        assert_eq!(leak["holders"][0]["fds"], fds);
        assert_origin(&leak, force, &client, "leaky::connect::open_connections");
        let age = leak["oldest_s"].as_f64().expect("a group has an age");
        assert!(age < 20.0, "it just died: {leak:#}");
    }
}

#[test]
fn a_descriptor_that_was_dead_before_is_not_found_and_the_report_says_so() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "1"]);
    client.go();
    reset(server.accept());

    for force in [SURVEY, ALONE] {
        let mut tracer = watch(force, &client);
        tracer.watch_for(Duration::from_secs(2));
        for report in tracer.reports() {
            assert_eq!(groups(report).count(), 0, "{report:#}");
            let notes = report["notes"].to_string();
            assert!(notes.contains("died before tcpleak saw it open"), "{notes}");
        }
    }
}

#[test]
fn what_shows_no_leak_when_it_is_dead_is_not_taken_for_one() {
    let server = Server::start();
    // The first never had a connection; the others gave it up by themselves, after it was seen open. What is left
    // of the last one keeps the address that the program chose.
    let nobody = "127.0.0.1:1";
    let to = &server.address();
    let mut refused = Fixture::start(&["refused", nobody]);
    let mut disconnected = [
        Fixture::start(&["disconnected-later", to]),
        Fixture::start(&["disconnected-later", to, "from", "127.0.0.2:0"]),
    ];
    let mut options = vec!["--all".to_owned()];
    for fixture in disconnected.iter().chain([&refused]) {
        options.extend(["--pid".to_owned(), fixture.pid_text()]);
    }
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let mut tracer = Tracer::watch_with(&[ALONE], &options);
    refused.go();
    for fixture in &mut disconnected {
        fixture.go();
    }
    tracer.watch_for(Duration::from_secs(1));
    for fixture in &mut disconnected {
        fixture.go();
    }
    let seen = tracer.reports().len();
    tracer.watch_for(Duration::from_secs(2));
    assert!(tracer.reports().len() > seen + 2, "too few surveys");
    for report in tracer.reports() {
        assert_eq!(groups(report).count(), 0, "{report:#}");
    }
}

#[test]
fn data_that_waits_unread_is_counted() {
    for force in [SURVEY, ALONE] {
        let server = Server::start();
        let mut client = Fixture::start(&["connect", &server.address(), "1"]);
        let mut tracer = watch(force, &client);
        client.go();
        let sent = server.accept().write_all(&[b'x'; 100]);
        sent.expect("the client is there");

        let leak = tracer.wait_for_leak_of(1);
        assert_eq!(leak["verdict"], "reader-stuck");
        assert_eq!(leak["evidence"]["unread_bytes"], 100);
    }
}

#[test]
fn leaks_in_another_network_namespace_are_found() {
    let namespace = NetworkNamespace::new();
    for force in [SURVEY, ALONE] {
        let listener = namespace.enter(|| Fixture::start(&["listen", "127.0.0.1:0"]));
        let address = listener.address().to_string();
        let mut client = namespace.enter(|| Fixture::start(&["connect", &address, "2"]));
        let pids = [listener.pid_text(), client.pid_text()];
        let options = ["--pid", &pids[0], "--pid", &pids[1]];
        let mut tracer = Tracer::watch_with(&[force], &options);
        client.go();
        let address = listener.address();
        namespace.enter(|| {
            for _ in 0..3 {
                TcpStream::connect(address).expect("it listens");
            }
        });
        let leak = tracer.wait_for_leak_of(3);
        assert_eq!(leak["verdict"], "not-accepted");
        assert_eq!(leak["process"]["netns"], namespace.inode());

        drop(listener);
        let leak = tracer.wait_for_group("the leak of the client", |group| {
            group["leak"] == true && group["process"]["pid"] == client.pid()
        });
        // A listener that goes away resets the connections that wait at it.
        assert_eq!(leak["verdict"], "dead-fd");
        assert_eq!(leak["count"], 2);
        assert_eq!(leak["process"]["netns"], namespace.inode());
    }
}

#[test]
fn leaks_over_ipv6_and_over_mapped_addresses_are_found() {
    for force in [SURVEY, ALONE] {
        for (listening, mapped) in [("[::1]:0", false), ("127.0.0.1:0", true)] {
            let server = Server::start_at(listening);
            let address = match mapped {
                true => format!("[::ffff:127.0.0.1]:{}", server.port()),
                false => server.address(),
            };
            let mut client = Fixture::start(&["connect", &address, "2"]);
            let mut tracer = watch(force, &client);
            client.go();
            server.hang_up_on(2);

            let leak = tracer.wait_for_group("a leak with its origin", |group| {
                let told = force == ALONE || !group["origin"].is_null();
                group["leak"] == true && group["count"] == 2 && told
            });
            assert_eq!(leak["endpoint"], server.address());
            assert_origin(&leak, force, &client, "leaky::connect::open_connections");
        }
    }
}

#[test]
fn a_pool_at_work_is_not_a_leak() {
    for force in [SURVEY, ALONE] {
        crate::tidy_pool::watch_a_pool(&[force]);
    }
}

#[test]
fn a_server_that_closes_its_connections_leaks_nothing() {
    let server = Server::start();
    let address = server.socket_address();
    let pid = std::process::id().to_string();
    // The tests that run beside this one have connections of this process too.
    let options = ["--pid", &pid, "--port", &server.port()];
    let mut stories = [SURVEY, ALONE].map(|force| Tracer::watch_with(&[force], &options));
    server.serve(|mut connection| {
        let _ = std::io::copy(
            &mut &connection,
            &mut connection.try_clone().expect("a copy"),
        );
        let _ = connection.flush();
    });
    let visits = std::thread::spawn(move || {
        for _ in 0..2000 {
            let mut client = TcpStream::connect(address).expect("it listens");
            client.write_all(b"ping").expect("the server is there");
        }
    });
    for tracer in &mut stories {
        tracer.watch_for(Duration::from_secs(2));
    }
    visits.join().expect("the visits went well");
    for tracer in &stories {
        for report in tracer.reports() {
            assert_eq!(leaks(report).count(), 0, "{report:#}");
        }
    }
}

#[test]
fn a_reader_that_lets_its_window_close_is_found_only_where_the_kernel_tells_the_window() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "1"]);
    let mut tracer = watch(ALONE, &client);
    client.go();
    let mut connection = server.accept();
    let limit = Some(Duration::from_millis(500));
    connection.set_write_timeout(limit).expect("a time limit");
    while connection.write(&[b'x'; 65_536]).is_ok() {}

    if kernel_release() < [6, 2] {
        tracer.watch_for(Duration::from_secs(2));
        assert_eq!(leaks(tracer.reports().last().expect("a report")).count(), 0);
        return;
    }
    let leak = tracer.wait_for_leak_of(1);
    assert_eq!(leak["verdict"], "reader-stalled");
    assert_eq!(leak["evidence"]["window_bytes"], 0);
}

#[test]
fn reports_say_that_nothing_is_traced_only_when_nothing_is() {
    let server = Server::start();
    let client = Fixture::start(&["connect", &server.address(), "1"]);
    for (force, said) in [(SURVEY, false), (ALONE, true)] {
        let tracer = watch(force, &client);
        let notes = tracer.first_report()["notes"].to_string();
        assert!(notes.contains("sock_diag and /proc"), "{notes}");
        assert_eq!(
            notes.contains("does not let tcpleak trace"),
            said,
            "{notes}"
        );
        let mut snapshot = command(&["snapshot", "--pid", &client.pid_text()]);
        let text = finish(snapshot.envs([force]).spawn().expect("it starts")).stdout;
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(text.contains("does not let tcpleak trace"), said, "{text}");
    }
}

#[test]
fn the_text_of_a_snapshot_promises_no_code_path_where_none_can_come() {
    let server = Server::start();
    let mut client = Fixture::start(&["connect", &server.address(), "2"]);
    client.go();
    server.hang_up_on(2);
    let pid = client.pid_text();
    let mut snapshot = command(&["snapshot", "--pid", &pid, "--min-age", "0s"]);
    let finished = finish(snapshot.envs([ALONE]).spawn().expect("it starts"));
    assert_eq!(finished.code(), 3, "{finished:?}");
    let text = finished.stdout;
    assert!(
        text.contains("this kernel does not let tcpleak trace"),
        "{text}"
    );
    assert!(!text.contains("before tcpleak started"), "{text}");
}

#[test]
fn the_doctor_finds_its_leak_and_says_what_is_lost() {
    for (force, words) in [
        (SURVEY, ["sock_diag and /proc", "open_and_forget"]),
        (ALONE, ["everything but surveys", "not captured"]),
    ] {
        let mut doctor = command(&["doctor"]);
        let finished = finish(doctor.envs([force]).spawn().expect("it starts"));
        assert_eq!(finished.code(), 0, "{finished:?}");
        // The table breaks lines within its cells.
        let words_of_page: Vec<&str> = finished.stdout.split_whitespace().collect();
        let text = &words_of_page.join(" ");
        assert!(text.contains("asks for"), "{text}");
        assert!(
            text.contains("dead before a survey saw them open"),
            "{text}"
        );
        for word in words {
            assert!(text.contains(word), "no {word:?}: {text}");
        }
    }
}

/// The first two numbers of the running kernel's release.
fn kernel_release() -> [u32; 2] {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let mut numbers = release
        .split('.')
        .map(|part| part.parse().expect("a number"));
    [(); 2].map(|()| numbers.next().expect("a release has two numbers"))
}
