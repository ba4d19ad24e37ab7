//! The threads: one walks, several compare, one puts in order.
//!
//! What is under way is bounded by tickets: the walk takes one for each batch and stops when there is none, and it
//! comes back when the batch has been put in order. So one large file holds the others up instead of filling the
//! memory with them.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};

use crate::change::{Change, Event, Failure, Fields, Kind, Options, Side};
use crate::compare::Judge;
use crate::content::Buffers;
use crate::error::Error;
use crate::merge::{Merge, Step};
use crate::moves::{Held, resolve};
use crate::node::{Node, Root};

/// Batches under way.
const TICKETS: usize = 128;

/// A batch is full with this many paths, or this many bytes to compare.
const BATCH_STEPS: usize = 64;
const BATCH_BYTES: u64 = 4 << 20;

/// Lists of events that wait for the caller.
const WAITING: usize = 8;

/// How much was compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Entries of the first tree.
    pub entries_a: u64,
    /// Entries of the second tree.
    pub entries_b: u64,
    /// Paths that both trees have.
    pub common: u64,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    entries_a: AtomicU64,
    entries_b: AtomicU64,
    common: AtomicU64,
    /// Batches that the walk handed out, and whether those are all.
    issued: AtomicU64,
    walked: AtomicBool,
}

/// A comparison under way: its events come in the order of the paths. Dropping it ends it.
pub struct Diff {
    events: Receiver<Vec<Event>>,
    list: std::vec::IntoIter<Event>,
    shared: Arc<Shared>,
}

impl fmt::Debug for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Diff").field("shared", &self.shared).finish_non_exhaustive()
    }
}

impl Drop for Diff {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Diff {
    /// Starts to compare the tree `b` with the tree `a`.
    pub fn start(a: Root, b: Root, options: Options) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let judge = Arc::new(Judge::new(options, &a.0, &b.0));
        let merge = Merge::new(a, b, &judge.options);
        let (ticket, tickets) = bounded(TICKETS);
        let (job, jobs) = unbounded(); // bounded by the tickets
        let (result, results) = unbounded();
        let (list, events) = bounded(WAITING);
        let spawn = |name: &str| thread::Builder::new().name(format!("diff-{name}"));
        for _ in 0..judge.options.threads.get() {
            let (jobs, result) = (jobs.clone(), result.clone());
            let (judge, shared) = (Arc::clone(&judge), Arc::clone(&shared));
            spawn("compare").spawn(move || work(&jobs, &result, &judge, &shared))?;
        }
        drop(result);
        let order = Order { judge, shared: Arc::clone(&shared), list, held: Some(Vec::new()) };
        spawn("order").spawn(move || order.run(&results, &tickets))?;
        let walking = Arc::clone(&shared);
        spawn("walk").spawn(move || walk(merge, &ticket, &job, &walking))?;
        Ok(Self { events, list: Vec::new().into_iter(), shared })
    }

    /// Waits for the next events, but not for ever: `None` when the time is over. An empty list is the end.
    pub fn next_within(&mut self, time: Duration) -> Option<Vec<Event>> {
        match self.events.recv_timeout(time) {
            Ok(list) => Some(list),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Vec::new()),
        }
    }

    /// How much has been compared so far.
    pub fn counts(&self) -> Counts {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Shared { entries_a, entries_b, common, .. } = &*self.shared;
        Counts { entries_a: load(entries_a), entries_b: load(entries_b), common: load(common) }
    }
}

impl Iterator for Diff {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.list.next() {
                return Some(event);
            }
            self.list = self.events.recv().ok()?.into_iter();
        }
    }
}

type Batch = (u64, Vec<Step>);
type Done = (u64, Vec<Held>);

/// Ends as soon as nobody takes what it hands out.
fn walk(mut merge: Merge, ticket: &Sender<()>, jobs: &Sender<Batch>, shared: &Shared) {
    for number in 0.. {
        let mut steps = Vec::new();
        let mut bytes = 0_u64;
        while steps.len() < BATCH_STEPS && bytes < BATCH_BYTES && !shared.stop.load(Ordering::Relaxed) {
            let Some(step) = merge.next() else { break };
            match &step {
                Step::Both { a, b, .. } => {
                    shared.entries_a.fetch_add(1, Ordering::Relaxed);
                    shared.entries_b.fetch_add(1, Ordering::Relaxed);
                    shared.common.fetch_add(1, Ordering::Relaxed);
                    if a.is_file() && b.is_file() && a.facts.size == b.facts.size {
                        bytes = bytes.saturating_add(a.facts.size);
                    }
                }
                Step::One { side: Side::A, .. } => drop(shared.entries_a.fetch_add(1, Ordering::Relaxed)),
                Step::One { side: Side::B, .. } => drop(shared.entries_b.fetch_add(1, Ordering::Relaxed)),
                Step::Failed(_) => {}
            }
            steps.push(step);
        }
        if steps.is_empty() {
            shared.issued.store(number, Ordering::Relaxed);
            shared.walked.store(true, Ordering::Release);
            return;
        }
        if ticket.send(()).is_err() || jobs.send((number, steps)).is_err() {
            return;
        }
    }
}

