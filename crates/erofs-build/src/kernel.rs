//! Which Linux reads which feature.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// A Linux version, major and minor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelVersion(pub u32, pub u32);

impl KernelVersion {
    /// The first Linux with EROFS outside of staging; nothing older is a target.
    pub const OLDEST: Self = Self(5, 4);

    /// The kernels with long support, as of 2026: what distributions and devices run.
    pub const LONGTERM: [Self; 6] =
        [Self(5, 10), Self(5, 15), Self(6, 1), Self(6, 6), Self(6, 12), Self(6, 18)];

    /// The oldest longterm kernel that is no older than this one; this one if there is none yet.
    #[must_use]
    pub fn longterm(self) -> Self {
        Self::LONGTERM.into_iter().find(|longterm| *longterm >= self).unwrap_or(self)
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl FromStr for KernelVersion {
    type Err = Error;

    /// Reads `6.4`; a third number and what follows it (`6.4.12-amd64`) are ignored.
    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::Option {
            name: "target-kernel",
            reason: format!("'{text}' is not a Linux version such as 6.4"),
        };
        let mut parts = text.splitn(3, '.');
        let number = |part: Option<&str>| {
            let part = part.unwrap_or_default();
            let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part[..digits].parse::<u32>().map_err(|_| bad())
        };
        let major = parts.next();
        if major.is_none_or(|m| m.is_empty() || !m.bytes().all(|b| b.is_ascii_digit())) {
            return Err(bad());
        }
        Ok(Self(number(major)?, number(parts.next())?))
    }
}

/// A feature that an older Linux can't read, or reads wrongly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Feature {
    /// Chunk-based files, used for files with holes.
    ChunkedFile,
    /// Blocks smaller than a page.
    SmallBlocks,
    /// The table of long xattr name prefixes.
    XattrPrefixes,
    /// Fingerprints, which are found through the table of long prefixes.
    Fingerprints,
    /// Addresses above 2^32 blocks.
    Addresses48,
    /// Times of their own in compact inodes.
    CompactTimes,
    /// A volume label of all 16 bytes.
    LongLabel,
    /// Blobs beside the image.
    Devices,
    /// LZ4.
    Lz4,
    /// Compressed clusters of more than a block.
    BigClusters,
    /// LZMA.
    Lzma,
    /// Compressed clusters beside inodes.
    TailPacking,
    /// Ends of files in the packed inode.
    Fragments,
    /// Compressed clusters that several files share, or one file at several places.
    SharedClusters,
    /// DEFLATE.
    Deflate,
    /// Zstandard.
    Zstd,
    /// Compressed clusters of any length, anywhere.
    EncodedExtents,
    /// Inodes in a compressed file.
    Metabox,
}

impl Feature {
    /// The first Linux that reads it.
    pub fn since(self) -> KernelVersion {
        match self {
            Self::Lz4 => KernelVersion(5, 4),
            Self::BigClusters => KernelVersion(5, 13),
            Self::ChunkedFile => KernelVersion(5, 15),
            Self::Lzma | Self::Devices => KernelVersion(5, 16),
            Self::TailPacking => KernelVersion(5, 17),
            Self::Fragments | Self::SharedClusters => KernelVersion(6, 1),
            Self::SmallBlocks | Self::XattrPrefixes | Self::Fingerprints => KernelVersion(6, 4),
            Self::Deflate => KernelVersion(6, 6),
            Self::Zstd => KernelVersion(6, 10),
            Self::Addresses48 | Self::CompactTimes | Self::LongLabel | Self::EncodedExtents => {
                KernelVersion(6, 15)
            }
            Self::Metabox => KernelVersion(6, 17),
        }
    }

    /// What to do without it.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::ChunkedFile => "store holes as zeros, and no chunks",
            Self::SmallBlocks => "use 4096-byte blocks",
            Self::XattrPrefixes => "give no xattr prefixes",
            Self::Fingerprints => "build without fingerprints",
            Self::Addresses48 => "use larger blocks or split the tree",
            Self::CompactTimes => "keep times in extended inodes",
            Self::LongLabel => "give a label of at most 15 bytes",
            Self::Lz4 | Self::Lzma | Self::Deflate | Self::Zstd => "compress with lz4, or not at all",
            Self::BigClusters => "use clusters of one block",
            Self::TailPacking => "keep last clusters in blocks of their own",
            Self::Devices => "keep chunks in the image",
            Self::Fragments => "build without fragments",
            Self::SharedClusters => "build without dedupe, or without compression",
            Self::EncodedExtents => "let clusters fill whole blocks",
            Self::Metabox => "build without a metabox",
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ChunkedFile => "chunk-based files",
            Self::SmallBlocks => "blocks smaller than a page",
            Self::XattrPrefixes => "long xattr name prefixes",
            Self::Fingerprints => "fingerprints",
            Self::Addresses48 => "48-bit addresses",
            Self::CompactTimes => "times in compact inodes",
            Self::LongLabel => "a 16-byte label",
            Self::Lz4 => "LZ4 clusters",
            Self::BigClusters => "clusters of more than a block",
            Self::Lzma => "LZMA clusters",
            Self::TailPacking => "clusters beside inodes",
            Self::Fragments => "fragments",
            Self::Devices => "blobs beside the image",
            Self::SharedClusters => "shared clusters",
            Self::Deflate => "DEFLATE clusters",
            Self::Zstd => "Zstandard clusters",
            Self::EncodedExtents => "encoded extents",
            Self::Metabox => "compressed inodes",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_uname_prints_them() {
        assert_eq!("6.4".parse::<KernelVersion>().ok(), Some(KernelVersion(6, 4)));
        assert_eq!("6.12.3-amd64".parse::<KernelVersion>().ok(), Some(KernelVersion(6, 12)));
        assert_eq!("6.18-rc1".parse::<KernelVersion>().ok(), Some(KernelVersion(6, 18)));
        for bad in ["", "6", "6.", ".4", "x.y", "6x.4", "-6.4", "99999999999.1"] {
            assert!(bad.parse::<KernelVersion>().is_err(), "{bad}");
        }
    }
}
