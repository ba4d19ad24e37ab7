//! The one error type of this crate: a value that the format does not define.

/// A number in an on-disk field that the format does not define.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// `magic` of the superblock is another number.
    #[error("magic is {found:#010x}, not {:#010x}", crate::superblock::SUPER_MAGIC_V1)]
    BadMagic {
        /// The number found.
        found: u32,
    },
    /// `feature_incompat` has bits that nobody here knows.
    #[error("unknown incompatible feature bits {unknown:#x}")]
    UnknownIncompat {
        /// The bits that are not known.
        unknown: u32,
    },
    /// `i_format` has bits that must be zero.
    #[error("i_format {found:#06x} has reserved bits")]
    ReservedFormatBits {
        /// The whole of `i_format`.
        found: u16,
    },
    /// The data layout of an inode is not defined.
    #[error("data layout {found} is not defined")]
    UnknownDataLayout {
        /// The three bits of the layout.
        found: u8,
    },
    /// `file_type` of a directory entry is not defined.
    #[error("file type {found} is not defined")]
    UnknownFileType {
        /// The number found.
        found: u8,
    },
    /// The type bits of `i_mode` are not those of any file type.
    #[error("mode {found:#o} has no known file type")]
    UnknownModeType {
        /// The whole of `i_mode`.
        found: u16,
    },
    /// A chunk format has bits that are not defined.
    #[error("chunk format {found:#06x} has unknown bits")]
    UnknownChunkFormat {
        /// The whole format.
        found: u16,
    },
    /// A compression algorithm is not defined.
    #[error("compression algorithm {found} is not defined")]
    UnknownAlgorithm {
        /// The number found.
        found: u8,
    },
    /// `available_compr_algs` has bits of algorithms that are not defined.
    #[error("unknown compression algorithm bits {unknown:#x}")]
    UnknownAlgorithmBits {
        /// The bits that are not known.
        unknown: u16,
    },
}
