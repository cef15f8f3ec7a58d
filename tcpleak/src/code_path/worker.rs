//! The thread that takes code paths, and never holds up whoever hands them over or asks for them.
//!
//! Opening an executable can take long, and for ever when it lies on a dead network file system. So a
//! question waits only so long, work goes on behind it, and a thread that is stuck is left behind
//! together with the process it was stuck on.

use std::{
    collections::{HashMap, VecDeque},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    sync::{
        Notify,
        mpsc::{self, UnboundedSender},
        oneshot,
    },
    time::timeout,
};

use super::{Capture, Learned, Resolved, child, paths::Paths};
use crate::{lock::lock, report::Incomplete, survey::ProcessId};

/// Most captures and questions that wait.
const WAITING: usize = 256;
/// Most of what was learned that waits to be fetched. What finds no room costs a little: the kernel
/// asks again for what it was not told.
const LEARNED: usize = 16_384;
/// How long to wait for room.
const FULL: Duration = Duration::from_millis(5);
/// Most stuck threads that are left behind; after that no path is taken any more.
const LEFT_BEHIND: usize = 3;

/// What takes paths and names them: blocking, and bound to its thread.
trait Taker {
    fn take(&mut self, capture: Capture) -> Learned;
    fn resolve(&mut self, fingerprint: u64) -> Option<Resolved>;
    fn look_around(&mut self) -> Vec<Learned>;
    fn reader_pid(&self) -> Option<u32>;
}

impl Taker for Paths {
    fn take(&mut self, capture: Capture) -> Learned {
        self.take(capture)
    }

    fn resolve(&mut self, fingerprint: u64) -> Option<Resolved> {
        self.resolve(fingerprint)
    }

    fn look_around(&mut self) -> Vec<Learned> {
        self.look_around()
    }

    fn reader_pid(&self) -> Option<u32> {
        self.reader_pid()
    }
}

type StartTaker = fn() -> Box<dyn Taker>;

/// Where captures come from.
pub trait CaptureSource: Send + 'static {
    /// Waits until there may be one.
    fn wait(&mut self);
    /// The next one, if there is one now.
    fn next(&mut self) -> Option<Capture>;
}

/// The code paths of one run.
pub struct CodePaths {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    shared: Arc<Shared>,
    start: StartTaker,
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
    /// Processes that a thread was stuck on.
    given_up: Vec<ProcessId>,
}

/// What the thread leaves for others to fetch.
#[derive(Default)]
struct Shared {
    learned: Mutex<VecDeque<Learned>>,
    news: Notify,
    /// Whether there may be captures in the source that found no room yet.
    behind: AtomicBool,
}

impl Shared {
    fn add(&self, learned: Learned) {
        if learned != Learned::default() {
            let mut waiting = lock(&self.learned);
            if waiting.len() < LEARNED {
                waiting.push_back(learned);
                self.news.notify_one();
            }
        }
    }
}

impl CodePaths {
    /// Starts the thread. Fails when the system refuses one.
    pub fn start() -> io::Result<Self> {
        lift_descriptor_limit();
        Self::start_with(
            || Box::new(Paths::new(child::start_process)),
            Patience::USUAL,
        )
    }

    fn start_with(start: StartTaker, patience: Patience) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let worker = Some(Worker::start(start, &shared)?);
        let state = Mutex::new(State {
            worker,
            given_up: Vec::new(),
        });
        let inner = Inner {
            state,
            shared,
            start,
            patience,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Takes captures from a source as they come, on a thread of its own: a program may unload the
    /// code or end soon after. What finds no room waits in the source.
    pub fn feed(&self, mut source: impl CaptureSource) -> io::Result<()> {
        let inner = Arc::downgrade(&self.inner);
        thread::Builder::new()
            .name("tcpleak-captures".into())
            .spawn(move || {
                while let Some(inner) = inner.upgrade() {
                    let full = loop {
                        if inner.room() == 0 {
                            break true;
                        }
                        match source.next() {
                            Some(capture) => inner.take(capture),
                            None => break false,
                        }
                    };
                    inner.shared.behind.store(full, Ordering::Relaxed);
                    drop(inner);
                    match full {
                        true => thread::sleep(FULL),
                        false => source.wait(),
                    }
                }
            })?;
        Ok(())
    }

    /// Looks at the processes that run, so that their first paths can be named. Waits as long as for any
    /// answer, and goes on behind that.
    pub async fn look_around(&self) {
        if let Some((requests, patience)) = self.inner.worker() {
            let (answer, answered) = oneshot::channel();
            if requests.try_send(Request::LookAround(answer)).is_ok() {
                // Nothing depends on it but a name.
                let _ = timeout(patience, answered).await;
            }
        }
    }

    /// Names paths; the answer is keyed by fingerprint.
    ///
    /// Waits 5 seconds at most. Paths that are not ready by then are missing from the answer; they
    /// are named meanwhile, ask again for them. A path that was lost is in the answer without frames.
    pub async fn resolve(&self, fingerprints: Vec<u64>) -> HashMap<u64, Resolved> {
        self.inner.resolve(fingerprints).await
    }

    /// Waits until there is something to fetch.
    pub async fn has_learned(&self) {
        self.inner.shared.news.notified().await;
    }

    /// What was learned from the captures taken since the last call.
    pub fn learned(&self) -> Vec<Learned> {
        lock(&self.inner.shared.learned).drain(..).collect()
    }

    /// Process id of the reader, while there is one.
    pub fn reader_pid(&self) -> Option<u32> {
        *lock(&lock(&self.inner.state).worker.as_ref()?.reader)
    }
}

impl Inner {
    /// How many captures can be handed over now.
    fn room(&self) -> usize {
        match self.worker() {
            Some((requests, _)) => requests.capacity(),
            // They are thrown away: whoever asks for them is told so.
            None => WAITING,
        }
    }

