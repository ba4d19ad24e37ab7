//! Feature bits, what each of them needs of Linux, and the profiles that name sets of them.

use bitflags::bitflags;

use crate::FormatError;

/// A Linux version: (major, minor).
pub type KernelVersion = (u32, u32);

/// The first Linux version that reads the format at all (outside `staging`).
pub const FIRST_KERNEL: KernelVersion = (5, 4);

bitflags! {
    /// `feature_compat`: a reader that does not know a bit may ignore it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct FeatureCompat: u32 {
        /// `checksum` of the superblock is valid.
        const SB_CHKSUM = 0x01;
        /// Times are modification times (older images: change times).
        const MTIME = 0x02;
        /// `h_name_filter` is valid.
        const XATTR_FILTER = 0x04;
        /// Shared xattrs lie in the data of the metabox inode.
        const SHARED_EA_IN_METABOX = 0x08;
        /// The table of long xattr prefixes lies plainly on the primary device.
        const PLAIN_XATTR_PFX = 0x10;
        /// `ishare_xattr_prefix_id` is valid: files have fingerprints.
        const ISHARE_XATTRS = 0x20;
    }
}

bitflags! {
    /// `feature_incompat`: a reader that does not know a bit must refuse the image.
    ///
    /// Some bits have two names: they were given out together.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct FeatureIncompat: u32 {
        /// Compressed clusters are right-aligned (old name `ZERO_PADDING`). Old versions of
        /// mkfs.erofs set it on images without compression too.
        const LZ4_0PADDING = 0x001;
        /// Compression configurations follow the superblock.
        const COMPR_CFGS = 0x002;
        /// Physical clusters may be larger than one block.
        const BIG_PCLUSTER = 0x002;
        /// There are chunk-based inodes.
        const CHUNKED_FILE = 0x004;
        /// There is a device table.
        const DEVICE_TABLE = 0x008;
        /// Logical clusters of type HEAD2 are used.
        const COMPR_HEAD2 = 0x008;
        /// The last physical cluster may lie beside the inode.
        const ZTAILPACKING = 0x010;
        /// Tails may lie in the packed inode.
        const FRAGMENTS = 0x020;
        /// Physical clusters may be shared in part.
        const DEDUPE = 0x020;
        /// There is a table of long xattr prefixes.
        const XATTR_PREFIXES = 0x040;
        /// Block addresses have 48 bits.
        const BIT48 = 0x080;
        /// Inodes may lie in the data of the metabox inode.
        const METABOX = 0x100;
    }
}

const COMPAT_KERNELS: [(FeatureCompat, KernelVersion); 6] = [
    (FeatureCompat::SB_CHKSUM, (5, 5)),
    (FeatureCompat::MTIME, (5, 18)),
    (FeatureCompat::XATTR_FILTER, (6, 6)),
    (FeatureCompat::SHARED_EA_IN_METABOX, (6, 17)),
    (FeatureCompat::PLAIN_XATTR_PFX, (6, 17)),
    (FeatureCompat::ISHARE_XATTRS, (7, 0)),
];

const INCOMPAT_KERNELS: [(FeatureIncompat, KernelVersion); 9] = [
    (FeatureIncompat::LZ4_0PADDING, (5, 4)),
    (FeatureIncompat::COMPR_CFGS, (5, 13)),
    (FeatureIncompat::CHUNKED_FILE, (5, 15)),
    (FeatureIncompat::DEVICE_TABLE, (5, 16)),
    (FeatureIncompat::ZTAILPACKING, (5, 17)),
    (FeatureIncompat::FRAGMENTS, (6, 1)),
    (FeatureIncompat::XATTR_PREFIXES, (6, 4)),
    (FeatureIncompat::BIT48, (6, 15)),
    (FeatureIncompat::METABOX, (6, 17)),
];

impl FeatureCompat {
    /// The first Linux version that makes use of all of these bits. An older one mounts the image
    /// all the same and does without.
    pub fn first_kernel(self) -> KernelVersion {
        COMPAT_KERNELS
            .iter()
            .filter(|(bit, _)| self.intersects(*bit))
            .fold(FIRST_KERNEL, |oldest, (_, version)| oldest.max(*version))
    }

