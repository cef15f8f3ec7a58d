//! Reports for the tests of the outputs: one group of every verdict, and the odd ones.

use crate::{
    report::{
        Advice, AdviceKind, AgeKind, CodePath, Connection, Container, Descriptors, Direction,
        Evidence, Frame, Group, Holder, Incomplete, LastUse, Opener, PathKind, PortHeadroom,
        Process, Qualifier, Report, SCHEMA, TimeWait, Totals, Verdict,
    },
    title,
};

const LIBC: &str = "/lib/x86_64-linux-gnu/libc.so.6";

/// A report of the groups, taken at a fixed time.
pub fn report(groups: Vec<Group>) -> Report {
    let count = |verdict| {
        groups
            .iter()
            .filter(|group| group.verdict == verdict)
            .map(|group| group.count)
            .sum()
    };
    Report {
        schema: SCHEMA,
        tcpleak: "0.1.0".into(),
        taken_at: "2026-05-14T22:41:07Z".parse().unwrap(),
        kernel: "6.18.5".into(),
        totals: Totals {
            connections: 214,
            close_wait: 26,
            dead_fd: count(Verdict::DeadFd),
            unaccepted: count(Verdict::NotAccepted),
            time_wait: 1_310,
            ..Totals::default()
        },
        groups,
        processes: Vec::new(),
        time_wait: Vec::new(),
        ports: Vec::new(),
        advice: Vec::new(),
        notes: Vec::new(),
        run: None,
    }
}

/// A report on ports that run out, and who causes it.
pub fn ports_run_out() -> Report {
    let curl = Process {
        comm: "curl".into(),
        ..eof_unread().process
    };
    let row = TimeWait {
        process: Some(curl.clone()),
        pids: vec![4242],
        pids_total: 1,
        origin: Some(path(PathKind::Connect, vec![own("fetch", "crawl.c", 42)])),
        close: None,
        netns: curl.netns,
        local: "10.0.0.5".into(),
        remote: Some("10.0.0.9:443".into()),
        count: 20_000,
        unsampled: 18_000,
        rate_per_s: Some(400.0),
        older_than_tracer: 0,
    };
    Report {
        time_wait: vec![
            row.clone(),
            TimeWait {
                process: None,
                pids: Vec::new(),
                pids_total: 0,
                origin: None,
                count: 4_000,
                unsampled: 0,
                rate_per_s: Some(80.0),
                older_than_tracer: 4_000,
                ..row
            },
        ],
        ports: vec![PortHeadroom {
            netns: curl.netns,
            source: "10.0.0.5".into(),
            destination: "10.0.0.9:443".into(),
            in_use: 24_012,
            available: 4_220,
            by_state: [("TIME_WAIT", 24_000), ("ESTABLISHED", 12)].into(),
            taken_for_all: 1,
            reusable: 0,
            bound: false,
            rate_per_s: 400.0,
            runs_out_in_s: Some(11.0),
            basis: "400.0 closed in a second, over the last 10 s".into(),
            close_to_limit: true,
        }],
        advice: vec![
            Advice {
                kind: AdviceKind::Helps,
                text: "Use connections again.".into(),
            },
            Advice {
                kind: AdviceKind::Myth,
                text: "tcp_fin_timeout is another thing.".into(),
            },
        ],
        totals: Totals {
            time_wait: 24_000,
            ..Totals::default()
        },
        ..report(Vec::new())
    }
}

/// A group of `count` connections that one python3 opened.
pub fn group(verdict: Verdict, evidence: Evidence, count: u64) -> Group {
    let listed = u16::try_from(count.min(20)).unwrap();
    titled(Group {
        id: "5a1c3e0b7d924f68".into(),
        verdict,
        leak: verdict.is_leak(),
        qualifiers: Vec::new(),
        process: Process {
            pid: Some(4242),
            comm: "python3".into(),
            exe: Some("/usr/bin/python3.11".into()),
            cmdline: Some(
                ["python3", "crawl.py", "--depth", "3"]
                    .map(str::to_owned)
                    .into(),
            ),
            cgroup: Some("/system.slice/crawler.service".into()),
            unit: Some("crawler.service".into()),
            container: None,
            netns: 4_026_531_840,
        },
        pids: vec![4242],
        opener: Some(Opener {
            pid: 4242,
            tid: 4242,
            comm: "python3".into(),
        }),
        holders: vec![holder(4242, "python3", 7, count)],
        endpoint: "10.0.0.5:80".into(),
        remote: Some("10.0.0.5:80".into()),
        count,
        unsampled: 0,
        oldest_s: 192.4,
        age_kind: AgeKind::Exact,
        growth_per_min: Some(0.0),
        evidence,
        title: None,
        origin: Some(path(PathKind::Connect, python_frames())),
        last_use: None,
        connections: (0..listed)
            .map(|position| Connection {
                local: format!("10.0.0.9:{}", 40_112 + 2 * position),
                remote: "10.0.0.5:80".into(),
                state: "CLOSE_WAIT".into(),
                age_s: 192.4 - 3.0 * f64::from(position),
                inode: 81_234 + u64::from(position),
                fds: vec![7 + u32::from(position)],
            })
            .collect(),
        connections_total: count,
    })
}

