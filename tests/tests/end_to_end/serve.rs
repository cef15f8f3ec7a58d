//! tcpleak as a service: what it answers, to whom, and with which rights it runs.

use std::{
    fs,
    io::{Read, Write},
    process::{Command, Stdio},
};

use crate::harness::{
    Fixture, Server, Serving, installed, leaks, output_of, passes_through, patience, run,
    wait_until,
};

/// A program that leaks so many connections, and their server.
fn leak(count: &str) -> (Fixture, Server) {
    let server = Server::start();
    let mut fixture = Fixture::start(&["connect", &server.address(), count]);
    fixture.go();
    server.hang_up_on(count.parse().expect("it is a number"));
    (fixture, server)
}

#[test]
fn a_leak_is_in_every_answer() {
    let serving = Serving::start(&[]);
    let (fixture, _server) = leak("7");
    let leak = |report: &serde_json::Value| {
        leaks(report)
            .find(|group| group["process"]["pid"] == fixture.pid() && group["count"] == 7)
            .cloned()
    };
    let report = serving.wait_for_report("a leak with its code path", |report| {
        leak(report).is_some_and(|leak| !leak["origin"].is_null())
    });
    let leak = leak(&report).expect("it was found");
    assert!(
        passes_through(&leak["origin"], "leaky::connect::open_connection"),
        "{leak:#}"
    );
    assert!(leak["process"]["cmdline"].is_null(), "{leak:#}");

    let metrics = serving.get("/metrics");
    assert!(
        metrics
            .headers
            .contains("application/openmetrics-text; version=1.0.0"),
        "{metrics:?}"
    );
    assert!(metrics.body.ends_with("# EOF\n"), "{metrics:?}");
    let labels = [
        "process=\"leaky\"",
        "title=\"leaky::connect::open_connection\"",
    ];
    let leaked = metrics.metric("tcpleak_leaked_connections", &labels);
    assert!(leaked.is_some_and(|leaked| leaked >= 7.0), "{metrics:?}");
    assert!(metrics.metric("tcpleak_surveys_total", &[]) > Some(0.0));
    assert!(metrics.metric("tcpleak_captures_total", &[]) > Some(0.0));

    let id = leak["id"].as_str().expect("a group has an id");
    wait_until("a point of the history has the leak", || {
        let history = serving.get("/history.json").document();
        let counts = history["groups"][id]
            .as_array()
            .cloned()
            .unwrap_or_default();
        assert!(
            counts.is_empty() || counts.len() == history["at"].as_array().map_or(0, Vec::len),
            "{history}"
        );
        counts.last().is_some_and(|count| *count == 7)
    });
}

#[test]
fn command_lines_are_served_when_that_is_asked_for() {
    let serving = Serving::start(&["--command-lines"]);
    let (fixture, _server) = leak("1");
    let report = serving.wait_for_report("the leak", |report| {
        leaks(report).any(|group| group["process"]["pid"] == fixture.pid())
    });
    let leak = leaks(&report).find(|group| group["process"]["pid"] == fixture.pid());
    let leak = leak.expect("it was found");
    assert_eq!(leak["process"]["cmdline"][1], "connect", "{leak:#}");
}

#[test]
fn it_is_ready_after_the_first_survey_and_ends_in_order_when_told() {
    let mut serving = Serving::start(&[]);
    assert_eq!(serving.get("/healthz").status, 200);
    wait_until("it is ready", || serving.get("/readyz").status == 200);
    assert_eq!(serving.terminate(), 0);
}

#[test]
fn it_becomes_nobody_and_keeps_few_rights() {
    let serving = Serving::start(&[]);
    wait_until("it is ready", || serving.get("/readyz").status == 200);
    let tasks = fs::read_dir(format!("/proc/{}/task", serving.pid())).expect("it runs");
    let mut threads = 0;
    for task in tasks {
        let path = task.expect("a directory can be listed").path();
        let status = fs::read_to_string(path.join("status")).expect("it runs");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.expect("the kernel tells").trim().to_owned()
        };
        assert_eq!(
            field("Uid:").split_whitespace().next(),
            Some("65534"),
            "{status}"
        );
        assert_eq!(
            field("Gid:").split_whitespace().next(),
            Some("65534"),
            "{status}"
        );
        assert_eq!(field("Groups:"), "", "{status}");
        assert_eq!(field("NoNewPrivs:"), "1", "{status}");
        let capabilities = |name| u64::from_str_radix(&field(name), 16).expect("hexadecimal");
        // dac_read_search, sys_ptrace, sys_admin, perfmon, bpf, checkpoint_restore
        let kept = 1 << 2 | 1 << 19 | 1 << 21 | 1 << 38 | 1 << 39 | 1 << 40;
        assert_eq!(capabilities("CapPrm:") & !kept, 0, "{status}");
        assert_eq!(capabilities("CapInh:"), 0, "{status}");
        threads += 1;
    }
    assert!(threads > 1, "it has threads");
}

