use std::sync::atomic::{AtomicU32, Ordering};

use super::{super::unknown_frame, *};

const SHORT: Patience = Patience {
    answer: Duration::from_millis(500),
    busy: Duration::from_millis(20),
    stuck: Duration::from_secs(1),
};

fn path(fingerprint: u64) -> RawPath {
    RawPath {
        fingerprint,
        pid: fingerprint as u32,
        start_ns: 1,
        comm: "test".into(),
        frames: vec![1, 2],
        truncated: false,
    }
}

/// A name that tells which path it is of.
fn named(path: &RawPath) -> Resolved {
    let frame = || {
        let mut frame = unknown_frame(None);
        frame.function = Some(format!("function {}", path.fingerprint));
        frame
    };
    Resolved {
        frames: path.frames.iter().map(|_| frame()).collect(),
        incomplete: None,
    }
}

fn hang() -> ! {
    loop {
        thread::park();
    }
}

#[tokio::test]
async fn a_real_address_is_named_and_remembered() {
    let pid = std::process::id();
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let ticks = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .nth(19)
        .unwrap();
    let path = RawPath {
        fingerprint: 7,
        pid,
        start_ns: ticks.parse::<u64>().unwrap() * 10_000_000,
        comm: "test".into(),
        frames: vec![hang as *const () as u64],
        truncated: false,
    };
    let symbolizer = Symbolizer::start().unwrap();
    let first = symbolizer.resolve(vec![path.clone()]).await;
    assert!(
        first[&7].frames[0]
            .function
            .as_ref()
            .unwrap()
            .ends_with("::hang"),
        "{first:?}"
    );
    // A path is what its fingerprint says: what follows is not looked at again.
    let again = symbolizer
        .resolve(vec![RawPath {
            frames: Vec::new(),
            ..path
        }])
        .await;
    assert_eq!(again, first);
}

#[tokio::test]
async fn every_path_is_answered_by_its_fingerprint() {
    let symbolizer = Symbolizer::start_with(|| Box::new(named), Patience::USUAL).unwrap();
    let many = WAITING as u64 + 500;
    let resolved = symbolizer.resolve((0..many).map(path).collect()).await;
    assert_eq!(resolved.len() as u64, many);
    assert!(
        resolved
            .iter()
            .all(|(fingerprint, found)| *found == named(&path(*fingerprint)))
    );
    assert!(symbolizer.resolve(Vec::new()).await.is_empty());
}

#[tokio::test]
async fn a_panic_costs_one_path() {
    let start = || -> Naming {
        Box::new(|path| {
            if path.fingerprint == 2 {
                panic!("as this test wants")
            } else {
                named(path)
            }
        })
    };
    let symbolizer = Symbolizer::start_with(start, Patience::USUAL).unwrap();
    let resolved = symbolizer.resolve(vec![path(1), path(2), path(3)]).await;
    assert_eq!(resolved[&1], named(&path(1)));
    assert_eq!(resolved[&2], Resolved::unknown(&path(2)));
    assert_eq!(resolved[&3], named(&path(3)));
}

#[tokio::test]
async fn what_is_late_is_ready_for_the_next_question() {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let start = || -> Naming {
        Box::new(|path| {
            CALLS.fetch_add(1, Ordering::Relaxed);
            if path.fingerprint == 2 {
                thread::sleep(2 * SHORT.answer);
            }
            named(path)
        })
    };
    let patience = Patience {
        stuck: Patience::USUAL.stuck,
        ..SHORT
    };
    let symbolizer = Symbolizer::start_with(start, patience).unwrap();
    let paths = || vec![path(1), path(2), path(3)];
    let early = symbolizer.resolve(paths()).await;
    assert_eq!(early.into_keys().collect::<Vec<_>>(), [1]);
    thread::sleep(2 * SHORT.answer);
    let late = symbolizer.resolve(paths()).await;
    assert_eq!(late.len(), 3);
    assert_eq!(CALLS.load(Ordering::Relaxed), 3, "each path is named once");
}

#[tokio::test]
async fn a_thread_that_is_stuck_is_left_behind_with_its_process() {
    let start = || -> Naming {
        Box::new(|path| {
            if path.fingerprint == 2 {
                hang()
            } else {
                named(path)
            }
        })
    };
    let symbolizer = Symbolizer::start_with(start, SHORT).unwrap();
    assert!(symbolizer.resolve(vec![path(2), path(3)]).await.is_empty());
    let asked = Instant::now();
    assert!(symbolizer.resolve(vec![path(3)]).await.is_empty());
    assert!(
        asked.elapsed() < SHORT.answer,
        "a busy thread is not waited for as long"
    );
    thread::sleep(SHORT.stuck);
    let resolved = symbolizer.resolve(vec![path(2), path(3)]).await;
    assert_eq!(resolved[&2], Resolved::unknown(&path(2)));
    assert_eq!(resolved[&3], named(&path(3)));
}

#[tokio::test]
async fn naming_ends_when_too_many_threads_are_stuck() {
    let patience = Patience {
        stuck: Duration::from_millis(50),
        ..SHORT
    };
    let symbolizer = Symbolizer::start_with(|| Box::new(|_| hang()), patience).unwrap();
    for fingerprint in 0..=LEFT_BEHIND as u64 {
        assert!(symbolizer.resolve(vec![path(fingerprint)]).await.is_empty());
        thread::sleep(patience.stuck);
    }
    let asked = Instant::now();
    let resolved = symbolizer.resolve(vec![path(100)]).await;
    assert_eq!(resolved[&100], Resolved::unknown(&path(100)));
    assert!(
        asked.elapsed() < SHORT.busy,
        "nothing is waited for any more"
    );
}

#[test]
fn the_memory_of_paths_is_bounded_in_number_and_bytes() {
    let mut known = Known::new();
    for fingerprint in 0..REMEMBERED.get() as u64 + 1 {
        known.put(fingerprint, named(&path(fingerprint)));
    }
    assert_eq!(known.paths.len(), REMEMBERED.get());
    assert_eq!((known.get(0), known.get(1)), (None, Some(named(&path(1)))));
    let large = |fingerprint| {
        let mut large = named(&path(fingerprint));
        large.frames[0].function = Some("x".repeat(REMEMBERED_BYTES / 3));
        large
    };
    for fingerprint in 0..10 {
        known.put(fingerprint, large(fingerprint));
        assert!(known.bytes <= REMEMBERED_BYTES);
    }
    assert_eq!(known.paths.len(), 2);
    known.put(9, named(&path(9)));
    let all: usize = known.paths.iter().map(|(_, path)| size(path)).sum();
    assert_eq!(known.bytes, all);
}
