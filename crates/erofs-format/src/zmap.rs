//! Compressed inodes: the map header, cluster indexes (full, compact) and encoded extents.
//!
//! ```text
//! inode | xattrs | pad to 8 | map header | index entries or extent records .. | tail-packed data
//! ```

use bitflags::bitflags;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The map header lies at a multiple of this behind inode and xattrs.
pub const MAP_HEADER_ALIGN: u64 = 8;
/// A full index starts this many bytes behind the start of the map header: the header and 8
/// unused bytes.
pub const FULL_INDEX_START: u64 = 16;
/// Set in `h_clusterbits`: all data lies in the packed inode (`Z_EROFS_FRAGMENT_INODE_BIT`).
pub const FRAGMENT_INODE: u8 = 1 << 7;
/// The bits of `h_clusterbits` that hold lcluster size over block size, as a power of two.
pub const CLUSTERBITS_MASK: u8 = 0xf;
/// Set in `delta[0]` of the first NONHEAD: the other bits are the pcluster's size in blocks.
pub const LI_D0_CBLKCNT: u16 = 1 << 11;
/// Bits of `di_advise` that hold the [`LclusterType`].
pub const LI_LCLUSTER_TYPE_MASK: u16 = 0x3;
/// Set in `di_advise`: the extent is only a part of what its pcluster decodes to.
pub const LI_PARTIAL_REF: u16 = 1 << 15;
/// Set in `di_advise` of a head: the extent is a hole (Linux 7.2).
pub const LI_HOLE: u16 = 1 << 14;

/// `z_erofs_map_header`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct MapHeader {
    /// Union: `h_fragmentoff`; or, in the high half, `h_idata_size`; or `h_extents_lo`.
    pub h_u: U32,
    /// [`Advise`].
    pub h_advise: U16,
    /// Algorithms of HEAD1 (low four bits) and HEAD2; with extents the low half of `h_extents_hi`.
    pub h_algorithmtype: u8,
    /// See [`CLUSTERBITS_MASK`], [`FRAGMENT_INODE`]; with extents the high half of `h_extents_hi`.
    pub h_clusterbits: u8,
}

impl MapHeader {
    /// Where in the packed inode the tail (or the fragment) starts.
    pub fn fragmentoff(&self) -> u32 {
        self.h_u.get()
    }

    /// Bytes of tail-packed data.
    pub fn idata_size(&self) -> u16 {
        let [_, _, low, high] = self.h_u.get().to_le_bytes();
        u16::from_le_bytes([low, high])
    }

    /// Number of encoded extents.
    pub fn extents(&self) -> u64 {
        let high = u16::from_le_bytes([self.h_algorithmtype, self.h_clusterbits]);
        u64::from(high) << 32 | u64::from(self.h_u.get())
    }

    /// Where in the packed inode the whole file starts, if it lies there.
    pub fn fragment_inode(&self) -> Option<u64> {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(self.as_bytes());
        (self.h_clusterbits & FRAGMENT_INODE != 0).then(|| u64::from_le_bytes(bytes) & !(1 << 63))
    }
}

bitflags! {
    /// `h_advise` (kernel: `Z_EROFS_ADVISE_*`). Linux ignores bits that it does not know.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct Advise: u16 {
        /// In a compact index: there are packs of 2-byte entries.
        const COMPACTED_2B = 0x01;
        /// In the full layout: extent records instead of an index.
        const EXTENTS = 0x01;
        /// Pclusters of HEAD1 may be larger than a block.
        const BIG_PCLUSTER_1 = 0x02;
        /// Pclusters of HEAD2 and PLAIN may be larger than a block.
        const BIG_PCLUSTER_2 = 0x04;
        /// The last pcluster lies behind the index.
        const INLINE_PCLUSTER = 0x08;
        /// Plain clusters are rotated in their block.
        const INTERLACED_PCLUSTER = 0x10;
        /// The tail lies in the packed inode.
        const FRAGMENT_PCLUSTER = 0x20;
    }
}

