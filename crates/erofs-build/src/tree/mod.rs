//! The tree of an image as a value, independent of where it came from.
//!
//! Nodes are numbered in the order in which their inodes lie in the image: all children of a directory in a
//! row and sorted by name, directories in preorder. Whoever walks the tree, as `find -ls` does, so reads
//! inodes forward.

mod assemble;
pub(crate) mod links;
mod names;
mod owners;
pub(crate) mod whiteouts;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use erofs_format::dirent::FileType;
use erofs_format::inode::new_encode_dev;

use crate::error::{Error, Result};
use crate::xattr::SetId;
pub(crate) use assemble::{Assembled, assemble};
pub(crate) use names::{NameId, Names};

/// Number of a node; [`ROOT`] is the root directory.
pub(crate) type NodeId = u32;

pub(crate) const ROOT: NodeId = 0;

/// A name in a directory.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) dir: NodeId,
    pub(crate) node: NodeId,
    pub(crate) name: NameId,
}

/// A time: seconds since 1970 and nanoseconds.
pub(crate) type Time = (i64, u32);

/// Number of a source, in the order in which they were given.
pub(crate) type SourceId = u16;

/// What an inode says, owners and time as they go into the image.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// Index of the first entry that names this node; meaningless for the root.
    pub(crate) entry: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) nlink: u32,
    pub(crate) mtime: Time,
    /// Permissions as in `st_mode`, without the type.
    pub(crate) permissions: u16,
    /// Where the node is from.
    pub(crate) source: SourceId,
    pub(crate) xattrs: SetId,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// The directory's entries are `entries[first..first + count]`, sorted by name.
    Directory {
        first: u32,
        count: u32,
    },
    Regular(Regular),
    Symlink(Box<[u8]>),
    /// Device number as the format stores it.
    CharDevice(u32),
    BlockDevice(u32),
    Fifo,
    Socket,
}

/// A regular file, which is read only while it is packed.
#[derive(Debug, Clone)]
pub(crate) struct Regular {
    pub(crate) size: u64,
    /// The parts that are not holes, ascending, if there are holes.
    pub(crate) data: Option<Box<[Segment]>>,
    pub(crate) key: Key,
}

/// By what a source finds the bytes of one of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    /// By its path; it has to be the same file still.
    Stamp(Stamp),
    /// By a number that means something to the source only.
    Number(u64),
}

impl Regular {
    /// Bytes that are not in holes.
    pub(crate) fn stored_bytes(&self) -> u64 {
        self.data.as_deref().map_or(self.size, |data| data.iter().map(|part| part.end - part.start).sum())
    }

    /// Whether it is so large and so empty that only its data should be looked at.
    pub(crate) fn is_mostly_holes(&self) -> bool {
        self.size >> 30 > 0 && self.size / 64 > self.stored_bytes()
    }
}

/// The most zeros, in bytes, that are hashed for a file because of its holes: some ten seconds of work.
const LONGEST_HOLES: u64 = 16 << 30;

impl Regular {
    /// Whether the file can carry a fingerprint. That is a digest of zeros where holes are, and a sparse file
    /// may have more of them than anybody can hash, or compare.
    pub(crate) fn has_short_holes(&self) -> bool {
        self.size - self.stored_bytes().min(self.size) <= LONGEST_HOLES
    }
}

/// A part of a file that holds data: from `start` to before `end`, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// What has to be the same still when a file is read. Inode numbers are not among it: some filesystems
/// (sshfs) give a file another one when they have forgotten it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) dev: u64,
    pub(crate) mtime: Time,
}

/// A device number as the format stores it.
pub(crate) fn device_number(major: u64, minor: u64, path: &dyn Fn() -> PathBuf) -> Result<u32> {
    let number = |what, found: u64, limit: u32| match u32::try_from(found) {
        Ok(number) if number <= limit => Ok(number),
        _ => Err(Error::TooLarge { path: path(), what, found, limit: limit.into() }),
    };
    let major = number("device major number", major, 0xfff)?;
    let minor = number("device minor number", minor, 0xf_ffff)?;
    Ok(new_encode_dev(major, minor))
}

#[derive(Debug)]
pub(crate) struct Tree {
    /// What paths in messages start with, by source; never empty.
    pub(crate) sources: Vec<PathBuf>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) names: Names,
}

impl Tree {
    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    /// The entries of a directory; none if `id` is something else.
    pub(crate) fn children(&self, id: NodeId) -> &[Entry] {
        match self.node(id).kind {
            Kind::Directory { first, count } => &self.entries[first as usize..(first + count) as usize],
            _ => &[],
        }
    }

    /// The directory that first names `id`; the root's is the root.
    pub(crate) fn parent(&self, id: NodeId) -> NodeId {
        if id == ROOT { ROOT } else { self.first_entry(id).dir }
    }

    /// The first entry that names `id`, which must not be the root.
    pub(crate) fn first_entry(&self, id: NodeId) -> &Entry {
        &self.entries[self.node(id).entry as usize]
    }

    pub(crate) fn name(&self, entry: &Entry) -> &[u8] {
        self.names.get(entry.name)
    }

    /// The path of a node for messages.
    pub(crate) fn path_of(&self, id: NodeId) -> PathBuf {
        self.path_in(self.node(id).source, id)
    }

    /// The path that a node has, or would have, in a source.
    pub(crate) fn path_in(&self, source: SourceId, id: NodeId) -> PathBuf {
        let mut path = self.sources.get(usize::from(source)).cloned().unwrap_or_default();
        path.extend(&self.path_below(id));
        path
    }

    /// The path of an entry in a source.
    pub(crate) fn path_of_entry(&self, source: SourceId, entry: &Entry) -> PathBuf {
        self.path_in(source, entry.dir).join(OsStr::from_bytes(self.name(entry)))
    }

    /// The path of a node below the root, which has an empty one.
    pub(crate) fn path_below(&self, id: NodeId) -> PathBuf {
        let mut names = Vec::new();
        let mut at = id;
        while at != ROOT {
            let entry = self.first_entry(at);
            names.push(self.name(entry));
            at = entry.dir;
        }
        names.iter().rev().map(|name| Path::new(OsStr::from_bytes(name))).collect()
    }

    /// What messages about all of it name: the source, or the first of several.
    pub(crate) fn path(&self) -> PathBuf {
        self.sources.first().cloned().unwrap_or_default()
    }
}

impl Node {
    pub(crate) fn file_type(&self) -> FileType {
        match self.kind {
            Kind::Directory { .. } => FileType::Directory,
            Kind::Regular(_) => FileType::Regular,
            Kind::Symlink(_) => FileType::Symlink,
            Kind::CharDevice(_) => FileType::CharDevice,
            Kind::BlockDevice(_) => FileType::BlockDevice,
            Kind::Fifo => FileType::Fifo,
            Kind::Socket => FileType::Socket,
        }
    }

    pub(crate) fn mode(&self) -> u16 {
        self.file_type().mode_bits() | self.permissions
    }

    pub(crate) fn is_dir(&self) -> bool {
        matches!(self.kind, Kind::Directory { .. })
    }
}
