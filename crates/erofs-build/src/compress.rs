//! How files are compressed.

use std::str::FromStr;

use erofs_encode::{EncodeError, Encoder, Method};
use erofs_format::compression::{
    Algorithm, DEFLATE_MAX_WINDOWBITS, DeflateCfgs, LZMA_MAX_DICT_SIZE, LZMA_MIN_DICT_SIZE, Lz4Cfgs,
    LzmaCfgs, PCLUSTER_MAX_SIZE, ZSTD_MAX_WINDOWLOG, ZstdCfgs,
};
use zerocopy::IntoBytes;

use crate::error::{Error, Result};
use crate::kernel::{Feature, KernelVersion};

/// The most blocks of a cluster that Linux takes for LZ4.
const MAX_LZ4_BLOCKS: u32 = 256;

/// How the contents of files are compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compression {
    /// The algorithm.
    pub algorithm: CompressionAlgorithm,
    /// Its level; without a number the algorithm's usual one.
    pub level: Option<i32>,
    /// Bytes of the clusters that are filled with compressed data: whole blocks, at most 1 MiB.
    pub cluster: u32,
    /// Keep the ends of files, and files that fill no cluster, together in the packed inode.
    pub fragments: bool,
    /// Keep files of up to 8 MiB there as a whole; needs `fragments`.
    pub all_fragments: bool,
    /// Keep a last cluster beside the inode if it is so small that both fit into a block.
    pub inline: bool,
    /// Let clusters be of any length and lie close together, as Linux 6.15 reads them ("encoded extents"); without
    /// a word, if the target kernel is as new and `fragments` is off. `inline` then means nothing.
    pub dense: Option<bool>,
}

/// An algorithm, with the way to search for matches where there are two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CompressionAlgorithm {
    /// LZ4, as fast as it goes.
    Lz4,
    /// LZ4 with a thorough search; levels 1 to 12, usually 9.
    Lz4Hc,
    /// LZMA; levels 0 to 9, usually 6.
    Lzma,
    /// DEFLATE; levels 1 to 12, usually 6.
    Deflate,
    /// Zstandard; levels 1 to 22, usually 3.
    Zstd,
}

/// Bytes of a cluster that reads both quickly and small, where nobody says otherwise.
const USUAL_CLUSTER: u32 = 64 << 10;

impl CompressionAlgorithm {
    /// All there are.
    pub const ALL: [Self; 5] = [Self::Lz4, Self::Lz4Hc, Self::Lzma, Self::Deflate, Self::Zstd];
}

impl FromStr for CompressionAlgorithm {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Ok(match name {
            "lz4" => Self::Lz4,
            "lz4hc" => Self::Lz4Hc,
            "lzma" => Self::Lzma,
            "deflate" => Self::Deflate,
            "zstd" => Self::Zstd,
            _ => {
                let reason =
                    format!("'{name}' is no algorithm; there are lz4, lz4hc, lzma, deflate and zstd");
                return Err(Error::Option { name: "compress", reason });
            }
        })
    }
}

impl Compression {
    /// An algorithm at its usual level, in clusters of 64 KiB.
    pub fn new(algorithm: CompressionAlgorithm) -> Self {
        Self {
            algorithm,
            level: None,
            cluster: USUAL_CLUSTER,
            fragments: true,
            all_fragments: false,
            inline: false,
            dense: None,
        }
    }

    /// [`Self::new`] as far as `target` has what it needs, for an image in blocks of `block_size` bytes.
    pub fn for_target(
        algorithm: CompressionAlgorithm,
        target: Option<KernelVersion>,
        block_size: u32,
    ) -> Self {
        let has = |feature: Feature| target.is_none_or(|target| target >= feature.since());
        let cluster = if has(Feature::BigClusters) { USUAL_CLUSTER.max(block_size) } else { block_size };
        Self { cluster, fragments: has(Feature::Fragments), ..Self::new(algorithm) }
    }

    /// Checks what can be checked without the tree.
    pub(crate) fn check(&self, block_size: u32) -> Result<()> {
        let bad = |name, reason| Err(Error::Option { name, reason });
        // An index has 11 bits for the number of blocks; for LZ4, Linux takes no more than 256 blocks.
        let blocks = if self.algorithm() == Algorithm::Lz4 { 256 } else { 2047 };
        let most = PCLUSTER_MAX_SIZE.min(block_size.saturating_mul(blocks));
        if self.cluster < block_size || self.cluster > most || !self.cluster.is_multiple_of(block_size) {
            let reason =
                format!("{} is not a multiple of the block size, {block_size}, up to {most}", self.cluster);
            return bad("cluster", reason);
        }
        // Linux keeps so many pages ready for each CPU, and refuses more at mount.
        if self.algorithm() == Algorithm::Lz4 && self.cluster / block_size > MAX_LZ4_BLOCKS {
            let reason = format!("{} is more than {MAX_LZ4_BLOCKS} blocks, the most for lz4", self.cluster);
            return bad("cluster", reason);
        }
        if block_size > 4096 << 2 {
            return bad("compress", format!("blocks of {block_size} bytes can't be compressed, 16384 can"));
        }
        if self.all_fragments && !self.fragments {
            return bad("all-fragments", "there are no fragments that files could be".into());
        }
        if self.fragments && self.inline {
            return bad("tail-packing", "the ends of files go to fragments already: choose one".into());
        }
        if self.algorithm == CompressionAlgorithm::Lz4 && self.level.is_some() {
            return bad("compress", "lz4 has no levels, lz4hc has".into());
        }
        self.encoder().map(drop)
    }

