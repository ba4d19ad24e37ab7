//! Where everything goes.
//!
//! ```text
//! block 0                                                                         meta_blocks
//! | superblock, prefixes, root | directories with their entries | shared xattrs | other inodes | contents |
//! ```
//! Directories come first and close together, since every path leads through them and a search by name reads
//! nothing else. The other inodes follow in the order of the tree, short tails of files beside them, so
//! that whoever asks for attributes too reads forward and little. Contents have the same order.
//!
//! Inodes are given out in batches: runs of nodes whose inodes fill blocks of their own and whose contents
//! are one run of blocks, so that a thread can make all of a batch knowing nothing of the others.

mod alloc;
mod chunks;
pub(crate) mod dirents;

use std::collections::BTreeSet;
use std::ops::Range;

use erofs_format::inode::DataLayout;
use erofs_format::xattr::ibody_icount;

use crate::error::{Error, Result};
use crate::kernel::Feature;
use crate::options::BuildOptions;
use crate::times::TimeBase;
use crate::tree::{Kind, Node, NodeId, Tree};
use crate::xattr::{Areas, Sets, Settings};
use alloc::Zone;
pub(crate) use chunks::{ChunkMap, stored_chunks};

/// Where block 0 has room for the table of prefixes.
pub(crate) const HEAD_END: u64 = 1024 + 128;

/// A batch is closed when its contents have so many bytes.
const BATCH_CONTENT: u64 = 1 << 20;

/// A batch is closed when its inodes have so many bytes.
const BATCH_INODES: u64 = 64 << 10;

/// Bytes of directories that are made at once.
const BATCH_DIRECTORIES: u64 = 1 << 20;

/// The largest block number that 48 bits hold; all ones means a hole.
const MAX_BLOCK: u64 = (1 << 48) - 2;

/// The place of an inode and of what it points to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Where the inode starts, in bytes.
    pub(crate) inode: u64,
    /// The first block of its data, if `blocks` is not 0.
    pub(crate) block: u64,
    pub(crate) blocks: u64,
    pub(crate) size: u64,
    /// Bytes of data beside the inode.
    pub(crate) tail: u32,
    pub(crate) layout: DataLayout,
    pub(crate) extended: bool,
    /// The chunk size over the block size, as a power of two.
    pub(crate) chunk_bits: u8,
}

/// A run of nodes whose inodes and contents are made together.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    /// These nodes, as far as they are of the batch's sort (directories or others).
    pub(crate) nodes: Range<NodeId>,
    /// The bytes of their inodes, whole blocks.
    pub(crate) inodes: Range<u64>,
    /// The blocks of their contents.
    pub(crate) content: Range<u64>,
    /// Bytes of files to be read.
    pub(crate) reads: u64,
}

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) places: Vec<Place>,
    pub(crate) directories: Vec<Batch>,
    pub(crate) others: Vec<Batch>,
    pub(crate) areas: Areas,
    /// The block where the shared xattrs start.
    pub(crate) shared_block: u64,
    /// Blocks before the contents.
    pub(crate) meta_blocks: u64,
    pub(crate) blocks: u64,
    /// Addresses have 48 bits.
    pub(crate) wide: bool,
    pub(crate) times: TimeBase,
    pub(crate) features: BTreeSet<Feature>,
}

impl Plan {
    pub(crate) fn new(options: &BuildOptions, tree: &Tree, sets: &Sets) -> Result<Self> {
        let narrow = Self::with_width(options, tree, sets, false)?;
        if u32::try_from(narrow.blocks).is_ok() {
            return Ok(narrow);
        }
        options.require(Feature::Addresses48)?;
        Self::with_width(options, tree, sets, true)
    }

    /// The plan with 48-bit addresses or without.
    pub(crate) fn with_width(options: &BuildOptions, tree: &Tree, sets: &Sets, wide: bool) -> Result<Self> {
        // Without a fingerprint the table of prefixes would cost older kernels for little, unless a kernel
        // that has it was asked for.
        let asked = |feature: Feature| options.target_kernel.is_some_and(|target| target >= feature.since());
        let find_prefixes =
            options.fingerprint || !options.xattr_prefixes.is_empty() || asked(Feature::XattrPrefixes);
        let areas = Areas::plan(sets, &Settings::new(options, find_prefixes));
        let times = TimeBase::choose(tree, options.times, asked(Feature::CompactTimes));
        let mut planner = Planner {
            options,
            tree,
            block_size: options.block_size.into(),
            wide,
            plan: Self {
                places: Vec::new(),
                directories: Vec::new(),
                others: Vec::new(),
                areas,
                shared_block: 0,
                meta_blocks: 0,
                blocks: 0,
                wide,
                times,
                features: BTreeSet::new(),
            },
        };
        planner.run()?;
        planner.note_features();
        Ok(planner.plan)
    }

