//! The packed inode: a file without a name that holds the ends of others.

use std::ops::Range;

use super::work::Task;
use crate::zmap::Extent;

/// Bytes that are compressed at once.
const SEGMENT: usize = 4 << 20;

/// The packed inode as far as it is known.
#[derive(Debug, Default)]
pub(super) struct PackedInode {
    /// Bytes that are not yet being compressed.
    waiting: Vec<u8>,
    size: u64,
    pub(super) extents: Vec<Extent>,
}

impl PackedInode {
    /// Appends bytes, and returns where they are.
    pub(super) fn add(&mut self, bytes: &[u8]) -> Range<u64> {
        let start = self.size;
        self.waiting.extend_from_slice(bytes);
        self.size += bytes.len() as u64;
        start..self.size
    }

    /// Something to compress, if there is enough or if this is `all`. It begins with a block of the file.
    pub(super) fn task(&mut self, all: bool) -> Option<Task> {
        let length = if all { self.waiting.len() } else { self.waiting.len() / SEGMENT * SEGMENT };
        if length == 0 {
            return None;
        }
        let rest = self.waiting.split_off(length);
        Some(Task::Packed(std::mem::replace(&mut self.waiting, rest)))
    }
}
