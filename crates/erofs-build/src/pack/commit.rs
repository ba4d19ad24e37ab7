//! Gives addresses, in order: what a job made gets its blocks, and its inodes join those that wait.

use std::mem::take;

use erofs_format::compression::Algorithm;
use sha2::{Digest, Sha256};

use super::content::Gathered;
use super::ordered::Commit;
use super::packed::PackedInode;
use super::runs::Waiting;
use super::work::{Ending, Item, Made, MadeOf, Stored, Task};
use super::writer::Buffers;
use super::{Job, Packed};
use crate::compress::Compression;
use crate::error::Result;
use crate::inode::{Data, InodeWriter, Said, Shape};
use crate::plan::{MAX_BLOCK, too_large};
use crate::tree::{Key, Kind, Node, NodeId, Regular};
use crate::zmap::{Extent, Map, Tail};

/// The image as far as it has addresses.
pub(super) struct Committer<'a> {
    job: Job<'a>,
    buffers: Buffers,
    /// The first byte that nobody has.
    end: u64,
    /// The large file whose parts are coming in.
    large: Option<Large>,
    packed: PackedInode,
    /// Contents of the packed inode that wait for the end of the large file, whose blocks have to lie together.
    held: Vec<(Vec<Extent>, Gathered)>,
    waiting: Waiting,
    /// The number of every node's inode, directories having theirs from the plan, and of the packed inode.
    nids: Vec<u64>,
    /// Bytes of contents.
    content: u64,
    /// Of everything in the image, in order, if the UUID is a digest.
    hash: Option<Sha256>,
}

/// What is known of a file of which not all parts are there.
#[derive(Debug, Default)]
struct Large {
    /// Where it starts.
    start: u64,
    extents: Vec<Extent>,
}

impl<'a> Committer<'a> {
    pub(super) fn new(job: Job<'a>, buffers: Buffers) -> Self {
        let mut nids = vec![0; job.tree.nodes.len()];
        for directory in &job.plan.directories {
            nids[directory.id as usize] = nid(directory.inode);
        }
        let mut packed = PackedInode::default();
        let (table, prefixes) = job.plan.areas.prefix_table();
        if prefixes > 0 && job.options.compression.as_ref().is_some_and(|how| how.fragments) {
            // Kernels before 6.17 look for the table in the packed inode, if there is one, at the place where
            // it is on the device.
            packed.add(&vec![0; usize::try_from(job.plan.table_at).unwrap_or(0)]);
            packed.add(&table);
        }
        Self {
            job,
            buffers,
            end: job.plan.content_block * u64::from(job.options.block_size),
            large: None,
            packed,
            held: Vec::new(),
            waiting: Waiting::default(),
            nids,
            content: 0,
            hash: job.options.uuid.is_none().then(Sha256::new),
        }
    }

    pub(super) fn packed(mut self) -> Packed {
        let packed_nid = if self.nids.len() > self.job.tree.nodes.len() { self.nids.pop() } else { None };
        let block_size = self.block_size();
        let Self { nids, end, content, hash, .. } = self;
        Packed {
            nids,
            packed_nid,
            blocks: end / block_size,
            content_blocks: content.div_ceil(block_size),
            hash,
        }
    }

    fn block_size(&self) -> u64 {
        self.job.options.block_size.into()
    }

    /// Writes contents where the image ends, and says where that was.
    fn write(&mut self, content: Gathered) -> u64 {
        if content.is_aligned {
            self.end = self.end.next_multiple_of(self.block_size());
        }
        let start = self.end;
        for buffer in content.full.into_iter().chain([content.last]) {
            let length = buffer.len() as u64;
            self.buffers.write(self.end, buffer);
            self.end += length;
        }
        self.content += self.end - start;
        self.job.progress.stored(self.end - start);
        start
    }

