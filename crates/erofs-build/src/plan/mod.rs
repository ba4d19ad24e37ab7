//! What is known before any file is read: the order of contents, and the places of directories.
//!
//! ```text
//! block 0                                                                                      blocks
//! | superblock, prefixes, root | directories with their entries | shared xattrs | contents | inodes |
//! ```
//! Directories come first and close together, since every path leads through them and a search by name reads
//! nothing else; how large they are follows from names alone. Contents follow in the order that the options
//! ask for. The other inodes come last, when everything that they say is known, in the order of the tree and
//! close together, so that whoever asks for attributes reads forward and little.

mod alloc;
mod batches;
mod chunks;
pub(crate) mod dirents;
mod methods;
mod order;

use std::collections::BTreeSet;
use std::ops::Range;

use erofs_format::device::DeviceSlot;
use erofs_format::inode::NID_METABOX_BIT;
use erofs_format::superblock::{SB_EXTSLOT_SIZE, SUPER_OFFSET, SUPER_SIZE};
use erofs_format::xattr::ibody_icount;

use crate::error::{Error, Result};
use crate::inode::Shape;
use crate::kernel::Feature;
use crate::options::BuildOptions;
use crate::times::TimeBase;
use crate::tree::{Kind, Node, NodeId, ROOT, Tree};
use crate::xattr::{Areas, Sets, Settings};
use crate::zmap::Map;
pub(crate) use alloc::Zone;
pub(crate) use batches::{Batch, Batches, COMPRESSED_BYTES, Part, parts};
pub(crate) use chunks::{ChunkMap, MAX_CHUNKS, stored_chunks};
pub(crate) use methods::{Methods, pattern};

/// Where the superblock ends, with what it says of a metabox. The records of the compression follow it, and then the
/// table of prefixes.
pub(crate) fn head_end(is_boxed: bool) -> u64 {
    SUPER_OFFSET + SUPER_SIZE + if is_boxed { SB_EXTSLOT_SIZE } else { 0 }
}

/// Bytes of directories that are made at once.
const GROUP_BYTES: u64 = 1 << 20;

/// A sparse file may store so many zeros, in bytes, or as many as it has data, because its chunks are coarse.
const MAX_ZEROS: u64 = 1 << 30;

/// The largest block number that 48 bits hold; all ones means a hole.
pub(crate) const MAX_BLOCK: u64 = (1 << 48) - 2;

/// A directory's place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Directory {
    pub(crate) id: NodeId,
    /// Where the inode starts, in bytes; in the metabox if there is one, but for the root's.
    pub(crate) inode: u64,
    /// The first block of its data, if it has any.
    pub(crate) block: u64,
    pub(crate) shape: Shape,
}

impl Directory {
    /// The number of the inode.
    pub(crate) fn nid(&self, plan: &Plan) -> u64 {
        if self.is_boxed(plan) { nid_in_metabox(self.inode) } else { nid(self.inode) }
    }

    /// Whether the inode lies in a metabox.
    pub(crate) fn is_boxed(&self, plan: &Plan) -> bool {
        plan.is_boxed && self.id != ROOT
    }
}

/// Directories that lie in blocks of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    /// Which of the plan's directories.
    pub(crate) directories: Range<usize>,
    /// The bytes of the image, whole blocks.
    pub(crate) bytes: Range<u64>,
    /// Those of the metabox.
    pub(crate) boxed: Range<u64>,
}

#[derive(Debug)]
pub(crate) struct Plan {
    /// In the order of the tree.
    pub(crate) directories: Vec<Directory>,
    /// All of them; the first group begins with the head of the image.
    pub(crate) groups: Vec<Group>,
    pub(crate) areas: Areas,
    /// The byte where the table of prefixes starts.
    pub(crate) table_at: u64,
    /// Blobs beside the image.
    pub(crate) devices: u16,
    /// The byte where the table of them starts.
    pub(crate) devices_at: u64,
    /// The block where the shared xattrs start.
    pub(crate) shared_block: u64,
    /// The first block of contents.
    pub(crate) content_block: u64,
    /// Everything but directories, in the order in which contents are stored.
    pub(crate) order: Vec<NodeId>,
    /// Paths of a given order that name nothing.
    pub(crate) unknown_paths: u64,
    /// Bytes of files that will be read.
    pub(crate) reads: u64,
    pub(crate) methods: Methods,
    /// Addresses have 48 bits.
    pub(crate) wide: bool,
    /// Compressed clusters are of any length and lie anywhere: no index can say addresses of 48 bits.
    pub(crate) is_dense: bool,
    /// All inodes but the root's lie in a metabox.
    pub(crate) is_boxed: bool,
    pub(crate) times: TimeBase,
    pub(crate) features: BTreeSet<Feature>,
}

