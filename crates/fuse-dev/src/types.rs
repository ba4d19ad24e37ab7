//! The values that a filesystem answers with.

use crate::abi;
use bitflags::bitflags;
use std::time::Duration;

/// A validity that never runs out in practice: 31 years.
pub const FOREVER: Duration = Duration::from_secs(1_000_000_000);

/// The node id of the root directory.
pub const ROOT_ID: u64 = 1;

/// Who asks, and about what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Names this request until it is answered. A request that was sent again after a takeover has [`Request::resent`].
    pub unique: u64,
    /// The node that the request is about; a look-up's directory.
    pub nodeid: u64,
    /// User id of the caller in the mount's user namespace; -1 where id mapping was negotiated.
    pub uid: u32,
    /// Group id, likewise.
    pub gid: u32,
    /// Thread id of the caller in the mounter's PID namespace, 0 if it has none there.
    pub pid: u32,
}

impl Request {
    /// True if an earlier server read this request and did not answer it.
    pub const fn resent(&self) -> bool {
        self.unique & abi::UNIQUE_RESEND != 0
    }
}

/// An inode's attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attr {
    /// `st_ino`; need not be the node id.
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// Units of 512 bytes.
    pub blocks: u64,
    /// Last access, seconds since 1970.
    pub atime: i64,
    /// Last change of the content.
    pub mtime: i64,
    /// Last change of the inode.
    pub ctime: i64,
    /// Nanoseconds of `atime`.
    pub atime_nsec: u32,
    /// Nanoseconds of `mtime`.
    pub mtime_nsec: u32,
    /// Nanoseconds of `ctime`.
    pub ctime_nsec: u32,
    /// Type and permissions.
    pub mode: u32,
    /// Links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number as the kernel's `new_encode_dev` packs it (EROFS stores the same form).
    pub rdev: u32,
    /// Preferred size of I/O, bytes.
    pub blksize: u32,
}

impl From<&Attr> for abi::Attr {
    fn from(attr: &Attr) -> Self {
        Self {
            ino: attr.ino,
            size: attr.size,
            blocks: attr.blocks,
            atime: attr.atime,
            mtime: attr.mtime,
            ctime: attr.ctime,
            atimensec: attr.atime_nsec,
            mtimensec: attr.mtime_nsec,
            ctimensec: attr.ctime_nsec,
            mode: attr.mode,
            nlink: attr.nlink,
            uid: attr.uid,
            gid: attr.gid,
            rdev: attr.rdev,
            blksize: attr.blksize,
            flags: 0,
        }
    }
}

/// What a look-up found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The node id that later requests will name; not 0.
    pub nodeid: u64,
    /// Tells apart the uses of a node id over time; 0 where none is ever reused.
    pub generation: u64,
    /// How long the name may be cached.
    pub entry_valid: Duration,
    /// How long the attributes may be cached.
    pub attr_valid: Duration,
    /// The attributes.
    pub attr: Attr,
}

impl Entry {
    /// An entry of an image that never changes.
    pub const fn forever(nodeid: u64, attr: Attr) -> Self {
        Self { nodeid, generation: 0, entry_valid: FOREVER, attr_valid: FOREVER, attr }
    }
}

impl From<&Entry> for abi::EntryOut {
    fn from(entry: &Entry) -> Self {
        Self {
            nodeid: entry.nodeid,
            generation: entry.generation,
            entry_valid: entry.entry_valid.as_secs(),
            attr_valid: entry.attr_valid.as_secs(),
            entry_valid_nsec: entry.entry_valid.subsec_nanos(),
            attr_valid_nsec: entry.attr_valid.subsec_nanos(),
            attr: (&entry.attr).into(),
        }
    }
}

/// `struct statvfs`, as far as FUSE carries it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statfs {
    /// Blocks of `frsize` bytes.
    pub blocks: u64,
    /// Free ones.
    pub bfree: u64,
    /// Free ones for ordinary users.
    pub bavail: u64,
    /// Inodes.
    pub files: u64,
    /// Free inodes.
    pub ffree: u64,
    /// Preferred size of I/O.
    pub bsize: u32,
    /// Longest name, bytes.
    pub namelen: u32,
    /// Bytes in a block.
    pub frsize: u32,
}

impl From<&Statfs> for abi::StatfsOut {
    fn from(statfs: &Statfs) -> Self {
        Self {
            blocks: statfs.blocks,
            bfree: statfs.bfree,
            bavail: statfs.bavail,
            files: statfs.files,
            ffree: statfs.ffree,
            bsize: statfs.bsize,
            namelen: statfs.namelen,
            frsize: statfs.frsize,
            padding: 0,
            spare: [0; 6],
        }
    }
}

bitflags! {
    /// `FOPEN_*`: how the kernel treats an open file or directory.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct OpenFlags: u32 {
        /// Past the page cache.
        const DIRECT_IO = 1 << 0;
        /// Keep what is cached; without it every open drops the file's pages.
        const KEEP_CACHE = 1 << 1;
        /// No seeking.
        const NONSEEKABLE = 1 << 2;
        /// Cache this directory's entries.
        const CACHE_DIR = 1 << 3;
        /// No position at all.
        const STREAM = 1 << 4;
        /// No FLUSH on close.
        const NOFLUSH = 1 << 5;
        /// Set by [`crate::Reply::open_passthrough`].
        const PASSTHROUGH = 1 << 7;
    }
}