/// The group with the title that its code paths give it.
pub fn titled(mut group: Group) -> Group {
    group.title = title::title(group.origin.as_ref(), group.last_use.as_ref(), |_| 1);
    group
}

/// A process that holds `count` descriptors from `first` on.
pub fn holder(pid: u32, comm: &str, first: u32, count: u64) -> Holder {
    let listed = u32::try_from(count.min(64)).unwrap();
    Holder {
        pid,
        comm: comm.into(),
        fds: (first..first + listed).collect(),
        fds_total: count,
    }
}

/// A complete code path.
pub fn path(kind: PathKind, frames: Vec<Frame>) -> CodePath {
    CodePath::new(kind, frames, None)
}

/// A frame of the program itself.
pub fn own(function: &str, file: &str, line: u32) -> Frame {
    Frame {
        function: Some(function.into()),
        file: Some(file.into()),
        line: Some(line),
        module: Some("/srv/crawler/bin/crawler".into()),
        offset: None,
        runtime: "native".into(),
        inlined: false,
        own: true,
    }
}

/// A frame of a library without debug information.
pub fn library(function: &str, module: &str) -> Frame {
    Frame {
        function: Some(function.into()),
        file: None,
        line: None,
        module: Some(module.into()),
        offset: None,
        runtime: "native".into(),
        inlined: false,
        own: false,
    }
}

fn python_frames() -> Vec<Frame> {
    let python = |function: &str, file: &str, line, own| Frame {
        function: Some(function.into()),
        file: Some(file.into()),
        line: Some(line),
        module: None,
        offset: None,
        runtime: "python".into(),
        inlined: false,
        own,
    };
    let library =
        |function: &str, line| python(function, "/usr/lib/python3.11/http/client.py", line, false);
    vec![
        self::library("connect", LIBC),
        python(
            "create_connection",
            "/usr/lib/python3.11/socket.py",
            833,
            false,
        ),
        library("HTTPConnection.connect", 941),
        library("HTTPConnection.send", 975),
        library("HTTPConnection.request", 1282),
        python("fetch_page", "/srv/crawler/crawl.py", 42, true),
        python("crawl", "/srv/crawler/crawl.py", 77, true),
        python("<module>", "/srv/crawler/crawl.py", 101, true),
        self::library("Py_RunMain", "/usr/bin/python3.11"),
        self::library("__libc_start_main", LIBC),
        self::library("_start", "/usr/bin/python3.11"),
    ]
}

/// An HTTP client that never closes its responses.
pub fn eof_unread() -> Group {
    let mut group = group(
        Verdict::EofUnread,
        Evidence::Eof {
            unread_bytes: 0,
            fin_unread: true,
        },
        20,
    );
    group.qualifiers = vec![Qualifier::Growing];
    group.growth_per_min = Some(60.3);
    group
}

/// The same, older than tcpleak: there is no code path.
pub fn eof_consumed() -> Group {
    let mut group = group(
        Verdict::EofConsumed,
        Evidence::Eof {
            unread_bytes: 0,
            fin_unread: false,
        },
        1,
    );
    group.qualifiers = vec![Qualifier::BeforeTracer];
    group.opener = None;
    group.origin = None;
    group.age_kind = AgeKind::AtLeast;
    titled(group)
}

