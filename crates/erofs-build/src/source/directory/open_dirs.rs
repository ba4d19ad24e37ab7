//! Directories kept open while the files in them are read.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::dir::open_directory;
use crate::tree::{NodeId, ROOT, Tree};

/// More than this are never kept open.
const MAX_OPEN: usize = 64;

/// The way from the root to the directory used last, as far as it is open. Batches follow the tree, so the
/// next directory is mostly a sibling or a child.
#[derive(Debug)]
pub(super) struct OpenDirs<'a> {
    root: &'a OwnedFd,
    open: Vec<(NodeId, OwnedFd)>,
}

impl<'a> OpenDirs<'a> {
    pub(super) fn new(root: &'a OwnedFd) -> Self {
        Self { root, open: Vec::new() }
    }

    /// The descriptor of the directory `id`.
    pub(super) fn get(&mut self, tree: &Tree, id: NodeId) -> rustix::io::Result<BorrowedFd<'_>> {
        let mut way = Vec::new();
        let mut at = id;
        while at != ROOT && !self.open.iter().any(|(open, _)| *open == at) {
            way.push(at);
            at = tree.parent(at);
        }
        let keep = self.open.iter().position(|(open, _)| *open == at).map_or(0, |index| index + 1);
        self.open.truncate(keep);
        for id in way.into_iter().rev() {
            let above = self.open.last().map_or(self.root, |(_, fd)| fd);
            let fd = open_directory(above, tree.name(tree.first_entry(id)))?;
            if self.open.len() == MAX_OPEN {
                self.open.drain(..MAX_OPEN / 2);
            }
            self.open.push((id, fd));
        }
        Ok(self.open.last().map_or(self.root, |(_, fd)| fd).as_fd())
    }
}