#[test]
fn root_stays_root_when_that_is_asked_for_and_nobody_knows_a_strange_user() {
    let serving = Serving::start(&["--user", "root"]);
    let status = fs::read_to_string(format!("/proc/{}/status", serving.pid())).expect("it runs");
    assert!(status.contains("\nUid:\t0\t0\t0\t0\n"), "{status}");
    let refused = run(&["serve", "--listen", "127.0.0.1:0", "--user", "no-such-user"]);
    assert_eq!(refused.code(), 1, "{refused:?}");
    assert!(refused.stderr.contains("no-such-user"), "{refused:?}");
}

#[test]
fn a_page_of_a_stranger_cannot_have_its_name_lead_here() {
    let serving = Serving::start(&["--host", "tcpleak.test"]);
    let ask = |host: &str| {
        let request = format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n");
        serving.ask(&request).status
    };
    assert_eq!(ask("evil.example"), 421);
    assert_eq!(ask("tcpleak.test:80"), 200);
    assert_eq!(ask(&serving.address().to_string()), 200);
}

#[test]
fn what_others_can_reach_takes_a_token_and_tls() {
    for address in ["0.0.0.0:0", "[::]:0"] {
        let refused = run(&["serve", "--listen", address]);
        assert_eq!(refused.code(), 1, "{refused:?}");
        assert!(refused.stderr.contains("--token-file"), "{refused:?}");
        assert!(refused.stderr.contains("--tls-certificate"), "{refused:?}");
    }
    let directory = tempfile::tempdir().expect("there is a directory for temporary files");
    let file = |name: &str, content: &str| {
        let path = directory.path().join(name);
        fs::write(&path, content).expect("it is ours");
        path.to_str().expect("a path of ASCII").to_owned()
    };
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()])
        .expect("a certificate can be made");
    let certificate = file("certificate.pem", &certified.cert.pem());
    let key = file("key.pem", &certified.signing_key.serialize_pem());
    let token = file("token", "0123456789abcdef\n");
    let short = file("short", "secret\n");

    let refused = run(&["serve", "--listen", "127.0.0.1:0", "--token-file", &short]);
    assert_eq!(refused.code(), 1, "{refused:?}");
    assert!(refused.stderr.contains("16 characters"), "{refused:?}");
    let refused = run(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--tls-certificate",
        &token,
        "--tls-key",
        &key,
    ]);
    assert_eq!(refused.code(), 1, "{refused:?}");
    assert!(
        refused.stderr.contains("holds no certificate"),
        "{refused:?}"
    );

    let serving = Serving::start(&[
        "--listen",
        "0.0.0.0:0",
        "--token-file",
        &token,
        "--tls-certificate",
        &certificate,
        "--tls-key",
        &key,
    ]);
    let port = serving.address().port();
    let curl = installed("curl", "curl");
    let ask = |path: &str, header: &str| {
        output_of(Command::new(&curl).args([
            "--silent",
            "--cacert",
            &certificate,
            "--write-out",
            "%{http_code}",
            "--output",
            "/dev/null",
            "--header",
            header,
            &format!("https://localhost:{port}{path}"),
        ]))
    };
    wait_until("it is ready", || ask("/readyz", "X-Nothing: 1") == "200");
    assert_eq!(ask("/metrics", "X-Nothing: 1"), "401");
    assert_eq!(
        ask("/metrics", "Authorization: Bearer 0123456789abcdeX"),
        "401"
    );
    assert_eq!(
        ask("/metrics", "Authorization: Bearer 0123456789abcdef"),
        "200"
    );
    assert_eq!(ask("/", "X-Nothing: 1"), "200");
}

