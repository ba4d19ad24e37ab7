//! Inodes on their way to their places.
//!
//! An inode is complete when its contents have their addresses. It then waits here with others until there
//! are enough for a run, which is sorted as the tree is and laid out close together: memory is bounded, and
//! all but the largest trees have one run.

use crate::inode::Shape;
use crate::plan::Zone;
use crate::tree::NodeId;

/// Bytes of inodes that wait at most.
const RUN_BYTES: usize = 32 << 20;

/// Inodes that wait for a place.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    inodes: Vec<Inode>,
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct Inode {
    id: NodeId,
    /// Where its bytes are.
    start: usize,
    core: usize,
    tail: usize,
}

/// A run of inodes, laid out from some byte on.
#[derive(Debug)]
pub(super) struct Run {
    /// Whole blocks.
    pub(super) bytes: Vec<u8>,
    /// Where in the image each inode starts.
    pub(super) places: Vec<(NodeId, u64)>,
}

impl Waiting {
    /// Takes the inode that `put` appends.
    pub(super) fn add(&mut self, id: NodeId, shape: &Shape, put: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        put(&mut self.bytes);
        let tail = shape.tail as usize;
        self.inodes.push(Inode { id, start, core: self.bytes.len() - start - tail, tail });
    }

    /// Whether there are enough for a run.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= RUN_BYTES
    }

    /// Lays out all that wait, from the byte `start` on, which is the start of a block.
    pub(super) fn lay_out(&mut self, start: u64, block_size: u64) -> Run {
        self.inodes.sort_unstable_by_key(|inode| inode.id);
        let mut zone = Zone::new(block_size, start);
        let places: Vec<_> = self
            .inodes
            .iter()
            .map(|inode| (inode.id, zone.place(inode.core as u64, inode.tail as u64)))
            .collect();
        zone.finish_block();
        let mut bytes = vec![0; usize::try_from(zone.end() - start).unwrap_or(usize::MAX)];
        for (inode, (_, place)) in self.inodes.iter().zip(&places) {
            let length = inode.core + inode.tail;
            let to = usize::try_from(place - start).unwrap_or(usize::MAX);
            bytes[to..to + length].copy_from_slice(&self.bytes[inode.start..inode.start + length]);
        }
        self.inodes.clear();
        self.bytes.clear();
        Run { bytes, places }
    }
}
