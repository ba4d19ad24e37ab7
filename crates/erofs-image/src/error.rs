//! What can go wrong: corrupt, unsupported, limit, I/O and plain answers ("no such entry") apart.

use std::fmt;
use std::io;

use erofs_codec::DecodeError;
use erofs_format::compression::Algorithm;
use erofs_format::{FeatureCompat, FeatureIncompat, FormatError, Profile};

use crate::zmap::MapCorruption;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

const ENOENT: i32 = 2;
const EIO: i32 = 5;
const ENODEV: i32 = 19;
const ENOTDIR: i32 = 20;
const EISDIR: i32 = 21;
const EINVAL: i32 = 22;
const EFBIG: i32 = 27;
const ENAMETOOLONG: i32 = 36;
const ELOOP: i32 = 40;
const EBADMSG: i32 = 74;
const EOPNOTSUPP: i32 = 95;
const EUCLEAN: i32 = 117;

/// Why a call on an image failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Reading a blob failed.
    #[error("cannot read blob {blob} at byte {offset}: {source}")]
    Io {
        /// The blob: 0 is the primary.
        blob: usize,
        /// Absolute byte position in the blob's source.
        offset: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The first bytes are not those of an EROFS image.
    #[error("not an EROFS image: magic is {found:#010x}")]
    NotErofs {
        /// What is in the place of the magic.
        found: u32,
    },
    /// The superblock's checksum does not fit its bytes.
    #[error("superblock checksum is {stored:#010x}, but its bytes give {computed:#010x}")]
    Checksum {
        /// The checksum in the image.
        stored: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// The image breaks a rule of the format.
    #[error("corrupt image: {what}{place}")]
    Corrupt {
        /// Where.
        place: Where,
        /// Which rule.
        what: Corruption,
    },
    /// The image uses something that this reader, or the profile asked for, does not read.
    #[error("unsupported: {feature}{place}")]
    Unsupported {
        /// Where.
        place: Where,
        /// What is used.
        feature: Feature,
    },
    /// The image asks for more work than [`crate::Limits`] allows.
    #[error("limit exceeded: {name} is {value}, but at most {limit} is allowed{place}")]
    Limit {
        /// Where.
        place: Where,
        /// The field of [`crate::Limits`].
        name: &'static str,
        /// What the image asks for.
        value: u64,
        /// What is allowed.
        limit: u64,
    },
    /// No entry has this name.
    #[error("no such entry")]
    NotFound,
    /// A directory is needed here.
    #[error("not a directory (nid {nid})")]
    NotADirectory {
        /// The inode.
        nid: u64,
    },
    /// A directory has no bytes to read.
    #[error("is a directory (nid {nid})")]
    IsADirectory {
        /// The inode.
        nid: u64,
    },
    /// The inode is of a type that the call is not for (a device has no data, a file no target).
    #[error("the call is not for this type of file (nid {nid})")]
    WrongType {
        /// The inode.
        nid: u64,
    },
    /// A path leads through too many symbolic links.
    #[error("too many levels of symbolic links")]
    TooManySymlinks,
    /// No file can have a name of this length.
    #[error("name of {length} bytes is too long")]
    NameTooLong {
        /// Bytes of the name.
        length: usize,
    },
    /// The device table has another number of devices than were given.
    #[error("the image has {expected} extra devices, but {given} were given")]
    Devices {
        /// Devices given.
        given: usize,
        /// Devices in the table.
        expected: usize,
    },
}

/// The families of [`Error`], for those who map errors to something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The image is damaged, lying or no EROFS image at all.
    Corrupt,
    /// The image may be fine but is not read here.
    Unsupported,
    /// The image asks for too much.
    Limit,
    /// The system failed to read.
    Io,
    /// The caller asked for something that is not there or makes no sense.
    Usage,
}

/// The place of an error in an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Where {
    /// The inode, if the error belongs to one.
    pub nid: Option<u64>,
    /// A byte position: in the image (counted from its block 0), or in the data of the inode where
    /// the error is about what a directory or another file of metadata holds.
    pub offset: Option<u64>,
    /// The byte position in the file where the compressed extent starts that the error is about.
    pub extent: Option<u64>,
}

impl Where {
    /// The place of an inode.
    pub const fn nid(nid: u64) -> Self {
        Self { nid: Some(nid), offset: None, extent: None }
    }

    /// A byte position.
    pub const fn offset(offset: u64) -> Self {
        Self { nid: None, offset: Some(offset), extent: None }
    }

    /// A byte position that belongs to an inode.
    pub const fn at(nid: u64, offset: u64) -> Self {
        Self { nid: Some(nid), offset: Some(offset), extent: None }
    }

