//! The map of a compressed file: which cluster holds which part of it.
//!
//! ```text
//! inode | xattrs | pad to 8 | map header | index | last cluster, if it is that small
//! ```
//! An index has an entry for each block of the file (here logical clusters are blocks). The compact one takes
//! 2 to 4 bytes an entry, but its clusters have to lie one after the other; the full one takes 8. Extent records,
//! which newer kernels read, take 4 to 32 bytes for each cluster, and their clusters are of any length.

mod compact;
mod full;
mod records;
#[cfg(test)]
mod tests;

use erofs_format::compression::Algorithm;
use erofs_format::inode::DataLayout;
use erofs_format::zmap::{
    Advise, CompactLayout, FRAGMENT_INODE, FULL_INDEX_START, LI_D0_CBLKCNT, LclusterType, MAP_HEADER_ALIGN,
    MapHeader,
};
use zerocopy::IntoBytes;

use records::Records;

/// The largest distance in an entry; what is further away is found by way of another entry.
const MAX_DISTANCE: u32 = LI_D0_CBLKCNT as u32 - 1;

/// A part of a file that is stored as one cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Bytes of the file. In an index each but the last reaches into a later block than it starts in.
    pub(crate) llen: u64,
    /// Whether it is encoded.
    pub(crate) is_coded: bool,
    /// Where the cluster starts, in bytes.
    pub(crate) at: u64,
    /// Bytes of the cluster; in records none for a hole.
    pub(crate) plen: u32,
    /// The cluster holds more than this.
    pub(crate) is_partial: bool,
}

impl Extent {
    /// The same with its cluster further on.
    pub(crate) fn moved(self, by: u64) -> Self {
        Self { at: self.at + by, ..self }
    }
}

/// What follows the extents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tail {
    Nothing,
    /// So many bytes of the file lie in the packed inode, from `offset` on.
    Fragment {
        llen: u64,
        offset: u64,
    },
    /// So many bytes of the file lie behind the index, in `plen` bytes.
    Inline {
        llen: u64,
        plen: u16,
        is_coded: bool,
    },
}

/// The map of one file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Map<'a> {
    pub(crate) extents: &'a [Extent],
    pub(crate) tail: Tail,
    pub(crate) algorithm: Algorithm,
    /// Clusters may be larger than a block.
    pub(crate) is_big: bool,
    /// The map is made of extent records instead of an index. Clusters are then of any length and lie anywhere.
    pub(crate) is_dense: bool,
    pub(crate) block_bits: u32,
}

/// A place in the index: what starts in a block of the file, or how far away that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lcluster {
    Head {
        kind: LclusterType,
        clusterofs: u16,
        block: u64,
        is_partial: bool,
    },
    /// `back` to the head, `on` to the next one or to the end. `blocks` is the size of the cluster: the first
    /// entry behind its head says it.
    Nonhead {
        back: u64,
        on: u64,
        blocks: Option<u32>,
    },
}

