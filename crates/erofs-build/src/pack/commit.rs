//! Gives addresses, in order: what a job made gets its blocks, and its inodes join those that wait.

use sha2::{Digest, Sha256};

use super::ordered::Commit;
use super::runs::Waiting;
use super::work::{Item, Made};
use super::writer::Buffers;
use super::{Job, Packed};
use crate::error::Result;
use crate::inode::{InodeWriter, Said};
use crate::plan::{Batch, MAX_BLOCK, too_large};

/// The image as far as it has addresses.
pub(super) struct Committer<'a> {
    job: Job<'a>,
    buffers: Buffers,
    /// The first block that nobody has.
    end: u64,
    /// Where the contents of the large file start whose parts are coming in.
    large: u64,
    waiting: Waiting,
    /// The number of every node's inode; directories have theirs from the plan.
    nids: Vec<u64>,
    content_blocks: u64,
    /// Of everything in the image, in order, if the UUID is a digest.
    hash: Option<Sha256>,
}

impl<'a> Committer<'a> {
    pub(super) fn new(job: Job<'a>, buffers: Buffers) -> Self {
        let mut nids = vec![0; job.tree.nodes.len()];
        for directory in &job.plan.directories {
            nids[directory.id as usize] = nid(directory.inode);
        }
        Self {
            job,
            buffers,
            end: job.plan.content_block,
            large: 0,
            waiting: Waiting::default(),
            nids,
            content_blocks: 0,
            hash: job.options.uuid.is_none().then(Sha256::new),
        }
    }

    pub(super) fn packed(self) -> Packed {
        let Self { nids, end, content_blocks, hash, .. } = self;
        Packed { nids, blocks: end, content_blocks, hash }
    }

    fn block_size(&self) -> u64 {
        self.job.options.block_size.into()
    }

    fn item(&mut self, item: &Item, tails: &[u8]) {
        if item.is_first {
            self.large = self.end;
        }
        self.end += item.blocks;
        self.content_blocks += item.blocks;
        if !item.is_last {
            return;
        }
        let digest = item.digest.as_ref();
        if let Some(hash) = &mut self.hash {
            hash.update(digest.map_or(&[][..], |digest| &digest[..]));
        }
        let writer = InodeWriter {
            plan: self.job.plan,
            tree: self.job.tree,
            block_size: self.job.options.block_size.into(),
        };
        let digest = digest.filter(|_| self.job.options.fingerprint);
        let said = Said { block: self.large, digest, tail: tails.get(item.tail.clone()).unwrap_or_default() };
        self.waiting.add(item.id, &item.shape, |out| writer.put(item.id, &item.shape, said, out));
    }

    /// Gives the inodes that wait their places.
    fn lay_out(&mut self) -> Result<()> {
        let start = self.end * self.block_size();
        let run = self.waiting.lay_out(start, self.block_size());
        self.end += run.bytes.len() as u64 / self.block_size();
        if self.end > MAX_BLOCK {
            return Err(too_large(self.job.tree, "blocks of the image", self.end, MAX_BLOCK));
        }
        for (id, place) in run.places {
            self.nids[id as usize] = nid(place);
        }
        if let Some(hash) = &mut self.hash {
            hash.update(&run.bytes);
        }
        self.buffers.write(start, run.bytes);
        Ok(())
    }
}

impl Commit for Committer<'_> {
    type Job = Batch;
    type Made = Made;

    fn commit(&mut self, made: Made) -> Result<Option<Batch>> {
        let Made { items, content, tails } = made;
        let mut at = self.end * self.block_size();
        for buffer in content.full.into_iter().chain([content.last]) {
            let length = buffer.len() as u64;
            self.buffers.write(at, buffer);
            at += length;
        }
        for item in &items {
            self.item(item, &tails);
        }
        if self.waiting.is_full() {
            self.lay_out()?;
        }
        Ok(None)
    }

    fn finish(&mut self) -> Result<Option<Batch>> {
        self.lay_out()?;
        Ok(None)
    }
}

/// The number of the inode at byte `place`.
fn nid(place: u64) -> u64 {
    place / 32
}
