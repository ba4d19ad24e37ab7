//! Many files read by a few threads, handed over in the order they were asked for.
//!
//! ```text
//! Ask, Ask, ...  --lookups-->  inodes in order  --cursor-->  runs of files  --in order-->  the consumer
//!                (any thread)                   (assigned in order,          (frees the bytes that the
//!                                                read by any thread)          next runs are waiting for)
//! ```
//!
//! A thread takes a batch of questions and looks their inodes up, or takes the next files whose inodes are known, as
//! many as make a run, and reads them into one buffer. Runs are assigned in order and only while the bytes that are read
//! and not taken yet stay within the budget. So the files that the consumer wants next always have their share of it, and
//! nobody waits for anybody who waits for him. Knows nothing of Python.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use erofs_image::{Error, Image, Inode};

use crate::lookup::{Finder, Place};

/// Bytes of a run; a longer file is a run alone. Small enough to stay in a processor's cache until it is taken.
const RUN: u64 = 512 << 10;
/// Files of a run at most.
const RUN_FILES: usize = 128;
/// Buffers that are kept to be filled again.
const SPARE: usize = 8;

/// Threads of this process that read. A thread of a process that forked is none of the child's.
static WORKERS: AtomicUsize = AtomicUsize::new(0);
/// What they work on.
static QUEUES: Mutex<Vec<Weak<Queue>>> = Mutex::new(Vec::new());

/// Called in a forked child, where no worker runs.
pub(crate) fn forget_workers() {
    WORKERS.store(0, Ordering::Relaxed);
}

/// Stops all reading and waits for the workers' end, but not for ever: a source may hang.
pub(crate) fn stop_all(patience: Duration) {
    let queues = std::mem::take(&mut *QUEUES.lock().unwrap_or_else(PoisonError::into_inner));
    for queue in queues.iter().filter_map(Weak::upgrade) {
        queue.stop();
    }
    let end = Instant::now() + patience;
    while WORKERS.load(Ordering::Acquire) != 0 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What became of a file.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The next so many bytes of the run are its content.
    Data(usize),
    /// It is so large that who takes it reads it himself, straight to where it shall be.
    Large(Inode),
    /// It can't be had.
    Failed(Error),
}

/// Files that were read, in order.
#[derive(Debug, Default)]
pub(crate) struct Run {
    /// The bytes of all, one behind the other.
    pub(crate) data: Vec<u8>,
    /// One for each file.
    pub(crate) outcomes: Vec<Outcome>,
    /// Bytes of the budget that the run holds.
    held: u64,
}

type Found = Result<Inode, Error>;

#[derive(Debug, Default)]
struct State {
    /// Batches of questions that nobody has taken up, and the number of the first in `inodes`.
    lookups: VecDeque<(u64, Vec<Place>)>,
    /// Answers to batches in order, `None` while they are looked for; the first is being assigned.
    inodes: VecDeque<Option<VecDeque<Found>>>,
    /// Number of the first of `inodes`.
    first_inodes: u64,
    /// Runs in order, `None` while they are read; the first is the consumer's next.
    runs: VecDeque<Option<Run>>,
    /// Number of the first of `runs`.
    first_run: u64,
    /// Bytes of the runs that were assigned and not given back.
    held: u64,
    /// Buffers to fill again.
    spare: Vec<Vec<u8>>,
    stopped: bool,
    /// A worker panicked, so an answer will never come.
    broken: bool,
}

/// The state that consumer and workers share.
#[derive(Debug)]
pub(crate) struct Queue {
    image: Arc<Image>,
    budget: u64,
    state: Mutex<State>,
    /// There may be something to do for a worker.
    work: Condvar,
    /// The first run is ready.
    ready: Condvar,
}

/// What a worker does next.
enum Task {
    Lookup(u64, Vec<Place>),
    Read(u64, Vec<Found>, Vec<u8>),
}