impl Map<'_> {
    /// Bytes of the file.
    pub(crate) fn size(&self) -> u64 {
        let tail = match self.tail {
            Tail::Nothing => 0,
            Tail::Fragment { llen, .. } | Tail::Inline { llen, .. } => llen,
        };
        self.extents.iter().map(|extent| extent.llen).sum::<u64>() + tail
    }

    /// Blocks of the clusters.
    pub(crate) fn blocks(&self) -> u64 {
        self.extents.iter().map(|extent| u64::from(extent.plen)).sum::<u64>().div_ceil(1 << self.block_bits)
    }

    /// Where the inode says that the data is: the layout of the smallest index that can say it.
    pub(crate) fn layout(&self) -> DataLayout {
        if self.is_dense {
            return DataLayout::CompressedFull;
        }
        let follows = |pair: &[Extent]| pair[0].at + u64::from(pair[0].plen) == pair[1].at;
        let is_simple =
            |extent: &Extent| u32::try_from(extent.at >> self.block_bits).is_ok() && !extent.is_partial;
        let is_near = !matches!(self.tail, Tail::Fragment { offset, .. } if u32::try_from(offset).is_err());
        let are_simple = self.extents.iter().all(is_simple);
        if are_simple && (is_near || self.is_fragment()) && self.extents.windows(2).all(follows) {
            DataLayout::CompressedCompact
        } else {
            DataLayout::CompressedFull
        }
    }

    /// Whether the whole file is one fragment. It then has no index.
    fn is_fragment(&self) -> bool {
        self.extents.is_empty() && matches!(self.tail, Tail::Fragment { .. })
    }

    /// Bytes of inode, xattrs and map, where inode and xattrs have `body` bytes: all but what is behind the
    /// index.
    pub(crate) fn core(&self, body: u64) -> u64 {
        let header = body.next_multiple_of(MAP_HEADER_ALIGN);
        if self.is_fragment() {
            return header + size_of::<MapHeader>() as u64;
        }
        match self.layout() {
            _ if self.is_dense => Records::of(self).end(header + size_of::<MapHeader>() as u64),
            DataLayout::CompressedCompact => self.compact(body).end().unwrap_or(u64::MAX),
            _ => header + FULL_INDEX_START + 8 * self.entries(),
        }
    }

    /// The most that [`Self::core`] can be for a file of `size` bytes.
    pub(crate) fn most(size: u64, body: u64, block_size: u64) -> u64 {
        body.next_multiple_of(MAP_HEADER_ALIGN) + FULL_INDEX_START + 8 * size.div_ceil(block_size)
    }

    /// Appends the map to `out`, in which inode and xattrs start at `start`, which is at a multiple of 32 in
    /// the image.
    pub(crate) fn put(&self, start: usize, out: &mut Vec<u8>) {
        let body = (out.len() - start) as u64;
        let header = usize::try_from(body.next_multiple_of(MAP_HEADER_ALIGN)).unwrap_or(usize::MAX);
        out.resize(start + header, 0);
        if let (true, Tail::Fragment { offset, .. }) = (self.is_fragment(), self.tail) {
            let mut header = offset.to_le_bytes();
            header[7] |= FRAGMENT_INODE;
            out.extend_from_slice(&header);
            return;
        }
        if self.is_dense {
            let records = Records::of(self);
            out.extend_from_slice(records.header(self).as_bytes());
            records.put(self, start, out);
            return;
        }
        let mut advise = Advise::empty();
        if self.is_big {
            advise |= Advise::BIG_PCLUSTER_1 | Advise::BIG_PCLUSTER_2;
        }
        let algorithm = self.algorithm as u8;
        let mut header = MapHeader { h_algorithmtype: algorithm | algorithm << 4, ..MapHeader::default() };
        match self.tail {
            Tail::Nothing => {}
            Tail::Fragment { offset, .. } => {
                advise |= Advise::FRAGMENT_PCLUSTER;
                let low = offset & u64::from(u32::MAX);
                header.h_u = u32::try_from(low).unwrap_or(u32::MAX).into();
            }
            Tail::Inline { plen, .. } => {
                advise |= Advise::INLINE_PCLUSTER;
                header.h_u = (u32::from(plen) << 16).into();
            }
        }
        let is_compact = self.layout() == DataLayout::CompressedCompact;
        if is_compact && compact::has_short_entries(self.entries(), compact::base(body), self.block_bits) {
            advise |= Advise::COMPACTED_2B;
        }
        header.h_advise = advise.bits().into();
        out.extend_from_slice(header.as_bytes());
        if is_compact {
            compact::put(self, &self.compact(body), start, out);
        } else {
            full::put(self, out);
        }
    }

    fn compact(&self, body: u64) -> CompactLayout {
        let base = compact::base(body);
        let has_short = compact::has_short_entries(self.entries(), base, self.block_bits);
        CompactLayout::new(base, self.entries(), has_short)
    }

    fn entries(&self) -> u64 {
        self.size().div_ceil(1 << self.block_bits)
    }

    /// The entries of the index, in order.
    fn lclusters(&self) -> impl Iterator<Item = Lcluster> {
        let bits = self.block_bits;
        let mask = (1u64 << bits) - 1;
        let tail = match self.tail {
            Tail::Nothing => None,
            // A full index has room for the high half of the offset here.
            Tail::Fragment { llen, offset } => Some((llen, LclusterType::Head1, offset >> 32, 0, false)),
            // It takes no block, but the size of a cluster is never 0.
            Tail::Inline { llen, is_coded, .. } => Some((llen, kind(is_coded), 0, 1, false)),
        };
        let extent = move |extent: &Extent| {
            let Extent { llen, is_coded, at, plen, is_partial } = *extent;
            (llen, kind(is_coded), at >> bits, plen >> bits, is_partial)
        };
        let extents = self.extents.iter().map(extent).chain(tail);
        let (is_big, size) = (self.is_big, self.size());
        extents
            .scan(0, |at, (llen, kind, block, blocks, is_partial)| {
                let la = *at;
                *at += llen;
                Some((la, *at, kind, block, blocks, is_partial))
            })
            .flat_map(move |(la, end, kind, block, blocks, is_partial)| {
                let head = la >> bits;
                // The entry in which the next extent starts; the last extent has all that is left.
                let next = if end == size { size.div_ceil(1 << bits) } else { end >> bits };
                (head..next).map(move |lcn| {
                    if lcn == head {
                        let clusterofs = u16::try_from(la & mask).unwrap_or(u16::MAX);
                        return Lcluster::Head { kind, clusterofs, block, is_partial };
                    }
                    let blocks = (is_big && lcn == head + 1).then_some(blocks);
                    Lcluster::Nonhead { back: lcn - head, on: next - lcn, blocks }
                })
            })
    }
}

/// A distance as an entry says it.
fn near(distance: u64) -> u32 {
    u32::try_from(distance).unwrap_or(MAX_DISTANCE).min(MAX_DISTANCE)
}

fn kind(is_coded: bool) -> LclusterType {
    if is_coded { LclusterType::Head1 } else { LclusterType::Plain }
}