    /// The known ones among the bits on disk; others are ignored as the format demands.
    pub fn from_disk(bits: u32) -> Self {
        Self::from_bits_truncate(bits)
    }
}

impl FeatureIncompat {
    /// The bits that only say something about compressed data. `DEVICE_TABLE` is not among them
    /// although it shares its bit with `COMPR_HEAD2`.
    pub const COMPRESSION: Self =
        Self::LZ4_0PADDING.union(Self::COMPR_CFGS).union(Self::ZTAILPACKING).union(Self::FRAGMENTS);

    /// The first Linux version that mounts an image with all of these bits.
    pub fn first_kernel(self) -> KernelVersion {
        INCOMPAT_KERNELS
            .iter()
            .filter(|(bit, _)| self.intersects(*bit))
            .fold(FIRST_KERNEL, |oldest, (_, version)| oldest.max(*version))
    }
}

impl TryFrom<u32> for FeatureIncompat {
    type Error = FormatError;

    fn try_from(bits: u32) -> Result<Self, FormatError> {
        Self::from_bits(bits).ok_or(FormatError::UnknownIncompat { unknown: bits & !Self::all().bits() })
    }
}

/// Which on-disk features a reader accepts. Fewer features are fewer ways to be wrong about an
/// image that nobody vouches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub enum Profile {
    /// The minimal format of the EROFS documentation: superblock, inodes, directories and flat
    /// data. No xattrs, chunks, devices, compression or 48-bit addresses.
    Core,
    /// Everything but compression.
    Plain,
    /// Everything that Linux 7.2 reads.
    #[default]
    Full,
}

impl Profile {
    /// The incompatible features that an image of this profile may have. `LZ4_0PADDING` alone is
    /// allowed in `Plain`: old versions of mkfs.erofs set it on every image, and it says nothing
    /// about uncompressed data.
    pub const fn incompat(self) -> FeatureIncompat {
        match self {
            Self::Core => FeatureIncompat::empty(),
            Self::Plain => FeatureIncompat::LZ4_0PADDING
                .union(FeatureIncompat::CHUNKED_FILE)
                .union(FeatureIncompat::DEVICE_TABLE)
                .union(FeatureIncompat::XATTR_PREFIXES)
                .union(FeatureIncompat::BIT48)
                .union(FeatureIncompat::METABOX),
            Self::Full => FeatureIncompat::all(),
        }
    }

    /// The compatible features that an image of this profile may have, or `None` if any will do.
    pub const fn compat(self) -> Option<FeatureCompat> {
        match self {
            Self::Core => Some(FeatureCompat::SB_CHKSUM.union(FeatureCompat::MTIME)),
            Self::Plain | Self::Full => None,
        }
    }

    /// The profile's name in messages and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Plain => "plain",
            Self::Full => "full",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_incompatible_bits_are_those_of_linux_7_2() {
        assert_eq!(FeatureIncompat::all().bits(), 0x1ff);
        assert_eq!(FeatureCompat::all().bits(), 0x3f);
    }

    #[test]
    fn an_unknown_incompatible_bit_is_named() {
        let error = FeatureIncompat::try_from(0x8000_0201).unwrap_err();
        assert_eq!(error, FormatError::UnknownIncompat { unknown: 0x8000_0200 });
    }

    #[test]
    fn every_bit_has_a_kernel_version() {
        for bit in FeatureIncompat::all().iter() {
            assert!(INCOMPAT_KERNELS.iter().any(|(known, _)| *known == bit), "{bit:?}");
        }
        for bit in FeatureCompat::all().iter() {
            assert!(COMPAT_KERNELS.iter().any(|(known, _)| *known == bit), "{bit:?}");
        }
    }

    #[test]
    fn the_newest_feature_decides_which_kernel_is_needed() {
        assert_eq!(FeatureIncompat::empty().first_kernel(), (5, 4));
        let both = FeatureIncompat::CHUNKED_FILE | FeatureIncompat::XATTR_PREFIXES;
        assert_eq!(both.first_kernel(), (6, 4));
        assert_eq!(FeatureCompat::all().first_kernel(), (7, 0));
    }
}
