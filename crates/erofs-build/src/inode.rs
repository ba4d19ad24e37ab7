//! The shape of an inode, and its bytes.

use erofs_format::chunk::{ChunkFormat, ChunkIndex};
use erofs_format::inode::{DataLayout, InodeCompact, InodeExtended, InodeFormat};
use erofs_format::xattr::ibody_icount;
use erofs_format::{NULL_ADDR, NULL_ADDR_48};
use zerocopy::IntoBytes;

use crate::kernel::Feature;
use crate::options::BuildOptions;
use crate::plan::{ChunkMap, Plan, dirents, stored_chunks};
use crate::tree::{Kind, Node, NodeId, Regular, Tree};
use crate::zmap::{Map, Tail};

/// How an inode holds its data, and what room it takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) layout: DataLayout,
    pub(crate) extended: bool,
    pub(crate) size: u64,
    /// Blocks of data.
    pub(crate) blocks: u64,
    /// Bytes of data beside the inode.
    pub(crate) tail: u32,
    /// The chunk size over the block size, as a power of two.
    pub(crate) chunk_bits: u8,
    /// Bytes of inode, xattrs and map.
    pub(crate) core: u64,
}

impl Shape {
    /// The shape of a node that is stored as it is.
    pub(crate) fn of(options: &BuildOptions, plan: &Plan, tree: &Tree, id: NodeId) -> Self {
        let node = tree.node(id);
        let block_size = u64::from(options.block_size);
        let (size, longest_tail) = match &node.kind {
            Kind::Directory { .. } => (dirents::size(tree, id, block_size), block_size),
            Kind::Regular(file) => (file.size, options.longest_tail()),
            Kind::Symlink(target) => (target.len() as u64, block_size),
            _ => (0, 0),
        };
        let blocks = size.div_ceil(block_size);
        let wide_address = plan.wide && !node.is_dir() && blocks > 0;
        let extended = wide_address || is_extended(plan, node, size);
        let core = if extended { 64 } else { 32 } + plan.xattr_size(node);
        let layout = DataLayout::FlatPlain;
        let mut shape = Self { layout, extended, size, blocks, tail: 0, chunk_bits: 0, core };
        if let Kind::Regular(file) = &node.kind
            && let Some(bits) = options.chunk_bits(file)
        {
            let entry_size = if plan.wide || plan.devices > 0 { 8 } else { 4 };
            shape.layout = DataLayout::ChunkBased;
            shape.chunk_bits = bits;
            shape.core = core.next_multiple_of(entry_size) + size.div_ceil(block_size << bits) * entry_size;
            return shape;
        }
        let sparse = match &node.kind {
            Kind::Regular(file) if options.allows(Feature::ChunkedFile) => {
                ChunkMap::choose(file, block_size, plan.wide)
            }
            _ => None,
        };
        if let Some(map) = sparse {
            shape.layout = DataLayout::ChunkBased;
            shape.chunk_bits = map.bits;
            shape.blocks = map.stored_blocks;
            shape.core = core.next_multiple_of(map.entry_size) + map.entries * map.entry_size;
        } else {
            let tail = size % block_size;
            if tail > 0 && tail <= longest_tail && core + tail <= block_size {
                shape.layout = DataLayout::FlatInline;
                shape.blocks -= 1;
                shape.tail = u32::try_from(tail).unwrap_or(0);
            }
        }
        shape
    }

    /// The shape of a file whose contents were compressed.
    pub(crate) fn compressed(plan: &Plan, node: &Node, map: &Map<'_>) -> Self {
        let size = map.size();
        let extended = is_extended(plan, node, size);
        let tail = match map.tail {
            Tail::Inline { plen, .. } => plen.into(),
            _ => 0,
        };
        Self {
            layout: map.layout(),
            extended,
            size,
            blocks: map.blocks(),
            tail,
            chunk_bits: 0,
            core: map.core(if extended { 64 } else { 32 } + plan.xattr_size(node)),
        }
    }

    /// Whether it is so large, and in one piece, that its data should start at a multiple of `align` bytes.
    pub(crate) fn is_aligned(&self, align: u32) -> bool {
        self.blocks > 0 && self.size >= align.into() && !self.is_chunked()
    }