impl Advise {
    /// Bytes of an extent record, if `EXTENTS`: the code is in the place of `BIG_PCLUSTER_*`.
    pub const fn extent_record_size(self) -> u64 {
        4 << ((self.bits() >> 1) & 3)
    }
}

/// What a logical cluster is (kernel: `Z_EROFS_LCLUSTER_TYPE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum LclusterType {
    /// A pcluster with uncompressed data starts in it.
    Plain = 0,
    /// A pcluster of the first algorithm starts in it.
    Head1 = 1,
    /// It goes on with a pcluster that started before.
    Nonhead = 2,
    /// A pcluster of the second algorithm starts in it.
    Head2 = 3,
}

impl LclusterType {
    /// The type in the lowest two bits; all four values are defined.
    pub const fn from_low_bits(bits: u32) -> Self {
        match bits & 3 {
            0 => Self::Plain,
            1 => Self::Head1,
            2 => Self::Nonhead,
            _ => Self::Head2,
        }
    }
}

/// `z_erofs_lcluster_index`: an entry of the full index.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct LclusterIndex {
    /// [`LclusterType`], [`LI_PARTIAL_REF`], [`LI_HOLE`].
    pub di_advise: U16,
    /// In a head: where in the lcluster the pcluster's data starts.
    pub di_clusterofs: U16,
    /// Union: `blkaddr` of a head; `delta[0]`, `delta[1]` of a NONHEAD.
    pub di_u: U32,
}

impl LclusterIndex {
    /// What the cluster is.
    pub fn lcluster_type(&self) -> LclusterType {
        LclusterType::from_low_bits(u32::from(self.di_advise.get()))
    }

    /// In a NONHEAD: distance back to the head (or the size of its pcluster, see
    /// [`LI_D0_CBLKCNT`]) and on to the next one.
    pub fn delta(&self) -> [u16; 2] {
        let [a, b, c, d] = self.di_u.get().to_le_bytes();
        [u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])]
    }
}

/// The two kinds of packs in a compact index: entries of few bits and one 32-bit block address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CompactPack {
    /// 2 entries in 8 bytes.
    FourByte,
    /// 16 entries in 32 bytes.
    TwoByte,
}

impl CompactPack {
    /// Entries of a pack.
    pub const fn entries(self) -> u32 {
        match self {
            Self::FourByte => 2,
            Self::TwoByte => 16,
        }
    }

    /// Bytes of a pack.
    pub const fn size(self) -> usize {
        match self {
            Self::FourByte => 8,
            Self::TwoByte => 32,
        }
    }

    /// Bits of an entry.
    pub const fn entry_bits(self) -> u32 {
        match self {
            Self::FourByte => 16,
            Self::TwoByte => 14,
        }
    }

    /// The largest lclusters whose offsets fit in an entry, as a power of two.
    pub const fn max_lclusterbits(self) -> u32 {
        self.entry_bits() - 2
    }

    /// Entry `index` of `pack`: its low `lobits` bits (offset or distance) and its type. `None` if
    /// there is no such entry.
    pub fn entry(self, pack: &[u8], lobits: u32, index: u32) -> Option<(u32, LclusterType)> {
        if index >= self.entries() || lobits + 2 > self.entry_bits() || pack.len() != self.size() {
            return None;
        }
        let position = index * self.entry_bits();
        let start = usize::try_from(position / 8).ok()?;
        let word = pack.get(start..start + 4)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))?;
        let value = word >> (position % 8);
        Some((value & ((1 << lobits) - 1), LclusterType::from_low_bits(value >> lobits)))
    }

    /// The block address at the end of `pack`.
    pub fn base(self, pack: &[u8]) -> Option<u32> {
        let base = pack.get(self.size() - 4..self.size())?;
        base.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
    }
}

