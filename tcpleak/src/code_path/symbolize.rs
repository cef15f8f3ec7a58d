//! The symbolizer: names code paths on a thread of its own, remembers them, and never holds up
//! whoever asks.
//!
//! Reading an executable can take long, and for ever when it lies on a dead network file system.
//! So a question waits only so long, work goes on behind it, and a thread that is stuck is left
//! behind together with the process it was stuck on.

use std::{
    collections::HashMap,
    io,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use lru::LruCache;
use tokio::{
    sync::mpsc::{self, UnboundedSender},
    time::timeout,
};

use super::{RawPath, Resolved, lookup::Lookup, mapped_file};

/// Most paths that wait to be named.
const WAITING: usize = 1024;
/// Most paths that are remembered.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
/// Most bytes of names that are remembered.
const REMEMBERED_BYTES: usize = 64 << 20;
/// Most stuck threads that are left behind; after that no path is named any more.
const LEFT_BEHIND: usize = 3;

/// What names one path: blocking, and bound to its thread.
type Naming = Box<dyn FnMut(&RawPath) -> Resolved>;

/// Names code paths.
pub struct Symbolizer {
    state: Mutex<State>,
    start_naming: fn() -> Naming,
    patience: Patience,
}

/// How long is waited.
#[derive(Clone, Copy)]
struct Patience {
    /// For an answer.
    answer: Duration,
    /// For an answer while the thread has been busy with one path for longer than that.
    busy: Duration,
    /// Until a thread that is busy with one path counts as stuck.
    stuck: Duration,
}

impl Patience {
    const USUAL: Self = Self {
        answer: Duration::from_secs(5),
        busy: Duration::from_millis(200),
        stuck: Duration::from_secs(60),
    };
}

struct State {
    /// None when too many were stuck.
    worker: Option<Worker>,
    /// Processes that a thread was stuck on: pid and start.
    given_up: Vec<(u32, u64)>,
}

impl Symbolizer {
    /// Starts the thread. Fails when the system refuses one.
    pub fn start() -> io::Result<Self> {
        let start_naming = || -> Naming {
            let mut lookup = Lookup::new();
            Box::new(move |path| lookup.resolve(path))
        };
        Self::start_with(start_naming, Patience::USUAL)
    }

    fn start_with(start_naming: fn() -> Naming, patience: Patience) -> io::Result<Self> {
        let worker = Some(Worker::start(start_naming)?);
        let state = Mutex::new(State {
            worker,
            given_up: Vec::new(),
        });
        Ok(Self {
            state,
            start_naming,
            patience,
        })
    }

    /// Names paths; the answer is keyed by fingerprint.
    ///
    /// Waits 5 seconds at most. Paths that are not ready by then are missing from the answer; they
    /// are named meanwhile, ask again for them. A path that cannot be named, because its process
    /// is gone or its files cannot be read, is in the answer with unknown frames.
    pub async fn resolve(&self, paths: Vec<RawPath>) -> HashMap<u64, Resolved> {
        let mut resolved = HashMap::new();
        let Some((requests, patience)) = self.worker() else {
            return paths
                .iter()
                .map(|path| (path.fingerprint, Resolved::unknown(path)))
                .collect();
        };
        let (answer, mut answers) = mpsc::unbounded_channel();
        let ask = async move {
            for path in paths {
                if self.has_given_up_on(&path) {
                    let _ = answer.send((path.fingerprint, Resolved::unknown(&path)));
                } else if requests
                    .send(Request {
                        path,
                        answer: answer.clone(),
                    })
                    .await
                    .is_err()
                {
                    break;
                }
            }
            drop(answer); // The last one ends the collecting.
        };
        let collect = async {
            while let Some((fingerprint, path)) = answers.recv().await {
                resolved.insert(fingerprint, path);
            }
        };
        // Running out of time is no failure: what has been collected is the answer.
        let _ = timeout(patience, async { tokio::join!(ask, collect) }).await;
        resolved
    }

    fn has_given_up_on(&self, path: &RawPath) -> bool {
        lock(&self.state)
            .given_up
            .contains(&(path.pid, path.start_ns))
    }

    /// The way to the thread, and how long to wait for it. Replaces a thread that is stuck.
    fn worker(&self) -> Option<(mpsc::Sender<Request>, Duration)> {
        let mut state = lock(&self.state);
        let task = state.worker.as_ref()?.task();
        if let Some(task) = task.filter(|task| task.since.elapsed() > self.patience.stuck) {
            state.given_up.push(task.process);
            let another = state.given_up.len() <= LEFT_BEHIND;
            state.worker = another
                .then(|| Worker::start(self.start_naming).ok())
                .flatten();
        }
        let worker = state.worker.as_ref()?;
        let busy = worker
            .task()
            .map_or(Duration::ZERO, |task| task.since.elapsed());
        let patience = self
            .patience
            .answer
            .saturating_sub(busy)
            .max(self.patience.busy);
        Some((worker.requests.clone(), patience))
    }
}

/// A thread that names paths. It ends when nobody can ask it any more.
struct Worker {
    requests: mpsc::Sender<Request>,
    task: Arc<Mutex<Option<Task>>>,
}

/// What a thread is busy with.
#[derive(Clone, Copy)]
struct Task {
    since: Instant,
    process: (u32, u64),
}

struct Request {
    path: RawPath,
    answer: UnboundedSender<(u64, Resolved)>,
}

impl Worker {
    fn start(start_naming: fn() -> Naming) -> io::Result<Self> {
        let (requests, waiting) = mpsc::channel(WAITING);
        let task = Arc::new(Mutex::new(None));
        let shared = Arc::clone(&task);
        thread::Builder::new()
            .name("tcpleak-symbols".into())
            // Nested names and nested inlining are read by recursion.
            .stack_size(8 << 20)
            .spawn(move || work(waiting, &shared, start_naming))?;
        Ok(Self { requests, task })
    }

    fn task(&self) -> Option<Task> {
        *lock(&self.task)
    }
}

fn work(
    mut requests: mpsc::Receiver<Request>,
    task: &Mutex<Option<Task>>,
    start_naming: fn() -> Naming,
) {
    mapped_file::survive_lost_pages();
    let mut naming = start_naming();
    let mut known = Known::new();
    while let Some(Request { path, answer }) = requests.blocking_recv() {
        let resolved = known.get(path.fingerprint).unwrap_or_else(|| {
            let process = (path.pid, path.start_ns);
            *lock(task) = Some(Task {
                since: Instant::now(),
                process,
            });
            let resolved = catch_unwind(AssertUnwindSafe(|| naming(&path))).unwrap_or_else(|_| {
                // What it had read may be half done.
                naming = start_naming();
                Resolved::unknown(&path)
            });
            *lock(task) = None;
            known.put(path.fingerprint, resolved.clone());
            resolved
        });
        // Nobody may be waiting any more: then it is remembered for the next question.
        let _ = answer.send((path.fingerprint, resolved));
    }
}

/// The paths that have been named, bounded in number and size; the ones not asked for longest go
/// first.
struct Known {
    paths: LruCache<u64, Resolved>,
    bytes: usize,
}

impl Known {
    fn new() -> Self {
        Self {
            paths: LruCache::new(REMEMBERED),
            bytes: 0,
        }
    }

    fn get(&mut self, fingerprint: u64) -> Option<Resolved> {
        self.paths.get(&fingerprint).cloned()
    }

    fn put(&mut self, fingerprint: u64, path: Resolved) {
        self.bytes += size(&path);
        if let Some((_, gone)) = self.paths.push(fingerprint, path) {
            self.bytes -= size(&gone);
        }
        while self.bytes > REMEMBERED_BYTES
            && let Some((_, gone)) = self.paths.pop_lru()
        {
            self.bytes -= size(&gone);
        }
    }
}

/// Bytes that a path takes in memory.
fn size(path: &Resolved) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let frames = path.frames.iter();
    frames
        .map(|frame| {
            size_of_val(frame) + text(&frame.function) + text(&frame.file) + text(&frame.module)
        })
        .sum()
}

/// Locks a value that stays sound when its holder panics.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