    pub(crate) fn encoder(&self) -> Result<Encoder> {
        let failed = |error: EncodeError| Error::Option { name: "compress", reason: error.to_string() };
        Encoder::new(self.method()).map_err(failed)
    }

    /// The algorithm and everything else that clusters depend on.
    pub(crate) fn in_words(&self) -> String {
        let (name, level) = match self.method() {
            Method::Lz4 => ("lz4", None),
            Method::Lz4Hc { level } => ("lz4hc", Some(level)),
            Method::Lzma { level, .. } => ("lzma", i32::try_from(level).ok()),
            Method::Deflate { level } => ("deflate", Some(level)),
            Method::Zstd { level, .. } => ("zstd", Some(level)),
        };
        let level = level.map(|level| format!(",level={level}")).unwrap_or_default();
        let ends = match (self.fragments, self.inline) {
            (true, _) if self.all_fragments => ",all-fragments",
            (true, _) => ",fragments",
            (false, true) => ",tail-packing",
            (false, false) => "",
        };
        format!("{name}{level},cluster={}{ends}", self.cluster)
    }

    fn method(&self) -> Method {
        let level = |usual| self.level.unwrap_or(usual);
        match self.algorithm {
            CompressionAlgorithm::Lz4 => Method::Lz4,
            CompressionAlgorithm::Lz4Hc => Method::Lz4Hc { level: level(9) },
            CompressionAlgorithm::Lzma => {
                Method::Lzma { level: u32::try_from(level(6)).unwrap_or(u32::MAX), dict_size: self.window() }
            }
            CompressionAlgorithm::Deflate => Method::Deflate { level: level(6) },
            CompressionAlgorithm::Zstd => {
                Method::Zstd { level: level(3), window_log: self.window().trailing_zeros() }
            }
        }
    }

    /// How far back matches reach: over a cluster that has shrunk to an eighth. Decoders in the kernel keep
    /// that much memory ready.
    fn window(&self) -> u32 {
        let (least, most) = match self.algorithm {
            CompressionAlgorithm::Lzma => (LZMA_MIN_DICT_SIZE, LZMA_MAX_DICT_SIZE),
            _ => (1 << 15, 1 << (10 + ZSTD_MAX_WINDOWLOG)),
        };
        (self.cluster.next_power_of_two() * 8).clamp(least, most)
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        match self.algorithm {
            CompressionAlgorithm::Lz4 | CompressionAlgorithm::Lz4Hc => Algorithm::Lz4,
            CompressionAlgorithm::Lzma => Algorithm::Lzma,
            CompressionAlgorithm::Deflate => Algorithm::Deflate,
            CompressionAlgorithm::Zstd => Algorithm::Zstd,
        }
    }

    /// Bytes of a cluster that may start anywhere in a block: LZ4 clusters may then touch a block more, and the
    /// kernel must have been told.
    pub(crate) fn dense_cluster(&self, block_size: u32) -> u32 {
        match self.algorithm() {
            Algorithm::Lz4 => self.cluster.min((MAX_LZ4_BLOCKS - 1) * block_size),
            _ => self.cluster,
        }
    }

    /// What is needed of the kernel.
    pub(crate) fn features(&self, block_size: u32) -> impl Iterator<Item = Feature> {
        let algorithm = match self.algorithm() {
            Algorithm::Lz4 => Feature::Lz4,
            Algorithm::Lzma => Feature::Lzma,
            Algorithm::Deflate => Feature::Deflate,
            Algorithm::Zstd => Feature::Zstd,
        };
        let big = (self.cluster > block_size).then_some(Feature::BigClusters);
        let fragments = self.fragments.then_some(Feature::Fragments);
        let inline = self.inline.then_some(Feature::TailPacking);
        [Some(algorithm), big, fragments, inline].into_iter().flatten()
    }

    pub(crate) fn needs_record(&self, block_size: u32, is_dense: bool) -> bool {
        self.algorithm() != Algorithm::Lz4 || self.cluster > block_size || is_dense
    }

    /// The record that tells the kernel what its decoder has to be ready for, with its length.
    pub(crate) fn record(&self, block_size: u32, is_dense: bool) -> Vec<u8> {
        let blocks = (self.cluster / block_size + u32::from(is_dense)).min(MAX_LZ4_BLOCKS);
        let blocks = u16::try_from(blocks).unwrap_or(u16::MAX);
        let lz4 =
            Lz4Cfgs { max_distance: u16::MAX.into(), max_pclusterblks: blocks.into(), ..Default::default() };
        let lzma = LzmaCfgs { dict_size: self.window().into(), ..Default::default() };
        let deflate = DeflateCfgs { windowbits: DEFLATE_MAX_WINDOWBITS, ..Default::default() };
        let windowlog = u8::try_from(self.window().trailing_zeros()).unwrap_or(10).saturating_sub(10);
        let zstd = ZstdCfgs { windowlog, ..Default::default() };
        let bytes = match self.algorithm() {
            Algorithm::Lz4 => lz4.as_bytes(),
            Algorithm::Lzma => lzma.as_bytes(),
            Algorithm::Deflate => deflate.as_bytes(),
            Algorithm::Zstd => zstd.as_bytes(),
        };
        let mut record = u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_le_bytes().to_vec();
        record.extend_from_slice(bytes);
        record.resize(record.len().next_multiple_of(4), 0);
        record
    }
}
