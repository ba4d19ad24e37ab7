//! Digests of large files that are known before their parts are compressed, where an earlier image may have them.
//! There are few such files, so the digests are kept.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::tree::NodeId;

/// How often somebody who waits looks whether it is for nothing.
const PATIENCE: Duration = Duration::from_millis(50);

/// What became of the digests that somebody wanted.
#[derive(Debug, Default)]
pub(super) struct Early {
    /// Nothing for one that could not be had.
    found: Mutex<HashMap<NodeId, Option<[u8; 32]>>>,
    changed: Condvar,
}

impl Early {
    /// The digest of a file. Whoever has the first part finds it by `find`, and the others wait: jobs are begun in
    /// order, so somebody is at it.
    pub(super) fn get(
        &self,
        id: NodeId,
        is_first: bool,
        stop: &AtomicBool,
        find: impl FnOnce() -> Result<[u8; 32]>,
    ) -> Result<Option<[u8; 32]>> {
        if is_first {
            let found = find();
            let mut known = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(id, found.as_ref().ok().copied());
            self.changed.notify_all();
            return found.map(Some);
        }
        let mut known = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = known.get(&id).copied() {
                return Ok(found);
            }
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            known = self.changed.wait_timeout(known, PATIENCE).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
