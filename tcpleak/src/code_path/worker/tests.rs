use std::sync::atomic::{AtomicU32, Ordering};

use super::{
    super::{Chain, CodeLayout, Stack, unknown_frame},
    *,
};

const SHORT: Patience = Patience {
    answer: Duration::from_millis(500),
    busy: Duration::from_millis(20),
    stuck: Duration::from_secs(1),
};

/// Stands in for the real taker: knows what it was handed, and does to each what it is told.
struct FakeTaker {
    taken: Vec<u64>,
    resolve: fn(u64) -> Resolved,
    on_take: fn(u64),
}

impl FakeTaker {
    fn with(resolve: fn(u64) -> Resolved, on_take: fn(u64)) -> Box<dyn Taker> {
        Box::new(Self {
            taken: Vec::new(),
            resolve,
            on_take,
        })
    }
}

impl Taker for FakeTaker {
    fn take(&mut self, capture: Capture) -> Learned {
        (self.on_take)(capture.fingerprint);
        self.taken.push(capture.fingerprint);
        let layout = CodeLayout {
            pid: capture.process.pid,
            image: 0,
            code_pages: 0,
            window: 1024,
            asked_elsewhere: false,
            ranges: Vec::new(),
        };
        Learned {
            layout: Some(layout),
            plan: None,
            same: None,
        }
    }

    fn resolve(&mut self, fingerprint: u64) -> Option<Resolved> {
        let known = self.taken.contains(&fingerprint);
        known.then(|| (self.resolve)(fingerprint))
    }

    fn look_around(&mut self) -> Vec<Learned> {
        Vec::new()
    }

    fn reader_pid(&self) -> Option<u32> {
        Some(42)
    }
}

fn capture(fingerprint: u64) -> Capture {
    Capture {
        fingerprint,
        process: ProcessId {
            pid: fingerprint as u32,
            start_ns: 1,
        },
        comm: "test".into(),
        image: 0,
        code_pages: 0,
        in_ring_call: false,
        of_one: false,
        stack: Stack::IoUring,
        chain: Chain::default(),
    }
}

/// A name that tells which path it is of.
fn named(fingerprint: u64) -> Resolved {
    let mut frame = unknown_frame(None);
    frame.function = Some(format!("function {fingerprint}"));
    Resolved {
        frames: vec![frame],
        incomplete: None,
        unreadable: None,
        requested_by: None,
    }
}

impl CodePaths {
    fn take(&self, capture: Capture) {
        self.inner.take(capture);
    }
}

fn hang() -> ! {
    loop {
        thread::park();
    }
}

#[tokio::test]
async fn every_path_is_answered_by_its_fingerprint() {
    let paths = CodePaths::start_with(|| FakeTaker::with(named, |_| ()), Patience::USUAL).unwrap();
    let many = WAITING as u64;
    for fingerprint in 0..many {
        while paths.inner.room() == 0 {
            thread::yield_now();
        }
        paths.take(capture(fingerprint));
    }
    let resolved = paths.resolve((0..2 * many).collect()).await;
    assert_eq!(resolved.len() as u64, 2 * many);
    for (fingerprint, found) in &resolved {
        let expected = if *fingerprint < many {
            named(*fingerprint)
        } else {
            lost()
        };
        assert_eq!(*found, expected, "{fingerprint}");
    }
    assert_eq!(paths.reader_pid(), Some(42));
    assert!(paths.resolve(Vec::new()).await.is_empty());
}

#[tokio::test]
async fn what_was_learned_can_be_waited_for() {
    let paths = CodePaths::start_with(|| FakeTaker::with(named, |_| ()), Patience::USUAL).unwrap();
    assert!(paths.learned().is_empty());
    paths.take(capture(7));
    paths.has_learned().await;
    let learned = paths.learned();
    assert_eq!(learned.len(), 1);
    assert_eq!(learned[0].layout.as_ref().unwrap().pid, 7);
    assert!(paths.learned().is_empty());
}

#[tokio::test]
async fn a_panic_costs_what_was_taken_and_no_more() {
    let start = || {
        let resolve = |fingerprint| {
            if fingerprint == 2 {
                panic!("as this test wants")
            }
            named(fingerprint)
        };
        FakeTaker::with(resolve, |_| ())
    };
    let paths = CodePaths::start_with(start, Patience::USUAL).unwrap();
    for fingerprint in [1, 2] {
        paths.take(capture(fingerprint));
    }
    let resolved = paths.resolve(vec![1]).await;
    assert_eq!(resolved[&1], named(1));
    assert!(!paths.resolve(vec![2]).await.contains_key(&2));
    paths.take(capture(3));
    assert_eq!(paths.resolve(vec![3]).await[&3], named(3));
}