    pub(crate) fn is_chunked(&self) -> bool {
        self.layout == DataLayout::ChunkBased
    }

    /// Bytes of contents that are stored.
    pub(crate) fn content(&self, block_size: u64) -> u64 {
        self.size.min(self.blocks.saturating_mul(block_size).saturating_add(self.tail.into()))
    }

    /// What an older kernel would not understand of it.
    pub(crate) fn feature(&self) -> Option<Feature> {
        self.is_chunked().then_some(Feature::ChunkedFile)
    }
}

/// Whether an inode of this size has to be an extended one.
fn is_extended(plan: &Plan, node: &Node, size: u64) -> bool {
    size > u64::from(u32::MAX)
        || node.uid > u32::from(u16::MAX)
        || node.gid > u32::from(u16::MAX)
        || node.nlink > u32::from(u16::MAX)
        || plan.times.compact(node.mtime).is_none()
}

/// What an inode says besides its [`Shape`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Said<'a> {
    pub(crate) data: Data<'a>,
    pub(crate) digest: Option<&'a [u8; 32]>,
    /// The bytes beside the inode.
    pub(crate) tail: &'a [u8],
}

/// Where the blocks of an inode are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Data<'a> {
    /// One after the other, from this one on.
    From(u64),
    /// Where the map says.
    Mapped(Map<'a>),
    /// Each chunk from this address on, the device in its upper 16 bits; none is a hole.
    Chunks(&'a [Option<u64>]),
}

/// Makes the bytes of inodes.
#[derive(Clone, Copy)]
pub(crate) struct InodeWriter<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) tree: &'a Tree,
    pub(crate) block_size: u64,
}

impl InodeWriter<'_> {
    /// Appends an inode: itself, its xattrs, its chunk map, its tail.
    pub(crate) fn put(&self, id: NodeId, shape: &Shape, said: Said<'_>, out: &mut Vec<u8>) {
        self.put_node(id, self.tree.node(id), shape, said, out);
    }

    /// Appends the inode of a node that the tree need not have.
    pub(crate) fn put_node(&self, id: NodeId, node: &Node, shape: &Shape, said: Said<'_>, out: &mut Vec<u8>) {
        let start = out.len();
        let i_u = match said.data {
            Data::From(block) => block,
            Data::Mapped(_) | Data::Chunks(_) => shape.blocks,
        };
        let indexes = self.plan.wide || matches!(said.data, Data::Chunks(_)) && self.plan.devices > 0;
        let chunk_format =
            ChunkFormat { chunkbits: shape.chunk_bits, indexes, address_48bit: self.plan.wide };
        self.put_head(id, node, shape, i_u, chunk_format, out);
        self.plan.areas.write(node.xattrs, said.digest, 0, out);
        match (said.data, &node.kind) {
            (Data::Mapped(map), _) => map.put(start, out),
            (Data::Chunks(chunks), _) => {
                let mut map = ChunkWriter::new(chunk_format, start, out);
                for address in chunks {
                    map.put(*address);
                }
            }
            (Data::From(block), Kind::Regular(file)) if shape.is_chunked() => {
                let map = ChunkWriter::new(chunk_format, start, out);
                self.put_chunks(file, shape, block, map);
            }
            _ => {}
        }
        out.extend_from_slice(said.tail);
    }

    fn put_head(
        &self,
        id: NodeId,
        node: &Node,
        shape: &Shape,
        block: u64,
        chunk_format: ChunkFormat,
        out: &mut Vec<u8>,
    ) {
        let format = InodeFormat { extended: shape.extended, layout: shape.layout, bit_4: false };
        // The planner has checked every limit that these conversions could break.
        let icount = ibody_icount(self.plan.xattr_size(node)).unwrap_or(0);
        let (low, high) = split_address(block);
        let (i_u, i_nb) = match node.kind {
            Kind::CharDevice(rdev) | Kind::BlockDevice(rdev) => (rdev, 0),
            _ if shape.is_chunked() => (u16::from(chunk_format).into(), 0),
            _ if shape.blocks > 0 => (low, high),
            _ => (0, 0),
        };
        if shape.extended {
            let inode = InodeExtended {
                i_format: u16::from(format).into(),
                i_xattr_icount: icount.into(),
                i_mode: node.mode().into(),
                i_nb: i_nb.into(),
                i_size: shape.size.into(),
                i_u: i_u.into(),
                i_ino: id.wrapping_add(1).into(),
                i_uid: node.uid.into(),
                i_gid: node.gid.into(),
                i_mtime: node.mtime.0.cast_unsigned().into(),
                i_mtime_nsec: node.mtime.1.into(),
                i_nlink: node.nlink.into(),
                i_reserved2: [0; 16],
            };
            out.extend_from_slice(inode.as_bytes());
        } else {
            let inode = InodeCompact {
                i_format: u16::from(format).into(),
                i_xattr_icount: icount.into(),
                i_mode: node.mode().into(),
                i_nb: u16::try_from(node.nlink).unwrap_or(u16::MAX).into(),
                i_size: u32::try_from(shape.size).unwrap_or(u32::MAX).into(),
                i_mtime: self.plan.times.compact(node.mtime).unwrap_or(0).into(),
                i_u: i_u.into(),
                i_ino: id.wrapping_add(1).into(),
                i_uid: u16::try_from(node.uid).unwrap_or(u16::MAX).into(),
                i_gid: u16::try_from(node.gid).unwrap_or(u16::MAX).into(),
                i_reserved: [0; 4],
            };
            out.extend_from_slice(inode.as_bytes());
        }
    }

    fn put_chunks(&self, file: &Regular, shape: &Shape, mut block: u64, mut map: ChunkWriter<'_>) {
        let chunk_blocks = 1u64 << shape.chunk_bits;
        let mut at = 0;
        for (first, end, blocks) in stored_chunks(file, self.block_size, shape.chunk_bits) {
            (at..first).for_each(|_| map.put(None));
            (0..end - first).for_each(|nth| map.put(Some(block + nth * chunk_blocks)));
            block += blocks;
            at = end;
        }
        let entries = file.size.div_ceil(self.block_size << shape.chunk_bits);
        (at..entries).for_each(|_| map.put(None));
    }
}