impl Queue {
    /// Starts `threads` workers, or as many as the system gives; an error if it gives none.
    pub(crate) fn start(image: Arc<Image>, threads: usize, budget: u64) -> std::io::Result<Arc<Self>> {
        let queue = Arc::new(Self {
            image,
            budget,
            state: Mutex::default(),
            work: Condvar::new(),
            ready: Condvar::new(),
        });
        {
            let mut queues = QUEUES.lock().unwrap_or_else(PoisonError::into_inner);
            queues.retain(|queue| queue.strong_count() != 0);
            queues.push(Arc::downgrade(&queue));
        }
        for number in 0..threads {
            let shared = Arc::clone(&queue);
            let worker = Worker::new();
            let builder = std::thread::Builder::new().name("pyerofs-read".into());
            let started = builder.spawn(move || {
                let _worker = worker;
                shared.work();
            });
            match started {
                Err(error) if number == 0 => return Err(error),
                Err(_) => break,
                Ok(_) => (),
            }
        }
        Ok(queue)
    }

    /// Bytes from which on a file is read by who takes it.
    fn large(&self) -> u64 {
        (self.budget / 4).max(RUN)
    }

    /// Asks for the next files.
    pub(crate) fn ask(&self, places: Vec<Place>) {
        let mut state = self.lock();
        let number = state.first_inodes + state.inodes.len() as u64;
        state.inodes.push_back(None);
        state.lookups.push_back((number, places));
        drop(state);
        self.work.notify_one();
    }

