//! The superblock: 128 bytes at byte 1024, then 16-byte extension slots.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::inode::ISLOTBITS;

/// Where the superblock starts, in bytes.
pub const SUPER_OFFSET: u64 = 1024;
/// `magic`.
pub const SUPER_MAGIC_V1: u32 = 0xE0F5_E1E2;
/// Bytes of the superblock without extension slots.
pub const SUPER_SIZE: u64 = 128;
/// Bytes of one extension slot (kernel: `EROFS_SB_EXTSLOT_SIZE`).
pub const SB_EXTSLOT_SIZE: u64 = 16;
/// The smallest block size that the format allows, as a power of two (512 bytes).
pub const MIN_BLKSZBITS: u8 = 9;
/// The largest block size read here, as a power of two (64 KiB, the largest page size of Linux).
pub const MAX_BLKSZBITS: u8 = 16;
/// The device table starts at a multiple of this (kernel: `EROFS_DEVT_SLOT_SIZE`).
pub const DEVT_SLOT_SIZE: u64 = 128;

/// `erofs_super_block` without its extension slots.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct SuperBlock {
    /// [`SUPER_MAGIC_V1`].
    pub magic: U32,
    /// CRC-32C as [`checksum`] computes it, if `SB_CHKSUM`.
    pub checksum: U32,
    /// [`crate::FeatureCompat`].
    pub feature_compat: U32,
    /// Block size as a power of two.
    pub blkszbits: u8,
    /// How many 16-byte extension slots follow.
    pub sb_extslots: u8,
    /// Union: `rootnid_2b`, or `blocks_hi` if 48BIT is set and `rootnid_8b` is not 0.
    pub rb: U16,

    /// Number of inodes, for statfs only.
    pub inos: U64,
    /// Seconds since 1970 (signed) that the times of compact inodes count from.
    pub epoch: U64,

    /// Nanoseconds of the time of every compact inode.
    pub fixed_nsec: U32,
    /// Low half of the number of blocks, for statfs only: no address may be checked with it.
    pub blocks_lo: U32,
    /// Block where the inodes start: nid 0.
    pub meta_blkaddr: U32,
    /// Block where the shared xattrs start.
    pub xattr_blkaddr: U32,

    /// Identity of the image.
    pub uuid: [u8; 16],

    /// Label; without a final NUL if all 16 bytes are used.
    pub volume_name: [u8; 16],

    /// [`crate::FeatureIncompat`].
    pub feature_incompat: U32,
    /// Union: `available_compr_algs` if `COMPR_CFGS`, else `lz4_max_distance`. 0 in a plain image.
    pub u1: U16,
    /// Number of devices beyond the primary, if `DEVICE_TABLE`.
    pub extra_devices: U16,
    /// The device table starts at this times [`DEVT_SLOT_SIZE`].
    pub devt_slotoff: U16,
    /// Size of directory blocks over the block size, as a power of two: must be 0.
    pub dirblkbits: u8,
    /// Number of records in the table of long xattr prefixes.
    pub xattr_prefix_count: u8,
    /// The table of long xattr prefixes starts at this times 4.
    pub xattr_prefix_start: U32,

    /// The packed inode, which holds fragments.
    pub packed_nid: U64,
    /// Not 0: no name filter of this image may be used.
    pub xattr_filter_reserved: u8,
    /// Index of the fingerprint's name in the table of long xattr prefixes, if `ISHARE_XATTRS`.
    pub ishare_xattr_prefix_id: u8,
    /// Must be 0.
    pub reserved: [u8; 2],
    /// Seconds to add to `epoch` for the time at which the image was built.
    pub build_time: U32,

    /// 64-bit root nid, used if 48BIT is set and this is not 0.
    pub rootnid_8b: U64,
    /// Must be 0.
    pub reserved2: [u8; 8],
}

/// The first extension slot, at byte 128 of the superblock.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct SuperBlockExt {
    /// The metabox inode, if `METABOX`.
    pub metabox_nid: U64,
    /// Must be 0.
    pub reserved3: [u8; 8],
}

impl SuperBlock {
    /// Bytes of the superblock with its extension slots.
    pub fn size(&self) -> u64 {
        SUPER_SIZE + SB_EXTSLOT_SIZE * u64::from(self.sb_extslots)
    }
}

/// How many bytes from [`SUPER_OFFSET`] on the checksum covers: the rest of block 0, or one whole
/// block where block 0 ends before the superblock starts.
pub const fn checksum_len(blkszbits: u8) -> u64 {
    let block_size = 1_u64 << blkszbits;
    if block_size > SUPER_OFFSET { block_size - SUPER_OFFSET } else { block_size }
}

/// The superblock's checksum over `bytes`, which start at [`SUPER_OFFSET`] and are
/// [`checksum_len`] long. The field `checksum` itself counts as 0. There is no final inversion.
pub fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = crc32c(u32::MAX, bytes.get(..4).unwrap_or(bytes));
    crc = crc32c(crc, &[0; 4]);
    crc32c(crc, bytes.get(8..).unwrap_or_default())
}