/// A proxy that forgets a connection after its end.
pub fn eof_ignored() -> Group {
    let mut group = group(
        Verdict::EofIgnored,
        Evidence::EofIgnored { eof_read_s: 181.0 },
        8,
    );
    let mut standard_library = own(
        "std::net::TcpStream::connect",
        "/usr/src/std/src/net/tcp.rs",
        181,
    );
    standard_library.own = false;
    standard_library.inlined = true;
    group.origin = Some(CodePath::new(
        PathKind::Connect,
        vec![
            library("__connect", LIBC),
            standard_library,
            own("proxy::upstream::dial", "src/upstream.rs", 58),
        ],
        Some(Incomplete::NoUnwindInformation),
    ));
    group.last_use = Some(LastUse {
        direction: Direction::Read,
        ago_s: 178.0,
        unsampled: 0,
        read: Some(path(
            PathKind::Read,
            vec![
                library("__recv", LIBC),
                own("proxy::relay::pump", "src/relay.rs", 112),
            ],
        )),
        reads_since: 3,
        write: None,
        writes_since: 0,
    });
    titled(group)
}

/// One of the handlers of a server with one accept() loop; most of its connections were not sampled.
pub fn handler() -> Group {
    let evidence = Evidence::Eof {
        unread_bytes: 0,
        fin_unread: false,
    };
    let mut group = group(Verdict::EofConsumed, evidence, 400);
    group.process = Process {
        pid: Some(1907),
        comm: "api-server".into(),
        exe: Some("/srv/api/bin/api-server".into()),
        cmdline: Some(vec![
            "/srv/api/bin/api-server".into(),
            "--threads=200".into(),
        ]),
        cgroup: Some("/kubepods.slice/kubepods-pod8dbc5577_d0e2_4706_8787_57d52c03ddf2.slice/cri-containerd-2f4e0c8a91d35b67e80f12ab34cd56ef7890a1b2c3d4e5f60718293a4b5c6d7e.scope".into()),
        unit: None,
        container: Some(Container {
            id: "2f4e0c8a91d35b67e80f12ab34cd56ef7890a1b2c3d4e5f60718293a4b5c6d7e".into(),
            runtime: Some("containerd".into()),
            name: Some("api".into()),
            image: Some("registry.example/shop/api:4.2".into()),
            pod: Some("api-6f7d9c5b44-x2xlq".into()),
            namespace: Some("shop".into()),
            pod_uid: Some("8dbc5577-d0e2-4706-8787-57d52c03ddf2".into()),
        }),
        netns: 4_026_531_840,
    };
    group.pids = vec![1907];
    group.opener = Some(Opener {
        pid: 1907,
        tid: 1907,
        comm: "api-server".into(),
    });
    group.holders = vec![holder(1907, "api-server", 9, 400)];
    group.qualifiers = vec![Qualifier::Growing, Qualifier::NotSampled];
    group.growth_per_min = Some(12.0);
    group.unsampled = 380;
    group.endpoint = "0.0.0.0:8080".into();
    group.remote = None;
    for connection in &mut group.connections {
        connection.local = "10.0.0.9:8080".into();
        connection.remote = connection.remote.replace("10.0.0.5:80", "10.0.3.77:51002");
    }
    let started = |frame| {
        vec![
            frame,
            library("start_thread", LIBC),
            library("clone3", LIBC),
        ]
    };
    let worker = own("api::Worker::run", "/srv/api/src/worker.cc", 71);
    let handle = |line| own("api::upload::handle", "/srv/api/src/upload.cc", line);
    let origin = vec![
        library("accept4", LIBC),
        own("api::accept_loop", "/srv/api/src/main.cc", 40),
        own("main", "/srv/api/src/main.cc", 96),
        library("__libc_start_call_main", LIBC),
        library("__libc_start_main", LIBC),
        library("_start", "/srv/api/bin/api-server"),
    ];
    let read = [
        library("__recv", LIBC),
        library("BIO_read", "/lib/x86_64-linux-gnu/libcrypto.so.3"),
        library("ssl3_read_bytes", "/lib/x86_64-linux-gnu/libssl.so.3"),
        library("SSL_read", "/lib/x86_64-linux-gnu/libssl.so.3"),
        own("api::Body::fill", "/srv/api/src/body.cc", 31),
        handle(58),
    ];
    let write = [
        library("__send", LIBC),
        library("SSL_write", "/lib/x86_64-linux-gnu/libssl.so.3"),
        handle(49),
    ];
    let thread = |inner: &[Frame]| [inner, &started(worker.clone())].concat();
    group.origin = Some(path(PathKind::Accept, origin));
    group.last_use = Some(LastUse {
        direction: Direction::Read,
        ago_s: 12.3,
        unsampled: 3,
        read: Some(path(PathKind::Read, thread(&read))),
        reads_since: 0,
        write: Some(path(PathKind::Write, thread(&write))),
        writes_since: 2,
    });
    titled(group)
}