    /// The next run if it comes within `patience`. Panics of workers are passed on, as an end without a run.
    pub(crate) fn take(&self, patience: Duration) -> Taken {
        let mut state = self.lock();
        if !matches!(state.runs.front(), Some(Some(_))) && !patience.is_zero() && !state.broken {
            (state, _) = self.ready.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner);
        }
        if matches!(state.runs.front(), Some(Some(_)))
            && let Some(Some(run)) = state.runs.pop_front()
        {
            state.first_run += 1;
            return Taken::Run(run);
        }
        if state.broken { Taken::Never } else { Taken::NotYet }
    }

    /// Gives a run back that was taken and used.
    pub(crate) fn give_back(&self, run: Run) {
        let mut state = self.lock();
        state.held = state.held.saturating_sub(run.held);
        state.recycle(run.data);
        drop(state);
        self.work.notify_one();
    }

    /// Lets the workers end, and gives what was read away.
    pub(crate) fn stop(&self) {
        let mut state = self.lock();
        *state = State { stopped: true, ..State::default() };
        drop(state);
        self.work.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a worker does until it is stopped.
    fn work(&self) {
        let guard = Guard(self);
        let mut finder = Finder::new();
        let mut state = self.lock();
        loop {
            if state.stopped {
                break;
            }
            let Some(task) = state.next_task(self.budget, self.large()) else {
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            // There may be more: one wakes the other, so that a single one stirs for a single task.
            let more = !state.lookups.is_empty() || !state.inodes.is_empty();
            drop(state);
            if more {
                self.work.notify_one();
            }
            match task {
                Task::Lookup(number, places) => {
                    let found = places.iter().map(|place| finder.find(&self.image, place)).collect();
                    state = self.lock();
                    let index =
                        number.checked_sub(state.first_inodes).and_then(|it| usize::try_from(it).ok());
                    if let Some(slot) = index.and_then(|index| state.inodes.get_mut(index)) {
                        *slot = Some(found);
                    }
                }
                Task::Read(number, files, data) => {
                    let run = self.read(files, data);
                    state = self.lock();
                    let index = number.checked_sub(state.first_run).and_then(|it| usize::try_from(it).ok());
                    if let Some(slot) = index.and_then(|index| state.runs.get_mut(index)) {
                        *slot = Some(run);
                        if index == Some(0) {
                            self.ready.notify_one();
                        }
                    }
                }
            }
        }
        drop(state);
        std::mem::forget(guard);
    }

    fn read(&self, files: Vec<Found>, mut data: Vec<u8>) -> Run {
        let large = self.large();
        let held = files.iter().map(|file| size_of_file(file, large)).sum();
        let mut outcomes = Vec::with_capacity(files.len());
        let mut end = 0;
        for file in files {
            outcomes.push(match file {
                Err(error) => Outcome::Failed(error),
                Ok(inode) if inode.size > large => Outcome::Large(inode),
                Ok(inode) => match self.read_file(&inode, &mut data, end) {
                    Ok(count) => {
                        end += count;
                        Outcome::Data(count)
                    }
                    Err(error) => Outcome::Failed(error),
                },
            });
        }
        Run { data, outcomes, held }
    }

    /// Reads a file to `data` from `start` on. `data` is never cut, so that it isn't cleared again and again.
    fn read_file(&self, inode: &Inode, data: &mut Vec<u8>, start: usize) -> Result<usize, Error> {
        // At most `large`, which is a part of the budget.
        let size = usize::try_from(inode.size).unwrap_or(usize::MAX);
        let end = start.saturating_add(size);
        if data.len() < end {
            data.resize(end, 0);
        }
        let place = data.get_mut(start..end).unwrap_or_default();
        let count = self.image.read(inode, 0, place)?;
        if count == size {
            return Ok(count);
        }
        let source = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        Err(Error::Io { blob: 0, offset: 0, source })
    }
}

/// What [`Queue::take`] found.
pub(crate) enum Taken {
    /// The next files.
    Run(Run),
    /// They are being read.
    NotYet,
    /// They will never be: a worker panicked.
    Never,
}

/// Bytes of the budget for a file: what fails or is read by the consumer needs none.
fn size_of_file(file: &Found, large: u64) -> u64 {
    file.as_ref().map_or(0, |inode| if inode.size > large { 0 } else { inode.size })
}

impl State {
    /// The next files before the next questions: what is known shall not wait.
    fn next_task(&mut self, budget: u64, large: u64) -> Option<Task> {
        if let Some((number, files)) = self.assign(budget, large) {
            let data = self.spare.pop().unwrap_or_default();
            return Some(Task::Read(number, files, data));
        }
        let (number, places) = self.lookups.pop_front()?;
        Some(Task::Lookup(number, places))
    }

    /// Makes a run of the next files that are known and fit into the budget. One file fits always if nothing else is
    /// held.
    fn assign(&mut self, budget: u64, large: u64) -> Option<(u64, Vec<Found>)> {
        let mut files = Vec::new();
        let mut bytes = 0;
        while files.len() < RUN_FILES {
            // A batch that was assigned whole makes room for the next.
            while self.inodes.front().is_some_and(|batch| batch.as_ref().is_some_and(VecDeque::is_empty)) {
                self.inodes.pop_front();
                self.first_inodes += 1;
            }
            let Some(Some(batch)) = self.inodes.front_mut() else { break };
            let Some(size) = batch.front().map(|file| size_of_file(file, large)) else { break };
            let more: u64 = bytes + size;
            let fits = self.held.saturating_add(more) <= budget || (self.held == 0 && files.is_empty());
            if !fits || (more > RUN && !files.is_empty()) {
                break;
            }
            files.extend(batch.pop_front());
            bytes = more;
        }
        if files.is_empty() {
            return None;
        }
        self.held = self.held.saturating_add(bytes);
        self.runs.push_back(None);
        Some((self.first_run + self.runs.len() as u64 - 1, files))
    }

    fn recycle(&mut self, data: Vec<u8>) {
        if self.spare.len() < SPARE && data.len() as u64 <= 2 * RUN {
            self.spare.push(data);
        }
    }
}

/// Counts a worker for as long as it lives.
struct Worker;

impl Worker {
    fn new() -> Self {
        WORKERS.fetch_add(1, Ordering::AcqRel);
        Self
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        WORKERS.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Tells the consumer of a worker that panicked.
struct Guard<'a>(&'a Queue);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.lock().broken = true;
        self.0.ready.notify_all();
    }
}
