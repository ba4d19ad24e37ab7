//! What the threads that work on the parts of one large file leave for one another.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::lock::{lock, wait_for};
use crate::tree::NodeId;

/// How often somebody who waits looks whether it is for nothing.
const PATIENCE: Duration = Duration::from_millis(50);

/// A note for each file. Jobs are begun in order, so whatever somebody waits for, somebody else is at it.
#[derive(Debug)]
pub(super) struct Board<T> {
    notes: Mutex<HashMap<NodeId, T>>,
    changed: Condvar,
}

impl<T> Default for Board<T> {
    fn default() -> Self {
        Self { notes: Mutex::default(), changed: Condvar::new() }
    }
}

impl<T> Board<T> {
    pub(super) fn post(&self, id: NodeId, note: T) {
        lock(&self.notes).insert(id, note);
        self.changed.notify_all();
    }

    /// Waits until `find` finds something among the notes; [`Error::Cancelled`] once `stop` is set.
    pub(super) fn wait<R>(
        &self,
        stop: &AtomicBool,
        mut find: impl FnMut(&mut HashMap<NodeId, T>) -> Option<R>,
    ) -> Result<R> {
        let mut notes = lock(&self.notes);
        loop {
            if let Some(found) = find(&mut notes) {
                return Ok(found);
            }
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            notes = wait_for(&self.changed, notes, PATIENCE);
        }
    }
}