    pub(crate) fn place(&self, id: NodeId) -> &Place {
        &self.places[id as usize]
    }

    /// Whether a node carries a fingerprint.
    pub(crate) fn has_fingerprint(&self, node: &Node) -> bool {
        self.areas.fingerprint_prefix().is_some() && has_content(node)
    }
}

/// Whether the node is a regular file that is not empty.
pub(crate) fn has_content(node: &Node) -> bool {
    matches!(&node.kind, Kind::Regular(file) if file.size > 0)
}

struct Planner<'a> {
    options: &'a BuildOptions,
    tree: &'a Tree,
    block_size: u64,
    wide: bool,
    plan: Plan,
}

/// What an inode needs before it has a place.
struct Need {
    place: Place,
    /// Bytes of inode, xattrs and chunk map.
    core: u64,
}

impl Planner<'_> {
    fn run(&mut self) -> Result<()> {
        let nodes = self.tree.nodes.len();
        let unplaced = Place {
            inode: 0,
            block: 0,
            blocks: 0,
            size: 0,
            tail: 0,
            layout: DataLayout::FlatPlain,
            extended: false,
            chunk_bits: 0,
        };
        self.plan.places.resize(nodes, unplaced);

        let table = self.plan.areas.prefix_table().0.len() as u64;
        let mut zone = Zone::new(self.block_size, HEAD_END + table);
        self.plan.directories = self.place_directories(&mut zone)?;
        self.plan.shared_block = zone.block();
        zone.take_blocks((self.plan.areas.shared().len() as u64).div_ceil(self.block_size));
        self.plan.others = self.place_others(&mut zone)?;
        self.plan.meta_blocks = zone.block();

        let start = self.plan.meta_blocks;
        let mut end = start;
        for batch in &mut self.plan.others {
            batch.content = batch.content.start + start..batch.content.end + start;
            end = batch.content.end;
        }
        for (place, node) in self.plan.places.iter_mut().zip(&self.tree.nodes) {
            if !node.is_dir() {
                place.block += start;
            }
        }
        if end > MAX_BLOCK {
            return Err(self.too_large("blocks of the image", end, MAX_BLOCK));
        }
        self.plan.blocks = end;
        Ok(())
    }

    fn place_directories(&mut self, zone: &mut Zone) -> Result<Vec<Batch>> {
        let mut batches = Vec::new();
        let mut first = 0;
        let mut start = 0;
        for id in self.ids()? {
            let node = self.tree.node(id);
            if !node.is_dir() {
                continue;
            }
            let mut need = self.need(id, node)?;
            need.place.inode = zone.place(need.core, need.place.tail.into());
            if need.place.blocks > 0 {
                need.place.block = zone.take_blocks(need.place.blocks);
            }
            self.plan.places[id as usize] = need.place;
            if zone.end() - start >= BATCH_DIRECTORIES {
                zone.finish_block();
                batches.push(Batch {
                    nodes: first..id + 1,
                    inodes: start..zone.end(),
                    content: 0..0,
                    reads: 0,
                });
                (first, start) = (id + 1, zone.end());
            }
        }
        zone.finish_block();
        if zone.end() > start {
            let nodes = first..self.ids()?.end;
            batches.push(Batch { nodes, inodes: start..zone.end(), content: 0..0, reads: 0 });
        }
        Ok(batches)
    }

    /// Places everything else; blocks of contents count from the first one.
    fn place_others(&mut self, zone: &mut Zone) -> Result<Vec<Batch>> {
        let mut batches = Vec::new();
        let mut batch = Batch { nodes: 0..0, inodes: zone.end()..0, content: 0..0, reads: 0 };
        let all = self.ids()?;
        for id in all.clone() {
            let node = self.tree.node(id);
            if !node.is_dir() {
                let mut need = self.need(id, node)?;
                need.place.inode = zone.place(need.core, need.place.tail.into());
                need.place.block = batch.content.end;
                batch.content.end += need.place.blocks;
                if let Kind::Regular(file) = &node.kind {
                    batch.reads = batch.reads.saturating_add(file.size);
                }
                self.plan.places[id as usize] = need.place;
            }
            let content = (batch.content.end - batch.content.start).saturating_mul(self.block_size);
            let full = content >= BATCH_CONTENT
                || batch.reads >= BATCH_CONTENT
                || zone.end() - batch.inodes.start >= BATCH_INODES;
            if full || id + 1 == all.end {
                zone.finish_block();
                batch.inodes.end = zone.end();
                batch.nodes.end = id + 1;
                let next = Batch {
                    nodes: id + 1..0,
                    inodes: zone.end()..0,
                    content: batch.content.end..batch.content.end,
                    reads: 0,
                };
                let done = std::mem::replace(&mut batch, next);
                if done.inodes.end > done.inodes.start {
                    batches.push(done);
                }
            }
        }
        Ok(batches)
    }

    fn need(&mut self, id: NodeId, node: &Node) -> Result<Need> {
        let has_fingerprint = self.plan.has_fingerprint(node);
        let xattrs = self.plan.areas.size(node.xattrs, has_fingerprint);
        if ibody_icount(xattrs).is_none() {
            let limit = erofs_format::xattr::ibody_size(u16::MAX);
            let path = self.tree.path_of(id);
            return Err(Error::TooLarge { path, what: "bytes of xattrs", found: xattrs, limit });
        }
        let (size, longest_tail) = match &node.kind {
            Kind::Directory { .. } => (dirents::size(self.tree, id, self.block_size), self.block_size),
            Kind::Regular(file) => (file.size, self.options.longest_tail()),
            Kind::Symlink(target) => (target.len() as u64, self.block_size),
            _ => (0, 0),
        };
        let sparse = match &node.kind {
            Kind::Regular(file) if self.options.allows(Feature::ChunkedFile) => {
                ChunkMap::choose(file, self.block_size, self.wide)
            }
            _ => None,
        };
        let blocks = size.div_ceil(self.block_size);
        let wide_address = self.wide && !node.is_dir() && blocks > 0;
        let extended = wide_address
            || size > u64::from(u32::MAX)
            || node.uid > u32::from(u16::MAX)
            || node.gid > u32::from(u16::MAX)
            || node.nlink > u32::from(u16::MAX)
            || self.plan.times.compact(node.mtime).is_none();
        let mut core = if extended { 64 } else { 32 } + xattrs;
        let mut place = Place {
            inode: 0,
            block: 0,
            blocks,
            size,
            tail: 0,
            layout: DataLayout::FlatPlain,
            extended,
            chunk_bits: 0,
        };
        if let Some(map) = sparse {
            place.layout = DataLayout::ChunkBased;
            place.chunk_bits = map.bits;
            place.blocks = map.stored_blocks;
            core = core.next_multiple_of(map.entry_size) + map.entries * map.entry_size;
            self.plan.features.insert(Feature::ChunkedFile);
        } else {
            let tail = size % self.block_size;
            if tail > 0 && tail <= longest_tail && core + tail <= self.block_size {
                place.layout = DataLayout::FlatInline;
                place.blocks -= 1;
                place.tail = u32::try_from(tail).unwrap_or(0);
            }
        }
        Ok(Need { place, core })
    }

    fn note_features(&mut self) {
        let features = &mut self.plan.features;
        if self.block_size < 4096 {
            features.insert(Feature::SmallBlocks);
        }
        if self.plan.areas.prefix_table().1 > 0 {
            features.insert(Feature::XattrPrefixes);
        }
        if self.plan.areas.fingerprint_prefix().is_some() {
            features.insert(Feature::Fingerprints);
        }
        if self.wide {
            features.insert(Feature::Addresses48);
        }
        if self.plan.times.compact_times {
            features.insert(Feature::CompactTimes);
        }
        if self.options.label.len() == 16 {
            features.insert(Feature::LongLabel);
        }
    }

    /// Every node's number.
    fn ids(&self) -> Result<Range<NodeId>> {
        let nodes = self.tree.nodes.len();
        let limit = u64::from(u32::MAX);
        u32::try_from(nodes).map(|end| 0..end).map_err(|_| self.too_large("inodes", nodes as u64, limit))
    }

    fn too_large(&self, what: &'static str, found: u64, limit: u64) -> Error {
        Error::TooLarge { path: self.tree.path.clone(), what, found, limit }
    }
}