    /// Hands over a capture. One that finds no room, or whose process the thread was stuck on, is
    /// lost.
    fn take(&self, capture: Capture) {
        let given_up = lock(&self.state).given_up.contains(&capture.process);
        if let Some((requests, _)) = self.worker().filter(|_| !given_up) {
            // A question about it is answered by `lost`.
            let _ = requests.try_send(Request::Take(capture));
        }
    }

    async fn resolve(&self, fingerprints: Vec<u64>) -> HashMap<u64, Resolved> {
        let mut resolved = HashMap::new();
        let Some((requests, patience)) = self.worker() else {
            return fingerprints
                .iter()
                .map(|fingerprint| (*fingerprint, lost()))
                .collect();
        };
        let (answer, mut answers) = mpsc::unbounded_channel();
        let ask = async move {
            for fingerprint in fingerprints {
                let answer = answer.clone();
                let behind = self.shared.behind.load(Ordering::Relaxed);
                let request = Request::Resolve(fingerprint, behind, answer);
                if requests.send(request).await.is_err() {
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

    /// The way to the thread, and how long to wait for it. Replaces a thread that is stuck.
    fn worker(&self) -> Option<(mpsc::Sender<Request>, Duration)> {
        let mut state = lock(&self.state);
        let task = state.worker.as_ref()?.task();
        if let Some(task) = task.filter(|task| task.since.elapsed() > self.patience.stuck) {
            state.given_up.extend(task.process);
            let another = state.given_up.len() <= LEFT_BEHIND;
            state.worker = another
                .then(|| Worker::start(self.start, &self.shared).ok())
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

/// A thread that takes paths. It ends when nobody can ask it any more.
struct Worker {
    requests: mpsc::Sender<Request>,
    task: Arc<Mutex<Option<Task>>>,
    reader: Arc<Mutex<Option<u32>>>,
}

/// What a thread is busy with.
#[derive(Clone, Copy)]
struct Task {
    since: Instant,
    process: Option<ProcessId>,
}

enum Request {
    Take(Capture),
    /// A fingerprint; whether its path may still be on its way; where the answer goes to.
    Resolve(u64, bool, UnboundedSender<(u64, Resolved)>),
    LookAround(oneshot::Sender<()>),
}

impl Worker {
    fn start(start: StartTaker, shared: &Arc<Shared>) -> io::Result<Self> {
        let (requests, waiting) = mpsc::channel(WAITING);
        let task = Arc::new(Mutex::new(None));
        let reader = Arc::new(Mutex::new(None));
        let (for_task, for_reader) = (Arc::clone(&task), Arc::clone(&reader));
        let shared = Arc::clone(shared);
        thread::Builder::new()
            .name("tcpleak-paths".into())
            .spawn(move || work(waiting, &for_task, &for_reader, &shared, start))?;
        Ok(Self {
            requests,
            task,
            reader,
        })
    }

    fn task(&self) -> Option<Task> {
        *lock(&self.task)
    }
}

fn work(
    mut requests: mpsc::Receiver<Request>,
    task: &Mutex<Option<Task>>,
    reader: &Mutex<Option<u32>>,
    shared: &Shared,
    start: StartTaker,
) {
    let mut taker = start();
    while let Some(request) = requests.blocking_recv() {
        let process = match &request {
            Request::Take(capture) => Some(capture.process),
            Request::Resolve(..) | Request::LookAround(_) => None,
        };
        let since = Instant::now();
        *lock(task) = Some(Task { since, process });
        let done = catch_unwind(AssertUnwindSafe(|| serve(&mut *taker, request, shared)));
        if done.is_err() {
            // What it knew may be half done.
            taker = start();
        }
        *lock(task) = None;
        *lock(reader) = taker.reader_pid();
    }
}

fn serve(taker: &mut dyn Taker, request: Request, shared: &Shared) {
    match request {
        Request::Take(capture) => shared.add(taker.take(capture)),
        Request::LookAround(answer) => {
            for learned in taker.look_around() {
                shared.add(learned);
            }
            // Nobody may be waiting any more.
            let _ = answer.send(());
        }
        Request::Resolve(fingerprint, behind, answer) => {
            let resolved = match taker.resolve(fingerprint) {
                // No answer: it is asked for again.
                None if behind => return,
                resolved => resolved.unwrap_or_else(lost),
            };
            // Nobody may be waiting any more: then it is remembered for the next question.
            let _ = answer.send((fingerprint, resolved));
        }
    }
}

/// Files of code and memories of processes stay open, which may be more than is usual. That raising the
/// limit fails shows when one cannot be opened: then its code has no names.
fn lift_descriptor_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: maximum,
        maximum,
    };
    let _ = setrlimit(Resource::Nofile, all);
}

/// A path of which nothing is known.
fn lost() -> Resolved {
    Resolved {
        frames: Vec::new(),
        incomplete: Some(Incomplete::ReaderFailed),
        unreadable: None,
        requested_by: None,
    }
}

#[cfg(test)]
mod tests;