/// Writes the map of a file in chunks behind its inode.
struct ChunkWriter<'a> {
    format: ChunkFormat,
    out: &'a mut Vec<u8>,
}

impl<'a> ChunkWriter<'a> {
    /// A map in `out`, in which the inode starts at `start`.
    fn new(format: ChunkFormat, start: usize, out: &'a mut Vec<u8>) -> Self {
        let entry_size = if format.indexes { 8 } else { 4 };
        out.resize(start + (out.len() - start).next_multiple_of(entry_size), 0);
        Self { format, out }
    }

    /// The next chunk is at this address, or a hole.
    fn put(&mut self, address: Option<u64>) {
        let hole = if self.format.address_48bit { NULL_ADDR_48 } else { u64::from(NULL_ADDR) };
        let (device, block) = address_parts(address.unwrap_or(hole));
        let (startblk_lo, startblk_hi) = split_address(block);
        if self.format.indexes {
            let index = ChunkIndex {
                startblk_hi: startblk_hi.into(),
                device_id: device.into(),
                startblk_lo: startblk_lo.into(),
            };
            self.out.extend_from_slice(index.as_bytes());
        } else {
            self.out.extend_from_slice(&startblk_lo.to_le_bytes());
        }
    }
}

/// The bit from which on an address says the device.
const DEVICE_SHIFT: u32 = 48;

/// A block of a device, as one number.
pub(crate) fn address_on(device: u16, block: u64) -> u64 {
    u64::from(device) << DEVICE_SHIFT | block
}

/// The device and the block of an address.
fn address_parts(address: u64) -> (u16, u64) {
    (u16::try_from(address >> DEVICE_SHIFT).unwrap_or(u16::MAX), address & ((1 << DEVICE_SHIFT) - 1))
}

/// The low 32 and the high 16 bits of a block address; the plan keeps addresses within 48.
pub(crate) fn split_address(block: u64) -> (u32, u16) {
    let low = u32::try_from(block & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    (low, u16::try_from(block >> 32).unwrap_or(u16::MAX))
}
