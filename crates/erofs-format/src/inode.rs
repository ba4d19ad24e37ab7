//! Inodes: 32-byte compact and 64-byte extended ones, both in 32-byte slots.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::FormatError;

/// Bytes of an inode slot, as a power of two (kernel: `EROFS_ISLOTBITS`).
pub const ISLOTBITS: u32 = 5;
/// Set in a nid whose inode lies in the data of the metabox inode (kernel:
/// `EROFS_DIRENT_NID_METABOX_BIT`).
pub const NID_METABOX_BIT: u64 = 1 << 63;

const VERSION_BIT: u16 = 1;
const DATALAYOUT_SHIFT: u32 = 1;
const DATALAYOUT_MASK: u16 = 0x7;
const BIT_4: u16 = 1 << 4;
const RESERVED_BITS: u16 = !0x1f;

/// `erofs_inode_compact`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct InodeCompact {
    /// [`InodeFormat`].
    pub i_format: U16,
    /// Size of the xattr area, see [`crate::xattr::ibody_size`].
    pub i_xattr_icount: U16,
    /// Type and permissions as in `st_mode`.
    pub i_mode: U16,
    /// Union: `nlink`; or `startblk_hi` / `blocks_hi` if `NLINK_1` is set in `i_format`.
    pub i_nb: U16,
    /// Bytes of data.
    pub i_size: U32,
    /// Seconds to add to the superblock's `epoch`.
    pub i_mtime: U32,

    /// Union: `blocks_lo`, `startblk_lo`, `rdev` or [`crate::chunk::ChunkInfo`].
    pub i_u: U32,
    /// Inode number for 32-bit stat only.
    pub i_ino: U32,
    /// Owner.
    pub i_uid: U16,
    /// Group.
    pub i_gid: U16,
    /// Must be 0.
    pub i_reserved: [u8; 4],
}

/// `erofs_inode_extended`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct InodeExtended {
    /// [`InodeFormat`].
    pub i_format: U16,
    /// Size of the xattr area, see [`crate::xattr::ibody_size`].
    pub i_xattr_icount: U16,
    /// Type and permissions as in `st_mode`.
    pub i_mode: U16,
    /// Union: `startblk_hi` / `blocks_hi`.
    pub i_nb: U16,
    /// Bytes of data.
    pub i_size: U64,

    /// Union: `blocks_lo`, `startblk_lo`, `rdev` or [`crate::chunk::ChunkInfo`].
    pub i_u: U32,
    /// Inode number for 32-bit stat only.
    pub i_ino: U32,
    /// Owner.
    pub i_uid: U32,
    /// Group.
    pub i_gid: U32,

    /// Seconds since 1970 (signed).
    pub i_mtime: U64,
    /// Nanoseconds of the time.
    pub i_mtime_nsec: U32,
    /// Number of links.
    pub i_nlink: U32,

    /// Must be 0.
    pub i_reserved2: [u8; 16],
}

/// How the data of an inode is laid out (kernel: `EROFS_INODE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum DataLayout {
    /// Consecutive blocks.
    FlatPlain = 0,
    /// Compressed, with an index of 8 bytes a cluster (or encoded extents).
    CompressedFull = 1,
    /// Consecutive blocks, and the last, partial one directly behind the inode.
    FlatInline = 2,
    /// Compressed, with an index of 2 or 4 bytes a cluster.
    CompressedCompact = 3,
    /// Chunks of equal size, each with its own address.
    ChunkBased = 4,
}

impl DataLayout {
    /// Whether the data is compressed.
    pub const fn is_compressed(self) -> bool {
        matches!(self, Self::CompressedFull | Self::CompressedCompact)
    }
}

impl TryFrom<u8> for DataLayout {
    type Error = FormatError;

    fn try_from(found: u8) -> Result<Self, FormatError> {
        Ok(match found {
            0 => Self::FlatPlain,
            1 => Self::CompressedFull,
            2 => Self::FlatInline,
            3 => Self::CompressedCompact,
            4 => Self::ChunkBased,
            _ => return Err(FormatError::UnknownDataLayout { found }),
        })
    }
}