/// Raw CRC-32C (Castagnoli, reflected) from a given state, with no inversion at either end.
fn crc32c(state: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(state, |crc, byte| {
        let index = (crc ^ u32::from(*byte)) & 0xff;
        (crc >> 8) ^ CRC32C_TABLE[index as usize]
    })
}

const CRC32C_TABLE: [u32; 256] = {
    let mut table = [0_u32; 256];
    let mut index = 0;
    let mut seed = 0_u32;
    while index < table.len() {
        let mut crc = seed;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 0 { crc >> 1 } else { (crc >> 1) ^ 0x82F6_3B78 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
        seed += 1;
    }
    table
};

/// Byte position of the inode `nid` on the primary device, unless it overflows.
pub fn inode_offset(meta_blkaddr: u32, blkszbits: u8, nid: u64) -> Option<u64> {
    let base = u64::from(meta_blkaddr).checked_shl(u32::from(blkszbits))?;
    nid.checked_mul(1 << ISLOTBITS)?.checked_add(base)
}

/// The nid of the inode at byte `offset` of the primary device, if an inode may start there.
pub fn nid_at(meta_blkaddr: u32, blkszbits: u8, offset: u64) -> Option<u64> {
    let base = u64::from(meta_blkaddr).checked_shl(u32::from(blkszbits))?;
    let relative = offset.checked_sub(base)?;
    (relative % (1 << ISLOTBITS) == 0).then_some(relative >> ISLOTBITS)
}

#[cfg(test)]
mod tests {
    use core::mem::{offset_of, size_of};

    use super::*;

    #[test]
    fn sizes_and_offsets_are_those_on_disk() {
        assert_eq!(size_of::<SuperBlock>(), 0x80);
        assert_eq!(size_of::<SuperBlockExt>(), 0x10);
        assert_eq!(offset_of!(SuperBlock, feature_compat), 0x08);
        assert_eq!(offset_of!(SuperBlock, rb), 0x0E);
        assert_eq!(offset_of!(SuperBlock, epoch), 0x18);
        assert_eq!(offset_of!(SuperBlock, meta_blkaddr), 0x28);
        assert_eq!(offset_of!(SuperBlock, uuid), 0x30);
        assert_eq!(offset_of!(SuperBlock, volume_name), 0x40);
        assert_eq!(offset_of!(SuperBlock, feature_incompat), 0x50);
        assert_eq!(offset_of!(SuperBlock, u1), 0x54);
        assert_eq!(offset_of!(SuperBlock, extra_devices), 0x56);
        assert_eq!(offset_of!(SuperBlock, devt_slotoff), 0x58);
        assert_eq!(offset_of!(SuperBlock, dirblkbits), 0x5A);
        assert_eq!(offset_of!(SuperBlock, xattr_prefix_count), 0x5B);
        assert_eq!(offset_of!(SuperBlock, xattr_prefix_start), 0x5C);
        assert_eq!(offset_of!(SuperBlock, packed_nid), 0x60);
        assert_eq!(offset_of!(SuperBlock, xattr_filter_reserved), 0x68);
        assert_eq!(offset_of!(SuperBlock, ishare_xattr_prefix_id), 0x69);
        assert_eq!(offset_of!(SuperBlock, build_time), 0x6C);
        assert_eq!(offset_of!(SuperBlock, rootnid_8b), 0x70);
        assert_eq!(offset_of!(SuperBlock, reserved2), 0x78);
    }

    #[test]
    fn the_checksum_equals_the_kernels_short_cut() {
        // The kernel starts at byte 8 with the state that magic and a zero checksum leave behind.
        let mut bytes = [0x5A_u8; 3072];
        bytes[..4].copy_from_slice(&SUPER_MAGIC_V1.to_le_bytes());
        assert_eq!(checksum(&bytes), crc32c(0x5045_B54A, &bytes[8..]));
    }

    #[test]
    fn crc32c_passes_the_usual_check() {
        assert_eq!(!crc32c(u32::MAX, b"123456789"), 0xE306_9283);
    }

    #[test]
    fn small_blocks_are_covered_whole() {
        assert_eq!(checksum_len(9), 512);
        assert_eq!(checksum_len(10), 1024);
        assert_eq!(checksum_len(11), 1024);
        assert_eq!(checksum_len(12), 3072);
    }

    #[test]
    fn nids_and_offsets_are_inverse_and_do_not_overflow() {
        assert_eq!(inode_offset(1, 12, 36), Some(4096 + 36 * 32));
        assert_eq!(nid_at(1, 12, 4096 + 36 * 32), Some(36));
        assert_eq!(nid_at(1, 12, 4097), None);
        assert_eq!(nid_at(1, 12, 0), None);
        assert_eq!(inode_offset(0, 12, u64::MAX), None);
        assert_eq!(inode_offset(u32::MAX, 12, (1 << 59) - 1), None);
    }
}