    /// An item in contents that start at `base`.
    fn item(&mut self, item: Item, base: u64, tails: &[u8], fragments: &[u8]) {
        let Item { id, stored, digest, is_first, is_last } = item;
        let mut large = if is_first {
            Large { start: base, extents: Vec::new() }
        } else {
            self.large.take().unwrap_or_default()
        };
        match &stored {
            Stored::Compressed { extents, .. } => {
                large.extents.extend(extents.iter().map(|extent| extent.moved(base)));
            }
            Stored::Plain { start, .. } if is_first => large.start += start,
            Stored::Plain { .. } => {}
        }
        if !is_last {
            self.large = Some(large);
            return;
        }
        if let Some(hash) = &mut self.hash {
            hash.update(digest.as_ref().map_or(&[][..], |digest| &digest[..]));
        }
        let digest = digest.as_ref().filter(|_| self.job.options.fingerprint);
        let (plan, tree) = (self.job.plan, self.job.tree);
        let writer = InodeWriter { plan, tree, block_size: self.block_size() };
        match stored {
            Stored::Plain { shape, tail, .. } => {
                let tail = tails.get(tail).unwrap_or_default();
                let said = Said { data: Data::From(large.start / self.block_size()), digest, tail };
                self.waiting.add(id, &shape, |out| writer.put(id, &shape, said, out));
            }
            Stored::Compressed { end, .. } => {
                let (map_tail, tail) = match end {
                    Ending::Nothing => (Tail::Nothing, &[][..]),
                    Ending::Fragment(range) => {
                        let bytes = fragments.get(range).unwrap_or_default();
                        let at = self.packed.add(bytes);
                        (Tail::Fragment { llen: bytes.len() as u64, offset: at.start }, &[][..])
                    }
                    Ending::Inline { tail, llen, is_coded } => {
                        let bytes = tails.get(tail).unwrap_or_default();
                        let plen = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
                        (Tail::Inline { llen, plen, is_coded }, bytes)
                    }
                };
                let how = match &tree.node(id).kind {
                    Kind::Regular(file) => plan.methods.of(id, file),
                    _ => None,
                };
                let map = self.map(how, &large.extents, map_tail);
                let shape = Shape::compressed(plan, tree.node(id), &map);
                let said = Said { data: Data::Mapped(map), digest, tail };
                self.waiting.add(id, &shape, |out| writer.put(id, &shape, said, out));
            }
        }
    }

    /// The map of a file that is compressed in the way of this number.
    fn map<'b>(&self, how: Option<usize>, extents: &'b [Extent], tail: Tail) -> Map<'b> {
        let Job { options, plan, .. } = self.job;
        let how = how.and_then(|number| plan.methods.all().get(number));
        Map {
            extents,
            tail,
            algorithm: how.map_or(Algorithm::Lz4, Compression::algorithm),
            is_big: how.is_some_and(|how| how.cluster > options.block_size),
            is_dense: self.job.plan.is_dense,
            block_bits: options.block_size.trailing_zeros(),
        }
    }

    /// Puts contents of the packed inode into place.
    fn release(&mut self) {
        if self.large.is_some() {
            return;
        }
        for (extents, content) in take(&mut self.held) {
            let base = self.write(content);
            self.packed.extents.extend(extents.iter().map(|extent| extent.moved(base)));
        }
    }

    /// Makes the inode of the packed inode, which comes last.
    fn packed_inode(&mut self) {
        let PackedInode { extents, .. } = take(&mut self.packed);
        if extents.is_empty() {
            return;
        }
        let id = NodeId::try_from(self.nids.len()).unwrap_or(NodeId::MAX);
        let (plan, tree) = (self.job.plan, self.job.tree);
        let node = Node {
            entry: 0,
            uid: 0,
            gid: 0,
            nlink: 1,
            mtime: (plan.times.epoch, plan.times.fixed_nsec),
            permissions: 0,
            source: 0,
            xattrs: 0,
            // Its size is that of the map; as a file without content it carries no fingerprint.
            kind: Kind::Regular(Regular { size: 0, data: None, key: Key::Number(0) }),
        };
        let map = self.map(plan.methods.usual(), &extents, Tail::Nothing);
        let shape = Shape::compressed(plan, &node, &map);
        let writer = InodeWriter { plan, tree, block_size: self.block_size() };
        let said = Said { data: Data::Mapped(map), digest: None, tail: &[] };
        self.nids.push(0);
        self.waiting.add(id, &shape, |out| writer.put_node(id, &node, &shape, said, out));
    }

    /// Gives the inodes that wait their places.
    fn lay_out(&mut self) -> Result<()> {
        let start = self.end.next_multiple_of(self.block_size());
        let run = self.waiting.lay_out(start, self.block_size());
        self.end = start + run.bytes.len() as u64;
        let blocks = self.end / self.block_size();
        if blocks > MAX_BLOCK {
            return Err(too_large(self.job.tree, "blocks of the image", blocks, MAX_BLOCK));
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
    type Job = Task;
    type Made = Made;

    fn commit(&mut self, made: Made) -> Result<Option<Task>> {
        let Made { what, content } = made;
        match what {
            MadeOf::Packed(extents) => self.held.push((extents, content)),
            MadeOf::Batch { items, tails, fragments } => {
                let base = self.write(content);
                for item in items {
                    self.item(item, base, &tails, &fragments);
                }
            }
        }
        self.release();
        if self.large.is_none() && self.waiting.is_full() {
            self.lay_out()?;
        }
        Ok(self.packed.task(false))
    }

    fn finish(&mut self) -> Result<Option<Task>> {
        if let Some(rest) = self.packed.task(true) {
            return Ok(Some(rest));
        }
        self.packed_inode();
        self.lay_out()?;
        Ok(None)
    }
}

/// The number of the inode at byte `place`.
fn nid(place: u64) -> u64 {
    place / 32
}
