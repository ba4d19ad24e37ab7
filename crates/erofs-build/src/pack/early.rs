//! Digests of large files that are known before their parts are compressed, where an earlier image may have them.
//! There are few such files, so the digests are kept.

use std::sync::atomic::AtomicBool;

use super::board::Board;
use crate::error::Result;
use crate::tree::NodeId;

/// What became of the digests that somebody wanted: nothing for one that could not be had.
#[derive(Debug, Default)]
pub(super) struct Early(Board<Option<[u8; 32]>>);

impl Early {
    /// The digest of a file. Whoever has the first part finds it by `find`, and the others wait.
    pub(super) fn get(
        &self,
        id: NodeId,
        is_first: bool,
        stop: &AtomicBool,
        find: impl FnOnce() -> Result<[u8; 32]>,
    ) -> Result<Option<[u8; 32]>> {
        if !is_first {
            return self.0.wait(stop, |found| found.get(&id).copied());
        }
        let found = find();
        self.0.post(id, found.as_ref().ok().copied());
        found.map(Some)
    }
}