#[tokio::test]
async fn what_is_late_is_ready_for_the_next_question() {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let start = || {
        let slow = |fingerprint| {
            CALLS.fetch_add(1, Ordering::Relaxed);
            if fingerprint == 2 {
                thread::sleep(2 * SHORT.answer);
            }
        };
        FakeTaker::with(named, slow)
    };
    let patience = Patience {
        stuck: Patience::USUAL.stuck,
        ..SHORT
    };
    let paths = CodePaths::start_with(start, patience).unwrap();
    for fingerprint in [1, 2, 3] {
        paths.take(capture(fingerprint));
    }
    assert!(paths.resolve(vec![1, 2, 3]).await.is_empty());
    thread::sleep(2 * SHORT.answer);
    assert_eq!(paths.resolve(vec![1, 2, 3]).await.len(), 3);
    assert_eq!(CALLS.load(Ordering::Relaxed), 3, "each path is taken once");
}

#[tokio::test]
async fn a_thread_that_is_stuck_is_left_behind_with_its_process() {
    let start = || {
        let stuck = |fingerprint| {
            if fingerprint == 2 {
                hang()
            }
        };
        FakeTaker::with(named, stuck)
    };
    let paths = CodePaths::start_with(start, SHORT).unwrap();
    paths.take(capture(2));
    paths.take(capture(3));
    assert!(paths.resolve(vec![2, 3]).await.is_empty());
    let asked = Instant::now();
    assert!(paths.resolve(vec![3]).await.is_empty());
    assert!(
        asked.elapsed() < SHORT.answer,
        "a busy thread is not waited for as long"
    );
    thread::sleep(SHORT.stuck);
    let resolved = paths.resolve(vec![2, 3]).await;
    assert_eq!(resolved[&2], lost());
    assert_eq!(resolved[&3], lost(), "it waited behind the stuck one");
    paths.take(capture(2));
    paths.take(capture(4));
    let resolved = paths.resolve(vec![2, 4]).await;
    assert_eq!(resolved[&2], lost(), "its process is left alone");
    assert_eq!(resolved[&4], named(4));
}

#[tokio::test]
async fn nothing_is_taken_when_too_many_threads_are_stuck() {
    let patience = Patience {
        stuck: Duration::from_millis(50),
        ..SHORT
    };
    let start = || FakeTaker::with(named, |_| hang());
    let paths = CodePaths::start_with(start, patience).unwrap();
    for fingerprint in 0..=LEFT_BEHIND as u64 {
        paths.take(capture(fingerprint));
        assert!(paths.resolve(vec![fingerprint]).await.is_empty());
        thread::sleep(patience.stuck);
    }
    let asked = Instant::now();
    assert_eq!(paths.resolve(vec![100]).await[&100], lost());
    assert!(
        asked.elapsed() < SHORT.busy,
        "nothing is waited for any more"
    );
}

#[tokio::test]
async fn captures_are_taken_from_their_source_as_they_come() {
    struct Source(std::sync::mpsc::Receiver<Capture>, Option<Capture>);
    impl CaptureSource for Source {
        fn wait(&mut self) {
            self.1 = self.0.recv().ok();
        }
        fn next(&mut self) -> Option<Capture> {
            self.1.take()
        }
    }
    let paths = CodePaths::start_with(|| FakeTaker::with(named, |_| ()), Patience::USUAL).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    paths.feed(Source(receiver, None)).unwrap();
    for fingerprint in [1, 2] {
        sender.send(capture(fingerprint)).unwrap();
        paths.has_learned().await;
        let resolved = paths.resolve(vec![fingerprint]).await;
        assert_eq!(resolved[&fingerprint], named(fingerprint));
    }
    drop(paths);
    let gone = (0..100).any(|_| {
        thread::sleep(Duration::from_millis(10));
        sender.send(capture(3)).is_err()
    });
    assert!(gone, "the thread ends when nobody asks any more");
}

#[tokio::test]
async fn a_path_that_is_still_on_its_way_is_not_taken_for_lost() {
    struct Source(std::ops::Range<u64>);
    impl CaptureSource for Source {
        fn wait(&mut self) {
            thread::sleep(Duration::from_millis(1));
        }
        fn next(&mut self) -> Option<Capture> {
            self.0.next().map(capture)
        }
    }
    let last = 3 * WAITING as u64;
    let start = || FakeTaker::with(named, |_| thread::sleep(Duration::from_millis(1)));
    let paths = CodePaths::start_with(start, Patience::USUAL).unwrap();
    paths.feed(Source(0..last + 1)).unwrap();
    paths.has_learned().await;
    assert_eq!(paths.resolve(vec![last]).await, HashMap::new());
    let limit = Instant::now() + Duration::from_secs(60);
    let resolved = loop {
        if let Some(resolved) = paths.resolve(vec![last]).await.remove(&last) {
            break resolved;
        }
        assert!(Instant::now() < limit, "it never came");
    };
    assert_eq!(resolved, named(last));
    assert_eq!(paths.resolve(vec![last + 1]).await[&(last + 1)], lost());
}

#[test]
fn as_many_files_stay_open_as_the_system_lets() {
    lift_descriptor_limit();
    let limit = getrlimit(Resource::Nofile);
    assert_eq!(limit.current, limit.maximum);
}