    /// The compressed extent of an inode that starts at this byte position in the file.
    pub const fn extent(nid: u64, extent: u64) -> Self {
        Self { nid: Some(nid), offset: None, extent: Some(extent) }
    }
}

impl fmt::Display for Where {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = [("nid", self.nid), ("extent at", self.extent), ("byte", self.offset)];
        let mut before = " (";
        for (what, value) in known.into_iter().filter_map(|(what, value)| Some((what, value?))) {
            write!(f, "{before}{what} {value}")?;
            before = ", ";
        }
        if before == ", " { f.write_str(")") } else { Ok(()) }
    }
}

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
    /// Metadata lies beyond the end of the file that should hold it.
    #[error("{needed} bytes of metadata lie beyond the {size} bytes of their file")]
    PastFileEnd {
        /// Bytes needed from the place of the error on.
        needed: u64,
        /// Size of the file that should hold them.
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

impl Error {
    pub(crate) fn corrupt(place: Where, what: impl Into<Corruption>) -> Self {
        Self::Corrupt { place, what: what.into() }
    }

    pub(crate) fn unsupported(place: Where, feature: impl Into<Feature>) -> Self {
        Self::Unsupported { place, feature: feature.into() }
    }

    /// Which family the error belongs to.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } => ErrorKind::Io,
            Self::NotErofs { .. } | Self::Checksum { .. } | Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::Limit { .. } => ErrorKind::Limit,
            _ => ErrorKind::Usage,
        }
    }

    /// The error as Linux numbers it, the same as Linux' own EROFS where that has the same check.
    pub fn errno(&self) -> i32 {
        match self {
            Self::Io { source, .. } => source.raw_os_error().unwrap_or(EIO),
            Self::NotErofs { .. } | Self::WrongType { .. } | Self::Devices { .. } => EINVAL,
            Self::Checksum { .. } => EBADMSG,
            Self::Corrupt { what, .. } => match what {
                Corruption::PastEnd { .. } => EIO,
                Corruption::NoSuchDevice { .. } => ENODEV,
                _ => EUCLEAN,
            },
            Self::Unsupported { .. } => EOPNOTSUPP,
            Self::Limit { .. } => EFBIG,
            Self::NotFound => ENOENT,
            Self::NotADirectory { .. } => ENOTDIR,
            Self::IsADirectory { .. } => EISDIR,
            Self::TooManySymlinks => ELOOP,
            Self::NameTooLong { .. } => ENAMETOOLONG,
        }
    }

    /// The inode that the error belongs to, if it does.
    pub fn nid(&self) -> Option<u64> {
        match self {
            Self::Corrupt { place, .. } | Self::Unsupported { place, .. } | Self::Limit { place, .. } => {
                place.nid
            }
            Self::NotADirectory { nid } | Self::IsADirectory { nid } | Self::WrongType { nid } => Some(*nid),
            _ => None,
        }
    }

    /// The byte position of the error, if it has one.
    pub fn offset(&self) -> Option<u64> {
        match self {
            Self::Corrupt { place, .. } | Self::Unsupported { place, .. } | Self::Limit { place, .. } => {
                place.offset
            }
            Self::Io { offset, .. } => Some(*offset),
            _ => None,
        }
    }

    /// The byte position in the file where the compressed extent starts that the error is about, if
    /// it is about one.
    pub fn extent(&self) -> Option<u64> {
        match self {
            Self::Corrupt { place, .. } | Self::Unsupported { place, .. } | Self::Limit { place, .. } => {
                place.extent
            }
            _ => None,
        }
    }

    /// The same error with the extent of an inode that it belongs to, where it did not say one.
    #[must_use]
    pub(crate) fn of_extent(mut self, inode: u64, la: u64) -> Self {
        match &mut self {
            Self::Corrupt { place, .. } | Self::Unsupported { place, .. } | Self::Limit { place, .. }
                if place.nid.is_none_or(|nid| nid == inode) =>
            {
                place.nid = Some(inode);
                place.extent.get_or_insert(la);
            }
            _ => (),
        }
        self
    }

    /// The same error with the inode it belongs to, where it did not say one.
    #[must_use]
    pub(crate) fn of_inode(mut self, inode: u64) -> Self {
        match &mut self {
            Self::Corrupt { place, .. } | Self::Unsupported { place, .. } | Self::Limit { place, .. } => {
                place.nid.get_or_insert(inode);
            }
            _ => (),
        }
        self
    }
}

/// A name for a message: everything but printable ASCII is escaped.
pub(crate) fn printable(name: &[u8]) -> String {
    name.escape_ascii().to_string()
}
