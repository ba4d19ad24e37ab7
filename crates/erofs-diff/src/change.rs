//! What a comparison is asked, and what it answers.

use std::num::NonZeroUsize;
use std::thread::available_parallelism;

use crate::error::Error;

bitflags::bitflags! {
    /// What about an entry differs, or is not to be looked at.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Fields: u16 {
        /// The type of file.
        const TYPE = 1;
        /// A regular file's bytes.
        const CONTENT = 1 << 1;
        /// Permissions, with setuid, setgid and sticky.
        const MODE = 1 << 2;
        /// Owner or group.
        const OWNER = 1 << 3;
        /// The modification time.
        const MTIME = 1 << 4;
        /// Extended attributes.
        const XATTRS = 1 << 5;
        /// Where a symbolic link points.
        const TARGET = 1 << 6;
        /// A device node's number.
        const DEVICE = 1 << 7;
        /// Which other names, of those that both trees have, are the same file.
        const LINKS = 1 << 8;
    }
}

/// How trees are compared.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// What is not looked at. An entry's type always is.
    pub ignore: Fields,
    /// Times that agree in their seconds are equal.
    pub whole_seconds: bool,
    /// Only the attributes that a build takes from a directory by default: `user.*`, `security.capability` and ACLs.
    pub usual_xattrs_only: bool,
    /// Two fingerprints in images stand for the bytes. They are claims: nobody has verified them.
    pub trust_fingerprints: bool,
    /// Threads that compare.
    pub threads: NonZeroUsize,
    /// How many changes are kept in memory to find out what has moved; with more, nothing has. Each takes some 300
    /// bytes. With 0 each change is reported as soon as it is found.
    pub move_limit: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ignore: Fields::empty(),
            whole_seconds: false,
            usual_xattrs_only: false,
            trust_fingerprints: false,
            threads: available_parallelism().unwrap_or(NonZeroUsize::MIN),
            move_limit: 200_000,
        }
    }
}

/// Which of the two trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first, the old one.
    A,
    /// The second, the new one.
    B,
}

/// What happened to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only the second tree has it.
    Added,
    /// Only the first tree has it.
    Removed,
    /// Both have it, and [`Change::fields`] differ.
    Changed,
    /// The bytes of a regular file of the first tree that are at another path in the second. [`Change::fields`] differ
    /// too, if any.
    Moved,
}

/// An entry that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// What happened to it.
    pub kind: Kind,
    /// Its path from the root of the tree, without a slash before it; empty for the root itself.
    pub path: Box<[u8]>,
    /// Where it was in the first tree, if that is elsewhere.
    pub from: Option<Box<[u8]>>,
    /// What differs; empty for what is in one tree only.
    pub fields: Fields,
    /// What the first tree says of it.
    pub old: Option<Facts>,
    /// What the second tree says of it.
    pub new: Option<Facts>,
    /// The targets of two symbolic links that differ.
    pub targets: Option<Box<[Vec<u8>; 2]>>,
    /// The extended attributes that differ, by name.
    pub xattrs: Vec<XattrChange>,
}

/// What a tree says of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Facts {
    /// Type and permissions as in `st_mode`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of data.
    pub size: u64,
    /// Modification time in seconds since 1970.
    pub mtime: i64,
    /// Its nanoseconds.
    pub mtime_nsec: u32,
    /// Device number of a device node as in `st_rdev`, else 0.
    pub device: u64,
    /// How many names it has.
    pub nlink: u64,
}

/// An extended attribute that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XattrChange {
    /// Its full name.
    pub name: Vec<u8>,
    /// How it differs.
    pub way: Way,
}

/// How an extended attribute differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Only the second tree has it.
    Added,
    /// Only the first tree has it.
    Removed,
    /// Its values differ.
    Changed,
}

/// An entry of which something could not be read. What could be is compared nevertheless.
#[derive(Debug)]
pub struct Failure {
    /// Which tree's it is.
    pub side: Side,
    /// Its path from the root of the tree.
    pub path: Box<[u8]>,
    /// What is wrong with it.
    pub error: Error,
}

/// What a comparison says.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// An entry differs.
    Change(Change),
    /// Something about an entry could not be found out.
    Failure(Failure),
    /// There are more changes than [`Options::move_limit`]: what has moved is reported as removed and added.
    TooManyForMoves,
}