impl Plan {
    pub(crate) fn new(options: &BuildOptions, tree: &Tree, sets: &Sets) -> Result<Self> {
        let (narrow, most) = Self::with_width(options, tree, sets, false)?;
        if u32::try_from(most).is_ok() {
            return Ok(narrow);
        }
        options.require(Feature::Addresses48)?;
        let (wide, most) = Self::with_width(options, tree, sets, true)?;
        if most > MAX_BLOCK {
            return Err(too_large(tree, "blocks of the image", most, MAX_BLOCK));
        }
        Ok(wide)
    }

    /// The plan with 48-bit addresses or without, and how many blocks the image may take at most.
    pub(crate) fn with_width(
        options: &BuildOptions,
        tree: &Tree,
        sets: &Sets,
        wide: bool,
    ) -> Result<(Self, u64)> {
        // Without a fingerprint the table of prefixes would cost older kernels for little, unless the image is
        // for kernels that have it.
        let target = options.target();
        let asked = |feature: Feature| target >= feature.since();
        let find_prefixes =
            options.fingerprint || !options.xattr_prefixes.is_empty() || asked(Feature::XattrPrefixes);
        let methods = Methods::choose(options, tree)?;
        let is_dense = options.is_dense() || (wide && !methods.all().is_empty());
        let is_boxed = options.metabox.is_some() && tree.nodes.len() > 1;
        let mut settings = Settings::new(options, find_prefixes);
        if is_boxed {
            // Where one part of an inode's xattrs is in the metabox and another is not, Linux 6.17 takes a page of the
            // one for that of the other if they have the same number. And repetition compresses well.
            settings.share_above = u64::MAX;
        }
        let records = head_end(is_boxed) + methods.records(options.block_size, is_dense).len() as u64;
        let devices = options.devices();
        // The superblock says where the table of devices is in units of its entries.
        let slot = size_of::<DeviceSlot>() as u64;
        let devices_at = if devices > 0 { records.next_multiple_of(slot) } else { records };
        let mut plan = Self {
            directories: Vec::new(),
            groups: Vec::new(),
            areas: Areas::plan(sets, &settings),
            table_at: devices_at + u64::from(devices) * slot,
            devices,
            devices_at,
            shared_block: 0,
            content_block: 0,
            order: Vec::new(),
            unknown_paths: 0,
            reads: 0,
            methods,
            wide,
            is_dense,
            is_boxed,
            times: TimeBase::choose(tree, options.times, asked(Feature::CompactTimes)),
            features: BTreeSet::new(),
        };
        let most = plan.place(options, tree)?;
        plan.note_features(options);
        Ok((plan, most))
    }

    /// Whether a node carries a fingerprint.
    pub(crate) fn has_fingerprint(&self, node: &Node) -> bool {
        let is_hashed = matches!(&node.kind, Kind::Regular(file) if file.has_short_holes());
        is_hashed && self.areas.fingerprint_prefix().is_some() && has_content(node)
    }

    /// Bytes of the xattrs of a node.
    pub(crate) fn xattr_size(&self, node: &Node) -> u64 {
        self.areas.size(node.xattrs, self.has_fingerprint(node))
    }

    /// Gives directories and shared xattrs their places; returns the most blocks that the image can take.
    fn place(&mut self, options: &BuildOptions, tree: &Tree) -> Result<u64> {
        let block_size = u64::from(options.block_size);
        let table = self.areas.prefix_table().0.len() as u64;
        let mut zone = Zone::new(block_size, self.table_at + table);
        let mut metabox = Zone::new(block_size, 0);
        // Inodes and contents, as large as they can get.
        let (mut inodes, mut contents) = (0u64, 0u64);
        for id in node_ids(tree)? {
            let node = tree.node(id);
            let xattrs = self.xattr_size(node);
            if ibody_icount(xattrs).is_none() {
                let limit = erofs_format::xattr::ibody_size(u16::MAX);
                let path = tree.path_of(id);
                return Err(Error::TooLarge { path, what: "bytes of xattrs", found: xattrs, limit });
            }
            let shape = Shape::of(options, self, tree, id);
            if node.is_dir() {
                let place = if self.is_boxed && id != ROOT { &mut metabox } else { &mut zone };
                let inode = place.place(shape.core, shape.tail.into());
                let block = if shape.blocks > 0 { zone.take_blocks(shape.blocks) } else { 0 };
                self.directories.push(Directory { id, inode, block, shape });
                self.close_group(&mut zone, &mut metabox, GROUP_BYTES);
            } else {
                self.order.push(id);
                // A tail may leave the rest of a block behind that nothing else fits into.
                inodes = inodes.saturating_add(shape.core + 2 * u64::from(shape.tail) + 64);
                contents = contents.saturating_add(shape.blocks);
                if let Kind::Regular(file) = &node.kind {
                    if self.methods.of(id, file).is_some() {
                        inodes = inodes.saturating_add(Map::most(shape.size, 0, block_size));
                    }
                    let content = shape.content(block_size);
                    self.reads = self.reads.saturating_add(content);
                    let (data, zeros) = (file.stored_bytes(), content.saturating_sub(file.stored_bytes()));
                    if shape.is_chunked() && zeros > data.max(MAX_ZEROS) {
                        return Err(Error::TooSparse { path: tree.path_of(id), data, zeros });
                    }
                }
            }
            self.features.extend(shape.feature());
        }
        self.close_group(&mut zone, &mut metabox, 1);
        inodes = inodes.saturating_add(metabox.end());
        self.shared_block = zone.block();
        zone.take_blocks((self.areas.shared().len() as u64).div_ceil(block_size));
        self.content_block = zone.block();
        self.unknown_paths = order::arrange(&mut self.order, tree, options);
        if let Some(align) = options.align {
            contents = contents.saturating_add(self.fill_gaps(options, tree, align));
        }
        Ok(self.content_block.saturating_add(contents).saturating_add(inodes.div_ceil(block_size) + 1))
    }

