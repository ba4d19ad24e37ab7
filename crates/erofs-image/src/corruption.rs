//! What an image may be guilty of: rules that it breaks, features that are not read.

use erofs_codec::DecodeError;
use erofs_format::compression::Algorithm;
use erofs_format::{FeatureCompat, FeatureIncompat, FormatError, Profile};

use crate::zmap::MapCorruption;

/// The rule of the format that an image breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Corruption {
    /// Something should lie beyond the end of a blob.
    #[error("blob {blob} ends before {needed} bytes that are needed")]
    PastEnd {
        /// The blob: 0 is the primary.
        blob: usize,
        /// Bytes needed from the place of the error on.
        needed: u64,
    },
    /// Arithmetic on addresses leaves 64 bits.
    #[error("an address is too large")]
    AddressOverflow,
    /// `blkszbits` is out of range.
    #[error("block size 2^{found} is not defined")]
    BlockSize {
        /// The exponent.
        found: u8,
    },
    /// `dirblkbits` is not 0.
    #[error("dirblkbits is {found}, not 0")]
    DirBlockBits {
        /// The number found.
        found: u8,
    },
    /// There are too many superblock extension slots, or too few for a feature.
    #[error("{found} superblock extension slots do not fit")]
    ExtensionSlots {
        /// The number of slots.
        found: u8,
    },
    /// A field in the record of a compression algorithm has a value that it can't have.
    #[error("{field} is {found} in the record of {}", algorithm.name())]
    CodecRecord {
        /// The algorithm.
        algorithm: Algorithm,
        /// The field.
        field: &'static str,
        /// Its value.
        found: u64,
    },
    /// An index into the table of long xattr prefixes lies outside of it.
    #[error("xattr prefix {index} is not in the table of {count}")]
    PrefixIndex {
        /// The index.
        index: u8,
        /// Records in the table.
        count: u8,
    },
    /// A record in the table of long xattr prefixes has a length that none can have.
    #[error("xattr prefix record of {found} bytes")]
    PrefixLength {
        /// The length found.
        found: u16,
    },
    /// The metabox inode lies in the metabox.
    #[error("metabox_nid {found:#x} lies in the metabox")]
    MetaboxInMetabox {
        /// The nid found.
        found: u64,
    },
    /// A nid is in the metabox, but the image has none.
    #[error("the inode lies in a metabox, but the image has none")]
    NoMetabox,
    /// The root is not a directory.
    #[error("the root has mode {found:#o}, which is no directory")]
    RootNotDirectory {
        /// Its mode.
        found: u16,
    },
    /// A field has a value that the format does not define.
    #[error("{0}")]
    Format(#[from] FormatError),
    /// `i_size` is negative.
    #[error("i_size {found:#x} is negative")]
    NegativeSize {
        /// The number found.
        found: u64,
    },
    /// The map of a compressed inode breaks a rule.
    #[error("{0}")]
    Map(#[from] MapCorruption),
    /// A cluster does not decode. The place of the error is that of the cluster.
    #[error("cannot decode {}: {cause}", algorithm.name())]
    Decode {
        /// How the cluster is compressed.
        algorithm: Algorithm,
        /// What is wrong with its bytes.
        cause: DecodeError,
    },
    /// A fragment of the packed inode, or of a metabox that holds the packed inode.
    #[error("a fragment that would have to be read from itself")]
    FragmentLoop,
    /// A compressed inode in an image without compression.
    #[error("compressed inode in an image without compression")]
    CompressedInPlain,
    /// The inline tail of an inode leaves its block.
    #[error("inline data of {length} bytes crosses a block boundary")]
    InlineCrossesBlock {
        /// Bytes of inline data.
        length: u64,
    },
    /// A chunk lies on a device that does not exist.
    #[error("device {found} does not exist")]
    NoSuchDevice {
        /// The device id.
        found: u16,
    },
    /// Metadata or a fragment lies beyond the end of the inode whose data should hold it. The byte
    /// of the error's place is counted in that data.
    #[error("{needed} bytes lie beyond the {size} bytes of the inode that should hold them")]
    PastFileEnd {
        /// Bytes needed from the place of the error on.
        needed: u64,
        /// Size of the inode that should hold them.
        size: u64,
    },
    /// A directory block has no room for its own entries.
    #[error("first nameoff {found} of a directory block is impossible")]
    FirstNameOffset {
        /// The number found.
        found: u16,
    },
    /// A name in a directory starts or ends outside its block, or is too short or long.
    #[error("name at {start}..{end} of a directory block is impossible")]
    NameBounds {
        /// Where it starts.
        start: usize,
        /// Where it ends.
        end: usize,
    },
    /// A name has a slash or a NUL inside.
    #[error("name {name:?} has a slash or a NUL byte")]
    NameBytes {
        /// The name, other bytes than ASCII escaped.
        name: String,
    },
    /// Names in a directory do not ascend.
    #[error("name {name:?} is not above the name before it")]
    Unsorted {
        /// The name, other bytes than ASCII escaped.
        name: String,
    },
    /// The entry "." names another inode.
    #[error("entry \".\" names nid {found}")]
    WrongDot {
        /// The nid it names.
        found: u64,
    },
    /// A directory is reached a second time: a loop, or a hard link to a directory.
    #[error("directory is reached a second time")]
    DirectoryTwice,
    /// A symbolic link has no target, or one with a NUL inside.
    #[error("symbolic link with an empty target or a NUL byte in it")]
    SymlinkTarget,
    /// More shared xattrs than fit in the area behind the inode.
    #[error("{count} shared xattrs do not fit in an area of {size} bytes")]
    SharedXattrCount {
        /// `h_shared_count`.
        count: u8,
        /// Bytes of the area.
        size: u64,
    },
    /// An xattr is larger than what is left of the area behind the inode.
    #[error("xattr of {needed} bytes in {left} bytes that are left")]
    XattrBounds {
        /// Bytes of the entry.
        needed: u64,
        /// Bytes left.
        left: u64,
    },
    /// The name of an xattr has a NUL inside or is too long.
    #[error("xattr name {name:?} has a NUL byte or is too long")]
    XattrName {
        /// The name, other bytes than ASCII escaped.
        name: String,
    },
}

/// Something that an image may use and that is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Feature {
    /// A bit or number that this reader does not know.
    #[error("{0}")]
    Unknown(#[from] FormatError),
    /// Incompatible features that the profile excludes.
    #[error("profile {} excludes features {features:?}", profile.name())]
    Incompat {
        /// The profile.
        profile: Profile,
        /// The features.
        features: FeatureIncompat,
    },
    /// Compatible features that the profile excludes.
    #[error("profile {} excludes features {features:?}", profile.name())]
    Compat {
        /// The profile.
        profile: Profile,
        /// The features.
        features: FeatureCompat,
    },
    /// Something in an inode or in the superblock that the profile excludes.
    #[error("profile {} excludes {what}", profile.name())]
    Excluded {
        /// The profile.
        profile: Profile,
        /// What is excluded.
        what: &'static str,
    },
    /// A window of DEFLATE larger than the format has.
    #[error("deflate with a window of 2^{found} bytes")]
    DeflateWindow {
        /// The exponent.
        found: u8,
    },
    /// A physical cluster larger than any that Linux reads.
    #[error("physical cluster of {found} bytes")]
    PclusterSize {
        /// Its bytes.
        found: u64,
    },
    /// A compressed extent longer than any that Linux reads.
    #[error("compressed extent of {found} bytes or more")]
    ExtentLength {
        /// Bytes that it decodes to.
        found: u64,
    },
    /// Logical clusters that are too large for the packs of a compact index.
    #[error("logical clusters of 2^{found} bytes in such a pack of a compact index")]
    CompactLclusterBits {
        /// The exponent.
        found: u32,
    },
    /// An xattr area of a header alone.
    #[error("xattr area of a header alone")]
    XattrHeaderOnly,
}
