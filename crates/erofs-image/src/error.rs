//! What can go wrong: corrupt, unsupported, limit, I/O and plain answers ("no such entry") apart.

use std::fmt;
use std::io;

pub use crate::corruption::{Corruption, Feature};

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

    /// The same error for a file that has a fragment in the data of `packed`. Bytes that don't decode
    /// there are the file's; what is wrong with the map of the packed inode stays an error of that.
    #[must_use]
    pub(crate) fn of_fragment(mut self, packed: u64) -> Self {
        match &mut self {
            Self::Corrupt { place, what: Corruption::Decode { .. } } | Self::Limit { place, .. }
                if place.nid == Some(packed) =>
            {
                (place.nid, place.extent) = (None, None);
            }
            _ => (),
        }
        self
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