/// A queue consumer whose broker connections were reset.
pub fn dead_fd() -> Group {
    let evidence = Evidence::DeadFd {
        reset: 5,
        fin_then_reset: 2,
        shut_down_in_order: 0,
        timed_out: 1,
    };
    let mut group = group(Verdict::DeadFd, evidence, 8);
    group.oldest_s = 7_530.0;
    for connection in &mut group.connections {
        connection.state = "CLOSE".into();
        connection.age_s = 7_530.0;
    }
    group
}

/// A listener whose accept() loop is stuck.
pub fn not_accepted() -> Group {
    let evidence = Evidence::NotAccepted {
        accept_queue: 129,
        backlog: 128,
        listener: Some("0.0.0.0:8080".into()),
    };
    let mut group = group(Verdict::NotAccepted, evidence, 129);
    group.process = nginx();
    group.pids = vec![812, 813, 814, 815, 816];
    group.opener = None;
    group.holders = Vec::new();
    group.endpoint = "0.0.0.0:8080".into();
    group.remote = None;
    group.origin = None;
    group.age_kind = AgeKind::AtLeast;
    for connection in &mut group.connections {
        connection.local = "10.0.0.9:8080".into();
        connection.remote = "10.0.3.77:51002".into();
        connection.inode = 0;
        connection.fds.clear();
    }
    titled(group)
}

fn nginx() -> Process {
    Process {
        pid: Some(812),
        comm: "nginx".into(),
        exe: Some("/usr/sbin/nginx".into()),
        cmdline: Some(vec!["nginx: worker process".into()]),
        cgroup: Some("/system.slice/nginx.service".into()),
        unit: Some("nginx.service".into()),
        container: None,
        netns: 4_026_531_840,
    }
}

/// A child that outlives the request in which it was started.
pub fn inherited() -> Group {
    let evidence = Evidence::Inherited {
        holding_processes: 2,
        opener_holds: Some(false),
    };
    let mut group = group(Verdict::Inherited, evidence, 12);
    group.process.pid = Some(4300);
    group.process.comm = "convert".into();
    group.process.exe = None;
    group.process.cmdline = None;
    group.pids = vec![4300, 4301];
    group.opener = Some(Opener {
        pid: 4242,
        tid: 4250,
        comm: "python3".into(),
    });
    group.holders = vec![
        holder(4300, "convert", 7, 12),
        holder(4301, "convert", 7, 12),
    ];
    group
}

/// A consumer that stopped in the middle of a response.
pub fn reader_stuck() -> Group {
    let evidence = Evidence::ReaderStuck {
        unread_bytes: 12_800,
        unread_bytes_total: 35_400,
    };
    let mut group = group(Verdict::ReaderStuck, evidence, 4);
    group.qualifiers = vec![Qualifier::NotSampled];
    group.unsampled = 1;
    group
}

/// A consumer that stopped while the peer still sends.
pub fn reader_stalled() -> Group {
    let evidence = Evidence::ReaderStalled {
        unread_bytes: 6_291_456,
        unread_bytes_total: 6_291_456,
        window_bytes: 0,
    };
    let mut group = group(Verdict::ReaderStalled, evidence, 1);
    group.age_kind = AgeKind::AtLeast;
    group.connections[0].state = "ESTABLISHED".into();
    group
}

/// A server that still answers on connections whose client has finished sending.
pub fn half_close_in_use() -> Group {
    let mut group = group(
        Verdict::HalfCloseInUse,
        Evidence::HalfCloseInUse {
            sending: 2,
            reading: 0,
        },
        2,
    );
    group.process = nginx();
    group.pids = vec![812];
    group.opener = None;
    group.holders = vec![holder(812, "nginx", 9, 2)];
    group.endpoint = "0.0.0.0:8080".into();
    group.remote = Some("10.0.3.77".into());
    group.qualifiers = vec![Qualifier::OwnerFromSurvey];
    group.origin = None;
    for connection in &mut group.connections {
        connection.local = "10.0.0.9:8080".into();
        connection.remote = "10.0.3.77:51002".into();
    }
    titled(group)
}

/// A pool in use.
pub fn pooled() -> Group {
    group(
        Verdict::Pooled,
        Evidence::Pooled {
            siblings_reused: 31,
            siblings_evicted: 3,
        },
        3,
    )
}

/// A client that has asked its question and waits for a peer that keeps silent.
pub fn fin_wait2_held() -> Group {
    let evidence = Evidence::FinWait2Held {
        last_data_s: 170.2,
        unread_bytes: 0,
        unread_bytes_total: 0,
    };
    in_state("FIN_WAIT2", group(Verdict::FinWait2Held, evidence, 3))
}

