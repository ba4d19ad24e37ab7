//! Digests of large files, whose parts are read by several threads.

use std::ops::Range;
use std::sync::atomic::AtomicBool;

use sha2::{Digest, Sha256};

use super::board::Board;
use crate::error::Result;
use crate::tree::NodeId;

/// The digests that were begun, and how far. Whoever has a part waits until the parts before it are in.
#[derive(Debug, Default)]
pub(super) struct Chain(Board<(u64, Sha256)>);

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
        let mut hash = if part.start == 0 {
            Sha256::new()
        } else {
            self.0.wait(stop, |begun| {
                let is_next = begun.get(&id).is_some_and(|(at, _)| *at == part.start);
                if is_next { begun.remove(&id).map(|(_, hash)| hash) } else { None }
            })?
        };
        add(&mut hash)?;
        if part.end == size {
            return Ok(Some(hash.finalize().into()));
        }
        self.0.post(id, (part.end, hash));
        Ok(None)
    }
}