/// `i_format`, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InodeFormat {
    /// 64 bytes instead of 32.
    pub extended: bool,
    /// How the data is laid out.
    pub layout: DataLayout,
    /// Bit 4. In a directory (`DOT_OMITTED`): the data has no entry for ".". In another compact
    /// inode (`NLINK_1`): there is one link and `i_nb` holds high address bits.
    pub bit_4: bool,
}

impl InodeFormat {
    /// Bytes of the inode.
    pub const fn inode_size(self) -> u64 {
        if self.extended { 64 } else { 32 }
    }
}

impl From<InodeFormat> for u16 {
    fn from(format: InodeFormat) -> u16 {
        let version = if format.extended { VERSION_BIT } else { 0 };
        let bit_4 = if format.bit_4 { BIT_4 } else { 0 };
        version | (format.layout as u16) << DATALAYOUT_SHIFT | bit_4
    }
}

impl TryFrom<u16> for InodeFormat {
    type Error = FormatError;

    fn try_from(found: u16) -> Result<Self, FormatError> {
        if found & RESERVED_BITS != 0 {
            return Err(FormatError::ReservedFormatBits { found });
        }
        let [layout, _] = ((found >> DATALAYOUT_SHIFT) & DATALAYOUT_MASK).to_le_bytes();
        Ok(Self {
            extended: found & VERSION_BIT != 0,
            layout: DataLayout::try_from(layout)?,
            bit_4: found & BIT_4 != 0,
        })
    }
}

/// A device number as Linux user space packs it into 32 bits (kernel: `new_encode_dev`).
/// `major` has 12 bits, `minor` has 20; higher ones are lost.
pub const fn new_encode_dev(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xf_ff00) << 12)
}

/// (major, minor) of a number made by [`new_encode_dev`].
pub const fn new_decode_dev(dev: u32) -> (u32, u32) {
    ((dev & 0xf_ff00) >> 8, (dev & 0xff) | ((dev >> 12) & 0xf_ff00))
}

#[cfg(test)]
mod tests {
    use core::mem::{offset_of, size_of};

    use super::*;

    #[test]
    fn sizes_and_offsets_are_those_on_disk() {
        assert_eq!(size_of::<InodeCompact>(), 32);
        assert_eq!(offset_of!(InodeCompact, i_nb), 0x06);
        assert_eq!(offset_of!(InodeCompact, i_mtime), 0x0C);
        assert_eq!(offset_of!(InodeCompact, i_u), 0x10);
        assert_eq!(offset_of!(InodeCompact, i_uid), 0x18);
        assert_eq!(size_of::<InodeExtended>(), 64);
        assert_eq!(offset_of!(InodeExtended, i_size), 0x08);
        assert_eq!(offset_of!(InodeExtended, i_u), 0x10);
        assert_eq!(offset_of!(InodeExtended, i_uid), 0x18);
        assert_eq!(offset_of!(InodeExtended, i_mtime), 0x20);
        assert_eq!(offset_of!(InodeExtended, i_mtime_nsec), 0x28);
        assert_eq!(offset_of!(InodeExtended, i_nlink), 0x2C);
    }

    #[test]
    fn every_format_number_is_taken_apart_and_put_together_again() {
        for number in 0..=u16::MAX {
            match InodeFormat::try_from(number) {
                Ok(format) => assert_eq!(u16::from(format), number),
                Err(FormatError::ReservedFormatBits { found }) => assert!(found > 0x1f),
                Err(FormatError::UnknownDataLayout { found }) => assert!((5..8).contains(&found)),
                Err(other) => panic!("{other}"),
            }
        }
    }

    #[test]
    fn device_numbers_survive() {
        for (major, minor) in [(0, 0), (1, 3), (8, 255), (8, 256), (4095, 0xf_ffff)] {
            assert_eq!(new_decode_dev(new_encode_dev(major, minor)), (major, minor));
        }
        assert_eq!(new_encode_dev(8, 1), 0x801);
        assert_eq!(new_encode_dev(1, 0x1_0002), 0x1000_0102);
    }
}