fn work(jobs: &Receiver<Batch>, results: &Sender<Done>, judge: &Judge, shared: &Shared) {
    let mut buffers = Buffers::default();
    for (number, steps) in jobs {
        let mut done = Vec::new();
        for step in steps {
            // A panic is a bug, but one that must not leave the others waiting for this batch.
            let judged = catch_unwind(AssertUnwindSafe(|| judged(step, judge, &mut buffers, &shared.stop)));
            done.extend(judged.unwrap_or_else(|_| vec![Held { event: internal(), node: None }]));
        }
        if results.send((number, done)).is_err() {
            return;
        }
    }
}

fn internal() -> Event {
    Event::Failure(Failure { side: Side::A, path: Box::default(), error: Error::Internal })
}

fn judged(step: Step, judge: &Judge, buffers: &mut Buffers, stop: &AtomicBool) -> Vec<Held> {
    match step {
        Step::Both { path, a, b, links_differ } => {
            let events = judge.compare(&path, [&a, &b], links_differ, buffers, stop);
            events.into_iter().map(|event| Held { event, node: None }).collect()
        }
        Step::One { side, path, node } => vec![lone(side, path, node)],
        Step::Failed(failure) => vec![Held { event: Event::Failure(failure), node: None }],
    }
}

/// An entry that one tree has.
fn lone(side: Side, path: Box<[u8]>, node: Node) -> Held {
    let facts = Some(node.facts);
    let (kind, old, new) = match side {
        Side::A => (Kind::Removed, facts, None),
        Side::B => (Kind::Added, None, facts),
    };
    let fields = Fields::empty();
    let change = Change { kind, path, from: None, fields, old, new, targets: None, xattrs: Vec::new() };
    Held { event: Event::Change(change), node: node.is_file().then_some(node) }
}

/// What puts the results in order.
struct Order {
    judge: Arc<Judge>,
    shared: Arc<Shared>,
    list: Sender<Vec<Event>>,
    /// Events that wait for the end of the walk; `None` once they don't.
    held: Option<Vec<Held>>,
}

impl Order {
    fn run(mut self, results: &Receiver<Done>, tickets: &Receiver<()>) {
        if self.judge.options.move_limit == 0 {
            self.held = None;
        }
        let mut early: BTreeMap<u64, Vec<Held>> = BTreeMap::new();
        let mut next = 0;
        for (number, done) in results {
            early.insert(number, done);
            while let Some(done) = early.remove(&next) {
                next += 1;
                // It was sent before the batch was, so it is there.
                let _ = tickets.try_recv();
                if self.take(done).is_err() {
                    return;
                }
            }
        }
        if let Some(held) = self.held.take() {
            let judge = Arc::clone(&self.judge);
            let events = resolve(held, &judge, &self.shared.stop);
            if self.hand_out(events.into_iter()).is_err() {
                return;
            }
        }
        if !self.shared.walked.load(Ordering::Acquire) || self.shared.issued.load(Ordering::Relaxed) != next {
            let _ = self.list.send(vec![internal()]);
        }
    }

    fn take(&mut self, done: Vec<Held>) -> Result<(), Gone> {
        let Some(held) = &mut self.held else {
            return self.hand_out(done.into_iter().map(|one| one.event));
        };
        held.extend(done);
        if held.len() <= self.judge.options.move_limit {
            return Ok(());
        }
        let held = self.held.take().unwrap_or_default();
        self.hand_out([Event::TooManyForMoves].into_iter().chain(held.into_iter().map(|one| one.event)))
    }

    fn hand_out(&self, mut events: impl Iterator<Item = Event>) -> Result<(), Gone> {
        loop {
            let list: Vec<Event> = events.by_ref().take(256).collect();
            if list.is_empty() {
                return Ok(());
            }
            self.list.send(list).map_err(|_| Gone)?;
        }
    }
}

/// Nobody waits for events any more.
struct Gone;
