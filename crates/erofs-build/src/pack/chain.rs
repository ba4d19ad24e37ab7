//! Digests of large files, whose parts are read by several threads.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::tree::NodeId;

/// How often somebody who waits looks whether it is for nothing.
const PATIENCE: Duration = Duration::from_millis(50);

/// The digests that were begun. Whoever has a part waits until the parts before it are in: jobs are begun in
/// order, so somebody is working on them.
#[derive(Debug, Default)]
pub(super) struct Chain {
    begun: Mutex<HashMap<NodeId, (u64, Sha256)>>,
    changed: Condvar,
}

impl Chain {
    /// Has a part of the file `id` of `size` bytes added by `add`; returns the digest if it was the last.
    pub(super) fn add(
        &self,
        id: NodeId,
        part: Range<u64>,
        size: u64,
        stop: &AtomicBool,
        add: impl FnOnce(&mut Sha256) -> Result<()>,
    ) -> Result<Option<[u8; 32]>> {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let mut hash = loop {
            if part.start == 0 {
                break Sha256::new();
            }
            match begun.remove(&id) {
                Some((at, hash)) if at == part.start => break hash,
                Some(other) => drop(begun.insert(id, other)),
                None => {}
            }
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            begun = self.changed.wait_timeout(begun, PATIENCE).unwrap_or_else(PoisonError::into_inner).0;
        };
        drop(begun);
        add(&mut hash)?;
        if part.end == size {
            return Ok(Some(hash.finalize().into()));
        }
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).insert(id, (part.end, hash));
        self.changed.notify_all();
        Ok(None)
    }
}
