//! Chunk-based inodes: an array of addresses, one for each chunk of the file.
//!
//! The array starts behind inode and xattrs, at a multiple of its own entry size. Its entries are
//! 32-bit block addresses (the block map) or [`ChunkIndex`]es.

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{FormatError, NULL_ADDR, NULL_ADDR_48};

const BLKBITS_MASK: u16 = 0x1f;
const INDEXES: u16 = 0x20;
const ADDRESS_48BIT: u16 = 0x40;
const ALL: u16 = BLKBITS_MASK | INDEXES | ADDRESS_48BIT;

/// Bytes of an entry of the block map.
pub const BLOCK_MAP_ENTRY_SIZE: u64 = 4;

/// `erofs_inode_chunk_info`: what `i_u` holds in a chunk-based inode.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ChunkInfo {
    /// [`ChunkFormat`].
    pub format: U16,
    /// Must be 0.
    pub reserved: U16,
}

/// `erofs_inode_chunk_index`: the address of one chunk.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ChunkIndex {
    /// High 16 bits of the block address.
    pub startblk_hi: U16,
    /// Device; 0 is the unified address space.
    pub device_id: U16,
    /// Low 32 bits of the block address.
    pub startblk_lo: U32,
}

impl ChunkIndex {
    /// The block address, or `None` for a hole.
    pub fn startblk(&self, address_48bit: bool) -> Option<u64> {
        let address = u64::from(self.startblk_hi) << 32 | u64::from(self.startblk_lo);
        let mask = if address_48bit { NULL_ADDR_48 } else { u64::from(NULL_ADDR) };
        (address & mask != mask).then_some(address & mask)
    }
}

/// `format` of [`ChunkInfo`], taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChunkFormat {
    /// Chunk size over block size, as a power of two: 0 to 31.
    pub chunkbits: u8,
    /// Entries are [`ChunkIndex`]es.
    pub indexes: bool,
    /// Addresses in the indexes have 48 bits.
    pub address_48bit: bool,
}

impl ChunkFormat {
    /// Bytes of an entry, and what the array is aligned to.
    pub const fn entry_size(self) -> u64 {
        if self.indexes { 8 } else { BLOCK_MAP_ENTRY_SIZE }
    }
}

impl From<ChunkFormat> for u16 {
    fn from(format: ChunkFormat) -> u16 {
        let indexes = if format.indexes { INDEXES } else { 0 };
        let address_48bit = if format.address_48bit { ADDRESS_48BIT } else { 0 };
        (u16::from(format.chunkbits) & BLKBITS_MASK) | indexes | address_48bit
    }
}

impl TryFrom<u16> for ChunkFormat {
    type Error = FormatError;

    fn try_from(found: u16) -> Result<Self, FormatError> {
        if found & !ALL != 0 {
            return Err(FormatError::UnknownChunkFormat { found });
        }
        let [chunkbits, _] = (found & BLKBITS_MASK).to_le_bytes();
        Ok(Self { chunkbits, indexes: found & INDEXES != 0, address_48bit: found & ADDRESS_48BIT != 0 })
    }
}

#[cfg(test)]
mod tests {
    use core::mem::{offset_of, size_of};

    use super::*;

    #[test]
    fn sizes_and_offsets_are_those_on_disk() {
        assert_eq!(size_of::<ChunkInfo>(), 4);
        assert_eq!(size_of::<ChunkIndex>(), 8);
        assert_eq!(offset_of!(ChunkIndex, device_id), 2);
        assert_eq!(offset_of!(ChunkIndex, startblk_lo), 4);
    }

    #[test]
    fn formats_survive_and_unknown_bits_are_refused() {
        for number in 0..0x80_u16 {
            assert_eq!(u16::from(ChunkFormat::try_from(number).unwrap()), number);
        }
        assert_eq!(ChunkFormat::try_from(0x80), Err(FormatError::UnknownChunkFormat { found: 0x80 }));
    }

    #[test]
    fn holes_depend_on_the_width_of_addresses() {
        let index = ChunkIndex { startblk_hi: 1.into(), device_id: 0.into(), startblk_lo: NULL_ADDR.into() };
        assert_eq!(index.startblk(false), None);
        assert_eq!(index.startblk(true), Some(0x1_ffff_ffff));
        let index = ChunkIndex { startblk_hi: 9.into(), device_id: 0.into(), startblk_lo: 7.into() };
        assert_eq!(index.startblk(false), Some(7), "the high half means nothing in 32-bit addresses");
    }
}