/// Answers that nobody reads, left to the kernel.
pub fn orphaned() -> Group {
    let evidence = Evidence::Orphaned {
        unacknowledged_bytes: 262_144,
        unacknowledged_bytes_total: 600_000,
        last_ack_s: 12.4,
    };
    let mut group = group(Verdict::Orphaned, evidence, 3);
    group.holders = Vec::new();
    for connection in &mut group.connections {
        connection.inode = 0;
        connection.fds.clear();
    }
    in_state("FIN_WAIT1", group)
}

/// A client of a peer behind a firewall.
pub fn syn_sent() -> Group {
    let mut group = group(Verdict::SynSent, Evidence::SynSent { retransmits: 5 }, 12);
    group.oldest_s = 42.1;
    group.qualifiers = vec![Qualifier::Growing];
    group.growth_per_min = Some(12.0);
    for connection in &mut group.connections {
        connection.age_s = 42.1;
    }
    in_state("SYN_SENT", group)
}

/// A pool that only grows.
pub fn open_idle() -> Group {
    let evidence = Evidence::OpenIdle {
        idle_s: 61.0,
        unread_bytes: 0,
        unread_bytes_total: 0,
    };
    in_state("ESTABLISHED", group(Verdict::OpenIdle, evidence, 31))
}

fn in_state(state: &str, mut group: Group) -> Group {
    for connection in &mut group.connections {
        connection.state = state.into();
    }
    group
}

/// One group of every verdict.
pub fn every_verdict() -> Vec<Group> {
    vec![
        not_accepted(),
        dead_fd(),
        half_close_in_use(),
        inherited(),
        reader_stuck(),
        reader_stalled(),
        pooled(),
        eof_ignored(),
        eof_consumed(),
        eof_unread(),
        fin_wait2_held(),
        orphaned(),
        syn_sent(),
        open_idle(),
    ]
}

/// The descriptors of a process that will have no more soon.
pub fn descriptors(pid: u32) -> Descriptors {
    Descriptors {
        pid,
        comm: "python3".into(),
        fds_open: Some(812),
        fd_limit: Some(1_024),
        fd_rate_per_s: Some(2.12),
        leak_rate_per_s: Some(2.07),
        runs_out_in_s: Some(100.0),
        basis: "31 counts in 30 s".into(),
        close_to_limit: true,
    }
}

/// A group whose every string was chosen by an attacker.
pub fn hostile() -> Group {
    let name = "\x1b]0;owned\x07\u{9b}31m\u{202e}\r\nNo leak";
    let frame = Frame {
        function: Some(name.into()),
        file: Some(name.into()),
        line: Some(1),
        module: Some(name.into()),
        offset: None,
        runtime: name.into(),
        inlined: true,
        own: true,
    };
    let folded = vec![
        Frame {
            own: false,
            file: None,
            ..frame.clone()
        };
        5
    ];
    let frames = [folded.clone(), vec![frame; 2], folded].concat();
    let mut group = eof_unread();
    group.process = Process {
        pid: Some(666),
        comm: name.into(),
        exe: Some(name.into()),
        cmdline: Some(vec![name.repeat(40), name.into()]),
        cgroup: Some(name.repeat(10)),
        unit: Some(name.into()),
        container: Some(Container {
            id: name.into(),
            runtime: Some(name.into()),
            name: Some(name.into()),
            image: Some(name.repeat(10)),
            pod: Some(name.into()),
            namespace: Some(name.into()),
            pod_uid: Some(name.into()),
        }),
        netns: 1,
    };
    group.opener = Some(Opener {
        pid: 6,
        tid: 66,
        comm: name.into(),
    });
    group.holders = vec![holder(666, name, 3, 300), holder(667, name, 3, 1)];
    group.endpoint = name.into();
    group.remote = Some(name.into());
    group.origin = Some(path(PathKind::Accept, frames.clone()));
    let used = |kind| Some(path(kind, frames.clone()));
    group.last_use = Some(LastUse {
        direction: Direction::Write,
        ago_s: 3.0,
        unsampled: 1,
        read: used(PathKind::Read),
        reads_since: 1,
        write: used(PathKind::Write),
        writes_since: 1,
    });
    for connection in &mut group.connections {
        connection.local = name.into();
        connection.remote = name.into();
        connection.state = name.into();
    }
    titled(group)
}