    /// Puts what is small into the gaps before files that have to be aligned; returns the most blocks that gaps take.
    fn fill_gaps(&mut self, options: &BuildOptions, tree: &Tree, align: u32) -> u64 {
        let unit = u64::from(align / options.block_size);
        let mut aligned = 0u64;
        let sizes = self.order.iter().map(|&id| {
            let shape = Shape::of(options, self, tree, id);
            let is_plain =
                matches!(&tree.node(id).kind, Kind::Regular(file) if self.methods.of(id, file).is_none());
            let is_aligned = is_plain && shape.is_aligned(align);
            aligned += u64::from(is_aligned);
            (id, shape.blocks, is_aligned)
        });
        let order = order::fill_gaps(sizes, self.content_block, unit);
        // What others take when they are compressed is not known, so nothing is known about gaps.
        if self.methods.all().is_empty() {
            self.order = order;
        }
        aligned.saturating_mul(unit)
    }

    /// Ends the group of directories if it has `least` bytes.
    fn close_group(&mut self, zone: &mut Zone, metabox: &mut Zone, least: u64) {
        let last = self.groups.last();
        let (first, start, boxed) =
            last.map_or((0, 0, 0), |group| (group.directories.end, group.bytes.end, group.boxed.end));
        if zone.end() - start + metabox.end() - boxed >= least {
            zone.finish_block();
            metabox.finish_block();
            let directories = first..self.directories.len();
            self.groups.push(Group { directories, bytes: start..zone.end(), boxed: boxed..metabox.end() });
        }
    }

    fn note_features(&mut self, options: &BuildOptions) {
        let features = &mut self.features;
        if options.block_size < 4096 {
            features.insert(Feature::SmallBlocks);
        }
        if options.devices() > 0 {
            features.insert(Feature::Devices);
        }
        if options.shares_clusters() {
            features.insert(Feature::SharedClusters);
        }
        features.extend(self.methods.all().iter().flat_map(|how| how.features(options.block_size)));
        let has_fingerprints = self.areas.fingerprint_prefix().is_some();
        if has_fingerprints {
            features.insert(Feature::Fingerprints);
        }
        // Fingerprints are the reason for the table unless other prefixes were asked for.
        if self.areas.prefix_table().1 > 0 && !(has_fingerprints && options.xattr_prefixes.is_empty()) {
            features.insert(Feature::XattrPrefixes);
        }
        if self.wide {
            features.insert(Feature::Addresses48);
        }
        if self.is_boxed {
            features.insert(Feature::Metabox);
        }
        if self.is_dense {
            features.insert(Feature::EncodedExtents);
        }
        if self.times.compact_times {
            features.insert(Feature::CompactTimes);
        }
        if options.label.len() == 16 {
            features.insert(Feature::LongLabel);
        }
    }
}

/// Whether the node is a regular file that is not empty.
pub(crate) fn has_content(node: &Node) -> bool {
    matches!(&node.kind, Kind::Regular(file) if file.size > 0)
}

/// The number of the inode at byte `place` of the image.
pub(crate) fn nid(place: u64) -> u64 {
    place / 32
}

/// The number of the inode at byte `place` of the metabox.
pub(crate) fn nid_in_metabox(place: u64) -> u64 {
    nid(place) | NID_METABOX_BIT
}

/// Every node's number.
pub(crate) fn node_ids(tree: &Tree) -> Result<Range<NodeId>> {
    let nodes = tree.nodes.len();
    let limit = u64::from(u32::MAX);
    u32::try_from(nodes).map(|end| 0..end).map_err(|_| too_large(tree, "inodes", nodes as u64, limit))
}

pub(crate) fn too_large(tree: &Tree, what: &'static str, found: u64, limit: u64) -> Error {
    Error::TooLarge { path: tree.path(), what, found, limit }
}
