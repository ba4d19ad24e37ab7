//! One job: reads files, hashes them, and gathers what goes into blocks.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest, Sha256};

use super::Job;
use super::chain::Chain;
use super::content::{Content, Gathered};
use super::ordered::Stages;
use super::writer::Buffers;
use crate::error::{Error, Result};
use crate::inode::Shape;
use crate::plan::{Batch, Part, has_content, parts};
use crate::source::{self, ContentReader};
use crate::tree::{Kind, NodeId};

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// What a job made.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) items: Vec<Item>,
    /// The blocks of the items, one after the other.
    pub(super) content: Gathered,
    /// The tails of the items.
    pub(super) tails: Vec<u8>,
}

/// What was made of a node, or of a part of a large file.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) id: NodeId,
    pub(super) shape: Shape,
    pub(super) blocks: u64,
    /// Where in the job's tails its own is.
    pub(super) tail: Range<usize>,
    /// The digest of the whole file, once its last part is there.
    pub(super) digest: Option<[u8; 32]>,
    pub(super) is_first: bool,
    pub(super) is_last: bool,
}

/// Does the jobs of a build.
pub(super) struct Packer<'a> {
    pub(super) job: Job<'a>,
    pub(super) buffers: Buffers,
    pub(super) chain: Chain,
    pub(super) stop: &'a AtomicBool,
}

impl<'a> Stages for Packer<'a> {
    type Job = Batch;
    type Made = Made;
    type Scratch = Box<dyn ContentReader + 'a>;

    fn scratch(&self) -> Self::Scratch {
        self.job.contents.reader(self.job.tree)
    }

    fn work(&self, batch: Batch, reader: &mut Self::Scratch) -> Result<Made> {
        let block_size = u64::from(self.job.options.block_size);
        let mut making = Making {
            packer: self,
            content: Content::new(&self.buffers, block_size),
            tails: Vec::new(),
            items: Vec::new(),
        };
        match batch {
            Batch::Nodes(range) => {
                let mut files = 0;
                let mut bytes = 0;
                for &id in self.job.plan.order.get(range).unwrap_or_default() {
                    if has_content(self.job.tree.node(id)) {
                        self.check()?;
                        files += 1;
                    }
                    bytes += making.node(id, &mut **reader)?;
                }
                self.job.progress.advance(files, bytes);
            }
            Batch::Part(id, shape, part) => {
                self.check()?;
                let bytes = part.stored.end - part.stored.start;
                let is_last = part.all.end == shape.size;
                making.part(id, shape, &part, &mut **reader)?;
                self.job.progress.advance(u64::from(is_last), bytes);
            }
        }
        let Making { content, tails, items, .. } = making;
        Ok(Made { items, content: content.gathered(), tails })
    }
}

impl Packer<'_> {
    /// An error if the caller, or another thread's failure, wants this one to stop.
    fn check(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        self.job.options.check_cancelled()
    }

    fn wants_digests(&self) -> bool {
        self.job.options.fingerprint || self.job.options.uuid.is_none()
    }

    /// Hashes a hole; it is part of what the file says.
    fn hash_hole(&self, mut length: u64, hash: &mut Sha256) -> Result<()> {
        while length > 0 {
            self.check()?;
            let now = length.min(ZEROS.len() as u64);
            hash.update(ZEROS.get(..usize::try_from(now).unwrap_or(0)).unwrap_or_default());
            length -= now;
        }
        Ok(())
    }
}

struct Making<'a, 'b> {
    packer: &'a Packer<'b>,
    content: Content<'a>,
    tails: Vec<u8>,
    items: Vec<Item>,
}

impl Making<'_, '_> {
    /// A whole node; returns how many bytes of it were read.
    fn node(&mut self, id: NodeId, reader: &mut dyn ContentReader) -> Result<u64> {
        let Job { options, plan, tree, .. } = self.packer.job;
        let block_size = u64::from(options.block_size);
        let node = tree.node(id);
        let shape = Shape::of(options, plan, tree, id);
        let (blocks, tail) = (self.content.blocks(), self.tails.len());
        let mut digest = None;
        match &node.kind {
            Kind::Regular(file) if file.size > 0 => {
                let open = reader.open(id)?;
                let mut hash = self.packer.wants_digests().then(Sha256::new);
                for part in parts(tree, id, shape, block_size) {
                    self.read(&*open, &part, &shape)?;
                    if let Some(hash) = &mut hash {
                        self.hash(&part, &shape, hash)?;
                    }
                    self.content.pad();
                }
                open.check()?;
                digest = hash.map(|hash| hash.finalize().into());
            }
            Kind::Symlink(target) => {
                let (blocks, rest) = target.split_at(target.len() - shape.tail as usize);
                self.content.put(blocks);
                self.content.pad();
                self.tails.extend_from_slice(rest);
            }
            _ => {}
        }
        self.items.push(Item {
            id,
            shape,
            blocks: self.content.blocks() - blocks,
            tail: tail..self.tails.len(),
            digest,
            is_first: true,
            is_last: true,
        });
        Ok(if has_content(node) { shape.content(block_size) } else { 0 })
    }

    /// A part of a large file, alone in its job.
    fn part(&mut self, id: NodeId, shape: Shape, part: &Part, reader: &mut dyn ContentReader) -> Result<()> {
        let open = reader.open(id)?;
        self.read(&*open, part, &shape)?;
        open.check()?;
        let packer = self.packer;
        let mut digest = None;
        if packer.wants_digests() {
            let add = |hash: &mut Sha256| self.hash(part, &shape, hash);
            digest = packer.chain.add(id, part.all.clone(), shape.size, packer.stop, add)?;
        }
        self.content.pad();
        self.items.push(Item {
            id,
            shape,
            blocks: self.content.blocks(),
            tail: 0..self.tails.len(),
            digest,
            is_first: part.all.start == 0,
            is_last: part.all.end == shape.size,
        });
        Ok(())
    }

    /// Reads what is stored of a part.
    fn read(&mut self, open: &dyn source::Content, part: &Part, shape: &Shape) -> Result<()> {
        let mut at = part.stored.start;
        while at < part.stored.end {
            let room = self.content.room(part.stored.end - at);
            open.read(room, at)?;
            let length = room.len();
            self.content.filled(length);
            at += length as u64;
        }
        if part.all.end == shape.size && shape.tail > 0 {
            let start = self.tails.len();
            self.tails.resize(start + shape.tail as usize, 0);
            open.read(&mut self.tails[start..], shape.size - u64::from(shape.tail))?;
        }
        Ok(())
    }

    /// Hashes a part that was read a moment ago, with what is not stored of it.
    fn hash(&self, part: &Part, shape: &Shape, hash: &mut Sha256) -> Result<()> {
        self.packer.hash_hole(part.stored.start - part.all.start, hash)?;
        self.content.hash_last(part.stored.end - part.stored.start, hash);
        if part.all.end == shape.size && shape.tail > 0 {
            hash.update(&self.tails[self.tails.len() - shape.tail as usize..]);
            return Ok(());
        }
        self.packer.hash_hole(part.all.end - part.stored.end, hash)
    }
}