/// Where the packs of a compact index lie: 4-byte entries up to a multiple of 32 bytes, then (if
/// `COMPACTED_2B`) whole packs of 2-byte entries, then 4-byte entries again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactLayout {
    ebase: u64,
    total: u64,
    four_byte_first: u64,
    two_byte: u64,
}

/// The place of one entry in a compact index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactPlace {
    /// The kind of its pack.
    pub pack: CompactPack,
    /// The byte position of its pack.
    pub offset: u64,
    /// Its index in the pack.
    pub index: u32,
}

impl CompactLayout {
    /// The layout of `total` entries from byte `ebase` on.
    pub fn new(ebase: u64, total: u64, compacted_2b: bool) -> Self {
        let four_byte_first = ((32 - ebase % 32) / 4) & 7;
        let rest = total.saturating_sub(four_byte_first);
        let two_byte = if compacted_2b { rest - rest % 16 } else { 0 };
        Self { ebase, total, four_byte_first, two_byte }
    }

    /// Where entry `lcn` lies, if there is one.
    pub fn locate(&self, lcn: u64) -> Option<CompactPlace> {
        if lcn >= self.total {
            return None;
        }
        let two_byte_start = self.ebase.checked_add(self.four_byte_first * 4)?;
        let (pack, start, relative) = match lcn.checked_sub(self.four_byte_first) {
            None => (CompactPack::FourByte, self.ebase, lcn),
            Some(relative) if relative < self.two_byte => (CompactPack::TwoByte, two_byte_start, relative),
            Some(relative) => (
                CompactPack::FourByte,
                two_byte_start.checked_add(self.two_byte.checked_mul(2)?)?,
                relative - self.two_byte,
            ),
        };
        let entries = u64::from(pack.entries());
        let offset = (relative / entries).checked_mul(pack.size() as u64)?.checked_add(start)?;
        Some(CompactPlace { pack, offset, index: u32::try_from(relative % entries).ok()? })
    }

    /// The byte position behind the last entry's pack: where tail-packed data starts.
    pub fn end(&self) -> Option<u64> {
        let Some(last) = self.total.checked_sub(1) else { return Some(self.ebase) };
        let place = self.locate(last)?;
        place.offset.checked_add(place.pack.size() as u64)
    }
}

/// `z_erofs_extent`: an encoded extent record, the longest form. Shorter ones leave off its end.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ExtentRecord {
    /// [`ExtentLength`].
    pub plen: U32,
    /// Low half of the byte position of the encoded data.
    pub pstart_lo: U32,
    /// High half of it.
    pub pstart_hi: U32,
    /// Low half of the extent's byte position in the file.
    pub lstart_lo: U32,

    /// High half of it.
    pub lstart_hi: U32,
    /// Must be 0.
    pub reserved: [u8; 12],
}

const EXTENT_LENGTH_MASK: u32 = (1 << 21) - 1;
const EXTENT_PARTIAL: u32 = 1 << 27;

/// `plen` of an extent record, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExtentLength {
    /// Bytes of encoded data; 0 is a hole.
    pub length: u32,
    /// The extent is only a part of what its data decodes to.
    pub partial: bool,
    /// 0: plain; else the number of the algorithm plus 1.
    pub format: u8,
}

impl From<u32> for ExtentLength {
    fn from(plen: u32) -> Self {
        let [_, _, _, top] = plen.to_le_bytes();
        Self { length: plen & EXTENT_LENGTH_MASK, partial: plen & EXTENT_PARTIAL != 0, format: top >> 4 }
    }
}

impl From<ExtentLength> for u32 {
    fn from(length: ExtentLength) -> u32 {
        let partial = if length.partial { EXTENT_PARTIAL } else { 0 };
        length.length & EXTENT_LENGTH_MASK | partial | u32::from(length.format) << 28
    }
}

#[cfg(test)]
#[path = "zmap_tests.rs"]
mod tests;
