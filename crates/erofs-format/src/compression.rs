//! Compression algorithms and their configuration records.
//!
//! With `COMPR_CFGS` a record for each bit of `available_compr_algs`, in the order of the bits,
//! follows the superblock with its extension slots: a 16-bit length, then the record, then padding
//! to 4 bytes. Without it there is LZ4 alone.

use bitflags::bitflags;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::FormatError;

/// The most bytes that a physical cluster may have (kernel: `Z_EROFS_PCLUSTER_MAX_SIZE`).
pub const PCLUSTER_MAX_SIZE: u32 = 1024 * 1024;
/// The most bytes that a physical cluster may decode to (kernel: `Z_EROFS_PCLUSTER_MAX_DSIZE`).
pub const PCLUSTER_MAX_DSIZE: u32 = 12 * 1024 * 1024;
/// The largest dictionary of LZMA (kernel: `Z_EROFS_LZMA_MAX_DICT_SIZE`).
pub const LZMA_MAX_DICT_SIZE: u32 = 8 * PCLUSTER_MAX_SIZE;
/// The smallest dictionary of LZMA that Linux accepts.
pub const LZMA_MIN_DICT_SIZE: u32 = 4096;
/// The largest `windowbits` of DEFLATE.
pub const DEFLATE_MAX_WINDOWBITS: u8 = 15;
/// The largest `windowlog` of Zstandard.
pub const ZSTD_MAX_WINDOWLOG: u8 = 10;

/// A compression algorithm (kernel: `Z_EROFS_COMPRESSION_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Algorithm {
    /// LZ4 blocks.
    Lz4 = 0,
    /// `MicroLZMA`.
    Lzma = 1,
    /// Raw DEFLATE.
    Deflate = 2,
    /// A Zstandard frame.
    Zstd = 3,
}

impl Algorithm {
    /// The name in messages and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lz4 => "lz4",
            Self::Lzma => "lzma",
            Self::Deflate => "deflate",
            Self::Zstd => "zstd",
        }
    }

    /// Whether `algorithms` has its bit.
    pub const fn is_in(self, algorithms: Algorithms) -> bool {
        algorithms.bits() & 1 << self as u16 != 0
    }

    /// The first Linux version that decodes it.
    pub const fn first_kernel(self) -> crate::KernelVersion {
        match self {
            Self::Lz4 => (5, 4),
            Self::Lzma => (5, 16),
            Self::Deflate => (6, 6),
            Self::Zstd => (6, 10),
        }
    }
}

impl TryFrom<u8> for Algorithm {
    type Error = FormatError;

    fn try_from(found: u8) -> Result<Self, FormatError> {
        Ok(match found {
            0 => Self::Lz4,
            1 => Self::Lzma,
            2 => Self::Deflate,
            3 => Self::Zstd,
            _ => return Err(FormatError::UnknownAlgorithm { found }),
        })
    }
}

bitflags! {
    /// `available_compr_algs`: a bit for each [`Algorithm`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct Algorithms: u16 {
        /// [`Algorithm::Lz4`].
        const LZ4 = 1 << 0;
        /// [`Algorithm::Lzma`].
        const LZMA = 1 << 1;
        /// [`Algorithm::Deflate`].
        const DEFLATE = 1 << 2;
        /// [`Algorithm::Zstd`].
        const ZSTD = 1 << 3;
    }
}

impl TryFrom<u16> for Algorithms {
    type Error = FormatError;

    fn try_from(bits: u16) -> Result<Self, FormatError> {
        Self::from_bits(bits).ok_or(FormatError::UnknownAlgorithmBits { unknown: bits & !Self::all().bits() })
    }
}

/// `z_erofs_lz4_cfgs`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Lz4Cfgs {
    /// How far back a match may reach; 0 means 65535.
    pub max_distance: U16,
    /// Blocks of the largest physical cluster; 0 means 1.
    pub max_pclusterblks: U16,
    /// Must be 0.
    pub reserved: [u8; 10],
}

/// `z_erofs_lzma_cfgs`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct LzmaCfgs {
    /// Bytes of the dictionary.
    pub dict_size: U32,
    /// Must be 0.
    pub format: U16,
    /// Must be 0.
    pub reserved: [u8; 8],
}

/// `z_erofs_deflate_cfgs`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct DeflateCfgs {
    /// Bytes of the window, as a power of two.
    pub windowbits: u8,
    /// Must be 0.
    pub reserved: [u8; 5],
}

/// `z_erofs_zstd_cfgs`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ZstdCfgs {
    /// Must be 0.
    pub format: u8,
    /// Bytes of the window, as a power of two, less 10.
    pub windowlog: u8,
    /// Must be 0.
    pub reserved: [u8; 4],
}

#[cfg(test)]
mod tests {
    use core::mem::{offset_of, size_of};

    use super::*;

    #[test]
    fn sizes_and_offsets_are_those_on_disk() {
        assert_eq!(size_of::<Lz4Cfgs>(), 14);
        assert_eq!(offset_of!(Lz4Cfgs, max_pclusterblks), 2);
        assert_eq!(size_of::<LzmaCfgs>(), 14);
        assert_eq!(offset_of!(LzmaCfgs, format), 4);
        assert_eq!(size_of::<DeflateCfgs>(), 6);
        assert_eq!(size_of::<ZstdCfgs>(), 6);
        assert_eq!(offset_of!(ZstdCfgs, windowlog), 1);
    }

    #[test]
    fn each_algorithm_has_its_bit() {
        for number in 0..4 {
            let algorithm = Algorithm::try_from(number).unwrap();
            let bit = Algorithms::try_from(1 << number).unwrap();
            assert!(algorithm.is_in(bit) && !algorithm.is_in(!bit));
        }
        assert_eq!(Algorithm::try_from(4), Err(FormatError::UnknownAlgorithm { found: 4 }));
        assert_eq!(Algorithms::try_from(0x13), Err(FormatError::UnknownAlgorithmBits { unknown: 0x10 }));
    }
}
