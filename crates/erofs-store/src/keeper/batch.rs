//! Making fresh objects durable: one syncfs for many of them, then a second name in `objects/`.

use super::Shared;
use super::client::Outcome;
use super::protocol::Answer;
use crate::Digest;
use crate::Domain;
use crate::Result;
use crate::dir;
use crate::domain::is_file;
use rustix::fs::AtFlags;
use rustix::io::Errno;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

/// How long the first object of a batch waits for others.
const DELAY: Duration = Duration::from_secs(2);
/// How many objects a batch has at most.
const MAX_BATCH: usize = 16384;

/// What is to be made durable.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    objects: Vec<Digest>,
    since: Option<Instant>,
    /// Calls that wait until what was published before them is durable.
    flushes: Vec<u64>,
    closed: bool,
}

impl Batch {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a fresh object.
    pub(crate) fn add(&self, object: Digest) {
        let mut state = self.state();
        state.objects.push(object);
        if state.since.is_none() {
            state.since = Some(Instant::now());
            self.wake.notify_one();
        } else if state.objects.len() == MAX_BATCH {
            self.wake.notify_one();
        }
    }

    /// Has everything made durable now, and the call answered.
    pub(crate) fn flush(&self, call: u64) {
        self.state().flushes.push(call);
        self.wake.notify_one();
    }

    /// Has everything made durable now, and [`run`] return.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.wake.notify_one();
    }

    /// Waits until there is something to do.
    fn next(&self) -> State {
        let mut state = self.state();
        loop {
            let age = state.since.map(|since| since.elapsed());
            let due = age.is_some_and(|age| age >= DELAY) || state.objects.len() >= MAX_BATCH;
            if due || state.closed || !state.flushes.is_empty() {
                let closed = state.closed;
                return std::mem::replace(&mut *state, State { closed, ..State::default() });
            }
            state = match age {
                Some(age) => {
                    let wait = self.wake.wait_timeout(state, DELAY.saturating_sub(age));
                    wait.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

/// The thread of the batches: first what an earlier keeper of this boot left, then this one's.
pub(crate) fn run(shared: &Shared) {
    let used = take_stock(shared);
    shared.usage.fetch_add(used, Ordering::Relaxed);
    if let Ok(limit) = shared.domain.effective_limit(used) {
        shared.limit.store(limit, Ordering::Relaxed);
    }
    loop {
        let work = shared.batch.next();
        let result =
            if work.objects.is_empty() { Ok(()) } else { make_durable(&shared.domain, &work.objects) };
        let answer = match result {
            Ok(()) => Answer::Done,
            Err(errno) => Answer::Outcome(Outcome::Io(errno.raw_os_error())),
        };
        for call in work.flushes {
            shared.answer(call, answer);
        }
        if work.closed {
            return;
        }
    }
}

/// What the objects take on disk that were there before; those that only `fresh/` has join a batch.
fn take_stock(shared: &Shared) -> u64 {
    let mut used: u64 = 0;
    let objects = shared.domain.objects();
    let durable: Result<()> = objects.list_below("objects", &mut |object| {
        used = used.saturating_add(dir::disk_bytes(&object.stat));
        Ok(())
    });
    let mut left = Vec::new();
    let fresh: Result<()> = objects.list_below(&shared.domain.fresh_path(), &mut |object| {
        if !is_file(&shared.domain, &Domain::durable_path(&object.digest)) {
            used = used.saturating_add(dir::disk_bytes(&object.stat));
            left.push(object.digest);
        }
        Ok(())
    });
    // A listing that fails makes the limit less exact, and objects durable later or never.
    let _ = (durable, fresh);
    for object in left {
        shared.batch.add(object);
    }
    used
}

/// Syncs, then links; what could not be synced loses its name, since nobody knows what the disk has.
pub(crate) fn make_durable(domain: &Domain, objects: &[Digest]) -> Result<(), Errno> {
    if let Err(errno) = rustix::fs::syncfs(domain) {
        for object in objects {
            // The error that counts is syncfs'; links by nid stay for those who use them.
            let fresh = domain.fresh_object_path(object);
            let _ = rustix::fs::unlinkat(domain, fresh, AtFlags::empty());
        }
        return Err(errno);
    }
    let mut result = Ok(());
    for object in objects {
        if let Err(errno) = link_durable(domain, object) {
            result = Err(errno);
        }
    }
    result
}

fn link_durable(domain: &Domain, object: &Digest) -> Result<(), Errno> {
    let fresh = domain.fresh_object_path(object);
    let durable = Domain::durable_path(object);
    let link = || rustix::fs::linkat(domain, &fresh, domain, &durable, AtFlags::empty());
    let linked = match link() {
        Err(Errno::NOENT) => {
            // Either the folder is missing, or the object has been evicted.
            let folder = durable.rsplit_once('/').map_or("objects", |(folder, _)| folder);
            dir::make(domain, folder)?;
            dir::gone_is_fine(link())
        }
        other => other,
    };
    match linked {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}