#[test]
fn clients_that_say_nothing_or_too_much_are_shown_the_door_and_others_are_served() {
    let serving = Serving::start(&[]);
    wait_until("it is ready", || serving.get("/readyz").status == 200);
    // More than it attends to at a time: some are closed at once, the others when they took too long.
    let mut silent: Vec<_> = (0..100).map(|_| serving.connect()).collect();
    for client in &mut silent {
        let mut rest = Vec::new();
        // A reset is as good an end as any.
        let _ = client.read_to_end(&mut rest);
        assert!(
            !String::from_utf8_lossy(&rest).contains("200 OK"),
            "{rest:?}"
        );
    }
    wait_until("there is room again", || {
        let mut client = serving.connect();
        let mut first = [0; 12];
        client
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .is_ok()
            && client.read_exact(&mut first).is_ok()
            && first.ends_with(b" 200")
    });

    let mut talker = serving.connect();
    let line = format!("X-Header: {}\r\n", "x".repeat(1000));
    let sent = talker
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n")
        .and_then(|()| (0..100_000).try_for_each(|_| talker.write_all(line.as_bytes())));
    let mut answer = Vec::new();
    let _ = talker.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        sent.is_err() || answer.starts_with("HTTP/1.1 431"),
        "{answer}"
    );
    assert_eq!(serving.get("/healthz").status, 200);
}

#[test]
fn what_is_no_request_is_no_trouble() {
    let serving = Serving::start(&[]);
    for nonsense in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"\0\0\0\0\0\0\0\0\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET http://evil.example/report.json HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut client = serving.connect();
        client.write_all(nonsense).expect("it reads");
        client
            .shutdown(std::net::Shutdown::Write)
            .expect("it is connected");
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.contains("200 OK"), "{nonsense:?}: {answer}");
    }
    assert_eq!(serving.get("/healthz").status, 200);
}

#[test]
fn an_address_that_is_taken_is_named() {
    let serving = Serving::start(&[]);
    let address = serving.address().to_string();
    let refused = run(&["serve", "--listen", &address]);
    assert_eq!(refused.code(), 1, "{refused:?}");
    assert!(refused.stderr.contains(&address), "{refused:?}");
}

#[test]
fn prometheus_scrapes_it() {
    let prometheus = installed("prometheus", "prometheus");
    let serving = Serving::start(&[]);
    let (_fixture, _server) = leak("3");
    let directory = tempfile::tempdir().expect("there is a directory for temporary files");
    let config = directory.path().join("prometheus.yml");
    let target = serving.address();
    let text = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n  - job_name: tcpleak\n    static_configs:\n      - targets: ['{target}']\n"
    );
    fs::write(&config, text).expect("it is ours");
    // A port that was free a moment ago.
    let port = Server::start().port();
    let _prometheus = crate::harness::Program::start(
        Command::new(prometheus)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                directory.path().join("data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    );
    let curl = installed("curl", "curl");
    let query = |query: &str| -> serde_json::Value {
        let output = Command::new(&curl)
            .args(["--silent", "--max-time", "5", "--get", "--data-urlencode"])
            .arg(format!("query={query}"))
            .arg(format!("http://127.0.0.1:{port}/api/v1/query"))
            .output()
            .expect("curl runs");
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    };
    let begun = std::time::Instant::now();
    loop {
        let answer = query("tcpleak_leaked_connections{process=\"leaky\"}");
        let value = &answer["data"]["result"][0]["value"][1];
        if value
            .as_str()
            .is_some_and(|value| value.parse::<f64>().is_ok_and(|value| value >= 3.0))
        {
            break;
        }
        assert!(begun.elapsed() < 3 * patience(), "{answer}");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    assert_eq!(query("up")["data"]["result"][0]["value"][1], "1");
    // What it says of units and types is what Prometheus knows.
    let output = Command::new(&curl)
        .args(["--silent", "--max-time", "5"])
        .arg(format!(
            "http://127.0.0.1:{port}/api/v1/metadata?metric=tcpleak_user_cpu_seconds"
        ))
        .output()
        .expect("curl runs");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    assert_eq!(
        metadata["data"]["tcpleak_user_cpu_seconds"][0]["type"], "counter",
        "{metadata}"
    );
}
