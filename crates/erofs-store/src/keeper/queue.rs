//! The work of a keeper: small files first, one large one at a time, nothing twice at once.

use super::content::Part;
use super::image::Image;
use crate::Digest;
use crate::ImageKey;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

/// Files beyond this are made one at a time, so that somebody is always free for the small ones
/// that a process waits for.
const LARGE: u64 = 4 << 20;
/// Files up to this may be made by the reader itself, which saves waking a worker.
const TINY: u64 = 64 << 10;
/// The reader stops reading while so many files are under way or waiting.
const MAX_JOBS: usize = 8192;
/// The same for the sum of their pieces.
const MAX_PIECES: usize = 2 * super::protocol::MAX_PIECES;

/// A file to be published.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) call: u64,
    pub(crate) image: Arc<Image>,
    pub(crate) nid: u64,
    pub(crate) claimed: Option<Digest>,
    pub(crate) size: u64,
    pub(crate) parts: Vec<Part>,
    has_nid: bool,
    has_digest: bool,
}

impl Job {
    pub(crate) fn new(
        call: u64,
        image: Arc<Image>,
        nid: u64,
        claimed: Option<Digest>,
        size: u64,
        parts: Vec<Part>,
    ) -> Self {
        Self { call, image, nid, claimed, size, parts, has_nid: false, has_digest: false }
    }

    fn is_large(&self) -> bool {
        self.size > LARGE
    }
}

/// Jobs between the reader and the workers.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    work: Condvar,
    room: Condvar,
}

#[derive(Debug, Default)]
struct State {
    small: VecDeque<Job>,
    large: VecDeque<Job>,
    large_runs: bool,
    jobs: usize,
    pieces: usize,
    /// The flights: who waits for the one that runs with the same file, or the same claim.
    by_nid: HashMap<(ImageKey, u64), VecDeque<Job>>,
    by_digest: HashMap<Digest, VecDeque<Job>>,
    closed: bool,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a job; waits while there are too many. With `alone` a small one comes back, started, if
    /// there is no other: the caller runs it then.
    pub(crate) fn push(&self, job: Job, alone: bool) -> Option<Job> {
        let mut state = self.state();
        while !state.closed && (state.jobs >= MAX_JOBS || state.pieces >= MAX_PIECES) {
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let alone = alone && state.jobs == 0 && job.size <= TINY;
        state.jobs += 1;
        state.pieces += job.parts.len();
        if alone {
            return state.take_off(job);
        }
        state.enqueue(job);
        drop(state);
        self.work.notify_one();
        None
    }

    /// The next job, once there is one; `None` at the end.
    pub(crate) fn take(&self) -> Option<Job> {
        let mut state = self.state();
        loop {
            if state.closed {
                return None;
            }
            let Some(job) = state.next() else {
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            if let Some(job) = state.take_off(job) {
                state.large_runs |= job.is_large();
                return Some(job);
            }
        }
    }

    /// Ends a job's flights; the first of those who waited for each comes next. Whether there is
    /// nothing else to do.
    pub(crate) fn finish(&self, job: &Job) -> bool {
        let mut state = self.state();
        state.jobs -= 1;
        state.pieces -= job.parts.len();
        if job.is_large() {
            state.large_runs = false;
        }
        let mut woken = 0;
        let nid = (job.image.key, job.nid);
        if job.has_nid
            && let Some(next) = next_waiting(&mut state.by_nid, &nid)
        {
            state.enqueue_first(Job { has_nid: true, ..next });
            woken += 1;
        }
        if job.has_digest
            && let Some(claimed) = &job.claimed
            && let Some(next) = next_waiting(&mut state.by_digest, claimed)
        {
            state.enqueue_first(Job { has_digest: true, ..next });
            woken += 1;
        }
        let idle = state.small.is_empty() && state.large.is_empty();
        let wake = woken > 0 || !state.large.is_empty();
        drop(state);
        if wake {
            self.work.notify_all();
        }
        self.room.notify_one();
        idle
    }

    /// Waits until every job that was pushed has been finished.
    pub(crate) fn drain(&self) {
        let mut state = self.state();
        while !state.closed && state.jobs > 0 {
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends everything: what waits is dropped.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.work.notify_all();
        self.room.notify_all();
    }
}

impl State {
    fn enqueue(&mut self, job: Job) {
        if job.is_large() { self.large.push_back(job) } else { self.small.push_back(job) }
    }

    fn enqueue_first(&mut self, job: Job) {
        if job.is_large() { self.large.push_front(job) } else { self.small.push_front(job) }
    }

    fn next(&mut self) -> Option<Job> {
        self.small.pop_front().or_else(|| if self.large_runs { None } else { self.large.pop_front() })
    }

    /// Starts a job's flights, or parks it behind the one that is in the air.
    fn take_off(&mut self, mut job: Job) -> Option<Job> {
        if !job.has_nid {
            if let Some(waiting) = self.by_nid.get_mut(&(job.image.key, job.nid)) {
                waiting.push_back(job);
                return None;
            }
            self.by_nid.insert((job.image.key, job.nid), VecDeque::new());
            job.has_nid = true;
        }
        if let Some(claimed) = job.claimed
            && !job.has_digest
        {
            if let Some(waiting) = self.by_digest.get_mut(&claimed) {
                waiting.push_back(job);
                return None;
            }
            self.by_digest.insert(claimed, VecDeque::new());
            job.has_digest = true;
        }
        Some(job)
    }
}

/// The next who waited for a flight and now has it; the flight ends if nobody did.
fn next_waiting<K: std::hash::Hash + Eq>(flights: &mut HashMap<K, VecDeque<Job>>, flight: &K) -> Option<Job> {
    let next = flights.get_mut(flight).and_then(VecDeque::pop_front);
    if next.is_none() {
        flights.remove(flight);
    }
    next
}
